"""An allocation: a task group of a job, placed on a node.

The job itself is not in the record: `version_key` says which version of it the allocation
runs, and the state has that for as long as there is one (`State.job_of`). The old forms
of its resources are derived where they are shown (`resources`).
"""

from typing import Final

import msgspec

from nodestate.model.job import JobKey, JobType, JobVersionKey, Opaque
from nodestate.model.node import (
    CpuResources,
    MemoryResources,
    NetworkResource,
    NodeKey,
    Record,
)
from nodestate.model.timestamp import NO_TIME, Timestamp

PENDING: Final = "pending"
RUNNING: Final = "running"
COMPLETE: Final = "complete"
FAILED: Final = "failed"
LOST: Final = "lost"
CLIENT_STATUSES: Final = (PENDING, RUNNING, COMPLETE, FAILED, LOST)
CLIENT_TERMINAL: Final = frozenset({COMPLETE, FAILED, LOST})

RUN: Final = "run"
STOP: Final = "stop"
EVICT: Final = "evict"
SERVER_TERMINAL: Final = frozenset({STOP, EVICT})

NOT_NEEDED: Final = "alloc not needed due to job update"
MIGRATING: Final = "alloc is being migrated"
UPDATING: Final = "alloc is being updated due to job update"
NODE_DOWN: Final = "alloc is lost since its node is down"
NODE_TAINTED: Final = "alloc not needed as node is tainted"
RESCHEDULED: Final = "alloc was rescheduled because it failed"

TASK_EVENTS_MAX: Final = 10
"""How many lines of a task's history are kept, the newest ones."""


# What it has been given


class AllocatedTask(Record, frozen=True, kw_only=True):
    """What one task has of the node; networks with the ports that were chosen."""

    cpu: CpuResources = CpuResources()
    memory: MemoryResources = MemoryResources()
    networks: list[NetworkResource] | None = None
    devices: Opaque = None


class AllocatedShared(Record, frozen=True, kw_only=True):
    """What the tasks share."""

    networks: list[NetworkResource] | None = None
    disk_mb: int = 0


class AllocatedResources(Record, frozen=True, kw_only=True):
    """What an allocation has of its node, by task, and shared."""

    tasks: dict[str, AllocatedTask] = msgspec.field(default_factory=dict)
    shared: AllocatedShared = AllocatedShared()


# How the node was chosen


class NodeScore(Record, frozen=True, kw_only=True):
    """How a node was judged: the parts, and their mean."""

    node_id: str = ""
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    norm_score: float = 0.0


class AllocMetric(Record, frozen=True, kw_only=True):
    """What the search for a node went through; `allocation_time` is in ns."""

    nodes_evaluated: int = 0
    nodes_filtered: int = 0
    nodes_available: dict[str, int] | None = None
    class_filtered: dict[str, int] | None = None
    constraint_filtered: dict[str, int] | None = None
    nodes_exhausted: int = 0
    class_exhausted: dict[str, int] | None = None
    dimension_exhausted: dict[str, int] | None = None
    quota_exhausted: list[str] | None = None
    scores: dict[str, float] | None = None
    score_meta_data: tuple[NodeScore, ...] | None = None
    allocation_time: int = 0
    coalesced_failures: int = 0


# What its agent reports


class TaskEvent(Record, frozen=True, kw_only=True):
    """One line of a task's history; `time` is in ns."""

    type: str = ""
    time: int = 0
    display_message: str = ""
    details: dict[str, str] | None = None
    fails_task: bool = False
    restart_reason: str = ""
    setup_error: str = ""
    driver_error: str = ""
    driver_message: str = ""
    exit_code: int = 0
    signal: int = 0
    message: str = ""
    kill_timeout: int = 0
    kill_error: str = ""
    kill_reason: str = ""
    start_delay: int = 0
    download_error: str = ""
    validation_error: str = ""
    disk_limit: int = 0
    failed_sibling: str = ""
    vault_error: str = ""
    task_signal_reason: str = ""
    task_signal: str = ""
    generic_source: str = ""


class TaskState(Record, frozen=True, kw_only=True):
    """How one task does: `pending`, `running` or `dead`."""

    state: str = PENDING
    failed: bool = False
    restarts: int = 0
    last_restart: Timestamp = NO_TIME
    started_at: Timestamp = NO_TIME
    finished_at: Timestamp = NO_TIME
    events: tuple[TaskEvent, ...] | None = None

    @property
    def is_successful(self) -> bool:
        """Say whether it has ended, and well."""
        return self.state == "dead" and not self.failed


class DeploymentStatus(Record, frozen=True, kw_only=True):
    """Whether the agent has found the allocation healthy; `None` is not yet known."""

    healthy: bool | None = None
    timestamp: Timestamp = NO_TIME
    canary: bool = False
    modify_index: int = 0


# What the servers want of it


class DesiredTransition(Record, frozen=True, kw_only=True):
    """What a scheduler is to do with it; an unset flag says nothing."""

    migrate: bool | None = None
    reschedule: bool | None = None
    force_reschedule: bool | None = None


class RescheduleEvent(Record, frozen=True, kw_only=True):
    """One replacement of a failed allocation: when (ns), of which, after what delay."""

    reschedule_time: int = 0
    prev_alloc_id: str = ""
    prev_node_id: str = ""
    delay: int = 0


class RescheduleTracker(Record, frozen=True, kw_only=True):
    """The replacements that led to an allocation, the oldest first."""

    events: tuple[RescheduleEvent, ...] = ()


class Allocation(Record, frozen=True, kw_only=True):
    """A task group placed on a node. Times are in ns; ids are lower-case UUIDs.

    `job_modify_index` is the `job_modify_index` of the version that it runs.
    """

    id: str = ""
    namespace: str = "default"
    job_id: str = ""
    job_type: JobType = JobType.SERVICE
    job_priority: int = 50
    node_key: NodeKey = NodeKey("")
    desired_status: str = RUN
    client_status: str = PENDING
    create_index: int = 0
    modify_index: int = 0
    eval_id: str = ""
    name: str = ""
    node_id: str = ""
    node_name: str = ""
    task_group: str = ""
    job_create_index: int = 0
    job_version: int = 0
    job_modify_index: int = 0
    allocated_resources: AllocatedResources = AllocatedResources()
    metrics: AllocMetric | None = None
    desired_description: str = ""
    desired_transition: DesiredTransition = DesiredTransition()
    client_description: str = ""
    task_states: dict[str, TaskState] | None = None
    previous_allocation: str = ""
    next_allocation: str = ""
    deployment_id: str = ""
    deployment_status: DeploymentStatus | None = None
    reschedule_tracker: RescheduleTracker | None = None
    followup_eval_id: str = ""
    preempted_allocations: tuple[str, ...] | None = None
    preempted_by_allocation: str = ""
    alloc_modify_index: int = 0
    create_time: int = 0
    modify_time: int = 0

    @property
    def job_key(self) -> JobKey:
        """Return what its job is known by."""
        return JobKey((self.namespace, self.job_id))

    @property
    def version_key(self) -> JobVersionKey:
        """Return which version of its job it runs."""
        return JobVersionKey(
            self.namespace, self.job_id, self.job_create_index, self.job_version
        )

    @property
    def is_client_terminal(self) -> bool:
        """Say whether the agent has reported it over, or its node is lost."""
        return self.client_status in CLIENT_TERMINAL

    @property
    def is_server_terminal(self) -> bool:
        """Say whether the servers want it over; that is final."""
        return self.desired_status in SERVER_TERMINAL

    @property
    def is_terminal(self) -> bool:
        """Say whether either side has ended it."""
        return self.is_server_terminal or self.is_client_terminal

    @property
    def is_finished(self) -> bool:
        """Say whether nothing more can come of it; a batch one ends with its agent."""
        if self.job_type is JobType.BATCH:
            return self.is_client_terminal
        return self.is_client_terminal and self.desired_status in SERVER_TERMINAL

    @property
    def is_migrating(self) -> bool:
        """Say whether it is marked to move."""
        return self.desired_transition.migrate is True

    @property
    def is_healthy(self) -> bool:
        """Say whether its agent has found it healthy."""
        return self.deployment_status is not None and (
            self.deployment_status.healthy is True
        )

    @property
    def is_successful(self) -> bool:
        """Say whether all of its tasks have ended, and well."""
        states = self.task_states
        if not states:
            return self.client_status == COMPLETE
        return all(state.is_successful for state in states.values())

    @property
    def index(self) -> int:
        """Return the number in its name, `web.grp[3]`; -1 if there is none."""
        number = self.name.rpartition("[")[2].removesuffix("]")
        return int(number) if number.isascii() and number.isdigit() else -1


class ReportedAllocation(
    msgspec.Struct,
    frozen=True,
    gc=False,
    kw_only=True,
    omit_defaults=True,
):
    """What an agent says of one allocation; it may say nothing else."""

    id: str
    client_status: str
    client_description: str = ""
    task_states: dict[str, TaskState] | None = None
    deployment_status: DeploymentStatus | None = None
