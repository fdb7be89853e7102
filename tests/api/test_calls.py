"""What a handler may count on: time, leader, limits."""

import asyncio

import pytest

from tests.api.conftest import NODE_PATH, Api
from tests.conformance.rows import rows

CLOSED = {"Eligibility": "ineligible"}


async def test_a_write_waits_for_a_leader_that_comes(api: Api):
    await api.register()
    api.leadership.lose(None)
    writing = asyncio.create_task(api.put(f"{NODE_PATH}/eligibility", CLOSED))
    await api.until(lambda: api.clock.timer_count() > 0)

    api.leadership.gain()
    await api.pass_time(writing, 1)

    assert (await writing).status == 200


async def test_one_write_too_many_is_told_so(make_api):
    api = await make_api(proposals_max=1)
    await api.register()
    api.proposer.gate.clear()
    writing = asyncio.create_task(api.put(f"{NODE_PATH}/eligibility", CLOSED))
    await api.until(lambda: len(api.proposer.gate._waiters) == 1)

    refused = await api.put(f"{NODE_PATH}/evaluate")

    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "proposals_max" in refused.text
    assert refused.headers["x-nodestate-outcome"] == "none"
    api.proposer.gate.set()
    assert (await writing).status == 200
    assert (await api.put(f"{NODE_PATH}/evaluate")).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"X-Nomad-Token": "6f8d9c11-0000-4000-8000-000000000001"}, 200),
        ({"Authorization": "bearer 6f8d9c11-0000-4000-8000-000000000001"}, 200),
        ({"Authorization": "Basic 6f8d9c11-0000-4000-8000-000000000001"}, 400),
    ],
)
async def test_a_token_comes_by_either_header(api: Api, headers, status):
    await api.register()

    answer = await api.ask("PUT", f"{NODE_PATH}/heartbeat", {}, headers)

    assert answer.status == status


@rows("X10")
async def test_without_acls_any_token_is_accepted(api: Api):
    await api.register()

    for token in ("bogus", "", "11111111-2222-3333-4444-555555555555"):
        headers = {"X-Nomad-Token": token}
        assert (await api.get(NODE_PATH, headers)).status == 200
        answer = await api.ask("PUT", f"{NODE_PATH}/evaluate", headers=headers)
        assert answer.status == 200
