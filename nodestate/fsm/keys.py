"""Which keys an event touches: what its watchers wait for.

A table, one record of it, or the records that belong to something. A job's text is its
namespace and id with a NUL between, so that a prefix of ids is looked for in one
namespace.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

from nodestate.fsm.state import (
    ACL_BOOTSTRAP,
    ACL_POLICIES,
    ACL_ROLES,
    ACL_TOKENS,
    ALLOCATIONS,
    EVALUATIONS,
    JOBS,
    NODES,
)
from nodestate.model.event import (
    ACLBootstrapped,
    ACLPolicyDeleted,
    ACLPolicyUpserted,
    ACLRoleDeleted,
    ACLRoleUpserted,
    ACLTokenDeleted,
    ACLTokenUpserted,
    AllocationMarked,
    AllocationPlaced,
    AllocationRemoved,
    AllocationReported,
    AllocationUpdated,
    AllocationWritten,
    EvaluationCreated,
    EvaluationRemoved,
    EvaluationUpdated,
    Event,
    JobPurged,
    JobRegistered,
    JobStatusUpdated,
    JobStopped,
    JobSummaryUpdated,
    JobWritten,
    NodeWritten,
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


def keys_of(event: Event) -> tuple[WatchKey, ...]:
    """Return the keys that an event touches."""
    return _KEYS[type(event)](event)


def _node_keys(event: NodeWritten) -> tuple[WatchKey, ...]:
    return (NODES,), (NODES, event.key)


def _allocation_keys(
    event: AllocationWritten | AllocationRemoved,
) -> tuple[WatchKey, ...]:
    allocation = event.allocation
    return (
        (ALLOCATIONS,),
        (ALLOCATIONS, allocation.id),
        node_allocations_key(allocation.node_key),
        job_allocations_key(allocation.job_key),
        evaluation_allocations_key(allocation.eval_id),
    )


def _evaluation_keys(
    event: EvaluationCreated | EvaluationUpdated | EvaluationRemoved,
) -> tuple[WatchKey, ...]:
    evaluation = event.evaluation
    return (
        (EVALUATIONS,),
        (EVALUATIONS, evaluation.id),
        job_evaluations_key(evaluation.job_key),
    )


def _job_keys(event: JobWritten | JobPurged) -> tuple[WatchKey, ...]:
    return (JOBS,), job_key(event.job.key)


def _summary_keys(event: JobSummaryUpdated) -> tuple[WatchKey, ...]:
    return (JOBS,), job_key(JobKey((event.summary.namespace, event.summary.job_id)))


def _policy_keys(event: ACLPolicyUpserted) -> tuple[WatchKey, ...]:
    return (ACL_POLICIES,), (ACL_POLICIES, event.policy.name)


def _deleted_policy_keys(event: ACLPolicyDeleted) -> tuple[WatchKey, ...]:
    return (ACL_POLICIES,), (ACL_POLICIES, event.name)


def _token_keys(event: ACLTokenUpserted | ACLTokenDeleted) -> tuple[WatchKey, ...]:
    return (ACL_TOKENS,), (ACL_TOKENS, event.token.accessor_id)


def _role_keys(event: ACLRoleUpserted | ACLRoleDeleted) -> tuple[WatchKey, ...]:
    return (ACL_ROLES,), (ACL_ROLES, event.role.id)


def _bootstrap_keys(_: ACLBootstrapped) -> tuple[WatchKey, ...]:
    return ((ACL_BOOTSTRAP,),)


def _no_keys(_: StateRestored) -> tuple[WatchKey, ...]:
    return ()


_KEYS: Final[Mapping[type, Callable[[Any], tuple[WatchKey, ...]]]] = {
    **dict.fromkeys(get_args(NodeWritten), _node_keys),
    **dict.fromkeys(ALLOCATION_EVENTS, _allocation_keys),
    **dict.fromkeys(EVALUATION_EVENTS, _evaluation_keys),
    **dict.fromkeys(JOB_EVENTS, _job_keys),
    JobSummaryUpdated: _summary_keys,
    StateRestored: _no_keys,
    ACLPolicyUpserted: _policy_keys,
    ACLPolicyDeleted: _deleted_policy_keys,
    ACLTokenUpserted: _token_keys,
    ACLTokenDeleted: _token_keys,
    ACLBootstrapped: _bootstrap_keys,
    ACLRoleUpserted: _role_keys,
    ACLRoleDeleted: _role_keys,
}
