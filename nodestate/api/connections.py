"""Connections: how many there may be, what is said to bytes that are no request.

A thin layer over aiohttp's own: its parser, keep-alive and pipelining stay as they are.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from typing_extensions import override

from nodestate.api.replies import Reply, Sent, send

JudgeMalformed = Callable[[BaseException | None], tuple[Reply, int]]
"""Says what to answer to bytes that the parser refused, and when, in Unix seconds."""

IDLE_S_MAX: Final = 180.0
"""How long a connection may say nothing between requests, or before the first."""
LINGER_S_MAX: Final = 2.0
"""How long the rest of a refused body is read, so that the refusal gets through."""
REFUSAL_S_MAX: Final = 2.0
WRITE_S_MAX: Final = 30.0
"""How long a reader may leave a slice of an answer lying before it is cut off."""

_TOO_MANY: Final = b"too many connections: the limit is connections_max"
_REFUSAL: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Retry-After: 1\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b"
) % (len(_TOO_MANY), _TOO_MANY)


class Malformed(Sent):
    """The answer to bytes that are no request: written when aiohttp asks for it."""

    __slots__ = ("_now_s", "_reply")

    def __init__(self, reply: Reply, now_s: int) -> None:
        super().__init__(keep_alive=False)
        self._reply = reply
        self._now_s = now_s

    @override
    async def prepare(self, request: web.BaseRequest) -> None:
        """Write it; there is no request whose wishes could be heeded."""
        if request.transport is not None:
            await send(request, self._reply, now_s=self._now_s)


class Connection(RequestHandler):
    """One client's connection; `on_lost` is called once it has ended."""

    __slots__ = ("_judge", "_write_timer", "on_lost")

    def __init__(
        self, manager: web.Server, judge: JudgeMalformed, **settings: Any
    ) -> None:
        super().__init__(manager, **settings)
        self._judge = judge
        self._write_timer: asyncio.TimerHandle | None = None
        self.on_lost: Callable[[], None] | None = None

    @override
    def pause_writing(self) -> None:
        """Wait for a slow reader, but not for ever."""
        super().pause_writing()
        if self.transport is not None:
            loop = asyncio.get_running_loop()
            self._write_timer = loop.call_later(WRITE_S_MAX, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        """Go on: the reader has taken what there was."""
        self._stop_write_timer()
        super().resume_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of whoever waits on behalf of the client."""
        self._stop_write_timer()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """Answer what the parser could not read; every other error has its answer."""
        return Malformed(*self._judge(exc))


class _Refusal(asyncio.Protocol):
    """A connection over the limit: told so when it asks, and ended."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request: to close under it would take the answer away."""
        # uvloop's transport for TLS keeps the protocol without inheriting from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(REFUSAL_S_MAX, self._transport.abort)

    @override
    def data_received(self, data: bytes) -> None:
        """Answer and hang up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_REFUSAL)
            self._transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()


class ConnectionServer(web.Server):
    """Makes a connection for each client that comes, up to a limit."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[Any]],
        *,
        connections_max: int,
        header_bytes_max: int,
        judge: JudgeMalformed,
        on_stop: Callable[[], None],
    ) -> None:
        settings: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": IDLE_S_MAX,
            "lingering_time": LINGER_S_MAX,
            "max_line_size": header_bytes_max,
            "max_field_size": header_bytes_max,
        }
        super().__init__(handler, **settings)
        self._settings = settings
        self._judge = judge
        self._connections_max = connections_max
        self._on_stop = on_stop
        self.connection_count = 0

    @override
    def __call__(self) -> Any:
        """Return the protocol for one more connection."""
        if self.connection_count >= self._connections_max:
            return _Refusal()
        loop = asyncio.get_running_loop()
        return Connection(self, self._judge, loop=loop, **self._settings)

    @override
    def connection_made(
        self, handler: RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Count it."""
        self.connection_count += 1
        super().connection_made(handler, transport)

    @override
    def connection_lost(
        self, handler: RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Count it out."""
        self.connection_count -= 1
        super().connection_lost(handler, exc)

    @override
    async def shutdown(self, timeout: float | None = None) -> None:
        """Release who waits, let what is under way end, and close every connection."""
        self._on_stop()
        # Idle connections end at once; without this each would be waited for in vain.
        self.pre_shutdown()
        await super().shutdown(timeout)
