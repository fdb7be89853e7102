"""What a drain does, or would do: a table before it begins, and lines while it is on."""

from typing import Final

from nodestate.answers import DrainSpec, DrainView, GroupDrain
from nodestate.cli.session import Session, as_json, failing
from nodestate.cli.tables import columns, point_in_time
from nodestate.client_work import WorkClient
from nodestate.model.duration import format_duration
from nodestate.model.node import Node

_DEFAULT: Final = "default"


async def show_plan(
    session: Session, client: WorkClient, node: Node, spec: DrainSpec
) -> None:
    """Show what a drain as asked for would do now; nothing is changed."""
    with failing("Error querying what a drain would do"):
        read = await client.drain_view(node.id, spec)
    console = session.console
    if session.args.json:
        console.output(as_json(read.body))
        return
    console.output(f'Drain of node "{node.id}": {_how(spec, read.value)}')
    if node.drain_strategy is not None:
        console.output("The node drains already; this would take its place.")
    groups = read.value.groups or ()
    if groups:
        console.output(f"\n{_table(groups)}\n")
    console.output(_outlook(read.value))


def _how(spec: DrainSpec, view: DrainView) -> str:
    if spec.deadline < 0:
        text = "everything is stopped at once"
    elif spec.deadline == 0:
        text = "no deadline"
    else:
        at = point_in_time(view.deadline.ns)
        text = f"deadline after {format_duration(spec.deadline)}, at {at}"
    return text + ("; system jobs are left alone" if spec.ignore_system_jobs else "")


def _table(groups: tuple[GroupDrain, ...]) -> str:
    rows = [
        ["Job ID", "Task Group", "Type", "Moving", "Moves Now", "Waits", "Waits For"]
    ]
    rows += [
        [
            _job(group),
            group.task_group,
            group.job_type,
            str(len(group.moving)),
            str(len(group.next)),
            str(len(group.waiting)),
            reason(group) or "-",
        ]
        for group in groups
    ]
    return columns(rows)


def _outlook(view: DrainView) -> str:
    held_up = [
        group
        for group in view.groups or ()
        if group.job_type != "system" and (group.moving or group.next or group.waiting)
    ]
    if not held_up:
        return "Nothing on the node holds the drain up: it would be over at once."
    count = sum(
        len(group.moving) + len(group.next) + len(group.waiting) for group in held_up
    )
    noun = "allocation has" if count == 1 else "allocations have"
    return f"{count} {noun} to be gone before the drain is over."


def reason(group: GroupDrain) -> str:
    """Return what those that wait wait for; empty if none does."""
    at_once = f"{group.max_parallel} moves" if group.max_parallel == 1 else ""
    at_once = at_once or f"{group.max_parallel} move"
    texts = {
        "max_parallel": f"the others: at most {at_once} at once (migrate.max_parallel)",
        "health": "the health of replacements: "
        f"{group.settled} of {group.wanted} have been judged",
        "room": "room on other nodes for those that were told to move",
        "finish": "the work's own end: batch jobs are let finish",
        "last": "all other jobs: system jobs are stopped last",
        "deadline": "the deadline: the group lets none move before",
        "ignored": "nothing: system jobs are left alone",
    }
    return texts.get(group.waits_for, group.waits_for)


def progress(view: DrainView) -> dict[str, str]:
    """Return a line for each group that is not done, by what it is called.

    Groups with allocations that are to be told to move are left out: they will be, in a
    moment, and the line after that is the one to read.
    """
    lines = {}
    for group in view.groups or ():
        text = _progress_text(group)
        if text and not group.next:
            lines[f'job "{_job(group)}", group "{group.task_group}"'] = text
    return lines


def _progress_text(group: GroupDrain) -> str:
    if group.waiting and group.waits_for != "ignored":
        verb = "waits" if len(group.waiting) == 1 else "wait"
        return f"{len(group.waiting)} {verb} for {reason(group)}"
    return f"{len(group.moving)} still moving" if group.moving else ""


def _job(group: GroupDrain) -> str:
    """Return the job's id, and its namespace if that is not the usual one."""
    if group.namespace in ("", _DEFAULT):
        return group.job_id
    return f"{group.job_id}@{group.namespace}"
