"""The cluster's own affairs, as its operators ask for them: members, leader, snapshots.

The answers about members carry no index, as Nomad's do not: the index of a configuration
is not one that a blocking query could wait for. What can only be done by the leader is
sent there by whoever is asked.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from nodestate.api import blocking
from nodestate.api.calls import LEADER_POLL_S, Call, Services, index_line
from nodestate.api.parameters import Query
from nodestate.api.problems import (
    OUTCOME_IS_UNKNOWN,
    Problem,
    ProblemError,
    too_many,
)
from nodestate.api.replies import (
    BYTES_TYPE,
    WRITE_SLICE_BYTES,
    Body,
    Reply,
    StreamReply,
)
from nodestate.api.shapes import Shape
from nodestate.api.status import RAFT_PROTOCOL
from nodestate.config import SETTINGS, allowed, split_address
from nodestate.errors import (
    NoLeaderError,
    OutcomeUnknownError,
    RequestError,
    SnapshotError,
)
from nodestate.ports import Member, SavedSnapshot, ServerAddress

SNAPSHOTS_MAX: Final = 1
"""Snapshots that are made at once for whoever asks; how many are sent is not limited."""
SNAPSHOT_S_MAX: Final = 60.0
"""How long making one may take."""
WORD_SHOWN_MAX: Final = 128

NO_PEER_NAMED: Final = (
    "Must specify either ?id with the server's ID or ?address with IP:port of peer "
    "to remove"
)
TWO_PEERS_NAMED: Final = "Must specify only one of ?id or ?address"
CHANGE_UNKNOWN: Final = (
    "outcome unknown: not done before the deadline, and it may still happen; "
    "list the peers to find out"
)

T = TypeVar("T")


class RaftServer(Shape, frozen=True, kw_only=True):
    """A member, in the shape of Nomad's. `id` is the server's name, which never changes."""

    address: str
    id: str
    leader: bool
    node: str
    raft_protocol: str = RAFT_PROTOCOL
    voter: bool


class RaftConfiguration(Shape, frozen=True, kw_only=True):
    """All members, and the index of the entry that says so."""

    index: int
    servers: tuple[RaftServer, ...]


class PeerAdded(Shape, frozen=True, kw_only=True):
    """The index of the entry that made a server a member."""

    index: int


class Peer(Shape, frozen=True, kw_only=True):
    """A member, by id and address."""

    address: str
    id: str


class LeadershipTransferred(Shape, frozen=True, kw_only=True):
    """Who led before and who leads now; `noop` if that is the same."""

    err: None = None
    noop: bool
    from_: Peer = msgspec.field(name="From")
    to: Peer


# Members


async def read_configuration(call: Call) -> Reply:
    """Answer `GET /v1/operator/raft/configuration`; only `?stale` needs no leader."""
    services = call.services
    if not call.read_options().is_stale:
        await blocking.wait_until_linearizable(services, deadline_s=call.remaining_s())
    membership = services.admin.membership()
    region = services.config.region
    return call.json(
        RaftConfiguration(
            index=membership.index,
            servers=tuple(_describe(member, region) for member in membership.members),
        )
    )


def _describe(member: Member, region: str) -> RaftServer:
    return RaftServer(
        address=member.peer_address,
        id=member.server_id,
        leader=member.is_leader,
        node=f"{member.server_id}.{region}",
        voter=member.is_voter,
    )


async def remove_peer(call: Call) -> Reply:
    """Answer `DELETE /v1/operator/raft/peer`."""
    named = _named_peer(call.query)
    if named is None:
        raise RequestError(NO_PEER_NAMED)
    await call.prepare_write()
    member = await _find_member(call, *named)
    admin, server_id = call.services.admin, member.server_id
    await _administer(
        call, lambda seconds: admin.remove_server(server_id, deadline_s=seconds)
    )
    return Reply(200, b"", Body(b""))


async def add_peer(call: Call) -> Reply:
    """Answer `PUT /v1/operator/raft/peer`: a learner, or a member's new addresses."""
    server = _server_sent(call.query)
    await call.prepare_write()
    admin = call.services.admin
    index = await _administer(
        call, lambda seconds: admin.add_server(server, deadline_s=seconds)
    )
    return call.json(PeerAdded(index=index))


async def transfer_leadership(call: Call) -> Reply:
    """Answer `PUT /v1/operator/raft/transfer-leadership`; without a name to whom fits best."""
    named = _named_peer(call.query)
    await call.prepare_write()
    member = None if named is None else await _find_member(call, *named)
    services = call.services
    admin, before = services.admin, _leader(services)
    wanted = None if member is None else member.server_id
    if member is not None and member.is_leader:
        server_id = member.server_id
    else:
        server_id = await _administer(
            call, lambda seconds: admin.transfer_leadership(wanted, deadline_s=seconds)
        )
    return call.json(
        LeadershipTransferred(
            noop=before.id == server_id,
            from_=before,
            to=_peer(services, server_id),
        )
    )


def _named_peer(query: Query) -> tuple[str, str] | None:
    """Return by which parameter a peer is named and how, `None` if none is."""
    named = [(key, query[key]) for key in ("id", "address") if query.get(key)]
    if len(named) > 1:
        raise RequestError(TWO_PEERS_NAMED)
    return named[0] if named else None


async def _find_member(call: Call, parameter: str, text: str) -> Member:
    """Return the member that is named; a server that lags behind waits until it knows."""
    services = call.services
    await blocking.wait_until_linearizable(services, deadline_s=call.remaining_s())
    for member in services.admin.membership().members:
        if text == (member.server_id if parameter == "id" else member.peer_address):
            return member
    shown = text[:WORD_SHOWN_MAX]
    raise ProblemError(
        Problem(404, f'{parameter} "{shown}" was not found in the Raft configuration')
    )


def _leader(services: Services) -> Peer:
    return _peer(services, services.leadership.status().leader_id or "")


def _peer(services: Services, server_id: str) -> Peer:
    for member in services.admin.membership().members:
        if member.server_id == server_id:
            return Peer(address=member.peer_address, id=server_id)
    return Peer(address="", id=server_id)


def _server_sent(query: Query) -> ServerAddress:
    """Return the server that is to be a member; `RequestError` says what is wrong."""
    for name in ("id", "address", "http"):
        if not query.get(name):
            raise RequestError(
                "Must specify ?id with the server's name, ?address with the host:port "
                f"of its peer port and ?http with that of its HTTP port: no {name}"
            )
    server_id, peer, http = query["id"], query["address"], query["http"]
    try:
        msgspec.convert(server_id, SETTINGS["name"].type)
    except msgspec.ValidationError:
        raise _unfit("id", server_id, f"must be {allowed('name')}") from None
    for name, address in (("address", peer), ("http", http)):
        try:
            _, port = split_address(address)
        except ValueError as error:
            raise _unfit(name, address, str(error)) from None
        if port == 0:
            raise _unfit(name, address, "port 0 cannot be reached by other servers")
    return ServerAddress(server_id, peer, http)


def _unfit(name: str, text: str, rule: str) -> RequestError:
    return RequestError(f'{name} "{text[:WORD_SHOWN_MAX]}": {rule}')


async def _administer(call: Call, change: Callable[[float], Awaitable[T]]) -> T:
    """Return what a change came to, given the seconds that it has.

    As long as nothing came of it, it is tried again: a new leader takes a moment. Where
    that is unknown, the error says how to find out.
    """
    while True:
        try:
            return await change(call.remaining_s())
        except OutcomeUnknownError:
            problem = Problem(504, CHANGE_UNKNOWN, outcome=OUTCOME_IS_UNKNOWN)
            raise ProblemError(problem) from None
        except NoLeaderError:
            if call.is_out_of_time():
                raise
        await call.services.clock.sleep(min(LEADER_POLL_S, call.remaining_s()))


# Snapshots


async def save_snapshot(call: Call) -> Reply:
    """Answer `GET /v1/operator/snapshot`: a file of this server's state as it is now.

    Unless it may be stale, the state shows every write acknowledged before the call.
    The file is read twice, once for its digest, and never held whole.
    """
    services = call.services
    options = call.read_options()
    is_current = not options.is_stale
    if is_current:
        await blocking.wait_until_linearizable(services, deadline_s=call.remaining_s())
    if services.snapshot_count >= SNAPSHOTS_MAX:
        raise too_many("snapshots being made", "SNAPSHOTS_MAX", SNAPSHOTS_MAX)
    services.snapshot_count += 1
    try:
        saved = await services.admin.save_snapshot(deadline_s=SNAPSHOT_S_MAX)
        digest = await _digest(services, saved)
    except SnapshotError as error:
        raise ProblemError(Problem(500, f"snapshot failed: {error}")) from error
    finally:
        services.snapshot_count -= 1
    options = msgspec.structs.replace(options, is_consistent=is_current)
    headers = (
        BYTES_TYPE
        + b"Digest: sha-256=%b\r\n" % digest
        + index_line(saved.index)
        + blocking.contact_lines(services, options)
    )
    return StreamReply(200, headers, saved.byte_count, _pieces_sent(services, saved))


async def _pieces_sent(
    services: Services, saved: SavedSnapshot
) -> AsyncIterator[bytes]:
    """Yield the file; past the head of an answer, an error can only end the connection."""
    try:
        async for piece in _pieces(services, saved):
            yield piece
    except SnapshotError as error:
        services.logger.warning("snapshot not sent", name=saved.name, error=str(error))
        raise ConnectionAbortedError(str(error)) from error


async def _digest(services: Services, saved: SavedSnapshot) -> bytes:
    """Return the file's SHA-256 in base64, as the header has it."""
    sha256 = hashlib.sha256()
    async for piece in _pieces(services, saved):
        sha256.update(piece)
    return base64.b64encode(sha256.digest())


async def _pieces(services: Services, saved: SavedSnapshot) -> AsyncIterator[bytes]:
    """Yield the file; `SnapshotError` if it ends early."""
    offset = 0
    while offset < saved.byte_count:
        length = min(WRITE_SLICE_BYTES, saved.byte_count - offset)
        piece = await services.admin.read_snapshot(saved, offset, length)
        if not piece:
            raise SnapshotError(f"{saved.name} ends at byte {offset}")
        yield piece
        offset += len(piece)
