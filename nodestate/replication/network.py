"""The real network: TCP connections on the running event loop, and TLS on top of them.

Only this module touches sockets. It moves bytes and knows no frames. With TLS a handler
hears of a connection once the other side has proved which server it is.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from typing_extensions import override

from nodestate.config import is_loopback
from nodestate.errors import ConfigError, PeerRefusedError
from nodestate.ports import Connection, ConnectionHandler
from nodestate.replication.complaints import Complaints
from nodestate.replication.tls_stream import TlsStream
from nodestate.tls import PeerTls

KEEPALIVE_IDLE_S: Final = 5
KEEPALIVE_INTERVAL_S: Final = 2
KEEPALIVE_COUNT: Final = 3
UNACKED_MS_MAX: Final = 5000
"""A connection whose bytes nobody acknowledges for so long is dead: dial again."""
BACKLOG_MAX: Final = 128
TLS_HANDSHAKE_S_MAX: Final = 3.0
TLS_HANDSHAKES_MAX: Final = 64
"""Connections that may be waiting for TLS, from whomever."""


class SystemNetwork:
    """TCP, as the machine has it; with `tls` nobody else gets a word in.

    `count_refused` is called for each connection that TLS did not let through.
    """

    def __init__(
        self,
        tls: PeerTls | None = None,
        *,
        count_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._tls = tls
        self._complaints = Complaints(count_refused)

    async def listen(
        self, host: str, port: int, accept: Callable[[], ConnectionHandler]
    ) -> "SystemListener":
        """Bind and accept; `ConfigError` names the address if that fails."""
        loop = asyncio.get_running_loop()
        tls = self._tls
        if tls is None:
            _check_loopback(host)
        handshakes = _Handshakes(self._complaints)

        def protocol() -> asyncio.Protocol:
            if tls is None:
                return _Protocol(accept())
            return _Accepted(TlsStream(tls, is_accepting=True), accept, handshakes)

        try:
            server = await loop.create_server(protocol, host, port, backlog=BACKLOG_MAX)
        except OSError as error:
            raise ConfigError(f"cannot listen at {host}:{port}: {error}") from error
        return SystemListener(server, handshakes)

    async def connect(
        self, host: str, port: int, handler: ConnectionHandler, *, deadline_s: float
    ) -> Connection:
        """Dial; a deadline that passes is a `TimeoutError`, which is an `OSError`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(deadline_s):
            if self._tls is None:
                transport, _ = await loop.create_connection(
                    lambda: _Protocol(handler), host, port
                )
                return SystemConnection(transport)
            stream = TlsStream(self._tls, is_accepting=False)
            dialled = _Dialled(stream, handler, self._complaints)
            await loop.create_connection(lambda: dialled, host, port)
            return await dialled.made()


class SystemListener:
    """A bound socket."""

    def __init__(self, server: asyncio.Server, handshakes: "_Handshakes") -> None:
        self._server = server
        self._handshakes = handshakes
        self._port = int(server.sockets[0].getsockname()[1])

    def port(self) -> int:
        """Return the port that was bound."""
        return self._port

    async def close(self) -> None:
        """Stop accepting; connections live on until their handlers hang up."""
        self._server.close()
        self._handshakes.end_all()


class SystemConnection:
    """A TCP connection, seen from one end; with a `stream`, what is sent is sealed."""

    def __init__(
        self, transport: asyncio.Transport, stream: TlsStream | None = None
    ) -> None:
        self._transport = transport
        self._stream = stream
        self._remote_host = _remote_host(transport)

    def write(self, data: bytes) -> None:
        """Send at once what the socket takes; buffer the rest."""
        if self._transport.is_closing():
            return
        if self._stream is not None:
            data = self._stream.seal(data)
        self._transport.write(data)

    def buffered_bytes(self) -> int:
        """Return what the socket has not taken; TLS keeps nothing back."""
        return self._transport.get_write_buffer_size()

    def remote_host(self) -> str:
        """Return the address that the socket gives."""
        return self._remote_host

    def peer_name(self) -> str | None:
        """Return the server that the other side's certificate names."""
        return None if self._stream is None else self._stream.peer_name

    def close(self) -> None:
        """Hang up when all is sent."""
        # No farewell of TLS: frames have lengths, so what is cut short is seen to be.
        self._transport.close()

    def abort(self) -> None:
        """Hang up now."""
        self._transport.abort()


class _Protocol(asyncio.Protocol):
    """Passes on what the loop reports."""

    def __init__(self, handler: ConnectionHandler) -> None:
        self._handler = handler

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the protocol without inheriting from asyncio's.
        stream = cast(asyncio.Transport, transport)
        _set_options(stream.get_extra_info("socket"))
        self._handler.on_made(SystemConnection(stream))

    @override
    def data_received(self, data: bytes) -> None:
        self._handler.on_bytes(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.on_lost()


class _Sealed(asyncio.Protocol):
    """A connection with TLS: first the handshake, then a handler that is told of it."""

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream
        self._transport: asyncio.Transport | None = None
        self._handler: ConnectionHandler | None = None

    @property
    def remote_host(self) -> str:
        """Return the other side's address."""
        return "unknown" if self._transport is None else _remote_host(self._transport)

    def abort(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _set_options(self._transport.get_extra_info("socket"))
        self._transport.write(self._stream.start())

    @override
    def data_received(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None
        if self._stream.has_ended or transport.is_closing():
            return
        try:
            plain = self._stream.feed(data)
        except PeerRefusedError as error:
            self._refuse(str(error))
            # Not aborted: why it was refused should still arrive.
            transport.write(self._stream.take_outgoing())
            transport.close()
            return
        transport.write(self._stream.take_outgoing())
        if self._handler is None and self._stream.peer_name:
            self._handler = self._introduce(SystemConnection(transport, self._stream))
        if plain and self._handler is not None:
            self._handler.on_bytes(plain)
        if self._stream.has_ended:
            transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._handler is not None:
            self._handler.on_lost()

    def _introduce(self, connection: SystemConnection) -> ConnectionHandler:
        """Tell a handler of the other side, which has proved who it is."""
        raise NotImplementedError

    def _refuse(self, reason: str) -> None:
        """Take note of what the other side did wrong."""
        raise NotImplementedError


class _Accepted(_Sealed):
    """The end that was dialled: a stranger until the handshake is over."""

    def __init__(
        self,
        stream: TlsStream,
        accept: Callable[[], ConnectionHandler],
        handshakes: "_Handshakes",
    ) -> None:
        super().__init__(stream)
        self._accept = accept
        self._handshakes = handshakes

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handshakes.begin(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._handshakes.end(self)
        super().connection_lost(exc)

    @override
    def _introduce(self, connection: SystemConnection) -> ConnectionHandler:
        self._handshakes.end(self)
        handler = self._accept()
        handler.on_made(connection)
        return handler

    @override
    def _refuse(self, reason: str) -> None:
        self._handshakes.complain(self, reason)


class _Dialled(_Sealed):
    """The end that dialled: somebody waits for the handshake."""

    def __init__(
        self, stream: TlsStream, handler: ConnectionHandler, complaints: Complaints
    ) -> None:
        super().__init__(stream)
        self._waiting_handler = handler
        self._complaints = complaints
        self._made: asyncio.Future[SystemConnection] = (
            asyncio.get_running_loop().create_future()
        )

    async def made(self) -> SystemConnection:
        """Return the connection once it can be used; `ConnectionError` if it cannot."""
        try:
            return await self._made
        except BaseException:
            self.abort()
            raise

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("hung up during the TLS handshake")
        super().connection_lost(exc)

    @override
    def _introduce(self, connection: SystemConnection) -> ConnectionHandler:
        if not self._made.done():
            self._made.set_result(connection)
        self._waiting_handler.on_made(connection)
        return self._waiting_handler

    @override
    def _refuse(self, reason: str) -> None:
        if self._made.done():
            # In TLS 1.3 this end is done before the other has looked at its certificate.
            self._complaints.note(self.remote_host, reason)
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        if not self._made.done():
            self._made.set_exception(ConnectionError(reason))
            # Nobody may be waiting any more; then nobody misses it.
            self._made.exception()


class _Handshakes:
    """The connections of one listener on which TLS is not established yet, oldest first.

    One too many costs the address that has the most of them its oldest, so that a flood
    from one address takes no place from the others.
    """

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._timers: dict[_Accepted, asyncio.TimerHandle] = {}

    def begin(self, connection: _Accepted) -> None:
        """Give it some time."""
        if len(self._timers) >= TLS_HANDSHAKES_MAX:
            self._make_room()
        self._timers[connection] = asyncio.get_running_loop().call_later(
            TLS_HANDSHAKE_S_MAX, self._expire, connection
        )

    def end(self, connection: _Accepted) -> None:
        """Take it out of the books; harmless if it is not there."""
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def end_all(self) -> None:
        """Hang up on all of them."""
        for connection in list(self._timers):
            self.end(connection)
            connection.abort()

    def complain(self, connection: _Accepted, reason: str) -> None:
        """Take note of what the other side did wrong."""
        self.end(connection)
        self._complaints.note(connection.remote_host, reason)

    def _make_room(self) -> None:
        hosts = Counter(connection.remote_host for connection in self._timers)
        busiest, _ = hosts.most_common(1)[0]
        oldest = next(each for each in self._timers if each.remote_host == busiest)
        self.complain(oldest, f"more than {TLS_HANDSHAKES_MAX} TLS handshakes at once")
        oldest.abort()

    def _expire(self, connection: _Accepted) -> None:
        self.complain(connection, f"no TLS within {TLS_HANDSHAKE_S_MAX} s")
        connection.abort()


def _remote_host(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else "unknown"


def _set_options(connection: socket.socket) -> None:
    tcp = socket.IPPROTO_TCP
    connection.setsockopt(tcp, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(tcp, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    connection.setsockopt(tcp, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    connection.setsockopt(tcp, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    connection.setsockopt(tcp, socket.TCP_USER_TIMEOUT, UNACKED_MS_MAX)


def _check_loopback(host: str) -> None:
    """Refuse to be reachable from elsewhere while peers cannot prove who they are."""
    if not is_loopback(host):
        raise ConfigError(
            f"peer {host!r}: without a cluster key or certificates the address must be "
            "a loopback address such as 127.0.0.1"
        )
