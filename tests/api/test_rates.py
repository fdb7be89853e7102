"""How much one client may ask for: at the rate always, faster for a moment."""

import math

import pytest
from hypothesis import given, strategies as st

from nodestate.api import rates
from nodestate.api.problems import ProblemError
from nodestate.api.rates import BURST_S, RequestRates, WaiterCounts
from nodestate.config import ServerConfig
from tests.api.conftest import NODE_PATH, Api, read_answer, request_bytes
from tests.fakes import FakeClock


def limited(clock: FakeClock, rate: float) -> RequestRates:
    return RequestRates(ServerConfig(requests_per_second_max=rate), clock)


def accepted(limit: RequestRates, client: str = "a") -> bool:
    return limit.judge_client(client) is None


def test_without_a_limit_everything_goes():
    limit = RequestRates(ServerConfig(), FakeClock())

    assert not limit.are_limited
    assert all(accepted(limit) for _ in range(10_000))


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0, 3.0, 50.0])
def test_a_burst_and_then_the_rate(rate):
    clock = FakeClock()
    limit = limited(clock, rate)

    burst = sum(accepted(limit) for _ in range(1000))
    later = 0
    for _ in range(20):
        clock.pause(1 / rate)
        later += sum(accepted(limit) for _ in range(10))

    assert burst == max(1, int(rate * BURST_S))
    assert later == 20


@given(
    rate=st.sampled_from([0.5, 1.0, 7.0, 100.0]),
    gaps_ms=st.lists(st.integers(0, 3000), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(rate, gaps_ms):
    clock = FakeClock()
    limit = limited(clock, rate)
    count, elapsed_s = 0, 0.0

    for gap_ms in gaps_ms:
        clock.pause(gap_ms / 1000)
        elapsed_s += gap_ms / 1000
        count += accepted(limit)
        assert count <= max(1, rate * BURST_S) + rate * elapsed_s + 1e-6

    if all(gap_ms / 1000 >= 1 / rate for gap_ms in gaps_ms):
        assert count == len(gaps_ms)


def test_who_waits_as_long_as_said_is_answered():
    clock = FakeClock()
    limit = limited(clock, 0.3)
    assert accepted(limit)

    problem = limit.judge_client("a")
    assert problem is not None
    seconds = int(problem.headers.removeprefix(b"Retry-After: "))
    assert 1 <= seconds <= math.ceil(1 / 0.3)
    clock.pause(seconds)

    assert accepted(limit)


def test_clients_do_not_count_for_each_other():
    limit = limited(FakeClock(), 1)

    assert [accepted(limit, "a") for _ in range(3)] == [True, True, False]
    assert accepted(limit, "b")


def test_clients_that_are_remembered_have_a_limit(monkeypatch):
    monkeypatch.setattr(rates, "CLIENTS_MAX", 10)
    clock = FakeClock()
    limit = limited(clock, 1)

    for number in range(100):
        assert accepted(limit, str(number))
        assert len(limit._next_s) <= 10
    clock.pause(10 * BURST_S)
    assert accepted(limit, "new")

    assert list(limit._next_s) == ["new"]


def test_blocking_queries_are_counted_in_and_out():
    counts = WaiterCounts(ServerConfig(watchers_per_client_max=2))
    for _ in range(3):
        counts.begin("a")
        counts.begin("a")
        with pytest.raises(ProblemError, match="watchers_per_client_max"):
            counts.begin("a")
        counts.begin("b")
        for client in ("a", "a", "b"):
            counts.end(client)

    assert not counts._counts


async def test_too_many_requests_are_told_the_setting(make_api):
    api: Api = await make_api(
        requests_per_second_max=1, http_response_headers={"foo": "bar"}
    )

    answers = [await api.get("/v1/nodes") for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].text == (
        "too many requests of one client: at most 1 a second (requests_per_second_max)"
    )
    assert answers[2].headers["retry-after"] == "1"
    assert answers[2].headers["foo"] == "bar"
    await api.clock.step(1)
    assert (await api.get("/v1/nodes")).status == 200


async def test_a_write_that_comes_too_fast_is_not_done(make_api):
    api: Api = await make_api(requests_per_second_max=0.1)
    await api.get("/v1/nodes")

    answer = await api.put(f"{NODE_PATH}/evaluate")

    assert (answer.status, answer.headers["x-nodestate-outcome"]) == (429, "none")
    assert api.proposer.commands == []


async def test_a_connection_has_a_limit_of_its_own(make_api):
    api: Api = await make_api(connection_requests_per_second_max=1)

    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", "/v1/nodes") * 3)
        answers = [await read_answer(reader) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert "(connection_requests_per_second_max)" in answers[2].text
    assert (await api.get("/v1/nodes")).status == 200


async def test_one_client_cannot_take_all_blocking_queries(make_api):
    api: Api = await make_api(watchers_per_client_max=1)
    await api.register()
    index = (await api.get("/v1/nodes")).index
    path = f"/v1/nodes?index={index}"

    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", path))
        await api.until_waiting()
        refused = await api.get(path)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "(watchers_per_client_max)" in refused.text
        await api.register(Name="beta")
        assert (await read_answer(reader)).status == 200
    await api.until_waiting(0)

    again = f"/v1/nodes?index={(await api.get('/v1/nodes')).index}"
    answer = await api.read_during(again, lambda: api.register(Name="gamma"))
    assert answer.status == 200
