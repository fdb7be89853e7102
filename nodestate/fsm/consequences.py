"""What follows for jobs from what an entry does to their work: numbers and status.

A decision says what becomes of allocations and evaluations; the job's summary and status
are worked out here from the differences, once for each job and entry, never by counting
all of its work again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar, get_args

from msgspec.structs import asdict, replace

from nodestate.fsm.keys import ALLOCATION_EVENTS, EVALUATION_EVENTS
from nodestate.fsm.state import State
from nodestate.model.allocation import (
    COMPLETE,
    FAILED,
    LOST,
    PENDING,
    RUNNING,
    Allocation,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import (
    AllocationRemoved,
    EvaluationRemoved,
    Event,
    JobPurged,
    JobRegistered,
    JobStatusUpdated,
    JobStopped,
    JobSummaryUpdated,
    NodeWritten,
)
from nodestate.model.job import (
    GroupSummary,
    Job,
    JobKey,
    JobStatus,
    JobSummary,
    JobType,
)

_BINS: Final = {
    PENDING: "starting",
    RUNNING: "running",
    COMPLETE: "complete",
    FAILED: "failed",
    LOST: "lost",
}
R = TypeVar("R", Allocation, Evaluation)

_OF_NODES: Final = frozenset(get_args(NodeWritten))
_NEVER_COUNTED_DOWN: Final = frozenset({"complete", "failed"})


class _Draft:
    """One job as it comes out of the entry."""

    def __init__(self, state: State, key: JobKey, index: int) -> None:
        self._index = index
        self._stored = state.job_summaries.get(key)
        # Every job has numbers from its registration on. One without is from a state of
        # before jobs could be registered, and its entries leave it as it is.
        self.job = None if self._stored is None else state.jobs.get(key)
        work = state.work_of(key)
        self.live_count = work.live_allocations
        self.open_count = work.open_evaluations
        self._bins: dict[str, dict[str, int]] = {}
        if self._stored is not None:
            self._bins = {
                group: asdict(bins) for group, bins in self._stored.summary.items()
            }

    def take_job(self, job: Job) -> None:
        """Take a new version: each group has numbers, also one that has just come."""
        self.job = job
        for group in job.task_groups:
            self._bins.setdefault(group.name, asdict(GroupSummary()))

    def forget_job(self) -> None:
        """Count no more: the job is gone, and its numbers with it."""
        self.job = None

    def count_allocation(
        self, before: Allocation | None, after: Allocation | None
    ) -> None:
        """Count what became of an allocation."""
        self.live_count += _live(after) - _live(before)
        bins = self._bins_of(before if after is None else after)
        if bins is None:
            return
        if after is None:
            _forget(bins, before)
        elif before is None:
            bins["queued"] = max(0, bins["queued"] - 1)
            _put_in(bins, after.client_status)
        elif before.client_status != after.client_status:
            _take_out(bins, before.client_status)
            _put_in(bins, after.client_status)

    def _bins_of(self, allocation: Allocation | None) -> dict[str, int] | None:
        """Return the numbers that it counts in; those of a former job count nowhere."""
        if allocation is None or self.job is None:
            return None
        if allocation.job_create_index != self.job.create_index:
            return None
        return self._bins.get(allocation.task_group)

    def count_evaluation(
        self, before: Evaluation | None, after: Evaluation | None
    ) -> None:
        """Count what became of an evaluation, and what it says is still wanted."""
        self.open_count += _open(after) - _open(before)
        if after is None or self.job is None or _is_only_seen(before, after):
            return
        for group, count in (after.queued_allocations or {}).items():
            if group in self._bins:
                self._bins[group]["queued"] = count

    def events(self) -> Iterable[Event]:
        """Yield what changes of the job: numbers, then status."""
        if self.job is None:
            return
        summary = self._summary(self.job)
        if self._stored is None or summary.summary != self._stored.summary:
            yield JobSummaryUpdated(summary)
        status = self._status(self.job)
        if status is not self.job.status:
            yield JobStatusUpdated(
                replace(self.job, status=status, modify_index=self._index)
            )

    def _summary(self, job: Job) -> JobSummary:
        return JobSummary(
            job_id=job.id,
            namespace=job.namespace,
            summary={group: GroupSummary(**bins) for group, bins in self._bins.items()},
            create_index=(
                self._index if self._stored is None else self._stored.create_index
            ),
            modify_index=self._index,
        )

    def _status(self, job: Job) -> JobStatus:
        if job.type is JobType.SYSTEM:
            return JobStatus.DEAD if job.stop else JobStatus.RUNNING
        if self.live_count:
            return JobStatus.RUNNING
        # It has or had work, or it would not be looked at: no job is without from the start.
        return JobStatus.PENDING if self.open_count else JobStatus.DEAD


def _live(allocation: Allocation | None) -> int:
    return 0 if allocation is None or allocation.is_terminal else 1


def _open(evaluation: Evaluation | None) -> int:
    return 0 if evaluation is None or evaluation.is_terminal else 1


def _is_only_seen(before: Evaluation | None, after: Evaluation) -> bool:
    """Say whether a plan moved its index, and nothing has become of it yet."""
    return before is not None and after == replace(
        before, modify_index=after.modify_index, modify_time=after.modify_time
    )


def _forget(bins: dict[str, int], removed: Allocation | None) -> None:
    """Count out one that never ended: its node went, and nobody will say it is over."""
    if removed is not None and not removed.is_client_terminal:
        _take_out(bins, removed.client_status)


def _put_in(bins: dict[str, int], client_status: str) -> None:
    name = _BINS.get(client_status)
    if name is not None:
        bins[name] += 1


def _take_out(bins: dict[str, int], client_status: str) -> None:
    name = _BINS.get(client_status)
    if name is not None and name not in _NEVER_COUNTED_DOWN:
        bins[name] = max(0, bins[name] - 1)


class _Drafts:
    """The jobs that an entry touches, and its records as far as they have been read."""

    def __init__(self, state: State, index: int) -> None:
        self._state = state
        self._index = index
        self._jobs: dict[JobKey, _Draft] = {}
        self._allocations: dict[str, Allocation | None] = {}
        self._evaluations: dict[str, Evaluation | None] = {}

    def take(self, event: Event) -> None:
        """Take one event into account, in its turn."""
        if isinstance(event, ALLOCATION_EVENTS):
            self._take_allocation(
                event.allocation, is_removed=isinstance(event, AllocationRemoved)
            )
        elif isinstance(event, EVALUATION_EVENTS):
            self._take_evaluation(
                event.evaluation, is_removed=isinstance(event, EvaluationRemoved)
            )
        elif isinstance(event, JobRegistered | JobStopped):
            self._draft(event.job.key).take_job(event.job)
        elif isinstance(event, JobPurged):
            self._draft(event.job.key).forget_job()

    def _take_allocation(self, allocation: Allocation, *, is_removed: bool) -> None:
        after = None if is_removed else allocation
        before = _latest(self._allocations, self._state.allocations, allocation.id)
        self._draft(allocation.job_key).count_allocation(before, after)
        self._allocations[allocation.id] = after

    def _take_evaluation(self, evaluation: Evaluation, *, is_removed: bool) -> None:
        after = None if is_removed else evaluation
        before = _latest(self._evaluations, self._state.evaluations, evaluation.id)
        self._draft(evaluation.job_key).count_evaluation(before, after)
        self._evaluations[evaluation.id] = after

    def _draft(self, key: JobKey) -> _Draft:
        draft = self._jobs.get(key)
        if draft is None:
            draft = self._jobs[key] = _Draft(self._state, key, self._index)
        return draft

    def events(self) -> list[Event]:
        return [
            event for _, job in sorted(self._jobs.items()) for event in job.events()
        ]


def _latest(
    drafted: Mapping[str, R | None], stored: Mapping[str, R], id_: str
) -> R | None:
    return drafted[id_] if id_ in drafted else stored.get(id_)


def decide_consequences(
    state: State, events: Sequence[Event], index: int
) -> list[Event]:
    """Return what follows for the jobs whose work the events change."""
    if _OF_NODES.issuperset(map(type, events)):
        return []
    drafts = _Drafts(state, index)
    for event in events:
        drafts.take(event)
    return drafts.events()
