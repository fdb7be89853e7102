"""What is asked of the cluster as a whole."""

import asyncio

import pytest

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.model.encoding import MSGPACK
from nodestate.model.question import CollectNow, NotAnswered
from tests.api.conftest import Answer, Api

COLLECT = "/v1/system/gc"
RECONCILE = "/v1/system/reconcile/summaries"


async def patient(api: Api, seconds: float = 5) -> asyncio.Task[Answer]:
    """Ask, and let time pass until there is an answer."""
    timers = api.clock.timer_count()
    asking = asyncio.create_task(api.put(COLLECT))
    await api.until(lambda: api.clock.timer_count() > timers)
    await api.pass_time(asking, seconds)
    return asking


async def test_the_leader_is_asked_to_collect_garbage(api: Api):
    answer = await api.put(COLLECT)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.nomad_headers() == set()
    assert api.questions == [CollectNow(asked_by="anonymous")]


@pytest.mark.parametrize("error", [NoLeaderError("x"), OutcomeUnknownError("x")])
async def test_whoever_leads_next_is_asked_again(api: Api, error):
    api.leader_calls.errors += [error, error]

    answer = await (await patient(api))

    assert answer.status == 200
    assert len(api.questions) == 1


@pytest.mark.parametrize(
    ("may_apply", "status", "outcome"), [(False, 503, "none"), (True, 504, "unknown")]
)
async def test_who_asks_in_vain_is_told_what_may_still_happen(
    api: Api, may_apply, status, outcome
):
    async def answer(_: bytes) -> bytes:
        return MSGPACK.encode(NotAnswered("x", may_apply=may_apply))

    api.leader_calls.answer_with(answer)
    refused = await (await patient(api))

    assert (refused.status, refused.headers["x-nodestate-outcome"]) == (status, outcome)


async def test_summaries_are_always_right(api: Api):
    written = api.replica.applied_index()

    answer = await api.put(RECONCILE)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.nomad_headers() == set()
    assert api.replica.applied_index() == written


@pytest.mark.parametrize("path", [COLLECT, RECONCILE])
async def test_neither_is_to_be_read(api: Api, path):
    assert (await api.get(path)).status == 405
