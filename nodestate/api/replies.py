"""Answers as bytes: head and body in one write, large bodies in slices.

A body may be shared by many answers. It is gzipped once, whoever asks, and a large one
on a thread, because zlib lets go of the interpreter meanwhile.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion10, web
from aiohttp.hdrs import ACCEPT_ENCODING

WRITE_SLICE_BYTES: Final = 256 << 10
"""A slow reader holds up this much of a body, and not a copy of it."""
GZIP_LEVEL: Final = 3
GZIP_INLINE_BYTES_MAX: Final = 8 << 10
"""Compressing less than this takes less time than handing it to a thread."""
_GZIP_FRAME: Final = 31  # zlib's wbits for a gzip header and trailer

JSON_TYPE: Final = b"Content-Type: application/json\r\n"
TEXT_TYPE: Final = b"Content-Type: text/plain; charset=utf-8\r\n"
BYTES_TYPE: Final = b"Content-Type: application/octet-stream\r\n"
VARY: Final = b"Vary: Accept-Encoding\r\n"
_GZIPPED: Final = b"Content-Encoding: gzip\r\n"
_HEAD: Final = b"%b%b%b%bContent-Length: %d\r\n%b%b\r\n"
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii")
    for status in HTTPStatus
}


class Body:
    """The bytes of a body, kept as long as somebody keeps it."""

    __slots__ = ("_gzipped", "plain")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._gzipped: bytes | asyncio.Future[bytes] | None = None

    async def gzipped(self) -> bytes:
        """Return the gzipped bytes; however many ask, they are made once."""
        if self._gzipped is None:
            if len(self.plain) <= GZIP_INLINE_BYTES_MAX:
                self._gzipped = _gzip(self.plain)
            else:
                loop = asyncio.get_running_loop()
                self._gzipped = loop.run_in_executor(None, _gzip, self.plain)
        if isinstance(self._gzipped, bytes):
            return self._gzipped
        # Shielded: whoever goes away must not take it from the others.
        self._gzipped = await asyncio.shield(self._gzipped)
        return self._gzipped


def _gzip(plain: bytes) -> bytes:
    return zlib.compress(plain, GZIP_LEVEL, _GZIP_FRAME)


MADE_WHILE_SENT: Final = Body(b"")
"""What a `StreamReply` has in place of its body."""


class Reply:
    """What a handler answers: a status, header lines of its own, and a body."""

    __slots__ = ("body", "closes", "headers", "status")

    def __init__(
        self, status: int, headers: bytes, body: Body, *, closes: bool = False
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.closes = closes


class StreamReply(Reply):
    """An answer whose body is made while it is sent, and is sent as it is."""

    __slots__ = ("length", "pieces")

    def __init__(
        self, status: int, headers: bytes, length: int, pieces: AsyncIterator[bytes]
    ) -> None:
        super().__init__(status, headers, MADE_WHILE_SENT)
        self.length = length
        self.pieces = pieces


class Sent:
    """What aiohttp is given in place of a response: everything is written already.

    It asks a response for these three and nothing else.
    """

    __slots__ = ("keep_alive",)

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing."""

    async def write_eof(self) -> None:
        """Do nothing."""


KEPT_ALIVE: Final = Sent(keep_alive=True)
CLOSED: Final = Sent(keep_alive=False)


@lru_cache(maxsize=2)
def _date_line(now_s: int) -> bytes:
    return f"Date: {formatdate(now_s, usegmt=True)}\r\n".encode("ascii")


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Say whether gzip is named with a weight above zero; `*` does not name it."""
    for part in accept_encoding.split(","):
        name, _, parameters = part.partition(";")
        if name.strip().lower() != "gzip":
            continue
        key, _, weight = parameters.partition("=")
        if key.strip().lower() != "q":
            return True
        try:
            return float(weight) > 0
        except ValueError:
            return False
    return False


async def send(request: web.BaseRequest, reply: Reply, *, now_s: int) -> Sent:
    """Write the answer; raise `ConnectionResetError` if nobody is there to read it."""
    if reply.body is MADE_WHILE_SENT:
        assert isinstance(reply, StreamReply)
        return await _send_stream(request, reply, now_s=now_s)
    content = reply.body.plain
    encoding = b""
    accepted = request.headers.get(ACCEPT_ENCODING)
    if accepted is not None and content and accepts_gzip(accepted):
        content = await reply.body.gzipped()
        encoding = _GZIPPED
    keeps_alive = request.keep_alive and not reply.closes
    connection = b"" if keeps_alive else b"Connection: close\r\n"
    if keeps_alive and request.version == HttpVersion10:
        connection = b"Connection: keep-alive\r\n"
    head = _HEAD % (
        _STATUS_LINES[reply.status],
        reply.headers,
        encoding,
        VARY,
        len(content),
        _date_line(now_s),
        connection,
    )
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    if request.method == "HEAD":
        transport.write(head)
    elif len(content) <= WRITE_SLICE_BYTES:
        transport.write(head + content)
    else:
        transport.write(head)
        await _write_slices(request, transport, content)
    if request.protocol.writing_paused:
        await request.writer.drain()
    return KEPT_ALIVE if keeps_alive else CLOSED


async def _send_stream(
    request: web.BaseRequest, reply: StreamReply, *, now_s: int
) -> Sent:
    """Write the answer while its body is made; it is the last one of its connection.

    The head has promised a length, so that a body that breaks off shows.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    transport.write(
        _HEAD
        % (
            _STATUS_LINES[reply.status],
            reply.headers,
            b"",
            VARY,
            reply.length,
            _date_line(now_s),
            b"Connection: close\r\n",
        )
    )
    if request.method == "HEAD":
        return CLOSED
    sent_bytes = 0
    try:
        async for piece in reply.pieces:
            if transport.is_closing():
                raise ConnectionResetError("the client has gone")
            transport.write(piece)
            sent_bytes += len(piece)
            await request.writer.drain()
    finally:
        if sent_bytes != reply.length:
            transport.abort()
    return CLOSED


async def _write_slices(
    request: web.BaseRequest, transport: asyncio.Transport, content: bytes
) -> None:
    view = memoryview(content)
    for start in range(0, len(content), WRITE_SLICE_BYTES):
        if transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(view[start : start + WRITE_SLICE_BYTES])
        await request.writer.drain()
