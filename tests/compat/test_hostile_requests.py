"""Arbitrary requests against a real server: never 5xx, nothing changed but by a 200.

Requests are drawn from valid ones by taking parts away, putting others in their place,
and from bytes that are no requests at all. What must not happen is the same for all.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from tests.real_server import HttpClient, RealServer, running_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("one server")]

NODE_ID: Final = "f7476465-4d6e-c0de-26d0-e383c49be941"
SECRET: Final = "6f8d9c11-0000-4000-8000-000000000001"
NODE: Final[dict[str, Any]] = {
    "ID": NODE_ID,
    "SecretID": SECRET,
    "Datacenter": "dc1",
    "Name": "alpha",
    "Attributes": {"kernel.name": "linux"},
    "Status": "ready",
}
AGENT: Final = {"SecretID": SECRET}
WRITES: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/v1/nodes", {"Node": NODE}),
    ("/v1/nodes", {"Nodes": [NODE]}),
    ("heartbeat", {**AGENT, "Status": "ready"}),
    ("events", {**AGENT, "NodeEvents": [{"Message": "x", "Timestamp": None}]}),
    ("drain", {"DrainSpec": {"Deadline": 1}, "Meta": {"a": "b"}}),
    ("drain", {"DrainSpec": None, "MarkEligible": True}),
    ("eligibility", {"Eligibility": "ineligible"}),
    ("eligibility", {"Eligibility": "eligible", "NodeID": NODE_ID}),
    ("evaluate", {}),
    ("purge", {}),
)
NODE_PATH: Final = f"/v1/node/{NODE_ID}"
READS: Final = (
    *("/v1/nodes", NODE_PATH, f"{NODE_PATH}/allocations"),
    *("/v1/status/leader", "/v1/status/peers", "/v1/agent/health"),
    *("/v1/agent/members", "/v1/agent/self", "/v1/metrics"),
    *("/", "/v1/", "/v1/node//drain", f"{NODE_PATH}/bogus"),
)
METHODS: Final = (
    "GET",
    "GET",
    "GET",
    "HEAD",
    "PUT",
    "POST",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "BREW",
)
PARAMETERS: Final = (
    *("index", "wait", "prefix", "filter", "per_page", "next_token", "stale"),
    *("consistent", "pretty", "resources", "os", "region", "namespace", "enable"),
    *("reverse", "format"),
)
WORDS: Final = (
    *("", "0", "1", "-1", "1s", "true", "maybe", "global", "zz", "f7", "----", "null"),
    *(
        'Name == "x"',
        "(((",
        "Meta[",
        'Name matches "(a+)+$"',
        "%00",
        "18446744073709551615",
    ),
)
HEADERS: Final = (
    *("Accept-Encoding", "Content-Type", "Content-Encoding", "X-Nomad-Token"),
    *("Authorization", "If-None-Match", "Expect", "Range", "Cookie", "Connection"),
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=40)
    | st.sampled_from(WORDS)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from([*NODE]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@st.composite
def spoilt(draw: st.DrawFn, body: dict[str, Any]) -> bytes:
    """Draw a body with one value in it replaced by another."""
    copy = json.loads(json.dumps(body))
    places = list(places_in(copy))
    if places:
        holder, key = draw(st.sampled_from(places))
        holder[key] = draw(values)
    return json.dumps(copy).encode("utf-8", "surrogatepass")


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with every key in it."""
    keys = range(len(value)) if isinstance(value, list) else list(value)
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places_in(value[key])


junk = (
    st.just(b"")
    | values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=200)
    | st.integers(1, 2000).map(lambda depth: b"[" * depth)
    | st.integers(1, 2000).map(lambda depth: b'{"Node":' * depth)
)
header_texts = st.sampled_from(
    (SECRET, "gzip", "gzip;q=0", "100-continue", "*")
) | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw the bytes of one request that is well framed, whatever it asks."""
    tail, valid = draw(st.sampled_from(WRITES))
    method = draw(st.sampled_from(("PUT", "POST")))
    path = (tail if tail[0] == "/" else f"{NODE_PATH}/{tail}").encode()
    body = draw(st.just(json.dumps(valid).encode()) | spoilt(valid) | junk)
    if draw(st.booleans()):
        method = draw(st.sampled_from(METHODS))
        path = draw(st.sampled_from(READS)).encode()
    if draw(st.integers(0, 9)) == 0:
        path += b"/" + quoted(draw(st.text(max_size=10)))
    query = b"&".join(
        name.encode() + b"=" + quoted(value)
        for name, value in draw(
            st.lists(
                st.tuples(
                    st.sampled_from(PARAMETERS),
                    st.sampled_from(WORDS) | st.text(max_size=12),
                ),
                max_size=3,
            )
        )
    )
    headers = draw(
        st.lists(st.tuples(st.sampled_from(HEADERS), header_texts), max_size=2)
    )
    lines = [
        method.encode() + b" " + path + (b"?" + query if query else b"") + b" HTTP/1.1",
        b"Host: localhost",
        b"Content-Length: " + str(len(body)).encode(),
        *(f"{name}: {text}".encode("latin-1") for name, text in headers),
        b"Connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def quoted(text: str) -> bytes:
    """Percent-encode what cannot stand in a request line; leave the rest as it is."""
    return "".join(
        chr(byte) if 33 <= byte < 127 and byte not in b"&#%?" else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogatepass")
    ).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Run a server on which no wait lasts, and no drain or timer writes by itself."""
    with running_server(
        tmp_path_factory.mktemp("hostile"),
        blocking_wait_s_default=0.05,
        blocking_wait_s_max=0.05,
    ) as server:
        assert server.put("/v1/nodes", {"Node": NODE}).status == 200
        yield server


def state_of(server: HttpClient) -> tuple[int, bytes, bytes]:
    """Return what the server has, once no drain is under way and the node is there."""
    while True:
        if server.get(NODE_PATH).status == 404:
            assert server.put("/v1/nodes", {"Node": NODE}).status == 200
        nodes = server.get("/v1/nodes")
        if not any(node["Drain"] for node in nodes.json):
            return nodes.index, nodes.body, server.get(NODE_PATH).body


def statuses_in(received: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]


def judge(server: RealServer, sent: bytes, quiet_s: float = 5.0) -> None:
    before = state_of(server)

    statuses = statuses_in(server.exchange_bytes(sent, quiet_s=quiet_s))

    assert [code for code in statuses if code >= 500] == [], sent
    if 200 not in statuses:
        assert state_of(server) == before, sent


# How long to listen for an answer that cannot come, and for one that may.
NEVER_ANSWERED_S: Final = 0.03
PERHAPS_ANSWERED_S: Final = 0.5
QUICK: Final = settings(
    max_examples=300,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@QUICK
@given(sent=requests())
def test_no_request_is_the_servers_fault_or_changes_what_it_was_not_allowed_to(
    server: RealServer, sent: bytes
) -> None:
    judge(server, sent)


@settings(QUICK, max_examples=100)
@given(sent=st.binary(max_size=400))
def test_bytes_that_are_no_request_change_nothing(
    server: RealServer, sent: bytes
) -> None:
    judge(server, sent, NEVER_ANSWERED_S)


@settings(QUICK, max_examples=100)
@given(valid=requests(), place=st.integers(0, 400), piece=st.binary(max_size=8))
def test_a_request_with_a_piece_replaced_changes_nothing_without_a_200(
    server: RealServer, valid: bytes, place: int, piece: bytes
) -> None:
    judge(
        server, valid[:place] + piece + valid[place + len(piece) :], PERHAPS_ANSWERED_S
    )


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 131])
def test_a_request_cut_off_anywhere_changes_nothing(
    server: RealServer, length: int
) -> None:
    body = json.dumps({"Eligibility": "ineligible"}).encode()
    path = f"/v1/node/{NODE_ID}/eligibility"
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    sent = head.encode() + body
    assert length < len(sent)

    judge(server, sent[:length], NEVER_ANSWERED_S)
    judge(server, sent[:-length] if length < len(body) else sent[:-1], NEVER_ANSWERED_S)


def test_the_server_is_none_the_worse(server: RealServer) -> None:
    """Runs last: the process lives, and serves what it always did."""
    server.put("/v1/nodes", {"Node": NODE})

    assert server.is_running()
    assert server.get(f"/v1/node/{NODE_ID}").status == 200
    assert '"level":"error"' not in server.log().replace(" ", "")
