"""What clients asked and were told, in the order of one clock that all of them share.

That clock counts the loop's callbacks: two moments of one virtual time still have an
order.
"""

from enum import StrEnum

import msgspec

from nodestate.model.node import Node
from nodestate.model.outcome import Outcome

NEVER = 1 << 62
"""When a call returned that nobody saw the end of."""


class Status(StrEnum):
    """How a call ended, as the caller knows it."""

    DONE = "done"
    NOT_SENT = "not sent"
    UNKNOWN = "unknown"


class Call(msgspec.Struct, kw_only=True, gc=False):
    """One call of a client; of a write with retries, all of it together.

    `verb` is "read" for reads; `index` is the replica's applied index when it read.
    """

    op: str
    verb: str
    node: str
    server: str
    called_at: int
    returned_at: int = NEVER
    status: Status = Status.UNKNOWN
    outcome: Outcome | None = None
    index: int = 0
    seen: Node | None = None
    is_consistent: bool = True


class Watched(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer to a blocking read of one node, or of the table for ""."""

    op: str
    server: str
    node: str
    asked_index: int
    index: int
    applied_index: int
    seen: Node | None
    late_s: float
    """How long the answer was possible before it was given, in the server's own time."""


class History(msgspec.Struct, gc=False):
    """Everything that clients saw."""

    calls: list[Call] = []
    watched: list[Watched] = []
