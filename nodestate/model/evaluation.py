"""The record of a scheduler being asked to look at a job."""

from enum import StrEnum
from typing import Final

import msgspec

from nodestate.model.allocation import AllocMetric
from nodestate.model.job import JobKey, JobType
from nodestate.model.node import Record
from nodestate.model.timestamp import NO_TIME, Timestamp


class Trigger(StrEnum):
    """Why a scheduler is asked."""

    JOB_REGISTER = "job-register"
    JOB_DEREGISTER = "job-deregister"
    NODE_UPDATE = "node-update"
    NODE_DRAIN = "node-drain"
    ALLOC_STOP = "alloc-stop"
    ALLOC_FAILURE = "alloc-failure"
    QUEUED_ALLOCS = "queued-allocs"
    MAX_PLAN_ATTEMPTS = "max-plan-attempts"
    FAILED_FOLLOW_UP = "failed-follow-up"


EVAL_PENDING: Final = "pending"
EVAL_BLOCKED: Final = "blocked"
EVAL_COMPLETE: Final = "complete"
EVAL_FAILED: Final = "failed"
EVAL_CANCELED: Final = "canceled"
EVAL_TERMINAL: Final = frozenset({EVAL_COMPLETE, EVAL_FAILED, EVAL_CANCELED})


class Evaluation(Record, frozen=True, kw_only=True):
    """One request to look at a job. Times are in ns, `wait` is a duration.

    `triggered_by` is one of `Trigger`, or the word of a later version.
    """

    id: str = ""
    namespace: str = "default"
    priority: int = 50
    type: JobType = JobType.SERVICE
    triggered_by: str = "node-update"
    job_id: str = ""
    node_id: str = ""
    node_modify_index: int = 0
    status: str = EVAL_PENDING
    create_time: int = 0
    modify_time: int = 0
    create_index: int = 0
    modify_index: int = 0
    job_modify_index: int = 0
    deployment_id: str = ""
    status_description: str = ""
    wait: int = 0
    wait_until: Timestamp = NO_TIME
    next_eval: str = ""
    previous_eval: str = ""
    blocked_eval: str = ""
    failed_tg_allocs: dict[str, AllocMetric] | None = msgspec.field(
        name="FailedTGAllocs", default=None
    )
    class_eligibility: dict[str, bool] | None = None
    quota_limit_reached: str = ""
    escaped_computed_class: bool = False
    annotate_plan: bool = False
    queued_allocations: dict[str, int] | None = None
    snapshot_index: int = 0

    @property
    def job_key(self) -> JobKey:
        """Return what its job is known by."""
        return JobKey((self.namespace, self.job_id))

    @property
    def is_terminal(self) -> bool:
        """Say whether nothing more will come of it."""
        return self.status in EVAL_TERMINAL

    @property
    def is_blocked(self) -> bool:
        """Say whether it waits for room."""
        return self.status == EVAL_BLOCKED
