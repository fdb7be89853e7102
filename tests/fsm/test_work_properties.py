"""What holds of jobs and their work, whatever happens to them and in whatever order."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.fsm import machine
from nodestate.fsm.capacity import room_left
from nodestate.fsm.keys import keys_of
from nodestate.fsm.snapshot import decode_state, encode_state
from nodestate.fsm.state import State
from nodestate.fsm.tables import TABLES
from nodestate.model.allocation import (
    Allocation,
    DeploymentStatus,
    DesiredTransition,
    ReportedAllocation,
)
from nodestate.model.command import (
    AgentReport,
    ApplyPlan,
    CollectGarbage,
    Command,
    DeregisterJob,
    EvaluateJob,
    EvaluationChange,
    MarkAllocations,
    PurgeNodes,
    RegisterJob,
    RegisterNodes,
    Registration,
    ReportAllocations,
    SeenJob,
    SeenNode,
    SetDrain,
    SetEligibility,
    UpdateEvaluations,
    UpdateNodeStatus,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import (
    AllocationPlaced,
    AllocationRemoved,
    AllocationUpdated,
)
from nodestate.model.job import Job, JobKey, JobStatus, JobType, version_key
from nodestate.model.node import ELIGIBLE, DrainStrategy, NodeStatus
from nodestate.model.outcome import Accepted
from nodestate.model.plan import InPlaceUpdate, Placement, Plan, Stop
from tests.fsm.entries import SECRET, key, node
from tests.fsm.invariants import as_stored
from tests.fsm.work import ROOM, group, resources

pytestmark = pytest.mark.slow

FIRST_INDEX = 10
NODES = (key(1), key(2))
JOBS = (("web", JobType.SERVICE), ("sum", JobType.BATCH), ("log", JobType.SYSTEM))
GROUPS = ("g", "h")

Draw = Callable[[st.SearchStrategy[Any]], Any]
Step = Callable[["Player", Draw], Command | None]


class Player:
    """A state, and steps drawn for it as it is by then."""

    def __init__(self) -> None:
        self.state = State()
        self.index = FIRST_INDEX
        self.commands: list[Command] = []
        self.has_collected = False
        self.apply(_register_nodes(NODES))
        for named in JOBS:
            self.apply(_register(named))

    def seed(self) -> bytes:
        return self.index.to_bytes(16, "big")

    def apply(self, command: Command) -> None:
        """Apply, and hold what followed to what must hold."""
        self.index += 1
        self.commands.append(command)
        before = Seen(self.state)
        machine.check(self.state, command)
        assert encode_state(self.state) == before.content

        applied = machine.apply(self.state, self.index, command)

        self.has_collected |= any(
            isinstance(event, AllocationRemoved) for event in applied.events
        )
        before.check(self.state, self.index, applied)
        check_state(self.state)
        check_numbers(self.state, are_lost_counted=not self.has_collected)

    def open_evaluations(self) -> list[Evaluation]:
        return [
            item for _, item in sorted(self.state.evaluations.items())
            if not item.is_terminal
        ]  # fmt: skip


class Seen:
    """What a state was before an entry."""

    def __init__(self, state: State) -> None:
        self.content = encode_state(state)
        self.indexes = dict(state.indexes)
        self.allocations = dict(state.allocations)
        self.evaluations = dict(state.evaluations)
        self.nodes = dict(state.nodes)
        self.copy = state.shallow_copy()

    def check(self, state: State, index: int, applied: machine.Applied) -> None:
        assert encode_state(self.copy) == self.content, "a copy stays as it was"
        for table, was in self.indexes.items():
            assert state.indexes[table] in (was, index)
        is_changed = encode_state(state) != self.content
        if isinstance(applied.outcome, Accepted):
            assert is_changed == bool(applied.events)
            assert applied.outcome.index == (index if applied.events else 0)
        else:
            assert not is_changed
            assert not applied.events
        assert set(applied.keys) == {
            each for event in applied.events for each in keys_of(event)
        }
        for id_ in self.allocations.keys() | state.allocations.keys():
            self._check_allocation(state, id_, index, applied)
        for id_ in self.evaluations.keys() | state.evaluations.keys():
            self._check_evaluation(state, id_, index, applied)
        self._check_placed(state, applied)

    def _check_allocation(
        self, state: State, id_: str, index: int, applied: machine.Applied
    ) -> None:
        was, now = self.allocations.get(id_), state.allocations.get(id_)
        if was is now:
            return
        assert ("allocations", id_) in applied.keys
        if now is None:
            return
        assert now.modify_index == index
        if was is None:
            return
        assert was.alloc_modify_index <= now.alloc_modify_index
        assert (was.node_key, was.create_index) == (now.node_key, now.create_index)
        if was.is_server_terminal:
            assert now.is_server_terminal, "a stop is final"
        if was.client_status in ("complete", "failed"):
            assert now.client_status in ("complete", "failed")

    def _check_evaluation(
        self, state: State, id_: str, index: int, applied: machine.Applied
    ) -> None:
        was, now = self.evaluations.get(id_), state.evaluations.get(id_)
        if was is now:
            return
        assert ("evaluations", id_) in applied.keys
        if was is not None and was.is_terminal:
            assert now is None, "what is over stays so, or goes"
        if now is not None:
            assert now.modify_index == index

    def _check_placed(self, state: State, applied: machine.Applied) -> None:
        placed = [
            event.allocation
            for event in applied.events
            if isinstance(event, AllocationPlaced)
        ]
        stopped = {
            event.allocation.id
            for event in applied.events
            if isinstance(event, AllocationUpdated)
            and event.allocation.is_server_terminal
            and not self.allocations[event.allocation.id].is_server_terminal
        }
        for allocation in placed:
            found = self.nodes[allocation.node_key]
            assert found.status is NodeStatus.READY
            assert found.scheduling_eligibility == ELIGIBLE
            assert not found.is_draining
            # What the plan itself stops has not stopped yet, and is not in its way.
            beside = [
                item
                for item in state.allocations_on(allocation.node_key)
                if item.id not in stopped
            ]
            assert room_left(found, beside).shortfall() is None


def check_state(state: State) -> None:
    """Hold a state to itself: indexes, statuses, versions and links."""
    again = decode_state(encode_state(state))
    for name in State.__slots__:
        if name != "restore":
            assert getattr(again, name) == getattr(state, name), name
    for table in TABLES:
        assert table.count(again) == table.count(state)
    for job in state.jobs.values():
        assert job.status is expected_status(state, job)
        assert version_key(job) in state.job_versions
        assert job.job_modify_index <= job.modify_index <= state.indexes["jobs"]
        assert job.key in state.job_summaries
    assert state.job_summaries.keys() == state.jobs.keys()
    for allocation in state.allocations.values():
        assert state.job_of(allocation) is not None
        assert allocation.create_index <= allocation.alloc_modify_index
        assert allocation.alloc_modify_index <= allocation.modify_index
        assert allocation.modify_index <= state.indexes["allocations"]
        check_links(state, allocation)
    for evaluation in state.evaluations.values():
        assert evaluation.create_index <= evaluation.modify_index
        assert evaluation.modify_index <= state.indexes["evaluations"]


def check_links(state: State, allocation: Allocation) -> None:
    successor = state.allocations.get(allocation.next_allocation)
    if successor is not None:
        assert successor.previous_allocation == allocation.id
    former = state.allocations.get(allocation.previous_allocation)
    if former is not None:
        assert former.next_allocation == allocation.id


def expected_status(state: State, job: Job) -> JobStatus:
    if job.type is JobType.SYSTEM:
        return JobStatus.DEAD if job.stop else JobStatus.RUNNING
    allocations = state.allocations_of(job.key)
    evaluations = state.evaluations_of(job.key)
    if any(not item.is_terminal for item in allocations):
        return JobStatus.RUNNING
    if any(not item.is_terminal for item in evaluations):
        return JobStatus.PENDING
    return JobStatus.DEAD


def check_numbers(state: State, *, are_lost_counted: bool) -> None:
    """Count the work of each job again; what was removed stays counted as lost."""
    for job_key, summary in state.job_summaries.items():
        job = state.jobs[job_key]
        counted: Counter[tuple[str, str]] = Counter(
            (item.task_group, item.client_status)
            for item in state.allocations_of(job_key)
            if item.job_create_index == job.create_index
        )
        for name, bins in summary.summary.items():
            assert bins.starting == counted[name, "pending"]
            assert bins.running == counted[name, "running"]
            assert bins.queued >= 0
            assert bins.complete >= counted[name, "complete"]
            assert bins.failed >= counted[name, "failed"]
            if are_lost_counted:
                assert bins.lost == counted[name, "lost"]


# Steps


def _register_nodes(keys: tuple[Any, ...]) -> RegisterNodes:
    registrations = tuple(
        Registration(each, node(each, node_resources=ROOM), SECRET) for each in keys
    )
    return RegisterNodes(at_ns=1, registrations=registrations, seed=bytes(16))


def _register(
    named: tuple[str, JobType], count: int = 2, name: str = "g"
) -> RegisterJob:
    id_, kind = named
    sent = Job(
        id=id_,
        name=id_,
        type=kind,
        datacenters=("dc1",),
        task_groups=(group(name, count=count),),
    )
    return RegisterJob(at_ns=1, job=sent, seed=id_.encode() * 6)


def register_nodes(player: Player, draw: Draw) -> Command:
    return replace(_register_nodes((draw(st.sampled_from(NODES)),)), seed=player.seed())


def register_job(player: Player, draw: Draw) -> Command:
    named = draw(st.sampled_from(JOBS))
    made = _register(named, draw(st.integers(1, 3)), draw(st.sampled_from(GROUPS)))
    return replace(made, seed=player.seed())


def drawn_job_key(draw: Draw) -> JobKey:
    return JobKey(("default", draw(st.sampled_from(JOBS))[0]))


def deregister_job(player: Player, draw: Draw) -> Command:
    return DeregisterJob(
        at_ns=1,
        key=drawn_job_key(draw),
        seed=player.seed(),
        is_purge=draw(st.booleans()),
    )


def evaluate_job(player: Player, draw: Draw) -> Command:
    return EvaluateJob(
        at_ns=1,
        key=drawn_job_key(draw),
        seed=player.seed(),
        force_reschedule=draw(st.booleans()),
    )


def apply_plan(player: Player, draw: Draw) -> Command | None:
    evaluations = player.open_evaluations()
    if not evaluations:
        return None
    evaluation = draw(st.sampled_from(evaluations))
    job = player.state.job(evaluation.job_key)
    running = player.state.allocations_of(evaluation.job_key)
    ids = [item.id for item in running]
    placements = tuple(
        Placement(
            id=f"{player.index}-{number}",
            name=f"{evaluation.job_id}.g[{number}]",
            task_group="g",
            node_key=draw(st.sampled_from((*NODES, key(9)))),
            resources=resources(draw(st.sampled_from((100, 400, 900)))),
            previous_allocation=draw(st.sampled_from(["", *ids])),
        )
        for number in range(draw(st.integers(0, 3)))
    )
    touched = draw(st.lists(st.sampled_from(running), unique_by=id, max_size=3)) if running else []  # fmt: skip
    split = draw(st.integers(0, len(touched)))
    stops = tuple(
        Stop(
            id=item.id,
            node_key=item.node_key,
            description="so",
            is_lost=draw(st.booleans()),
            only_with=draw(st.sampled_from(["", *[each.id for each in placements]])),
        )
        for item in touched[:split]
    )
    updates = tuple(
        InPlaceUpdate(id=item.id, node_key=item.node_key, resources=resources(200))
        for item in touched[split:]
    )
    is_fresh = draw(st.sampled_from((True, True, True, False)))
    plan = Plan(
        eval_id=evaluation.id,
        eval_modify_index=evaluation.modify_index - (not is_fresh),
        job_key=evaluation.job_key,
        version=None if job is None else version_key(job),
        is_all_at_once=draw(st.booleans()),
        stops=stops,
        placements=placements,
        updates=updates,
    )
    later = Evaluation(id=f"later-{player.index}", job_id=evaluation.job_id)
    made = (later,) if draw(st.booleans()) else ()
    return ApplyPlan(at_ns=player.index, plan=plan, evaluations=made)


def update_evaluations(player: Player, draw: Draw) -> Command | None:
    evaluations = player.open_evaluations()
    if not evaluations:
        return None
    chosen = draw(st.lists(st.sampled_from(evaluations), min_size=1, max_size=2))
    changes = tuple(
        EvaluationChange(
            replace(
                item,
                status=draw(st.sampled_from(("complete", "blocked", "failed"))),
                queued_allocations={"g": draw(st.integers(0, 2))},
            ),
            item.modify_index,
        )
        for item in chosen
    )
    return UpdateEvaluations(
        at_ns=player.index, changes=changes, is_atomic=draw(st.booleans())
    )


def drawn_ids(player: Player, draw: Draw) -> tuple[str, ...]:
    ids = sorted(player.state.allocations)
    if not ids:
        return ()
    return tuple(draw(st.lists(st.sampled_from(ids), max_size=3)))


def report(player: Player, draw: Draw) -> Command:
    node_key = draw(st.sampled_from(NODES))
    health = st.none() | st.builds(DeploymentStatus, healthy=st.none() | st.booleans())
    statuses = st.sampled_from(("pending", "running", "complete", "failed", "lost"))
    sent = tuple(
        _reported(id_, draw(statuses), draw(health)) for id_ in drawn_ids(player, draw)
    )
    reports = (AgentReport(node_key, SECRET, sent),)
    return ReportAllocations(at_ns=player.index, reports=reports, seed=player.seed())


def _reported(id_: str, status: str, health: DeploymentStatus | None) -> Any:
    return ReportedAllocation(id=id_, client_status=status, deployment_status=health)


def mark(player: Player, draw: Draw) -> Command:
    return MarkAllocations(
        at_ns=1,
        ids=drawn_ids(player, draw),
        seed=player.seed(),
        transition=DesiredTransition(migrate=draw(st.none() | st.booleans())),
        is_drain=draw(st.booleans()),
        is_paced=draw(st.booleans()),
    )


def set_status(player: Player, draw: Draw) -> Command:
    return UpdateNodeStatus(
        at_ns=1,
        key=draw(st.sampled_from(NODES)),
        status=draw(st.sampled_from(NodeStatus)),
        secret_sha256=SECRET,
        seed=player.seed(),
    )


def set_drain(player: Player, draw: Draw) -> Command:
    strategy = draw(st.none() | st.just(DrainStrategy(deadline=0)))
    return SetDrain(
        at_ns=1,
        key=draw(st.sampled_from(NODES)),
        strategy=strategy,
        mark_eligible=True,
        seed=player.seed(),
    )


def set_eligibility(player: Player, draw: Draw) -> Command:
    return SetEligibility(
        at_ns=1,
        key=draw(st.sampled_from(NODES)),
        eligibility=draw(st.sampled_from(("eligible", "ineligible"))),
        seed=player.seed(),
    )


def purge(player: Player, draw: Draw) -> Command:
    return PurgeNodes(at_ns=1, keys=(draw(st.sampled_from(NODES)),), seed=player.seed())


def collect(player: Player, draw: Draw) -> Command:
    """Collect whatever there is: what is of use must stay of itself."""
    state = player.state
    is_asked = st.booleans()
    return CollectGarbage(
        at_ns=1,
        jobs=tuple(
            SeenJob(job.key, job.modify_index)
            for _, job in sorted(state.jobs.items())
            if draw(is_asked)
        ),
        allocation_ids=drawn_ids(player, draw),
        evaluation_ids=tuple(sorted(state.evaluations)) if draw(is_asked) else (),
        nodes=tuple(
            SeenNode(each, state.nodes[each].modify_index)
            for each in state.node_keys
            if draw(is_asked)
        ),
    )


STEPS: tuple[Step, ...] = (
    apply_plan, apply_plan, apply_plan, apply_plan, report, report, report, mark,
    update_evaluations, update_evaluations, register_job, register_job, evaluate_job,
    deregister_job, register_nodes, set_status, set_drain, set_eligibility, purge,
    collect,
)  # fmt: skip


@given(st.data())
def test_every_entry_keeps_what_must_hold(data):
    player = Player()

    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=8, max_size=25)):
        command = step(player, data.draw)
        if command is not None:
            player.apply(command)

    again = State()
    for index, command in enumerate(as_stored(player.commands), FIRST_INDEX + 1):
        machine.apply(again, index, command)
    assert encode_state(again) == encode_state(player.state)
