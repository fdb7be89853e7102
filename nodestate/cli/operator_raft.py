"""`operator raft`: the members of the cluster, and which of them leads."""

from nodestate.cli.flags import Flags
from nodestate.cli.session import Command, Session, as_json, declare_connection, failing
from nodestate.cli.tables import columns, yes_no
from nodestate.model.encoding import encode_json


def _declare_list(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("stale", "as the server that is asked knows them, leader or not")
    flags.switch("json", "write the server's answer")
    flags.arguments("")


async def _list_peers(session: Session) -> int:
    args, console = session.args, session.console
    _refuse_arguments(session)
    async with session.client() as client:
        with failing("Failed to retrieve raft configuration"):
            listed = await client.raft_configuration(stale=args.stale)
    if args.json:
        console.output(as_json(encode_json(listed)))
        return 0
    rows = [["Node", "ID", "Address", "State", "Voter", "RaftProtocol"]]
    for server in listed.servers:
        state = "leader" if server.leader else "follower"
        row = [server.node, server.id, server.address, state]
        rows.append([*row, yes_no(server.voter), server.raft_protocol])
    console.output(columns(rows))
    return 0


def _declare_peer(flags: Flags) -> None:
    declare_connection(flags)
    flags.value("peer-id", "<name>", "the server's id, as list-peers shows it")
    flags.value("peer-address", "<host:port>", "or its address, as list-peers shows it")
    flags.arguments("")


async def _remove_peer(session: Session) -> int:
    args = session.args
    _refuse_arguments(session)
    server_id, address = _named_peer(session)
    if not (server_id or address):
        raise session.refuse("An address or id is required for the peer to remove")
    async with session.client() as client:
        with failing("Error removing peer"):
            await client.remove_peer(server_id=server_id, address=address)
    by = f'id "{server_id}"' if server_id else f'address "{args.peer_address}"'
    session.console.output(f"Removed peer with {by}")
    return 0


async def _transfer(session: Session) -> int:
    _refuse_arguments(session)
    server_id, address = _named_peer(session)
    async with session.client() as client:
        with failing("Error transferring leadership"):
            done = await client.transfer_leadership(
                server_id=server_id, address=address
            )
    to = f'"{done.to.id}" ({done.to.address})'
    session.console.output(
        f"Server {to} leads already" if done.noop else f"Leadership transferred to {to}"
    )
    return 0


def _declare_add(flags: Flags) -> None:
    declare_connection(flags)
    flags.value("peer-id", "<name>", "the name that the server has in its settings")
    flags.value("peer-address", "<host:port>", "where the other servers reach it")
    flags.value("peer-http", "<host:port>", "where clients reach it")
    flags.arguments("")


async def _add_peer(session: Session) -> int:
    args = session.args
    _refuse_arguments(session)
    if not (args.peer_id and args.peer_address and args.peer_http):
        raise session.refuse("-peer-id, -peer-address and -peer-http are all required")
    async with session.client() as client:
        with failing("Error adding peer"):
            await client.add_peer(
                args.peer_id, address=args.peer_address, http=args.peer_http
            )
    session.console.output(
        f'Added peer with id "{args.peer_id}": it votes once it has caught up'
    )
    return 0


def _refuse_arguments(session: Session) -> None:
    if session.args.arguments:
        raise session.refuse("This command takes no arguments")


def _named_peer(session: Session) -> tuple[str, str]:
    """Return id and address of the peer that the flags name; at most one is given."""
    server_id, address = session.args.peer_id or "", session.args.peer_address or ""
    if server_id and address:
        raise session.refuse("Cannot give both an address and id")
    return server_id, address


def _transfer_command(words: str) -> Command:
    return Command(
        words=words,
        synopsis="Hand leadership to a server, or to the one furthest on.",
        example=f"nodestate {words} -peer-id server2",
        declare=_declare_peer,
        run=_transfer,
    )


COMMANDS = (
    Command(
        words="operator raft list-peers",
        synopsis="List the members of the cluster.",
        example="nodestate operator raft list-peers -stale",
        declare=_declare_list,
        run=_list_peers,
    ),
    Command(
        words="operator raft add-peer",
        synopsis="Add a server to the cluster, or change its addresses.",
        example="nodestate operator raft add-peer -peer-id server4 "
        "-peer-address 10.0.0.4:4647 -peer-http 10.0.0.4:4646",
        declare=_declare_add,
        run=_add_peer,
    ),
    Command(
        words="operator raft remove-peer",
        synopsis="Remove a server from the cluster.",
        example="nodestate operator raft remove-peer -peer-id server3",
        declare=_declare_peer,
        run=_remove_peer,
    ),
    _transfer_command("operator raft transfer-leadership"),
    _transfer_command("operator raft transfer"),
)
