"""Which keys an event touches: what its watchers wait for.

A table, one record of it, or the records that belong to something. A job's text is its
namespace and id with a NUL between, so that a prefix of ids is looked for in one
namespace.
"""

from collections.abc import Iterator
from typing import Final

from nodestate.fsm.state import ALLOCATIONS, EVALUATIONS, JOBS, NODES
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import (
    AllocationMarked,
    AllocationPlaced,
    AllocationRemoved,
    AllocationReported,
    AllocationUpdated,
    EvaluationCreated,
    EvaluationRemoved,
    EvaluationUpdated,
    Event,
    JobPurged,
    JobRegistered,
    JobStatusUpdated,
    JobStopped,
    JobSummaryUpdated,
    StateRestored,
)
from nodestate.model.job import JobKey
from nodestate.model.node import NodeKey

WatchKey = tuple[str, ...]

_NODE_ALLOCATIONS: Final = "node_allocations"
_JOB_ALLOCATIONS: Final = "job_allocations"
_JOB_EVALUATIONS: Final = "job_evaluations"
_EVALUATION_ALLOCATIONS: Final = "evaluation_allocations"

ALLOCATION_EVENTS: Final = (
    AllocationPlaced,
    AllocationUpdated,
    AllocationMarked,
    AllocationReported,
    AllocationRemoved,
)
EVALUATION_EVENTS: Final = (EvaluationCreated, EvaluationUpdated, EvaluationRemoved)
JOB_EVENTS: Final = (JobRegistered, JobStopped, JobStatusUpdated, JobPurged)


def job_text(key: JobKey) -> str:
    """Return a job's key as one text."""
    return "\0".join(key)


def job_key(key: JobKey) -> WatchKey:
    """Return the key of a job, its numbers among it."""
    return (JOBS, job_text(key))


def node_allocations_key(key: NodeKey) -> WatchKey:
    """Return the key of the allocations of a node."""
    return (_NODE_ALLOCATIONS, key)


def job_allocations_key(key: JobKey) -> WatchKey:
    """Return the key of the allocations of a job."""
    return (_JOB_ALLOCATIONS, job_text(key))


def job_evaluations_key(key: JobKey) -> WatchKey:
    """Return the key of the evaluations of a job."""
    return (_JOB_EVALUATIONS, job_text(key))


def evaluation_allocations_key(id_: str) -> WatchKey:
    """Return the key of the allocations that an evaluation made or changed."""
    return (_EVALUATION_ALLOCATIONS, id_)


def keys_of(event: Event) -> Iterator[WatchKey]:
    """Yield the keys that an event touches."""
    if isinstance(event, ALLOCATION_EVENTS):
        yield from _allocation_keys(event.allocation)
    elif isinstance(event, EVALUATION_EVENTS):
        yield from _evaluation_keys(event.evaluation)
    elif isinstance(event, JOB_EVENTS):
        yield (JOBS,)
        yield job_key(event.job.key)
    elif isinstance(event, JobSummaryUpdated):
        yield (JOBS,)
        yield job_key(JobKey((event.summary.namespace, event.summary.job_id)))
    elif not isinstance(event, StateRestored):
        yield (NODES,)
        yield (NODES, event.key)


def _allocation_keys(allocation: Allocation) -> Iterator[WatchKey]:
    yield (ALLOCATIONS,)
    yield (ALLOCATIONS, allocation.id)
    yield node_allocations_key(allocation.node_key)
    yield job_allocations_key(allocation.job_key)
    yield evaluation_allocations_key(allocation.eval_id)


def _evaluation_keys(evaluation: Evaluation) -> Iterator[WatchKey]:
    yield (EVALUATIONS,)
    yield (EVALUATIONS, evaluation.id)
    yield job_evaluations_key(evaluation.job_key)
