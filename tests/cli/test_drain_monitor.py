"""The monitor of a drain: what is said, and when it lets go."""

from typing import Any

import pytest

from nodestate.cli.drains import DEADLINE_NS_DEFAULT
from tests.scripted_server import NODE_ID, Answer, node
from tests.scripted_work import drain_view, group_drain

DRAIN = f"/v1/node/{NODE_ID}/drain"
NODE = f"/v1/node/{NODE_ID}"
ALLOCATIONS = f"/v1/node/{NODE_ID}/allocations"
AT = "2023-11-14T22:13:20Z"
STRATEGY = {
    "Deadline": DEADLINE_NS_DEFAULT,
    "IgnoreSystemJobs": False,
    "ForceDeadline": "2023-11-14T23:13:20.5Z",
    "StartedAt": "2023-11-14T22:13:20.5Z",
}
DRAINING = node(Drain=True, DrainStrategy=STRATEGY)


def allocation(**fields: Any) -> dict[str, Any]:
    return {
        "ID": "a1",
        "Job": {"Type": "service", "Version": 0},
        "DesiredStatus": "run",
        "ClientStatus": "running",
        "DesiredTransition": {"Migrate": None},
        **fields,
    }


@pytest.fixture
def served(scripted):
    scripted.add_nodes(node())
    scripted.on(DRAIN, Answer({"Index": 50, "NodeModifyIndex": 50, "EvalIDs": None}))
    return scripted


async def test_a_drain_is_watched_to_its_end(served, run):
    served.on(
        NODE,
        Answer(node()),
        Answer(DRAINING, index=50),
        Answer({**DRAINING, "Status": "down"}, index=55),
        Answer(
            node(DrainStrategy={**STRATEGY, "ForceDeadline": "2023-11-15T00:00:00Z"}),
            index=56,
        ),
        Answer(node(), index=60),
    )
    served.on(ALLOCATIONS, Answer([]))

    ran = await run("node", "drain", "-enable", NODE_ID)

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[:2] == [
        f"{AT}: Ctrl-C to stop monitoring: will not cancel the node drain",
        f'{AT}: Node "{NODE_ID}" drain strategy set',
    ]
    assert sorted(lines[2:]) == [
        f'{AT}: All allocations on node "{NODE_ID}" have stopped',
        f"{AT}: Drain complete for node {NODE_ID}",
        f'{AT}: Node "{NODE_ID}" drain updated: '
        "drain with deadline at 2023-11-15 00:00:00 +0000 UTC",
    ]
    assert ran.err == f'{AT}: Node "{NODE_ID}" down\n'
    assert served.queries(NODE)[1:] == [
        {"index": index, "stale": "true"} for index in ("50", "50", "55", "56")
    ]


async def test_allocations_are_reported_as_they_go(served, run):
    migrating = {"DesiredTransition": {"Migrate": True}}
    served.on(
        ALLOCATIONS,
        Answer([allocation(), allocation(ID="b2", ClientStatus="pending")], index=3),
        Answer([allocation(**migrating)], index=4),
        Answer([allocation(**migrating, DesiredStatus="stop")], index=5),
        Answer(
            [allocation(**migrating, DesiredStatus="stop", ClientStatus="complete")],
            index=6,
        ),
    )

    ran = await run("node", "drain", "-enable", NODE_ID)

    assert [line.removeprefix(f"{AT}: ") for line in ran.out.splitlines()[3:]] == [
        'Alloc "a1" marked for migration',
        'Alloc "a1" draining',
        'Alloc "a1" status running -> complete',
        f'All allocations on node "{NODE_ID}" have stopped',
    ]
    assert served.queries(ALLOCATIONS) == [
        {"stale": "true"},
        {"index": "3", "stale": "true"},
        {"index": "4", "stale": "true"},
        {"index": "5", "stale": "true"},
    ]


@pytest.mark.parametrize(
    ("words", "asked"), [(["-ignore-system"], 1), ([], 2)], ids=["ignored", "awaited"]
)
async def test_system_allocations_are_awaited_unless_ignored(served, run, words, asked):
    served.on(
        ALLOCATIONS,
        Answer([allocation(Job={"Type": "system", "Version": 0})]),
        Answer([]),
    )

    ran = await run("node", "drain", "-enable", *words, NODE_ID)

    assert ran.code == 0
    assert len(served.queries(ALLOCATIONS)) == asked


async def test_an_error_ends_the_monitor(served, run):
    served.on(NODE, Answer(node()), Answer("node not found", 404))
    served.on(ALLOCATIONS, Answer([]))

    ran = await run("node", "drain", "-enable", NODE_ID)

    assert ran.code == 1
    assert ran.err == (
        f"{AT}: Error monitoring node: Unexpected response code: 404 (node not found)\n"
    )


async def test_monitoring_changes_nothing(served, run):
    served.on(NODE, Answer(DRAINING, index=50), Answer(node(), index=51))
    served.on(ALLOCATIONS, Answer([]))

    ran = await run("node", "drain", "-monitor", NODE_ID)

    lines = ran.out.splitlines()
    assert lines[0] == (
        f'{AT}: Monitoring node "{NODE_ID}": Ctrl-C to detach monitoring'
    )
    assert f"{AT}: Drain complete for node {NODE_ID}" in lines
    assert {each.method for each in served.asked} == {"GET"}
    assert served.queries(NODE)[1] == {"index": "50", "stale": "true"}


async def test_there_may_be_nothing_to_monitor(served, run):
    ran = await run("node", "drain", "-monitor", NODE_ID)

    assert (ran.code, ran.out, ran.err) == (0, "", "No drain strategy set\n")


async def test_what_is_waited_for_is_said_whenever_it_changes(served, run):
    system = group_drain(JobID="logs", TaskGroup="log", JobType="system")
    served.on(
        DRAIN,
        Answer({"Index": 50, "NodeModifyIndex": 50}),
        Answer(
            drain_view(
                group_drain(Moving=["a1"], Waiting=["a2", "a3"]),
                {**system, "Waiting": ["a4"], "WaitsFor": "last"},
            ),
            index=50,
        ),
        Answer(
            drain_view(
                group_drain(Moving=["a2"], Waiting=["a3"], WaitsFor="health"),
                {**system, "Waiting": ["a4"], "WaitsFor": "last"},
            ),
            index=53,
        ),
        Answer(
            drain_view(
                group_drain(Next=["a3"], Waiting=["a9"]),
                {**system, "Waiting": ["a4"], "WaitsFor": "last"},
            ),
            index=54,
        ),
        Answer(drain_view({**system, "Moving": ["a4"]}), index=55),
        Answer(drain_view({**system, "Moving": ["a4"]}, Draining=False), index=56),
    )
    served.on(ALLOCATIONS, Answer([]))

    ran = await run("node", "drain", "-enable", NODE_ID)

    lines = [line.removeprefix(f"{AT}: ") for line in ran.out.splitlines()]
    assert [line for line in lines if line.startswith("In ")] == [
        'In job "web", group "cache": 2 wait for the others: at most 2 move at once '
        "(migrate.max_parallel)",
        'In job "logs", group "log": 1 waits for all other jobs: system jobs are '
        "stopped last",
        'In job "web", group "cache": 1 waits for the health of replacements: 3 of 4 '
        "have been judged",
        'In job "logs", group "log": 1 still moving',
    ]
    assert served.queries(DRAIN)[1:] == [
        {"index": index, "stale": "true"} for index in ("49", "50", "53", "54", "55")
    ]


async def test_a_server_that_has_no_view_of_drains_is_asked_once(served, run):
    served.on(DRAIN, Answer({"Index": 50}), Answer("Invalid method", 405))
    served.on(ALLOCATIONS, Answer([]))

    ran = await run("node", "drain", "-enable", NODE_ID)

    assert ran.code == 0
    assert len(served.queries(DRAIN)) == 2
