"""The protocols that rooms meet at; `server.py` hands each room what implements them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

import msgspec

from nodestate.fsm.state import State
from nodestate.model.command import Command
from nodestate.model.outcome import Outcome
from nodestate.model.request import IdempotencyKey

T = TypeVar("T")

HEALTHY_LAG_ENTRIES_MAX: Final = 250
"""By how many committed entries a member may be behind and yet be called healthy."""


class Role(StrEnum):
    """What a server is to its cluster at the moment."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class ServerAddress(msgspec.Struct, frozen=True):
    """Where one server of the cluster is reached: `host:port` for peers and for HTTP."""

    server_id: str
    peer_address: str
    http_address: str


class LeadershipStatus(msgspec.Struct, frozen=True):
    """Who leads, as this server sees it, all of one moment.

    `last_contact_s` is the time since the leader was last heard of: 0.0 on a leader that
    reaches a majority, `None` if it never was.
    """

    server_id: str
    role: Role
    term: int
    leader_id: str | None
    last_contact_s: float | None
    commit_index: int
    applied_index: int

    @property
    def is_leader(self) -> bool:
        """Say whether this server leads."""
        return self.role is Role.LEADER


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One server of the cluster, as the latest configuration in the log has it.

    A member without a vote is a learner: it is sent the log and counts for nothing.
    `incarnation` is that of its data directory, "" until it was heard of. On the leader
    `match_index` is how much of the log it has durably, and `contact_s` how long ago it
    answered; elsewhere, and for the leader itself, both are `None`.
    """

    server_id: str
    incarnation: str
    peer_address: str
    http_address: str
    is_voter: bool
    is_leader: bool
    match_index: int | None = None
    contact_s: float | None = None


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """The members, sorted by id, and the index of the entry that says so."""

    index: int
    members: tuple[Member, ...]


class MemberHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How one member does, as the leader sees it.

    `last_index` is how far its log is durable, and `last_term` the term of that entry, 0
    where the leader's log does not reach back that far. `contact_s` is how long ago it
    answered, 0.0 for the leader, `None` if it never did. `since_ns` is when it became as
    healthy, or unhealthy, as it is; no leader knows of what was before its own term.
    """

    server_id: str
    peer_address: str
    is_leader: bool
    is_voter: bool
    last_index: int
    last_term: int
    contact_s: float | None
    is_healthy: bool
    since_ns: int


class LogEnds(msgspec.Struct, frozen=True, kw_only=True):
    """Where this server's log and its newest snapshot end; 0 where there is none."""

    last_index: int = 0
    last_term: int = 0
    snapshot_index: int = 0
    snapshot_term: int = 0


class SavedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that is durable here: which entry it ends with, and its file."""

    index: int
    term: int
    name: str
    byte_count: int


class ClusterAdmin(Protocol):
    """What operators may ask of the cluster, on any server.

    What only the leader can do is sent to it. Raises `NoLeaderError` if nothing was done
    (safe to retry), `RequestError` if it cannot be done as asked, and
    `OutcomeUnknownError` if it may still happen.
    """

    def membership(self) -> Membership:
        """Return the members as this server knows them."""

    def log_ends(self) -> LogEnds:
        """Return how far the log of this server goes, durable or not yet."""

    async def health(self, *, deadline_s: float) -> tuple[MemberHealth, ...]:
        """Return how the members do, as the leader sees it now, sorted by id."""

    async def add_server(self, server: ServerAddress, *, deadline_s: float) -> int:
        """Add a learner, or change a member's addresses; return the entry's index.

        The learner is given a vote by itself once it has caught up.
        """

    async def remove_server(self, server_id: str, *, deadline_s: float) -> int:
        """Remove a member, the leader too; return the entry's index."""

    async def transfer_leadership(
        self, server_id: str | None, *, deadline_s: float
    ) -> str:
        """Hand leadership to a voter, the one furthest on for `None`; return who leads."""

    async def save_snapshot(self, *, deadline_s: float) -> SavedSnapshot:
        """Write a snapshot of this server's state now, and return what it is."""

    async def read_snapshot(
        self, snapshot: SavedSnapshot, offset: int, length: int
    ) -> bytes:
        """Return a piece of its file."""


class UploadedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that was sent here: which entry it ended with, where it came from.

    `byte_count` and `sha256` are those of the pieces of its state.
    """

    index: int
    term: int
    byte_count: int
    sha256: bytes


class SnapshotUpload(Protocol):
    """A snapshot file on its way here, kept out of sight until all of it was checked.

    Raises `RequestError` if it is none, and `SnapshotError` if it cannot be kept; after
    either only `close` is left.
    """

    async def add(self, data: bytes) -> None:
        """Take what comes next of the file, in slices of any size."""

    async def finish(self) -> UploadedSnapshot:
        """Return what it is, now that all of it is here and fits together."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces of its state in order, after `finish`."""

    def close(self) -> None:
        """Let go of it."""


class Leadership(Protocol):
    """Who leads, and being told when that changes."""

    def status(self) -> LeadershipStatus:
        """Return how things stand now."""

    def servers(self) -> Sequence[ServerAddress]:
        """Return the servers of the cluster, this one too, sorted by id."""

    def is_ready_to_lead(self) -> bool:
        """Say whether this server leads and has applied an entry of its own term."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back on the loop whenever role, term, leader or readiness changed."""


class Proposer(Protocol):
    """From a command to its outcome."""

    async def propose(
        self,
        command: Command,
        *,
        deadline_s: float,
        idempotency: IdempotencyKey | None = None,
    ) -> Outcome:
        """Return once `command` is applied here, on this server, and once only.

        Works on any server: a follower sends it to the leader. Waits up to
        `deadline_s` seconds in all. Raises `NoLeaderError` if nothing was sent (safe to
        retry) and `OutcomeUnknownError` after: then the command may still be applied
        later, and only a read can tell, or the same command under the same `idempotency`
        key. The outcome of a key that was used before is the first one, `is_replayed`.
        """

    async def propose_as_leader(
        self, command: Command, *, term: int, deadline_s: float
    ) -> Outcome:
        """Do the same, but only if this server leads in `term`; else `NoLeaderError`.

        For the leader's own services: what a deposed leader still wants to say must not
        reach its successor.
        """

    async def barrier(self, *, deadline_s: float) -> int:
        """Commit an entry that changes nothing, and return its index once applied here.

        A read that follows sees every write acknowledged before the call. Errors as for
        `propose`.
        """


class StateView(Protocol):
    """Read access to this server's replica."""

    def state(self) -> State:
        """Return the state as of the last applied entry; treat it as read-only."""

    def applied_index(self) -> int:
        """Return the index of the last applied entry."""

    def is_caught_up(self) -> bool:
        """Say whether, since it started, this replica has applied all that was committed.

        False from the start until the leader's commit index of first contact is applied;
        true from then on. A server that still replays its log must not answer as if
        what it has were all there is.
        """

    async def wait_until_applied(self, index: int, *, deadline_s: float) -> bool:
        """Return whether entry `index` was applied here within `deadline_s` seconds."""

    async def wait_until_linearizable(self, *, deadline_s: float) -> int:
        """Return once this replica shows every write acknowledged before the call.

        What is returned is the index from which on it does. Works on any server; raises
        `NoLeaderError` if it cannot be known in time.
        """


class LeaderCalls(Protocol):
    """Questions that only the leader can answer, asked from any server."""

    async def ask_leader(self, question: bytes, *, deadline_s: float) -> bytes:
        """Return the leader's answer; locally if this server leads.

        Raises `NoLeaderError` if there is none or it did not take the question, and
        `OutcomeUnknownError` if the answer was lost.
        """

    def answer_with(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Use `answer` for questions that reach this server while it leads."""


class Counter(Protocol):
    """A number that only grows."""

    def add(self, amount: float = 1.0, label: str = "") -> None:
        """Count; `label` is a value of the metric's one label, from a closed set."""


class Timing(Protocol):
    """How long something takes."""

    def observe(self, seconds: float, label: str = "") -> None:
        """Take one duration into account."""


class Metrics(Protocol):
    """Where a room declares what it measures; `telemetry.MetricsRegistry` is the real one.

    Names are `nodestate_<room>_<noun>_<unit>`; counters end in `_total`.
    """

    def counter(self, name: str, description: str, label: str = "") -> Counter:
        """Declare a counter, with at most one label."""

    def timing(self, name: str, description: str, label: str = "") -> Timing:
        """Declare a duration in seconds: count, sum and buckets."""

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Declare a value that is read when somebody asks."""


class Spawner(Protocol):
    """Starts tasks that somebody owns, awaits and cancels."""

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run it; an exception out of it stops the server."""


class DiskFile(Protocol):
    """One preallocated file that is written in place and synced."""

    def size(self) -> int:
        """Return how long the file is."""

    def read(self, offset: int, length: int) -> bytes:
        """Return that part of the file, shorter where the file ends."""

    async def write_and_sync(
        self, offset: int, data: bytes, *, trailer: bytes = b""
    ) -> None:
        """Write `data`, sync, then write `trailer` behind it without a sync.

        Raises `JournalError` if any of it fails, and from then on for every call: a
        failed sync may have dropped pages, so the same file is never tried again.
        """

    def write_and_sync_now(
        self, offset: int, data: bytes, *, trailer: bytes = b""
    ) -> None:
        """Do the same at once, holding up the loop: for start-up only."""

    def close(self) -> None:
        """Close the file once a write in flight has ended."""


class StagedFile(Protocol):
    """A file that grows out of sight and takes its name once it is whole and durable.

    One call at a time. After a `JournalError` only `abandon` is left.
    """

    async def append(self, data: bytes) -> None:
        """Write `data` behind what is there."""

    async def sync(self) -> None:
        """Have all of it on disk, so that a read from here on is one of the disk."""

    async def read(self, offset: int, length: int) -> bytes:
        """Return that part of what was appended, shorter where it ends."""

    async def finish(self) -> None:
        """Sync, take the place of a file of its name, and sync that too."""

    def abandon(self) -> None:
        """Remove what there is, soon; harmless after `finish`, and if done before."""


class Disk(Protocol):
    """A server's data directory. Whatever goes wrong is a `JournalError`."""

    def lock(self) -> None:
        """Keep every other server out of the directory; harmless if already done."""

    def names(self) -> list[str]:
        """Return the names of the files, sorted, without what was left half made."""

    def read_file(self, name: str) -> bytes | None:
        """Return the whole of a small file, or `None` if there is none."""

    def replace_file(self, name: str, content: bytes) -> None:
        """Put `content` in place of the file, durably: all of it, or as it was."""

    def remove_file(self, name: str) -> None:
        """Remove the file, durably; harmless if there is none."""

    async def discard_file(self, name: str) -> None:
        """Do the same without holding up the loop, nor writes to other files."""

    def create_file(self, name: str, bytes_allocated: int) -> DiskFile:
        """Make a file of zeros, all of it on disk before it has its name.

        Takes the place of a file of that name.
        """

    async def prepare_file(self, name: str, bytes_allocated: int) -> DiskFile:
        """Do the same without holding up the loop, nor writes to other files."""

    def open_file(self, name: str) -> DiskFile:
        """Open a file that is there."""

    def stage_file(self, name: str) -> StagedFile:
        """Begin a file that is written without holding up the loop, nor the journal.

        Several may be under way at a time, even of one name.
        """

    async def read_piece(self, name: str, offset: int, length: int) -> bytes:
        """Return that part of a file, shorter where it ends, off the loop."""

    async def compute(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, off the loop.

        For what lets go of the interpreter lock while it works on a lot of bytes:
        compressing them, summing them up. `work` may touch nothing that others change.
        """


class Connection(Protocol):
    """One end of an open connection; nothing here waits."""

    def write(self, data: bytes) -> None:
        """Send; what cannot go out yet is buffered. Ignored once the end is near."""

    def buffered_bytes(self) -> int:
        """Return how much has been written and has not gone out."""

    def remote_host(self) -> str:
        """Return the other side's address without its port, for logs and limits."""

    def peer_name(self) -> str | None:
        """Return the server that the other side's certificate names; `None` without TLS."""

    def close(self) -> None:
        """Hang up when everything is sent."""

    def abort(self) -> None:
        """Hang up now."""


class ConnectionHandler(Protocol):
    """What a connection calls, on the loop: `on_made`, then bytes, then `on_lost`."""

    def on_made(self, connection: Connection) -> None:
        """Start to use the connection."""

    def on_bytes(self, data: bytes) -> None:
        """Take what arrived, in order."""

    def on_lost(self) -> None:
        """Let go: called once, however the connection ended."""


class Listener(Protocol):
    """A place where connections are accepted."""

    def port(self) -> int:
        """Return the port, which matters if any free one was asked for."""

    async def close(self) -> None:
        """Accept no more."""


class Network(Protocol):
    """How servers reach each other."""

    async def listen(
        self, host: str, port: int, accept: Callable[[], ConnectionHandler]
    ) -> Listener:
        """Give each new connection a handler; `ConfigError` if it cannot be done."""

    async def connect(
        self, host: str, port: int, handler: ConnectionHandler, *, deadline_s: float
    ) -> Connection:
        """Open a connection for `handler`; `OSError` if it fails or takes too long."""
