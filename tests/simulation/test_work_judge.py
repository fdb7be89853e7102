"""What is judged of work: entries that should never have been written are found."""

import pytest
from msgspec.structs import replace

from cluster.simulation.checkers import Replayed
from cluster.simulation.work_judge import (
    DRAINS,
    FINALITY,
    ONCE,
    PACING,
    PLACEMENT,
    WorkJudge,
    left_behind,
)
from nodestate.fsm import machine
from nodestate.model.allocation import DesiredTransition
from nodestate.model.command import (
    CompletedDrain,
    CompleteDrains,
    MarkAllocations,
    UpdateEvaluations,
)
from nodestate.model.event import (
    AllocationMarked,
    AllocationPlaced,
    AllocationUpdated,
)
from nodestate.model.job import JobType
from tests.planning.clusters import Cluster, roomy
from tests.planning.works import NOW_NS, group, job

MARK = DesiredTransition(migrate=True)
NOTHING = UpdateEvaluations(at_ns=NOW_NS, changes=())


@pytest.fixture
def cluster():
    """Two of a service on one node, and nothing on another."""
    made = Cluster().add(roomy(1)).register(job(group(count=2))).settle().obey()
    return made.add(roomy(2))


def promises(judge: WorkJudge) -> set[str]:
    return {violation.promise for violation in judge.violations}


def judged(cluster: Cluster, command, *events) -> WorkJudge:
    """Judge an entry that was applied, or one that is said to have led to `events`."""
    before = cluster.state.shallow_copy()
    judge = WorkJudge()
    if events:
        for event in events:
            cluster.state.put_allocation(event.allocation)
    else:
        cluster.index += 1
        events = machine.apply(cluster.state, cluster.index, command).events
    judge.observe(Replayed(cluster.index, command, before, cluster.state, events))
    return judge


def mark(*ids: str) -> MarkAllocations:
    return MarkAllocations(at_ns=NOW_NS, ids=ids, seed=b"", is_drain=True)


def end_of(cluster: Cluster, number: int, **fields) -> CompleteDrains:
    key = cluster.key(number)
    node = cluster.state.nodes[key]
    drain = CompletedDrain(key, node.modify_index, **fields)
    return CompleteDrains(at_ns=NOW_NS, drains=(drain,))


def test_a_drain_that_ends_while_work_is_left_is_found(cluster):
    cluster.drain(1)

    judge = judged(cluster, end_of(cluster, 1))

    assert promises(judge) == {DRAINS}
    assert judge.drained == {cluster.key(1): False}


def test_a_drain_that_is_forced_marks_what_it_leaves(cluster):
    cluster.drain(1, -1)

    assert promises(judged(cluster, end_of(cluster, 1, deadline_reached=True))) == {DRAINS}  # fmt: skip


def test_a_drain_that_is_forced_and_has_marked_all_may_end(cluster):
    cluster.drain(1, -1).mark(*cluster.live())

    judge = judged(cluster, end_of(cluster, 1, deadline_reached=True))

    assert judge.violations == []
    assert len(list(left_behind(cluster.state, judge.drained, lambda _: True))) == 2
    assert not list(left_behind(cluster.state, judge.drained, lambda _: False))


def test_more_marks_than_a_group_lets_go_are_found(cluster):
    cluster.drain(1)
    marked = [replace(one, desired_transition=MARK) for one in cluster.live()]

    one = judged(cluster, mark(marked[0].id), AllocationMarked(marked[0]))
    both = judged(cluster, mark(marked[1].id), AllocationMarked(marked[1]))

    assert promises(one) == set()
    assert promises(both) == {PACING}


def test_marks_without_a_drain_are_found(cluster):
    marked = replace(cluster.live()[0], desired_transition=MARK)

    assert promises(judged(cluster, mark(marked.id), AllocationMarked(marked))) == {PACING}  # fmt: skip


@pytest.mark.parametrize("fault", ["twice", "too much", "closed"])
def test_placements_that_should_not_be_are_found(cluster, fault):
    placed = replace(cluster.live()[0], id="new", node_key=cluster.key(2))
    if fault == "closed":
        cluster.set_eligibility(2, "ineligible")
    elif fault == "too much":
        cluster.add(roomy(2, cpu=10))

    judge = judged(cluster, NOTHING, AllocationPlaced(placed))

    assert promises(judge) == {ONCE} | ({PLACEMENT} if fault != "twice" else set())


def test_system_jobs_are_alone_on_a_node_and_not_in_their_name(cluster):
    system = replace(cluster.live()[0], job_type=JobType.SYSTEM, job_id="system")
    away = replace(system, id="away", node_key=cluster.key(2))
    again = replace(system, id="again", node_key=cluster.key(2))
    cluster.state.put_allocation(system)

    assert promises(judged(cluster, NOTHING, AllocationPlaced(away))) == set()
    assert promises(judged(cluster, NOTHING, AllocationPlaced(again))) == {ONCE}


def test_what_was_stopped_and_runs_again_is_found(cluster):
    one = cluster.live()[0]
    cluster.state.put_allocation(replace(one, desired_status="stop"))

    assert promises(judged(cluster, NOTHING, AllocationUpdated(one))) == {FINALITY}
