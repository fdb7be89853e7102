"""TLS on real sockets: an attacker in between, strangers, floods, and large frames.

`test_tls_stream.py` has the same without sockets, byte by byte.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvloop
from typing_extensions import override

from nodestate.certificates import peer_dns_name
from nodestate.client_tls import client_context
from nodestate.config import ServerConfig
from nodestate.ports import Connection, ConnectionHandler
from nodestate.replication import network as network_module
from nodestate.replication.frames import PROTOCOL_VERSION, Hello, encode_frame
from nodestate.replication.network import (
    TLS_HANDSHAKES_MAX,
    SystemListener,
    SystemNetwork,
)
from nodestate.secret import Secret, new_cluster_key
from nodestate.tls import PeerTls
from tests.authorities import make_authority, peer_settings, server_pair, write_pair
from tests.replication.proxies import HOST, Proxy
from tests.replication.test_network import DEADLINE_S, Recorder

KEY, OTHER_KEY = new_cluster_key(), new_cluster_key()


def keyed(name: str, *keys: str) -> PeerTls:
    return PeerTls(
        ServerConfig(name=name, cluster_keys=Secret(" ".join(keys or [KEY])))
    )


class Site:
    """A server's network that listens: who was let through, how many were refused."""

    def __init__(self, tls: PeerTls) -> None:
        self.accepted: list[Recorder] = []
        self.refused_count = 0
        self.changed = asyncio.Event()
        self.network = SystemNetwork(tls, count_refused=self._count)
        self.listener: SystemListener | None = None

    async def start(self) -> int:
        self.listener = await self.network.listen(HOST, 0, self._accept)
        return self.port

    @property
    def port(self) -> int:
        assert self.listener is not None
        return self.listener.port()

    def _accept(self) -> ConnectionHandler:
        self.accepted.append(Recorder())
        self.changed.set()
        return self.accepted[-1]

    def _count(self) -> None:
        self.refused_count += 1
        self.changed.set()

    async def until(self, *, accepted: int = 0, refused: int = 0) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.accepted) < accepted or self.refused_count < refused:
                self.changed.clear()
                await self.changed.wait()


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    site = Site(keyed("server1"))
    await site.start()
    yield site
    await end(site)


async def end(site: Site) -> None:
    assert site.listener is not None
    await site.listener.close()
    for recorder in site.accepted:
        if recorder.connection is not None and not recorder.lost_count:
            recorder.connection.abort()
            await recorder.until(lost_count=1)


async def dial(port: int, tls: PeerTls | None = None) -> tuple[Recorder, Connection]:
    recorder = Recorder()
    connection = await SystemNetwork(tls or keyed("server2")).connect(
        HOST, port, recorder, deadline_s=DEADLINE_S
    )
    return recorder, connection


async def assert_a_peer_still_gets_through(site: Site) -> None:
    count = len(site.accepted)
    dialled, connection = await dial(site.port, keyed("server3"))
    connection.write(b"still here")
    await site.until(accepted=count + 1)
    await site.accepted[-1].until(len(b"still here"))
    assert site.accepted[-1].received == b"still here"
    connection.abort()
    await dialled.until(lost_count=1)
    await site.accepted[-1].until(lost_count=1)


async def test_both_ends_know_who_the_other_is(site):
    dialled, connection = await dial(site.port)
    await site.until(accepted=1)
    accepted = site.accepted[0]

    connection.write(b"question")
    await accepted.until(8)
    assert accepted.connection is not None
    accepted.connection.write(b"answer")
    await dialled.until(6)

    assert (accepted.received, dialled.received) == (b"question", b"answer")
    assert accepted.connection.peer_name() == "server2"
    assert connection.peer_name() == "server1"
    assert accepted.connection.remote_host() == HOST
    assert dialled.connection is connection
    assert site.refused_count == 0
    connection.abort()
    await dialled.until(lost_count=1)


async def test_closing_sends_the_rest_first(site):
    dialled, connection = await dial(site.port)
    await site.until(accepted=1)
    large = bytes(4 << 20)

    connection.write(large)
    connection.close()
    connection.write(b"ignored")
    await site.accepted[0].until(len(large), lost_count=1)
    await dialled.until(lost_count=1)

    assert site.accepted[0].received == large
    assert (site.accepted[0].lost_count, dialled.lost_count) == (1, 1)
    assert site.refused_count == 0


async def test_aborting_is_heard_on_both_sides_once(site):
    dialled, connection = await dial(site.port)
    await site.until(accepted=1)

    connection.abort()
    connection.abort()
    await site.accepted[0].until(lost_count=1)
    await dialled.until(lost_count=1)

    assert (site.accepted[0].lost_count, dialled.lost_count) == (1, 1)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_large_frames_arrive_whole_and_what_waits_is_known(run):
    frame = bytes(range(256)) * (32 << 10)  # 8 MiB
    count = 4

    async def converse() -> tuple[int, int, bool]:
        site = Site(keyed("server1"))
        dialled, connection = await dial(await site.start())
        await site.until(accepted=1)
        for _ in range(count):
            connection.write(frame)
        waiting = connection.buffered_bytes()
        await site.accepted[0].until(count * len(frame))
        arrived = site.accepted[0].received == frame * count
        rest = connection.buffered_bytes()
        connection.abort()
        await dialled.until(lost_count=1)
        await end(site)
        return waiting, rest, arrived

    waiting, rest, arrived = run(converse())

    assert arrived
    assert rest == 0
    # All but what the socket took, and what TLS adds: a few bytes for each record.
    assert 2 * len(frame) < waiting < (count + 1) * len(frame)


# Somebody in between


@pytest_asyncio.fixture
async def proxy(site: Site) -> AsyncIterator[Proxy]:
    proxy = Proxy(site.port)
    yield proxy
    await proxy.close()


class Tampering:
    """What is done to the second of three records."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held = b""
        self._count = 0

    def __call__(self, record: bytes) -> list[bytes]:
        self._count += 1
        if self._count == 1:
            self._held = record
            return [record] if self._name != "swapped" else []
        if self._count > 2:
            return [record]
        flipped = bytes([record[-1] ^ 1])
        return {
            "flipped": [record[:-1] + flipped],
            "dropped": [],
            "swapped": [record, self._held],
            "repeated": [record, record],
            "replayed": [self._held, record],
            "cut short": [record[:-3]],
            "cut off": [record[:-3], b""],
            "inserted": [b"\x17\x03\x03\x00\x13" + bytes(19), record],
            "oversized": [b"\x17\x03\x03\xff\xff" + bytes(0xFFFF)],
        }[self._name]


@pytest.mark.parametrize(
    ("tampering", "delivered"),
    [
        ("flipped", b"-one-"),
        ("dropped", b"-one-"),
        ("swapped", b""),
        ("repeated", b"-one--two-"),
        ("replayed", b"-one-"),
        ("cut short", b"-one-"),
        ("cut off", b"-one-"),
        ("inserted", b"-one-"),
        ("oversized", b"-one-"),
    ],
)
async def test_whoever_is_in_between_can_only_end_it(site, proxy, tampering, delivered):
    dialled, connection = await dial(await proxy.start())
    await site.until(accepted=1)
    accepted = site.accepted[0]
    connection.write(b"good")
    await accepted.until(4)

    proxy.edit = Tampering(tampering)
    for text in (b"-one-", b"-two-", b"-three-"):
        connection.write(text)
    await accepted.until(lost_count=1)
    await dialled.until(lost_count=1)

    # What arrived together with a bad record may go with it; nothing comes after.
    assert accepted.received.startswith(b"good")
    assert (b"good" + delivered).startswith(accepted.received)
    assert site.refused_count == (0 if tampering == "cut off" else 1)
    await assert_a_peer_still_gets_through(site)


async def test_a_recorded_conversation_is_refused_when_it_is_repeated(site, proxy):
    dialled, connection = await dial(await proxy.start())
    connection.write(b"take a vote")
    await site.until(accepted=1)
    await site.accepted[0].until(11)
    connection.abort()
    await dialled.until(lost_count=1)
    assert len(proxy.recorded) > 500

    reader, writer = await asyncio.open_connection(HOST, site.port)
    writer.write(proxy.recorded)
    await heard_until_the_end(reader, writer)
    await site.until(refused=1)

    assert len(site.accepted) == 1
    await assert_a_peer_still_gets_through(site)


@pytest.mark.parametrize("record_number", range(3))
async def test_a_handshake_that_is_changed_on_the_way_comes_to_nothing(
    site, proxy, record_number
):
    count = 0

    def edit(record: bytes) -> list[bytes]:
        nonlocal count
        count += 1
        if count - 1 == record_number:
            return [record[:-1] + bytes([record[-1] ^ 1])]
        return [record]

    proxy.edit = edit
    port = await proxy.start()
    with contextlib.suppress(OSError):
        dialled, connection = await dial(port)
        await dialled.until(lost_count=1)
        connection.abort()

    await site.until(refused=1)
    assert site.accepted == []
    await assert_a_peer_still_gets_through(site)


async def test_a_connection_that_leads_back_is_refused():
    class Mirror(Recorder):
        @override
        def on_bytes(self, data: bytes) -> None:
            assert self.connection is not None
            self.connection.write(data)

    mirror = Mirror()
    listener = await SystemNetwork().listen(HOST, 0, lambda: mirror)

    with pytest.raises(ConnectionError, match="unexpected message"):
        await dial(listener.port())

    await mirror.until(lost_count=1)
    await listener.close()


# Strangers


async def knock(port: int, context: ssl.SSLContext) -> bytes:
    """Shake hands, say something, and return what is answered before the end."""
    try:
        reader, writer = await asyncio.open_connection(
            HOST, port, ssl=context, server_hostname="server1"
        )
    except OSError:
        return b""
    writer.write(encode_frame(Hello(PROTOCOL_VERSION, "server2", "i", None)))
    return await heard_until_the_end(reader, writer)


async def heard_until_the_end(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes:
    heard = b""
    with contextlib.suppress(OSError):
        heard = await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return heard


def stranger(tmp_path, kind: str) -> ssl.SSLContext:
    ca, other = make_authority(), make_authority()
    pairs = {
        "of another authority": server_pair(other, "server2"),
        "expired": server_pair(ca, "server2", days_ago=3),
        "not yet valid": server_pair(ca, "server2", days_ago=-3),
        "of no server": server_pair(ca, dns_names=("client.global.nodestate",)),
        "of two servers": server_pair(
            ca, dns_names=tuple(peer_dns_name(f"server{n}", "global") for n in (2, 3))
        ),
        "of another region": server_pair(ca, "server2", region="eu"),
        "in older TLS": server_pair(ca, "server2"),
    }
    peer_settings(tmp_path / "site", server_pair(ca), ca)
    if kind == "without":
        return client_context(skip_verify=True)
    certificate, key = write_pair(tmp_path, "stranger", pairs[kind])
    context = client_context(client_cert=certificate, client_key=key, skip_verify=True)
    if kind == "in older TLS":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize(
    "kind",
    [
        "without",
        "of another authority",
        "expired",
        "not yet valid",
        "of no server",
        "of two servers",
        "of another region",
        "in older TLS",
    ],
)
async def test_strangers_get_no_word_in_whatever_certificate_they_have(tmp_path, kind):
    context = stranger(tmp_path, kind)
    directory = tmp_path / "site"
    site = Site(
        PeerTls(
            ServerConfig(
                peer_tls_cert=str(directory / "peer.pem"),
                peer_tls_key=str(directory / "peer-key.pem"),
                peer_tls_ca=str(directory / "ca.pem"),
            )
        )
    )
    await site.start()

    answer = await knock(site.port, context)
    await site.until(refused=1)

    assert answer == b""
    assert site.accepted == []
    await end(site)


async def test_a_server_with_another_key_is_refused_by_either_end(site):
    with pytest.raises(ConnectionError, match="TLS: "):
        await dial(site.port, keyed("server2", OTHER_KEY))
    await site.until(refused=1)

    # It dials with the key that is accepted, and is met with one that it does not accept.
    other = Site(keyed("server1", OTHER_KEY, KEY))
    await other.start()
    with pytest.raises(ConnectionError):
        await dial(other.port, keyed("server2", KEY))

    assert site.accepted == other.accepted == []
    await end(other)


async def test_a_certificate_that_is_not_taken_is_told_to_who_showed_it():
    # It trusts our key, too, so that only we have something to object to.
    site = Site(keyed("server1", KEY))
    lines: list[int] = []
    recorder = Recorder()
    dialling = SystemNetwork(
        keyed("server2", OTHER_KEY, KEY), count_refused=lambda: lines.append(1)
    )

    connection = await dialling.connect(
        HOST, await site.start(), recorder, deadline_s=DEADLINE_S
    )
    connection.write(b"hello")
    await recorder.until(lost_count=1)
    await site.until(refused=1)

    assert site.accepted == []
    assert lines == [1]
    await end(site)


@pytest.mark.parametrize(
    "noise",
    [
        encode_frame(Hello(PROTOCOL_VERSION, "server2", "i", None)),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(1 << 17),
    ],
)
async def test_who_speaks_without_tls_is_hung_up_on(site, noise):
    reader, writer = await asyncio.open_connection(HOST, site.port)
    writer.write(noise)
    # What it may still hear is an alert of TLS.
    assert (await heard_until_the_end(reader, writer))[:1] in {b"", b"\x15"}
    await site.until(refused=1)

    assert site.accepted == []
    await assert_a_peer_still_gets_through(site)


async def test_a_server_without_tls_does_not_get_through_to_one_with_it(site):
    recorder = Recorder()
    connection = await SystemNetwork().connect(
        HOST, site.port, recorder, deadline_s=DEADLINE_S
    )
    connection.write(encode_frame(Hello(PROTOCOL_VERSION, "server2", "i", None)))

    await recorder.until(lost_count=1)

    assert site.accepted == []
    assert connection.peer_name() is None


async def test_a_server_with_tls_does_not_settle_for_less():
    plain = Recorder()
    listener = await SystemNetwork().listen(HOST, 0, lambda: plain)
    dialling = asyncio.create_task(dial(listener.port()))
    await plain.until(100)
    assert plain.connection is not None
    plain.connection.write(b"\x00\x00\x00\x05hello")

    with pytest.raises(ConnectionError, match="wrong version number"):
        await dialling

    await plain.until(lost_count=1)
    await listener.close()


# Half open


async def silent(port: int) -> socket.socket:
    caller = socket.socket()
    caller.setblocking(False)
    await asyncio.get_running_loop().sock_connect(caller, (HOST, port))
    return caller


async def heard(caller: socket.socket) -> bytes:
    """Return the first byte, or nothing if it is the end that comes."""
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.get_running_loop().sock_recv(caller, 1)


async def test_a_handshake_that_does_not_come_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr(network_module, "TLS_HANDSHAKE_S_MAX", 0.01)
    caller = await silent(site.port)

    await site.until(refused=1)

    received = await heard(caller)
    assert received == b""
    caller.close()


async def test_a_connection_outlives_the_time_for_its_handshake(site, monkeypatch):
    monkeypatch.setattr(network_module, "TLS_HANDSHAKE_S_MAX", 0.2)
    dialled, connection = await dial(site.port)
    caller = await silent(site.port)

    await site.until(refused=1)

    connection.write(b"still here")
    await site.accepted[0].until(10)
    caller.close()
    connection.abort()
    await dialled.until(lost_count=1)


async def test_a_flood_of_half_open_connections_keeps_no_peer_out(site, monkeypatch):
    monkeypatch.setattr(network_module, "TLS_HANDSHAKE_S_MAX", 600)
    callers = [await silent(site.port) for _ in range(TLS_HANDSHAKES_MAX + 5)]

    await assert_a_peer_still_gets_through(site)

    # The oldest had to go: the five, and one for the peer.
    await site.until(refused=6)
    first = await heard(callers[0])
    assert first == b""
    for caller in callers:
        caller.close()


async def test_a_flood_costs_the_address_that_it_comes_from(site, monkeypatch):
    monkeypatch.setattr(network_module, "TLS_HANDSHAKE_S_MAX", 600)

    def from_address(host: str) -> socket.socket:
        caller = socket.socket()
        caller.bind((host, 0))
        caller.setblocking(False)
        return caller

    loop = asyncio.get_running_loop()
    slow = from_address("127.0.0.9")
    await loop.sock_connect(slow, (HOST, site.port))
    callers = [await silent(site.port) for _ in range(TLS_HANDSHAKES_MAX + 5)]
    await site.until(refused=6)

    with pytest.raises(BlockingIOError):
        slow.recv(1)
    for caller in [slow, *callers]:
        caller.close()


async def test_a_listener_that_closes_ends_what_is_half_open(site, monkeypatch):
    monkeypatch.setattr(network_module, "TLS_HANDSHAKE_S_MAX", 600)
    caller = await silent(site.port)
    dialled, connection = await dial(site.port)
    await site.until(accepted=1)

    assert site.listener is not None
    await site.listener.close()

    assert await heard(caller) == b""
    connection.write(b"on")
    await site.accepted[0].until(2)
    caller.close()
    connection.abort()
    await dialled.until(lost_count=1)


async def test_dialling_who_says_nothing_ends_in_time():
    listener = await SystemNetwork().listen(HOST, 0, Recorder)

    with pytest.raises(TimeoutError):
        await SystemNetwork(keyed("server2")).connect(
            HOST, listener.port(), Recorder(), deadline_s=0.05
        )

    await listener.close()


async def test_dialling_who_hangs_up_is_an_os_error():
    class Rude(Recorder):
        @override
        def on_made(self, connection: Connection) -> None:
            connection.abort()

    listener = await SystemNetwork().listen(HOST, 0, Rude)

    with pytest.raises(OSError, match=r"hung up|reset"):
        await dial(listener.port())

    await listener.close()


# New certificates


async def test_new_connections_use_what_was_reloaded_and_old_ones_live_on(tmp_path):
    old, new = make_authority(), make_authority()
    tls = PeerTls(ServerConfig(**peer_settings(tmp_path, server_pair(old), old)))
    two = ServerConfig(
        name="server2",
        **peer_settings(tmp_path / "2", server_pair(new, "server2"), new, old),
    )
    three = ServerConfig(
        name="server3",
        **peer_settings(tmp_path / "3", server_pair(old, "server3"), old),
    )
    site = Site(tls)
    await site.start()
    early, early_connection = await dial(site.port, PeerTls(three))
    await site.until(accepted=1)
    with contextlib.suppress(OSError):
        refused, _ = await dial(site.port, PeerTls(two))
        await refused.until(lost_count=1)
    await site.until(refused=1)

    peer_settings(tmp_path, server_pair(new), new, old)
    tls.reload()
    late, late_connection = await dial(site.port, PeerTls(two))
    early_connection.write(b"early")
    late_connection.write(b"late")
    await site.until(accepted=2)
    await site.accepted[0].until(5)
    await site.accepted[1].until(4)

    for recorder, connection in ((early, early_connection), (late, late_connection)):
        connection.abort()
        await recorder.until(lost_count=1)
    await end(site)
