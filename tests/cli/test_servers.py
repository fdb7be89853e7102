"""`server members`."""

from typing import Any

import msgspec
import pytest

from tests.scripted_server import Answer


def member(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "Name": f"server{number}.global",
        "Addr": "127.0.0.1",
        "Port": 4648,
        "Status": "alive",
        "Tags": {
            "region": "global",
            "dc": "dc1",
            "build": "0.1.0",
            "raft_vsn": "3",
            "port": f"{number}647",
        },
        "ProtocolCur": 2,
        **fields,
    }


@pytest.fixture
def served(scripted):
    members = [member(2), member(1)]
    scripted.on("/v1/agent/members", Answer({"Members": members}))
    scripted.on("/v1/status/leader", Answer('"127.0.0.1:2647"'))
    return scripted


async def test_members_are_listed_by_name(served, run):
    ran = await run("server", "members")

    assert ran.out == (
        "Name            Address    Port  Status  Leader  Raft Version  Build  "
        "Datacenter  Region\n"
        "server1.global  127.0.0.1  4648  alive   false   3             0.1.0  "
        "dc1         global\n"
        "server2.global  127.0.0.1  4648  alive   true    3             0.1.0  "
        "dc1         global\n"
    )
    assert (ran.code, ran.err) == (0, "")
    assert served.queries("/v1/status/leader") == [{"region": "global"}]


@pytest.mark.parametrize("flag", ["-verbose", "-detailed"])
async def test_all_tags_can_be_shown(served, run, flag):
    ran = await run("server", "members", flag)

    header, first, *_ = ran.out.splitlines()
    assert header.split() == [
        "Name",
        "Address",
        "Port",
        "Status",
        "Leader",
        "Protocol",
        "Raft",
        "Version",
        "Build",
        "Datacenter",
        "Region",
        "Tags",
    ]
    assert first.endswith("build=0.1.0,dc=dc1,port=1647,raft_vsn=3,region=global")


async def test_json_says_who_leads(served, run):
    ran = await run("server", "members", "-json")

    shown = msgspec.json.decode(ran.out)
    assert [each["Tags"]["Leader"] for each in shown] == ["false", "true"]


async def test_a_leader_with_an_ipv6_address_is_found(served, run):
    served.on("/v1/agent/members", Answer({"Members": [member(1, Addr="::1")]}))
    served.on("/v1/status/leader", Answer('"[::1]:1647"'))

    ran = await run("server", "members")

    assert "  true  " in ran.out


async def test_without_a_leader_the_table_comes_first_and_then_the_warning(served, run):
    served.on("/v1/status/leader", Answer("No cluster leader", 503))

    ran = await run("server", "members")

    assert ran.code == 1
    assert ran.out.count("  false  ") == 2
    assert ran.err == (
        'Error determining leaders: Region "global": '
        "Unexpected response code: 503 (No cluster leader)\n"
    )


async def test_a_server_that_left_has_no_say(served, run):
    gone = member(3, Status="left", Tags={"region": "elsewhere", "port": "1"})
    served.on("/v1/agent/members", Answer({"Members": [member(2), gone]}))

    await run("server", "members")

    assert served.queries("/v1/status/leader") == [{"region": "global"}]


async def test_an_agent_may_know_no_members(served, run):
    served.on("/v1/agent/members", Answer({"Members": None}))

    ran = await run("server", "members")

    assert (ran.code, ran.out) == (0, "Agent doesn't know about server members\n")


async def test_errors_and_arguments(served, run):
    served.on("/v1/agent/members", Answer("Permission denied", 403))
    refused = await run("server", "members")
    argued = await run("server", "members", "x")

    assert refused.err == (
        "Error querying servers: Unexpected response code: 403 (Permission denied)\n"
    )
    assert argued.err.startswith("This command takes no arguments\n")
    assert (refused.code, argued.code) == (1, 1)
