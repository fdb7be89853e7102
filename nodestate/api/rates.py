"""How much one client may ask for: requests in a second, and blocking queries at once.

A client is who `callers.py` says: a good token, or else an address.

Requests are limited by when the next one would be due at the rate allowed: who asks
slower than that never waits, and some may come at once. That is one number for a client.
"""

from collections import Counter, OrderedDict
from math import ceil
from typing import Final

from nodestate.api.connections import Connection
from nodestate.api.problems import Problem, too_many
from nodestate.clock import Clock
from nodestate.config import ServerConfig

BURST_S: Final = 2.0
"""So many seconds' requests may come at once, and at least one."""
ROUNDING_S: Final = 1e-6
CLIENTS_MAX: Final = 65_536
"""Clients that are remembered; most are forgotten once they have been quiet."""

ONE_CLIENT: Final = "requests_per_second_max"
ONE_CONNECTION: Final = "connection_requests_per_second_max"


class RequestRates:
    """Says which requests come too fast."""

    def __init__(self, config: ServerConfig, clock: Clock) -> None:
        """Take the rates from the settings; one of 0 is no limit."""
        self._clock = clock
        self._of_client = config.requests_per_second_max
        self._of_connection = config.connection_requests_per_second_max
        self._next_s: OrderedDict[str, float] = OrderedDict()
        self._swept_at_s = clock.monotonic_s()
        self.are_limited = bool(self._of_client or self._of_connection)

    def judge_connection(self, connection: Connection) -> Problem | None:
        """Count a request of a connection; return why it may not be answered."""
        if not self._of_connection:
            return None
        now_s = self._clock.monotonic_s()
        next_s, wait_s = _after(connection.next_request_s, now_s, self._of_connection)
        connection.next_request_s = next_s
        if not wait_s:
            return None
        return _too_fast("connection", ONE_CONNECTION, self._of_connection, wait_s)

    def judge_client(self, client: str) -> Problem | None:
        """Count a request of a client; return why it may not be answered."""
        if not self._of_client:
            return None
        now_s = self._clock.monotonic_s()
        known_s = self._next_s.get(client)
        if known_s is None:
            self._make_room(now_s)
            known_s = now_s
        next_s, wait_s = _after(known_s, now_s, self._of_client)
        self._next_s[client] = next_s
        if not wait_s:
            return None
        return _too_fast("client", ONE_CLIENT, self._of_client, wait_s)

    def _make_room(self, now_s: float) -> None:
        if len(self._next_s) < CLIENTS_MAX:
            return
        if now_s - self._swept_at_s > BURST_S:
            # Who could ask for a whole burst again is as good as new.
            self._swept_at_s = now_s
            self._next_s = OrderedDict(
                (client, next_s)
                for client, next_s in self._next_s.items()
                if next_s > now_s
            )
        while len(self._next_s) >= CLIENTS_MAX:
            self._next_s.popitem(last=False)


class WaiterCounts:
    """How many blocking queries each client has."""

    def __init__(self, config: ServerConfig) -> None:
        """Take the limit from the settings."""
        self._limit = config.watchers_per_client_max
        self._counts: Counter[str] = Counter()

    def begin(self, client: str) -> None:
        """Count one more; a `ProblemError` if that is too many."""
        if self._counts[client] >= self._limit:
            raise too_many(
                "blocking queries of one client", "watchers_per_client_max", self._limit
            )
        self._counts[client] += 1

    def end(self, client: str) -> None:
        """Count one less."""
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


def _after(next_s: float, now_s: float, rate: float) -> tuple[float, float]:
    """Return when the next request is due after this one, and how long this is too early."""
    interval_s = 1 / rate
    burst_s = max(BURST_S, interval_s)
    due_s = max(next_s, now_s) + interval_s
    early_s = due_s - now_s - burst_s
    # A request that is refused does not count, or asking would keep one out.
    return (due_s, 0.0) if early_s <= ROUNDING_S else (next_s, early_s)


def _too_fast(whose: str, setting: str, rate: float, wait_s: float) -> Problem:
    text = f"too many requests of one {whose}: at most {rate:g} a second ({setting})"
    return Problem(429, text, b"Retry-After: %d\r\n" % max(ceil(wait_s), 1))
