"""Attempts to get a command into the log, and how each of them ends.

An attempt is one entry appended once, by this server or by the leader it was sent to.
It ends when that entry is applied here, or when it is certain that it never will be.
"""

import asyncio
from typing import Final, NamedTuple

from nodestate.model.outcome import Outcome
from nodestate.model.request import Origin
from nodestate.replication.frames import ProposalReply


class Resolved(NamedTuple):
    """The entry is applied here: where, and with which outcome (none for a no-op)."""

    at_index: int
    outcome: Outcome | None


class NotAppended(NamedTuple):
    """Nothing of it is in the log, and nothing will be: it is safe to try again."""

    reason: str


class Expired(NamedTuple):
    """The deadline passed, and the entry may still be applied."""


Ending = Resolved | NotAppended | Expired
REPLACED: Final = NotAppended("another entry took its place")


class Attempt:
    """One attempt, open until `ending` is set."""

    __slots__ = ("attempt_id", "ending", "index", "peer_id", "sequence", "term")

    def __init__(self, attempt_id: int, sequence: int) -> None:
        self.attempt_id = attempt_id
        self.sequence = sequence
        self.peer_id: str | None = None  # whom it was sent to, if it was
        self.index = 0  # where it is in the log, once known
        self.term = 0
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def end(self, ending: Ending) -> None:
        """Set the ending, unless there is one or the caller has gone."""
        if not self.ending.done():
            self.ending.set_result(ending)

    def expire(self) -> None:
        """End because the deadline has passed."""
        self.end(Expired())


class AttemptBook:
    """The open attempts of this server since it started."""

    def __init__(self, server_id: str, boot_id: str) -> None:
        self._server_id = server_id
        self._boot_id = boot_id
        self._last_sequence = 0
        self._last_attempt_id = 0
        self._by_sequence: dict[int, Attempt] = {}
        self._by_id: dict[int, Attempt] = {}
        self._by_index: dict[int, list[Attempt]] = {}

    def new_origin(self) -> Origin:
        """Return the id of a new proposal; all its attempts carry the same."""
        self._last_sequence += 1
        return Origin(self._server_id, self._boot_id, self._last_sequence)

    def open(self, origin: Origin) -> Attempt:
        """Begin an attempt; whoever does must also close it."""
        self._last_attempt_id += 1
        attempt = Attempt(self._last_attempt_id, origin.sequence)
        self._by_id[attempt.attempt_id] = attempt
        self._by_sequence[attempt.sequence] = attempt
        return attempt

    def close(self, attempt: Attempt) -> None:
        """Forget an attempt, however it ended."""
        del self._by_id[attempt.attempt_id]
        if self._by_sequence.get(attempt.sequence) is attempt:
            del self._by_sequence[attempt.sequence]
        neighbours = self._by_index.get(attempt.index)
        if neighbours is not None and attempt in neighbours:
            neighbours.remove(attempt)
            if not neighbours:
                del self._by_index[attempt.index]

    def place(self, attempt: Attempt, index: int, term: int) -> None:
        """Take note of where in the log an attempt is."""
        attempt.index, attempt.term = index, term
        self._by_index.setdefault(index, []).append(attempt)

    def on_reply(
        self, peer_id: str, reply: ProposalReply, *, applied_term: int | None
    ) -> None:
        """Take the leader's word for where an attempt is, or that it is nowhere.

        `applied_term` is the term of the entry applied here at that index, if any is.
        """
        attempt = self._by_id.get(reply.proposal_id)
        if attempt is None or attempt.peer_id != peer_id:
            return
        if reply.reason:
            attempt.end(NotAppended(reply.reason))
        elif applied_term is None:
            self.place(attempt, reply.index, reply.term)
        elif applied_term != reply.term:
            attempt.end(REPLACED)

    def on_applied(self, index: int, term: int) -> None:
        """End the attempts that were at this index in another term: they are lost."""
        if not self._by_index:
            return
        for attempt in self._by_index.pop(index, ()):
            if attempt.term != term:
                attempt.end(REPLACED)

    def resolve(self, origin: Origin, resolved: Resolved) -> None:
        """End the attempt whose entry has been applied, if it is one of ours."""
        if origin.boot_id != self._boot_id or origin.server_id != self._server_id:
            return
        attempt = self._by_sequence.get(origin.sequence)
        if attempt is not None:
            attempt.end(resolved)
