"""What the engine is handed: the times it runs with, and its ways to the world."""

from collections.abc import Callable
from typing import NamedTuple

import structlog

from nodestate.clock import Clock, IdSource
from nodestate.replication.disarmed import Journal, Send
from nodestate.replication.records import Entry


class Timeouts(NamedTuple):
    """The times that Raft is run with."""

    heartbeat_s: float
    election_s_min: float
    election_s_max: float


class Surroundings(NamedTuple):
    """What the engine reaches the world through.

    `apply` is called with each committed entry, once and in order; `wake` asks for a
    tick soon.
    """

    journal: Journal
    send: Send
    is_connected: Callable[[str], bool]
    apply: Callable[[Entry], None]
    wake: Callable[[], None]
    clock: Clock
    ids: IdSource
    logger: structlog.stdlib.BoundLogger
