"""Allocations in full, encoded once per version, with the version of the job they run."""

import json

import pytest
from msgspec.structs import replace

from nodestate.api import work_cache
from nodestate.api.allocation_shapes import encode_job
from nodestate.api.work_cache import WorkCache
from nodestate.fsm.state import State
from nodestate.model.allocation import RUNNING, Allocation
from nodestate.model.job import Job
from tests.fakes import FakeClock

JOB = Job(id="web", create_index=5, version=2, meta={"which": "this"})
ALLOCATION = Allocation(id="a", job_id="web", job_create_index=5, job_version=2)


def state_of(*jobs: Job) -> State:
    state = State()
    for job in jobs:
        state.put_job_version(job)
    state.put_allocation(ALLOCATION)
    return state


def test_it_has_the_version_of_its_job_that_it_runs():
    newer = replace(JOB, version=3, meta={"which": "newer"})
    earlier = replace(JOB, create_index=2, meta={"which": "of an earlier job"})

    body = WorkCache(FakeClock()).full_allocation(
        state_of(newer, earlier, JOB), ALLOCATION
    )

    assert json.loads(body.plain)["Job"]["Meta"] == {"which": "this"}


def test_it_is_encoded_once_for_as_long_as_it_is_the_same_record():
    work, state = WorkCache(FakeClock()), state_of(JOB)

    body = work.full_allocation(state, ALLOCATION)
    changed = work.full_allocation(state, replace(ALLOCATION, client_status=RUNNING))

    assert work.full_allocation(state, ALLOCATION) is not body
    again = work.full_allocation(state, ALLOCATION)
    assert work.full_allocation(state, ALLOCATION) is again
    assert json.loads(changed.plain)["ClientStatus"] == RUNNING


def test_a_job_is_encoded_once_for_all_its_allocations(
    monkeypatch: pytest.MonkeyPatch,
):
    encoded: list[Job] = []
    original = encode_job

    def encode(job):
        encoded.append(job)
        return original(job)

    monkeypatch.setattr(work_cache, "encode_job", encode)
    work, state = WorkCache(FakeClock()), state_of(JOB)

    for number in range(5):
        work.full_allocation(state, replace(ALLOCATION, id=str(number)))

    assert encoded == [JOB]


def test_one_whose_job_is_gone_is_shown_all_the_same():
    body = WorkCache(FakeClock()).full_allocation(state_of(), ALLOCATION)

    assert json.loads(body.plain)["Job"] is None
