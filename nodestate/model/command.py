"""Everything that may be asked of the state machine: a tagged union, for ever.

Append new commands; never reuse a tag; give each new field a default that means what
old entries meant. A command carries every value that could differ between servers.
"""

import msgspec

from nodestate.model.acl import ACLPolicy, ACLRole, ACLToken
from nodestate.model.allocation import DesiredTransition, ReportedAllocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey
from nodestate.model.node import DrainStrategy, Node, NodeEvent, NodeKey, NodeStatus
from nodestate.model.plan import Plan
from nodestate.secret import Secret

ANONYMOUS = "anonymous"
SERVER = "server"


class Permit(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """From what it followed that a caller may do this: as of which indexes.

    `token_index` is that of the token, 0 for who has none; `rules_index` that of policies
    and roles. A server that lags behind, or that was asked a moment before the token was
    taken away, can so permit nothing that the log forbids.
    """

    token_index: int
    rules_index: int


class _Command(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What all commands carry: when it was asked, by whom, and why that was permitted.

    `asked_by` is a token's accessor, `anonymous`, `client:` and a node's id, or `server`.
    Without a `permit` nobody had to be asked.
    """

    at_ns: int
    asked_by: str = ANONYMOUS
    permit: Permit | None = None


class Registration(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One node as its agent sent it, checked, with its computed class.

    `secret_sha256` is the digest of the SecretID, which itself never enters the log. One
    that `is_known` is of a node that is there already: nobody permitted a new one.
    """

    key: NodeKey
    node: Node
    secret_sha256: bytes
    is_known: bool = False


class RegisterNodes(_Command, frozen=True, kw_only=True, tag="node.register"):
    """Register one node or many, each accepted or refused on its own.

    `seed` is what the ids of evaluations are derived from.
    """

    registrations: tuple[Registration, ...]
    seed: bytes


class UpdateNodeStatus(_Command, frozen=True, kw_only=True, tag="node.status"):
    """Set a node's status on its agent's word."""

    key: NodeKey
    status: NodeStatus
    secret_sha256: bytes
    seed: bytes


class MissHeartbeats(_Command, frozen=True, kw_only=True, tag="node.miss_heartbeat"):
    """Mark nodes down that were not heard of in time; unknown and down ones are passed over."""

    keys: tuple[NodeKey, ...]
    seed: bytes


class EmitNodeEvents(_Command, frozen=True, kw_only=True, tag="node.events"):
    """Add lines to a node's history on its agent's word."""

    key: NodeKey
    secret_sha256: bytes
    events: tuple[NodeEvent, ...]


class SetDrain(_Command, frozen=True, kw_only=True, tag="node.drain"):
    """Start, change or stop a drain.

    With a `strategy` (deadline and flag; the times are set from `at_ns` when it is
    applied) the drain starts or changes. Without one it stops, and `mark_eligible`
    says whether the node opens again. `accessor_id` is `LastDrain`'s text for who asked.
    """

    key: NodeKey
    strategy: DrainStrategy | None
    mark_eligible: bool = False
    accessor_id: str = ""
    meta: dict[str, str] | None = None
    seed: bytes


class CompletedDrain(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A drain that has ended.

    `modify_index` is the node's as the drainer saw it: a node that changed since is
    passed over, so that a late completion cannot end another drain.
    """

    key: NodeKey
    modify_index: int
    deadline_reached: bool = False


class CompleteDrains(_Command, frozen=True, kw_only=True, tag="node.drain_complete"):
    """End the drains of nodes that have nothing left to move."""

    drains: tuple[CompletedDrain, ...]


class SetEligibility(_Command, frozen=True, kw_only=True, tag="node.eligibility"):
    """Open a node for placements, or close it."""

    key: NodeKey
    eligibility: str
    seed: bytes


class EvaluateNode(_Command, frozen=True, kw_only=True, tag="node.evaluate"):
    """Make evaluations for whatever concerns a node."""

    key: NodeKey
    seed: bytes


class PurgeNodes(_Command, frozen=True, kw_only=True, tag="node.purge"):
    """Remove nodes, all or none."""

    keys: tuple[NodeKey, ...]
    seed: bytes


class BeginRestore(_Command, frozen=True, kw_only=True, tag="restore.begin"):
    """Announce a whole state that is to take the place of this one.

    `byte_count` and `sha256` are those of all its pieces, one behind the other.
    """

    restore_id: str
    byte_count: int
    sha256: bytes


class AddRestorePiece(_Command, frozen=True, kw_only=True, tag="restore.piece"):
    """Add the next piece, `number` counting from 0."""

    restore_id: str
    number: int
    piece: bytes


class FinishRestore(_Command, frozen=True, kw_only=True, tag="restore.finish"):
    """Have the announced state take the place of this one, all of it at once."""

    restore_id: str


class AbandonRestore(_Command, frozen=True, kw_only=True, tag="restore.abandon"):
    """Forget the announced state."""

    restore_id: str


class RegisterJob(_Command, frozen=True, kw_only=True, tag="job.register"):
    """Register a job, whole and valid, and have it looked at.

    With `is_index_enforced` the job's `job_modify_index` must be `enforced_index`; 0 is a
    job that must not be there yet.
    """

    job: Job
    seed: bytes
    is_index_enforced: bool = False
    enforced_index: int = 0


class DeregisterJob(_Command, frozen=True, kw_only=True, tag="job.deregister"):
    """Stop a job, or forget it, and have it looked at."""

    key: JobKey
    seed: bytes
    is_purge: bool = False


class EvaluateJob(_Command, frozen=True, kw_only=True, tag="job.evaluate"):
    """Have a job looked at; with `force_reschedule` its failed allocations are replaced."""

    key: JobKey
    seed: bytes
    force_reschedule: bool = False


class AgentReport(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What one agent says of allocations on its node."""

    key: NodeKey
    secret_sha256: bytes
    allocations: tuple[ReportedAllocation, ...]


class ReportAllocations(_Command, frozen=True, kw_only=True, tag="allocation.report"):
    """Take down what agents report, each agent's report accepted or refused on its own."""

    reports: tuple[AgentReport, ...]
    seed: bytes


class MarkAllocations(_Command, frozen=True, kw_only=True, tag="allocation.mark"):
    """Tell schedulers what to do with allocations, and have their jobs looked at.

    `is_drain` marks hold only where the node still drains. With `is_paced`, or where the
    drain's deadline is not over, they also keep to what the group's `migrate` lets move
    at once, as things stand when they are applied, and to it that system jobs go last.
    Without `is_drain` an operator asks, and it holds for whatever still runs.
    """

    ids: tuple[str, ...]
    seed: bytes
    transition: DesiredTransition = DesiredTransition(migrate=True)
    is_drain: bool = False
    is_paced: bool = False


class ApplyPlan(_Command, frozen=True, kw_only=True, tag="plan.apply"):
    """Carry out what of a plan still fits, and keep the evaluations it calls for later."""

    plan: Plan
    evaluations: tuple[Evaluation, ...] = ()


class EvaluationChange(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An evaluation as it is to be.

    `modify_index` is that of the record it takes the place of, 0 for a new one: where
    the record has changed since, or is over, this change is passed over.
    """

    evaluation: Evaluation
    modify_index: int = 0


class UpdateEvaluations(_Command, frozen=True, kw_only=True, tag="evaluation.update"):
    """Write what became of evaluations, and those that follow from them.

    With `is_atomic` all of the changes hold or none.
    """

    changes: tuple[EvaluationChange, ...]
    is_atomic: bool = False


class SeenJob(msgspec.Struct, frozen=True, gc=False):
    """A job as it was seen: one that has changed since is passed over."""

    key: JobKey
    modify_index: int


class SeenNode(msgspec.Struct, frozen=True, gc=False):
    """A node as it was seen: one that has changed since is passed over."""

    key: NodeKey
    modify_index: int


class CollectGarbage(_Command, frozen=True, kw_only=True, tag="garbage.collect"):
    """Remove what is over. Whatever is still of use when this is applied stays."""

    jobs: tuple[SeenJob, ...] = ()
    allocation_ids: tuple[str, ...] = ()
    evaluation_ids: tuple[str, ...] = ()
    nodes: tuple[SeenNode, ...] = ()


class UpsertPolicies(_Command, frozen=True, kw_only=True, tag="acl.policy.upsert"):
    """Write policies, whole and valid; hashes and indexes are set when it is applied."""

    policies: tuple[ACLPolicy, ...]


class DeletePolicies(_Command, frozen=True, kw_only=True, tag="acl.policy.delete"):
    """Remove policies; whoever names one that is not there is as content."""

    names: tuple[str, ...]


class TokenWrite(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A token as it is to be, valid.

    A new one comes with its secret, a UUID in lower case. Without, it is a change: of its
    name, type, policies and roles, and the rest says what the stored one must be. Roles
    are linked by id or, where that is empty, by name.
    """

    token: ACLToken
    secret: Secret | None = None


class UpsertTokens(_Command, frozen=True, kw_only=True, tag="acl.token.upsert"):
    """Write tokens, all or none."""

    tokens: tuple[TokenWrite, ...]


class DeleteTokens(_Command, frozen=True, kw_only=True, tag="acl.token.delete"):
    """Remove tokens, all or none."""

    accessor_ids: tuple[str, ...]


class BootstrapACL(_Command, frozen=True, kw_only=True, tag="acl.bootstrap"):
    """Make the first management token; where there is one, only a reset makes another.

    `reset_index` is what the operator has written into the leader's reset file, 0 where
    there is none. `secret` is a UUID in lower case, as is `accessor_id`.
    """

    accessor_id: str
    secret: Secret
    reset_index: int = 0


class RoleWrite(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A role as it is to be, valid; hashes and indexes are set when it is applied."""

    role: ACLRole
    is_new: bool = False


class UpsertRoles(_Command, frozen=True, kw_only=True, tag="acl.role.upsert"):
    """Write roles, all or none."""

    roles: tuple[RoleWrite, ...]


class DeleteRoles(_Command, frozen=True, kw_only=True, tag="acl.role.delete"):
    """Remove roles, all or none; tokens that link to them keep their links."""

    ids: tuple[str, ...]


class ExpireTokens(_Command, frozen=True, kw_only=True, tag="acl.token.expire"):
    """Remove tokens whose time is over at `at_ns`; others among them are passed over."""

    accessor_ids: tuple[str, ...]


Restoring = BeginRestore | AddRestorePiece | FinishRestore | AbandonRestore

Command = (
    RegisterNodes
    | UpdateNodeStatus
    | MissHeartbeats
    | EmitNodeEvents
    | SetDrain
    | CompleteDrains
    | SetEligibility
    | EvaluateNode
    | PurgeNodes
    | BeginRestore
    | AddRestorePiece
    | FinishRestore
    | AbandonRestore
    | RegisterJob
    | DeregisterJob
    | EvaluateJob
    | ReportAllocations
    | MarkAllocations
    | ApplyPlan
    | UpdateEvaluations
    | CollectGarbage
    | UpsertPolicies
    | DeletePolicies
    | UpsertTokens
    | DeleteTokens
    | BootstrapACL
    | UpsertRoles
    | DeleteRoles
    | ExpireTokens
)
