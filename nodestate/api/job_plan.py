"""What registering a job would do: planned over a copy of the state, and forgotten."""

from collections.abc import Generator
from typing import Final, TypeVar

from nodestate.api import blocking
from nodestate.api.cache import Pace
from nodestate.api.calls import Call, index_line
from nodestate.api.job_shapes import (
    DesiredUpdates,
    JobPlanned,
    PlanAnnotations,
    PlanSent,
)
from nodestate.api.job_writes import submitted_job
from nodestate.api.problems import refused, too_many
from nodestate.api.replies import Reply
from nodestate.clock import Clock
from nodestate.fsm.jobs import decide_register_job
from nodestate.fsm.state import State
from nodestate.model.command import RegisterJob
from nodestate.model.event import JobRegistered
from nodestate.model.job import Job
from nodestate.model.outcome import Refused
from nodestate.planning.differences import compare_jobs
from nodestate.planning.reconcile import Changes
from nodestate.planning.scheduling import DryRun, dry_run

DRY_RUNS_MAX: Final = 8
"""Dry runs at once: each takes as much of the loop as a scheduler, and a copy of tables."""
OTHER_JOB: Final = "Job ID does not match"

T = TypeVar("T")


async def plan_job(call: Call) -> Reply:
    """Answer `PUT /v1/job/:id/plan`; nothing is changed."""
    sent = await call.decoded(PlanSent)
    options = call.read_options()
    job = submitted_job(call, sent.job, OTHER_JOB)
    await blocking.wait_until_fresh(call, options)
    services = call.services
    if services.dry_run_count >= DRY_RUNS_MAX:
        raise too_many("dry runs", "DRY_RUNS_MAX", DRY_RUNS_MAX)
    services.dry_run_count += 1
    try:
        return await _plan(call, job, shows_diff=sent.diff)
    finally:
        services.dry_run_count -= 1


async def _plan(call: Call, job: Job, *, shows_diff: bool) -> Reply:
    services = call.services
    index = services.view.applied_index()
    state = services.view.state().shallow_copy()
    now_ns = services.clock.now_ns()
    known = state.job(job.key)
    proposed = _proposed(state, job, index + 1, now_ns)
    work = dry_run(state, proposed, index, now_ns)
    found = await _in_slices(work, services.clock)
    known_index = 0 if known is None else known.job_modify_index
    planned = JobPlanned(
        annotations=_annotations(found),
        diff=compare_jobs(known, proposed, found.changes) if shows_diff else None,
        failed_tg_allocs=found.failed or None,
        index=known_index,
        job_modify_index=known_index,
    )
    return call.json(planned, headers=index_line(known_index))


def _proposed(state: State, job: Job, index: int, now_ns: int) -> Job:
    """Return the job as its registration would leave it; what refuses it is an error."""
    command = RegisterJob(job=job, at_ns=now_ns, seed=b"")
    decided = decide_register_job(state, command, index)
    if isinstance(decided, Refused):
        raise refused(decided)
    for event in decided:
        if isinstance(event, JobRegistered):
            return event.job
    return state.jobs[job.key]


def _annotations(found: DryRun) -> PlanAnnotations:
    return PlanAnnotations(
        desired_tg_updates={
            name: _updates(changes) for name, changes in sorted(found.changes.items())
        }
    )


def _updates(changes: Changes) -> DesiredUpdates:
    return DesiredUpdates(
        destructive_update=changes.updated,
        ignore=changes.ignored,
        in_place_update=changes.updated_in_place,
        migrate=changes.migrated,
        place=changes.placed,
        stop=changes.stopped,
    )


async def _in_slices(work: Generator[None, None, T], clock: Clock) -> T:
    """Return the result of work that yields after each of its steps."""
    pace = Pace(clock)
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await pace.pause_if_due()
