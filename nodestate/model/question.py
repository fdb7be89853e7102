"""What any server may ask the leader, and what it is told.

These never enter the log. They travel between servers as MessagePack.
"""

import msgspec

from nodestate.model.node import NodeKey, NodeStatus
from nodestate.model.outcome import Outcome


class Heartbeat(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="heartbeat"):
    """An agent says that its node lives; without a status it keeps the one it has."""

    key: NodeKey
    status: NodeStatus | None
    secret_sha256: bytes
    at_ns: int
    asked_by: str
    seed: bytes


class StartTimers(msgspec.Struct, frozen=True, gc=False, tag="start_timers"):
    """Nodes have just registered: start their timers."""

    keys: tuple[NodeKey, ...]


class CollectNow(msgspec.Struct, frozen=True, gc=False, tag="collect_now"):
    """Remove now what is over, however old it is, for whoever asked."""

    asked_by: str


class ReadResetFile(msgspec.Struct, frozen=True, gc=False, tag="read_reset_file"):
    """Say what the operator has written into the leader's reset file, for a bootstrap."""


Question = Heartbeat | StartTimers | CollectNow | ReadResetFile


class HeartbeatAnswer(msgspec.Struct, frozen=True, gc=False, tag="heartbeat"):
    """What became of a heartbeat; the TTL is 0 for a node that is down."""

    outcome: Outcome
    ttl_ns: int


class TimersAnswer(msgspec.Struct, frozen=True, gc=False, tag="timers"):
    """The TTL of each node asked for, in order; 0 for one that is down or gone."""

    ttls_ns: tuple[int, ...]


class CollectedAnswer(msgspec.Struct, frozen=True, gc=False, tag="collected"):
    """What is over is removed: all of it, or some so far if there is much of it."""

    is_whole: bool


class ResetFileAnswer(msgspec.Struct, frozen=True, gc=False, tag="reset_file"):
    """The number in the leader's reset file, 0 where there is none."""

    reset_index: int


class NotAnswered(msgspec.Struct, frozen=True, gc=False, tag="not_answered"):
    """The leader could not say: `may_apply` tells whether something may still happen."""

    reason: str
    may_apply: bool


Answer = (
    HeartbeatAnswer | TimersAnswer | CollectedAnswer | NotAnswered | ResetFileAnswer
)
