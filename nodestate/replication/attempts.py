"""Proposals that are waited for, their attempts, and how each of those ends.

A proposal is waited for under one id, through as many attempts as it takes. An attempt is
one entry appended once, by this server or by the leader it was sent to. It ends when the
proposal is applied here, when it is certain that its entry never will be, or when nobody
will say more: as the state machine knows the id, it may be tried again all the same.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from nodestate.fsm.requests import OUTCOMES_MAX
from nodestate.model.outcome import Outcome, RefusalCode, Refused
from nodestate.model.request import Origin
from nodestate.replication.frames import ProposalReply


class Resolved(NamedTuple):
    """The proposal is applied here: where, and with which outcome (none for a no-op)."""

    at_index: int
    outcome: Outcome | None

    @property
    def is_stale(self) -> bool:
        """Say whether it was passed over, because its id may have been forgotten."""
        outcome = self.outcome
        if not isinstance(outcome, Refused):
            return False
        return outcome.code is RefusalCode.STALE_REQUEST


class NotAppended(NamedTuple):
    """Nothing of it is in the log, and nothing will be: it is safe to try again."""

    reason: str


class MaybeAppended(NamedTuple):
    """It may be in the log, and may yet be lost: it is safe to try again under its id."""

    reason: str


class Expired(NamedTuple):
    """The deadline passed, and the entry may still be applied."""


Ending = Resolved | NotAppended | MaybeAppended | Expired
REPLACED: Final = NotAppended("another entry took its place")
LEADER_CHANGED: Final = MaybeAppended("another server leads")
DISCONNECTED: Final = MaybeAppended("connection to the leader lost")
PASSED_BY: Final = MaybeAppended("a snapshot took the place of its entry")


class Pending:
    """A proposal that is waited for.

    `floor` is the lowest sequence that was waited for when it began. `resolved` is set
    once it is applied here, with an attempt under way or not.
    """

    __slots__ = ("attempt", "floor", "may_be_applied", "origin", "resolved")

    def __init__(self, origin: Origin, floor: int) -> None:
        self.origin = origin
        self.floor = floor
        self.attempt: Attempt | None = None  # the one that is open
        self.may_be_applied = False  # an attempt ended that may be in a log
        self.resolved: Resolved | None = None


class Attempt:
    """One attempt, open until `ending` is set.

    `is_only` says that no other follows, so that it is waited for to the end.
    """

    __slots__ = (
        "attempt_id",
        "ending",
        "index",
        "is_only",
        "peer_id",
        "pending",
        "term",
    )

    def __init__(self, attempt_id: int, pending: Pending, *, is_only: bool) -> None:
        self.attempt_id = attempt_id
        self.pending = pending
        self.is_only = is_only
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
    """The proposals of this server that are waited for, and their open attempts."""

    def __init__(self, server_id: str, boot_id: str) -> None:
        self._server_id = server_id
        self._boot_id = boot_id
        # Whether the state machine knows the boot id. Until then every sequence is one
        # that it must remember, or it would take this server for one that it forgot.
        self._is_known = False
        self._last_sequence = 0
        self._last_attempt_id = 0
        self._floor = 1
        self._pending: dict[int, Pending] = {}
        self._by_id: dict[int, Attempt] = {}
        self._by_index: dict[int, list[Attempt]] = {}

    def has_room(self) -> bool:
        """Say whether what is waited for longest would still be remembered."""
        ahead_max = OUTCOMES_MAX - 2
        if self._last_sequence - self._floor <= ahead_max:
            return True
        return self._last_sequence - self._lowest_pending() <= ahead_max

    def begin(self) -> Pending:
        """Begin to wait for a new proposal; whoever does must also call `finish`."""
        self._last_sequence += 1
        origin = Origin(self._server_id, self._boot_id, self._last_sequence)
        pending = Pending(origin, floor=1)
        self._pending[origin.sequence] = pending
        if self._is_known:
            pending.floor = self._lowest_pending()
        return pending

    def finish(self, pending: Pending) -> None:
        """Wait no longer: from now on the proposal need not be remembered."""
        del self._pending[pending.origin.sequence]

    def renew(self, refused: Origin, boot_id: str) -> None:
        """Go on under another boot id, if it is the present one that was refused."""
        if refused.boot_id == self._boot_id:
            self._boot_id = boot_id
            self._is_known = False

    def _lowest_pending(self) -> int:
        """Return the lowest sequence that is waited for, or else the next one."""
        floor, pending = self._floor, self._pending
        while floor not in pending and floor <= self._last_sequence:
            floor += 1
        self._floor = floor
        return floor

    def open(self, pending: Pending, *, is_only: bool = False) -> Attempt:
        """Begin an attempt; whoever does must also close it before the next."""
        assert pending.attempt is None, "one attempt at a time"
        self._last_attempt_id += 1
        attempt = Attempt(self._last_attempt_id, pending, is_only=is_only)
        pending.attempt = attempt
        self._by_id[attempt.attempt_id] = attempt
        return attempt

    def close(self, attempt: Attempt) -> None:
        """Forget an attempt, however it ended."""
        attempt.pending.attempt = None
        del self._by_id[attempt.attempt_id]
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

        `applied_term` is the term of the entry applied here at that index, if any is: 0
        if that is no longer known. Had it been the attempt's, that would have ended.
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
        """End the proposal whose entry has been applied, if it is one of ours."""
        if origin.server_id != self._server_id:
            return
        if not self._is_known and origin.boot_id == self._boot_id:
            self._is_known = resolved.outcome is not None and not resolved.is_stale
        pending = self._pending.get(origin.sequence)
        if pending is None or pending.origin != origin:
            return
        if pending.resolved is None:
            pending.resolved = resolved
        if pending.attempt is not None:
            pending.attempt.end(pending.resolved)

    def on_leader_changed(self, leader_id: str | None) -> None:
        """End the attempts that the present leader need not have in its log.

        While there is none they stay: there is nobody to try again with.
        """
        if leader_id is None:
            return
        for attempt in self._repeatable():
            appended_by = attempt.peer_id or self._server_id
            if appended_by != leader_id:
                attempt.end(LEADER_CHANGED)

    def on_disconnected(self, peer_id: str) -> None:
        """End the attempts of which a peer would have said what became of them."""
        for attempt in self._repeatable():
            if attempt.peer_id == peer_id:
                attempt.end(DISCONNECTED)

    def _repeatable(self) -> list[Attempt]:
        return [attempt for attempt in self._by_id.values() if not attempt.is_only]

    def on_installed(
        self, index: int, find: Callable[[Origin], Resolved | None]
    ) -> None:
        """Resolve what a snapshot has applied, up to entry `index`.

        `find` returns what its state remembers of a proposal.
        """
        for pending in self._pending.values():
            resolved = find(pending.origin)
            if resolved is not None:
                self.resolve(pending.origin, resolved)
            elif pending.attempt is not None and 0 < pending.attempt.index <= index:
                # Lost, or forgotten since: only a repeat can tell.
                pending.attempt.end(PASSED_BY)
