"""`alloc status` and `alloc stop`: one allocation, or all of them."""

from collections.abc import Sequence
from typing import Final

from nodestate.answers import Allocation, AllocationResources
from nodestate.cli.alloc_tables import (
    allocation_table,
    newest_first,
    score_table,
    when,
)
from nodestate.cli.eval_monitor import declare_monitor, follow
from nodestate.cli.flags import Flags
from nodestate.cli.job_lookup import one_argument
from nodestate.cli.lookup import searchable
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.cli.tables import NONE, columns, pairs, point_in_time, short_id, size
from nodestate.client import Read
from nodestate.client_work import WorkClient
from nodestate.model.allocation import AllocMetric, TaskState
from nodestate.model.encoding import encode_json

_READING: Final = "Error querying allocation"
_LISTING: Final = "Error querying allocations"
_MIB: Final = 1 << 20


def _declare_status(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("short", "only the last event of each task")
    flags.switch("verbose", "full ids, and how the node was chosen")
    flags.switch("json", "write the server's answer")
    flags.arguments("[<allocation>]")


async def _status(session: Session) -> int:
    arguments = session.args.arguments
    if len(arguments) > 1:
        raise session.refuse(
            "This command takes either no arguments or one: <allocation>"
        )
    async with session.client() as client:
        if arguments:
            found = await _find(session, client, str(arguments[0]))
            _show(session, found)
        else:
            await _list(session, client)
    return 0


async def _list(session: Session, client: WorkClient) -> None:
    with failing(_LISTING):
        listed = await client.all_allocations()
    if session.args.json:
        session.console.output(as_json(listed.body))
    else:
        session.console.output(_table(session, listed.value))


def _table(session: Session, allocations: Sequence[Allocation]) -> str:
    """Return allocations of whatever jobs."""
    if not allocations:
        return "No allocations placed"
    verbose = session.args.verbose
    rows = [["ID", "Node ID", "Job ID", "Task Group", "Version"]]
    rows[0] += ["Desired", "Status", "Created", "Modified"]
    rows += [
        [
            short_id(each.id, verbose=verbose),
            short_id(each.node_id, verbose=verbose),
            each.job_id,
            each.task_group,
            str(each.version),
            each.desired_status,
            each.client_status,
            when(session, each.create_time),
            when(session, each.modify_time),
        ]
        for each in newest_first(allocations)
    ]
    return columns(rows)


async def _find(session: Session, client: WorkClient, named: str) -> Read[Allocation]:
    """Return the one allocation whose id begins so."""
    if len(named) == 1:
        raise CommandError("Identifier must contain at least two characters.")
    prefix = searchable(named)
    with failing(_READING):
        matching = (await client.all_allocations(prefix=prefix)).value
    if not matching:
        raise CommandError(f'No allocation(s) with prefix or id "{prefix}" found')
    if len(matching) > 1:
        table = allocation_table(session, matching)
        raise CommandError(f"Prefix matched multiple allocations\n\n{table}")
    with failing(_READING):
        return await client.allocation(matching[0].id)


def _show(session: Session, found: Read[Allocation]) -> None:
    args, console = session.args, session.console
    if args.json:
        console.output(as_json(found.body))
        return
    allocation = found.value
    console.output(pairs(_basics(session, allocation)))
    states = allocation.task_states or {}
    if args.short:
        console.heading("Tasks")
        console.output(_short_table(states))
        return
    for name in sorted({*states, *(allocation.task_resources or {})}):
        _show_task(session, allocation, name, states.get(name, TaskState()))
    metric = allocation.metrics
    scores = score_table(metric, verbose=args.verbose) if metric else ""
    if args.verbose and scores:
        console.heading("Placement Metrics")
        console.output(scores)


def _basics(session: Session, allocation: Allocation) -> list[tuple[str, str]]:
    verbose = session.args.verbose
    rows = [
        ("ID", allocation.id),
        ("Eval ID", short_id(allocation.eval_id, verbose=verbose)),
        ("Name", allocation.name),
        ("Node ID", short_id(allocation.node_id, verbose=verbose)),
        ("Node Name", allocation.node_name),
        ("Job ID", allocation.job_id),
        ("Job Version", str(allocation.version)),
        ("Client Status", allocation.client_status),
        ("Client Description", allocation.client_description),
        ("Desired Status", allocation.desired_status),
        ("Desired Description", allocation.desired_description),
        ("Created", when(session, allocation.create_time)),
        ("Modified", when(session, allocation.modify_time)),
    ]
    rows += _movement(session, allocation)
    if verbose and allocation.metrics is not None:
        rows += _search(allocation.metrics)
    return rows


def _movement(session: Session, allocation: Allocation) -> list[tuple[str, str]]:
    """Return what it replaces, what replaces it, and how it stands in between."""
    verbose = session.args.verbose
    status, transition = allocation.deployment_status, allocation.desired_transition
    rows = []
    if status is not None and status.healthy is not None:
        rows.append(("Health", "healthy" if status.healthy else "unhealthy"))
    if transition is not None and transition.migrate:
        rows.append(("Migrating", "true"))
    for name, id_ in (
        ("Previous Alloc ID", allocation.previous_allocation),
        ("Replacement Alloc ID", allocation.next_allocation),
        ("Followup Eval ID", allocation.followup_eval_id),
    ):
        if id_:
            rows.append((name, short_id(id_, verbose=verbose)))
    tracker = allocation.reschedule_tracker
    if tracker is not None and tracker.events:
        rows.append(("Reschedule Attempts", str(len(tracker.events))))
    return rows


def _search(metric: AllocMetric) -> list[tuple[str, str]]:
    return [
        ("Evaluated Nodes", str(metric.nodes_evaluated)),
        ("Filtered Nodes", str(metric.nodes_filtered)),
        ("Exhausted Nodes", str(metric.nodes_exhausted)),
        ("Allocation Time", f"{metric.allocation_time / 1000:g}µs"),
        ("Failures", str(metric.coalesced_failures)),
    ]


def _short_table(states: dict[str, TaskState]) -> str:
    rows = [["Name", "State", "Last Event", "Time"]]
    for name, state in sorted(states.items()):
        last = state.events[-1] if state.events else None
        about = ["", ""] if last is None else [last.type, point_in_time(last.time)]
        rows.append([name, state.state, *about])
    return columns(rows)


def _show_task(
    session: Session, allocation: Allocation, name: str, state: TaskState
) -> None:
    console = session.console
    console.heading(f'Task "{name}" is "{state.state}"')
    needs = (allocation.task_resources or {}).get(name)
    if needs is not None:
        console.output("Task Resources")
        console.output(_resource_table(allocation, needs))
        console.output("")
    console.output("Task Events:")
    console.output(
        pairs(
            [
                ("Started At", point_in_time(state.started_at.ns) or "N/A"),
                ("Finished At", point_in_time(state.finished_at.ns) or "N/A"),
                ("Total Restarts", str(state.restarts)),
                ("Last Restart", point_in_time(state.last_restart.ns) or "N/A"),
            ]
        )
    )
    if state.events:
        rows = [["Time", "Type", "Description"]]
        rows += [
            [point_in_time(each.time), each.type, each.display_message or each.message]
            for each in reversed(state.events)
        ]
        console.output(f"\nRecent Events:\n{columns(rows)}")


def _resource_table(allocation: Allocation, needs: AllocationResources) -> str:
    disk_mb = allocation.resources.disk_mb if allocation.resources else needs.disk_mb
    row = [f"{needs.cpu} MHz", size(needs.memory_mb * _MIB), size(disk_mb * _MIB)]
    addresses = [
        f"{port.label}: {network.ip}:{port.value}"
        for network in needs.networks or ()
        for port in (*(network.reserved_ports or ()), *(network.dynamic_ports or ()))
    ]
    rows = [["CPU", "Memory", "Disk", "Addresses"], [*row, (addresses or [NONE])[0]]]
    rows += [[" ", " ", " ", address] for address in addresses[1:]]
    return columns(rows, empty="")


def _declare_stop(flags: Flags) -> None:
    declare_connection(flags)
    declare_monitor(flags)
    flags.switch("json", "write the server's answer, and do not wait")
    flags.arguments("<allocation>")


async def _stop(session: Session) -> int:
    args, console = session.args, session.console
    named = one_argument(session, "allocation")
    async with session.client() as client:
        found = await _find(session, client, named)
        with failing("Error stopping allocation"):
            written = await client.stop_allocation(found.value.id)
        if args.json:
            console.output(as_json(encode_json(written)))
        elif args.detach or not written.eval_id:
            console.output(written.eval_id or "It is stopped already")
        else:
            return await follow(session, client, written.eval_id)
    return 0


COMMANDS = (
    Command(
        words="alloc status",
        synopsis="List all allocations, or show one whose id, or its start, is given.",
        example="nodestate alloc status 0af996ed",
        declare=_declare_status,
        run=_status,
    ),
    Command(
        words="alloc stop",
        synopsis="Stop an allocation, and have it replaced elsewhere.",
        example="nodestate alloc stop 0af996ed",
        declare=_declare_stop,
        run=_stop,
    ),
)
