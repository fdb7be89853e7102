"""Reading jobs: one, its numbers, its versions, and what there is of it."""

from typing import Any

import pytest

from tests.api.conftest import NODE_ID, Api
from tests.api.working import (
    add_node,
    evaluations,
    group_body,
    job_body,
    report,
    schedule,
    submit,
)

READS = ("", "/allocations", "/evaluations", "/summary", "/versions")


async def purge(api: Api, job_id: str = "web") -> None:
    answer = await api.ask("DELETE", f"/v1/job/{job_id}?purge=true")
    assert answer.status == 200, answer.text


async def allocations(api: Api, query: str = "") -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (
        await api.get(f"/v1/job/web/allocations{query}")
    ).json
    return listed


# One job


async def test_a_job_is_read_in_full_at_its_own_index(api: Api):
    await submit(api)
    await submit(api, "other")
    answer = await api.get("/v1/job/web")

    job = answer.json
    assert answer.status == 200
    assert answer.index == job["ModifyIndex"] == 10
    assert job["Name"] == job["ID"] == "web"
    assert (job["Status"], job["Version"], job["Stable"]) == ("pending", 0, False)
    assert job["Payload"] is job["Periodic"] is job["ParameterizedJob"] is None
    # Nine keys on the wire, whatever the job's author said.
    assert len(job["Update"]) == len(job["TaskGroups"][0]["Update"]) == 9


@pytest.mark.parametrize(
    ("tail", "status", "body"),
    [
        ("", 404, "job not found"),
        ("/summary", 404, "job not found"),
        ("/versions", 404, "job versions not found"),
        ("/allocations", 200, "[]"),
        ("/evaluations", 200, "[]"),
        ("/deployments", 200, "[]"),
        ("/deployment", 200, "null"),
    ],
)
async def test_a_job_that_is_unknown_has_nothing(api: Api, tail, status, body):
    fresh = await api.get(f"/v1/job/none{tail}")

    assert (fresh.status, fresh.text, fresh.index) == (status, body, 1)
    assert fresh.headers["x-nomad-knownleader"] == "true"


async def test_the_index_of_a_job_that_is_unknown_is_the_tables(api: Api):
    index = (await submit(api)).index

    assert (await api.get("/v1/job/none")).index == index


@pytest.mark.parametrize("path", ["team/web", "team%2Fweb", "team%2fweb"])
async def test_ids_may_hold_slashes_escaped_or_not(api: Api, path):
    await submit(api, "team/web")

    assert (await api.get(f"/v1/job/{path}")).json["ID"] == "team/web"
    for tail in READS[1:]:
        assert (await api.get(f"/v1/job/{path}{tail}")).status == 200


async def test_ids_may_hold_anything_that_is_escaped(api: Api):
    await submit(api, "a?b%c#d/é")

    path = "/v1/job/a%3Fb%25c%23d%2F%C3%A9"
    assert (await api.get(path)).json["ID"] == "a?b%c#d/é"
    assert (await api.get(f"{path}/summary")).status == 200


async def test_an_id_that_is_no_text_names_no_job(api: Api):
    answer = await api.get("/v1/job/%FF")

    assert (answer.status, answer.text) == (400, "job ID is not valid Unicode")


@pytest.mark.parametrize("path", ["/v1/job", "/v1/job/", "/v1/job//summary"])
async def test_a_path_lacks_its_id(api: Api, path):
    answer = await api.get(path)

    assert (answer.status, answer.text) == (400, "missing job ID")


@pytest.mark.parametrize("tail", READS)
async def test_jobs_of_other_namespaces_are_others(api: Api, tail):
    body = job_body(Namespace="team", Priority=70)
    await api.put("/v1/jobs?namespace=team", {"Job": body})

    mine = await api.get(f"/v1/job/web{tail}?namespace=team")
    others = await api.get(f"/v1/job/web{tail}")

    assert mine.status == 200
    assert others.status == 404 or others.text == "[]"


@pytest.mark.parametrize("name", ["*", "a%20b", "a%2A"])
@pytest.mark.parametrize("tail", READS)
async def test_a_namespace_is_one_with_a_name(api: Api, tail, name):
    answer = await api.get(f"/v1/job/web{tail}?namespace={name}")

    assert answer.status == 400
    assert "namespace" in answer.text


@pytest.mark.parametrize("tail", READS)
async def test_reads_are_pretty_and_have_heads(api: Api, tail):
    await add_node(api)
    await submit(api)
    schedule(api)
    path = f"/v1/job/web{tail}"

    plain, pretty = await api.get(path), await api.get(f"{path}?pretty")
    head = await api.ask("HEAD", path)

    assert pretty.json == plain.json
    assert pretty.body.count(b"\n") > 5
    assert head.headers == plain.headers
    packed = await api.get(path, {"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"


async def test_a_job_is_encoded_once_for_each_version(api: Api, monkeypatch):
    await submit(api)
    first = await api.get("/v1/job/web")
    monkeypatch.setattr("nodestate.api.jobs.encode_job", lambda _: b"again")

    assert (await api.get("/v1/job/web")).body == first.body
    await submit(api, Priority=60)
    assert (await api.get("/v1/job/web")).body == b"again"


# Waiting


async def test_a_read_of_a_job_waits_for_that_job(api: Api):
    index = (await submit(api)).index

    async def write() -> None:
        await submit(api, "other")
        await submit(api, Priority=60)

    answer = await api.read_during(f"/v1/job/web?index={index}", write)

    assert answer.json["Priority"] == 60
    assert answer.index == index + 2


async def test_what_moves_the_table_alone_does_not_end_a_wait(api: Api):
    index = (await submit(api)).index
    await submit(api, "other")

    answer = await api.read_during(
        f"/v1/job/web?index={index}", lambda: submit(api, Priority=60)
    )

    assert answer.json["Priority"] == 60


async def test_a_read_of_a_job_waits_for_it_to_come_and_to_go(api: Api):
    came = await api.read_during("/v1/job/web?index=1", lambda: submit(api))
    assert (came.status, came.json["ID"]) == (200, "web")

    gone = await api.read_during(f"/v1/job/web?index={came.index}", lambda: purge(api))
    assert (gone.status, gone.text, gone.index) == (
        404,
        "job not found",
        came.index + 1,
    )


async def test_a_summary_waits_for_other_numbers(api: Api):
    await add_node(api)
    await submit(api)
    schedule(api)
    index = (await api.get("/v1/job/web/summary")).index

    async def write() -> None:
        report(api, "running")

    answer = await api.read_during(f"/v1/job/web/summary?index={index}", write)

    assert answer.json["Summary"]["grp"]["Running"] == 1
    assert answer.index == answer.json["ModifyIndex"] > index


@pytest.mark.parametrize("tail", ["allocations", "evaluations"])
async def test_what_there_is_of_a_job_waits_for_that_alone(api: Api, tail):
    await add_node(api)
    await submit(api)
    schedule(api)
    index = (await api.get(f"/v1/job/web/{tail}")).index
    seen: list[int] = []

    async def write() -> None:
        await submit(api, "other")
        schedule(api)
        await api.until_waiting()
        seen.append((await api.get(f"/v1/job/web/{tail}")).index)
        await api.ask("DELETE", "/v1/job/web")
        schedule(api)

    answer = await api.read_during(f"/v1/job/web/{tail}?index={index}", write)

    # The index is the table's: what is another job's has moved it, and woken nobody.
    assert index < seen[0] < answer.index
    assert len(answer.json) in {1, 2}


async def test_a_wait_that_nothing_ends_runs_out(api: Api):
    path = "/v1/job/web/deployments?index=1&wait=2s"
    answer = await api.read_while_time_passes(path, 3)

    assert (answer.status, answer.text, answer.index) == (200, "[]", 1)


# What there is of a job


@pytest.mark.row("JB8")
async def test_what_a_purged_job_ran_is_told_to_stop_and_still_listed(api: Api):
    await add_node(api)
    await submit(api, Type="system")
    schedule(api)
    report(api, "running")

    await purge(api)
    schedule(api)

    assert (await api.get("/v1/job/web")).status == 404
    (listed,) = (await api.get(f"/v1/node/{NODE_ID}/allocations")).json
    assert (listed["DesiredStatus"], listed["ClientStatus"]) == ("stop", "running")
    # There is no current job of that id, so all of them are shown.
    assert [one["ID"] for one in await allocations(api)] == [listed["ID"]]


@pytest.mark.row("JB10")
async def test_allocations_are_those_of_the_job_that_is_there_now(api: Api):
    await add_node(api)
    await submit(api)
    schedule(api)
    (old,) = await allocations(api)
    await purge(api)
    schedule(api)
    await submit(api)
    schedule(api)

    (new,) = await allocations(api)
    both = await allocations(api, "?all=true")

    assert new["ID"] != old["ID"]
    assert [one["ID"] for one in both] == sorted([old["ID"], new["ID"]])
    assert await allocations(api, "?all=false") == await allocations(api, "?all=")
    assert await allocations(api, "?all=0") == [new]


async def test_a_flag_that_is_no_word_is_refused(api: Api):
    answer = await api.get("/v1/job/web/allocations?all=maybe")

    assert answer.status == 400
    assert answer.text.startswith('Failed to parse value of "all" (maybe) as a bool')


async def test_evaluations_are_in_full_by_status_then_id(api: Api):
    await submit(api)
    schedule(api)  # there is no node: one waits for room
    for _ in range(3):
        await submit(api)

    listed = (await api.get("/v1/job/web/evaluations")).json

    order = [(one["Status"], one["ID"]) for one in listed]
    assert order == sorted(order)
    assert [one["Status"] for one in listed] == [
        "blocked", "complete", "pending", "pending", "pending",
    ]  # fmt: skip
    blocked = listed[0]
    assert (blocked["EscapedComputedClass"], blocked["ClassEligibility"]) == (
        True,
        None,
    )
    assert blocked["WaitUntil"] is None
    assert {one["ID"] for one in listed} == {one.id for one in evaluations(api)}


@pytest.mark.row("JB18")
async def test_a_summary_counts_what_is_placed_and_what_becomes_of_it(api: Api):
    await add_node(api)
    await submit(api)
    seen = []
    for status in ("", "running", "failed"):
        if status:
            report(api, status)
        else:
            schedule(api)
        groups = (await api.get("/v1/job/web/summary")).json["Summary"]
        seen.append({name: n for name, n in groups["grp"].items() if n})

    assert seen == [{"Starting": 1}, {"Running": 1}, {"Failed": 1}]


# Versions


async def test_versions_are_listed_the_newest_first(api: Api):
    for priority in (50, 60, 70):
        await submit(api, Priority=priority)

    answer = (await api.get("/v1/job/web/versions")).json

    assert [one["Version"] for one in answer["Versions"]] == [2, 1, 0]
    assert [one["Priority"] for one in answer["Versions"]] == [70, 60, 50]
    assert answer["Diffs"] is None
    assert answer["KnownLeader"] is True


async def test_versions_say_what_each_changed(api: Api):
    await submit(api)
    await submit(api, TaskGroups=[group_body(), group_body(Name="second")])
    await submit(api, Priority=60)

    diffs = (await api.get("/v1/job/web/versions?diffs=true")).json["Diffs"]

    types = [
        {group["Name"]: group["Type"] for group in diff["TaskGroups"]} for diff in diffs
    ]
    assert types == [
        {"grp": "None", "second": "Deleted"},
        {"grp": "None", "second": "Added"},
    ]


async def test_versions_of_an_earlier_job_of_the_id_are_not_shown(api: Api):
    await add_node(api)
    await submit(api)
    schedule(api)
    await purge(api)
    schedule(api)
    await submit(api, Priority=60)

    versions = (await api.get("/v1/job/web/versions")).json["Versions"]

    assert [one["Priority"] for one in versions] == [60]
