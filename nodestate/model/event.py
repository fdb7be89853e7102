"""Everything that can follow from a command: a tagged union, for ever.

An event has all that is needed to write the new records; writing them asks nothing
again. Node history, the event stream and the watchers are fed by the same events.
"""

import msgspec

from nodestate.model.acl import ACLBootstrap, ACLPolicy, ACLRole, ACLToken
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobSummary
from nodestate.model.node import Node, NodeKey
from nodestate.secret import Secret


class NodeRegistered(msgspec.Struct, frozen=True, gc=False, tag="node.registered"):
    """A node registered, for the first time or again."""

    key: NodeKey
    node: Node
    secret_sha256: bytes


class NodeStatusUpdated(
    msgspec.Struct, frozen=True, gc=False, tag="node.status_updated"
):
    """A node's status changed."""

    key: NodeKey
    node: Node


class NodeEventsAdded(msgspec.Struct, frozen=True, gc=False, tag="node.events_added"):
    """An agent added lines to its node's history."""

    key: NodeKey
    node: Node


class NodeDrainUpdated(msgspec.Struct, frozen=True, gc=False, tag="node.drain_updated"):
    """A drain started, changed, stopped or was complete."""

    key: NodeKey
    node: Node


class NodeEligibilityUpdated(
    msgspec.Struct, frozen=True, gc=False, tag="node.eligibility_updated"
):
    """A node opened or closed for placements."""

    key: NodeKey
    node: Node


class NodePurged(msgspec.Struct, frozen=True, gc=False, tag="node.purged"):
    """A node was removed; `node` is what it was."""

    key: NodeKey
    node: Node


class EvaluationCreated(
    msgspec.Struct, frozen=True, gc=False, tag="evaluation.created"
):
    """A change calls for a scheduler to look at a job."""

    evaluation: Evaluation


class StateRestored(msgspec.Struct, frozen=True, gc=False, tag="state.restored"):
    """A state from a snapshot took the place of the one that there was."""

    restore_id: str


class JobRegistered(msgspec.Struct, frozen=True, gc=False, tag="job.registered"):
    """A job was registered, for the first time or in a new version."""

    job: Job


class JobStopped(msgspec.Struct, frozen=True, gc=False, tag="job.stopped"):
    """A job is no longer wanted; this is its version that says so."""

    job: Job


class JobPurged(msgspec.Struct, frozen=True, gc=False, tag="job.purged"):
    """A job was forgotten; `job` is what it was."""

    job: Job


class JobStatusUpdated(msgspec.Struct, frozen=True, gc=False, tag="job.status_updated"):
    """A job's status changed, because of its allocations and evaluations."""

    job: Job


class JobSummaryUpdated(
    msgspec.Struct, frozen=True, gc=False, tag="job.summary_updated"
):
    """A job's numbers changed."""

    summary: JobSummary


class AllocationPlaced(msgspec.Struct, frozen=True, gc=False, tag="allocation.placed"):
    """A new allocation."""

    allocation: Allocation


class AllocationUpdated(
    msgspec.Struct, frozen=True, gc=False, tag="allocation.updated"
):
    """A plan stopped, changed or annotated an allocation, or replaced it."""

    allocation: Allocation


class AllocationMarked(msgspec.Struct, frozen=True, gc=False, tag="allocation.marked"):
    """A scheduler is told what to do with an allocation."""

    allocation: Allocation


class AllocationReported(
    msgspec.Struct, frozen=True, gc=False, tag="allocation.reported"
):
    """An agent said how an allocation does."""

    allocation: Allocation


class AllocationRemoved(
    msgspec.Struct, frozen=True, gc=False, tag="allocation.removed"
):
    """An allocation that was over was removed; this is what it was."""

    allocation: Allocation


class EvaluationUpdated(
    msgspec.Struct, frozen=True, gc=False, tag="evaluation.updated"
):
    """Something became of an evaluation."""

    evaluation: Evaluation


class EvaluationRemoved(
    msgspec.Struct, frozen=True, gc=False, tag="evaluation.removed"
):
    """An evaluation that was over was removed; this is what it was."""

    evaluation: Evaluation


class ACLPolicyUpserted(
    msgspec.Struct, frozen=True, gc=False, tag="acl.policy_upserted"
):
    """A policy was written, for the first time or anew."""

    policy: ACLPolicy


class ACLPolicyDeleted(msgspec.Struct, frozen=True, gc=False, tag="acl.policy_deleted"):
    """A policy was to be removed; `policy` is what it was, `None` if there was none."""

    name: str
    policy: ACLPolicy | None


class ACLTokenUpserted(msgspec.Struct, frozen=True, gc=False, tag="acl.token_upserted"):
    """A token was written; a new one with its secret."""

    token: ACLToken
    secret: Secret | None


class ACLTokenDeleted(msgspec.Struct, frozen=True, gc=False, tag="acl.token_deleted"):
    """A token was removed, or its time was over; this is what it was."""

    token: ACLToken


class ACLBootstrapped(msgspec.Struct, frozen=True, gc=False, tag="acl.bootstrapped"):
    """The first management token was made, or after a reset another one."""

    bootstrap: ACLBootstrap


class ACLRoleUpserted(msgspec.Struct, frozen=True, gc=False, tag="acl.role_upserted"):
    """A role was written, for the first time or anew."""

    role: ACLRole


class ACLRoleDeleted(msgspec.Struct, frozen=True, gc=False, tag="acl.role_deleted"):
    """A role was removed; this is what it was."""

    role: ACLRole


NodeWritten = (
    NodeRegistered
    | NodeStatusUpdated
    | NodeEventsAdded
    | NodeDrainUpdated
    | NodeEligibilityUpdated
    | NodePurged
)
AllocationWritten = (
    AllocationPlaced | AllocationUpdated | AllocationMarked | AllocationReported
)
JobWritten = JobRegistered | JobStopped | JobStatusUpdated

Event = (
    NodeRegistered
    | NodeStatusUpdated
    | NodeEventsAdded
    | NodeDrainUpdated
    | NodeEligibilityUpdated
    | NodePurged
    | EvaluationCreated
    | StateRestored
    | JobRegistered
    | JobStopped
    | JobPurged
    | JobStatusUpdated
    | JobSummaryUpdated
    | AllocationPlaced
    | AllocationUpdated
    | AllocationMarked
    | AllocationReported
    | AllocationRemoved
    | EvaluationUpdated
    | EvaluationRemoved
    | ACLPolicyUpserted
    | ACLPolicyDeleted
    | ACLTokenUpserted
    | ACLTokenDeleted
    | ACLBootstrapped
    | ACLRoleUpserted
    | ACLRoleDeleted
)
