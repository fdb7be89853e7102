"""The rows of the checklist on drains, with all that they say (DR)."""

from typing import Any

import pytest

from nodestate.model.command import MarkAllocations
from nodestate.model.job import JobType
from nodestate.model.node import DrainStrategy, NodeStatus
from nodestate.model.timestamp import Timestamp
from nodestate.planning.drains import drain_commands, plan_drains, view_drain
from tests.conformance.rows import example
from tests.planning.clusters import Cluster, roomy
from tests.planning.test_drains import (
    BATCH,
    DONE,
    LATER,
    MARKED,
    SERVICE,
    STOPPING,
    SYSTEM,
    UNHEALTHY,
    UNKNOWN,
    World,
)
from tests.planning.test_stories import details, key, live, messages, of_kind, with_jobs
from tests.planning.works import NOW_NS, SECOND_NS, draining, key_of, run

GONE = 99


def passed(world: World) -> tuple[int, int, bool]:
    """How many are told to move, how many are over, and whether the drain is."""
    plan = world.plan()
    found = view_drain(world.state, key_of(1), NOW_NS)
    assert found is not None
    finished = sum(one.finished_count for one in found.groups)
    assert found.is_done is bool(plan.completions)
    return len(plan.paced_ids), finished, found.is_done


OVER: dict[str, Any] = {"client_status": "complete"}


@pytest.mark.parametrize(
    ("world", "drained", "finished", "is_done"),
    [
        example("DR1", World().add(10), 1, 0, False),
        example("DR2", World().add(10, 2), 0, 0, True),
        example("DR3", World().add(5).add(5, 2, **UNKNOWN), 0, 0, False),
        example("DR4", World().add(1).add(9, 2), 1, 0, False),
        example("DR5", World().add(1, **MARKED).add(9, 2), 0, 0, False),
        example("DR5b", World().add(1, **MARKED).add(9), 0, 0, False),
        example("DR6", World().add(1, **DONE).add(9, 2), 0, 1, True),
        example(
            "DR6:batch", World().add(1, kind=BATCH, **OVER).add(9, 2, BATCH), 0, 1, True
        ),
        example("DR6b", World().add(1, **DONE).add(9), 0, 1, False),
        example("DR7", World().add(10, **DONE), 0, 10, True),
        example("DR7:batch", World().add(10, kind=BATCH, **OVER), 0, 10, True),
        example("DR8", World().add(5, **DONE).add(5, **STOPPING), 0, 5, False),
        example("DR9", World(10).add(10), 10, 0, False),
        example("DR10", World(2).add(10), 2, 0, False),
        example("DR11", World(2).add(1, 2).add(1, **DONE).add(8), 1, 1, False),
        example("DR11b", World(2).add(8, 2).add(1, **DONE).add(1), 1, 1, False),
        example("DR12", World(5).add(5, 2).add(2, **DONE).add(3), 3, 2, False),
        example(
            "DR13",
            World(3).add(4, 2).add(1, 2, **UNKNOWN).add(1, **DONE).add(4),
            1,
            1,
            False,
        ),
        example(
            "DR14",
            World(5).add(3, 2).add(2, 2, **UNKNOWN).add(1, **DONE).add(4),
            2,
            1,
            False,
        ),
        example("DR15", World(5).add(4, **MARKED).add(6), 1, 0, False),
        example("DR16", World().add(10, kind=BATCH), 0, 0, False),
        example(
            "DR16:over",
            World().add(4, kind=BATCH, **OVER).add(6, kind=BATCH),
            0,
            4,
            False,
        ),
        example("DR17", World().add(10, **UNKNOWN), 0, 0, False),
        example("DR18", World().add(1, 2, **UNHEALTHY).add(9), 1, 0, False),
        example("DR20", World().add(9, **DONE).add(1, GONE, **DONE), 0, 9, True),
        example("D1", World().add(1, **STOPPING), 0, 0, False),
        example("D1:lost", World().add(1, client_status="lost"), 0, 1, True),
        example("D2", World().add(1, **MARKED).add(9), 0, 0, False),
    ],
)
def test_what_a_pass_finds(world, drained, finished, is_done):
    assert passed(world) == (drained, finished, is_done)


@pytest.mark.row("DR19")
def test_what_is_over_is_not_told_again():
    """The drainer keeps nothing, and what is over is no reason to write anything."""
    plan = World().add(1, **DONE).add(9).plan()

    assert list(drain_commands(plan, NOW_NS, bytes)) == []


@pytest.mark.parametrize(
    "world",
    [
        example("DR21", World(0).add(10)),
        example("DR22", World().add(10, task_group="gone")),
    ],
)
def test_who_may_not_move_is_moved_at_the_deadline(world):
    before, then = world.plan(LATER.ns - 1), world.plan(LATER.ns)

    assert (before.paced_ids, before.forced_ids) == ((), ())
    assert len(then.forced_ids) == 10


@pytest.mark.row("DR35")
def test_batch_and_system_work_are_forced_together():
    world = World().add(1, **DONE).add(1, kind=BATCH).add(1, kind=SYSTEM)

    assert world.ended() == []
    assert world.plan(LATER.ns).forced_ids == ("a001", "a002")


def test_a_view_is_forced_from_its_deadline_on():
    world = World(0).add(3)

    views = [view_drain(world.state, key_of(1), LATER.ns - ago) for ago in (1, 0)]

    assert [len(one.groups[0].next_ids) for one in views if one] == [0, 3]


@pytest.mark.parametrize(("deadline", "count"), [(0, 0), (1, 0), (-1, 3)])
def test_a_drain_that_is_thought_of_is_forced_if_it_says_so(deadline, count):
    world = World(0).add(3)
    asked = DrainStrategy(deadline=deadline)

    view = view_drain(world.state, key_of(1), NOW_NS, asked)

    assert view is not None
    assert len(view.groups[0].next_ids) == count


@pytest.mark.row("DR40")
def test_deadlines_come_each_at_its_time():
    world = World().add(1)
    until_s = {2: 1, 3: 2, 4: 3, 5: 4, 6: 50, 7: 60}
    for number, seconds in until_s.items():
        until = Timestamp(NOW_NS + seconds * SECOND_NS)
        world.put(number, draining(number, deadline=1, force_deadline=until))
        world.add(1, number, task_group="gone")

    counts = [
        len(world.plan(NOW_NS + seconds * SECOND_NS).forced_ids)
        for seconds in (0, 1, 4, 49, 50, 60)
    ]

    assert counts == [0, 1, 4, 4, 5, 6]


@pytest.mark.row("DR41")
def test_all_that_is_forced_is_forced_at_once():
    world = World(deadline=-1).add(3)
    world.put(2, draining(2, deadline=-1))
    world.add(2, 2)

    assert len(world.plan().forced_ids) == 5


def wait(cluster: Cluster, seconds: int) -> Cluster:
    cluster.now_ns += seconds * SECOND_NS
    return cluster.rest()


@pytest.mark.row("DR43")
def test_a_drain_that_was_stopped_has_no_deadline():
    cluster = with_jobs(BATCH).drain(1, 10).rest().stop_drain(1).rest()
    written = cluster.index

    wait(cluster, 20)

    assert cluster.index == written
    assert live(cluster, BATCH, 1) == 2


@pytest.mark.row("DR44")
def test_a_shorter_deadline_takes_the_place_of_a_longer_one():
    cluster = with_jobs(BATCH).drain(1, 3600).rest().drain(1, 60).rest()

    wait(cluster, 59)
    assert live(cluster, BATCH, 1) == 2
    wait(cluster, 1)
    assert live(cluster, BATCH, 2) == 2
    assert details(cluster) == {"deadline_reached": "true"}
    written = cluster.index
    wait(cluster, 3600)

    assert cluster.index == written


@pytest.mark.row("DR45")
def test_a_drain_may_lose_its_deadline():
    cluster = with_jobs(BATCH).drain(1, 60).rest().drain(1, 0).rest()

    wait(cluster, 3600)

    assert cluster.state.nodes[cluster.key(1)].is_draining
    assert live(cluster, BATCH, 1) == 2
    assert run(plan_drains(cluster.state, cluster.now_ns)).next_deadline_ns is None


@pytest.mark.row("DR56")
def test_work_on_a_node_that_was_removed_holds_nothing_up():
    cluster = Cluster().add(roomy(1), roomy(3)).register(of_kind(SERVICE, 4))
    cluster.settle().obey().add(roomy(2))
    assert (live(cluster, SERVICE, 1), live(cluster, SERVICE, 3)) == (2, 2)

    cluster.purge(3).drain(1).rest()

    assert live(cluster, SERVICE, 2) == 4
    assert messages(cluster)[-1] == "Node drain complete"
    assert {one.client_status for one in cluster.on(3)} == {"lost"}


@pytest.mark.row("DR59")
def test_a_node_that_goes_down_as_it_is_forced_loses_its_work():
    cluster = with_jobs(SERVICE, SYSTEM, count=1, is_pair=False).drain(1, -1).lead()

    cluster.add(roomy(1, status=NodeStatus.DOWN)).lead()

    service = cluster.state.job_summaries[key("service")].summary["web"]
    system = cluster.state.job_summaries[key("system")].summary["web"]
    assert (service.queued, service.lost) == (1, 1)
    assert (system.queued, system.lost) == (0, 1)


@pytest.mark.row("DR57", "M5")
def test_quick_agents_do_not_hide_that_a_drain_was_cut_short():
    """All that was marked is over before the drainer comes round again."""
    cluster = with_jobs(BATCH).drain(1, -1)
    cluster.move()

    cluster.settle().obey().rest()

    assert details(cluster) == {"deadline_reached": "true"}


@pytest.mark.row("DR61", "D5")
def test_marks_and_their_evaluations_are_cut_together(monkeypatch):
    """Each entry has its own evaluations, so that none of them waits for another."""
    monkeypatch.setattr("nodestate.planning.drains.MARKS_PER_COMMAND_MAX", 2)
    cluster = with_jobs(*JobType, count=1).drain(1, -1)
    before = len(cluster.entries)

    cluster.move()

    marks = [
        len(one.ids)
        for one in cluster.entries[before:]
        if isinstance(one, MarkAllocations)
    ]
    assert marks == [2, 1]
    made = [
        one.create_index
        for one in cluster.evaluations()
        if one.triggered_by == "node-drain"
    ]
    first = made[0]
    assert made == [first, first, first + 1]
