"""Following an evaluation: what is said at each look, and how it ends."""

import pytest

from nodestate.cli.eval_monitor import FOLLOWED_MAX
from tests.scripted_server import NODE_ID, Answer
from tests.scripted_work import (
    ALLOC_ID,
    BLOCKED_ID,
    EVAL_ID,
    METRIC,
    WHY,
    add_evaluation,
    allocation,
    evaluation,
)


@pytest.fixture
def follow(scripted, run):
    """Follow the evaluation that the script has."""
    scripted.on("/v1/evaluations", Answer([evaluation()]))

    async def follow_it(*words):
        # The first look is what finds the evaluation.
        path = f"/v1/evaluation/{EVAL_ID}"
        scripted.on(path, scripted.script(path)[0], *scripted.script(path))
        return await run("eval", "status", "-monitor", *words, EVAL_ID)

    return follow_it


async def test_it_is_followed_to_its_end(scripted, follow):
    running = allocation(ClientStatus="running", ClientDescription="Tasks are running")
    add_evaluation(
        scripted,
        evaluation(Status="pending"),
        evaluation(Status="pending"),
        evaluation(),
        allocations=[[], [allocation()], [running]],
    )

    ran = await follow()

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        '==> Monitoring evaluation "e1b2c3d4"',
        '    Evaluation triggered by job "web"',
        '    Allocation "a1b2c3d4" created: node "f7476465", group "cache"',
        '    Allocation "a1b2c3d4" status changed: "pending" -> "running" '
        "(Tasks are running)",
        '    Evaluation status changed: "pending" -> "complete"',
        '==> Evaluation "e1b2c3d4" finished with status "complete"',
    ]
    assert scripted.queries(f"/v1/evaluation/{EVAL_ID}")[1:] == [
        {},
        {"index": "40"},
        {"index": "41"},
    ]


async def test_verbose_shows_full_ids(scripted, follow):
    add_evaluation(
        scripted,
        evaluation(NodeID=NODE_ID, CreateIndex=60),
        allocations=[[allocation()]],
    )

    ran = await follow("-verbose")

    assert ran.out.splitlines() == [
        f'==> Monitoring evaluation "{EVAL_ID}"',
        f'    Evaluation triggered by node "{NODE_ID}"',
        f'    Allocation "{ALLOC_ID}" modified: node "{NODE_ID}", group "cache"',
        f'==> Evaluation "{EVAL_ID}" finished with status "complete"',
    ]


async def test_what_has_no_place_is_said_with_reasons(scripted, follow):
    add_evaluation(
        scripted,
        evaluation(FailedTGAllocs={"cache": METRIC}, BlockedEval=BLOCKED_ID),
    )

    ran = await follow()

    assert ran.code == 2
    assert ran.out.splitlines()[2:] == [
        '==> Evaluation "e1b2c3d4" finished with status "complete" '
        "but failed to place all allocations:",
        '    Task Group "cache" (failed to place 2 allocations):',
        *(f"      {line}" for line in WHY),
        '    Evaluation "e1b2c3d4" waiting for additional capacity to place remainder',
    ]


async def test_the_next_evaluation_is_followed_too(scripted, follow):
    add_evaluation(scripted, evaluation(NextEval=BLOCKED_ID, Wait=30_000_000_000))
    add_evaluation(
        scripted, evaluation(ID=BLOCKED_ID, Status="failed", StatusDescription="why")
    )

    ran = await follow("-verbose")

    assert ran.code == 1
    assert ran.out.splitlines()[3:] == [
        f'    Monitoring next evaluation "{BLOCKED_ID}" in 30s',
        f'==> Monitoring evaluation "{BLOCKED_ID}"',
        '    Evaluation triggered by job "web"',
        f'==> Evaluation "{BLOCKED_ID}" finished with status "failed": why',
    ]


async def test_a_circle_of_evaluations_is_left(scripted, follow):
    add_evaluation(scripted, evaluation(NextEval=EVAL_ID))

    ran = await follow()

    assert ran.code == 1
    assert ran.err == f"More than {FOLLOWED_MAX} evaluations, one after the other\n"


async def test_errors_end_it(scripted, follow):
    add_evaluation(scripted, evaluation())
    scripted.on(f"/v1/evaluation/{EVAL_ID}/allocations", Answer("no", 500))

    ran = await follow()

    assert ran.code == 1
    assert ran.err == (
        "Error reading allocations: Unexpected response code: 500 (no)\n"
    )
