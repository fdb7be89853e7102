"""What a new version of a job changes, as lines: `+` added, `-` gone, `+/-` changed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from nodestate.planning.differences import (
    DiffType,
    FieldDiff,
    GroupDiff,
    JobDiff,
    ObjectDiff,
    TaskDiff,
)

_MARKERS: Final = {
    DiffType.NONE: "",
    DiffType.ADDED: "+ ",
    DiffType.DELETED: "- ",
    DiffType.EDITED: "+/- ",
}
_STEP: Final = "  "


def diff_lines(diff: JobDiff, *, verbose: bool) -> Iterator[str]:
    """Yield the changes of a job; with `verbose` what stays and what is new in full."""
    yield f'{_MARKERS[diff.type]}Job: "{diff.id}"'
    if diff.type is DiffType.EDITED or verbose:
        yield from _inside(diff.fields, diff.objects, "", verbose=verbose)
    for group in diff.task_groups or ():
        yield from _group_lines(group, verbose=verbose)


def _group_lines(group: GroupDiff, *, verbose: bool) -> Iterator[str]:
    text = updates_text(group.updates or {})
    yield f'{_MARKERS[group.type]}Task Group: "{group.name}"{text}'
    if group.type is DiffType.EDITED or verbose:
        yield from _inside(group.fields, group.objects, _STEP, verbose=verbose)
    for task in group.tasks or ():
        yield from _task_lines(task, verbose=verbose)


def updates_text(updates: Mapping[str, int]) -> str:
    """Return how many allocations do what, behind a space; nothing if none does."""
    text = ", ".join(f"{count} {kind}" for kind, count in updates.items() if count)
    return f" ({text})" if text else ""


def _task_lines(task: TaskDiff, *, verbose: bool) -> Iterator[str]:
    yield f'{_STEP}{_MARKERS[task.type]}Task: "{task.name}"{_notes(task.annotations)}'
    if task.type is DiffType.EDITED or verbose:
        yield from _inside(task.fields, task.objects, _STEP * 2, verbose=verbose)


def _inside(
    fields: Sequence[FieldDiff] | None,
    objects: Sequence[ObjectDiff] | None,
    indent: str,
    *,
    verbose: bool,
) -> Iterator[str]:
    """Yield the fields and blocks that differ; with `verbose` the others too."""
    for field in fields or ():
        if field.type is not DiffType.NONE or verbose:
            yield f"{indent}{_MARKERS[field.type]}{_field_text(field)}"
    for block in objects or ():
        if block.type is not DiffType.NONE or verbose:
            yield f"{indent}{_MARKERS[block.type]}{block.name} {{"
            yield from _inside(
                block.fields, block.objects, indent + _STEP, verbose=verbose
            )
            yield f"{indent}}}"


def _field_text(field: FieldDiff) -> str:
    match field.type:
        case DiffType.EDITED:
            text = f'"{field.old}" => "{field.new}"'
        case DiffType.DELETED:
            text = f'"{field.old}"'
        case _:
            text = f'"{field.new}"'
    return f"{field.name}: {text}{_notes(field.annotations)}"


def _notes(annotations: Sequence[str] | None) -> str:
    return f" ({', '.join(annotations)})" if annotations else ""
