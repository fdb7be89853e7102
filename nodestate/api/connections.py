"""Connections: how many there may be, what is said to bytes that are no request.

A thin layer over aiohttp's own: its parser, keep-alive and pipelining stay as they are.
Requests that a client sends ahead wait in its parser, 32 at most, and no more is read.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv6Address
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from typing_extensions import override

from nodestate.api.problems import HEADERS_MAX
from nodestate.api.replies import Reply, Sent, send
from nodestate.config import ServerConfig

JudgeMalformed = Callable[[BaseException | None], tuple[Reply, int]]
"""Says what to answer to bytes that the parser refused, and when, in Unix seconds."""

LINGER_S_MAX: Final = 2.0
"""How long the rest of a refused body is read, so that the refusal gets through."""
REFUSAL_S_MAX: Final = 2.0
WRITE_S_MAX: Final = 30.0
"""How long a reader may leave a slice of an answer lying before it is cut off."""
NETWORK_GROUPS: Final = 4
"""Of an IPv6 address, what a provider gives to one customer: 64 bits at least."""

_ANSWER: Final = (
    "HTTP/1.1 {status}\r\n"
    "{headers}"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: {length}\r\n"
    "Connection: close\r\n\r\n{text}"
)


class Refusals:
    """What is said to who gets no further, ready to be written."""

    def __init__(self, headers: str = "") -> None:
        """Take the lines of headers that every answer has."""
        self._headers = headers
        self.connections = self._too_many("connections_max")
        self.address = self._too_many("connections_per_address_max")
        self.slow_head = self._answer(
            "408 Request Timeout",
            "the headers of the request took longer than http_head_s_max",
        )
        self.large_head = self._answer(
            "431 Request Header Fields Too Large",
            "the headers of the request are over their limit (head_bytes_max)",
        )

    def _too_many(self, setting: str) -> bytes:
        text = f"too many connections: the limit is {setting}"
        return self._answer("429 Too Many Requests", text, "Retry-After: 1\r\n")

    def _answer(self, status: str, text: str, headers: str = "") -> bytes:
        return _ANSWER.format(
            status=status, headers=headers + self._headers, length=len(text), text=text
        ).encode("ascii")


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return whom a connection is counted for: an address, of IPv6 its network."""
    name = transport.get_extra_info("peername")
    host = name[0] if isinstance(name, tuple) else ""
    if ":" not in host:
        return str(host)
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return ":".join(address.exploded.split(":")[:NETWORK_GROUPS])


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
    """One client's connection; `on_lost` is called once it has ended.

    `address` is whom it is counted for. `next_request_s` is for who limits its requests.
    """

    __slots__ = (
        "_head_byte_count",
        "_head_timer",
        "_server",
        "_write_timer",
        "address",
        "next_request_s",
        "on_lost",
    )

    def __init__(self, server: "ConnectionServer", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server
        self._head_byte_count = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self.address = ""
        self.next_request_s = 0.0
        self.on_lost: Callable[[], None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless its address has too many already."""
        self.address = address_of(transport)
        refusal = self._server.refusal_of(self.address)
        if refusal is not None:
            # Before it was one of aiohttp's, so that there is nothing to undo.
            cast(asyncio.Transport, transport).set_protocol(refusal)
            refusal.connection_made(transport)
            return
        super().connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Read on; headers that come in pieces have a limit in bytes and in time."""
        super().data_received(data)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            # Still waiting for a request, so what came is a part of one.
            self._count_head(len(data))
        elif self._head_timer is not None:
            self._end_head()

    def _count_head(self, byte_count: int) -> None:
        config = self._server.config
        self._head_byte_count += byte_count
        if self._head_byte_count > config.head_bytes_max:
            self._refuse(self._server.refusals.large_head)
        elif self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(
                config.http_head_s_max, self._refuse, self._server.refusals.slow_head
            )

    def _end_head(self) -> None:
        self._head_byte_count = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        """Answer and hang up; nothing else is being written, since nothing was asked."""
        self._end_head()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)
        self.force_close()

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
        self._end_head()
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
        return Malformed(*self._server.judge(exc))


class _Refusal(asyncio.Protocol):
    """A connection over the limit: told so when it asks, and ended."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
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
            self._transport.write(self._answer)
            self._transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()


class ConnectionServer(web.Server):
    """Makes a connection for each client that comes, up to a limit.

    `judge` says what to answer to bytes that are no request. `on_stop` is called when the
    server is about to end, and `on_stopped` awaited when the last connection has.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[Any]],
        config: ServerConfig,
        *,
        judge: JudgeMalformed,
        on_stop: Callable[[], None],
        on_stopped: Callable[[], Awaitable[None]],
    ) -> None:
        settings: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": config.http_idle_s_max,
            "lingering_time": LINGER_S_MAX,
            "max_line_size": config.header_bytes_max,
            "max_field_size": config.header_bytes_max,
            "max_headers": HEADERS_MAX,
        }
        super().__init__(handler, **settings)
        self._settings = settings
        self._on_stop = on_stop
        self._on_stopped = on_stopped
        self._counts: Counter[str] = Counter()
        self.config = config
        self.judge = judge
        self.refusals = Refusals(header_lines(config.http_response_headers))
        self.connection_count = 0

    @override
    def __call__(self) -> Any:
        """Return the protocol for one more connection."""
        if self.connection_count >= self.config.connections_max:
            return _Refusal(self.refusals.connections)
        loop = asyncio.get_running_loop()
        return Connection(self, loop=loop, **self._settings)

    def refusal_of(self, address: str) -> asyncio.Protocol | None:
        """Return what speaks to one more of this address, if it has too many."""
        if self._counts[address] < self.config.connections_per_address_max:
            return None
        return _Refusal(self.refusals.address)

    @override
    def connection_made(
        self, handler: RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Count it."""
        assert isinstance(handler, Connection)
        self.connection_count += 1
        self._counts[handler.address] += 1
        super().connection_made(handler, transport)

    @override
    def connection_lost(
        self, handler: RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Count it out."""
        assert isinstance(handler, Connection)
        self.connection_count -= 1
        self._counts[handler.address] -= 1
        if not self._counts[handler.address]:
            del self._counts[handler.address]
        super().connection_lost(handler, exc)

    @override
    async def shutdown(self, timeout: float | None = None) -> None:
        """Release who waits, let what is under way end, and close every connection."""
        self._on_stop()
        # Idle connections end at once; without this each would be waited for in vain.
        self.pre_shutdown()
        await super().shutdown(timeout)
        await self._on_stopped()


def header_lines(headers: Mapping[str, str]) -> str:
    """Return configured headers as they stand in an answer."""
    return "".join(f"{name}: {text}\r\n" for name, text in headers.items())
