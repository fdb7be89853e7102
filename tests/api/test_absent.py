"""What there is none of: empty lists, and nothing found."""

import asyncio

import pytest

from tests.api.conftest import UNKNOWN_ID

LISTS = ["/v1/deployments", "/v1/volumes", "/v1/plugins"]
NOT_FOUND = (404, "deployment not found")


@pytest.mark.parametrize("path", [*LISTS, f"/v1/deployment/allocations/{UNKNOWN_ID}"])
async def test_a_list_is_empty_and_has_an_index(api, path):
    answer = await api.get(f"{path}?prefix=ab&namespace=default")

    assert (answer.status, answer.body) == (200, b"[]")
    assert answer.index == 1
    assert len(answer.nomad_headers()) == 3


@pytest.mark.parametrize("path", LISTS)
async def test_who_waits_for_one_waits_it_out(api, path):
    timers_before = api.clock.timer_count()
    reading = asyncio.create_task(api.get(f"{path}?index=1&wait=2s"))
    await api.until(lambda: api.clock.timer_count() > timers_before)
    await api.register()
    assert not reading.done()

    await api.pass_time(reading, 3)

    assert (await reading).body == b"[]"


@pytest.mark.parametrize(
    ("method", "tail"),
    [("GET", ""), ("POST", "fail/"), ("PUT", "promote/"), ("PUT", "")],
)
async def test_one_is_not_found(api, method, tail):
    answer = await api.ask(method, f"/v1/deployment/{tail}{UNKNOWN_ID}", {})

    assert (answer.status, answer.text) == NOT_FOUND


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("id_", ["x", "allocations/x"])
async def test_an_id_is_one(api, method, id_):
    answer = await api.ask(method, f"/v1/deployment/{id_}", {})

    assert answer.status == 400
    assert "UUID must be 36 characters" in answer.text


async def test_a_path_leads_nowhere_else(api):
    assert (await api.get(f"/v1/deployment/bogus/{UNKNOWN_ID}")).status == 404
    assert (await api.get("/v1/deployment/")).text == "missing deployment ID"
