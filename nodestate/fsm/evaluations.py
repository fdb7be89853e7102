"""Evaluations: which ones a change makes, in its very entry, and what becomes of them."""

import hashlib
from typing import Final, NamedTuple

from msgspec.structs import replace

from nodestate.fsm.state import EVALUATIONS, State
from nodestate.model.command import EvaluationChange, UpdateEvaluations
from nodestate.model.evaluation import (
    EVAL_CANCELED,
    EVAL_COMPLETE,
    Evaluation,
    Trigger,
)
from nodestate.model.event import (
    EvaluationCreated,
    EvaluationRemoved,
    EvaluationUpdated,
    Event,
)
from nodestate.model.job import Job, JobKey, JobType
from nodestate.model.node import Node, NodeKey
from nodestate.model.outcome import EVALUATION_IS_OLD, RefusalCode, Refused

_NO_NODE: Final = NodeKey("")


class Cause(NamedTuple):
    """The entry that makes evaluations: its index, its time, its seed for their ids."""

    entry_index: int
    at_ns: int
    seed: bytes


def decide_node_evaluations(
    state: State, key: NodeKey, node: Node, cause: Cause, *, node_modify_index: int
) -> list[EvaluationCreated]:
    """Return one evaluation per job that a node's change concerns, sorted by job.

    Those are the jobs with an allocation there that is not finished, and the system jobs
    that want the node's datacenter and are not stopped.
    """
    wanted: dict[JobKey, tuple[JobType, int]] = {}
    for allocation in state.allocations_on(key):
        if not allocation.is_finished:
            job_key = JobKey((allocation.namespace, allocation.job_id))
            wanted[job_key] = (allocation.job_type, allocation.job_priority)
    for job in state.system_jobs():
        if job.is_wanted_on(node.datacenter):
            wanted.setdefault(job.key, (job.type, job.priority))
    ids = {job_key: derived_id(cause.seed, key, job_key) for job_key in wanted}
    return [
        EvaluationCreated(
            Evaluation(
                id=ids[job_key],
                namespace=job_key[0],
                job_id=job_key[1],
                type=kind,
                priority=priority,
                node_id=node.id,
                node_modify_index=node_modify_index,
                create_time=cause.at_ns,
                modify_time=cause.at_ns,
                create_index=cause.entry_index,
                modify_index=cause.entry_index,
            )
        )
        for job_key, (kind, priority) in sorted(wanted.items())
        if not _is_made(state, ids[job_key], cause)
    ]


def _is_made(state: State, id_: str, cause: Cause) -> bool:
    """Say whether this very entry has made it: a batch may name a node twice."""
    made = state.evaluations.get(id_)
    return made is not None and made.create_index == cause.entry_index


def derived_id(seed: bytes, key: NodeKey, job_key: JobKey) -> str:
    """Return the UUID that the seed gives for a node and a job: the same everywhere."""
    source = "\0".join((key, *job_key)).encode()
    digest = bytearray(hashlib.sha256(seed + source).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


# One for a job


def decide_job_evaluation(
    job: Job, trigger: Trigger, cause: Cause, *, job_modify_index: int = 0
) -> EvaluationCreated:
    """Return the evaluation that has a scheduler look at the job."""
    return make_evaluation(
        job.key,
        (job.type, job.priority),
        trigger,
        cause,
        job_modify_index=job_modify_index,
    )


def make_evaluation(
    job_key: JobKey,
    kind: tuple[JobType, int],
    trigger: Trigger,
    cause: Cause,
    *,
    job_modify_index: int = 0,
) -> EvaluationCreated:
    """Return the evaluation of a job of that type and priority, be it there or not."""
    return EvaluationCreated(
        Evaluation(
            id=derived_id(cause.seed, _NO_NODE, job_key),
            namespace=job_key[0],
            job_id=job_key[1],
            type=kind[0],
            priority=kind[1],
            triggered_by=trigger,
            job_modify_index=job_modify_index,
            create_time=cause.at_ns,
            modify_time=cause.at_ns,
            create_index=cause.entry_index,
            modify_index=cause.entry_index,
        )
    )


# What becomes of them


def decide_update_evaluations(
    state: State, command: UpdateEvaluations, index: int
) -> list[Event] | Refused:
    """Take each change that was made from the newest record; pass over all others."""
    updates = _Updates(state, index, command.at_ns)
    for change in command.changes:
        if not updates.take(change) and command.is_atomic:
            return Refused(RefusalCode.CONFLICT, EVALUATION_IS_OLD)
    return updates.events


class _Updates:
    """The changes of one entry, one after the other."""

    def __init__(self, state: State, index: int, at_ns: int) -> None:
        self._state = state
        self._index = index
        self._at_ns = at_ns
        self._written: dict[str, Evaluation] = {}
        self.events: list[Event] = []

    def take(self, change: EvaluationChange) -> bool:
        """Take a change; say whether it holds."""
        evaluation = change.evaluation
        stored = self._stored(evaluation.id)
        if stored is None:
            if change.modify_index:
                return False
            self._write(self._first(evaluation), is_new=True)
        else:
            if stored.is_terminal or stored.modify_index != change.modify_index:
                return False
            self._write(self._next(stored, evaluation), is_new=False)
        if evaluation.status == EVAL_COMPLETE and not evaluation.failed_tg_allocs:
            self._cancel_blocked(evaluation)
        return True

    def _stored(self, id_: str) -> Evaluation | None:
        return self._written.get(id_) or self._state.evaluations.get(id_)

    def _first(self, evaluation: Evaluation) -> Evaluation:
        return created_evaluation(evaluation, self._index, self._at_ns)

    def _next(self, stored: Evaluation, evaluation: Evaluation) -> Evaluation:
        return replace(
            evaluation,
            create_time=stored.create_time,
            modify_time=max(self._at_ns, stored.create_time + 1),
            create_index=stored.create_index,
            modify_index=self._index,
        )

    def _write(self, evaluation: Evaluation, *, is_new: bool) -> None:
        self._written[evaluation.id] = evaluation
        self.events.append(
            EvaluationCreated(evaluation) if is_new else EvaluationUpdated(evaluation)
        )

    def _cancel_blocked(self, successful: Evaluation) -> None:
        """End those that wait for room for the job: there is nothing left to place."""
        for evaluation in self._of_job(successful.job_key):
            if evaluation.is_blocked and evaluation.id != successful.id:
                canceled = replace(
                    evaluation,
                    status=EVAL_CANCELED,
                    status_description=f'evaluation "{successful.id}" successful',
                )
                self._write(self._next(evaluation, canceled), is_new=False)

    def _of_job(self, key: JobKey) -> list[Evaluation]:
        blocked = {
            evaluation.id: evaluation
            for evaluation in self._state.evaluations_of(key)
            if evaluation.is_blocked
        }
        for evaluation in self._written.values():
            if evaluation.job_key == key:
                blocked[evaluation.id] = evaluation
        return [blocked[id_] for id_ in sorted(blocked)]


def created_evaluation(evaluation: Evaluation, index: int, at_ns: int) -> Evaluation:
    """Return a new evaluation as it is stored."""
    create_time = evaluation.create_time or at_ns
    return replace(
        evaluation,
        create_time=create_time,
        modify_time=create_time,
        create_index=index,
        modify_index=index,
    )


# Written


def evolve_evaluation_written(
    state: State, event: EvaluationCreated | EvaluationUpdated, index: int
) -> None:
    """Write the evaluation."""
    state.put_evaluation(event.evaluation)
    state.indexes[EVALUATIONS] = index


def evolve_evaluation_removed(
    state: State, event: EvaluationRemoved, index: int
) -> None:
    """Remove the evaluation."""
    state.remove_evaluation(event.evaluation.id)
    state.indexes[EVALUATIONS] = index
