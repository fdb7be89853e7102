"""Which evaluations a node's change makes, in the very entry that makes the change."""

import hashlib
from typing import NamedTuple

from nodestate.fsm.state import EVALUATIONS, State
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import EvaluationCreated
from nodestate.model.job import JobKey, JobType
from nodestate.model.node import Node, NodeKey


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
    for job_key, job in state.jobs.items():
        if job.is_wanted_on(node.datacenter):
            wanted.setdefault(job_key, (job.type, job.priority))
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


def evolve_evaluation_created(
    state: State, event: EvaluationCreated, index: int
) -> None:
    """Write the evaluation."""
    state.evaluations[event.evaluation.id] = event.evaluation
    state.indexes[EVALUATIONS] = index
