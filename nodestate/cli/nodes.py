"""`node eligibility`, `node evaluate` and `node purge`: one write to one node each."""

from nodestate.answers import Written
from nodestate.cli.flags import Flags
from nodestate.cli.lookup import (
    confirm,
    find_node,
    named_node,
    names_one_node,
    one_node_id,
)
from nodestate.cli.session import Command, Session, as_json, declare_connection, failing
from nodestate.model.encoding import encode_json
from nodestate.model.node import ELIGIBLE, INELIGIBLE


def _declare_eligibility(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("enable", "let new allocations be placed on the node")
    flags.switch("disable", "let none be placed; those that run stay")
    flags.switch("self", "the node of the agent that is asked")
    flags.switch("json", "write the server's answer")
    flags.arguments("<node>")


async def _set_eligibility(session: Session) -> int:
    args = session.args
    if args.enable == args.disable:
        raise session.refuse("Either the '-enable' or '-disable' flag must be set")
    if not names_one_node(session):
        raise session.refuse("Node ID must be specified if -self isn't being used")
    doing = "Error updating scheduling eligibility"
    async with session.client() as client:
        named = await named_node(session, client)
        found = await find_node(client, named, doing=doing)
        eligibility = ELIGIBLE if args.enable else INELIGIBLE
        with failing(doing):
            written = await client.set_eligibility(found.value.id, eligibility)
    _report(
        session,
        written,
        f'Node "{found.value.id}" scheduling eligibility set: '
        f"{eligibility} for scheduling",
    )
    return 0


def _declare_evaluate(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("json", "write the server's answer")
    flags.arguments("<node>")


async def _evaluate(session: Session) -> int:
    doing = "Error evaluating node"
    async with session.client() as client:
        found = await find_node(client, one_node_id(session), doing=doing)
        with failing(doing):
            written = await client.evaluate(found.value.id)
    lines = [f'Node "{found.value.id}" evaluated']
    lines += [f'Created eval ID: "{eval_id}"' for eval_id in written.eval_ids or ()]
    if not written.eval_ids:
        lines.append("Nothing on it needs an evaluation")
    _report(session, written, "\n".join(lines))
    return 0


def _declare_purge(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("yes", "do not ask whether the right node was found")
    flags.switch("json", "write the server's answer")
    flags.arguments("<node>")


async def _purge(session: Session) -> int:
    doing = "Error purging node"
    named = one_node_id(session)
    async with session.client() as client:
        node_id = (await find_node(client, named, doing=doing)).value.id
        code = confirm(
            session, named, node_id, doing="purge node", cancelled="Canceling purge"
        )
        if code is not None:
            return code
        with failing(doing):
            written = await client.purge(node_id)
    _report(session, written, f'Node "{node_id}" purged')
    return 0


def _report(session: Session, written: Written, text: str) -> None:
    is_json = session.args.json
    session.console.output(as_json(encode_json(written)) if is_json else text)


COMMANDS = (
    Command(
        words="node eligibility",
        synopsis="Open a node for new allocations, or close it.",
        example="nodestate node eligibility -disable f7476465",
        declare=_declare_eligibility,
        run=_set_eligibility,
    ),
    Command(
        words="node evaluate",
        synopsis="Have the jobs that concern a node looked at again.",
        example="nodestate node evaluate f7476465",
        declare=_declare_evaluate,
        run=_evaluate,
    ),
    Command(
        words="node purge",
        synopsis="Remove a node; if its agent lives, it comes back as a new one.",
        example="nodestate node purge -yes f7476465",
        declare=_declare_purge,
        run=_purge,
    ),
)
