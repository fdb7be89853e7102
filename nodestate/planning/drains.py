"""Drains: what is to move now, what is over, and why the rest has to wait.

One pass looks at all draining nodes together: a group moves as one, wherever its
allocations are. A pass remembers nothing. What it finds is safe to propose late and
twice: marks hold only where a node still drains, and only as many as a group lets go
when they are applied; the end of a drain holds only for a node that has not changed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from nodestate.fsm.pacing import (
    deadline_ns,
    group_budget,
    is_settled,
    is_unfinished,
)
from nodestate.fsm.state import State
from nodestate.model.allocation import Allocation
from nodestate.model.command import (
    SERVER,
    CompletedDrain,
    CompleteDrains,
    MarkAllocations,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobType, TaskGroup
from nodestate.model.node import DrainStrategy, Node, NodeKey
from nodestate.planning.reconcile import Steps, in_order

T = TypeVar("T")

DRAINS_PER_COMMAND_MAX: Final = 512
MARKS_PER_COMMAND_MAX: Final = 512

GroupKey = tuple[JobKey, str]


class DrainPlan(NamedTuple):
    """What a pass has found.

    `forced_ids` and `system_ids` are allocations to mark whatever their groups say,
    `paced_ids` those that their groups let go now. `completions` are drains that are
    over once these are marked. `next_deadline_ns` is when the next drain that is not over
    has to be forced, `None` if there is none.
    """

    forced_ids: tuple[str, ...] = ()
    paced_ids: tuple[str, ...] = ()
    system_ids: tuple[str, ...] = ()
    completions: tuple[CompletedDrain, ...] = ()
    next_deadline_ns: int | None = None

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to propose."""
        return not (
            self.forced_ids or self.paced_ids or self.system_ids or self.completions
        )


def plan_drains(state: State, now_ns: int) -> Steps[DrainPlan]:
    """Return what is to be done about drains now.

    Service and batch allocations hold a drain up until they are reported over, or its
    deadline passes; then all are marked, and the drain ends without waiting for them: in
    the same plan, or agents that are quick would make it look as if it had not been cut
    short. System ones are marked last, and the drain ends in the pass after that.
    """
    survey = _Survey(now_ns)
    for key, node in state.draining_nodes():
        yield
        survey.take(key, node, state.allocations_on(key))
    paced: list[str] = []
    for job_key in sorted(survey.job_keys):
        yield
        paced += _paced_ids(state, job_key, survey.open_keys)
    return DrainPlan(
        forced_ids=tuple(survey.forced_ids),
        paced_ids=tuple(paced),
        system_ids=tuple(survey.system_ids),
        completions=tuple(survey.completions),
        next_deadline_ns=survey.next_deadline_ns,
    )


def drain_commands(
    plan: DrainPlan, now_ns: int, new_seed: Callable[[], bytes]
) -> Iterator[MarkAllocations | CompleteDrains]:
    """Yield the commands that carry the plan out, in the order they are to be applied."""
    for ids, is_paced in (
        (plan.forced_ids, False),
        (plan.paced_ids, True),
        (plan.system_ids, False),
    ):
        for batch in in_batches(ids, MARKS_PER_COMMAND_MAX):
            yield MarkAllocations(
                at_ns=now_ns,
                asked_by=SERVER,
                ids=batch,
                seed=new_seed(),
                is_drain=True,
                is_paced=is_paced,
            )
    for drains in in_batches(plan.completions, DRAINS_PER_COMMAND_MAX):
        yield CompleteDrains(at_ns=now_ns, asked_by=SERVER, drains=drains)


def in_batches(items: Iterable[T], size_max: int) -> Iterator[tuple[T, ...]]:
    """Yield the items in their order, so many at a time."""
    rest = iter(items)
    while batch := tuple(islice(rest, size_max)):
        yield batch


def _is_to_mark(allocation: Allocation) -> bool:
    return not (allocation.is_terminal or allocation.is_migrating)


class _Survey:
    """What is on the nodes that drain."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self.forced_ids: list[str] = []
        self.system_ids: list[str] = []
        self.completions: list[CompletedDrain] = []
        self.next_deadline_ns: int | None = None
        self.open_keys: dict[NodeKey, None] = {}
        self.job_keys: dict[JobKey, None] = {}

    def take(self, key: NodeKey, node: Node, allocations: list[Allocation]) -> None:
        """Say what a node needs; one that has to wait is for the groups to look at."""
        strategy = node.drain_strategy
        if strategy is None:
            return
        system_ids = [
            allocation.id
            for allocation in allocations
            if allocation.job_type is JobType.SYSTEM
            and _is_to_mark(allocation)
            and not strategy.ignore_system_jobs
        ]
        unfinished = [one for one in allocations if is_unfinished(one)]
        deadline = deadline_ns(strategy)
        if not unfinished:
            self.system_ids += system_ids
            if not system_ids:
                self._end(key, node, is_forced=False)
        elif deadline is not None and self._now_ns >= deadline:
            self.forced_ids += [one.id for one in unfinished if _is_to_mark(one)]
            self.forced_ids += system_ids
            self._end(key, node, is_forced=True)
        else:
            self.open_keys[key] = None
            self.job_keys |= {one.job_key: None for one in unfinished}
            if deadline is not None:
                known = self.next_deadline_ns
                self.next_deadline_ns = min(known or deadline, deadline)

    def _end(self, key: NodeKey, node: Node, *, is_forced: bool) -> None:
        self.completions.append(
            CompletedDrain(key, node.modify_index, deadline_reached=is_forced)
        )


def _paced_ids(
    state: State, job_key: JobKey, open_keys: Iterable[NodeKey]
) -> list[str]:
    """Return the allocations of a job that its groups let go now."""
    job = state.job(job_key)
    if job is None:
        return []
    allocations = in_order(state.allocations_of(job_key))
    ids: list[str] = []
    for group in job.task_groups:
        candidates = [
            one.id
            for one in allocations
            if one.task_group == group.name
            and one.node_key in open_keys
            and one.job_type is not JobType.SYSTEM
            and _is_to_mark(one)
        ]
        if candidates:
            ids += candidates[: group_budget(group, allocations)]
    return ids


# Why it takes so long


class Waits(StrEnum):
    """What allocations of a group wait for that are not told to move yet."""

    NOTHING = ""
    MAX_PARALLEL = "max_parallel"
    HEALTH = "health"
    ROOM = "room"
    FINISH = "finish"
    LAST = "last"
    DEADLINE = "deadline"
    IGNORED = "ignored"


class GroupDrain(NamedTuple):
    """How the allocations of one group on a draining node do; ids in order of their age.

    `moving_ids` are told to move, or to stop, and not over yet; `next_ids` would be told
    now. `waiting_ids` wait, for `waits`; where that is `FINISH` they end by themselves.
    `max_parallel`, `wanted_count` and `settled_count` are the group's, on all nodes: how
    many may move at once, how many are wanted, and how many run and have had their health
    judged. `finished_count` is how many on this node are over.
    """

    job_key: JobKey
    task_group: str
    job_type: JobType
    moving_ids: tuple[str, ...]
    next_ids: tuple[str, ...]
    waiting_ids: tuple[str, ...]
    waits: Waits
    wanted_count: int
    max_parallel: int
    settled_count: int
    finished_count: int


class DrainView(NamedTuple):
    """A drain as it is, or as it would be; `deadline_ns` as in `deadline_ns`."""

    is_draining: bool
    deadline_ns: int | None
    ignore_system_jobs: bool
    groups: tuple[GroupDrain, ...]

    @property
    def is_done(self) -> bool:
        """Say whether nothing holds the drain up."""
        return not any(
            group.moving_ids or group.next_ids or group.waiting_ids
            for group in self.groups
            if group.job_type is not JobType.SYSTEM
        )


def view_drain(
    state: State, key: NodeKey, now_ns: int, asked: DrainStrategy | None = None
) -> DrainView | None:
    """Return how the node's drain does, or what one as `asked` would do now.

    Of what is asked for, `deadline` counts from now. `None` if there is no such node, or
    it does not drain and nothing is asked for.
    """
    node = state.node(key)
    strategy = asked or (None if node is None else node.drain_strategy)
    if node is None or strategy is None:
        return None
    deadline = deadline_ns(strategy)
    if asked is not None and asked.deadline > 0:
        deadline = now_ns + asked.deadline
    groups: dict[GroupKey, list[Allocation]] = {}
    for allocation in in_order(state.allocations_on(key)):
        group_key = allocation.job_key, allocation.task_group
        groups.setdefault(group_key, []).append(allocation)
    is_forced = deadline is not None and now_ns >= deadline
    is_held_up = any(
        is_unfinished(one) for allocations in groups.values() for one in allocations
    )
    look = _GroupLook(
        state,
        open_keys=dict.fromkeys((key, *state.draining_keys)),
        ignore_system_jobs=strategy.ignore_system_jobs,
        is_forced=is_forced,
        is_held_up=is_held_up,
    )
    return DrainView(
        is_draining=node.is_draining,
        deadline_ns=deadline,
        ignore_system_jobs=strategy.ignore_system_jobs,
        groups=tuple(look.view(*one, groups[one]) for one in sorted(groups)),
    )


class _GroupLook(NamedTuple):
    """What there is to know about a node before its groups are looked at."""

    state: State
    open_keys: dict[NodeKey, None]
    ignore_system_jobs: bool
    is_forced: bool
    is_held_up: bool

    def view(
        self, job_key: JobKey, group_name: str, allocations: list[Allocation]
    ) -> GroupDrain:
        """Return how a group does; `allocations` are those on the node."""
        job = self.state.job(job_key)
        group = None if job is None else job.group(group_name)
        everywhere = [
            one
            for one in self.state.allocations_of(job_key)
            if one.task_group == group_name
        ]
        stay = [one.id for one in allocations if _is_to_mark(one)]
        next_ids, waits = self._next(job, group, allocations[0].job_type, stay)
        waiting = tuple(id_ for id_ in stay if id_ not in next_ids)
        return GroupDrain(
            job_key=job_key,
            task_group=group_name,
            job_type=allocations[0].job_type,
            moving_ids=tuple(
                one.id
                for one in allocations
                if not one.is_client_terminal and not _is_to_mark(one)
            ),
            next_ids=next_ids,
            waiting_ids=waiting,
            waits=waits if waiting else Waits.NOTHING,
            wanted_count=0 if group is None else group.count,
            max_parallel=(
                0
                if group is None or group.migrate is None
                else group.migrate.max_parallel
            ),
            settled_count=sum(is_settled(one) for one in everywhere),
            finished_count=sum(one.is_client_terminal for one in allocations),
        )

    def _next(
        self,
        job: Job | None,
        group: TaskGroup | None,
        job_type: JobType,
        stay: list[str],
    ) -> tuple[tuple[str, ...], Waits]:
        """Return which would be told to move now, and what the others wait for."""
        if job_type is JobType.SYSTEM:
            if self.ignore_system_jobs:
                return (), Waits.IGNORED
            is_held_up = self.is_held_up and not self.is_forced
            return ((), Waits.LAST) if is_held_up else (tuple(stay), Waits.NOTHING)
        if self.is_forced:
            return tuple(stay), Waits.NOTHING
        if job_type is JobType.BATCH:
            return (), Waits.FINISH
        if job is None or group is None or group.migrate is None:
            return (), Waits.DEADLINE
        if not group.migrate.max_parallel:
            return (), Waits.DEADLINE
        paced = _paced_ids(self.state, job.key, self.open_keys)
        next_ids = tuple(id_ for id_ in paced if id_ in stay)
        return next_ids, self._why(job, group)

    def _why(self, job: Job, group: TaskGroup) -> Waits:
        """Return what keeps a group from moving more at once."""
        if any(
            group.name in self._failed_groups(one)
            for one in self.state.evaluations_of(job.key)
            if one.is_blocked
        ):
            return Waits.ROOM
        is_judged = all(
            is_settled(one)
            for one in self.state.allocations_of(job.key)
            if one.task_group == group.name and _is_to_mark(one)
        )
        return Waits.MAX_PARALLEL if is_judged else Waits.HEALTH

    def _failed_groups(self, blocked: Evaluation) -> Collection[str]:
        """Return the groups for which there is no room, as far as that is known."""
        if blocked.failed_tg_allocs is not None:
            return blocked.failed_tg_allocs
        previous = self.state.evaluations.get(blocked.previous_eval)
        return (None if previous is None else previous.failed_tg_allocs) or ()
