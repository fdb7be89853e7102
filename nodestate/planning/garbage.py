"""What is over and old enough to be removed, a batch at a time.

Whether anybody still needs it is the state machine's to say (`fsm.garbage`), and it says
so again when the batch is applied.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

from nodestate.fsm.garbage import (
    is_allocation_spent,
    is_evaluation_spent,
    is_job_over,
    is_seen_node_gone,
)
from nodestate.fsm.state import State
from nodestate.model.command import SERVER, CollectGarbage, SeenJob, SeenNode
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobType
from nodestate.model.timestamp import NANOSECONDS
from nodestate.planning.reconcile import Steps

T = TypeVar("T")

_HOUR_NS: Final = 3_600 * NANOSECONDS
RECORDS_PER_COMMAND_MAX: Final = 512
STEP_RECORDS: Final = 512
"""How many records are looked at in one step."""


class Ages(NamedTuple):
    """How old what is over must be to go, in ns."""

    evaluations_ns: int = _HOUR_NS
    batch_evaluations_ns: int = 24 * _HOUR_NS
    jobs_ns: int = 4 * _HOUR_NS
    nodes_ns: int = 24 * _HOUR_NS


DEFAULT_AGES: Final = Ages()
_ALWAYS_NS: Final = -(1 << 63)
ANY_AGE: Final = Ages(_ALWAYS_NS, _ALWAYS_NS, _ALWAYS_NS, _ALWAYS_NS)
"""Whatever is over goes, even if the clock of whoever ended it is ahead."""


def plan_garbage(
    state: State,
    now_ns: int,
    ages: Ages = DEFAULT_AGES,
    *,
    count_max: int = RECORDS_PER_COMMAND_MAX,
) -> Steps[CollectGarbage | None]:
    """Return the command that removes what has gone stale, `None` if nothing has.

    It removes no more than `count_max` records; there may be more for a next one. Reads
    the state as it is in each step. Of a job that stays, the newest evaluation stays too:
    it says since when the job has been over.
    """
    survey = _Survey(state, now_ns, ages, count_max)
    yield from survey.take_jobs()
    yield from survey.take_allocations()
    yield from survey.take_evaluations()
    yield from survey.take_nodes()
    return survey.command()


class _Survey:
    """What has been found so far."""

    def __init__(self, state: State, now_ns: int, ages: Ages, count_max: int) -> None:
        self._state = state
        self._now_ns = now_ns
        self._ages = ages
        self._room = count_max
        self._jobs: dict[JobKey, SeenJob] = {}
        self._allocation_ids: dict[str, None] = {}
        self._evaluation_ids: list[str] = []
        self._nodes: list[SeenNode] = []

    def command(self) -> CollectGarbage | None:
        if not (
            self._jobs or self._allocation_ids or self._evaluation_ids or self._nodes
        ):
            return None
        return CollectGarbage(
            at_ns=self._now_ns,
            asked_by=SERVER,
            jobs=tuple(self._jobs.values()),
            allocation_ids=tuple(self._allocation_ids),
            evaluation_ids=tuple(self._evaluation_ids),
            nodes=tuple(self._nodes),
        )

    def _in_steps(self, items: Iterable[T]) -> Iterator[T | None]:
        """Yield items while there is room, and `None` where others may have their turn."""
        for count, item in enumerate(list(items)):
            if not self._room:
                return
            if count % STEP_RECORDS == 0:
                yield None
            yield item

    def _age_of(self, evaluation: Evaluation) -> int:
        """Return how old an evaluation must be; what is left of a job goes with others."""
        is_batch = evaluation.type is JobType.BATCH
        if is_batch and evaluation.job_key not in self._jobs:
            return self._ages.batch_evaluations_ns
        return self._ages.evaluations_ns

    def _is_old(self, since_ns: int, age_ns: int) -> bool:
        return self._now_ns - since_ns >= age_ns

    def take_jobs(self) -> Iterator[None]:
        for key in self._in_steps(sorted(self._state.jobs)):
            if key is None:
                yield
                continue
            job = self._state.job(key)
            if job is None or not is_job_over(self._state, job):
                continue
            if self._is_old(self._over_since_ns(job), self._ages.jobs_ns):
                self._jobs[key] = SeenJob(key, job.modify_index)
                self._room -= 1

    def _over_since_ns(self, job: Job) -> int:
        newest = self._newest_evaluation(job.key)
        return job.submit_time if newest is None else newest.modify_time

    def _newest_evaluation(self, key: JobKey) -> Evaluation | None:
        return max(
            self._state.evaluations_of(key),
            key=lambda evaluation: (evaluation.modify_index, evaluation.id),
            default=None,
        )

    def take_allocations(self) -> Iterator[None]:
        removed_jobs = frozenset(self._jobs)
        for id_ in self._in_steps(self._state.allocations):
            if id_ is None:
                yield
                continue
            allocation = self._state.allocations.get(id_)
            if allocation is None:
                continue
            is_old = self._is_old(allocation.modify_time, self._ages.evaluations_ns)
            if is_old and is_allocation_spent(self._state, id_, removed_jobs):
                self._allocation_ids[id_] = None
                self._room -= 1

    def take_evaluations(self) -> Iterator[None]:
        newest: dict[JobKey, str] = {}
        removed = frozenset(self._allocation_ids)
        for id_ in self._in_steps(self._state.evaluations):
            if id_ is None:
                yield
                continue
            evaluation = self._state.evaluations.get(id_)
            if evaluation is None:
                continue
            if not self._is_old(evaluation.modify_time, self._age_of(evaluation)):
                continue
            if not is_evaluation_spent(self._state, id_, removed):
                continue
            if not self._is_kept_for_its_job(evaluation, newest):
                self._evaluation_ids.append(id_)
                self._room -= 1

    def _is_kept_for_its_job(
        self, evaluation: Evaluation, newest: dict[JobKey, str]
    ) -> bool:
        key = evaluation.job_key
        if key in self._jobs or self._state.job(key) is None:
            return False
        if key not in newest:
            found = self._newest_evaluation(key)
            newest[key] = "" if found is None else found.id
        return newest[key] == evaluation.id

    def take_nodes(self) -> Iterator[None]:
        for key in self._in_steps(self._state.node_keys):
            if key is None:
                yield
                continue
            node = self._state.node(key)
            if node is None:
                continue
            since_ns = node.status_updated_at * NANOSECONDS
            seen = SeenNode(key, node.modify_index)
            is_old = self._is_old(since_ns, self._ages.nodes_ns)
            if is_old and is_seen_node_gone(self._state, seen):
                self._nodes.append(seen)
                self._room -= 1
