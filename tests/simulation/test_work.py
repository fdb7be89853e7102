"""Work under leaders that die: no promise about drains and placements is broken."""

from collections import Counter

import pytest
from msgspec.structs import replace

from cluster.run import play_one, play_seeds
from cluster.simulation import storm
from cluster.simulation.draw import WORK, draw_schedule
from cluster.simulation.judge import Trace
from cluster.simulation.schedule import (
    DrainNode,
    Enlist,
    Perish,
    RunJob,
    Schedule,
    Step,
    decode_schedule,
    encode_schedule,
)

GROUPS = [(1, 3, 14), (101, 5, 8), (201, 1, 12), (301, 3, 8)]


@pytest.fixture(autouse=True)
def _silence(quiet_logs):
    """A schedule logs a thousand lines; what they cost is not what is tested."""


@pytest.mark.slow
@pytest.mark.parametrize(("first", "server_count", "count"), GROUPS)
def test_work_is_done_and_drains_end_whatever_happens_to_leaders(
    first, server_count, count
):
    """Each failure names its seed; `python -m cluster run` finds its shortest schedule."""
    verdicts = play_seeds(range(first, first + count), server_count, scenario=WORK)

    assert [verdict for verdict in verdicts if verdict.violations] == []
    counts = sum((Counter(verdict.counts) for verdict in verdicts), Counter())
    assert counts["drains completed"] > count
    assert counts["elections"] > count
    assert counts["event allocation.placed"] > 5 * count
    assert counts["event allocation.marked"] > 0


@pytest.mark.slow
def test_a_schedule_of_work_always_tells_the_same_story():
    schedule = draw_schedule(3, 3, WORK)
    one: Trace = []
    other: Trace = []

    verdict = storm.play(schedule, one)

    assert storm.play(decode_schedule(encode_schedule(schedule)), other) == verdict
    assert len(one) > 1000
    assert one == other


def small(*steps: Step) -> Schedule:
    """Return a schedule of two nodes and a job of two, and what else there is."""
    return Schedule(
        seed=1,
        server_count=1,
        duration_ms=4000,
        has_work=True,
        quiet_ms=2000,
        settings=draw_schedule(1, 1, WORK).settings,
        steps=(
            Enlist(at_ms=100, node="n1", cpu=1000),
            Enlist(at_ms=110, node="n2", cpu=1000),
            RunJob(
                at_ms=1000, op=1, server="server1", job="web", kind="service",
                count=2, max_parallel=1, cpu=100,
            ),
            *steps,
        ),
    )  # fmt: skip


def test_a_drain_moves_what_is_on_a_node():
    drain = DrainNode(at_ms=2500, op=2, server="server1", node="n1", deadline_ms=0)
    both = small(drain, replace(drain, at_ms=2600, op=3, node="n2"))

    verdict = play_one(both)

    assert verdict.violations == ()
    assert verdict.counts["drains completed"] == 2
    assert verdict.counts["event allocation.marked"] >= 2
    assert verdict.counts["event allocation.placed"] >= 4


def test_a_node_that_perishes_is_found_out_and_replaced():
    verdict = play_one(small(Perish(at_ms=2500, node="n1"), Perish(at_ms=2500, node="n2")))  # fmt: skip

    assert verdict.violations == ()
    assert verdict.counts["event node.status_updated"] == 2
    assert verdict.counts["event allocation.placed"] == 4
