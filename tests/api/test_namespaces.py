"""Namespaces are there as long as something is in them."""

import pytest

from tests.api.conftest import Answer, Api, ApiFactory
from tests.api.guarding import KINDS, guard
from tests.api.working import job_body, submit

LIST = "/v1/namespaces"
ONE = "/v1/namespace"


async def submit_in(api: Api, namespace: str, id_: str = "web") -> Answer:
    body = {"Job": job_body(id_, Namespace=namespace)}
    answer = await api.put(f"/v1/jobs?namespace={namespace}", body)
    assert answer.status == 200, answer.text
    return answer


async def names(api: Api, query: str = "") -> list[str]:
    listed = (await api.get(LIST + query)).json
    return [one["Name"] for one in listed]


async def test_there_is_always_the_default(api):
    answer = await api.get(LIST)

    assert answer.json == [
        {
            "Capabilities": None,
            "CreateIndex": 1,
            "Description": "Default shared namespace",
            "Meta": None,
            "ModifyIndex": 1,
            "Name": "default",
            "NodePoolConfiguration": None,
            "Quota": "",
        }
    ]
    assert answer.index == 1
    assert (await api.get(f"{ONE}/default")).json == answer.json[0]


async def test_one_comes_with_its_first_job_and_goes_with_its_last(api):
    created = (await submit_in(api, "team")).index
    await submit_in(api, "team", "web2")
    await submit(api)

    answer = await api.get(f"{ONE}/team")
    assert await names(api) == ["default", "team"]
    assert answer.json["CreateIndex"] == answer.json["ModifyIndex"] == created
    assert answer.index == api.replica.state().table_index("jobs")
    for id_ in ("web", "web2"):
        await api.ask("DELETE", f"/v1/job/{id_}?purge=true&namespace=team")

    gone = await api.get(f"{ONE}/team")
    assert await names(api) == ["default"]
    assert (gone.status, gone.text) == (404, "Namespace not found")
    assert gone.index > answer.index


async def test_they_are_listed_by_prefix(api):
    for name in ("team-b", "team-a", "other"):
        await submit_in(api, name)

    assert await names(api, "?prefix=team") == ["team-a", "team-b"]


async def test_a_reader_waits_for_the_next_one(api):
    index = (await api.get(LIST)).index

    answer = await api.read_during(
        f"{LIST}?index={index}&wait=30s", lambda: submit_in(api, "team")
    )

    assert [one["Name"] for one in answer.json] == ["default", "team"]
    assert answer.index > index


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ONE),
        ("PUT", ONE),
        ("POST", f"{ONE}/team"),
        ("DELETE", f"{ONE}/default"),
    ],
)
async def test_none_is_written(api, method, path):
    answer = await api.ask(method, path, {"Name": "team"})

    assert answer.status == 501
    assert "as soon as a job names it" in answer.text
    assert await names(api) == ["default"]


async def test_everybody_sees_those_in_which_they_may_do_anything(
    make_api: ApiFactory,
):
    guarded = await guard(await make_api(acl_enabled=True))
    secret = guarded.may(team='namespace "team" { policy = "read" }')

    seen = await guarded.get(LIST, secret)
    everything = await guarded.get(LIST, KINDS["management"])

    assert {one["Name"] for one in seen.json} <= {"team"}
    assert {one["Name"] for one in everything.json} > {"default"}
    assert (await guarded.get(f"{ONE}/default", secret)).status == 403
    assert (await guarded.get(f"{ONE}/nowhere", secret)).status == 403
