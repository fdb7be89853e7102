"""What goes over the wire: keep-alive, pipelining, limits, and bytes that are no request."""

import asyncio
from contextlib import suppress

import pytest
from typing_extensions import override

from nodestate.api import bodies, connections
from nodestate.api.connections import Connection, address_of
from tests.api.conftest import NODE_PATH, Api, node_body, read_answer, request_bytes
from tests.conformance.rows import rows
from tests.fakes import settle

PUT = b"PUT %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
CLOSED = b'{"Eligibility":"ineligible"}'


async def exchange(api: Api, *parts: bytes) -> bytes:
    """Send bytes and return all that comes until the server hangs up."""
    async with api.connected() as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()


async def test_requests_in_a_row_are_answered_in_order(api: Api):
    await api.register()
    paths = ["/v1/nodes", NODE_PATH, "/v1/bogus", "/v1/status/leader"] * 5

    async with api.connected() as (reader, writer):
        writer.write(b"".join(request_bytes("GET", path) for path in paths))
        answers = [await read_answer(reader) for _ in paths]

    assert [answer.status for answer in answers] == [200, 200, 404, 200] * 5


async def test_a_body_that_nobody_reads_is_not_the_next_request(api: Api):
    await api.register()

    async with api.connected() as (reader, writer):
        evaluate = request_bytes(
            "PUT", f"{NODE_PATH}/evaluate", "GET / HTTP/1.1\r\n\r\n"
        )
        writer.write(evaluate + request_bytes("GET", "/v1/regions"))
        answers = [await read_answer(reader) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[1].json == ["global"]


@pytest.mark.parametrize(
    ("version", "connection", "is_kept", "said"),
    [
        ("1.1", None, True, None),
        ("1.1", "close", False, "close"),
        ("1.0", None, False, "close"),
        ("1.0", "keep-alive", True, "keep-alive"),
    ],
)
async def test_a_connection_is_kept_as_the_client_wishes(
    api: Api, version, connection, is_kept, said
):
    headers = {} if connection is None else {"Connection": connection}

    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", "/v1/nodes", None, headers, version))
        answer = await read_answer(reader)
        assert (answer.status, answer.body) == (200, b"[]")
        assert answer.headers.get("connection") == said
        if is_kept:
            writer.write(request_bytes("GET", "/v1/nodes"))
            assert (await read_answer(reader)).status == 200
        else:
            assert await reader.read() == b""


async def test_a_body_in_chunks_is_a_body(api: Api):
    await api.register()
    head = PUT % (
        f"{NODE_PATH}/eligibility".encode(),
        b"Transfer-Encoding: chunked\r\n",
    )
    chunks = b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        CLOSED[:5],
        len(CLOSED) - 5,
        CLOSED[5:],
    )

    async with api.connected() as (reader, writer):
        for part in (head, chunks[:7], chunks[7:]):
            writer.write(part)
            await writer.drain()
        assert (await read_answer(reader)).status == 200

    assert (await api.read())["SchedulingEligibility"] == "ineligible"


async def test_chunks_that_are_none_are_refused(api: Api):
    await api.register()
    head = PUT % (
        f"{NODE_PATH}/eligibility".encode(),
        b"Transfer-Encoding: chunked\r\n",
    )

    received = await exchange(api, head, b"zz\r\nnope\r\n\r\n")

    assert received.startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_waits_to_be_asked_is_asked(api: Api):
    await api.register()
    lines = b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(CLOSED)

    async with api.connected() as (reader, writer):
        writer.write(PUT % (f"{NODE_PATH}/eligibility".encode(), lines))
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert await reader.readline() == b"\r\n"
        writer.write(CLOSED)
        assert (await read_answer(reader)).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_an_encoded_body_is_refused(api: Api, encoding):
    answer = await api.ask(
        "PUT", "/v1/nodes", {"Node": node_body()}, {"Content-Encoding": encoding}
    )

    assert answer.status == 415
    assert answer.headers["connection"] == "close"


async def test_identity_is_no_encoding(api: Api):
    body = {"Node": node_body()}

    answer = await api.ask("PUT", "/v1/nodes", body, {"Content-Encoding": "identity"})

    assert answer.status == 200


@rows("V23")
@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
async def test_a_body_has_a_limit(make_api, extra, status):
    api = await make_api(body_bytes_max=1024)
    await api.register()
    body = CLOSED.ljust(1024 + extra)

    answer = await api.put(f"{NODE_PATH}/eligibility", body)

    assert answer.status == status
    if status == 413:
        assert "1024 (body_bytes_max)" in answer.text
        assert answer.headers["connection"] == "close"


@rows("V23")
async def test_a_body_in_chunks_has_the_same_limit(make_api, monkeypatch):
    monkeypatch.setattr(connections, "LINGER_S_MAX", 0.02)
    api = await make_api(body_bytes_max=1024)
    head = PUT % (
        f"{NODE_PATH}/eligibility".encode(),
        b"Transfer-Encoding: chunked\r\n",
    )
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"

    received = await exchange(api, head, chunk, chunk)

    assert received.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_never_ends_is_given_up(make_api, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_S_MAX", 0.02)
    monkeypatch.setattr(connections, "LINGER_S_MAX", 0.02)
    api = await make_api()
    head = PUT % (f"{NODE_PATH}/eligibility".encode(), b"Content-Length: 30\r\n")

    received = await exchange(api, head, b"{")

    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\x01\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 2000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_is_told_so_and_ended(make_api, sent, status):
    api = await make_api(header_bytes_max=1024)

    received = await exchange(api, sent)

    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in received
    assert b"aaaa" not in received
    assert [line for line in api.logs if line["level"] == "error"] == []


@rows("V23")
async def test_one_connection_too_many_is_told_so(make_api):
    api = await make_api(connections_max=2)
    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", "/v1/nodes"))
        await read_answer(reader)
        async with api.connected():
            await api.until(lambda: api.gauge("nodestate_api_connections") == 2)

            refused = await api.get("/v1/nodes")

            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert "connections_max" in refused.text
        await api.until(lambda: api.gauge("nodestate_api_connections") == 1)

        assert (await api.get("/v1/nodes")).status == 200


async def test_a_connection_too_many_that_says_nothing_is_ended(make_api, monkeypatch):
    monkeypatch.setattr(connections, "REFUSAL_S_MAX", 0.02)
    api = await make_api(connections_max=1)
    async with api.connected():
        await api.until(lambda: api.gauge("nodestate_api_connections") == 1)
        async with api.connected() as (reader, _):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_a_write_whose_client_goes_away_is_still_done(api: Api):
    await api.register()
    api.proposer.gate.clear()
    async with api.connected() as (_, writer):
        writer.write(request_bytes("PUT", f"{NODE_PATH}/eligibility", CLOSED))
        await api.until(lambda: len(api.proposer.gate._waiters) == 1)
    await api.until(lambda: api.gauge("nodestate_api_connections") == 0)

    api.proposer.gate.set()

    await api.until(lambda: len(api.proposer.commands) == 2)
    assert (await api.read())["SchedulingEligibility"] == "ineligible"


async def test_a_request_comes_in_any_pieces(api: Api):
    request = request_bytes("GET", "/v1/nodes")

    async with api.connected() as (reader, writer):
        for _ in range(2):
            for byte in request:
                writer.write(bytes([byte]))
                await settle()
            assert (await read_answer(reader)).status == 200


async def test_headers_that_trickle_are_given_up(make_api):
    api = await make_api(http_head_s_max=0.05)

    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", "/v1/nodes"))
        assert (await read_answer(reader)).status == 200
        writer.write(b"GET /v1/nodes HTTP/1.1\r\n")
        await api.until(lambda: timers_of(api) == 1)
        writer.write(b"X-A: b\r\n")
        received = await reader.read()

    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"http_head_s_max" in received
    assert timers_of(api) == 0


async def test_time_for_headers_is_not_time_between_requests(make_api):
    api = await make_api(http_head_s_max=0.05)
    request = request_bytes("GET", "/v1/nodes")

    async with api.connected() as (reader, writer):
        writer.write(request[:20])
        await api.until(lambda: timers_of(api) == 1)
        writer.write(request[20:])
        assert (await read_answer(reader)).status == 200
        assert timers_of(api) == 0
        await asyncio.sleep(0.1)
        writer.write(request)
        assert (await read_answer(reader)).status == 200


def timers_of(api: Api) -> int:
    """Return how many connections wait for the rest of headers."""
    return sum(
        isinstance(one, Connection) and one._head_timer is not None
        for one in api.server.connections
    )


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_connection_without_requests_is_ended(make_api, is_first):
    api = await make_api(http_idle_s_max=0.05)

    async with api.connected() as (reader, writer), asyncio.timeout(10):
        if not is_first:
            writer.write(request_bytes("GET", "/v1/nodes"))
            assert (await read_answer(reader)).status == 200
        assert await reader.read() == b""


async def test_headers_together_have_a_limit(make_api):
    api = await make_api(head_bytes_max=4096)
    line = b"X-%d: " + b"a" * 1000 + b"\r\n"

    async with api.connected() as (reader, writer):
        writer.write(b"GET /v1/nodes HTTP/1.1\r\n")
        for number in range(5):
            writer.write(line % number)
            await settle()
        received = await reader.read()

    assert received.startswith(b"HTTP/1.1 431 ")
    assert b"head_bytes_max" in received


@pytest.mark.parametrize(("count", "status"), [(127, 200), (128, 431), (5000, 431)])
async def test_headers_have_a_limit_on_how_many(api: Api, count, status):
    lines = b"".join(b"X-%d: a\r\n" % number for number in range(count))

    async with api.connected() as (reader, writer):
        writer.write(b"GET /v1/nodes HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
        answer = await read_answer(reader)
        assert answer.status == status
        assert status == 200 or answer.text == "more than 128 headers"


async def test_requests_sent_far_ahead_are_all_answered(api: Api):
    count = 500

    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", "/v1/regions") * count)
        (connection,) = api.server.connections
        longest = 0
        for _ in range(count):
            assert (await read_answer(reader)).status == 200
            longest = max(longest, len(connection._messages))

    assert 0 < longest <= 32


async def test_one_connection_too_many_of_an_address_is_told_so(make_api):
    api = await make_api(
        connections_per_address_max=1, http_response_headers={"foo": "bar"}
    )
    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", "/v1/nodes"))
        assert (await read_answer(reader)).status == 200

        refused = await api.get("/v1/nodes")

        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "connections_per_address_max" in refused.text
        assert refused.headers["foo"] == "bar"
        assert api.gauge("nodestate_api_connections") == 1
    await api.until(lambda: api.gauge("nodestate_api_connections") == 0)

    assert (await api.get("/v1/nodes")).status == 200


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("10.0.0.1", 80), "10.0.0.1"),
        (("::1", 80, 0, 0), "0000:0000:0000:0000"),
        (("2001:db8:1:2:3::4", 80, 0, 0), "2001:0db8:0001:0002"),
        (("fe80::1%eth0", 80, 0, 2), "fe80:0000:0000:0000"),
        (("::ffff:10.0.0.1", 80, 0, 0), "10.0.0.1"),
        (None, ""),
        ("/a/socket", ""),
    ],
)
def test_whom_a_connection_is_counted_for(name, address):
    class Transport(asyncio.BaseTransport):
        @override
        def get_extra_info(self, what: str, default: object = None) -> object:
            assert what == "peername"
            return name

    assert address_of(Transport()) == address


SMUGGLED = b"GET /v1/regions HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
        (b"Content-Length: 0\r\nContent-Length: 5\r\n", b"abcde"),
        (b"Content-Length: 0, 5\r\n", b"abcde"),
        (b"Content-Length: +0\r\n", b""),
        (b"Content-Length: -1\r\n", b""),
        (b"Content-Length: 99999999999999999999999\r\n", b""),
        (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (b"X: a\r\n Transfer-Encoding: chunked\r\n", b""),
        (b"X: a\rb\r\n", b""),
        (b"X: a\x00b\r\n", b""),
        (b"Host: other\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"-1\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"0x1\r\na\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"1\na\n0\n\n"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\naX0\r\n\r\n"),
    ],
)
async def test_no_request_hides_in_the_frame_of_another(api: Api, lines, body):
    """What two programs may read in two ways is refused, and ends the connection."""
    head = PUT % (f"{NODE_PATH}/eligibility".encode(), lines)

    received = await exchange(api, head + body + SMUGGLED)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert api.proposer.commands == []


async def test_an_upgrade_that_there_is_none_of_leaves_the_connection_as_it_is(
    api: Api,
):
    """Some clients offer HTTP/2 in the first request of every connection."""
    headers = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
    }

    async with api.connected() as (reader, writer):
        for _ in range(2):
            writer.write(request_bytes("GET", "/v1/regions", None, headers))
            assert (await read_answer(reader)).status == 200
