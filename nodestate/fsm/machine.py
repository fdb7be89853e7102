"""`apply`: the one way in which state changes, and the only dispatcher."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from msgspec.structs import replace

from nodestate.fsm import (
    acl,
    allocations,
    drains,
    evaluations,
    garbage,
    jobs,
    nodes,
    permits,
    plans,
    requests,
    restores,
)
from nodestate.fsm.consequences import decide_consequences
from nodestate.fsm.evaluations import Cause
from nodestate.fsm.keys import WatchKey, keys_of
from nodestate.fsm.state import State
from nodestate.model.command import (
    AbandonRestore,
    AddRestorePiece,
    ApplyPlan,
    BeginRestore,
    BootstrapACL,
    CollectGarbage,
    Command,
    CompleteDrains,
    DeletePolicies,
    DeleteRoles,
    DeleteTokens,
    DeregisterJob,
    EmitNodeEvents,
    EvaluateJob,
    EvaluateNode,
    ExpireTokens,
    FinishRestore,
    MarkAllocations,
    MissHeartbeats,
    PurgeNodes,
    RegisterJob,
    RegisterNodes,
    ReportAllocations,
    Restoring,
    SetDrain,
    SetEligibility,
    UpdateEvaluations,
    UpdateNodeStatus,
    UpsertPolicies,
    UpsertRoles,
    UpsertTokens,
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
    EvaluationCreated,
    EvaluationRemoved,
    EvaluationUpdated,
    Event,
    JobPurged,
    JobRegistered,
    JobStatusUpdated,
    JobStopped,
    JobSummaryUpdated,
    NodeDrainUpdated,
    NodeEligibilityUpdated,
    NodeEventsAdded,
    NodePurged,
    NodeRegistered,
    NodeStatusUpdated,
    NodeWritten,
    StateRestored,
)
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import Accepted, Outcome, Refused, RegistrationResult
from nodestate.model.request import Request

_NODE_WRITTEN: Final = get_args(NodeWritten)
EVERYTHING: Final[WatchKey] = ()
"""Touched when the whole state is another one: whoever waits for whatever is woken."""


class Applied(NamedTuple):
    """What an entry did: the proposer's outcome, what followed, which keys it touched.

    `is_repeat` says that the command was passed over, because of an earlier request.
    """

    outcome: Outcome
    events: tuple[Event, ...]
    keys: tuple[WatchKey, ...]
    is_repeat: bool = False


def apply(
    state: State, index: int, command: Command, request: Request | None = None
) -> Applied:
    """Apply one entry. Total: every command in every state has an outcome.

    A `request` that was applied before is not applied again: its first outcome comes
    back, and nothing changes.
    """
    restores.drop_if_late(state, index)
    if request is None or request.floor == 0:
        return _apply_command(state, index, command)
    known = requests.decide_request(state, request)
    if known is not None:
        return Applied(known, (), (), is_repeat=True)
    applied = _apply_under_key(state, index, command, request)
    requests.evolve_request_answered(state, request, applied.outcome, index)
    return applied


def _apply_under_key(
    state: State, index: int, command: Command, request: Request
) -> Applied:
    """Apply a new request, unless its caller asks for the second time."""
    if permits.is_outdated(state, command):
        # Whoever asks it again, with a permit of now, asks for the first time.
        return Applied(permits.OUTDATED, (), ())
    key = request.idempotency
    if key is None:
        return _apply_command(state, index, command)
    known = requests.decide_key(state, key, command)
    if known is not None:
        return Applied(known, (), (), is_repeat=True)
    applied = _apply_command(state, index, command)
    requests.evolve_key_used(state, key, command, applied.outcome, index)
    return applied


def _apply_command(state: State, index: int, command: Command) -> Applied:
    return _APPLY.get(type(command), _apply_decided)(state, index, command)


def _apply_decided(state: State, index: int, command: Command) -> Applied:
    decided = _decide(state, command, index)
    if isinstance(decided, Refused):
        return Applied(decided, (), ())
    followed = _follow(state, decided, index)
    return followed.applied(index, node_count=len(state.nodes))


def _apply_to_job(
    state: State, index: int, command: RegisterJob | DeregisterJob | EvaluateJob
) -> Applied:
    applied = _apply_decided(state, index, command)
    if isinstance(applied.outcome, Refused):
        return applied
    return _with_job_index(state, applied, command)


def _apply_with_ids(
    state: State, index: int, command: UpsertTokens | BootstrapACL | UpsertRoles
) -> Applied:
    applied = _apply_decided(state, index, command)
    if isinstance(applied.outcome, Refused):
        return applied
    return _with(applied, written_ids=acl.written_ids(applied.events))


def _follow(state: State, decided: Iterable[Event], index: int) -> "_Followed":
    """Write what was decided, and what follows from that for jobs."""
    followed = _Followed()
    followed.take(state, decided, index)
    return followed


def _apply_reports(state: State, index: int, command: ReportAllocations) -> Applied:
    """Accept or refuse each agent's report; the only one's refusal is the entry's."""
    decided, refused = allocations.decide_report_allocations(state, command, index)
    if refused and len(command.reports) == 1:
        return Applied(refused[0].refused, (), ())
    applied = _follow(state, decided, index).applied(index, node_count=len(state.nodes))
    return _with(applied, refused_reports=refused)


def _apply_plan(state: State, index: int, command: ApplyPlan) -> Applied:
    decided = plans.decide_apply_plan(state, command, index)
    if isinstance(decided, Refused):
        return Applied(decided, (), ())
    events, result = decided
    applied = _follow(state, events, index).applied(index, node_count=len(state.nodes))
    return _with(applied, plan=result)


def _with_job_index(
    state: State, applied: Applied, command: RegisterJob | DeregisterJob | EvaluateJob
) -> Applied:
    """Say at which index the job's specification is; a job that is gone went with this."""
    key = command.job.key if isinstance(command, RegisterJob) else command.key
    job = state.job(key)
    if job is not None:
        return _with(applied, job_modify_index=job.job_modify_index)
    return _with(applied, job_modify_index=_index_of(applied))


def _index_of(applied: Applied) -> int:
    return applied.outcome.index if isinstance(applied.outcome, Accepted) else 0


def _with(applied: Applied, **fields: Any) -> Applied:
    """Return it with more told to the proposer."""
    return applied._replace(outcome=replace(applied.outcome, **fields))


def check(state: State, command: Command) -> None:
    """Decide without writing; an exception out of here would have stopped every server."""
    index = max(state.indexes.values()) + 1
    if isinstance(command, RegisterNodes):
        cause = Cause(index, command.at_ns, command.seed)
        for registration in command.registrations:
            nodes.decide_register(state, registration, cause)
    elif isinstance(command, Restoring):
        restores.decide_step(state, command)
    elif isinstance(command, ReportAllocations):
        decided, _ = allocations.decide_report_allocations(state, command, index)
        decide_consequences(state, decided, index)
    elif isinstance(command, ApplyPlan):
        planned = plans.decide_apply_plan(state, command, index)
        if not isinstance(planned, Refused):
            decide_consequences(state, planned[0], index)
    else:
        found = _decide(state, command, index)
        if not isinstance(found, Refused):
            decide_consequences(state, found, index)


def _decide(state: State, command: Command, index: int) -> Sequence[Event] | Refused:
    return _DECIDE[type(command)](state, command, index)


def _apply_registrations(state: State, index: int, command: RegisterNodes) -> Applied:
    """Accept or refuse each on its own, as if they had come one after the other."""
    cause = Cause(index, command.at_ns, command.seed)
    results: list[RegistrationResult] = []
    followed = _Followed()
    for registration in command.registrations:
        decided = nodes.decide_register(state, registration, cause)
        if isinstance(decided, Refused):
            results.append(
                RegistrationResult(node_id=registration.node.id, refused=decided)
            )
            continue
        evaluations_before = len(followed.eval_ids)
        followed.take(state, decided, index)
        results.append(
            RegistrationResult(
                node_id=registration.node.id,
                node_modify_index=index,
                eval_ids=tuple(followed.eval_ids[evaluations_before:]),
                is_down=registration.node.status is NodeStatus.DOWN,
            )
        )
    return followed.applied(index, node_count=len(state.nodes), results=tuple(results))


def _apply_restoring(state: State, index: int, command: Restoring) -> Applied:
    """Take a step of a restore; only the last one changes what can be read."""
    refused = restores.decide_step(state, command)
    if refused is None:
        refused = restores.evolve_step(state, command, index)
    if refused is not None:
        return Applied(refused, (), ())
    outcome = Accepted(index=index, node_count=len(state.nodes))
    if isinstance(command, FinishRestore):
        return Applied(outcome, (StateRestored(command.restore_id),), (EVERYTHING,))
    return Applied(outcome, (), ())


class _Followed:
    """What followed from an entry, gathered event by event."""

    __slots__ = ("eval_ids", "events", "is_node_written", "keys")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.eval_ids: list[str] = []
        self.is_node_written = False
        self.keys: dict[WatchKey, None] = {}

    def take(self, state: State, decided: Iterable[Event], index: int) -> None:
        """Write events, and what follows from them for jobs."""
        events = list(decided)
        for event in (*events, *decide_consequences(state, events, index)):
            _EVOLVE[type(event)](state, event, index)
            self._add(event)

    def _add(self, event: Event) -> None:
        self.events.append(event)
        for key in keys_of(event):
            self.keys[key] = None
        if isinstance(event, EvaluationCreated):
            self.eval_ids.append(event.evaluation.id)
        elif isinstance(event, _NODE_WRITTEN):
            self.is_node_written = True

    def applied(
        self,
        index: int,
        *,
        node_count: int,
        results: tuple[RegistrationResult, ...] = (),
    ) -> Applied:
        """Return what the proposer, the stream and the watchers are told."""
        outcome = Accepted(
            index=index if self.events else 0,
            node_modify_index=index if self.is_node_written else 0,
            eval_ids=tuple(self.eval_ids),
            node_count=node_count,
            registrations=results,
        )
        return Applied(outcome, tuple(self.events), tuple(self.keys))


# By type, as an entry is applied on every server: going through the types one after the
# other costs more than what most of them do. That none is missing is tested.

_Decide = Callable[[State, Any, int], Sequence[Event] | Refused]
_Apply = Callable[[State, int, Any], Applied]
_Evolve = Callable[[State, Any, int], None]

_APPLY: Final[Mapping[type, _Apply]] = {
    RegisterNodes: _apply_registrations,
    ReportAllocations: _apply_reports,
    ApplyPlan: _apply_plan,
    RegisterJob: _apply_to_job,
    DeregisterJob: _apply_to_job,
    EvaluateJob: _apply_to_job,
    BeginRestore: _apply_restoring,
    AddRestorePiece: _apply_restoring,
    FinishRestore: _apply_restoring,
    AbandonRestore: _apply_restoring,
    UpsertTokens: _apply_with_ids,
    BootstrapACL: _apply_with_ids,
    UpsertRoles: _apply_with_ids,
}
"""Commands with ways of their own; all others are decided and followed."""

_DECIDE: Final[Mapping[type, _Decide]] = {
    UpdateNodeStatus: nodes.decide_update_status,
    MissHeartbeats: nodes.decide_miss_heartbeats,
    EmitNodeEvents: nodes.decide_emit_events,
    SetDrain: drains.decide_set_drain,
    CompleteDrains: drains.decide_complete_drains,
    SetEligibility: nodes.decide_set_eligibility,
    EvaluateNode: nodes.decide_evaluate,
    PurgeNodes: nodes.decide_purge,
    RegisterJob: jobs.decide_register_job,
    DeregisterJob: jobs.decide_deregister_job,
    EvaluateJob: jobs.decide_evaluate_job,
    MarkAllocations: allocations.decide_mark_allocations,
    UpdateEvaluations: evaluations.decide_update_evaluations,
    CollectGarbage: garbage.decide_collect_garbage,
    UpsertPolicies: acl.decide_upsert_policies,
    DeletePolicies: acl.decide_delete_policies,
    UpsertTokens: acl.decide_upsert_tokens,
    DeleteTokens: acl.decide_delete_tokens,
    BootstrapACL: acl.decide_bootstrap,
    UpsertRoles: acl.decide_upsert_roles,
    DeleteRoles: acl.decide_delete_roles,
    ExpireTokens: acl.decide_expire_tokens,
}

_EVOLVE: Final[Mapping[type, _Evolve]] = {
    NodeRegistered: nodes.evolve_node_registered,
    **dict.fromkeys(
        (
            NodeStatusUpdated,
            NodeEventsAdded,
            NodeDrainUpdated,
            NodeEligibilityUpdated,
        ),
        nodes.evolve_node_written,
    ),
    NodePurged: nodes.evolve_node_purged,
    EvaluationCreated: evaluations.evolve_evaluation_written,
    EvaluationUpdated: evaluations.evolve_evaluation_written,
    EvaluationRemoved: evaluations.evolve_evaluation_removed,
    AllocationPlaced: allocations.evolve_allocation_written,
    AllocationUpdated: allocations.evolve_allocation_written,
    AllocationMarked: allocations.evolve_allocation_written,
    AllocationReported: allocations.evolve_allocation_written,
    AllocationRemoved: allocations.evolve_allocation_removed,
    JobRegistered: jobs.evolve_job_version,
    JobStopped: jobs.evolve_job_version,
    JobStatusUpdated: jobs.evolve_job_status,
    JobPurged: jobs.evolve_job_purged,
    JobSummaryUpdated: jobs.evolve_job_summary,
    ACLPolicyUpserted: acl.evolve_policy_upserted,
    ACLPolicyDeleted: acl.evolve_policy_deleted,
    ACLTokenUpserted: acl.evolve_token_upserted,
    ACLTokenDeleted: acl.evolve_token_deleted,
    ACLBootstrapped: acl.evolve_bootstrapped,
    ACLRoleUpserted: acl.evolve_role_upserted,
    ACLRoleDeleted: acl.evolve_role_deleted,
}
