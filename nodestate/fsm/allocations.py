"""Allocations: what agents report of them, and marks that tell schedulers to act."""

from hmac import compare_digest
from typing import Final

from msgspec.structs import replace

from nodestate.fsm.evaluations import Cause, make_evaluation
from nodestate.fsm.pacing import NO_BUDGET, group_budget, is_forced, is_unfinished
from nodestate.fsm.state import ALLOCATIONS, State
from nodestate.model.allocation import (
    CLIENT_STATUSES,
    COMPLETE,
    FAILED,
    LOST,
    TASK_EVENTS_MAX,
    Allocation,
    DeploymentStatus,
    DesiredTransition,
    ReportedAllocation,
    TaskState,
)
from nodestate.model.command import AgentReport, MarkAllocations, ReportAllocations
from nodestate.model.evaluation import Trigger
from nodestate.model.event import (
    AllocationMarked,
    AllocationRemoved,
    AllocationReported,
    AllocationWritten,
    EvaluationCreated,
    Event,
)
from nodestate.model.job import JobKey, JobType
from nodestate.model.outcome import (
    ALLOCATION_NOT_FOUND,
    NODE_NOT_FOUND,
    NODE_SECRET_MISMATCH,
    RefusalCode,
    Refused,
    RefusedReport,
)
from nodestate.model.rescheduling import has_attempts_left

_REPORTABLE: Final = frozenset(CLIENT_STATUSES) - {LOST}
_ENDED_BY_AGENT: Final = frozenset({COMPLETE, FAILED})


# Reports


def decide_report_allocations(
    state: State, command: ReportAllocations, index: int
) -> tuple[list[Event], tuple[RefusedReport, ...]]:
    """Take down what is new in the reports; each agent speaks for its own node only."""
    reported: dict[str, Allocation] = {}
    refused: list[RefusedReport] = []
    for number, report in enumerate(command.reports):
        refusal = _refuse_report(state, report)
        if refusal is not None:
            refused.append(RefusedReport(number, refusal))
            continue
        for sent in report.allocations:
            stored = reported.get(sent.id) or state.allocations.get(sent.id)
            if stored is None or stored.node_key != report.key:
                continue
            updated = _reported(stored, sent, index, command.at_ns)
            if updated is not None:
                reported[sent.id] = updated
    cause = Cause(index, command.at_ns, command.seed)
    events: list[Event] = [AllocationReported(item) for item in reported.values()]
    return events + _report_evaluations(state, reported, cause), tuple(refused)


def _refuse_report(state: State, report: AgentReport) -> Refused | None:
    if state.node(report.key) is None:
        return Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)
    secret = state.node_secrets.get(report.key, b"")
    if not compare_digest(secret, report.secret_sha256):
        return Refused(RefusalCode.FORBIDDEN, NODE_SECRET_MISMATCH)
    return None


def _reported(
    stored: Allocation, sent: ReportedAllocation, index: int, at_ns: int
) -> Allocation | None:
    """Return the allocation as its agent now says it is, `None` if that is nothing new.

    What has ended stays so: only one that was given up as lost may still turn out to be
    complete or failed.
    """
    if sent.client_status not in _REPORTABLE:
        return None
    if stored.is_client_terminal and sent.client_status not in _ENDED_BY_AGENT:
        return None
    updated = replace(
        stored,
        client_status=sent.client_status,
        client_description=sent.client_description,
        task_states=_task_states(stored, sent),
        deployment_status=_health(stored, sent, index),
    )
    if updated == stored:
        return None
    return replace(updated, modify_index=index, modify_time=at_ns)


def _task_states(
    stored: Allocation, sent: ReportedAllocation
) -> dict[str, TaskState] | None:
    if sent.task_states is None:
        return stored.task_states
    return {name: _bounded(state) for name, state in sent.task_states.items()}


def _bounded(state: TaskState) -> TaskState:
    events = state.events
    if events is None or len(events) <= TASK_EVENTS_MAX:
        return state
    return replace(state, events=events[-TASK_EVENTS_MAX:])


def _health(
    stored: Allocation, sent: ReportedAllocation, index: int
) -> DeploymentStatus | None:
    """Return the health as it is now known: to say nothing of it takes nothing back."""
    told, known = sent.deployment_status, stored.deployment_status
    if told is None:
        return known
    if known is None:
        return replace(told, modify_index=index)
    if told.healthy is None or told.healthy is known.healthy:
        return known
    return replace(
        known, healthy=told.healthy, timestamp=told.timestamp, modify_index=index
    )


def _report_evaluations(
    state: State, reported: dict[str, Allocation], cause: Cause
) -> list[Event]:
    """Return one evaluation per job that a report calls for, sorted by job."""
    wanted: dict[JobKey, EvaluationCreated] = {}
    for allocation in reported.values():
        trigger = _called_for(state, allocation, cause.at_ns)
        if trigger is not None:
            kind = (allocation.job_type, allocation.job_priority)
            wanted.setdefault(
                allocation.job_key,
                make_evaluation(allocation.job_key, kind, trigger, cause),
            )
    return [wanted[key] for key in sorted(wanted)]


def _called_for(state: State, allocation: Allocation, at_ns: int) -> Trigger | None:
    if allocation.is_server_terminal:
        return None
    job = state.job(allocation.job_key)
    if job is None:
        # An orphan: whoever forgot the job did not see it.
        return None if allocation.is_client_terminal else Trigger.JOB_DEREGISTER
    group = job.group(allocation.task_group)
    if group is None or allocation.client_status != FAILED:
        return None
    if allocation.followup_eval_id:
        return None
    policy = group.reschedule_policy
    is_due = has_attempts_left(policy, allocation, at_ns)
    return Trigger.ALLOC_FAILURE if is_due else None


# Marks


def decide_mark_allocations(
    state: State, command: MarkAllocations, index: int
) -> list[Event] | Refused:
    """Mark what may be marked now, and have each job looked at once, sorted by job."""
    found = [
        state.allocations[id_]
        for id_ in dict.fromkeys(command.ids)
        if id_ in state.allocations
    ]
    if not found and command.ids and not command.is_drain:
        return Refused(RefusalCode.NOT_FOUND, ALLOCATION_NOT_FOUND)
    if command.is_drain:
        found = _let_go(state, found, command)
    cause = Cause(index, command.at_ns, command.seed)
    trigger = Trigger.NODE_DRAIN if command.is_drain else Trigger.ALLOC_STOP
    marked: list[Event] = []
    wanted: dict[JobKey, EvaluationCreated] = {}
    for allocation in found:
        if allocation.is_terminal:
            continue
        transition = _merged(allocation.desired_transition, command.transition)
        if transition != allocation.desired_transition:
            marked.append(
                AllocationMarked(
                    replace(
                        allocation, desired_transition=transition, modify_index=index
                    )
                )
            )
        elif command.is_drain:
            continue
        kind = (allocation.job_type, allocation.job_priority)
        wanted.setdefault(
            allocation.job_key,
            make_evaluation(allocation.job_key, kind, trigger, cause),
        )
    return [*marked, *(wanted[key] for key in sorted(wanted))]


def _let_go(
    state: State, allocations: list[Allocation], command: MarkAllocations
) -> list[Allocation]:
    """Return what drains that go on now want gone, and what may go at this moment.

    A drain that was to be forced may have been given more time since it was looked at:
    then it waits as any other does.
    """
    unpaced: list[Allocation] = []
    paced: list[Allocation] = []
    for allocation in allocations:
        node = state.node(allocation.node_key)
        strategy = None if node is None else node.drain_strategy
        if strategy is None:
            continue
        is_system = allocation.job_type is JobType.SYSTEM
        if is_system and strategy.ignore_system_jobs:
            continue
        if command.is_paced or not is_forced(strategy, command.at_ns):
            paced.append(allocation)
        else:
            unpaced.append(allocation)
    last = [one for one in paced if _comes_last(state, one, command)]
    let_go = {one.id for one in (*unpaced, *last, *_paced(state, paced))}
    return [one for one in allocations if one.id in let_go]


def _comes_last(state: State, allocation: Allocation, command: MarkAllocations) -> bool:
    """Say whether it is a system allocation, and nothing else is left on its node."""
    if command.is_paced or allocation.job_type is not JobType.SYSTEM:
        return False
    return not any(map(is_unfinished, state.allocations_on(allocation.node_key)))


def _paced(state: State, allocations: list[Allocation]) -> list[Allocation]:
    """Return those that their groups let go now, the first ones of each group."""
    budgets: dict[tuple[JobKey, str], int] = {}
    kept: list[Allocation] = []
    for allocation in allocations:
        if allocation.is_terminal or allocation.is_migrating:
            continue
        key = (allocation.job_key, allocation.task_group)
        if key not in budgets:
            budgets[key] = _budget(state, *key)
        if budgets[key] > 0:
            budgets[key] -= 1
            kept.append(allocation)
    return kept


def _budget(state: State, key: JobKey, group_name: str) -> int:
    job = state.job(key)
    group = None if job is None else job.group(group_name)
    if group is None:
        return NO_BUDGET
    return group_budget(group, state.allocations_of(key))


def _merged(known: DesiredTransition, more: DesiredTransition) -> DesiredTransition:
    """Return both: a flag that is not set leaves the other alone."""
    return DesiredTransition(
        migrate=known.migrate if more.migrate is None else more.migrate,
        reschedule=known.reschedule if more.reschedule is None else more.reschedule,
        force_reschedule=(
            known.force_reschedule
            if more.force_reschedule is None
            else more.force_reschedule
        ),
    )


# Written


def evolve_allocation_written(
    state: State, event: AllocationWritten, index: int
) -> None:
    """Write the allocation; a version of its job that nobody runs any more may go."""
    known = state.allocations.get(event.allocation.id)
    state.put_allocation(event.allocation)
    if known is not None and known.version_key != event.allocation.version_key:
        state.prune_versions(known.job_key)
    state.indexes[ALLOCATIONS] = index


def evolve_allocation_removed(
    state: State, event: AllocationRemoved, index: int
) -> None:
    """Remove the allocation; with the last one that ran a version, that may go."""
    version = event.allocation.version_key
    state.remove_allocation(event.allocation.id)
    if not state.allocations_by_version.count(version):
        state.prune_versions(event.allocation.job_key)
    state.indexes[ALLOCATIONS] = index
