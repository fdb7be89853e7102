"""Allocations and evaluations as they are sent, each version encoded once."""

from functools import partial
from typing import Final

import msgspec

from nodestate.api.allocation_shapes import (
    encode_allocation,
    encode_allocation_stub,
    encode_job,
)
from nodestate.api.evaluation_shapes import encode_evaluation
from nodestate.api.kept import RecordCache
from nodestate.api.replies import Body
from nodestate.api.table_lists import TableLists
from nodestate.clock import Clock
from nodestate.fsm.state import ALLOCATIONS, EVALUATIONS, State
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobVersionKey

JOB_BYTES_MAX: Final = 16 << 20
"""Jobs as they stand in their allocations that are kept; the oldest go first."""


class WorkCache:
    """What is kept of work, for all who ask."""

    def __init__(self, clock: Clock) -> None:
        self.allocations: TableLists[Allocation] = TableLists(
            ALLOCATIONS,
            lambda state: state.allocations,
            encode_allocation_stub,
            clock,
        )
        self.evaluations: TableLists[Evaluation] = TableLists(
            EVALUATIONS, lambda state: state.evaluations, encode_evaluation, clock
        )
        self._full: RecordCache[str] = RecordCache()
        self._jobs: RecordCache[JobVersionKey] = RecordCache(JOB_BYTES_MAX)

    def full_allocation(self, state: State, allocation: Allocation) -> Body:
        """Return an allocation in full, with the job that it runs as `state` has it.

        A version of a job never changes, so the allocation says all about its own.
        """
        job = state.job_of(allocation)
        encode = partial(self._encode, allocation, job)
        return self._full.body(allocation.id, encode, allocation, job)

    def _encode(self, allocation: Allocation, job: Job | None) -> bytes:
        encoded = self._jobs.body(
            allocation.version_key, lambda: bytes(encode_job(job)), job
        )
        return encode_allocation(allocation, msgspec.Raw(encoded.plain))
