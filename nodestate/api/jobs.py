"""Jobs as operators see them: one, its numbers, its versions, and what there is of it."""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from nodestate.api import blocking, parameters
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.job_shapes import JobVersions, encode_job
from nodestate.api.listing import list_body
from nodestate.api.parameters import ReadOptions
from nodestate.api.replies import JSON_TYPE, Body, Reply
from nodestate.api.shapes import prettify
from nodestate.errors import RequestError
from nodestate.fsm.keys import job_allocations_key, job_evaluations_key, job_key
from nodestate.fsm.state import ALLOCATIONS, EVALUATIONS, JOBS, State
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey
from nodestate.model.outcome import JOB_NOT_FOUND
from nodestate.model.timestamp import NANOSECONDS
from nodestate.planning.differences import JobDiff, compare_jobs
from nodestate.watch import WatchKey, table_key

VERSIONS_NOT_FOUND: Final = "job versions not found"
NOT_UNICODE: Final = "job ID is not valid Unicode"
_NO_DEPLOYMENTS: Final = table_key("deployments")
"""What nothing touches: there are none, so a read that waits for one waits it out."""


def jobs_index(state: State) -> int:
    """Return the index of the table; never 0, which would make a waiting client spin."""
    return max(state.table_index(JOBS), 1)


def key_of(call: Call) -> JobKey:
    """Return the key of the job that the path and the namespace name."""
    namespace = parameters.read_namespace(call.query)
    try:
        call.id_text.encode()
    except UnicodeEncodeError:
        raise RequestError(NOT_UNICODE) from None
    return JobKey((namespace, call.id_text))


async def _begin(call: Call) -> tuple[JobKey, ReadOptions]:
    """Judge what is asked, and return once the replica may answer."""
    options = call.read_options()
    key = key_of(call)
    await blocking.wait_until_fresh(call, options)
    return key, options


def _headers(call: Call, options: ReadOptions, index: int) -> bytes:
    return index_line(index) + blocking.contact_lines(call.services, options)


def _not_found(
    call: Call, options: ReadOptions, index: int, text: str = JOB_NOT_FOUND
) -> Reply:
    return text_reply(404, text, _headers(call, options, index))


# One job


def _index_of(key: JobKey) -> Callable[[State], int]:
    def current_index(state: State) -> int:
        job = state.job(key)
        return jobs_index(state) if job is None else job.modify_index

    return current_index


async def read_job(call: Call) -> Reply:
    """Answer `GET /v1/job/:id`."""
    key, options = await _begin(call)
    current_index = _index_of(key)
    if options.index:
        await blocking.wait_until_past(call, options, job_key(key), current_index)
    state = call.services.view.state()
    job = state.job(key)
    if job is None:
        return _not_found(call, options, jobs_index(state))
    body = call.services.jobs.body(key, lambda: encode_job(job), job)
    if call.is_pretty():
        body = Body(prettify(body.plain))
    headers = JSON_TYPE + _headers(call, options, job.modify_index)
    return Reply(200, headers, body)


async def read_job_summary(call: Call) -> Reply:
    """Answer `GET /v1/job/:id/summary`."""
    key, options = await _begin(call)

    def current_index(state: State) -> int:
        summary = state.job_summaries.get(key)
        return jobs_index(state) if summary is None else summary.modify_index

    if options.index:
        await blocking.wait_until_past(call, options, job_key(key), current_index)
    state = call.services.view.state()
    summary = state.job_summaries.get(key)
    index = current_index(state)
    if summary is None:
        return _not_found(call, options, index)
    return call.json(summary, headers=_headers(call, options, index))


async def list_job_versions(call: Call) -> Reply:
    """Answer `GET /v1/job/:id/versions`; with `diffs` what each changed as well."""
    key, options = await _begin(call)
    shows_diffs = parameters.read_word_flag(call.query, "diffs")
    current_index = _index_of(key)
    if options.index:
        await blocking.wait_until_past(call, options, job_key(key), current_index)
    state = call.services.view.state()
    job = state.job(key)
    if job is None:
        return _not_found(call, options, jobs_index(state), VERSIONS_NOT_FOUND)
    versions = tuple(
        version
        for version in state.versions_of(key)
        if version.create_index == job.create_index
    )
    status = call.services.leadership.status()
    answer = JobVersions(
        diffs=_diffs(versions) if shows_diffs else None,
        index=job.modify_index,
        known_leader=status.leader_id is not None,
        last_contact=round((status.last_contact_s or 0.0) * NANOSECONDS),
        versions=versions,
    )
    return call.json(answer, headers=_headers(call, options, job.modify_index))


def _diffs(versions: tuple[Job, ...]) -> tuple[JobDiff, ...]:
    """Return what each version changed of the one before, which is the next one here."""
    return tuple(compare_jobs(old, new, {}) for new, old in pairwise(versions))


# What there is of a job


async def list_job_allocations(call: Call) -> Reply:
    """Answer `GET /v1/job/:id/allocations`, with `all` also those of earlier jobs of the id."""
    key, options = await _begin(call)
    shows_all = parameters.read_word_flag(call.query, "all")
    index = await _wait_for_table(call, options, ALLOCATIONS, job_allocations_key(key))
    state = call.services.view.state()
    job = state.job(key)
    listed: list[Allocation] = state.allocations_of(key)
    if job is not None and not shows_all:
        listed = [one for one in listed if one.job_create_index == job.create_index]
    headers = _headers(call, options, index)
    parts = await call.services.work.allocations.parts(listed)
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


async def list_job_evaluations(call: Call) -> Reply:
    """Answer `GET /v1/job/:id/evaluations`."""
    key, options = await _begin(call)
    index = await _wait_for_table(call, options, EVALUATIONS, job_evaluations_key(key))
    found = call.services.view.state().evaluations_of(key)
    listed: list[Evaluation] = sorted(found, key=lambda one: (one.status, one.id))
    headers = _headers(call, options, index)
    parts = await call.services.work.evaluations.parts(listed)
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


async def _wait_for_table(
    call: Call, options: ReadOptions, table: str, watched: WatchKey
) -> int:
    """Return the table's index once it is past the one asked for and the key was touched.

    What belongs to other jobs moves the index too, and wakes nobody here.
    """

    def current_index(state: State) -> int:
        return max(state.table_index(table), 1)

    if options.index:
        await blocking.wait_until_past(call, options, watched, current_index)
    return current_index(call.services.view.state())


async def list_job_deployments(call: Call) -> Reply:
    """Answer `GET /v1/job/:id/deployments`: there are none."""
    return await _no_deployments(call, b"[]")


async def read_job_deployment(call: Call) -> Reply:
    """Answer `GET /v1/job/:id/deployment`: there is none."""
    return await _no_deployments(call, b"null")


async def _no_deployments(call: Call, encoded: bytes) -> Reply:
    _, options = await _begin(call)
    if options.index:
        await blocking.wait_until_past(call, options, _NO_DEPLOYMENTS, lambda _: 1)
    return call.encoded(encoded, headers=_headers(call, options, 1))
