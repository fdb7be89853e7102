"""What a scheduler finds of a job, and what it wants changed: the parts both kinds share.

A reconciler compares what a job wants with what there is. It says what is to stop, and
what is to be placed; where, is for others to say. It is a generator that yields whenever
others may have their turn, and returns what it has found.
"""

from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeVar

from nodestate.model.allocation import (
    CLIENT_TERMINAL,
    NODE_DOWN,
    NOT_NEEDED,
    Allocation,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobVersionKey, TaskGroup
from nodestate.model.node import Node, NodeKey, NodeStatus
from nodestate.model.plan import Stop
from nodestate.planning.updates import is_destructive

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work in steps: `None` after each of them, and in the end the result."""

STEP_RECORDS: Final = 128
"""How many allocations are looked at in one step."""


class WorkView(Protocol):
    """What a reconciler reads besides the job's own records."""

    def node(self, key: NodeKey) -> Node | None:
        """Return the node, `None` if there is none."""

    def job_of(self, allocation: Allocation) -> Job | None:
        """Return the job as the allocation runs it."""


class Subject(NamedTuple):
    """What is looked at: an evaluation, its job, all allocations of all its versions.

    `job` is `None` once it is purged. `now_ns` is one time for the whole look.
    """

    evaluation: Evaluation
    job: Job | None
    allocations: tuple[Allocation, ...]
    view: WorkView
    now_ns: int

    @property
    def is_stopped(self) -> bool:
        """Say whether nothing of the job is to run."""
        return self.job is None or self.job.stop

    def is_gone(self, key: NodeKey) -> bool:
        """Say whether what is on the node is lost: it is down, or there is none."""
        node = self.view.node(key)
        return node is None or node.status is NodeStatus.DOWN


class Wanted(NamedTuple):
    """An allocation that is to be placed, on `node_key` if that is given.

    `previous` is the one whose place it takes. `stop_text` says that the previous one is
    to stop, but only if this one is placed; `is_update` that it still runs, and makes
    room only then. `is_rescheduling` says that it replaces one that failed.
    """

    name: str
    group: TaskGroup
    previous: Allocation | None = None
    stop_text: str = ""
    is_update: bool = False
    is_rescheduling: bool = False
    node_key: NodeKey | None = None


class InPlace(NamedTuple):
    """An allocation that may go on as one of the new version, if it still fits its node.

    Otherwise it is replaced by what `instead` says.
    """

    allocation: Allocation
    group: TaskGroup
    instead: Wanted


class Follower(NamedTuple):
    """Failed allocations that are replaced later, by one evaluation at `due_at_ns`."""

    due_at_ns: int
    allocations: tuple[Allocation, ...]


@dataclass(kw_only=True, slots=True)
class Changes:
    """What becomes of a group, in numbers: what a dry run shows."""

    ignored: int = 0
    placed: int = 0
    migrated: int = 0
    stopped: int = 0
    updated_in_place: int = 0
    updated: int = 0


@dataclass(kw_only=True, slots=True)
class Reconciled:
    """What is wanted: the stops happen whatever becomes of the placements."""

    stops: list[Stop] = field(default_factory=list)
    updates: list[InPlace] = field(default_factory=list)
    replacements: list[Wanted] = field(default_factory=list)
    placements: list[Wanted] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    changes: dict[str, Changes] = field(default_factory=dict)

    def changes_of(self, group_name: str) -> Changes:
        """Return the numbers of a group."""
        return self.changes.setdefault(group_name, Changes())

    def queued(self) -> Counter[str]:
        """Return how many allocations of each group are wanted now."""
        return Counter(
            wanted.group.name for wanted in (*self.replacements, *self.placements)
        )


def lost_stop(allocation: Allocation, description: str = NODE_DOWN) -> Stop:
    """Return the stop of an allocation whose node will never report it."""
    return Stop(
        id=allocation.id,
        node_key=allocation.node_key,
        description=description,
        is_lost=True,
    )


def stop(allocation: Allocation, description: str = NOT_NEEDED) -> Stop:
    """Return the stop of an allocation."""
    return Stop(id=allocation.id, node_key=allocation.node_key, description=description)


def in_order(allocations: Iterable[Allocation]) -> list[Allocation]:
    """Return allocations in the order in which they were made."""
    return sorted(allocations, key=lambda one: (one.create_index, one.id))


def sweep_lost(subject: Subject) -> Steps[list[Stop]]:
    """Return the stops that end what was still stopping when its node went away."""
    swept: list[Stop] = []
    for count, allocation in enumerate(subject.allocations):
        if count % STEP_RECORDS == 0:
            yield
        if not allocation.is_server_terminal:
            continue
        if allocation.client_status in CLIENT_TERMINAL:
            continue
        if subject.is_gone(allocation.node_key):
            swept.append(lost_stop(allocation))
    return swept


def stop_all(
    subject: Subject, allocations: Iterable[Allocation], found: Reconciled
) -> None:
    """Stop what still runs of a job, or of a group, that is not wanted any more."""
    for allocation in allocations:
        if allocation.is_terminal:
            continue
        is_gone = subject.is_gone(allocation.node_key)
        found.stops.append(lost_stop(allocation) if is_gone else stop(allocation))
        found.changes_of(allocation.task_group).stopped += 1


class Versions:
    """Compares what allocations run with what the job is now; once for each version."""

    def __init__(self, job: Job, view: WorkView) -> None:
        self._job = job
        self._view = view
        self._is_destructive: dict[tuple[JobVersionKey, str], bool] = {}

    def is_current(self, allocation: Allocation) -> bool:
        """Say whether the allocation runs the job as it is wanted now."""
        job = self._job
        return (
            allocation.job_modify_index == job.job_modify_index
            and allocation.job_create_index == job.create_index
        )

    def needs_replacement(self, allocation: Allocation) -> bool:
        """Say whether the allocation cannot go over to the job as it is now."""
        key = (allocation.version_key, allocation.task_group)
        known = self._is_destructive.get(key)
        if known is None:
            old = self._view.job_of(allocation)
            known = old is None or is_destructive(old, self._job, allocation.task_group)
            self._is_destructive[key] = known
        return known
