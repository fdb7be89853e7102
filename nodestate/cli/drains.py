"""`node drain`: start, change, stop or watch the drain of a node."""

import asyncio
from typing import Final

from nodestate.answers import Allocation, DrainSpec
from nodestate.cli.flags import Flags
from nodestate.cli.lookup import confirm, find_node, named_node, names_one_node
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.client import Client, Query
from nodestate.errors import NodestateError
from nodestate.model.duration import parse_duration_ns
from nodestate.model.encoding import encode_json
from nodestate.model.node import DrainStrategy, Node, NodeStatus
from nodestate.model.timestamp import format_rfc3339

DEADLINE_NS_DEFAULT: Final = 3_600_000_000_000
FORCE_NS: Final = -1_000_000_000
_SYSTEM: Final = "system"
_STILL_THERE: Final = frozenset({"pending", "running"})
_TOGGLING: Final = "Error toggling drain mode"
_GO_ZERO_TIME: Final = "0001-01-01 00:00:00 +0000 UTC"


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("enable", "start a drain, or change the one under way")
    flags.switch("disable", "stop the drain, and open the node again")
    flags.switch("monitor", "watch the drain under way, and change nothing")
    flags.value(
        "deadline", "<duration>", "stop what is left after this long; 1h if unset"
    )
    flags.switch("no-deadline", "wait for ever")
    flags.switch("force", "stop everything at once")
    flags.switch("ignore-system", "leave allocations of system jobs alone")
    flags.switch("keep-ineligible", "with -disable: leave the node closed")
    flags.switch("detach", "do not wait for the end of the drain")
    flags.switch("yes", "do not ask whether the right node was found")
    flags.switch("self", "the node of the agent that is asked")
    flags.value("m", "<text>", "why, kept with the drain")
    flags.pairs("meta", "more about the drain, kept with it; may be repeated")
    flags.switch("json", "write the server's answer, and do not wait")
    flags.arguments("<node>")


async def _drain(session: Session) -> int:
    _check_flags(session)
    deadline_ns = _deadline_ns(session)
    async with session.client() as client:
        named = await named_node(session, client)
        found = await find_node(client, named, doing=_TOGGLING)
        node = found.value
        if session.args.monitor:
            return await _monitor_only(session, client, node, found.index)
        verb = "disable" if session.args.disable else "enable"
        code = confirm(
            session,
            named,
            node.id,
            doing=f"{verb} drain mode for node",
            cancelled="Canceling drain toggle",
        )
        if code is None:
            await _toggle(session, client, node, deadline_ns)
    return code or 0


async def _toggle(
    session: Session, client: Client, node: Node, deadline_ns: int
) -> None:
    args, console = session.args, session.console
    spec = None
    if args.enable:
        spec = DrainSpec(deadline=deadline_ns, ignore_system_jobs=args.ignore_system)
    with failing("Error updating drain specification"):
        written = await client.drain(
            node.id,
            spec,
            mark_eligible=not args.keep_ineligible,
            meta=_meta(session, node),
        )
    if args.json:
        console.output(as_json(encode_json(written)))
    elif args.disable:
        console.output(f'Node "{node.id}" drain strategy unset')
    elif args.detach:
        console.output(f'Node "{node.id}" drain strategy set')
    else:
        _say(session, "Ctrl-C to stop monitoring: will not cancel the node drain")
        _say(session, f'Node "{node.id}" drain strategy set')
        await _monitor(session, client, node.id, written.index)


def _check_flags(session: Session) -> None:
    args = session.args
    if args.monitor and (args.enable or args.disable):
        raise session.refuse(
            "The -monitor flag cannot be used with the '-enable' or '-disable' flags"
        )
    if args.enable == args.disable and not args.monitor:
        raise session.refuse(
            "Either the '-enable' or '-disable' flag must be set, unless using '-monitor'"
        )
    if not names_one_node(session):
        raise session.refuse("Node ID must be specified if -self isn't being used")
    how = args.deadline is not None or args.force or args.no_deadline
    if args.disable and (how or args.ignore_system):
        raise session.refuse(
            "-disable can't be combined with flags configuring drain strategy"
        )
    if args.deadline is not None and (args.force or args.no_deadline):
        raise session.refuse("-deadline can't be combined with -force or -no-deadline")
    if args.force and args.no_deadline:
        raise session.refuse("-force and -no-deadline are mutually exclusive")


def _deadline_ns(session: Session) -> int:
    args = session.args
    if args.force:
        return FORCE_NS
    if args.no_deadline:
        return 0
    if args.deadline is None:
        return DEADLINE_NS_DEFAULT
    try:
        deadline_ns = parse_duration_ns(args.deadline)
    except ValueError as error:
        raise CommandError(
            f'Failed to parse deadline "{args.deadline}": {error}'
        ) from error
    if deadline_ns <= 0:
        raise CommandError("A positive drain duration must be given")
    return deadline_ns


def _meta(session: Session, node: Node) -> dict[str, str]:
    """Return what is kept with the drain; the end of one keeps what its start said."""
    args = session.args
    meta: dict[str, str] = {}
    if args.disable and node.last_drain is not None:
        meta.update(node.last_drain.meta or {})
    if args.m:
        meta["message" if args.enable else "cancel_message"] = args.m
    meta.update(args.meta)
    return meta


async def _monitor_only(
    session: Session, client: Client, node: Node, index: int
) -> int:
    if node.drain_strategy is None:
        session.console.error("No drain strategy set")
        return 0
    _say(session, f'Monitoring node "{node.id}": Ctrl-C to detach monitoring')
    await _monitor(session, client, node.id, index)
    return 0


async def _monitor(session: Session, client: Client, node_id: str, index: int) -> None:
    """Return when the drain is over and the allocations have stopped."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch_node(session, client, node_id, index))
            group.create_task(_watch_allocations(session, client, node_id))
    except* CommandError as failures:
        failure = failures.exceptions[0]
        assert isinstance(failure, CommandError)
        ended = failure
    else:
        return
    raise ended


async def _watch_node(
    session: Session, client: Client, node_id: str, index: int
) -> None:
    last: DrainStrategy | None = None
    while True:
        try:
            found = await client.node(node_id, Query(index=index, stale=True))
        except NodestateError as error:
            raise _lost(session, f"Error monitoring node: {error}") from error
        strategy = found.value.drain_strategy
        if strategy is None:
            _say(session, f"Drain complete for node {node_id}")
            return
        if found.value.status is NodeStatus.DOWN:
            _warn(session, f'Node "{node_id}" down')
        if last is not None and strategy != last:
            _say(session, f'Node "{node_id}" drain updated: {_strategy_text(strategy)}')
        last, index = strategy, found.index


async def _watch_allocations(session: Session, client: Client, node_id: str) -> None:
    known: dict[str, Allocation] = {}
    index = 0
    while True:
        try:
            found = await client.allocations(node_id, Query(index=index, stale=True))
        except NodestateError as error:
            raise _lost(session, f"Error monitoring allocations: {error}") from error
        index = found.index
        for each in found.value:
            text = _change(known.get(each.id), each)
            known[each.id] = each
            if text:
                _say(session, f'Alloc "{each.id}" {text}')
        if not any(_is_awaited(session, each) for each in found.value):
            _say(session, f'All allocations on node "{node_id}" have stopped')
            return


def _change(before: Allocation | None, after: Allocation) -> str:
    if before is None:
        return ""
    if before.client_status != after.client_status:
        return f"status {before.client_status} -> {after.client_status}"
    if _is_migrating(after):
        if not _is_migrating(before):
            return "marked for migration"
        if before.desired_status != after.desired_status == "stop":
            return "draining"
    return ""


def _is_migrating(allocation: Allocation) -> bool:
    transition = allocation.desired_transition
    return transition is not None and bool(transition.migrate)


def _is_awaited(session: Session, allocation: Allocation) -> bool:
    job_type = allocation.job.type if allocation.job else ""
    if not job_type or (session.args.ignore_system and job_type == _SYSTEM):
        return False
    return allocation.client_status in _STILL_THERE


def _strategy_text(strategy: DrainStrategy) -> str:
    what = (
        "drain ignoring system jobs and"
        if strategy.ignore_system_jobs
        else "drain with"
    )
    text = format_rfc3339(strategy.force_deadline.ns)
    if text is not None:
        text = text.replace("T", " ").replace("Z", " +0000 UTC")
    return f"{what} deadline at {text or _GO_ZERO_TIME}"


def _say(session: Session, text: str) -> None:
    session.console.output(f"{session.now()}: {text}")


def _warn(session: Session, text: str) -> None:
    session.console.error(f"{session.now()}: {text}")


def _lost(session: Session, text: str) -> CommandError:
    return CommandError(f"{session.now()}: {text}")


COMMANDS = (
    Command(
        words="node drain",
        synopsis="Move everything off a node, or stop doing so.",
        example="nodestate node drain -enable -deadline 30m -m 'new disks' f7476465",
        declare=_declare,
        run=_drain,
    ),
)
