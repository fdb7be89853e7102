"""A job: what is to run, how often, where, and what becomes of it when that fails.

Field names and the meaning of every field are Nomad's. A stored job is whole: what its
author left out has been filled in (`job_defaults`). Unset lists and maps are `None`, as
in all records; durations are nanoseconds. What this service only keeps and shows again
is whatever JSON it was (`Opaque`).
"""

from enum import StrEnum
from typing import Any, Final, NewType

import msgspec

from nodestate.model.node import NetworkResource, Record

JobKey = NewType("JobKey", tuple[str, str])
"""Namespace and id."""

Opaque = Any
"""JSON that is kept and shown again, and otherwise means nothing here."""

DEFAULT_NAMESPACE: Final = "default"
JOB_VERSIONS_MAX: Final = 6
"""How many versions of a job are kept; those that allocations run are kept beside."""


class JobType(StrEnum):
    """How a job is scheduled."""

    SERVICE = "service"
    BATCH = "batch"
    SYSTEM = "system"


class JobStatus(StrEnum):
    """What has become of a job."""

    PENDING = "pending"
    RUNNING = "running"
    DEAD = "dead"


# What a node must have, and what it had better have


class Constraint(Record, frozen=True, kw_only=True):
    """What a node must satisfy: `${attr.kernel.name} = linux`."""

    l_target: str = ""
    r_target: str = ""
    operand: str = ""


class Affinity(Record, frozen=True, kw_only=True):
    """What a node had better satisfy; a negative weight says: had better not."""

    l_target: str = ""
    r_target: str = ""
    operand: str = ""
    weight: int = 50


class SpreadTarget(Record, frozen=True, kw_only=True):
    """How many percent of a group should run where an attribute has a value."""

    value: str = ""
    percent: int = 0


class Spread(Record, frozen=True, kw_only=True):
    """Over which attribute's values a group is spread."""

    attribute: str = ""
    weight: int = 50
    spread_target: tuple[SpreadTarget, ...] | None = None


class VolumeRequest(Record, frozen=True, kw_only=True):
    """A directory of the node that a group needs."""

    name: str = ""
    type: str = ""
    source: str = ""
    read_only: bool = False


class DeviceRequest(Record, frozen=True, kw_only=True):
    """Devices that a task needs."""

    name: str = ""
    count: int = 1
    constraints: tuple[Constraint, ...] | None = None
    affinities: tuple[Affinity, ...] | None = None


class Resources(Record, frozen=True, kw_only=True):
    """What a task needs: CPU in MHz, memory in MiB."""

    cpu: int = msgspec.field(name="CPU", default=0)
    memory_mb: int = 0
    disk_mb: int = 0
    iops: int = 0
    networks: list[NetworkResource] | None = None
    devices: tuple[DeviceRequest, ...] | None = None


# What becomes of what runs


class UpdateStrategy(Record, frozen=True, kw_only=True):
    """How a new version takes the place of the old one; kept and shown, not followed."""

    stagger: int = 0
    max_parallel: int = 0
    health_check: str = ""
    min_healthy_time: int = 0
    healthy_deadline: int = 0
    progress_deadline: int = 0
    auto_revert: bool = False
    auto_promote: bool = False
    canary: int = 0


class MigrateStrategy(Record, frozen=True, kw_only=True):
    """How a drain moves a group: how many at once, and when a new one counts as healthy."""

    max_parallel: int = 0
    health_check: str = ""
    min_healthy_time: int = 0
    healthy_deadline: int = 0


class RestartPolicy(Record, frozen=True, kw_only=True):
    """How often the agent starts a failed task again where it is."""

    attempts: int = 0
    interval: int = 0
    delay: int = 0
    mode: str = ""


class ReschedulePolicy(Record, frozen=True, kw_only=True):
    """How often, and how soon, a failed allocation is replaced on another node."""

    attempts: int = 0
    interval: int = 0
    delay: int = 0
    delay_function: str = ""
    max_delay: int = 0
    unlimited: bool = False


class EphemeralDisk(Record, frozen=True, kw_only=True):
    """The disk that the tasks of an allocation share."""

    sticky: bool = False
    size_mb: int = 0
    migrate: bool = False


class LogConfig(Record, frozen=True, kw_only=True):
    """How much of a task's output is kept."""

    max_files: int = 0
    max_file_size_mb: int = 0


# The job itself


class Task(Record, frozen=True, kw_only=True):
    """One program, container or whatever a driver runs."""

    name: str = ""
    driver: str = ""
    user: str = ""
    config: Opaque = None
    env: dict[str, str] | None = None
    services: Opaque = None
    vault: Opaque = None
    templates: Opaque = None
    constraints: tuple[Constraint, ...] | None = None
    affinities: tuple[Affinity, ...] | None = None
    resources: Resources = Resources()
    dispatch_payload: Opaque = None
    meta: dict[str, str] | None = None
    kill_timeout: int = 0
    log_config: LogConfig = LogConfig()
    artifacts: Opaque = None
    leader: bool = False
    shutdown_delay: int = 0
    volume_mounts: Opaque = None
    kill_signal: str = ""
    kind: str = ""


class TaskGroup(Record, frozen=True, kw_only=True):
    """Tasks that are placed together on one node, `count` times."""

    name: str = ""
    count: int = 1
    update: UpdateStrategy | None = None
    migrate: MigrateStrategy | None = None
    constraints: tuple[Constraint, ...] | None = None
    restart_policy: RestartPolicy | None = None
    tasks: tuple[Task, ...] = ()
    ephemeral_disk: EphemeralDisk = EphemeralDisk()
    meta: dict[str, str] | None = None
    reschedule_policy: ReschedulePolicy | None = None
    affinities: tuple[Affinity, ...] | None = None
    spreads: tuple[Spread, ...] | None = None
    networks: list[NetworkResource] | None = None
    services: Opaque = None
    volumes: dict[str, VolumeRequest] | None = None
    shutdown_delay: int | None = None


class Job(Record, frozen=True, kw_only=True):
    """What is to run. `submit_time` is in ns; `job_modify_index` moves with the spec only."""

    id: str = ""
    namespace: str = DEFAULT_NAMESPACE
    type: JobType = JobType.SERVICE
    priority: int = 50
    datacenters: tuple[str, ...] = ()
    stop: bool = False
    create_index: int = 0
    modify_index: int = 0
    job_modify_index: int = 0
    region: str = "global"
    parent_id: str = ""
    name: str = ""
    all_at_once: bool = False
    constraints: tuple[Constraint, ...] | None = None
    affinities: tuple[Affinity, ...] | None = None
    spreads: tuple[Spread, ...] | None = None
    task_groups: tuple[TaskGroup, ...] = ()
    update: UpdateStrategy = UpdateStrategy()
    periodic: Opaque = None
    parameterized_job: Opaque = None
    dispatched: bool = False
    payload: str | None = None
    meta: dict[str, str] | None = None
    consul_token: str = ""
    vault_token: str = ""
    status: JobStatus = JobStatus.PENDING
    status_description: str = ""
    stable: bool = False
    version: int = 0
    submit_time: int = 0

    @property
    def key(self) -> JobKey:
        """Return what the job is known by."""
        return JobKey((self.namespace, self.id))

    def is_wanted_on(self, datacenter: str) -> bool:
        """Say whether it is a system job that a node of the datacenter has to run."""
        is_running_system_job = self.type is JobType.SYSTEM and not self.stop
        return is_running_system_job and datacenter in self.datacenters

    def group(self, name: str) -> TaskGroup | None:
        """Return the group of that name, `None` if there is none."""
        return next((group for group in self.task_groups if group.name == name), None)


class JobVersionKey(msgspec.Struct, frozen=True, gc=False, array_like=True, order=True):
    """Which version of which job: a job that was purged and registered is another one."""

    namespace: str
    job_id: str
    create_index: int
    version: int

    @property
    def job_key(self) -> JobKey:
        """Return what the job is known by."""
        return JobKey((self.namespace, self.job_id))


def version_key(job: Job) -> JobVersionKey:
    """Return the key of this version of the job."""
    return JobVersionKey(job.namespace, job.id, job.create_index, job.version)


# How it does


class GroupSummary(Record, frozen=True, kw_only=True):
    """How many allocations of a group are in which state, and how many are still wanted."""

    queued: int = 0
    complete: int = 0
    failed: int = 0
    running: int = 0
    starting: int = 0
    lost: int = 0


class ChildrenSummary(Record, frozen=True, kw_only=True):
    """The jobs that a job has launched: none, ever."""

    pending: int = 0
    running: int = 0
    dead: int = 0


class JobSummary(Record, frozen=True, kw_only=True):
    """A job in numbers, by group. Complete and failed ones are never counted down."""

    job_id: str = ""
    namespace: str = DEFAULT_NAMESPACE
    summary: dict[str, GroupSummary] = msgspec.field(default_factory=dict)
    children: ChildrenSummary = ChildrenSummary()
    create_index: int = 0
    modify_index: int = 0
