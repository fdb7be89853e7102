"""`node status`: the table, one node, and what is said when there is none."""

from typing import Any

import msgspec
import pytest

from tests.cli.conftest import NOW_NS
from tests.scripted_server import NODE_ID, OTHER_ID, Answer, node

HELP = "For additional help try 'nodestate node status -help'"
DRAINING: dict[str, Any] = {
    "Drain": True,
    "SchedulingEligibility": "ineligible",
    "DrainStrategy": {
        "Deadline": 3_600_000_000_000,
        "IgnoreSystemJobs": False,
        "ForceDeadline": "2023-11-14T23:13:20.5Z",
        "StartedAt": "2023-11-14T22:13:20.5Z",
    },
}
ALLOCATION: dict[str, Any] = {
    "ID": "a1b2c3d4-0000-4000-8000-000000000001",
    "EvalID": "e1b2c3d4-0000-4000-8000-000000000001",
    "NodeID": NODE_ID,
    "NodeName": "web1",
    "TaskGroup": "cache",
    "Job": {"Type": "service", "Version": 3},
    "DesiredStatus": "run",
    "ClientStatus": "running",
    "Resources": {"CPU": 500, "MemoryMB": 256, "DiskMB": 300},
    "CreateTime": NOW_NS - 3_700 * 10**9,
    "ModifyTime": NOW_NS - 5 * 10**9,
    "CreateIndex": 9,
}


async def test_nodes_are_listed_newest_first(scripted, run):
    old, new = node(), node(ID=OTHER_ID, Name="web2", NodeClass="big", CreateIndex=8)
    scripted.add_nodes(old, new)

    ran = await run("node", "status")

    assert ran.out == (
        "ID        Node Pool  DC   Name  Class   Drain  Eligibility  Status\n"
        "f7476465  default    dc1  web2  big     false  eligible     ready\n"
        "f7476465  default    dc1  web1  <none>  false  eligible     ready\n"
    )
    assert (ran.code, ran.err) == (0, "")


async def test_a_verbose_list_has_full_ids_addresses_and_versions(scripted, run):
    scripted.add_nodes(node())

    ran = await run("node", "status", "-verbose")

    assert ran.out == (
        "ID                                    Node Pool  DC   Name  Class   Address"
        "   Version  Drain  Eligibility  Status\n"
        f"{NODE_ID}  default    dc1  web1  <none>  10.0.0.5"
        "  0.10.9   false  eligible     ready\n"
    )


async def test_allocations_and_systems_can_be_listed(scripted, run):
    scripted.add_nodes(node(Attributes={"os.name": "debian"}))
    scripted.on(
        f"/v1/node/{NODE_ID}/allocations",
        Answer([ALLOCATION, {**ALLOCATION, "ClientStatus": "complete"}]),
    )

    ran = await run("node", "status", "-allocs", "-os")

    assert ran.out == (
        "ID        Node Pool  DC   Name  Class   OS      Drain  Eligibility  Status"
        "  Running Allocs\n"
        "f7476465  default    dc1  web1  <none>  debian  false  eligible     ready"
        "   1\n"
    )
    assert scripted.queries("/v1/nodes") == [{"os": "true"}]


async def test_without_nodes_that_is_said(scripted, run):
    scripted.add_nodes()

    assert (await run("node", "status")).out == "No nodes registered\n"


async def test_quiet_lists_ids(scripted, run):
    scripted.add_nodes(node(), node(ID=OTHER_ID, CreateIndex=8))

    ran = await run("node", "status", "-quiet")

    assert ran.out == f"{OTHER_ID}\n{NODE_ID}\n"


async def test_json_is_what_the_server_sent(scripted, run):
    scripted.add_nodes(node())

    listed = await run("node", "status", "-json")
    single = await run("node", "status", "-json", NODE_ID)

    assert msgspec.json.decode(listed.out) == [node()]
    assert msgspec.json.decode(single.out) == node()
    assert single.out.startswith(f'{{\n    "ID": "{NODE_ID}",\n')


async def test_a_page_says_how_to_get_the_next(scripted, run):
    token = {"X-Nomad-NextToken": OTHER_ID}
    scripted.on("/v1/nodes", Answer([node()], headers=token))

    ran = await run(
        *("node", "status", "-quiet", "-per-page", "1", "-filter", 'Status == "ready"')
    )

    assert ran.out == (
        f"{NODE_ID}\n\n"
        "Results have been paginated. To get the next page run:\n\n"
        "nodestate node status -quiet -filter 'Status == \"ready\"' -per-page 1 "
        f"-page-token {OTHER_ID}\n"
    )
    assert scripted.queries("/v1/nodes") == [
        {"per_page": "1", "filter": 'Status == "ready"'}
    ]


async def test_one_node_is_shown(scripted, run):
    scripted.add_nodes(node())

    ran = await run("node", "status", "f7476465")

    assert (
        ran.out
        == f"""\
ID            = {NODE_ID}
Name          = web1
Node Pool     = default
Class         = <none>
DC            = dc1
Drain         = false
Eligibility   = eligible
Status        = ready
Host Volumes  = db
Driver Status = docker (unhealthy),exec

Node Events
Time                  Subsystem       Message
2023-11-14T22:01:00Z  Driver: docker  Driver unhealthy
2023-11-14T22:00:00Z  Cluster         Node registered

Allocated Resources
CPU         Memory       Disk
0/3900 MHz  0 B/7.8 GiB  0 B/50 GiB

Allocations
No allocations placed
"""
    )
    assert (ran.code, ran.err) == (0, "")
    assert scripted.queries("/v1/nodes") == [{"prefix": "f7476465"}]


async def test_one_node_is_shown_in_full(scripted, run):
    scripted.add_nodes(node())
    scripted.on(f"/v1/node/{NODE_ID}/allocations", Answer([ALLOCATION]))

    ran = await run("node", "status", "-verbose", NODE_ID)

    assert (
        ran.out
        == f"""\
ID          = {NODE_ID}
Name        = web1
Node Pool   = default
Class       = <none>
DC          = dc1
Drain       = false
Eligibility = eligible
Status      = ready

Host Volumes
Name  ReadOnly  Source
db    true      /srv/db

Drivers
Driver  Detected  Healthy  Message  Time
docker  true      false    <none>   <none>
exec    true      true     <none>   2023-11-14T22:00:00Z
java    false     false    <none>   <none>

Node Events
Time                  Subsystem       Message           Details
2023-11-14T22:01:00Z  Driver: docker  Driver unhealthy  driver: docker, why: gone
2023-11-14T22:00:00Z  Cluster         Node registered   <none>

Allocated Resources
CPU           Memory           Disk
500/3900 MHz  256 MiB/7.8 GiB  300 MiB/50 GiB

Allocations
ID                                    Eval ID                               \
Node ID                               Node Name  Task Group  Version  Desired  Status   \
Created               Modified
{ALLOCATION["ID"]}  {ALLOCATION["EvalID"]}  {NODE_ID}  web1       cache       3        \
run      running  2023-11-14T21:11:40Z  2023-11-14T22:13:15Z

Attributes
driver.exec = 1
kernel.name = linux

Meta
rack = r1
"""
    )


async def test_the_short_form_leaves_out_events_and_resources(scripted, run):
    scripted.add_nodes(node(**DRAINING))
    scripted.on(f"/v1/node/{NODE_ID}/allocations", Answer([ALLOCATION]))

    ran = await run("node", "status", "-short", NODE_ID)

    assert (
        ran.out
        == f"""\
ID           = {NODE_ID}
Name         = web1
Node Pool    = default
Class        = <none>
DC           = dc1
Drain        = true; 2023-11-14T23:13:20Z deadline
Eligibility  = ineligible
Status       = ready
Host Volumes = db
Drivers      = exec

Allocations
ID        Node ID   Task Group  Version  Desired  Status   Created   Modified
a1b2c3d4  f7476465  cache       3        run      running  1h1m ago  5s ago
"""
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Deadline": -1, "ForceDeadline": None}, "true; force drain"),
        ({"Deadline": 0, "ForceDeadline": None}, "true; no deadline"),
        (
            {"Deadline": 0, "ForceDeadline": None, "IgnoreSystemJobs": True},
            "true; no deadline; ignoring system jobs",
        ),
    ],
)
async def test_a_drain_is_put_in_words(scripted, run, changes, text):
    strategy = {**DRAINING["DrainStrategy"], **changes}
    scripted.add_nodes(node(Drain=True, DrainStrategy=strategy))

    ran = await run("node", "status", NODE_ID)

    assert f"Drain         = {text}\n" in ran.out


async def test_a_node_that_has_nothing_is_shown_all_the_same(scripted, run):
    bare = {"ID": NODE_ID, "Status": "initializing"}
    scripted.add_nodes(bare)

    ran = await run("node", "status", "-verbose", NODE_ID)

    assert ran.code == 0
    assert "0/0 MHz  0 B/0 B  0 B/0 B" in ran.out


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("f747", "f747"),
        ("f74", "f7"),
        ("f7476465-", "f7476465-"),
        ("f7476465-4d6", "f7476465-4d"),
        (NODE_ID, NODE_ID),
    ],
)
async def test_an_id_is_looked_up_by_whole_bytes(scripted, run, typed, asked):
    scripted.add_nodes(node())

    ran = await run("node", "status", typed)

    assert ran.code == 0
    assert scripted.queries("/v1/nodes") == [{"prefix": asked}]


async def test_no_node_under_a_prefix(scripted, run):
    scripted.add_nodes()

    ran = await run("node", "status", "abc")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == 'No node(s) with prefix "ab" found\n'


async def test_many_nodes_under_a_prefix_are_listed(scripted, run):
    scripted.add_nodes(node(), node(ID=OTHER_ID, CreateIndex=8))

    ran = await run("node", "status", "f7")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Prefix matched multiple nodes\n\n"
        "ID        DC   Name  Class   Drain  Eligibility  Status\n"
        "f7476465  dc1  web1  <none>  false  eligible     ready\n"
        "f7476465  dc1  web1  <none>  false  eligible     ready\n"
    )


async def test_one_character_is_not_looked_up(scripted, run):
    ran = await run("node", "status", "f")

    assert (ran.code, scripted.asked) == (1, [])
    assert ran.err == "Identifier must contain at least two characters.\n"


async def test_a_server_that_refuses_is_quoted(scripted, run):
    scripted.on("/v1/nodes", Answer("Permission denied", 403))

    listed, single = await run("node", "status"), await run("node", "status", "f747")

    assert (listed.code, single.code) == (1, 1)
    assert listed.err == (
        "Error querying node status: Unexpected response code: 403 (Permission denied)\n"
    )
    assert single.err == (
        "Error querying node info: Unexpected response code: 403 (Permission denied)\n"
    )


async def test_the_node_of_the_agent_that_is_asked(scripted, run):
    scripted.add_nodes(node())
    scripted.on("/v1/agent/self", Answer({"stats": {"client": {"node_id": NODE_ID}}}))

    ran = await run("node", "status", "-self", "-short")

    assert ran.out.startswith(f"ID           = {NODE_ID}\n")


@pytest.mark.parametrize(
    ("stats", "text"),
    [
        ({}, "Nomad not running in client mode"),
        ({"client": {}}, "Failed to determine node ID"),
    ],
)
async def test_a_server_has_no_node_of_its_own(scripted, run, stats, text):
    scripted.on("/v1/agent/self", Answer({"stats": stats}))

    ran = await run("node", "status", "-self")

    assert (ran.code, ran.err) == (1, f"{text}\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a", "b"], f"This command takes either one or no arguments\n{HELP}"),
        (["-quiet", "-json"], "-quiet cannot be used with -verbose or -json"),
        (["-quiet", "-verbose"], "-quiet cannot be used with -verbose or -json"),
    ],
)
async def test_what_does_not_go_together_is_refused(scripted, run, words, text):
    ran = await run("node", "status", *words)

    assert (ran.code, ran.err, scripted.asked) == (1, f"{text}\n", [])


async def test_headings_are_bold_on_a_terminal(scripted, run):
    scripted.add_nodes(node())

    ran = await run("node", "status", NODE_ID, is_bold=True)

    assert "\n\x1b[1mNode Events\x1b[0m\n" in ran.out
