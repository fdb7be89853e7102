"""`node drain -plan`: what is asked, and how the answer is shown."""

import pytest

from nodestate.answers import GroupDrain
from nodestate.cli.drain_views import reason
from nodestate.planning.drains import Waits
from tests.scripted_server import NODE_ID, Answer, node
from tests.scripted_work import drain_view, group_drain

DRAIN = f"/v1/node/{NODE_ID}/drain"


@pytest.fixture
def served(scripted):
    scripted.add_nodes(node())
    scripted.on(
        DRAIN,
        Answer(
            drain_view(
                group_drain(Next=["a1"], Waiting=["a2", "a3"]),
                group_drain(
                    Namespace="batch",
                    JobID="etl",
                    JobType="batch",
                    Waiting=["a4"],
                    WaitsFor="finish",
                ),
                group_drain(
                    JobID="logs", JobType="system", Waiting=["a5"], WaitsFor="last"
                ),
                Draining=False,
            )
        ),
    )
    return scripted


async def test_a_drain_is_shown_before_anything_is_done(served, run):
    ran = await run("node", "drain", "-plan", NODE_ID)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f'Drain of node "{NODE_ID}": deadline after 1h0m0s, at 2023-11-14T23:13:20Z',
        "",
        "Job ID     Task Group  Type     Moving  Moves Now  Waits  Waits For",
        "web        cache       service  0       1          2      "
        "the others: at most 2 move at once (migrate.max_parallel)",
        "etl@batch  cache       batch    0       0          1      "
        "the work's own end: batch jobs are let finish",
        "logs       cache       system   0       0          1      "
        "all other jobs: system jobs are stopped last",
        "",
        "4 allocations have to be gone before the drain is over.",
    ]
    assert {each.method for each in served.asked} == {"GET"}


@pytest.mark.parametrize(
    ("words", "query", "text"),
    [
        (
            ["-enable"],
            {"deadline": "3600000000000ns", "ignore_system_jobs": "false"},
            "deadline after 1h0m0s, at 2023-11-14T23:13:20Z",
        ),
        (
            ["-no-deadline", "-ignore-system"],
            {"deadline": "0ns", "ignore_system_jobs": "true"},
            "no deadline; system jobs are left alone",
        ),
        (
            ["-force"],
            {"deadline": "-1000000000ns", "ignore_system_jobs": "false"},
            "everything is stopped at once",
        ),
    ],
)
async def test_it_is_the_drain_that_is_asked_for(served, run, words, query, text):
    ran = await run("node", "drain", "-plan", *words, NODE_ID)

    assert ran.out.startswith(f'Drain of node "{NODE_ID}": {text}\n')
    assert served.queries(DRAIN) == [query]


async def test_a_prefix_is_not_asked_about(served, run):
    ran = await run("node", "drain", "-plan", "f7476465")

    assert (ran.code, "Are you sure" in ran.out) == (0, False)


async def test_there_may_be_nothing_on_the_node(served, run):
    served.on(DRAIN, Answer(drain_view(Groups=None)))
    served.on(f"/v1/node/{NODE_ID}", Answer(node(DrainStrategy={"Deadline": 1})))

    ran = await run("node", "drain", "-plan", NODE_ID)

    assert ran.out.splitlines()[1:] == [
        "The node drains already; this would take its place.",
        "Nothing on the node holds the drain up: it would be over at once.",
    ]


async def test_json_is_the_servers_answer(served, run):
    ran = await run("node", "drain", "-plan", "-json", NODE_ID)

    assert ran.out.startswith("{\n    ")
    assert '"MaxParallel": 2' in ran.out


async def test_errors_are_told_by_what_was_being_done(served, run):
    served.on(DRAIN, Answer("Invalid method", 405))

    ran = await run("node", "drain", "-plan", NODE_ID)

    assert (ran.code, ran.err) == (
        1,
        "Error querying what a drain would do: "
        "Unexpected response code: 405 (Invalid method)\n",
    )


@pytest.mark.parametrize(("count", "verb"), [(1, "moves"), (2, "move"), (0, "move")])
def test_how_many_at_once_is_a_sentence(count, verb):
    group = GroupDrain(waits_for="max_parallel", max_parallel=count)

    assert f"at most {count} {verb} at once" in reason(group)


@pytest.mark.parametrize("waits", [each for each in Waits if each])
def test_every_reason_has_words(waits):
    words = reason(GroupDrain(waits_for=waits))

    assert " " in words
