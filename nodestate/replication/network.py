"""The real network: TCP connections on the running event loop.

Only this module touches sockets. It moves bytes and knows no frames.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Final, cast

from typing_extensions import override

from nodestate.errors import ConfigError
from nodestate.ports import Connection, ConnectionHandler

KEEPALIVE_IDLE_S: Final = 5
KEEPALIVE_INTERVAL_S: Final = 2
KEEPALIVE_COUNT: Final = 3
UNACKED_MS_MAX: Final = 5000
"""A connection whose bytes nobody acknowledges for so long is dead: dial again."""
BACKLOG_MAX: Final = 128


class SystemNetwork:
    """TCP, as the machine has it."""

    async def listen(
        self, host: str, port: int, accept: Callable[[], ConnectionHandler]
    ) -> "SystemListener":
        """Bind and accept; `ConfigError` names the address if that fails."""
        _check_loopback(host)
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: _Protocol(accept()), host, port, backlog=BACKLOG_MAX
            )
        except OSError as error:
            raise ConfigError(f"cannot listen at {host}:{port}: {error}") from error
        return SystemListener(server)

    async def connect(
        self, host: str, port: int, handler: ConnectionHandler, *, deadline_s: float
    ) -> Connection:
        """Dial; a deadline that passes is a `TimeoutError`, which is an `OSError`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(deadline_s):
            transport, _ = await loop.create_connection(
                lambda: _Protocol(handler), host, port
            )
        return SystemConnection(transport)


class SystemListener:
    """A bound socket."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self._port = int(server.sockets[0].getsockname()[1])

    def port(self) -> int:
        """Return the port that was bound."""
        return self._port

    async def close(self) -> None:
        """Stop accepting; connections live on until their handlers hang up."""
        self._server.close()


class SystemConnection:
    """A TCP connection, seen from one end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._remote_host = str(peer[0]) if peer else "unknown"

    def write(self, data: bytes) -> None:
        """Send at once what the socket takes; buffer the rest."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def buffered_bytes(self) -> int:
        """Return what the socket has not taken."""
        return self._transport.get_write_buffer_size()

    def remote_host(self) -> str:
        """Return the address that the socket gives."""
        return self._remote_host

    def peer_name(self) -> str | None:
        """Return `None`: nobody has proved anything."""
        return None

    def close(self) -> None:
        """Hang up when all is sent."""
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
    if host == "localhost":
        return
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(
            f"peer {host!r}: peers are not authenticated yet, so the address must be "
            "a loopback address such as 127.0.0.1"
        )
