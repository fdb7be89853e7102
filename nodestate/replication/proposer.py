"""From a command to its outcome, on any server, with exactly one honest ending.

Applied here with its outcome; certainly not in the log (safe to try again); or unknown.
What is certainly not in the log is tried again until the deadline.
"""

from typing import Final

from nodestate.clock import Clock, IdSource
from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm import machine
from nodestate.model.command import Command
from nodestate.model.outcome import Outcome
from nodestate.model.request import Origin
from nodestate.ports import Metrics
from nodestate.replication import entries
from nodestate.replication.attempts import (
    Attempt,
    Ending,
    Expired,
    NotAppended,
    Resolved,
)
from nodestate.replication.engine import NO_LEADER
from nodestate.replication.replica import Replica

TOO_MANY_PROPOSALS: Final = "too many proposals in flight"
UNKNOWN: Final = "outcome unknown: not applied before the deadline"
RETRY_S_MIN: Final = 0.01
RETRY_S_MAX: Final = 0.1


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

    async def propose(self, command: Command, *, deadline_s: float) -> Outcome:
        """Return once `command` is applied here, on this server."""
        origin, body = self._encode(command)
        resolved = await self._carry_out(origin, body, deadline_s=deadline_s)
        return _outcome_of(resolved)

    async def propose_as_leader(
        self, command: Command, *, term: int, deadline_s: float
    ) -> Outcome:
        """Do the same, but only if this server leads in `term`, and only once."""
        origin, body = self._encode(command)
        self._enter()
        started_at_s = self._clock.monotonic_s()
        attempt = self._replica.attempts.open(origin)
        try:
            self._replica.append_as_leader(attempt, body, term=term)
            match await self._ending_of(attempt, deadline_s):
                case Resolved() as resolved:
                    return _outcome_of(resolved)
                case Expired():
                    raise OutcomeUnknownError(UNKNOWN)
                case NotAppended():
                    raise NoLeaderError(NO_LEADER)
        finally:
            self._replica.attempts.close(attempt)
            self._leave(started_at_s)

    async def barrier(self, *, deadline_s: float) -> int:
        """Commit an entry that changes nothing, and return its index once applied here."""
        origin = self._replica.attempts.new_origin()
        body = entries.encode_barrier(origin)
        return (await self._carry_out(origin, body, deadline_s=deadline_s)).at_index

    def _encode(self, command: Command) -> tuple[Origin, bytes]:
        # A command that the state machine cannot stand must fail here, where it costs
        # one request, and not as an entry that stops every server.
        machine.check(self._replica.state(), command)
        origin = self._replica.attempts.new_origin()
        return origin, entries.encode_command(origin, command)

    async def _carry_out(
        self, origin: Origin, body: bytes, *, deadline_s: float
    ) -> Resolved:
        """Try until it is applied or the deadline passes; never twice at a time."""
        self._enter()
        started_at_s = self._clock.monotonic_s()
        give_up_at_s = started_at_s + deadline_s
        try:
            while True:
                remaining_s = give_up_at_s - self._clock.monotonic_s()
                if remaining_s <= 0:
                    # Every attempt so far has certainly left nothing in the log.
                    raise NoLeaderError(NO_LEADER)
                ending = await self._try(origin, body, remaining_s)
                if isinstance(ending, Resolved):
                    return ending
                if isinstance(ending, Expired):
                    raise OutcomeUnknownError(UNKNOWN)
                pause_s = self._pause_s(give_up_at_s)
                await self._replica.wait_for_change(pause_s)
        finally:
            self._leave(started_at_s)

    async def _try(self, origin: Origin, body: bytes, remaining_s: float) -> Ending:
        attempt = self._replica.attempts.open(origin)
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
        if self._in_flight_count >= self._in_flight_max:
            raise NoLeaderError(TOO_MANY_PROPOSALS)
        self._in_flight_count += 1

    def _leave(self, started_at_s: float) -> None:
        self._in_flight_count -= 1
        self._latency.observe(self._clock.monotonic_s() - started_at_s)


def _outcome_of(resolved: Resolved) -> Outcome:
    assert resolved.outcome is not None, "a command has an outcome"
    return resolved.outcome
