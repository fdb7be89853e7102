"""An evaluation from its beginning to its end: looks, plans, and what becomes of it.

Whoever drives it (a leader's loop, a test) gives it states and times, proposes the plans
that it makes, and tells it what became of them:

    scheduling = Scheduling(evaluation)
    while scheduling.is_open:
        command = yield from scheduling.look(state, index, now_ns)
        if command is not None:
            scheduling.take(...)    # what became of the plan
    ending = scheduling.end(state, now_ns)
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec.structs import replace

from nodestate.fsm.state import State
from nodestate.model.allocation import AllocMetric
from nodestate.model.command import SERVER, ApplyPlan, EvaluationChange
from nodestate.model.evaluation import (
    EVAL_BLOCKED,
    EVAL_CANCELED,
    EVAL_COMPLETE,
    EVAL_FAILED,
    Evaluation,
    Trigger,
)
from nodestate.model.job import Job, JobType
from nodestate.model.node import NodeKey
from nodestate.model.plan import Placement, PlanResult, Stop
from nodestate.planning.drafts import Draft, Ids, Look, child_of, draft_plan
from nodestate.planning.reconcile import Changes, Steps
from nodestate.planning.selection import ReadyNodes

ATTEMPTS_MAX: Final = {JobType.SERVICE: 5, JobType.BATCH: 2, JobType.SYSTEM: 5}
KNOWN_TRIGGERS: Final = frozenset(Trigger)

REMAINING: Final = "created to place remaining allocations"
CONFLICTS: Final = "created due to placement conflicts"


class Ending(NamedTuple):
    """What an evaluation has come to.

    `changes` are to be written all at once. There are none where an evaluation goes on
    waiting for room as it did; then it is `blocked`, as of the state it has seen.
    """

    changes: tuple[EvaluationChange, ...]
    blocked: Evaluation | None = None


class Scheduling:
    """The work on one evaluation."""

    def __init__(self, evaluation: Evaluation, ready: ReadyNodes | None = None) -> None:
        self._evaluation = evaluation
        self._ready = ready or ReadyNodes()
        self._failure = ""
        self._is_done = False
        self._attempt = 0
        self._vain_attempts = 0
        self._snapshot_index = 0
        self._draft: Draft | None = None
        self._queued: Counter[str] = Counter()
        if evaluation.triggered_by not in KNOWN_TRIGGERS:
            self._failure = (
                f"scheduler cannot handle '{evaluation.triggered_by}' evaluation reason"
            )

    @property
    def is_open(self) -> bool:
        """Say whether another look is needed."""
        return not (self._is_done or self._failure)

    def look(
        self, state: State, snapshot_index: int, now_ns: int
    ) -> Steps[ApplyPlan | None]:
        """Look at the job as it is now; return what is to be proposed, if anything is.

        `snapshot_index` is the index of the last entry that the state has.
        """
        evaluation = state.evaluations.get(self._evaluation.id, self._evaluation)
        self._evaluation = evaluation
        self._snapshot_index = self._snapshot_index or snapshot_index
        look = Look(
            state=state,
            snapshot_index=snapshot_index,
            evaluation=evaluation,
            job=state.job(evaluation.job_key),
            now_ns=now_ns,
            attempt=self._attempt,
            ready=self._ready,
        )
        draft = yield from draft_plan(look)
        self._attempt += 1
        self._draft = draft
        self._queued = Counter(draft.queued)
        if draft.is_empty:
            self._is_done = True
            return None
        return ApplyPlan(
            at_ns=now_ns,
            asked_by=SERVER,
            plan=draft.plan,
            evaluations=draft.followers,
        )

    def take(self, result: PlanResult) -> None:
        """Take down what became of the plan."""
        assert self._draft is not None, "a plan is proposed once it is there"
        dropped = set(result.dropped)
        for placement in self._draft.plan.placements:
            if placement.id not in dropped:
                self._queued[placement.task_group] -= 1
        if not (result.refresh_index or self._draft.is_cut):
            self._is_done = True
            return
        is_progress = (
            result.placed_count or result.stopped_count or result.updated_count
        )
        self._vain_attempts = 0 if is_progress else self._vain_attempts + 1
        attempts_max = ATTEMPTS_MAX[self._evaluation.type]
        if self._vain_attempts >= attempts_max:
            self._failure = f"maximum attempts reached ({attempts_max})"

    def end(self, state: State, now_ns: int) -> Ending:
        """Return what is to be written of the evaluation, and of those that follow."""
        assert not self.is_open, "an evaluation is looked at until it is done"
        stored = state.evaluations.get(self._evaluation.id, self._evaluation)
        self._evaluation = stored
        draft = self._draft
        failed = draft.failed if draft is not None else {}
        ended = replace(
            stored,
            failed_tg_allocs=failed or None,
            queued_allocations={group: max(0, n) for group, n in self._queued.items()},
            snapshot_index=self._snapshot_index,
            modify_time=now_ns,
        )
        followers = _Followers(state, stored, self._snapshot_index, now_ns)
        if self._failure:
            return self._fail(ended, followers)
        if draft is not None and failed:
            if self._is_system(state):
                return _end_system(ended, draft, followers)
            return _end_generic(ended, followers)
        complete = replace(ended, status=EVAL_COMPLETE, status_description="")
        return Ending((followers.change(complete),))

    def _is_system(self, state: State) -> bool:
        job = state.job(self._evaluation.job_key)
        return (job.type if job is not None else self._evaluation.type) is (
            JobType.SYSTEM
        )

    def _fail(self, ended: Evaluation, followers: "_Followers") -> Ending:
        failed = replace(ended, status=EVAL_FAILED, status_description=self._failure)
        if not self._vain_attempts or ended.type is JobType.SYSTEM:
            return Ending((followers.change(failed),))
        blocked = followers.blocked(Trigger.MAX_PLAN_ATTEMPTS, CONFLICTS)
        failed = replace(failed, blocked_eval=blocked.id)
        return Ending(followers.superseding(failed, blocked))


class _Followers:
    """The evaluations that follow from one that has ended, and those that end with it."""

    def __init__(
        self, state: State, evaluation: Evaluation, snapshot_index: int, now_ns: int
    ) -> None:
        self._state = state
        self.stored = evaluation
        self._snapshot_index = snapshot_index
        self._now_ns = now_ns
        self._ids = Ids(
            "blocked", evaluation.id, evaluation.modify_index, snapshot_index, now_ns
        )

    def change(self, ended: Evaluation) -> EvaluationChange:
        """Return what becomes of the evaluation itself."""
        return EvaluationChange(ended, self.stored.modify_index)

    def blocked(
        self, trigger: Trigger, description: str, node_id: str = ""
    ) -> Evaluation:
        """Return a new evaluation that waits for room, on whatever node or on one."""
        return child_of(
            self.stored,
            self._ids.new_id(),
            trigger,
            node_id=node_id,
            status=EVAL_BLOCKED,
            status_description=description,
            escaped_computed_class=True,
            snapshot_index=self._snapshot_index,
            create_time=self._now_ns,
        )

    def waiting(self) -> list[Evaluation]:
        """Return what waits for room already, for the same job."""
        return [
            one
            for one in self._state.evaluations_of(self.stored.job_key)
            if one.is_blocked and one.id != self.stored.id
        ]

    def superseding(
        self, ended: Evaluation, blocked: Evaluation
    ) -> tuple[EvaluationChange, ...]:
        """Return the changes after which the one that is new waits alone for its job."""
        return (
            self.change(ended),
            EvaluationChange(blocked),
            *(
                EvaluationChange(canceled(one), one.modify_index)
                for one in self.waiting()
            ),
        )

    def is_news(self, ended: Evaluation) -> bool:
        """Say whether other numbers are wanted now than the job's own say."""
        summary = self._state.job_summaries.get(ended.job_key)
        groups = {} if summary is None else summary.summary
        return any(
            count != groups[group].queued
            for group, count in (ended.queued_allocations or {}).items()
            if group in groups
        )

    def node_id(self, key: NodeKey) -> str:
        """Return the id of a node as it is shown."""
        node = self._state.node(key)
        return node.id if node is not None else ""


def canceled(duplicate: Evaluation) -> Evaluation:
    """Return an evaluation that need not wait, because another one of its job does."""
    return replace(
        duplicate,
        status=EVAL_CANCELED,
        status_description=(
            f'existing blocked evaluation exists for job "{duplicate.job_id}"'
        ),
    )


def _end_generic(ended: Evaluation, followers: _Followers) -> Ending:
    if ended.is_blocked:
        return _block_again(ended, followers)
    blocked = followers.blocked(Trigger.QUEUED_ALLOCS, REMAINING)
    complete = replace(
        ended,
        status=EVAL_COMPLETE,
        status_description="",
        blocked_eval=blocked.id,
    )
    return Ending(followers.superseding(complete, blocked))


def _block_again(ended: Evaluation, followers: _Followers) -> Ending:
    """Let it wait on; that is written only if other numbers are wanted now."""
    changes = (followers.change(ended),) if followers.is_news(ended) else ()
    return Ending(changes, blocked=ended)


def _end_system(ended: Evaluation, draft: Draft, followers: _Followers) -> Ending:
    """Have one evaluation wait for each node that is full."""
    full_ids = {followers.node_id(key): None for key in draft.full_keys}
    is_waiting_on = ended.is_blocked and ended.node_id in full_ids
    known = {one.node_id for one in followers.waiting()}
    if is_waiting_on:
        known.add(ended.node_id)
    new = [
        EvaluationChange(
            followers.blocked(Trigger.QUEUED_ALLOCS, REMAINING, node_id=node_id)
        )
        for node_id in full_ids
        if node_id and node_id not in known
    ]
    if is_waiting_on:
        again = _block_again(ended, followers)
        return Ending((*again.changes, *new), blocked=again.blocked)
    complete = replace(ended, status=EVAL_COMPLETE, status_description="")
    return Ending((followers.change(complete), *new))


# A dry run


class Placed(NamedTuple):
    """An allocation that would be placed; `previous_id` is the one it replaces, or `""`."""

    name: str
    task_group: str
    node_key: NodeKey
    previous_id: str


@dataclass(kw_only=True, slots=True)
class DryRun:
    """What would become of a job, were it registered."""

    changes: dict[str, Changes] = field(default_factory=dict)
    failed: dict[str, AllocMetric] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    placed: tuple[Placed, ...] = ()
    stops: tuple[Stop, ...] = ()
    updated_ids: tuple[str, ...] = ()


def dry_run(state: State, job: Job, snapshot_index: int, now_ns: int) -> Steps[DryRun]:
    """Return what registering the job would do now; nothing is changed.

    The job's version and indexes have to differ from the stored one's if its text does.
    """
    evaluation = Evaluation(
        id="",
        namespace=job.namespace,
        job_id=job.id,
        type=job.type,
        priority=job.priority,
        triggered_by=Trigger.JOB_REGISTER,
        annotate_plan=True,
    )
    draft = yield from draft_plan(
        Look(state, snapshot_index, evaluation, job, now_ns, is_whole=True)
    )
    return DryRun(
        changes=draft.changes,
        failed=draft.failed,
        queued=draft.queued,
        placed=tuple(_placed(one) for one in draft.plan.placements),
        stops=draft.plan.stops,
        updated_ids=tuple(one.id for one in draft.plan.updates),
    )


def _placed(placement: Placement) -> Placed:
    return Placed(
        placement.name,
        placement.task_group,
        placement.node_key,
        placement.previous_allocation,
    )
