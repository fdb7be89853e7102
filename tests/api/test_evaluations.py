"""Evaluations over HTTP: all of them, and one."""

import pytest

from nodestate.fsm.state import EVALUATIONS
from tests.api.conftest import UNKNOWN_ID, Api
from tests.api.working import (
    add_node,
    evaluations,
    job_body,
    schedule,
    still_waits,
    submit,
)


@pytest.fixture
async def working(api: Api) -> Api:
    """Two jobs that were looked at, and one that fits nowhere."""
    await add_node(api)
    for id_ in ("web", "api", "big"):
        await submit(api, id_, Datacenters=["none"] if id_ == "big" else ["dc1"])
    schedule(api)
    return api


def table_index(api: Api) -> int:
    return api.replica.state().table_index(EVALUATIONS)


def all_ids(api: Api) -> list[str]:
    return sorted(api.replica.state().evaluations)


async def test_the_list_has_all_in_full_by_id(working: Api):
    answer = await working.get("/v1/evaluations")

    assert [one["ID"] for one in answer.json] == all_ids(working)
    assert {one["Status"] for one in answer.json} == {"complete", "blocked"}
    # Every key, whatever its value.
    assert all(one["DeploymentID"] == "" for one in answer.json)
    assert answer.index == table_index(working)


async def test_the_list_of_nothing_is_never_at_index_0(api: Api):
    answer = await api.get("/v1/evaluations")

    assert (answer.body, answer.index) == (b"[]", 1)


async def test_the_list_waits_for_any(working: Api):
    path = f"/v1/evaluations?index={table_index(working)}"

    answer = await working.read_during(path, lambda: submit(working, "more"))

    assert len(answer.json) == len(all_ids(working))
    assert answer.index == table_index(working)


@pytest.mark.parametrize(
    ("query", "jobs"),
    [
        ("status=blocked", ["big"]),
        ("job=web", ["web"]),
        ("job=big&status=complete", ["big"]),
        ("job=web&status=blocked", []),
        ('filter=TriggeredBy=="queued-allocs"', ["big"]),
        ('status=blocked&filter=JobID=="web"', []),
        ("namespace=none", []),
    ],
)
async def test_some_can_be_asked_for(working: Api, query, jobs):
    answer = await working.get(f"/v1/evaluations?{query}")

    assert answer.status == 200
    assert [one["JobID"] for one in answer.json] == jobs


async def test_a_prefix_and_pages_are_parts_of_the_list(working: Api):
    first, second, *_ = ids = all_ids(working)
    prefix = first.replace("-", "")[:10]

    page = await working.get("/v1/evaluations?per_page=1")
    rest = await working.get(f"/v1/evaluations?next_token={second}&pretty")
    found = await working.get(f"/v1/evaluations?prefix={prefix}")

    assert [one["ID"] for one in page.json] == [first]
    assert page.headers["x-nomad-nexttoken"] == second
    assert [one["ID"] for one in rest.json] == ids[1:]
    assert rest.body.startswith(b"[\n    {\n")
    assert [one["ID"] for one in found.json] == [first]


async def test_a_prefix_waits_for_its_own(working: Api):
    state = working.replica.state()
    (blocked,) = state.blocked_evaluations()
    prefix = blocked.id.replace("-", "")[:10]
    path = f"/v1/evaluations?prefix={prefix}&index={table_index(working)}"

    async def write() -> None:
        await submit(working, "more")
        await still_waits(working)
        # With room found, what waits for it is over.
        await submit(working, "big")
        schedule(working)

    answer = await working.read_during(path, write)

    assert [one["Status"] for one in answer.json] == ["canceled"]


async def test_namespaces_have_lists_of_their_own_and_all_have_one(working: Api):
    sent = {"Job": job_body("other", Namespace="dev")}
    assert (await working.put("/v1/jobs?namespace=dev", sent)).status == 200

    dev = await working.get("/v1/evaluations?namespace=dev")
    everything = await working.get("/v1/evaluations?namespace=*")

    assert [one["JobID"] for one in dev.json] == ["other"]
    assert len(everything.json) == len(all_ids(working))
    assert len((await working.get("/v1/evaluations")).json) == len(all_ids(working)) - 1


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("prefix=123", "eval lookup failed: index error: Input (without hyphens) must"),
        ("filter=Nope==1", "failed to create result paginator"),
        ("per_page=x", "Expect a number for `per_page`"),
        ("namespace=a_b", "invalid namespace"),
    ],
)
async def test_what_cannot_be_asked_of_the_list_is_said(api: Api, query, text):
    answer = await api.get(f"/v1/evaluations?{query}")

    assert (answer.status, answer.text[: len(text)]) == (400, text)


# One


async def test_one_is_read_at_its_own_index(working: Api):
    (evaluation,) = evaluations(working, "web")

    answer = await working.get(f"/v1/evaluation/{evaluation.id.upper()}")

    assert answer.json["ID"] == evaluation.id
    assert answer.json["QueuedAllocations"] == {"grp": 0}
    assert answer.index == answer.json["ModifyIndex"] < table_index(working)
    pretty = await working.get(f"/v1/evaluation/{evaluation.id}?pretty")
    assert pretty.body.startswith(b"{\n    ")


async def test_one_that_is_unknown_has_the_tables_index(working: Api):
    answer = await working.get(f"/v1/evaluation/{UNKNOWN_ID}")

    assert (answer.status, answer.text) == (404, "eval not found")
    assert answer.index == table_index(working)


async def test_an_id_that_is_none_is_refused(api: Api):
    answer = await api.get("/v1/evaluation/f747")

    assert answer.status == 400
    assert answer.text == "eval lookup failed: index error: UUID must be 36 characters"


async def test_one_waits_for_itself_alone(working: Api):
    await submit(working, "late")
    evaluation = evaluations(working, "late")[-1]
    index = evaluation.modify_index
    await submit(working, "later")

    async def write() -> None:
        await submit(working, "more")
        await still_waits(working)
        schedule(working)

    answer = await working.read_during(
        f"/v1/evaluation/{evaluation.id}?index={index}", write
    )

    assert answer.json["Status"] == "complete"
    assert answer.index == answer.json["ModifyIndex"] > index


async def test_one_that_is_not_there_yet_is_waited_for(api: Api):
    answer = await api.read_while_time_passes(
        f"/v1/evaluation/{UNKNOWN_ID}?index=100&wait=1s", 2.0
    )

    assert (answer.status, answer.index) == (404, 1)
