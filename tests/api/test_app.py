"""The room as a whole: whatever is sent, it answers, and changes only what it says."""

import asyncio
import json
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from nodestate.api.routes import ROUTES
from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    SECRET,
    Api,
    node_body,
    request_bytes,
    running_api,
)

METHODS: Final = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH")
PARAMETERS: Final = (
    *("index", "wait", "prefix", "filter", "per_page", "next_token", "stale", "os"),
    *("consistent", "pretty", "resources", "region", "enable", "format", "type"),
    *("id", "address", "http"),
)
BODIES: Final[tuple[dict[str, Any], ...]] = (
    {"Node": node_body()},
    {"Nodes": [node_body()]},
    {"SecretID": SECRET, "Status": "ready"},
    {"SecretID": SECRET, "NodeEvents": [{"Message": "x", "Timestamp": None}]},
    {"DrainSpec": {"Deadline": 1}, "Meta": {"a": "b"}},
    {"Eligibility": "eligible"},
)
KEYS: Final = sorted({key for body in BODIES for key in body} | {*node_body()})

paths = st.sampled_from(
    [route.path.replace(":id", NODE_ID) for route in ROUTES] + ["/", "/v1/node//drain"]
)
texts = st.text(max_size=12) | st.sampled_from(["", "1", "1ms", "true", "f7", "a == b"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=6), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Draw a valid body of which one part was replaced."""
    body = json.loads(json.dumps(draw(st.sampled_from(BODIES))))
    holder = body
    while True:
        key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else [0]))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            break
        holder = inner
    holder[key] = draw(values)
    return json.dumps(body).encode("utf-8", "surrogatepass")


bodies = (
    st.none()
    | st.sampled_from(BODIES).map(lambda body: json.dumps(body).encode())
    | spoilt()
    | values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=60)
    | st.integers(1, 3000).map(lambda depth: b'{"Node":' * depth)
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    path = draw(paths) + quoted(draw(st.just("") | st.text(max_size=8)))
    pairs = draw(st.lists(st.tuples(st.sampled_from(PARAMETERS), texts), max_size=3))
    query = "&".join(f"{name}={quoted(text)}" for name, text in pairs)
    body = draw(bodies)
    return request_bytes(
        draw(st.sampled_from(METHODS)),
        f"{path}?{query}",
        body,
        {"Connection": "close"},
    )


def quoted(text: str) -> str:
    return "".join(
        chr(byte) if 33 <= byte < 127 and byte not in b"#?&" else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


@pytest.mark.slow
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=requests() | st.binary(min_size=1, max_size=80))
def test_whatever_is_sent_is_never_a_5xx_and_changes_only_with_a_200(sent):
    asyncio.run(send_and_judge(sent))


async def send_and_judge(sent: bytes) -> None:
    """Judge one request on an API of its own, whose waits are short."""
    async with running_api(
        blocking_wait_s_default=0.001, blocking_wait_s_max=0.001
    ) as api:
        await api.register()
        await judge(api, sent)


async def judge(api: Api, sent: bytes) -> None:
    before = await state_of(api)
    async with api.connected() as (reader, writer):
        writer.write(sent)
        if b"Connection: close" not in sent:
            # No request of ours: whatever is still missing does not come.
            writer.write_eof()
        ticking = asyncio.create_task(tick(api))
        async with asyncio.timeout(20):
            received = await reader.read()
        ticking.cancel()

    # What is not implemented says so; any other 5xx is a fault of ours.
    is_fault = received.startswith(b"HTTP/1.1 5") and received[9:12] != b"501"
    assert not is_fault, (sent, received)
    if not received.startswith(b"HTTP/1.1 200"):
        assert await state_of(api) == before, (sent, received)
    assert [line for line in api.logs if line["level"] == "error"] == []


async def tick(api: Api) -> None:
    """Let time pass for reads that wait."""
    while True:
        await api.clock.step(0.01)


async def state_of(api: Api) -> tuple[bytes, int]:
    answer = await api.get("/v1/nodes?stale")
    return answer.body + (await api.get(f"{NODE_PATH}?stale")).body, answer.index
