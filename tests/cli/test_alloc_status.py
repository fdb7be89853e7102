"""`alloc status` and `alloc stop`."""

import textwrap

import pytest

from tests.scripted_server import NODE_ID, Answer
from tests.scripted_work import (
    ALLOC_ID,
    EVAL_ID,
    NEW_ALLOC_ID,
    add_evaluation,
    allocation,
    evaluation,
    full_allocation,
)

STOP = f"/v1/allocation/{ALLOC_ID}/stop"


@pytest.fixture
def served(scripted):
    scripted.on("/v1/allocations", Answer([allocation()]))
    scripted.on(f"/v1/allocation/{ALLOC_ID}", Answer(full_allocation()))
    scripted.on(STOP, Answer({"EvalID": EVAL_ID, "Index": 40}))
    add_evaluation(scripted, evaluation(TriggeredBy="alloc-stop"))
    return scripted


async def test_one_is_shown(served, run):
    ran = await run("alloc", "status", "a1b2c3d")

    assert (ran.code, ran.err) == (0, "")
    assert served.queries("/v1/allocations") == [{"prefix": "a1b2c3"}]
    assert ran.out == textwrap.dedent(
        f"""\
        ID                  = {ALLOC_ID}
        Eval ID             = e1b2c3d4
        Name                = web.cache[0]
        Node ID             = f7476465
        Node Name           = web1
        Job ID              = web
        Job Version         = 3
        Client Status       = pending
        Client Description  = <none>
        Desired Status      = run
        Desired Description = <none>
        Created             = 1m30s ago
        Modified            = 1m30s ago
        Health              = healthy

        Task "redis" is "running"
        Task Resources
        CPU      Memory   Disk     Addresses
        500 MHz  256 MiB  300 MiB  admin: 10.0.0.5:80
                                   db: 10.0.0.5:20001

        Task Events:
        Started At     = 2023-11-14T22:11:00Z
        Finished At    = N/A
        Total Restarts = 1
        Last Restart   = 2023-11-14T22:12:00Z

        Recent Events:
        Time                  Type      Description
        2023-11-14T22:11:51Z  Started   up
        2023-11-14T22:11:50Z  Received  Task received by client
        """
    )


async def test_verbose_says_how_its_node_was_chosen(served, run):
    ran = await run("alloc", "status", "-verbose", ALLOC_ID)

    lines = ran.out.splitlines()
    assert f"Eval ID             = {EVAL_ID}" in lines
    assert "Evaluated Nodes     = 5" in lines
    assert "Allocation Time     = 120µs" in lines
    place = lines.index("Placement Metrics")
    assert lines[place + 1].split("  ")[0] == "Node"
    assert lines[place + 2].split() == [NODE_ID, "0.5", "-0.25", "0.125"]


async def test_short_shows_the_last_event_of_each_task(served, run):
    ran = await run("alloc", "status", "-short", ALLOC_ID)

    assert ran.out.partition("\nTasks\n")[2] == (
        "Name   State    Last Event  Time\n"
        "redis  running  Started     2023-11-14T22:11:51Z\n"
    )


async def test_its_way_is_shown(served, run):
    moved = full_allocation(
        DeploymentStatus={"Healthy": False},
        DesiredTransition={"Migrate": True},
        PreviousAllocation=NEW_ALLOC_ID,
        NextAllocation=NEW_ALLOC_ID,
        FollowupEvalID=EVAL_ID,
        RescheduleTracker={"Events": [{"PrevAllocID": NEW_ALLOC_ID}]},
        TaskStates=None,
        TaskResources=None,
    )
    served.on(f"/v1/allocation/{ALLOC_ID}", Answer(moved))

    ran = await run("alloc", "status", ALLOC_ID)

    assert ran.out.splitlines()[13:] == [
        "Health               = unhealthy",
        "Migrating            = true",
        "Previous Alloc ID    = a1b2c3d4",
        "Replacement Alloc ID = a1b2c3d4",
        "Followup Eval ID     = e1b2c3d4",
        "Reschedule Attempts  = 1",
    ]


async def test_a_task_that_nobody_has_reported_is_pending(served, run):
    silent = full_allocation(TaskStates=None, Resources=None)
    served.on(f"/v1/allocation/{ALLOC_ID}", Answer(silent))

    ran = await run("alloc", "status", ALLOC_ID)

    assert 'Task "redis" is "pending"\n' in ran.out
    assert "Started At     = N/A\n" in ran.out
    assert "Recent Events" not in ran.out


async def test_all_are_listed(served, run):
    ran = await run("alloc", "status")

    assert ran.out == (
        "ID        Node ID   Job ID  Task Group  Version  Desired  Status   "
        "Created    Modified\n"
        "a1b2c3d4  f7476465  web     cache       3        run      pending  "
        "1m30s ago  1m30s ago\n"
    )


async def test_there_may_be_none(served, run):
    served.on("/v1/allocations", Answer([]))

    assert (await run("alloc", "status")).out == "No allocations placed\n"


@pytest.mark.parametrize(("words", "text"), [([], "[\n"), ([ALLOC_ID], "{\n")])
async def test_json_is_the_servers_answer(served, run, words, text):
    assert (await run("alloc", "status", "-json", *words)).out.startswith(text)


async def test_prefixes_that_do_not_fit(served, run):
    short = await run("alloc", "status", "a")
    served.on("/v1/allocations", Answer([]))
    none = await run("alloc", "stop", "a1b2")
    served.on("/v1/allocations", Answer([allocation(), allocation(ID=NEW_ALLOC_ID)]))
    many = await run("alloc", "status", "a1b2")
    two = await run("alloc", "status", "a1", "b2")

    assert short.err == "Identifier must contain at least two characters.\n"
    assert none.err == 'No allocation(s) with prefix or id "a1b2" found\n'
    assert many.err.startswith("Prefix matched multiple allocations\n\nID        Node")
    assert two.err.startswith("This command takes either no arguments or one: ")
    assert (short.code, none.code, many.code, two.code) == (1, 1, 1, 1)


async def test_one_is_stopped_and_that_followed(served, run):
    ran = await run("alloc", "stop", "a1b2c3d4")

    assert (ran.code, served.bodies(STOP)) == (0, [{}])
    assert ran.out.splitlines()[-1] == (
        '==> Evaluation "e1b2c3d4" finished with status "complete"'
    )


async def test_it_need_not_be_followed(served, run):
    detached = await run("alloc", "stop", "-detach", ALLOC_ID)
    as_json = await run("alloc", "stop", "-json", ALLOC_ID)

    assert detached.out == f"{EVAL_ID}\n"
    assert '"Index": 40' in as_json.out
