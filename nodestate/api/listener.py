"""Where clients are listened for: plain HTTP, or HTTPS if there is a certificate."""

import asyncio
import os
import socket
from typing import Any, Final

from aiohttp import web

from nodestate.config import ServerConfig, split_address
from nodestate.errors import ConfigError
from nodestate.tls import certificate_expires_at_s, http_context

BACKLOG_MAX: Final = 1024
TLS_HANDSHAKE_S_MAX: Final = 10.0
TLS_FAREWELL_S_MAX: Final = 2.0
"""How long a client has to say that it, too, has nothing more to say."""


class HttpListener:
    """Accepts connections for a server of aiohttp's."""

    def __init__(self, server: web.Server, config: ServerConfig) -> None:
        """Read the certificate, if there is one; `ConfigError` if it cannot be used."""
        self._server = server
        self._config = config
        self._settings = _tls_arguments(config)
        self._expires_at_s = certificate_expires_at_s(config, "http_tls_cert")
        self._listeners: list[asyncio.Server] = []

    def expires_at_s(self) -> float:
        """Return the Unix time at which the certificate ends; 0 if there is none."""
        return self._expires_at_s

    async def start(self) -> str:
        """Listen, and return the address: with the port that was bound."""
        host, port = split_address(self._config.http)
        try:
            listener = await self._listen(host=host, port=port)
        except OSError as error:
            raise ConfigError(
                f"http: cannot listen on {self._config.http}: {error.strerror}"
            ) from error
        self._listeners = [listener]
        bound = listener.sockets[0].getsockname()
        return f"{self._config.http.rpartition(':')[0]}:{bound[1]}"

    async def reload(self) -> None:
        """Read the certificate again, for new connections; `ConfigError` changes nothing.

        The sockets stay, so that nobody who connects meanwhile is turned away.
        """
        self._settings = _tls_arguments(self._config)
        self._expires_at_s = certificate_expires_at_s(self._config, "http_tls_cert")
        older = self._listeners
        self._listeners = [
            await self._listen(sock=_duplicate(each.fileno()))
            for listener in older
            for each in listener.sockets
        ]
        for listener in older:
            listener.close()

    def close(self) -> None:
        """Accept no more; harmless if it never did."""
        for listener in self._listeners:
            listener.close()

    async def _listen(self, **where: Any) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            self._server, backlog=BACKLOG_MAX, **where, **self._settings
        )


def _tls_arguments(config: ServerConfig) -> dict[str, Any]:
    context = http_context(config)
    if context is None:
        return {}
    return {
        "ssl": context,
        "ssl_handshake_timeout": TLS_HANDSHAKE_S_MAX,
        "ssl_shutdown_timeout": TLS_FAREWELL_S_MAX,
    }


def _duplicate(descriptor: int) -> socket.socket:
    return socket.socket(fileno=os.dup(descriptor))
