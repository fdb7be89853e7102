"""`simulate-agents`: many nodes in one process, with work that is only pretended."""

import argparse
import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import msgspec
import uvloop

from nodestate.agents.fates import Behaviour, Span
from nodestate.agents.fleet import AgentFleet, FleetCounts, connections_needed
from nodestate.agents.identities import NODES_MAX, FleetSpec
from nodestate.cli.flags import Flags
from nodestate.cli.session import (
    EXIT_FAILED,
    EXIT_OK,
    Command,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.client import DEFAULT_ADDRESS, Client
from nodestate.model.duration import format_duration, parse_duration_ns
from nodestate.model.encoding import encode_json
from nodestate.model.timestamp import NANOSECONDS

LINE_EVERY_NS: Final = 1 * NANOSECONDS
LINE_EVERY_NS_ELSEWHERE: Final = 10 * NANOSECONDS
"""How often a line is written where it goes into a file and not to a person."""
FILES_SPARE: Final = 128

_DEFAULT: Final = Behaviour()


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    flags.value("nodes", "<count>", "how many nodes", default=10, kind=int)
    flags.value("seed", "<text>", "what ids and all chance follow from", default="0")
    _declare_nodes(flags)
    _declare_work(flags)
    _declare_course(flags)
    flags.arguments("")


def _declare_nodes(flags: Flags) -> None:
    flags.value("name-prefix", "<text>", "their names' beginning", default="simulated")
    flags.value("datacenter", "<names>", "datacenters, in turn: dc1,dc2", default="dc1")
    flags.value("class", "<names>", "classes, in turn", default="")
    flags.value("node-pool", "<name>", "their pool", default="")
    flags.value("cpu", "<MHz>", "their CPU", default=4000, kind=int)
    flags.value("memory", "<MiB>", "their memory", default=8192, kind=int)
    flags.value("disk", "<MiB>", "their disk", default=102_400, kind=int)
    flags.value(
        "driver", "<names>", "drivers", default="docker,exec,raw_exec,mock_driver"
    )
    flags.pairs("attribute", "what they are, beside what every node is")
    flags.pairs("meta", "what their owner says about them")


def _declare_work(flags: Flags) -> None:
    spans = (
        ("start-time", _DEFAULT.start, "how long tasks take to start"),
        ("run-time", _DEFAULT.run, "how long tasks of a batch job run"),
        ("life-time", _DEFAULT.life, "how long tasks run that will fail"),
        ("kill-time", _DEFAULT.kill, "how long tasks take to stop"),
    )
    for name, span, text in spans:
        flags.value(name, "<min..max>", text, default=span, kind=_span)
    flags.value(
        "healthy-after", "<duration>", "instead of the job's own time", kind=_duration
    )
    flags.value(
        "failure-rate", "<0..1>", "allocations that fail", default=0.0, kind=float
    )
    flags.value(
        "crash-rate", "<0..1>", "those that fail once only", default=0.0, kind=float
    )
    flags.value("exit-code", "<codes>", "what they fail with", default="1")
    flags.value(
        "speed", "<factor>", "how much faster work goes", default=1.0, kind=float
    )


def _declare_course(flags: Flags) -> None:
    flags.value("latency", "<duration>", "hold requests up", default=0, kind=_duration)
    flags.value("lose", "<count>", "have nodes fall silent", default=0, kind=int)
    flags.value("lose-after", "<duration>", "when", default=0, kind=_duration)
    flags.value(
        "lose-for", "<duration>", "bring them back after that long", kind=_duration
    )
    flags.value("for", "<duration>", "end after that long", kind=_duration)
    flags.value(
        "every",
        "<duration>",
        "how often a line is written; 1s on a terminal, 10s elsewhere",
        kind=_duration,
    )
    flags.switch("leave", "mark the nodes down at the end")
    flags.switch("purge", "remove the nodes at the end")
    flags.switch("json", "write a summary as JSON, and the lines to standard error")


def _simulate(session: Session) -> int:
    """Check what is asked for, and do it on the loop that servers run on."""
    _check(session)
    fleet = AgentFleet(
        _clients(session),
        _spec(session),
        _behaviour(session),
        clock=session.clock,
        ids=session.ids,
        latency_s=session.args.latency / NANOSECONDS,
    )
    _allow_open_files(connections_needed(fleet.spec))
    return uvloop.run(_run(session, fleet))


async def _run(session: Session, fleet: AgentFleet) -> int:
    args = session.args
    started_s = session.clock.monotonic_s()
    with failing("Error simulating agents"):
        async with fleet:
            async with _meanwhile(_show(session, fleet), _lose(session, fleet)):
                await _until_told_to_stop(vars(args)["for"])
            counts = fleet.counts()
            if args.leave:
                await fleet.leave()
            if args.purge:
                await fleet.purge()
    _line(session, counts)
    if args.json:
        ran_s = round(session.clock.monotonic_s() - started_s, 3)
        summary = {"Seconds": ran_s, **msgspec.json.decode(encode_json(counts))}
        session.console.output(as_json(msgspec.json.encode(summary)))
    return EXIT_FAILED if counts.nodes_refused else EXIT_OK


@contextlib.asynccontextmanager
async def _meanwhile(*doings: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do these as long as the context lasts."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(doing) for doing in doings]
        yield
        for task in tasks:
            task.cancel()


async def _show(session: Session, fleet: AgentFleet) -> None:
    """Write a line now and then; say once what the last error was."""
    usual_ns = LINE_EVERY_NS if sys.stdout.isatty() else LINE_EVERY_NS_ELSEWHERE
    every_ns = session.args.every or usual_ns
    error_count = 0
    while True:
        await session.clock.sleep(every_ns / NANOSECONDS)
        counts = fleet.counts()
        _line(session, counts)
        if counts.errors > error_count:
            error_count = counts.errors
            session.console.error(f"Last error: {counts.last_error}")


async def _lose(session: Session, fleet: AgentFleet) -> None:
    args = session.args
    if args.lose == 0:
        return
    await session.clock.sleep(args.lose_after / NANOSECONDS)
    lost = fleet.lose(args.lose)
    _say(session, f"{session.now()}: {len(lost)} nodes have fallen silent")
    if args.lose_for is None:
        return
    await session.clock.sleep(args.lose_for / NANOSECONDS)
    back_count = fleet.bring_back(lost)
    _say(session, f"{session.now()}: {back_count} nodes are back")


async def _until_told_to_stop(for_ns: int | None) -> None:
    """Return after that long, or at a signal; a second one is not waited for."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        # Only the main thread may have handlers.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, told.set)
    try:
        async with asyncio.timeout(None if for_ns is None else for_ns / NANOSECONDS):
            await told.wait()
    except TimeoutError:
        return
    finally:
        for number in signals:
            with contextlib.suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(number)


def _line(session: Session, counts: FleetCounts) -> None:
    """Write how the fleet does."""
    allocations = ", ".join(
        f"{count} {status}"
        for status, count in counts.allocations.items()
        if status != "lost"
    )
    silent = f" {counts.nodes_silent} silent," if counts.nodes_silent else ""
    refused = f" {counts.nodes_refused} refused," if counts.nodes_refused else ""
    _say(
        session,
        f"{session.now()}: nodes {counts.nodes_up} up,{silent}{refused} "
        f"allocations {allocations}, reports {counts.reports}, "
        f"heartbeats {counts.heartbeats}, late {counts.heartbeats_late}, "
        f"errors {counts.errors}",
    )


def _say(session: Session, text: str) -> None:
    console = session.console
    (console.error if session.args.json else console.output)(text)


# What is asked for


def _clients(session: Session) -> list[Client]:
    """Return a client for each server: an address may be a list of them."""
    known = session.environment
    text = (
        session.args.address
        or known.get("NODESTATE_ADDR")
        or known.get("NOMAD_ADDR")
        or DEFAULT_ADDRESS
    )
    clients: list[Client] = []
    for address in _names(text):
        args = argparse.Namespace(**{**vars(session.args), "address": address})
        clients.append(msgspec.structs.replace(session, args=args).client())
    return clients


def _spec(session: Session) -> FleetSpec:
    args = session.args
    return FleetSpec(
        node_count=args.nodes,
        seed=args.seed,
        name_prefix=args.name_prefix,
        datacenters=_names(args.datacenter),
        classes=tuple(vars(args)["class"].split(",")),
        node_pool=args.node_pool,
        cpu_mhz=args.cpu,
        memory_mb=args.memory,
        disk_mb=args.disk,
        drivers=_names(args.driver),
        attributes=dict(args.attribute),
        meta=dict(args.meta),
    )


def _behaviour(session: Session) -> Behaviour:
    args = session.args
    return Behaviour(
        start=args.start_time,
        run=args.run_time,
        life=args.life_time,
        kill=args.kill_time,
        healthy_after_ns=args.healthy_after,
        failure_rate=args.failure_rate,
        crash_rate=args.crash_rate,
        exit_codes=_exit_codes(session),
        speed=args.speed,
    )


def _check(session: Session) -> None:
    """Refuse what cannot be, before anything is sent."""
    args = session.args
    rates = (args.failure_rate, args.crash_rate)
    rules = (
        (not args.arguments, "This command takes no arguments"),
        (0 < args.nodes <= NODES_MAX, f"-nodes must be 1 to {NODES_MAX}"),
        (min(args.cpu, args.memory, args.disk) >= 0, "-cpu, -memory, -disk: below 0"),
        (bool(_names(args.datacenter)), "-datacenter must name one"),
        (
            min(rates) >= 0 and sum(rates) <= 1,
            "-failure-rate and -crash-rate must be 0 to 1, together as well",
        ),
        (0 < args.speed < float("inf"), "-speed must be above 0"),
        (0 <= args.lose <= args.nodes, "-lose must be at most the number of nodes"),
        (
            args.lose > 0 or (args.lose_after == 0 and args.lose_for is None),
            "-lose-after and -lose-for need -lose",
        ),
        (not (args.leave and args.purge), "Either -leave or -purge, not both"),
    )
    for is_kept, text in rules:
        if not is_kept:
            raise session.refuse(text)


def _exit_codes(session: Session) -> tuple[int, ...]:
    names = _names(session.args.exit_code)
    codes = [int(name) for name in names if name.isascii() and name.isdigit()]
    if (
        not codes
        or len(codes) < len(names)
        or not all(0 < code < 256 for code in codes)
    ):
        raise session.refuse("-exit-code must be numbers from 1 to 255")
    return tuple(codes)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _duration(text: str) -> int:
    """Return nanoseconds, 0 or more."""
    duration_ns = _parsed(parse_duration_ns, text)
    if duration_ns < 0:
        raise argparse.ArgumentTypeError(f'negative duration "{text}"')
    return duration_ns


def _span(text: str) -> Span:
    """Read `2s..5s`, or `2s` for exactly that."""
    least, dots, most = text.partition("..")
    least_ns = _duration(least)
    most_ns = _duration(most) if dots else least_ns
    if most_ns < least_ns:
        raise argparse.ArgumentTypeError(
            f"{format_duration(most_ns)} is less than {format_duration(least_ns)}"
        )
    return Span(least_ns, most_ns)


def _parsed(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _allow_open_files(connection_count: int) -> None:
    """Have room for a connection per node, as far as the system allows."""
    wanted = connection_count + FILES_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


COMMANDS = (
    Command(
        words="simulate-agents",
        synopsis="Be many nodes at once, whose work is only pretended.",
        example="nodestate simulate-agents -nodes 500 -seed 7 -lose 20 -lose-after 1m",
        declare=_declare,
        run=_simulate,
    ),
)
