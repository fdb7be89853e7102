"""From a job as its author wrote it to one that is whole.

What is absent or `null` gets its default; an explicit zero stays. Where a job says
something for all of its groups, a group's own word wins, field by field.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple, cast

import msgspec
from msgspec import inspect
from msgspec.structs import replace

from nodestate.errors import RequestError
from nodestate.model.encoding import MSGPACK
from nodestate.model.job import (
    EphemeralDisk,
    Job,
    JobType,
    LogConfig,
    MigrateStrategy,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    UpdateStrategy,
)
from nodestate.model.node import NetworkResource, Record

Sent = dict[str, Any]

_SECOND_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _SECOND_NS
_HOUR_NS: Final = 60 * _MINUTE_NS

KILL_TIMEOUT_NS: Final = 5 * _SECOND_NS
NETWORK_MBITS: Final = 10
RESOURCES: Final = Resources(cpu=100, memory_mb=300)
LOG_CONFIG: Final = LogConfig(max_files=10, max_file_size_mb=10)
EPHEMERAL_DISK: Final = EphemeralDisk(size_mb=300)
MIGRATE: Final = MigrateStrategy(
    max_parallel=1,
    health_check="checks",
    min_healthy_time=10 * _SECOND_NS,
    healthy_deadline=5 * _MINUTE_NS,
)
UPDATE: Final = UpdateStrategy(
    stagger=30 * _SECOND_NS,
    max_parallel=1,
    health_check="checks",
    min_healthy_time=10 * _SECOND_NS,
    healthy_deadline=5 * _MINUTE_NS,
    progress_deadline=10 * _MINUTE_NS,
)
RESTART: Final = RestartPolicy(
    attempts=2, interval=30 * _MINUTE_NS, delay=15 * _SECOND_NS, mode="fail"
)
RESTART_BATCH: Final = RestartPolicy(
    attempts=3, interval=24 * _HOUR_NS, delay=15 * _SECOND_NS, mode="fail"
)
RESCHEDULE: Final = {
    JobType.SERVICE: ReschedulePolicy(
        delay=30 * _SECOND_NS,
        delay_function="exponential",
        max_delay=_HOUR_NS,
        unlimited=True,
    ),
    JobType.BATCH: ReschedulePolicy(
        attempts=1,
        interval=24 * _HOUR_NS,
        delay=5 * _SECOND_NS,
        delay_function="constant",
    ),
}

_OURS: Final = (
    "Status",
    "StatusDescription",
    "Stable",
    "Version",
    "SubmitTime",
    "CreateIndex",
    "ModifyIndex",
    "JobModifyIndex",
)
"""What the servers say of a job, whatever its author wrote."""


def complete_job(sent: Mapping[str, Any], *, namespace: str = "default") -> Job:
    """Return the job that decoded JSON describes; `RequestError` if it does not fit.

    `namespace` is that of a job which names none. The type may be one that there is not:
    then it stays as it is, for `job_validation` to say so.
    """
    job = _prune(dict(sent), Job)
    for name in _OURS:
        job.pop(name, None)
    kind = job.get("Type") or JobType.SERVICE
    if not isinstance(kind, str):
        raise RequestError("Job.Type: expected a text")
    is_known = kind in tuple(JobType)
    job["Type"] = kind if is_known else JobType.SERVICE
    job["Name"] = job.get("Name") or job.get("ID", "")
    job["Namespace"] = job.get("Namespace") or namespace
    job["Region"] = job.get("Region") or "global"
    _fill_groups(job, sent, kind)
    completed = _converted(job)
    if not is_known:
        completed = replace(completed, type=cast("JobType", kind))
    return completed


def _converted(job: Sent) -> Job:
    try:
        completed = msgspec.convert(job, Job)
        MSGPACK.encode(completed)
    except msgspec.ValidationError as error:
        raise RequestError(str(error).replace("`$", "`Job")) from error
    except OverflowError as error:
        raise RequestError("Job: a number is out of range") from error
    return completed


# What is absent, null or empty


class _Inside(NamedTuple):
    """What a field holds: which kind of record, if any, and whether by name."""

    record: type[Record] | None
    may_be_unset: bool
    is_map: bool


@cache
def _fields(kind: type[Record]) -> dict[str, _Inside]:
    """Return what each field of a record holds, by JSON key."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: _inside(field.type) for field in info.fields}


def _inside(kind: inspect.Type) -> _Inside:
    if isinstance(kind, inspect.UnionType):
        found = [_inside(each) for each in kind.types]
        return next(
            (each._replace(may_be_unset=True) for each in found if each.record),
            _Inside(None, may_be_unset=True, is_map=False),
        )
    if isinstance(kind, inspect.StructType):
        assert issubclass(kind.cls, Record)
        return _Inside(kind.cls, may_be_unset=False, is_map=False)
    if isinstance(kind, inspect.DictType):
        return _inside(kind.value_type)._replace(is_map=True)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return _inside(kind.item_type)
    return _Inside(None, may_be_unset=False, is_map=False)


def _prune(sent: Sent, kind: type[Record]) -> Sent:
    """Return it without nulls, and without empty lists and maps that may be unset.

    What is opaque stays as it is.
    """
    kept: Sent = {}
    for name, inside in _fields(kind).items():
        value = sent.get(name)
        if value is None or (inside.may_be_unset and value in ([], {})):
            continue
        if inside.record is not None:
            value = _pruned(value, inside.record, is_map=inside.is_map)
        kept[name] = value
    return kept


def _pruned(value: Any, record: type[Record], *, is_map: bool) -> Any:
    if isinstance(value, list):
        return [_pruned(each, record, is_map=False) for each in value]
    if not isinstance(value, dict):
        return value
    if is_map:
        return {
            name: _pruned(each, record, is_map=False) for name, each in value.items()
        }
    return _prune(value, record)


def _filled(sent: Any, default: Record) -> Any:
    """Return a block with what its author left out."""
    if sent is not None and not isinstance(sent, dict):
        return sent
    return {**_as_sent(default), **(sent or {})}


@cache
def _as_sent(record: Record) -> Sent:
    return cast("Sent", msgspec.to_builtins(record))


# Groups


def _fill_groups(job: Sent, sent: Mapping[str, Any], kind: str) -> None:
    """Fill in the groups, and what the job says for all of them."""
    for_all = {name: _without_nulls(sent.get(name)) for name in _FOR_ALL}
    for group in _dicts(job.get("TaskGroups")):
        _fill_group(group, for_all, kind)
    job.pop("Update", None)
    update = for_all["Update"]
    if kind == JobType.SERVICE and (update is None or any(update.values())):
        whole = _filled(update, UPDATE)
        job["Update"] = {name: whole[name] for name in ("Stagger", "MaxParallel")}


_FOR_ALL: Final = ("Update", "Migrate", "Reschedule")


def _without_nulls(block: Any) -> Sent | None:
    if not isinstance(block, dict):
        return None
    return {name: value for name, value in block.items() if value is not None}


def _fill_group(group: Sent, for_all: Mapping[str, Sent | None], kind: str) -> None:
    is_batch = kind == JobType.BATCH
    group["RestartPolicy"] = _filled(
        group.get("RestartPolicy"), RESTART_BATCH if is_batch else RESTART
    )
    group["EphemeralDisk"] = _filled(group.get("EphemeralDisk"), EPHEMERAL_DISK)
    group.setdefault("Count", 1)
    _fill_rescheduling(group, for_all["Reschedule"], kind)
    _fill_migration(group, for_all["Migrate"], kind)
    _fill_update(group, for_all["Update"], kind)
    _fill_networks(group)
    for task in _dicts(group.get("Tasks")):
        _fill_task(task)


def _fill_rescheduling(group: Sent, for_all: Sent | None, kind: str) -> None:
    default = RESCHEDULE.get(kind)  # type: ignore[call-overload]  # a text will do
    own = group.get("ReschedulePolicy")
    if default is not None:
        group["ReschedulePolicy"] = _filled(_merged(for_all, own), default)
    elif own is not None or for_all is not None:
        group["ReschedulePolicy"] = _merged(for_all, own)


def _fill_migration(group: Sent, for_all: Sent | None, kind: str) -> None:
    own = group.get("Migrate")
    if kind == JobType.SERVICE:
        group["Migrate"] = _filled(_merged(for_all, own), MIGRATE)
    elif own is not None or for_all is not None:
        group["Migrate"] = _merged(for_all, own)


def _fill_update(group: Sent, for_all: Sent | None, kind: str) -> None:
    """Fill in a block; one of zeros, as a job without one is shown with, asks for nothing."""
    own = group.get("Update")
    if for_all is None and kind == JobType.SERVICE:
        group["Update"] = _filled(own, UPDATE)
    elif own is not None or any((for_all or {}).values()):
        group["Update"] = _filled(_merged(for_all, own), UPDATE)


def _merged(for_all: Sent | None, own: Any) -> Any:
    if own is not None and not isinstance(own, dict):
        return own
    return {**(for_all or {}), **(own or {})}


# Tasks


def _fill_task(task: Sent) -> None:
    task["Resources"] = _filled(task.get("Resources"), RESOURCES)
    task["LogConfig"] = _filled(task.get("LogConfig"), LOG_CONFIG)
    task.setdefault("KillTimeout", KILL_TIMEOUT_NS)
    if isinstance(task["Resources"], dict):
        _fill_networks(task["Resources"])


def _fill_networks(holder: Sent) -> None:
    default = NetworkResource(mbits=NETWORK_MBITS)
    networks = holder.get("Networks")
    if isinstance(networks, list):
        holder["Networks"] = [_filled(network, default) for network in networks]


def _dicts(value: Any) -> list[Sent]:
    """Return the maps of a list; what is none is found out when it is converted."""
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict)]
