"""Asking a server, and another one if it does not answer.

Each node has a server of its own, so that a fleet is spread over all of them, and goes to
the next one while that server rests. A server rests when it could not be reached or had
no answer: what one node has found out, the others need not find out again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from nodestate.client import Client
from nodestate.clock import Clock, IdSource
from nodestate.errors import (
    NodestateError,
    OutcomeUnknownError,
    ResponseError,
    UnreachableError,
)

REST_S_MIN: Final = 0.5
REST_S_MAX: Final = 10.0
REPORTS_AT_ONCE_MAX: Final = 48
"""Reports under way in one process: more would only open connections, not be faster."""
ATTEMPTS_S_MAX: Final = 60.0
"""How long one question goes from server to server before it is given up."""

T = TypeVar("T")


class _Standing:
    """A server, and until when it is left alone."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.rests_until_s = 0.0
        self.rest_s = REST_S_MIN


class Servers:
    """The servers of a cluster, as all the nodes of a fleet see them.

    `error_count` counts the questions that a server did not answer, `last_error` says
    why. Each question is held up by about `latency_s`, as on a slow network. Whoever
    reports holds `reporting`; heartbeats wait for nobody.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        *,
        clock: Clock,
        ids: IdSource,
        latency_s: float = 0.0,
    ) -> None:
        assert clients, "a fleet needs a server to talk to"
        self._servers = [_Standing(client) for client in clients]
        self._clock = clock
        self._ids = ids
        self.reporting = asyncio.Semaphore(REPORTS_AT_ONCE_MAX)
        self.latency_s = latency_s
        self.error_count = 0
        self.last_error = ""

    async def ask(self, number: int, question: Callable[[Client], Awaitable[T]]) -> T:
        """Put a question for the node of this number until a server answers it.

        Whatever is asked must be harmless when it is asked twice: a server may have done
        what it did not answer. Raises `ResponseError` for an answer that another server
        would give as well, and the last failure once `ATTEMPTS_S_MAX` are over.
        """
        deadline_s = self._clock.monotonic_s() + ATTEMPTS_S_MAX
        while True:
            await self._delay()
            server = self._server_for(number)
            await self._wait_for(server)
            try:
                answer = await question(server.client)
            except (UnreachableError, OutcomeUnknownError, ResponseError) as error:
                if isinstance(error, ResponseError) and not _may_pass(error):
                    raise
                self._rest(server, error)
                if self._clock.monotonic_s() >= deadline_s:
                    raise
            else:
                server.rest_s = REST_S_MIN
                return answer

    def note(self, error: NodestateError) -> None:
        """Count an answer that a node can do nothing with."""
        self.error_count += 1
        self.last_error = str(error)

    async def pause(self, seconds: float) -> None:
        """Wait for that long, more or less, so that nodes do not come back as one."""
        await self._clock.sleep(seconds * (0.5 + self._ids.jitter()))

    def _server_for(self, number: int) -> _Standing:
        """Return the node's own server, or else one that does not rest.

        The nodes of a server that is gone are spread over all the others.
        """
        now_s = self._clock.monotonic_s()
        round_number, own = divmod(number, len(self._servers))
        if self._servers[own].rests_until_s <= now_s:
            return self._servers[own]
        others = self._servers[own + 1 :] + self._servers[:own]
        first = round_number % max(len(others), 1)
        turns = [*others[first:], *others[:first], self._servers[own]]
        awake = [server for server in turns if server.rests_until_s <= now_s]
        return awake[0] if awake else min(turns, key=lambda one: one.rests_until_s)

    async def _wait_for(self, server: _Standing) -> None:
        remaining_s = server.rests_until_s - self._clock.monotonic_s()
        if remaining_s > 0:
            await self._clock.sleep(remaining_s + REST_S_MIN * self._ids.jitter())

    async def _delay(self) -> None:
        if self.latency_s > 0:
            await self.pause(self.latency_s)

    def _rest(self, server: _Standing, error: NodestateError) -> None:
        self.note(error)
        now_s = self._clock.monotonic_s()
        if server.rests_until_s > now_s:
            return  # others were told the same at the same time
        server.rests_until_s = now_s + server.rest_s
        server.rest_s = min(server.rest_s * 2, REST_S_MAX)


def _may_pass(error: ResponseError) -> bool:
    """Say whether a server cannot answer just now: no leader, too much to do."""
    return error.status >= 500 or error.status == 429
