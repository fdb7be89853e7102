import asyncio
import socket

import pytest

from nodestate.errors import ConfigError
from nodestate.ports import Connection
from nodestate.replication.network import SystemNetwork

LOOPBACK = "127.0.0.1"
DEADLINE_S = 5.0


class Recorder:
    """A handler that keeps what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.received = b""
        self.lost_count = 0
        self.changed = asyncio.Event()

    def on_made(self, connection: Connection) -> None:
        self.connection = connection
        self.changed.set()

    def on_bytes(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def on_lost(self) -> None:
        self.lost_count += 1
        self.changed.set()

    async def until(self, length: int = 0, lost_count: int = 0) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while (
                self.connection is None
                or len(self.received) < length
                or self.lost_count < lost_count
            ):
                self.changed.clear()
                await self.changed.wait()


async def connected() -> tuple[Recorder, Recorder, Connection]:
    network, accepted, dialled = SystemNetwork(), Recorder(), Recorder()
    listener = await network.listen(LOOPBACK, 0, lambda: accepted)
    connection = await network.connect(
        LOOPBACK, listener.port(), dialled, deadline_s=DEADLINE_S
    )
    await accepted.until()
    await listener.close()
    return accepted, dialled, connection


async def test_bytes_go_both_ways_in_order():
    accepted, dialled, connection = await connected()
    assert accepted.connection is not None
    large = bytes(range(256)) * 8192

    connection.write(large)
    connection.write(b"end")
    accepted.connection.write(b"answer")
    await accepted.until(len(large) + 3)
    await dialled.until(6)

    assert accepted.received == large + b"end"
    assert dialled.received == b"answer"
    assert connection.buffered_bytes() == 0
    assert accepted.connection.remote_host() == LOOPBACK
    connection.abort()
    await accepted.until(lost_count=1)


async def test_closing_sends_the_rest_first():
    accepted, dialled, connection = await connected()
    large = bytes(4 << 20)

    connection.write(large)
    connection.close()
    connection.write(b"ignored")
    await accepted.until(len(large), lost_count=1)
    await dialled.until(lost_count=1)

    assert len(accepted.received) == len(large)
    assert (accepted.lost_count, dialled.lost_count) == (1, 1)


async def test_aborting_is_heard_on_both_sides_once():
    accepted, dialled, connection = await connected()

    connection.abort()
    connection.abort()
    await accepted.until(lost_count=1)
    await dialled.until(lost_count=1)

    assert (accepted.lost_count, dialled.lost_count) == (1, 1)


async def test_small_writes_are_not_held_back():
    accepted, _, connection = await connected()
    transport = connection._transport  # type: ignore[attr-defined]  # the real one's
    raw = transport.get_extra_info("socket")

    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    connection.abort()
    await accepted.until(lost_count=1)


async def test_a_refused_connection_is_an_os_error():
    network = SystemNetwork()
    listener = await network.listen(LOOPBACK, 0, Recorder)
    port = listener.port()
    await listener.close()

    with pytest.raises(OSError, match=str(port)):
        await network.connect(LOOPBACK, port, Recorder(), deadline_s=DEADLINE_S)


async def test_a_port_in_use_is_an_error_with_the_address():
    network = SystemNetwork()
    listener = await network.listen(LOOPBACK, 0, Recorder)

    with pytest.raises(ConfigError, match=f"{LOOPBACK}:{listener.port()}"):
        await network.listen(LOOPBACK, listener.port(), Recorder)

    await listener.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "server1.example"])
async def test_without_tls_peers_listen_on_loopback_only(host):
    with pytest.raises(ConfigError, match="loopback"):
        await SystemNetwork().listen(host, 0, Recorder)
