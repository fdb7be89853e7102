"""From what a person typed to one node."""

from collections.abc import Sequence

from nodestate.answers import NodeStub
from nodestate.cli.session import CommandError, Session, failing
from nodestate.cli.tables import columns, short_id, yes_no
from nodestate.client import Client, Read
from nodestate.model.node import Node


def one_node_id(session: Session) -> str:
    """Return the only argument; raises if there is none or more."""
    arguments = session.args.arguments
    if len(arguments) != 1:
        raise session.refuse("This command takes one argument: <node>")
    return str(arguments[0])


async def named_node(session: Session, client: Client) -> str:
    """Return what names the node: the argument, or with `-self` the agent's own node."""
    arguments = session.args.arguments
    if session.args.self:
        return await _own_node_id(client)
    return str(arguments[0])


def names_one_node(session: Session) -> bool:
    """Say whether there is one argument, or none and `-self`."""
    return len(session.args.arguments) == (0 if session.args.self else 1)


async def _own_node_id(client: Client) -> str:
    with failing("Error querying agent info"):
        agent = await client.agent()
    about_client = agent.get("stats", {}).get("client")
    if about_client is None:
        raise CommandError("Nomad not running in client mode")
    if "node_id" not in about_client:
        raise CommandError("Failed to determine node ID")
    return str(about_client["node_id"])


async def find_node(
    client: Client,
    text: str,
    *,
    doing: str,
    verbose: bool = True,
    described_as: str = "prefix or id",
) -> Read[Node]:
    """Return the one node whose id begins with `text`."""
    if len(text) == 1:
        raise CommandError("Identifier must contain at least two characters.")
    prefix = searchable(text)
    with failing(doing):
        stubs = (await client.nodes(prefix=prefix)).value
    if not stubs:
        raise CommandError(f'No node(s) with {described_as} "{prefix}" found')
    if len(stubs) > 1:
        table = stub_table(newest_first(stubs), verbose=verbose)
        raise CommandError(f"Prefix matched multiple nodes\n\n{table}")
    with failing(doing):
        return await client.node(stubs[0].id)


def searchable(text: str) -> str:
    """Drop the last character where needed: a server looks up whole bytes of an id."""
    digits = len(text) - text.count("-")
    return text[:-1] if digits % 2 else text


def newest_first(stubs: Sequence[NodeStub]) -> list[NodeStub]:
    """Order nodes as Nomad's client does."""
    return sorted(stubs, key=lambda stub: stub.create_index, reverse=True)


def stub_table(stubs: Sequence[NodeStub], *, verbose: bool) -> str:
    """Return the short table of nodes that a prefix matched."""
    rows = [["ID", "DC", "Name", "Class", "Drain", "Eligibility", "Status"]]
    rows += [
        [
            short_id(stub.id, verbose=verbose),
            stub.datacenter,
            stub.name,
            stub.node_class,
            yes_no(stub.drain),
            stub.scheduling_eligibility,
            stub.status,
        ]
        for stub in stubs
    ]
    return columns(rows)


def confirm(
    session: Session, named: str, node_id: str, *, doing: str, cancelled: str
) -> int | None:
    """Ask before acting on a node that was named by a prefix only.

    Returns `None` to go on, or the exit code to leave with.
    """
    if session.args.yes or searchable(named) == node_id:
        return None
    console = session.console
    answer = console.ask(f'Are you sure you want to {doing} "{node_id}"? [y/N]')
    if answer == "y":
        return None
    if not answer or answer[0] in "nN":
        console.output(cancelled)
        return 0
    if answer[0] in "yY" and len(answer) > 1:
        console.output("For confirmation, an exact 'y' is required.")
        return 0
    console.output(
        "No confirmation detected. For confirmation, an exact 'y' is required."
    )
    return 1
