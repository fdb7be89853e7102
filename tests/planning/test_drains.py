"""What drains move, when they are over, and what they wait for; ids are of the cases."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from nodestate.fsm.pacing import deadline_ns
from nodestate.fsm.state import State
from nodestate.model.allocation import (
    Allocation,
    AllocMetric,
    DeploymentStatus,
)
from nodestate.model.command import CompletedDrain, CompleteDrains, MarkAllocations
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobType, MigrateStrategy
from nodestate.model.node import DrainStrategy, Node
from nodestate.model.timestamp import Timestamp
from nodestate.planning.drains import (
    MARKS_PER_COMMAND_MAX,
    DrainPlan,
    GroupDrain,
    Waits,
    drain_commands,
    in_batches,
    plan_drains,
    view_drain,
)
from tests.conformance.rows import example
from tests.planning.works import (
    MARK,
    NOW_NS,
    SECOND_NS,
    draining,
    group,
    job,
    key_of,
    node,
    run,
)

SERVICE, BATCH, SYSTEM = JobType.SERVICE, JobType.BATCH, JobType.SYSTEM
HEALTHY = DeploymentStatus(healthy=True)
HOUR_NS = 3600 * SECOND_NS
LATER = Timestamp(NOW_NS + HOUR_NS)


class World:
    """Node 1 drains for an hour, unless said otherwise; there is one job of each kind."""

    def __init__(self, max_parallel: int = 1, count: int = 10, **strategy: Any) -> None:
        self.state = State()
        self._allocation_count = 0
        migrate = MigrateStrategy(max_parallel=max_parallel)
        self.add_job(SERVICE, group(count=count, migrate=migrate))
        self.add_job(BATCH, group(count=count, migrate=None))
        self.add_job(SYSTEM, group(count=1, migrate=None))
        self.put(
            1, draining(1, **(strategy or {"deadline": 1, "force_deadline": LATER}))
        )
        self.put(2, node(2))
        self.put(3, node(3))

    def add_job(self, kind: JobType, *groups: Any) -> Job:
        made = job(*groups, kind=kind, id=str(kind))
        self.state.put_job(made)
        return made

    def put(self, number: int, one: Node) -> None:
        self.state.put_node(key_of(number), one)

    def add(
        self, count: int, number: int = 1, kind: JobType = SERVICE, **fields: Any
    ) -> "World":
        """Add allocations to a node; they run and are healthy unless said otherwise."""
        for _ in range(count):
            made = {
                "id": f"a{self._allocation_count:03}",
                "job_id": str(kind),
                "job_type": kind,
                "node_key": key_of(number),
                "task_group": "web",
                "client_status": "running",
                "deployment_status": HEALTHY if kind is SERVICE else None,
                "create_index": self._allocation_count,
                "job_create_index": 100,
            }
            self.state.put_allocation(Allocation(**(made | fields)))
            self._allocation_count += 1
        return self

    def plan(self, now_ns: int = NOW_NS) -> DrainPlan:
        return run(plan_drains(self.state, now_ns))

    @property
    def paced(self) -> int:
        return len(self.plan().paced_ids)

    def ended(self, now_ns: int = NOW_NS) -> list[tuple[Any, bool]]:
        return [
            (one.key, one.deadline_reached) for one in self.plan(now_ns).completions
        ]

    def group(self, kind: JobType = SERVICE, **asked: Any) -> GroupDrain:
        strategy = DrainStrategy(**asked) if asked else None
        found = view_drain(self.state, key_of(1), NOW_NS, strategy)
        assert found is not None
        (one,) = [each for each in found.groups if each.job_type is kind]
        return one


DONE: dict[str, Any] = {"client_status": "complete", "desired_status": "stop"}
STOPPING: dict[str, Any] = {"desired_status": "stop"}
MARKED: dict[str, Any] = {"desired_transition": MARK}
UNKNOWN: dict[str, Any] = {"deployment_status": None}
UNHEALTHY: dict[str, Any] = {"deployment_status": DeploymentStatus(healthy=False)}


@pytest.mark.parametrize(
    ("world", "marked"),
    [
        example("DR1", World().add(10), 1),
        example("DR2", World().add(10, 2), 0),
        example("DR3", World().add(5).add(5, 2, **UNKNOWN), 0),
        example("DR4", World().add(1).add(9, 2), 1),
        example("DR5", World().add(1, **MARKED).add(9, 2), 0),
        example("DR5b", World().add(1, **MARKED).add(9), 0),
        example("DR6", World().add(1, **DONE).add(9, 2), 0),
        example("DR6b", World().add(1, **DONE).add(9), 0),
        example("DR7", World().add(10, **DONE), 0),
        example("DR8", World().add(5, **DONE).add(5, **STOPPING), 0),
        example("DR9", World(10).add(10), 10),
        example("DR10", World(2).add(10), 2),
        example("DR11", World(2).add(1, 2).add(1, **DONE).add(8), 1),
        example("DR11b", World(2).add(8, 2).add(1, **DONE).add(1), 1),
        example("DR12", World(5).add(5, 2).add(2, **DONE).add(3), 3),
        example(
            "DR13", World(3).add(4, 2).add(1, 2, **UNKNOWN).add(1, **DONE).add(4), 1
        ),
        example(
            "DR14", World(5).add(3, 2).add(2, 2, **UNKNOWN).add(1, **DONE).add(4), 2
        ),
        example("DR15", World(5).add(4, **MARKED).add(6), 1),
        example("DR16", World().add(10, kind=BATCH), 0),
        example("DR17", World().add(10, **UNKNOWN), 0),
        example("DR18", World().add(1, 2, **UNHEALTHY).add(9), 1),
        example("DR21", World(0).add(10), 0),
        example("DR22", World().add(10, task_group="gone"), 0),
    ],
)
def test_a_group_lets_go_what_it_may(world, marked):
    plan = world.plan()

    assert len(plan.paced_ids) == marked
    assert not plan.forced_ids
    assert not plan.system_ids


@pytest.mark.parametrize(
    ("allocations", "is_done"),
    [
        example("DR30", [], True),
        example("DR31", [(BATCH, {})], False),
        example("DR32", [(SERVICE, {})], False),
        example("DR33", [(SYSTEM, MARKED)], True),
        example("DR34", [(one, DONE) for one in JobType], True),
        example("DR35", [(SERVICE, DONE), (BATCH, {}), (SYSTEM, {})], False),
        example("DR36", [(SERVICE, DONE), (BATCH, DONE), (SYSTEM, MARKED)], True),
        pytest.param([(SERVICE, STOPPING)], False, id="V26"),
        pytest.param([(SERVICE, {"client_status": "failed"})], True, id="failed"),
        example("DR74", [(SERVICE, {**DONE, "client_status": "lost"})], True),
        pytest.param([(BATCH, {"client_status": "complete"})], True, id="D26"),
    ],
)
def test_what_holds_a_drain_up(allocations, is_done):
    world = World()
    for kind, fields in allocations:
        world.add(1, kind=kind, **fields)

    assert world.ended() == ([(key_of(1), False)] if is_done else [])


@pytest.mark.row("DR36")
def test_system_work_goes_last():
    """DR36: it is marked once nothing else is left, and then the drain ends."""
    world = World().add(1, kind=SYSTEM).add(1, **DONE)

    plan = world.plan()

    assert plan.system_ids == ("a000",)
    assert plan.completions == ()


def test_system_work_may_be_left_alone():
    world = World(ignore_system_jobs=True).add(1, kind=SYSTEM)

    assert world.plan().system_ids == ()
    assert world.ended() == [(key_of(1), False)]


@pytest.mark.row("DR36b")
@pytest.mark.parametrize(
    ("strategy", "is_forced"),
    [
        ({"deadline": -1}, True),
        ({"deadline": 1, "force_deadline": Timestamp(NOW_NS)}, True),
        ({"deadline": 1, "force_deadline": Timestamp(NOW_NS + 1)}, False),
        ({"deadline": 0}, False),
    ],
)
def test_a_deadline_forces_what_is_left(strategy, is_forced):
    """DR36b, DR41, DR53: whatever kind it is of, and whatever its group says."""
    world = World(0, **strategy)
    for kind in JobType:
        world.add(1, kind=kind).add(1, kind=kind, **DONE)

    assert world.plan().forced_ids == (("a000", "a002", "a004") if is_forced else ())
    assert world.ended() == ([(key_of(1), True)] if is_forced else [])


@pytest.mark.row("DR37")
def test_a_forced_drain_may_leave_system_work_alone():
    """DR37."""
    world = World(deadline=-1, ignore_system_jobs=True).add(1).add(1, kind=SYSTEM)

    assert world.plan().forced_ids == ("a000",)


@pytest.mark.row("M5")
def test_a_forced_drain_ends_when_all_is_marked():
    """DR51: without waiting for it to stop."""
    world = World(deadline=-1).add(1, **MARKED).add(1, kind=SYSTEM, **MARKED)

    assert world.ended() == [(key_of(1), True)]


@pytest.mark.row("DR52b", "W20")
@pytest.mark.parametrize("kind", [None, SYSTEM])
def test_a_forced_drain_with_nothing_to_move_is_not_cut_short(kind):
    """DR52b."""
    world = World(deadline=-1)
    if kind:
        world.add(1, kind=kind, **MARKED)

    assert world.ended() == [(key_of(1), False)]


@pytest.mark.row("DR40", "DR42", "D14", "W2")
def test_drains_are_forced_each_at_its_time():
    """DR40, DR42: nothing waits for another one's deadline."""
    world = World(deadline=-1).add(1)
    for number, seconds in ((2, 5), (3, 9)):
        until = Timestamp(NOW_NS + seconds * SECOND_NS)
        world.put(number, draining(number, deadline=1, force_deadline=until))
        world.add(1, number)

    assert world.plan().forced_ids == ("a000",)
    assert world.plan().next_deadline_ns == NOW_NS + 5 * SECOND_NS
    assert world.plan(NOW_NS + 5 * SECOND_NS).forced_ids == ("a000", "a001")
    assert world.plan(NOW_NS + 9 * SECOND_NS).next_deadline_ns is None


def test_a_node_that_is_over_has_no_deadline():
    assert World().plan().next_deadline_ns is None


@pytest.mark.row("DR72", "M2")
def test_two_nodes_share_one_group():
    """DR72."""
    world = World().add(5)
    world.put(2, draining(2, deadline=0))
    world.add(5, 2)

    assert world.paced == 1


@pytest.mark.row("W4")
def test_two_jobs_of_one_name_are_two():
    """DR58."""
    world = World().add(10)
    other = job(group(count=10), id="service", namespace="other")
    world.state.put_job(other)
    world.add(10, namespace="other")

    assert world.paced == 2


def test_a_job_that_was_purged_holds_up_only_what_runs():
    """DR70."""
    world = World().add(1)
    world.state.remove_job(next(key for key in world.state.jobs if key[1] == "service"))

    assert world.plan() == DrainPlan(next_deadline_ns=LATER.ns)


def test_the_oldest_go_first():
    world = World(2, 4).add(4)

    assert world.plan().paced_ids == ("a000", "a001")


@given(
    there=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from([{}, MARKED, DONE, STOPPING, UNKNOWN, UNHEALTHY]),
        ),
        max_size=12,
    ),
    max_parallel=st.integers(0, 4),
    count=st.integers(0, 8),
)
def test_no_group_falls_below_what_it_counts(there, max_parallel, count):
    """What is settled after the marks is Count - MaxParallel, or what it was before."""
    world = World(max_parallel, count)
    world.put(2, draining(2, deadline=0))
    for number, fields in there:
        world.add(1, number, **fields)
    settled = [
        one.id
        for one in world.state.allocations.values()
        if not one.is_terminal and not one.is_migrating and one.deployment_status
    ]

    plan = world.plan()

    left = len([id_ for id_ in settled if id_ not in plan.paced_ids])
    assert left >= count - max_parallel or not plan.paced_ids
    assert len(plan.paced_ids) <= max(0, len(settled) - (count - max_parallel))
    for id_ in plan.paced_ids:
        one = world.state.allocations[id_]
        assert one.node_key != key_of(3)
        assert not one.is_migrating
        assert not one.is_terminal


def test_marks_come_first_and_only_paced_ones_are_held_to_their_group():
    plan = DrainPlan(
        forced_ids=tuple(f"f{one}" for one in range(MARKS_PER_COMMAND_MAX + 1)),
        paced_ids=("p",),
        system_ids=("s",),
        completions=(CompletedDrain(key_of(1), 5),),
    )
    seeds = (bytes([number]) for number in range(9))

    *marks, end = drain_commands(plan, NOW_NS, lambda: next(seeds))

    assert isinstance(end, CompleteDrains)
    assert end.drains == plan.completions
    shown = [
        (len(one.ids), one.is_drain, one.is_paced, one.seed)
        for one in marks
        if isinstance(one, MarkAllocations)
    ]
    assert shown == [
        (MARKS_PER_COMMAND_MAX, True, False, b"\0"),
        (1, True, False, b"\1"),
        (1, True, True, b"\2"),
        (1, True, False, b"\3"),
    ]
    assert list(drain_commands(DrainPlan(), NOW_NS, bytes)) == []


@pytest.mark.row("DR60")
@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (2, [2]), (3, [2, 1]), (5, [2, 2, 1])]
)
def test_one_entry_takes_so_much_and_no_more(count, sizes):
    """DR60."""
    batches = list(in_batches(range(count), 2))

    assert [len(batch) for batch in batches] == sizes
    assert [one for batch in batches for one in batch] == list(range(count))


@pytest.mark.parametrize(
    ("strategy", "when"),
    [
        (DrainStrategy(deadline=-1), 0),
        (DrainStrategy(), None),
        (DrainStrategy(deadline=5, force_deadline=Timestamp(9)), 9),
    ],
)
def test_when_a_drain_is_forced(strategy, when):
    assert deadline_ns(strategy) == when


# What a drain waits for


def test_a_drain_says_what_moves_and_what_waits():
    world = World().add(1, **DONE).add(1, **STOPPING).add(1, **MARKED).add(4).add(9, 2)

    found = world.group()

    assert found.finished_count == 1
    assert found.moving_ids == ("a001", "a002")
    assert found.next_ids == ("a003", "a004", "a005", "a006")
    assert found.waiting_ids == ()
    assert found.waits is Waits.NOTHING
    assert (found.wanted_count, found.max_parallel, found.settled_count) == (10, 1, 13)


@pytest.mark.parametrize(
    ("world", "waits"),
    [
        (World().add(10), Waits.MAX_PARALLEL),
        (World().add(9).add(1, 2, **UNKNOWN), Waits.HEALTH),
        (World(0).add(10), Waits.DEADLINE),
        (World().add(1, task_group="gone"), Waits.DEADLINE),
    ],
)
def test_what_a_group_waits_for(world, waits):
    assert world.group().waits is waits


@pytest.mark.parametrize("is_again", [False, True])
def test_a_group_without_room_says_so(is_again):
    world = World().add(9)
    failed = {"web": AllocMetric()}
    world.state.put_evaluation(
        Evaluation(
            id="e1", job_id="service", status="complete", failed_tg_allocs=failed
        )
    )
    world.state.put_evaluation(
        Evaluation(
            id="e2",
            job_id="service",
            status="blocked",
            previous_eval="" if is_again else "e1",
            failed_tg_allocs=failed if is_again else None,
        )
    )

    assert world.group().waits is Waits.ROOM


def test_batch_work_is_left_to_finish():
    found = World().add(2, kind=BATCH).group(BATCH)

    assert (found.waits, found.waiting_ids) == (Waits.FINISH, ("a000", "a001"))


@pytest.mark.parametrize(
    ("strategy", "is_held_up", "waits"),
    [
        ({"deadline": 0}, True, Waits.LAST),
        ({"deadline": 0}, False, Waits.NOTHING),
        ({"deadline": -1}, True, Waits.NOTHING),
        ({"deadline": -1, "ignore_system_jobs": True}, False, Waits.IGNORED),
    ],
)
def test_what_system_work_waits_for(strategy, is_held_up, waits):
    world = World(**strategy).add(1, kind=SYSTEM)
    if is_held_up:
        world.add(1)

    assert world.group(SYSTEM).waits is waits


def test_a_drain_that_is_only_thought_of():
    world = World().add(3)
    world.put(1, node(1))

    assert view_drain(world.state, key_of(1), NOW_NS) is None
    found = view_drain(world.state, key_of(1), NOW_NS, DrainStrategy(deadline=HOUR_NS))
    forced = view_drain(world.state, key_of(1), NOW_NS, DrainStrategy(deadline=-1))

    assert found is not None
    assert (found.is_draining, found.deadline_ns) == (False, NOW_NS + HOUR_NS)
    assert not found.is_done
    assert found.groups[0].waits is Waits.MAX_PARALLEL
    assert forced is not None
    assert forced.groups[0].next_ids == ("a000", "a001", "a002")


def test_a_drain_of_a_node_that_nobody_knows():
    assert view_drain(State(), key_of(1), NOW_NS, DrainStrategy()) is None


@pytest.mark.row("DR33")
def test_a_drain_is_done_when_only_system_work_is_left():
    found = view_drain(World().add(1, kind=SYSTEM).state, key_of(1), NOW_NS)

    assert found is not None
    assert found.is_done


def test_what_is_viewed_is_what_is_planned():
    world = World(3).add(5).add(6, 2)

    assert world.group().next_ids == world.plan().paced_ids
