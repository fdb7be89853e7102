"""Messages that may not leave before what they reveal is on disk."""

from collections import deque
from typing import Protocol

from nodestate.replication.disarmed import Send
from nodestate.replication.frames import Message


class DurableMark(Protocol):
    """How far the journal is durable; every change to it has a number."""

    def durable_position(self) -> int:
        """Return the number of the last change that is durable, and all before it."""


class Outbox:
    """Holds each message until the journal is durable up to a position.

    A vote, a term and an acknowledgement are promises: a server that crashes after
    making one must still know of it (Raft, section 5).
    """

    def __init__(self, journal: DurableMark, send: Send) -> None:
        self._journal = journal
        self._send = send
        self._held: deque[tuple[int, str, Message]] = deque()

    def post(self, peer_id: str, message: Message, *, position: int) -> None:
        """Send now if the journal is durable up to `position`, else once it is."""
        if position <= self._journal.durable_position():
            self._send(peer_id, message)
        else:
            self._held.append((position, peer_id, message))

    def release(self) -> None:
        """Send what may leave now, oldest first."""
        durable = self._journal.durable_position()
        while self._held and self._held[0][0] <= durable:
            _, peer_id, message = self._held.popleft()
            self._send(peer_id, message)
