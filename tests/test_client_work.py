"""The client for work: which path and body each call has."""

import pytest

from nodestate.client import Query
from nodestate.client_work import WorkClient
from nodestate.errors import ResponseError
from tests.scripted_server import Answer, scripted_server
from tests.scripted_work import ALLOC_ID, EVAL_ID, allocation, evaluation


@pytest.fixture
async def scripted():
    async with scripted_server() as script:
        yield script


@pytest.fixture
async def client(scripted):
    async with WorkClient(scripted.address) as client:
        yield client


async def test_ids_are_quoted(scripted, client):
    scripted.on("/v1/job/a/b?c/summary", Answer({"JobID": "a/b?c", "Summary": {}}))

    read = await client.job_summary("a/b?c", Query(index=3, stale=True))

    assert read.value.job_id == "a/b?c"
    assert scripted.asked[0].query == {"index": "3", "stale": "true"}


async def test_a_write_may_be_asked_for_again(scripted, client):
    scripted.on("/v1/jobs", Answer({"EvalID": EVAL_ID, "Index": 7}))

    written = await client.register_job({"ID": "web"}, idempotency_key="k")

    assert (written.eval_id, written.index) == (EVAL_ID, 7)
    assert scripted.asked[0].headers["Idempotency-Key"] == "k"


async def test_an_allocation_knows_its_version_in_full_and_in_lists(scripted, client):
    scripted.on("/v1/allocations", Answer([allocation()]))
    full = {**allocation(), "JobVersion": 0, "Job": {"Type": "batch", "Version": 5}}
    scripted.on(f"/v1/allocation/{ALLOC_ID}", Answer(full))

    listed = await client.all_allocations(prefix="a1")
    read = await client.allocation(ALLOC_ID)

    assert [each.version for each in listed.value] == [3]
    assert read.value.version == 5


async def test_options_that_are_empty_are_not_sent(scripted, client):
    scripted.on("/v1/evaluations", Answer([evaluation()]))

    await client.evaluations(status="", job="web")

    assert scripted.asked[0].query == {"job": "web"}


async def test_an_answer_that_is_none_is_said(scripted, client):
    scripted.on("/v1/job/web", Answer([]))

    with pytest.raises(ResponseError, match="unexpected body: Expected `object`"):
        await client.stop_job("web")
