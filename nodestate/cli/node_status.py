"""`node status`: all nodes as a table, or one node in full."""

from nodestate.answers import Allocation, NodeStub
from nodestate.cli.alloc_tables import allocation_table
from nodestate.cli.flags import Flags
from nodestate.cli.lookup import find_node, named_node, newest_first
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.cli.tables import (
    columns,
    pairs,
    point_in_time,
    short_id,
    size,
    yes_no,
)
from nodestate.client import Client
from nodestate.model.node import Node, NodeEvent, NodeResources, ReservedResources

RUNNING = "running"
_LISTING = "Error querying node status"
_ALLOCATIONS = "Error querying node allocations"
_MIB = 1 << 20


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("self", "the node of the agent that is asked")
    flags.switch("short", "leave out events and resources of a single node")
    flags.switch("verbose", "full ids, and everything that is known")
    flags.switch("json", "write the server's answer")
    flags.switch("quiet", "list ids only")
    flags.switch("allocs", "list the number of running allocations of each node")
    flags.switch("os", "list the operating system of each node")
    flags.value("filter", "<expression>", "list only nodes that fulfil it")
    flags.value("per-page", "<n>", "list at most so many nodes", kind=int)
    flags.value("page-token", "<token>", "go on where a page ended")
    flags.arguments("[<node>]")


async def _status(session: Session) -> int:
    arguments = session.args.arguments
    if len(arguments) > 1:
        raise session.refuse("This command takes either one or no arguments")
    async with session.client() as client:
        if arguments or session.args.self:
            return await _show_node(session, client)
        return await _list_nodes(session, client)


async def _list_nodes(session: Session, client: Client) -> int:
    args, console = session.args, session.console
    if args.quiet and (args.verbose or args.json):
        raise CommandError("-quiet cannot be used with -verbose or -json")
    with failing(_LISTING):
        listed = await client.nodes(
            filter=args.filter or "",
            per_page=str(args.per_page or ""),
            next_token=args.page_token or "",
            os="true" if args.os else "",
        )
    if args.json:
        console.output(as_json(listed.body))
        return 0
    stubs = newest_first(listed.value)
    if not stubs:
        console.output("No nodes registered")
    elif args.quiet:
        console.output("\n".join(stub.id for stub in stubs))
    else:
        console.output(columns(await _rows(session, client, stubs)))
    if listed.next_token:
        console.output(_next_page(session, listed.next_token))
    return 0


async def _rows(
    session: Session, client: Client, stubs: list[NodeStub]
) -> list[list[str]]:
    args = session.args
    header = ["ID", "Node Pool", "DC", "Name", "Class"]
    header += ["OS"] if args.os else []
    header += ["Address", "Version"] if args.verbose else []
    header += ["Drain", "Eligibility", "Status"]
    header += ["Running Allocs"] if args.allocs else []
    rows = [header]
    for stub in stubs:
        row = [short_id(stub.id, verbose=args.verbose), stub.node_pool]
        row += [stub.datacenter, stub.name, stub.node_class]
        row += [(stub.attributes or {}).get("os.name", "")] if args.os else []
        row += [stub.address, stub.version] if args.verbose else []
        row += [yes_no(stub.drain), stub.scheduling_eligibility, stub.status]
        if args.allocs:
            with failing(_ALLOCATIONS):
                allocations = (await client.allocations(stub.id)).value
            row.append(str(len(_running(allocations))))
        rows.append(row)
    return rows


def _next_page(session: Session, token: str) -> str:
    args = session.args
    words = ["nodestate node status"]
    words += [
        f"-{name}" for name in ("verbose", "allocs", "os", "quiet") if vars(args)[name]
    ]
    words += [f"-filter '{args.filter}'"] if args.filter else []
    words += [f"-per-page {args.per_page}", f"-page-token {token}"]
    return "\nResults have been paginated. To get the next page run:\n\n" + " ".join(
        words
    )


async def _show_node(session: Session, client: Client) -> int:
    args, console = session.args, session.console
    found = await find_node(
        client,
        await named_node(session, client),
        doing="Error querying node info",
        verbose=args.verbose,
        described_as="prefix",
    )
    if args.json:
        console.output(as_json(found.body))
        return 0
    node = found.value
    with failing(_ALLOCATIONS):
        allocations = (await client.allocations(node.id)).value
    console.output(pairs(_basics(session, node)))
    if not args.short:
        _show_details(session, node, allocations)
    console.heading("Allocations")
    console.output(allocation_table(session, allocations))
    if args.verbose:
        console.heading("Attributes")
        console.output(pairs(sorted((node.attributes or {}).items())))
        console.heading("Meta")
        console.output(pairs(sorted((node.meta or {}).items())))
    return 0


def _basics(session: Session, node: Node) -> list[tuple[str, str]]:
    rows = [
        ("ID", node.id),
        ("Name", node.name),
        ("Node Pool", node.node_pool),
        ("Class", node.node_class),
        ("DC", node.datacenter),
        ("Drain", _drain_text(node)),
        ("Eligibility", node.scheduling_eligibility),
        ("Status", node.status),
    ]
    if session.args.short:
        rows.append(("Host Volumes", ",".join(sorted(node.host_volumes or {}))))
        rows.append(("Drivers", ",".join(_detected_by_attribute(node))))
    elif not session.args.verbose:
        rows.append(("Host Volumes", ",".join(sorted(node.host_volumes or {}))))
        rows.append(("Driver Status", ",".join(_detected_drivers(node))))
    return rows


def _drain_text(node: Node) -> str:
    strategy = node.drain_strategy
    if strategy is None:
        return yes_no(node.drain)
    if strategy.deadline < 0:
        text = "true; force drain"
    elif strategy.force_deadline.ns == 0:
        text = "true; no deadline"
    else:
        text = f"true; {point_in_time(strategy.force_deadline.ns)} deadline"
    return text + ("; ignoring system jobs" if strategy.ignore_system_jobs else "")


def _detected_by_attribute(node: Node) -> list[str]:
    names = [
        name.split(".")
        for name, value in (node.attributes or {}).items()
        if value == "1"
    ]
    return sorted(
        parts[1] for parts in names if len(parts) == 2 and parts[0] == "driver"
    )


def _detected_drivers(node: Node) -> list[str]:
    return sorted(
        name if driver.healthy else f"{name} (unhealthy)"
        for name, driver in (node.drivers or {}).items()
        if driver.detected
    )


def _show_details(session: Session, node: Node, allocations: list[Allocation]) -> None:
    console = session.console
    if session.args.verbose:
        _show_volumes_and_drivers(session, node)
    console.heading("Node Events")
    console.output(_event_table(node.events, verbose=session.args.verbose))
    console.heading("Allocated Resources")
    console.output(_resource_table(node, _running(allocations)))


def _show_volumes_and_drivers(session: Session, node: Node) -> None:
    console = session.console
    if node.host_volumes:
        console.heading("Host Volumes")
        rows = [["Name", "ReadOnly", "Source"]]
        rows += [
            [name, yes_no(volume.read_only), volume.path]
            for name, volume in sorted(node.host_volumes.items())
        ]
        console.output(columns(rows))
    console.heading("Drivers")
    rows = [["Driver", "Detected", "Healthy", "Message", "Time"]]
    rows += [
        [
            name,
            yes_no(driver.detected),
            yes_no(driver.healthy),
            driver.health_description,
            point_in_time(driver.update_time.ns),
        ]
        for name, driver in sorted((node.drivers or {}).items())
    ]
    console.output(columns(rows))


def _event_table(events: tuple[NodeEvent, ...], *, verbose: bool) -> str:
    rows = [["Time", "Subsystem", "Message", *(["Details"] if verbose else [])]]
    for event in reversed(events):
        details = event.details or {}
        driver = details.get("driver", "")
        row = [
            point_in_time(event.timestamp.ns),
            f"Driver: {driver}" if driver else event.subsystem,
            event.message,
        ]
        if verbose:
            row.append(", ".join(f"{k}: {v}" for k, v in sorted(details.items())))
        rows.append(row)
    return columns(rows)


def _running(allocations: list[Allocation]) -> list[Allocation]:
    return [each for each in allocations if each.client_status == RUNNING]


def _resource_table(node: Node, running: list[Allocation]) -> str:
    has = node.node_resources or NodeResources()
    keeps = node.reserved_resources or ReservedResources()
    taken = [each.resources for each in running if each.resources is not None]
    memory_mb = has.memory.memory_mb - keeps.memory.memory_mb
    disk_mb = has.disk.disk_mb - keeps.disk.disk_mb
    row = [
        f"{sum(each.cpu for each in taken)}/{has.cpu.cpu_shares - keeps.cpu.cpu_shares} MHz",
        f"{size(sum(each.memory_mb for each in taken) * _MIB)}/{size(memory_mb * _MIB)}",
        f"{size(sum(each.disk_mb for each in taken) * _MIB)}/{size(disk_mb * _MIB)}",
    ]
    return columns([["CPU", "Memory", "Disk"], row])


COMMANDS = (
    Command(
        words="node status",
        synopsis="List all nodes, or show one whose id, or the start of it, is given.",
        example="nodestate node status f7476465",
        declare=_declare,
        run=_status,
    ),
)
