"""Jobs: registered, stopped, forgotten, looked at again.

Each of them makes its evaluation in the same entry.
"""

from typing import Final

from msgspec.structs import replace

from nodestate.fsm.evaluations import Cause, decide_job_evaluation
from nodestate.fsm.state import JOBS, State
from nodestate.model.allocation import FAILED, Allocation, DesiredTransition
from nodestate.model.command import DeregisterJob, EvaluateJob, RegisterJob
from nodestate.model.encoding import MSGPACK
from nodestate.model.evaluation import Trigger
from nodestate.model.event import (
    AllocationMarked,
    Event,
    JobPurged,
    JobRegistered,
    JobStatusUpdated,
    JobStopped,
    JobSummaryUpdated,
)
from nodestate.model.job import Job, JobKey, JobStatus
from nodestate.model.outcome import JOB_NOT_FOUND, RefusalCode, Refused

_NOT_SPECIFIED: Final = {
    "status": JobStatus.PENDING,
    "status_description": "",
    "stable": False,
    "version": 0,
    "submit_time": 0,
    "create_index": 0,
    "modify_index": 0,
    "job_modify_index": 0,
}
"""What of a record is not its author's to say."""


def is_same_spec(one: Job, other: Job) -> bool:
    """Say whether two records want the same; `1`, `1.0` and `true` are not the same."""
    return _specification(one) == _specification(other)


def _specification(job: Job) -> bytes:
    return MSGPACK.encode(replace(job, **_NOT_SPECIFIED))


# Registration


def decide_register_job(
    state: State, command: RegisterJob, index: int
) -> list[Event] | Refused:
    """Make a version of the job if it wants something else, and an evaluation anyway."""
    sent = command.job
    known = state.job(sent.key)
    refused = _refuse_registration(known, command)
    if refused is not None:
        return refused
    events: list[Event] = []
    job = known
    if known is None or not is_same_spec(known, sent):
        job = _registered(known, sent, index, command.at_ns)
        events.append(JobRegistered(job))
    assert job is not None
    cause = Cause(index, command.at_ns, command.seed)
    evaluation = decide_job_evaluation(
        job, Trigger.JOB_REGISTER, cause, job_modify_index=job.job_modify_index
    )
    return [*events, evaluation]


def _refuse_registration(known: Job | None, command: RegisterJob) -> Refused | None:
    if command.is_index_enforced:
        reason = _wrong_index(known, command.enforced_index)
        if reason:
            return Refused(RefusalCode.CONFLICT, reason)
    if known is not None and known.type is not command.job.type:
        return Refused(
            RefusalCode.INVALID,
            f'cannot update job from type "{known.type}" to "{command.job.type}"',
        )
    return None


def _wrong_index(known: Job | None, enforced: int) -> str:
    text = f"Enforcing job modify index {enforced}: "
    if known is None:
        return text + "job does not exist" if enforced else ""
    if not enforced:
        return text + "job already exists"
    if known.job_modify_index != enforced:
        return (
            f"{text}job exists with conflicting job modify index: "
            f"{known.job_modify_index}"
        )
    return ""


def _registered(known: Job | None, sent: Job, index: int, at_ns: int) -> Job:
    return replace(
        sent,
        status=JobStatus.PENDING if known is None else known.status,
        status_description="",
        stable=False,
        version=0 if known is None else known.version + 1,
        submit_time=at_ns,
        create_index=index if known is None else known.create_index,
        modify_index=index,
        job_modify_index=index,
    )


# Deregistration


def decide_deregister_job(
    state: State, command: DeregisterJob, index: int
) -> list[Event]:
    """Stop the job in a new version, or forget it; one that is unknown stays that."""
    known = state.job(command.key)
    if known is None:
        return []
    events: list[Event] = []
    if command.is_purge:
        events.append(JobPurged(known))
    elif not known.stop:
        stopped = replace(
            known,
            stop=True,
            stable=False,
            version=known.version + 1,
            modify_index=index,
            job_modify_index=index,
        )
        events.append(JobStopped(stopped))
    cause = Cause(index, command.at_ns, command.seed)
    evaluation = decide_job_evaluation(
        known, Trigger.JOB_DEREGISTER, cause, job_modify_index=index
    )
    return [*events, evaluation]


# Evaluation


def decide_evaluate_job(
    state: State, command: EvaluateJob, index: int
) -> list[Event] | Refused:
    """Have the job looked at; if asked to, let failed allocations be replaced at once."""
    job = state.job(command.key)
    if job is None:
        return Refused(RefusalCode.NOT_FOUND, JOB_NOT_FOUND)
    events: list[Event] = []
    if command.force_reschedule:
        events += [
            AllocationMarked(forced_to_reschedule(allocation, index))
            for allocation in state.allocations_of(job.key)
            if _may_be_forced(job, allocation)
        ]
    cause = Cause(index, command.at_ns, command.seed)
    evaluation = decide_job_evaluation(
        job, Trigger.JOB_REGISTER, cause, job_modify_index=job.modify_index
    )
    return [*events, evaluation]


def _may_be_forced(job: Job, allocation: Allocation) -> bool:
    return (
        allocation.client_status == FAILED
        and not allocation.is_server_terminal
        and not allocation.next_allocation
        and allocation.desired_transition.force_reschedule is not True
        and job.group(allocation.task_group) is not None
    )


def forced_to_reschedule(allocation: Allocation, index: int) -> Allocation:
    """Return the allocation with the mark that its replacement waits for nothing."""
    transition = allocation.desired_transition
    return replace(
        allocation,
        desired_transition=DesiredTransition(
            migrate=transition.migrate,
            reschedule=transition.reschedule,
            force_reschedule=True,
        ),
        modify_index=index,
    )


# Written


def evolve_job_version(
    state: State, event: JobRegistered | JobStopped, index: int
) -> None:
    """Write the job, and keep this version of it."""
    state.put_job(event.job)
    state.put_job_version(event.job)
    state.prune_versions(event.job.key)
    state.indexes[JOBS] = index


def evolve_job_purged(state: State, event: JobPurged, index: int) -> None:
    """Remove the job and its numbers; versions that allocations run stay."""
    state.remove_job(event.job.key)
    state.prune_versions(event.job.key)
    state.indexes[JOBS] = index


def evolve_job_status(state: State, event: JobStatusUpdated, index: int) -> None:
    """Write the job, which wants what it wanted."""
    state.put_job(event.job)
    state.indexes[JOBS] = index


def evolve_job_summary(state: State, event: JobSummaryUpdated, index: int) -> None:
    """Write the job's numbers."""
    summary = event.summary
    state.job_summaries[JobKey((summary.namespace, summary.job_id))] = summary
    state.indexes[JOBS] = index
