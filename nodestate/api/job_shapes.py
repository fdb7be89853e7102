"""Jobs as they are sent and received: stubs, answers to writes, submissions."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType, inspect

from nodestate.api.shapes import Shape, encode
from nodestate.errors import RequestError
from nodestate.model.allocation import AllocMetric
from nodestate.model.job import (
    Job,
    JobSummary,
    MigrateStrategy,
    Opaque,
    ReschedulePolicy,
)
from nodestate.model.job_defaults import complete_job
from nodestate.model.node import Record
from nodestate.model.outcome import Accepted
from nodestate.model.timestamp import NO_TIME, Timestamp
from nodestate.planning.differences import JobDiff

NO_JOB: Final = "Job must be specified"
NO_JOB_ID: Final = "Job ID hasn't been provided"

# Sent


class JobStub(Shape, frozen=True, kw_only=True):
    """A job in the list; the namespace is there in lists of all of them."""

    create_index: int
    datacenters: tuple[str, ...]
    id: str
    job_modify_index: int
    job_summary: JobSummary | None
    modify_index: int
    name: str
    parameterized_job: bool
    parent_id: str
    periodic: bool
    priority: int
    status: str
    status_description: str
    stop: bool
    submit_time: int
    type: str
    namespace: str | UnsetType = UNSET


class JobWritten(Shape, frozen=True, kw_only=True):
    """The answer to a job's registration, stop and evaluation."""

    eval_create_index: int
    eval_id: str
    index: int
    job_modify_index: int
    known_leader: bool = False
    last_contact: int = 0
    warnings: str | UnsetType = UNSET


class JobValidated(Shape, frozen=True, kw_only=True):
    """What is wrong with a job. That a server was asked is all that the first one says."""

    driver_config_validated: bool = True
    error: str = ""
    validation_errors: tuple[str, ...] | None = None
    warnings: str = ""


class JobVersions(Shape, frozen=True, kw_only=True):
    """The versions of a job that are kept, the newest first."""

    diffs: tuple[JobDiff, ...] | None = None
    index: int
    known_leader: bool
    last_contact: int  # ns
    versions: tuple[Job, ...]


class DesiredUpdates(Shape, frozen=True, kw_only=True):
    """What becomes of a group's allocations, in numbers."""

    canary: int = 0
    destructive_update: int = 0
    ignore: int = 0
    in_place_update: int = 0
    migrate: int = 0
    place: int = 0
    preemptions: int = 0
    stop: int = 0


class PlanAnnotations(Shape, frozen=True, kw_only=True):
    """What a plan would do, by group."""

    desired_tg_updates: dict[str, DesiredUpdates] = msgspec.field(
        name="DesiredTGUpdates"
    )
    preempted_allocs: None = None


class JobPlanned(Shape, frozen=True, kw_only=True):
    """What registering a job would do; nothing of it is done."""

    annotations: PlanAnnotations
    created_evals: None = None
    diff: JobDiff | None
    failed_tg_allocs: dict[str, AllocMetric] | None = msgspec.field(
        name="FailedTGAllocs"
    )
    index: int
    job_modify_index: int
    known_leader: bool = False
    last_contact: int = 0
    next_periodic_launch: Timestamp = NO_TIME
    warnings: str = ""


def encode_job(job: Job) -> bytes:
    """Return the full JSON of a job."""
    return encode(job)


def encode_job_stub(
    job: Job, summary: JobSummary | None, *, shows_namespace: bool = False
) -> bytes:
    """Return a job's entry in the list."""
    stub = JobStub(
        create_index=job.create_index,
        datacenters=job.datacenters,
        id=job.id,
        job_modify_index=job.job_modify_index,
        job_summary=summary,
        modify_index=job.modify_index,
        name=job.name,
        parameterized_job=job.parameterized_job is not None,
        parent_id=job.parent_id,
        periodic=job.periodic is not None,
        priority=job.priority,
        status=job.status,
        status_description=job.status_description,
        stop=job.stop,
        submit_time=job.submit_time,
        type=job.type,
        namespace=job.namespace if shows_namespace else UNSET,
    )
    return encode(stub)


def describe_job_write(
    accepted: Accepted, *, warnings: str | UnsetType = UNSET
) -> JobWritten:
    """Return the answer to what was done to a job."""
    return JobWritten(
        eval_create_index=accepted.eval_create_index,
        eval_id=accepted.eval_ids[0] if accepted.eval_ids else "",
        index=accepted.index,
        job_modify_index=accepted.job_modify_index,
        warnings=warnings,
    )


# Received


class JobSent(Shape, frozen=True, kw_only=True):
    """The body of a registration, and of the question what is wrong with a job."""

    job: Opaque = None
    enforce_index: bool = False
    job_modify_index: int = 0


class PlanSent(Shape, frozen=True, kw_only=True):
    """The body of a dry run."""

    job: Opaque = None
    diff: bool = False


class EvalOptionsSent(Shape, frozen=True, kw_only=True):
    """How to look at a job."""

    force_reschedule: bool = False


class EvaluationSent(Shape, frozen=True, kw_only=True):
    """The body of a job's evaluation; without a body it is as without options."""

    job_id: str = ""
    eval_options: EvalOptionsSent = EvalOptionsSent()


def job_from(sent: object, *, namespace: str, region: str) -> Job:
    """Return the whole job that a body has; what it leaves out is filled in.

    `namespace` and `region` are those of a job that names none.
    """
    if sent is None:
        raise RequestError(NO_JOB)
    if not isinstance(sent, dict):
        raise RequestError("request body at Job: expected an object")
    spelled = _spelled(sent, Job)
    if spelled.get("ID") is None:
        raise RequestError(NO_JOB_ID)
    spelled["Region"] = spelled.get("Region") or region
    return complete_job(spelled, namespace=namespace)


# Keys in any case, as for all bodies; inside what is only kept they stay as they are.


class _Part(msgspec.Struct, frozen=True):
    """What a field holds: which record, if any, and whether it is a map of them."""

    record: type[Record] | None = None
    is_map: bool = False


_OPAQUE: Final = _Part()
_FOR_ALL_GROUPS: Final = {
    "Migrate": _Part(MigrateStrategy),
    "Reschedule": _Part(ReschedulePolicy),
}
"""What a job may say for all of its groups, beside its own fields."""


@cache
def _parts(kind: type[Record]) -> dict[str, _Part]:
    parts = {
        field.encode_name: _part_of(inspect.type_info(field.type))
        for field in msgspec.structs.fields(kind)
    }
    return {**_FOR_ALL_GROUPS, **parts} if kind is Job else parts


@cache
def _names_in_lower_case(kind: type[Record]) -> dict[str, str]:
    return {name.lower(): name for name in _parts(kind)}


def _part_of(info: inspect.Type) -> _Part:
    match info:
        case inspect.UnionType():
            found = map(_part_of, info.types)
            return next((part for part in found if part.record), _OPAQUE)
        case inspect.StructType():
            assert issubclass(info.cls, Record)
            return _Part(info.cls)
        case inspect.DictType():
            inner = _part_of(info.value_type)
            return _Part(inner.record, is_map=True) if inner.record else _OPAQUE
        case inspect.ListType() | inspect.VarTupleType():
            return _part_of(info.item_type)
        case _:
            return _OPAQUE


def _spelled(sent: Mapping[str, Any], kind: type[Record]) -> dict[str, Any]:
    parts, by_lower = _parts(kind), _names_in_lower_case(kind)
    spelled: dict[str, Any] = {}
    for key, value in sent.items():
        name = key if key in parts else by_lower.get(key.lower())
        # A key that is written exactly counts, wherever it stands.
        if name is not None and (name == key or name not in sent):
            spelled[name] = _spelled_part(value, parts[name])
    return spelled


def _spelled_part(value: Any, part: _Part) -> Any:
    record = part.record
    if record is None:
        return value
    if isinstance(value, list):
        return [_spelled_part(each, part) for each in value]
    if not isinstance(value, dict):
        return value
    if part.is_map:
        inner = _Part(record)
        return {key: _spelled_part(each, inner) for key, each in value.items()}
    return _spelled(value, record)
