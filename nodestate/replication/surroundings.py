"""What the engine is handed: the times it runs with, and its ways to the world."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog

from nodestate.clock import Clock, IdSource
from nodestate.replication.disarmed import Journal, Send
from nodestate.replication.frames import SnapshotChunk, SnapshotReply
from nodestate.replication.records import Entry


class Timeouts(NamedTuple):
    """The times that Raft is run with."""

    heartbeat_s: float
    election_s_min: float
    election_s_max: float


class Installs(Protocol):
    """Whoever sends snapshots and installs them; nothing here waits."""

    def need_snapshot(self, peer_id: str) -> None:
        """Send one to a follower that the log cannot help, unless that is under way."""

    def on_chunk(self, leader_id: str, chunk: SnapshotChunk) -> None:
        """Take a piece from the leader of this term."""

    def on_snapshot_reply(self, peer_id: str, reply: SnapshotReply) -> None:
        """Take a follower's answer to a piece."""


class Surroundings(NamedTuple):
    """What the engine reaches the world through.

    `apply` is called with each committed entry, once and in order; `wake` asks for a
    tick soon; `members_changed` tells that the latest configuration is another.
    """

    journal: Journal
    send: Send
    is_connected: Callable[[str], bool]
    apply: Callable[[Entry], None]
    wake: Callable[[], None]
    members_changed: Callable[[], None]
    installs: Installs
    clock: Clock
    ids: IdSource
    logger: structlog.stdlib.BoundLogger
