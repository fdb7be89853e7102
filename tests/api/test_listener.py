"""Listening for clients, on the loop that servers run on: plain, with TLS, reloaded."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web

from nodestate.api.connections import ConnectionServer
from nodestate.api.listener import HttpListener
from nodestate.api.replies import JSON_TYPE, Body, Reply, send
from nodestate.certificates import Authority
from nodestate.client_tls import client_context
from nodestate.config import ServerConfig
from nodestate.errors import ConfigError
from tests.authorities import make_authority, server_pair, write_authority, write_pair

LARGE = b"0123456789abcdef" * (512 << 10)  # 8 MiB
ENDED_S_MAX = 5.0
ANSWER_S_MAX = 10.0


async def answer(request: web.BaseRequest) -> Any:
    """Answer as the API does: `/large` in slices, everything else at once."""
    body = LARGE if request.path == "/large" else request.scheme.encode()
    return await send(request, Reply(200, JSON_TYPE, Body(body)), now_s=0)


async def nothing_left() -> None:
    """Have nothing to do once the last connection has ended."""


def make_server(*, connections_max: int = 10, **settings: Any) -> ConnectionServer:
    return ConnectionServer(
        answer,
        ServerConfig(connections_max=connections_max, **settings),
        judge=lambda error: (Reply(400, b"", Body(b"")), 0),
        on_stop=lambda: None,
        on_stopped=nothing_left,
    )


@contextlib.asynccontextmanager
async def listening(
    config: ServerConfig, server: ConnectionServer | None = None
) -> AsyncIterator[tuple[HttpListener, str]]:
    server = server or make_server()
    listener = HttpListener(server, config)
    address = await listener.start()
    try:
        yield listener, address
    finally:
        listener.close()
        await server.shutdown(ENDED_S_MAX)


def on_uvloop(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await test()

    uvloop.run(run())


def config(directory: Path, authority: Authority, **others: Any) -> ServerConfig:
    certificate, key = write_pair(directory, "http", server_pair(authority))
    return ServerConfig(
        http="127.0.0.1:0", http_tls_cert=certificate, http_tls_key=key, **others
    )


def trusting(directory: Path, authority: Authority, **others: Any) -> ssl.SSLContext:
    path = write_authority(directory, authority, stem="trusted")
    return client_context(ca_cert=path, **others)


async def fetch(url: str, context: ssl.SSLContext | bool = True) -> bytes:
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(ANSWER_S_MAX)
        ) as session,
        session.get(url) as response,
    ):
        return await response.read()


def test_without_a_certificate_it_is_plain_http():
    async def test() -> None:
        async with listening(ServerConfig(http="127.0.0.1:0")) as (_, address):
            assert await fetch(f"http://{address}/") == b"http"

    on_uvloop(test)


def test_with_one_it_is_https_and_nothing_else(tmp_path):
    ca = make_authority()

    async def test() -> None:
        async with listening(config(tmp_path, ca)) as (_, address):
            url = f"https://{address}/"
            assert await fetch(url, trusting(tmp_path, ca)) == b"https"
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await fetch(url)
            with pytest.raises(aiohttp.ClientError):
                await fetch(f"http://{address}/")

    on_uvloop(test)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_large_answer_arrives_whole_even_at_a_slow_reader(tmp_path, version):
    ca = make_authority()
    context = trusting(tmp_path, ca)
    context.minimum_version = context.maximum_version = version

    async def test() -> None:
        async with listening(config(tmp_path, ca)) as (_, address):
            host, _, port = address.rpartition(":")
            # A small limit: what is not read is not taken from the socket either.
            reader, writer = await asyncio.open_connection(
                host, int(port), ssl=context, limit=1 << 14
            )
            for _ in range(2):
                writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert f"Content-Length: {len(LARGE)}".encode() in head
                body = bytearray()
                while len(body) < len(LARGE):
                    body += await reader.read(1 << 16)
                    await asyncio.sleep(0)
                assert bytes(body) == LARGE
            writer.close()

    on_uvloop(test)


def test_one_connection_too_many_is_told_so_over_tls_as_well(tmp_path):
    ca = make_authority()

    async def test() -> None:
        server = make_server(connections_max=1)
        async with listening(config(tmp_path, ca), server) as (_, address):
            host, _, port = address.rpartition(":")
            context = trusting(tmp_path, ca)
            first, writer = await asyncio.open_connection(host, int(port), ssl=context)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await first.readline()
            reader, second = await asyncio.open_connection(host, int(port), ssl=context)
            second.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            status = await reader.readline()
            assert b" 429 " in status
            for each in (writer, second):
                each.close()

    on_uvloop(test)


def test_one_too_many_of_an_address_is_told_so_over_tls_as_well(tmp_path):
    ca = make_authority()

    async def test() -> None:
        server = make_server(connections_per_address_max=1)
        async with listening(config(tmp_path, ca), server) as (_, address):
            host, _, port = address.rpartition(":")
            context = trusting(tmp_path, ca)
            writers = []
            for expected in (b" 200 ", b" 429 "):
                reader, writer = await asyncio.open_connection(
                    host, int(port), ssl=context
                )
                writers.append(writer)
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert expected in await reader.readline()
                if expected == b" 429 ":
                    assert b"connections_per_address_max" in await reader.read()
            assert server.connection_count == 1
            for each in writers:
                each.close()

    on_uvloop(test)


def test_a_client_that_must_show_a_certificate_gets_nothing_without(tmp_path):
    ca, other = make_authority(), make_authority()
    settings = config(
        tmp_path,
        ca,
        http_tls_client_ca=write_authority(tmp_path, ca),
        http_tls_verify_client=True,
    )

    def client(authority: Authority) -> ssl.SSLContext:
        pair = server_pair(authority, is_server=False, dns_names=("client.global",))
        certificate, key = write_pair(tmp_path, "client", pair)
        return trusting(tmp_path, ca, client_cert=certificate, client_key=key)

    async def test() -> None:
        async with listening(settings) as (_, address):
            url = f"https://{address}/"
            assert await fetch(url, client(ca)) == b"https"
            for context in (client(other), trusting(tmp_path, ca)):
                with pytest.raises(aiohttp.ClientError):
                    await fetch(url, context)

    on_uvloop(test)


def test_a_new_certificate_is_for_new_connections_and_nobody_is_turned_away(tmp_path):
    old, new = make_authority(), make_authority()

    async def test() -> None:
        async with listening(config(tmp_path, old)) as (listener, address):
            url = f"https://{address}/"
            connector = aiohttp.TCPConnector(ssl=trusting(tmp_path, old))
            async with aiohttp.ClientSession(connector=connector) as early:
                async with early.get(url) as response:
                    assert await response.read() == b"https"
                config(tmp_path, new)

                await listener.reload()

                asked = [fetch(url, trusting(tmp_path, new)) for _ in range(5)]
                assert await asyncio.gather(*asked) == [b"https"] * 5
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await fetch(url, trusting(tmp_path, old))
                async with early.get(url) as response:
                    assert await response.read() == b"https"
            await listener.reload()
            assert await fetch(url, trusting(tmp_path, new)) == b"https"

    on_uvloop(test)


def test_a_certificate_that_cannot_be_used_changes_nothing(tmp_path):
    ca = make_authority()
    settings = config(tmp_path, ca)

    def spoil() -> None:
        Path(settings.http_tls_cert).write_bytes(b"nonsense")

    async def test() -> None:
        async with listening(settings) as (listener, address):
            spoil()
            with pytest.raises(ConfigError, match="http_tls_cert"):
                await listener.reload()
            url = f"https://{address}/"
            assert await fetch(url, trusting(tmp_path, ca)) == b"https"

    on_uvloop(test)


def test_after_closing_nobody_listens_not_even_after_a_reload():
    async def test() -> None:
        async with listening(ServerConfig(http="127.0.0.1:0")) as (listener, address):
            await listener.reload()
            assert await fetch(f"http://{address}/") == b"http"
            listener.close()
            with pytest.raises(aiohttp.ClientConnectorError):
                await fetch(f"http://{address}/")

    on_uvloop(test)


def test_a_port_in_use_is_an_error_with_the_address():
    async def test() -> None:
        async with listening(ServerConfig(http="127.0.0.1:0")) as (_, address):
            second = HttpListener(make_server(), ServerConfig(http=address))
            with pytest.raises(ConfigError, match=f"http: cannot listen on {address}"):
                await second.start()
            second.close()

    on_uvloop(test)
