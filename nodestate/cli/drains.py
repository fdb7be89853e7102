"""`node drain`: start, change, stop or watch the drain of a node."""

from typing import Final

from nodestate.answers import DrainSpec
from nodestate.cli.drain_monitor import monitor, monitor_only, say
from nodestate.cli.drain_views import show_plan
from nodestate.cli.flags import Flags
from nodestate.cli.lookup import confirm, find_node, named_node, names_one_node
from nodestate.cli.session import (
    EXIT_OK,
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.client_work import WorkClient
from nodestate.model.duration import parse_duration_ns
from nodestate.model.encoding import encode_json
from nodestate.model.node import Node

DEADLINE_NS_DEFAULT: Final = 3_600_000_000_000
FORCE_NS: Final = -1_000_000_000
_TOGGLING: Final = "Error toggling drain mode"


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("enable", "start a drain, or change the one under way")
    flags.switch("disable", "stop the drain, and open the node again")
    flags.switch("monitor", "watch the drain under way, and change nothing")
    flags.switch("plan", "show what a drain would do now, and change nothing")
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
        if session.args.plan:
            await show_plan(session, client, node, _asked_drain(session, deadline_ns))
            return EXIT_OK
        if session.args.monitor:
            return await monitor_only(session, client, node, found.index)
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
    session: Session, client: WorkClient, node: Node, deadline_ns: int
) -> None:
    args, console = session.args, session.console
    spec = _asked_drain(session, deadline_ns) if args.enable else None
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
        say(session, "Ctrl-C to stop monitoring: will not cancel the node drain")
        say(session, f'Node "{node.id}" drain strategy set')
        await monitor(session, client, node.id, written.index)


def _asked_drain(session: Session, deadline_ns: int) -> DrainSpec:
    is_ignored = session.args.ignore_system
    return DrainSpec(deadline=deadline_ns, ignore_system_jobs=is_ignored)


def _check_flags(session: Session) -> None:
    args = session.args
    if args.plan and (args.monitor or args.disable):
        raise session.refuse(
            "The -plan flag cannot be used with the '-monitor' or '-disable' flags"
        )
    if args.monitor and (args.enable or args.disable):
        raise session.refuse(
            "The -monitor flag cannot be used with the '-enable' or '-disable' flags"
        )
    if args.enable == args.disable and not (args.monitor or args.plan):
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


COMMANDS = (
    Command(
        words="node drain",
        synopsis="Move everything off a node, or stop doing so.",
        example="nodestate node drain -enable -deadline 30m -m 'new disks' f7476465",
        declare=_declare,
        run=_drain,
    ),
)
