"""What a new version of a job changes, in the form in which Nomad shows it.

The job, its groups and their tasks are told apart by name; blocks inside them are objects
with a name of their kind. A field is shown as text, `""` where it is not set. Where
something differs, its other fields are shown as well, with the type `None`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any, Final

import msgspec

from nodestate.model.job import Job
from nodestate.model.node import Record
from nodestate.planning.reconcile import Changes
from nodestate.planning.updates import is_destructive

FORCES_CREATE: Final = "forces create"
FORCES_DESTROY: Final = "forces destroy"
FORCES_IN_PLACE: Final = "forces in-place update"
FORCES_REPLACEMENT: Final = "forces create/destroy update"

_Sent = dict[str, Any]


class DiffType(StrEnum):
    """How two versions differ in something."""

    NONE = "None"
    ADDED = "Added"
    DELETED = "Deleted"
    EDITED = "Edited"


class FieldDiff(Record, frozen=True, kw_only=True):
    """How a field differs."""

    type: DiffType = DiffType.NONE
    name: str = ""
    old: str = ""
    new: str = ""
    annotations: tuple[str, ...] | None = None


class ObjectDiff(Record, frozen=True, kw_only=True):
    """How a block differs."""

    type: DiffType = DiffType.NONE
    name: str = ""
    fields: tuple[FieldDiff, ...] | None = None
    objects: tuple["ObjectDiff", ...] | None = None


class TaskDiff(ObjectDiff, frozen=True, kw_only=True):
    """How a task differs, and what that leads to."""

    annotations: tuple[str, ...] | None = None


class GroupDiff(ObjectDiff, frozen=True, kw_only=True):
    """How a group differs; `updates` is how many of its allocations do what."""

    tasks: tuple[TaskDiff, ...] | None = None
    updates: dict[str, int] | None = None


class JobDiff(Record, frozen=True, kw_only=True):
    """How a job differs."""

    type: DiffType = DiffType.NONE
    id: str = ""
    fields: tuple[FieldDiff, ...] | None = None
    objects: tuple[ObjectDiff, ...] | None = None
    task_groups: tuple[GroupDiff, ...] | None = None


_NOT_COMPARED: Final = frozenset(
    {
        "ID", "Status", "StatusDescription", "Version", "Stable", "CreateIndex",
        "ModifyIndex", "JobModifyIndex", "Update", "SubmitTime", "TaskGroups",
    }
)  # fmt: skip
"""What of a job is the servers' to say, or is shown in its groups."""

_BLOCKS: Final = {
    "Affinities": "Affinity",
    "Artifacts": "Artifact",
    "Config": "Config",
    "Constraints": "Constraint",
    "Devices": "Device",
    "DispatchPayload": "DispatchPayload",
    "DynamicPorts": "Dynamic Port",
    "EphemeralDisk": "EphemeralDisk",
    "LogConfig": "LogConfig",
    "Migrate": "Migrate",
    "Networks": "Network",
    "ParameterizedJob": "Parameterized",
    "Periodic": "Periodic",
    "ReschedulePolicy": "ReschedulePolicy",
    "ReservedPorts": "Static Port",
    "Resources": "Resources",
    "RestartPolicy": "RestartPolicy",
    "Services": "Service",
    "SpreadTarget": "SpreadTarget",
    "Spreads": "Spread",
    "Templates": "Template",
    "Update": "Update",
    "Vault": "Vault",
    "VolumeMounts": "VolumeMount",
    "Volumes": "Volume",
}
"""Fields that hold blocks, and what one of these is called."""
_BY_NAME: Final = frozenset({"Volumes"})
_TEXT_SETS: Final = frozenset({"Datacenters"})
_MAPS: Final = frozenset({"Env", "Meta"})


def compare_jobs(old: Job | None, new: Job, changes: Mapping[str, Changes]) -> JobDiff:
    """Return how the new version differs, and what becomes of each group's allocations.

    `changes` are those of a dry run, by group. Without an old version all is added.
    """
    before = {} if old is None else _builtins(old)
    after = _builtins(new)
    fields, objects = _parts(_without(before), _without(after))
    groups = tuple(_compare_groups(old, new, changes))
    is_edited = _differs((*fields, *objects, *groups))
    kind = DiffType.EDITED if is_edited else DiffType.NONE
    return JobDiff(
        type=DiffType.ADDED if old is None else kind,
        id=new.id,
        fields=fields if is_edited else None,
        objects=(objects or None) if is_edited else None,
        task_groups=groups,
    )


def _builtins(record: Record) -> _Sent:
    sent: _Sent = msgspec.to_builtins(record)
    return sent


def _without(sent: _Sent) -> _Sent:
    return {name: value for name, value in sent.items() if name not in _NOT_COMPARED}


def _differs(parts: Sequence[FieldDiff | ObjectDiff]) -> bool:
    return any(part.type is not DiffType.NONE for part in parts)


# Groups and tasks


def _compare_groups(
    old: Job | None, new: Job, changes: Mapping[str, Changes]
) -> Iterator[GroupDiff]:
    before = {} if old is None else {group.name: group for group in old.task_groups}
    after = {group.name: group for group in new.task_groups}
    for name in sorted({**before, **after}):
        is_replaced = old is None or is_destructive(old, new, name)
        yield _compare_group(
            name,
            _builtins(before[name]) if name in before else None,
            _builtins(after[name]) if name in after else None,
            updates=_updates(changes.get(name)),
            annotation=FORCES_REPLACEMENT if is_replaced else FORCES_IN_PLACE,
        )


def _compare_group(
    name: str,
    old: _Sent | None,
    new: _Sent | None,
    *,
    updates: dict[str, int] | None,
    annotation: str,
) -> GroupDiff:
    tasks = tuple(_compare_tasks(_tasks(old), _tasks(new), annotation))
    compared = _compare(name, _bare(old, "Tasks"), _bare(new, "Tasks"))
    kind = compared.type
    if kind is DiffType.NONE and _differs(tasks):
        kind = DiffType.EDITED
    return GroupDiff(
        type=kind,
        name=name,
        fields=_annotated(compared.fields),
        objects=compared.objects,
        tasks=tasks,
        updates=updates,
    )


def _tasks(group: _Sent | None) -> dict[str, _Sent]:
    return {} if group is None else {task["Name"]: task for task in group["Tasks"]}


def _bare(sent: _Sent | None, inner: str = "") -> _Sent | None:
    """Return what is shown of something that has its name beside it."""
    if sent is None:
        return None
    return {key: value for key, value in sent.items() if key not in {"Name", inner}}


def _compare_tasks(
    old: Mapping[str, _Sent], new: Mapping[str, _Sent], annotation: str
) -> Iterator[TaskDiff]:
    annotations = {
        DiffType.ADDED: (FORCES_CREATE,),
        DiffType.DELETED: (FORCES_DESTROY,),
        DiffType.EDITED: (annotation,),
    }
    for name in sorted({**old, **new}):
        compared = _compare(name, _bare(old.get(name)), _bare(new.get(name)))
        yield TaskDiff(
            type=compared.type,
            name=name,
            fields=compared.fields,
            objects=compared.objects,
            annotations=annotations.get(compared.type),
        )


def _annotated(fields: tuple[FieldDiff, ...] | None) -> tuple[FieldDiff, ...] | None:
    """Say of a group's count what a change of it leads to."""
    if fields is None:
        return None
    return tuple(
        msgspec.structs.replace(field, annotations=(_of_count(field),))
        if field.name == "Count" and field.type is not DiffType.NONE
        else field
        for field in fields
    )


def _of_count(field: FieldDiff) -> str:
    is_more = int(field.new or 0) > int(field.old or 0)
    return FORCES_CREATE if is_more else FORCES_DESTROY


_UPDATE_WORDS: Final = {
    "ignored": "ignore",
    "placed": "create",
    "migrated": "migrate",
    "stopped": "destroy",
    "updated_in_place": "in-place update",
    "updated": "create/destroy update",
}


def _updates(changes: Changes | None) -> dict[str, int] | None:
    if changes is None:
        return None
    counts = asdict(changes)
    words = {word: counts[name] for name, word in _UPDATE_WORDS.items()}
    return {word: count for word, count in words.items() if count} or None


# Blocks and fields


def _compare(name: str, old: _Sent | None, new: _Sent | None) -> ObjectDiff:
    """Return how a block differs; one that does not has no parts to show."""
    if old == new:
        return ObjectDiff(name=name)
    kind = DiffType.EDITED
    if old is None or new is None:
        kind = DiffType.ADDED if old is None else DiffType.DELETED
    fields, objects = _parts(old or {}, new or {})
    return ObjectDiff(type=kind, name=name, fields=fields, objects=objects or None)


def _parts(
    old: _Sent, new: _Sent
) -> tuple[tuple[FieldDiff, ...], tuple[ObjectDiff, ...]]:
    keys = sorted({**old, **new})
    blocks = [key for key in keys if _holds_blocks(key, old.get(key), new.get(key))]
    before, after = _flat(old, blocks), _flat(new, blocks)
    fields = tuple(
        _compare_texts(name, before.get(name, ""), after.get(name, ""))
        for name in sorted({**before, **after})
    )
    objects: list[ObjectDiff] = []
    for key in keys:
        if key in _TEXT_SETS:
            objects += _compare_sets(key, old.get(key) or (), new.get(key) or ())
        elif key in blocks:
            objects += _compare_blocks(key, old.get(key), new.get(key))
    return fields, tuple(objects)


def _holds_blocks(key: str, old: Any, new: Any) -> bool:
    """Say whether it is no plain value: a disk's `Migrate` is a flag, a group's a block."""
    is_any = isinstance(old, dict | list | tuple) or isinstance(
        new, dict | list | tuple
    )
    return key in _BLOCKS and is_any


def _compare_texts(name: str, old: str, new: str) -> FieldDiff:
    kind = DiffType.NONE
    if old != new:
        kind = DiffType.EDITED if old and new else DiffType.ADDED
        kind = kind if new else DiffType.DELETED
    return FieldDiff(type=kind, name=name, old=old, new=new)


def _flat(sent: _Sent, blocks: Sequence[str]) -> dict[str, str]:
    """Return the fields as texts, those inside maps and lists as `Meta[owner]`, `args[0]`."""
    flat: dict[str, str] = {}
    for key, value in sent.items():
        is_unset = value is None and (key in _BLOCKS or key in _MAPS)
        if not is_unset and key not in blocks and key not in _TEXT_SETS:
            _flatten(key, value, flat)
    return flat


def _flatten(name: str, value: Any, flat: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _flatten(f"{name}[{key}]", part, flat)
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            _flatten(f"{name}[{position}]", part, flat)
    else:
        flat[name] = _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _compare_sets(
    name: str, old: Sequence[str], new: Sequence[str]
) -> Iterator[ObjectDiff]:
    before, after = set(old), set(new)
    if before == after:
        return
    fields = [_compare_texts(name, text, "") for text in sorted(before - after)]
    fields += [_compare_texts(name, "", text) for text in sorted(after - before)]
    kind = DiffType.EDITED
    if not (before and after):
        kind = DiffType.DELETED if before else DiffType.ADDED
    yield ObjectDiff(type=kind, name=name, fields=tuple(fields))


def _compare_blocks(key: str, old: Any, new: Any) -> Iterator[ObjectDiff]:
    """Yield the blocks that differ: one by one, by name, or as members of a list."""
    label = _BLOCKS[key]
    if isinstance(old, list | tuple) or isinstance(new, list | tuple):
        yield from _compare_lists(label, old, new)
        return
    pairs = [(_block(old), _block(new))]
    before, after = old or {}, new or {}
    if key in _BY_NAME and isinstance(before, dict) and isinstance(after, dict):
        names = sorted({**before, **after})
        pairs = [(_block(before.get(name)), _block(after.get(name))) for name in names]
    for one, other in pairs:
        compared = _compare(label, one, other)
        if compared.type is not DiffType.NONE:
            yield compared


def _compare_lists(label: str, old: Any, new: Any) -> Iterator[ObjectDiff]:
    before, after = _by_content(old), _by_content(new)
    for content, block in before.items():
        if content not in after:
            yield _compare(label, block, None)
    for content, block in after.items():
        if content not in before:
            yield _compare(label, None, block)


def _by_content(blocks: Any) -> dict[bytes, _Sent]:
    """Return blocks by what they say, in order; of two that say the same there is one."""
    several = blocks if isinstance(blocks, list | tuple) else [blocks]
    found = [_block(block) for block in several]
    return {
        msgspec.json.encode(block, order="sorted"): block
        for block in found
        if block is not None
    }


def _block(value: Any) -> _Sent | None:
    """Return a block; one that is kept as it came need not be an object."""
    if value is None or isinstance(value, dict):
        return value
    return {"Value": value}
