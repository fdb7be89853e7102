"""The list of jobs: namespaces, prefixes, filters, pages, and waiting for a change."""

import pytest

from nodestate.api.job_listing import format_token, parse_token
from nodestate.model.job import JobKey
from tests.api.conftest import Answer, Api
from tests.api.working import add_node, job_body, report, schedule, submit

STUB = {
    "ID", "ParentID", "Name", "Datacenters", "Type", "Priority", "Periodic",
    "ParameterizedJob", "Stop", "Status", "StatusDescription", "JobSummary",
    "CreateIndex", "ModifyIndex", "JobModifyIndex", "SubmitTime",
}  # fmt: skip


async def in_namespace(api: Api, namespace: str, id_: str) -> Answer:
    body = job_body(id_, Namespace=namespace)
    answer = await api.put(f"/v1/jobs?namespace={namespace}", {"Job": body})
    assert answer.status == 200, answer.text
    return answer


async def ids(api: Api, query: str = "") -> list[str]:
    answer = await api.get(f"/v1/jobs?{query}")
    assert answer.status == 200, answer.text
    return [stub["ID"] for stub in answer.json]


async def test_a_fresh_cluster_has_no_jobs_and_is_never_at_index_0(api: Api):
    answer = await api.get("/v1/jobs")

    assert (answer.status, answer.body, answer.index) == (200, b"[]", 1)


async def test_the_list_has_a_stub_for_each_job_by_id(api: Api):
    for id_ in ("b", "a/c"):
        await submit(api, id_)
    index = (await submit(api, "B", Type="batch")).index
    answer = await api.get("/v1/jobs")

    assert [stub["ID"] for stub in answer.json] == ["B", "a/c", "b"]
    assert answer.index == index
    stub = answer.json[0]
    assert stub.keys() == STUB
    assert (stub["Periodic"], stub["ParameterizedJob"]) == (False, False)
    assert stub["JobSummary"]["Summary"]["grp"]["Queued"] == 0
    assert stub["JobSummary"]["Children"] == {"Pending": 0, "Running": 0, "Dead": 0}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("web", ["web", "web-1", "web-2"]),
        ("web-", ["web-1", "web-2"]),
        ("w", ["web", "web-1", "web-2"]),
        ("eb", []),
        ("%FF", []),
    ],
)
async def test_a_prefix_is_a_plain_one(api: Api, prefix, expected):
    for id_ in ("web", "web-2", "web-1", "api"):
        await submit(api, id_)

    assert await ids(api, f"prefix={prefix}") == expected


async def test_a_list_is_of_one_namespace_or_of_all(api: Api):
    await submit(api, "b")
    await in_namespace(api, "team", "a")

    assert await ids(api) == ["b"]
    assert await ids(api, "namespace=team") == ["a"]
    assert await ids(api, "namespace=none") == []
    everywhere = (await api.get("/v1/jobs?namespace=*")).json
    shown = [(stub["Namespace"], stub["ID"]) for stub in everywhere]
    assert shown == [("default", "b"), ("team", "a")]
    assert await ids(api, "namespace=*&prefix=a") == ["a"]
    assert (await api.get("/v1/jobs?namespace=a%20b")).status == 400


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ('Type == "batch"', ["two"]),
        ('Type != "batch"', ["one"]),
        ('Meta.owner == "as"', ["two"]),
        ('ID matches "^o"', ["one"]),
        ("Priority == 70", ["one"]),
        ("Stop == true", []),
    ],
)
async def test_a_filter_looks_at_jobs_own_fields(api: Api, filter_, expected):
    await submit(api, "one", Priority=70)
    await submit(api, "two", Type="batch", Meta={"owner": "as"})

    quoted = filter_.replace(" ", "%20").replace('"', "%22")
    assert await ids(api, f"filter={quoted}") == expected


async def test_a_filter_that_makes_no_sense_is_refused(api: Api):
    answer = await api.get("/v1/jobs?filter=NodeClass%20==%201")

    assert answer.status == 400
    assert "no field is called 'NodeClass'" in answer.text


@pytest.mark.parametrize("per_page", [1, 2, 3])
async def test_pages_lead_through_all_namespaces(api: Api, per_page):
    expected = ["a.b", "x%y", "é/z", "a.b"]
    for id_ in expected[:3]:
        await submit(api, id_)
    await in_namespace(api, "team", "a.b")
    seen: list[str] = []
    query = f"/v1/jobs?namespace=*&per_page={per_page}"
    token = ""
    for _ in expected:
        answer = await api.get(f"{query}&next_token={token.replace('%', '%25')}")
        seen += [stub["ID"] for stub in answer.json]
        assert len(answer.json) <= per_page
        token = answer.headers.get("x-nomad-nexttoken", "")
        if not token:
            break

    assert seen == expected


async def test_a_page_goes_on_though_its_first_job_has_gone(api: Api):
    for id_ in ("a", "b", "c"):
        await submit(api, id_)
    answer = await api.get("/v1/jobs?per_page=1")
    await api.ask("DELETE", "/v1/job/b?purge=true")

    token = answer.headers["x-nomad-nexttoken"]
    assert await ids(api, f"next_token={token}") == ["c"]


@pytest.mark.parametrize(
    "query", ["per_page=x", "per_page=-1", "next_token=" + "a" * 1025]
)
async def test_pages_that_make_no_sense_are_refused(api: Api, query):
    assert (await api.get(f"/v1/jobs?{query}")).status == 400


@pytest.mark.parametrize(
    "key", [("default", "web"), ("a", "x.y/z"), ("a", "é %\n"), ("a", "")]
)
def test_tokens_say_where_a_page_begins(key):
    token = format_token(JobKey(key)).decode("ascii")

    assert token.isprintable()
    assert parse_token(token) == key


async def test_a_list_waits_for_any_job_of_its_own(api: Api):
    index = (await submit(api)).index

    async def write() -> None:
        await in_namespace(api, "team", "web")
        await api.until_waiting()
        await submit(api, "other")

    answer = await api.read_during(f"/v1/jobs?index={index}", write)

    assert [stub["ID"] for stub in answer.json] == ["other", "web"]
    # The index is the table's, whatever moved it.
    assert answer.index == index + 2


@pytest.mark.parametrize("query", ["prefix=we", "namespace=*", "namespace=*&prefix=z"])
async def test_lists_of_all_kinds_wait(api: Api, query):
    index = (await submit(api, "other")).index

    answer = await api.read_during(
        f"/v1/jobs?{query}&index={index}", lambda: submit(api)
    )

    assert answer.index == index + 1


async def test_a_stub_is_encoded_once_for_each_version(api: Api, monkeypatch):
    await submit(api, "a")
    await submit(api, "b")
    await api.get("/v1/jobs")
    encoded: list[str] = []

    def encode(job: object, summary: object, **_: object) -> bytes:
        encoded.append(job.id)  # type: ignore[attr-defined]
        return b'{"ID":"x"}'

    monkeypatch.setattr("nodestate.api.job_listing.encode_job_stub", encode)
    await api.get("/v1/jobs")
    assert encoded == []
    await submit(api, "b", Priority=60)
    await api.get("/v1/jobs")
    assert encoded == ["b"]


async def test_a_stub_shows_the_numbers_of_the_moment(api: Api):
    await add_node(api)
    await submit(api)
    schedule(api)
    placed = (await api.get("/v1/jobs")).json[0]
    report(api, "running")
    running = (await api.get("/v1/jobs")).json[0]

    # The job itself is the same record as before.
    assert placed["ModifyIndex"] == running["ModifyIndex"]
    assert placed["JobSummary"]["Summary"]["grp"]["Starting"] == 1
    assert running["JobSummary"]["Summary"]["grp"]["Running"] == 1


async def test_a_list_is_pretty_and_has_a_head(api: Api):
    await submit(api)

    plain, pretty = await api.get("/v1/jobs"), await api.get("/v1/jobs?pretty")

    assert plain.json == pretty.json
    assert b"\n    {\n" in pretty.body
    assert (await api.ask("HEAD", "/v1/jobs")).headers == plain.headers
