"""Bodies that are shared, and answers that go out in slices."""

import asyncio
import gzip

import pytest

from nodestate.api import connections, replies
from nodestate.api.replies import Body, accepts_gzip
from tests.api.conftest import NODE_ID, Api, node_body, read_answer, request_bytes


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip", True),
        ("gzip;q=0.001", True),
        ("gzip ; q=1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=x", False),
        ("x-gzip", False),
        ("*", False),
        ("identity", False),
        ("", False),
    ],
)
def test_gzip_must_be_named_with_a_weight_above_zero(text, is_accepted):
    assert accepts_gzip(text) is is_accepted


@pytest.mark.parametrize("length", [1, 100, replies.GZIP_INLINE_BYTES_MAX + 1])
async def test_a_body_is_compressed_once(length):
    body = Body(b"x" * length)

    first, *others = await asyncio.gather(*(body.gzipped() for _ in range(10)))

    assert gzip.decompress(first) == body.plain
    assert all(other is first for other in others)
    assert await body.gzipped() is first


async def test_one_who_goes_away_does_not_take_the_bytes_from_the_others():
    body = Body(b"x" * (1 << 20))
    leaving = asyncio.create_task(body.gzipped())
    staying = asyncio.create_task(body.gzipped())
    await asyncio.sleep(0)

    leaving.cancel()

    assert gzip.decompress(await staying) == body.plain


async def large_list(api: Api) -> bytes:
    """Register so many nodes that their list is several slices long."""
    for start in range(0, 500, 100):
        nodes = [
            node_body(f"{number:08x}{NODE_ID[8:]}", Name="x" * 1500)
            for number in range(start, start + 100)
        ]
        assert (await api.put("/v1/nodes", {"Nodes": nodes})).status == 200
    body = (await api.get("/v1/nodes")).body
    assert len(body) > 2 * replies.WRITE_SLICE_BYTES
    return body


@pytest.mark.slow
async def test_a_large_list_arrives_whole_and_leaves_the_connection_usable(api: Api):
    body = await large_list(api)

    async with api.connected() as (reader, writer):
        for _ in range(2):
            writer.write(request_bytes("GET", "/v1/nodes"))
        assert [(await read_answer(reader)).body for _ in range(2)] == [body] * 2
        writer.write(request_bytes("HEAD", "/v1/nodes"))
        head = await read_answer(reader, is_head=True)
        assert int(head.headers["content-length"]) == len(body)
        writer.write(
            request_bytes("GET", "/v1/nodes", headers={"Accept-Encoding": "gzip"})
        )
        assert gzip.decompress((await read_answer(reader)).body) == body


@pytest.mark.slow
async def test_a_reader_that_takes_nothing_is_cut_off(api: Api, monkeypatch):
    await large_list(api)
    monkeypatch.setattr(connections, "WRITE_S_MAX", 0.05)
    requests = request_bytes("GET", "/v1/nodes") * 30

    _, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1024)
    writer.write(requests)

    await api.until(lambda: api.gauge("nodestate_api_connections") == 0)
    writer.close()
    assert (await api.get("/v1/regions")).status == 200
