"""What is wrong with a job: every fault at once, in Nomad's words.

Numbers of groups, tasks and constraints count from 1.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from nodestate.model.duration import format_duration
from nodestate.model.job import (
    Constraint,
    EphemeralDisk,
    Job,
    JobType,
    MigrateStrategy,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    Task,
    TaskGroup,
    VolumeRequest,
)
from nodestate.model.node import NetworkResource

PRIORITY_MAX: Final = 100
JOB_COUNT_MAX: Final = 50_000
"""Allocations of one job: a scheduler has each in its hand, wanted or there. Nomad's own."""
CPU_MIN: Final = 20
MEMORY_MIN_MB: Final = 10
DISK_MIN_MB: Final = 10
MBITS_MIN: Final = 1
RESTART_INTERVAL_MIN_NS: Final = 5_000_000_000
RESCHEDULE_INTERVAL_MIN_NS: Final = 15_000_000_000
RESCHEDULE_DELAY_MIN_NS: Final = 5_000_000_000

PERIODIC: Final = "periodic jobs are not supported"
PARAMETERIZED: Final = "parameterized jobs are not supported"
DISPATCHED: Final = "job can't be submitted with 'Dispatched' set"
PAYLOAD: Final = "job can't be submitted with a payload, only dispatched"
CORE: Final = "job type cannot be core"

_HEALTH_CHECKS: Final = ("checks", "task_states")
_UINT64_MAX: Final = 2**64 - 1
_UINT64_DIGITS: Final = 20
_DELAY_FUNCTIONS: Final = ("constant", "exponential", "fibonacci")
_DISTINCT_PROPERTY: Final = "distinct_property"
_DISTINCT: Final = ("distinct_hosts", _DISTINCT_PROPERTY)
_WITHOUT_TARGETS: Final = ("distinct_hosts",)
_WITHOUT_R_TARGET: Final = ("is_set", "is_not_set")
_WITH_BOTH_TARGETS: Final = (
    "=", "==", "is", "!=", "not", "<", "<=", ">", ">=", "version", "semver", "regexp",
    "set_contains", "set_contains_all", "set_contains_any",
)  # fmt: skip


def refuse_submission(job: Job) -> str:
    """Return why nobody may submit such a job, `""` if one may."""
    if str(job.type) == "_core":
        return CORE
    if job.dispatched:
        return DISPATCHED
    if job.payload:
        return PAYLOAD
    if job.periodic is not None:
        return PERIODIC
    return PARAMETERIZED if job.parameterized_job is not None else ""


def job_faults(job: Job) -> str:
    """Return the text that says all that is wrong with a whole job, `""` if nothing is."""
    return listed(faults_of(job))


def faults_of(job: Job) -> list[str]:
    """Return all that is wrong with a whole job, each fault for itself."""
    return [*_of_job(job), *_of_groups(job)]


def listed(faults: Sequence[str]) -> str:
    """Return faults as Nomad lists them; a list inside keeps its own two newlines."""
    if not faults:
        return ""
    head = "1 error" if len(faults) == 1 else f"{len(faults)} errors"
    lines = "".join(f"\n\t* {fault}" for fault in faults)
    return f"{head} occurred:{lines}\n\n"


def _nested(head: str, faults: Iterable[str]) -> Iterator[str]:
    """Yield one fault made of a list of them, if there are any."""
    found = list(faults)
    if found:
        yield f"{head} validation failed: {listed(found)}"


# Job


def _of_job(job: Job) -> Iterator[str]:
    if not job.region:
        yield "Missing job region"
    yield from _of_job_id(job)
    if not job.name:
        yield "Missing job name"
    if not job.namespace:
        yield "Job must be in a namespace"
    yield from _of_type(job)
    if not 1 <= job.priority <= PRIORITY_MAX:
        yield f"Job priority must be between [1, {PRIORITY_MAX}]"
    if not job.datacenters:
        yield "Missing job datacenters"
    elif "" in job.datacenters:
        yield "Job datacenter must be non-empty string"
    yield from _of_constraints(job.constraints)
    yield from _of_preferences(job, job)
    if not job.task_groups:
        yield "Missing job task groups"
    count = sum(max(group.count, 0) for group in job.task_groups)
    if count > JOB_COUNT_MAX:
        yield f"total count was greater than job_max_count: {count} > {JOB_COUNT_MAX}"


def _of_job_id(job: Job) -> Iterator[str]:
    if not job.id:
        yield "Missing job ID"
    elif " " in job.id:
        yield "Job ID contains a space"
    elif "\0" in job.id:
        yield "Job ID contains a null character"


def _of_type(job: Job) -> Iterator[str]:
    if not job.type:
        yield "Missing job type"
    elif job.type not in tuple(JobType):
        yield f'Invalid job type: "{job.type}"'


def _of_preferences(job: Job, block: Job | TaskGroup | Task) -> Iterator[str]:
    """Yield what a system job, which runs everywhere, says of preferences."""
    if job.type != JobType.SYSTEM:
        return
    if block.affinities:
        yield "System jobs may not have an affinity stanza"
    if not isinstance(block, Task) and block.spreads:
        yield "System jobs may not have a spread stanza"


def _of_groups(job: Job) -> Iterator[str]:
    numbers: dict[str, int] = {}
    for number, group in enumerate(job.task_groups, 1):
        if not group.name:
            yield f"Job task group {number} missing name"
        elif group.name in numbers:
            yield (
                f"Job task group {number} redefines '{group.name}' "
                f"from group {numbers[group.name]}"
            )
        else:
            numbers[group.name] = number
        if job.type == JobType.SYSTEM and group.count > 1:
            yield (
                f"Job task group {group.name} has count {group.count}. "
                "Count cannot exceed 1 with system scheduler"
            )
    for group in job.task_groups:
        yield from _nested(f"Task group {group.name}", _of_group(job, group))


# Group


def _of_group(job: Job, group: TaskGroup) -> Iterator[str]:
    if group.count < 0:
        yield "Task group count can't be negative"
    if not group.tasks:
        yield "Missing tasks for task group"
    yield from _of_constraints(group.constraints)
    yield from _of_preferences(job, group)
    if group.restart_policy is None:
        yield f"Task Group {group.name} should have a restart policy"
    else:
        yield from _of_restart(group.restart_policy)
    yield from _of_rescheduling(job, group)
    yield from _of_disk(group.ephemeral_disk)
    yield from _of_movement(job, group)
    yield from _of_task_names(group)
    yield from _of_ports(group)
    for name, volume in sorted((group.volumes or {}).items()):
        yield from _of_volume(name, volume)
    for task in group.tasks:
        faults = _of_task(job, task, group.ephemeral_disk)
        yield from _nested(f"Task {task.name}", faults)


def _of_restart(policy: RestartPolicy) -> Iterator[str]:
    if policy.mode not in ("delay", "fail"):
        yield f'Unsupported restart mode: "{policy.mode}"'
        return
    if policy.attempts == 0 and policy.mode != "fail":
        yield f'Restart policy "{policy.mode}" with 0 attempts is ambiguous'
    if policy.interval < RESTART_INTERVAL_MIN_NS:
        yield (
            f"Interval can not be less than {_time(RESTART_INTERVAL_MIN_NS)} "
            f"(got {_time(policy.interval)})"
        )
    if policy.attempts * policy.delay > policy.interval:
        yield (
            f"Restart policy can't restart the TaskGroup {policy.attempts} times in an "
            f"interval of {_time(policy.interval)} with a delay of {_time(policy.delay)}"
        )


def _of_rescheduling(job: Job, group: TaskGroup) -> Iterator[str]:
    policy = group.reschedule_policy
    if job.type == JobType.SYSTEM:
        if policy is not None:
            yield "System jobs should not have a reschedule policy"
    elif policy is None:
        yield f"Task Group {group.name} should have a reschedule policy"
    elif policy.attempts > 0 or policy.unlimited:
        yield from _of_reschedule_policy(policy)


def _of_reschedule_policy(policy: ReschedulePolicy) -> Iterator[str]:
    if policy.attempts > 0 and policy.unlimited:
        yield (
            f"Reschedule Policy with Attempts = {policy.attempts}, Interval = "
            f"{_time(policy.interval)}, and Unlimited = true is ambiguous"
        )
    if policy.delay_function not in _DELAY_FUNCTIONS:
        names = " ".join(f'"{name}"' for name in _DELAY_FUNCTIONS)
        yield f'Invalid delay function "{policy.delay_function}", must be one of [{names}]'
        return
    if policy.delay < RESCHEDULE_DELAY_MIN_NS:
        yield _too_short("Delay", RESCHEDULE_DELAY_MIN_NS, policy.delay)
    if policy.delay_function != "constant" and policy.max_delay < policy.delay:
        yield (
            f"Max Delay cannot be less than Delay {_time(policy.delay)} "
            f"(got {_time(policy.max_delay)})"
        )
    if policy.unlimited:
        return
    if policy.interval < RESCHEDULE_INTERVAL_MIN_NS:
        yield _too_short("Interval", RESCHEDULE_INTERVAL_MIN_NS, policy.interval)
    elif _span_ns(policy) > policy.interval:
        yield (
            f"Reschedule Policy can't have {policy.attempts} attempts in an interval of "
            f"{_time(policy.interval)} and initial delay {_time(policy.delay)} for the "
            f'"{policy.delay_function}" delay function'
        )


def _too_short(name: str, least_ns: int, found_ns: int) -> str:
    return f"{name} cannot be less than {_time(least_ns)} (got {_time(found_ns)})"


def _span_ns(policy: ReschedulePolicy) -> int:
    """Return how long all the attempts take; once it is too long, something longer."""
    if policy.delay_function == "constant":
        return policy.attempts * policy.delay
    before, delay, span, left = 0, policy.delay, 0, policy.attempts
    while left and span <= policy.interval:
        if delay >= policy.max_delay:
            return span + left * policy.max_delay
        span += delay
        left -= 1
        is_doubled = policy.delay_function == "exponential"
        before, delay = delay, delay + (delay if is_doubled else before)
    return span


def _of_disk(disk: EphemeralDisk) -> Iterator[str]:
    if disk.size_mb < DISK_MIN_MB:
        yield f"minimum DiskMB value is {DISK_MIN_MB}; got {disk.size_mb}"


def _of_movement(job: Job, group: TaskGroup) -> Iterator[str]:
    if job.type == JobType.SERVICE:
        if group.migrate is not None:
            yield from _of_migration(group.migrate)
        return
    if group.update is not None:
        yield f'Job type "{job.type}" does not allow update block'
    if group.migrate is not None:
        yield f'Job type "{job.type}" does not allow migrate block'


def _of_migration(strategy: MigrateStrategy) -> Iterator[str]:
    if strategy.max_parallel < 0:
        yield f"MaxParallel must be >= 0 but found {strategy.max_parallel}"
    if not strategy.health_check:
        yield "Missing HealthCheck"
    elif strategy.health_check not in _HEALTH_CHECKS:
        yield f'Invalid HealthCheck: "{strategy.health_check}"'
    least, most = strategy.min_healthy_time, strategy.healthy_deadline
    if least < 0:
        yield f"MinHealthyTime is {_time(least)} and must be >= 0"
    if most < 0:
        yield f"HealthyDeadline is {_time(most)} and must be >= 0"
    if least >= most >= 0:
        yield "MinHealthyTime must be less than HealthyDeadline"


def _of_task_names(group: TaskGroup) -> Iterator[str]:
    numbers: dict[str, int] = {}
    for number, task in enumerate(group.tasks, 1):
        if not task.name:
            yield f"Task {number} missing name"
        elif task.name in numbers:
            yield (
                f"Task {number} redefines '{task.name}' from task {numbers[task.name]}"
            )
        else:
            numbers[task.name] = number
    if sum(task.leader for task in group.tasks) > 1:
        yield "Only one task may be marked as leader"


def _of_ports(group: TaskGroup) -> Iterator[str]:
    labels: dict[str, str] = {}
    values: dict[int, str] = {}
    for who, network in _networks(group):
        for port in chain(network.reserved_ports or (), network.dynamic_ports or ()):
            owner = f"{who}:{port.label}"
            if port.label in labels:
                yield f"Port label {port.label} already in use by {labels[port.label]}"
            labels.setdefault(port.label, owner)
        for port in network.reserved_ports or ():
            if port.value in values:
                yield f"Static port {port.value} already reserved by {values[port.value]}"
            values.setdefault(port.value, f"{who}:{port.label}")


def _networks(group: TaskGroup) -> Iterator[tuple[str, NetworkResource]]:
    for network in group.networks or ():
        yield "taskgroup network", network
    for task in group.tasks:
        for network in task.resources.networks or ():
            yield task.name, network


def _of_volume(name: str, volume: VolumeRequest) -> Iterator[str]:
    if volume.type != "host":
        yield f"Volume {name} has unrecognised type {volume.type}"
    if not volume.source:
        yield f"Volume {name} has an empty source"


# Task


def _of_task(job: Job, task: Task, disk: EphemeralDisk) -> Iterator[str]:
    if not task.name:
        yield "Missing task name"
    if "/" in task.name or "\\" in task.name:
        yield "Task name cannot include slashes"
    if not task.driver:
        yield "Missing task driver"
    yield from _of_resources(task.resources)
    yield from _of_logs(task, disk)
    for number, constraint in enumerate(task.constraints or (), 1):
        yield from _of_constraint(number, constraint)
        if constraint.operand in _DISTINCT:
            yield (
                f"Constraint {number} has disallowed Operand at task level: "
                f"{constraint.operand}"
            )
    yield from _of_preferences(job, task)


def _of_resources(resources: Resources) -> Iterator[str]:
    if resources.cpu < CPU_MIN:
        yield f"minimum CPU value is {CPU_MIN}; got {resources.cpu}"
    if resources.memory_mb < MEMORY_MIN_MB:
        yield f"minimum MemoryMB value is {MEMORY_MIN_MB}; got {resources.memory_mb}"
    for network in resources.networks or ():
        if network.mbits < MBITS_MIN:
            yield f"minimum MBits value is {MBITS_MIN}; got {network.mbits}"
    if resources.disk_mb > 0:
        yield (
            "Task can't ask for disk resources, they have to be specified at the task "
            "group level."
        )


def _of_logs(task: Task, disk: EphemeralDisk) -> Iterator[str]:
    logs_mb = task.log_config.max_files * task.log_config.max_file_size_mb
    if disk.size_mb <= logs_mb:
        yield (
            f"log storage ({logs_mb} MB) must be less than requested disk capacity "
            f"({disk.size_mb} MB)"
        )


# Constraints


def _of_constraints(constraints: Iterable[Constraint] | None) -> Iterator[str]:
    for number, constraint in enumerate(constraints or (), 1):
        yield from _of_constraint(number, constraint)


def _of_constraint(number: int, constraint: Constraint) -> Iterator[str]:
    yield from _nested(f"Constraint {number}", _in_constraint(constraint))


def _in_constraint(constraint: Constraint) -> Iterator[str]:
    operand = constraint.operand
    if not operand:
        yield "Missing constraint operand"
    elif operand in _WITH_BOTH_TARGETS:
        if not constraint.r_target:
            yield f'Operator "{operand}" requires an RTarget'
    elif operand == _DISTINCT_PROPERTY:
        if constraint.r_target:
            yield from _in_count(constraint.r_target)
    elif operand not in (*_WITHOUT_TARGETS, *_WITHOUT_R_TARGET):
        yield f'Unknown constraint type "{operand}"'
    if operand not in _WITHOUT_TARGETS and not constraint.l_target:
        yield "No LTarget provided but is required by constraint"


def _in_count(text: str) -> Iterator[str]:
    """Yield why a text does not say how many may share a property's value."""
    if not (text.isascii() and text.isdigit()):
        reason = "invalid syntax"
    else:
        # Only so many digits: a number of thousands of them is none to Python.
        count = int(text.lstrip("0")[: _UINT64_DIGITS + 1] or "0")
        if count < 1:
            yield (
                "Distinct Property must have an allowed count of 1 or greater: "
                f"{count} < 1"
            )
        if count <= _UINT64_MAX:
            return
        reason = "value out of range"
    yield (
        f'Failed to convert RTarget "{text}" to uint64: '
        f'strconv.ParseUint: parsing "{text}": {reason}'
    )


def _time(ns: int) -> str:
    return f"-{format_duration(-ns)}" if ns < 0 else format_duration(ns)
