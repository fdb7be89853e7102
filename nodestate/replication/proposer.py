"""From a command to its outcome, on any server, with exactly one honest ending.

Applied here with its outcome; certainly not in the log (safe to try again); or unknown.
Until the deadline it is tried again, all the same whether the attempt before is lost or
may be in the log: all attempts carry one id, and the state machine applies that once.
"""

from collections.abc import Callable
from typing import Final

from nodestate.clock import Clock, IdSource
from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm import machine
from nodestate.model.command import Command
from nodestate.model.outcome import Outcome
from nodestate.model.request import IdempotencyKey
from nodestate.ports import Metrics
from nodestate.replication import entries
from nodestate.replication.attempts import (
    Attempt,
    Ending,
    Expired,
    MaybeAppended,
    NotAppended,
    Pending,
    Resolved,
)
from nodestate.replication.engine import NO_LEADER
from nodestate.replication.replica import Replica

TOO_MANY_PROPOSALS: Final = "too many proposals in flight"
FORGOTTEN: Final = "request id is no longer remembered: too much was asked meanwhile"
UNKNOWN: Final = "outcome unknown: not applied before the deadline"
RETRY_S_MIN: Final = 0.01
RETRY_S_MAX: Final = 0.1

Encode = Callable[[Pending], bytes]


class LogProposer:
    """Puts commands into the log, through whichever server leads."""

    def __init__(
        self,
        replica: Replica,
        *,
        config: ServerConfig,
        clock: Clock,
        ids: IdSource,
        metrics: Metrics,
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._ids = ids
        self._in_flight_max = config.proposals_max
        self._in_flight_count = 0
        self._latency = metrics.timing(
            "nodestate_replication_propose_seconds",
            "Time from a proposal to its outcome.",
        )
        metrics.gauge(
            "nodestate_replication_proposals",
            "Proposals that are waiting for their outcome.",
            lambda: self._in_flight_count,
        )

    async def propose(
        self,
        command: Command,
        *,
        deadline_s: float,
        idempotency: IdempotencyKey | None = None,
    ) -> Outcome:
        """Return once `command` is applied here, on this server."""
        self._check(command)

        def encode(pending: Pending) -> bytes:
            return _encode(pending, command, idempotency)

        return _outcome_of(await self._carry_out(encode, deadline_s=deadline_s))

    async def propose_as_leader(
        self, command: Command, *, term: int, deadline_s: float
    ) -> Outcome:
        """Do the same, but only if this server leads in `term`, and only once."""
        self._check(command)
        self._enter()
        started_at_s = self._clock.monotonic_s()
        book = self._replica.attempts
        pending = book.begin()
        attempt = book.open(pending, is_only=True)
        try:
            body = _encode(pending, command, None)
            self._replica.append_as_leader(attempt, body, term=term)
            match await self._ending_of(attempt, deadline_s):
                case Resolved(is_stale=True):
                    book.renew(pending.origin, self._ids.new_id())
                    raise NoLeaderError(FORGOTTEN)
                case Resolved() as resolved:
                    return _outcome_of(resolved)
                case NotAppended():
                    raise NoLeaderError(NO_LEADER)
                case MaybeAppended() | Expired():
                    raise OutcomeUnknownError(UNKNOWN)
        finally:
            book.close(attempt)
            book.finish(pending)
            self._leave(started_at_s)

    async def barrier(self, *, deadline_s: float) -> int:
        """Commit an entry that changes nothing, and return its index once applied here."""

        def encode(pending: Pending) -> bytes:
            return entries.encode_barrier(pending.origin)

        return (await self._carry_out(encode, deadline_s=deadline_s)).at_index

    def _check(self, command: Command) -> None:
        # A command that the state machine cannot stand must fail here, where it costs
        # one request, and not as an entry that stops every server.
        machine.check(self._replica.state(), command)

    async def _carry_out(self, encode: Encode, *, deadline_s: float) -> Resolved:
        """Return once it is applied; under another id if nothing came of the first."""
        self._enter()
        started_at_s = self._clock.monotonic_s()
        give_up_at_s = started_at_s + deadline_s
        book = self._replica.attempts
        try:
            while True:
                pending = book.begin()
                try:
                    resolved = await self._try_until(give_up_at_s, pending, encode)
                finally:
                    book.finish(pending)
                if not resolved.is_stale:
                    return resolved
                if pending.may_be_applied:
                    raise OutcomeUnknownError(FORGOTTEN)
                # The entry that was passed over was the only one there can be.
                book.renew(pending.origin, self._ids.new_id())
        finally:
            self._leave(started_at_s)

    async def _try_until(
        self, give_up_at_s: float, pending: Pending, encode: Encode
    ) -> Resolved:
        """Try under one id until it is applied or the time is over.

        Every attempt appends the same bytes: the id is all that the state machine asks
        for, and a floor that has risen since comes with the next proposal.
        """
        body = encode(pending)
        while pending.resolved is None:
            remaining_s = give_up_at_s - self._clock.monotonic_s()
            if remaining_s <= 0:
                if pending.may_be_applied:
                    raise OutcomeUnknownError(UNKNOWN)
                # Every attempt so far has certainly left nothing in the log.
                raise NoLeaderError(NO_LEADER)
            match await self._try(pending, body, remaining_s):
                case Resolved() as resolved:
                    return resolved
                case Expired():
                    raise OutcomeUnknownError(UNKNOWN)
                case MaybeAppended():
                    pending.may_be_applied = True
                case NotAppended():
                    await self._replica.wait_for_change(self._pause_s(give_up_at_s))
        return pending.resolved

    async def _try(self, pending: Pending, body: bytes, remaining_s: float) -> Ending:
        attempt = self._replica.attempts.open(pending)
        try:
            if not self._replica.submit(attempt, body):
                return NotAppended(NO_LEADER)
            return await self._ending_of(attempt, remaining_s)
        finally:
            self._replica.attempts.close(attempt)

    async def _ending_of(self, attempt: Attempt, remaining_s: float) -> Ending:
        timer = self._clock.call_later(remaining_s, attempt.expire)
        try:
            return await attempt.ending
        finally:
            timer.cancel()

    def _pause_s(self, give_up_at_s: float) -> float:
        spread_s = (RETRY_S_MAX - RETRY_S_MIN) * self._ids.jitter()
        remaining_s = give_up_at_s - self._clock.monotonic_s()
        return max(0.0, min(RETRY_S_MIN + spread_s, remaining_s))

    def _enter(self) -> None:
        has_room = self._replica.attempts.has_room()
        if self._in_flight_count >= self._in_flight_max or not has_room:
            raise NoLeaderError(TOO_MANY_PROPOSALS)
        self._in_flight_count += 1

    def _leave(self, started_at_s: float) -> None:
        self._in_flight_count -= 1
        self._latency.observe(self._clock.monotonic_s() - started_at_s)


def _encode(
    pending: Pending, command: Command, idempotency: IdempotencyKey | None
) -> bytes:
    return entries.encode_command(
        pending.origin, command, floor=pending.floor, idempotency=idempotency
    )


def _outcome_of(resolved: Resolved) -> Outcome:
    assert resolved.outcome is not None, "a command has an outcome"
    return resolved.outcome
