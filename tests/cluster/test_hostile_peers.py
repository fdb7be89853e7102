"""Whatever a stranger sends to the port for peers changes nothing."""

import asyncio
import random
import struct
from collections.abc import Callable

import pytest

from cluster.servers import ServerFiles
from nodestate.config import split_address
from tests.cluster.running import RunningCluster, log_lines

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

SEED = 20_260_115
# What `pickle` runs when it reads it: os.system, without its name in this file.
PICKLE = b"cposix\nsystem\n(S'touch hostile-bytes-were-run'\ntR."


def hostile_messages() -> list[bytes]:
    generator = random.Random(SEED)
    noise = [generator.randbytes(length) for length in (1, 7, 64, 4096, 100_000)]
    return [
        b"",
        *noise,
        b"GET / HTTP/1.1\r\nHost: peer\r\n\r\n",
        PICKLE,
        struct.pack(">I", len(PICKLE)) + PICKLE,
        struct.pack(">I", 0xFFFF_FFFF),
        struct.pack("<I", 0x7FFF_FFFF) + b"\x81",
        struct.pack(">I", 0),
    ]


async def send(address: str, message: bytes) -> None:
    """Send all of it, or as much as is taken, and wait until the server hangs up."""
    host, port = split_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(message)
        if writer.can_write_eof():
            writer.write_eof()
        await writer.drain()
        async with asyncio.timeout(20):
            while await reader.read(1 << 16):
                pass
    except OSError:
        pass
    finally:
        writer.close()


def refusals(cluster: RunningCluster, files: ServerFiles) -> int:
    """Return how many lines a server has about connections that it did not want."""
    return len(log_lines(cluster.processes[files.name], "peer connection refused"))


async def test_arbitrary_bytes_change_nothing_and_are_logged_once(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        await cluster.register(leader, 5)
        await cluster.settle()
        before = [await cluster.get(f, "/v1/nodes") for f in cluster.servers]
        # Servers that meet before they have formed a cluster refuse each other, too.
        earlier = [refusals(cluster, files) for files in cluster.servers]

        for files in cluster.servers:
            for message in hostile_messages():
                await send(files.peer, message)

        assert await cluster.wait_for_leader() == leader
        assert [await cluster.get(f, "/v1/nodes") for f in cluster.servers] == before
        later = [refusals(cluster, files) for files in cluster.servers]
        # The first of an address, and then the tenth and the hundredth; the first few may
        # have been those of before.
        assert all(later)
        assert all(now - then <= 2 for then, now in zip(earlier, later, strict=True))
        assert not list(leader.directory.rglob("hostile-bytes-were-run"))


async def test_strangers_who_come_all_at_once_end_no_server(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()

        await asyncio.gather(*(send(leader.peer, m) for m in 10 * hostile_messages()))

        assert await cluster.wait_for_leader() == leader
