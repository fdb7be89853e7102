"""Allocations over HTTP: all, one, those of a node or an evaluation; and stopping one."""

from typing import Any

import pytest

from nodestate.fsm.state import ALLOCATIONS
from nodestate.model.allocation import RUNNING
from nodestate.model.command import CollectGarbage, DeregisterJob
from nodestate.model.job import JobKey
from tests.api.conftest import NODE_ID, NODE_PATH, OTHER_ID, UNKNOWN_ID, Api
from tests.api.working import (
    add_node,
    evaluations,
    job_body,
    report,
    schedule,
    still_waits,
    submit,
)
from tests.conformance.rows import case, rows

NODE_LIST = f"{NODE_PATH}/allocations"


@pytest.fixture
async def working(api: Api) -> Api:
    """A node that runs two allocations of `web`, as far as the servers know."""
    await add_node(api)
    await submit(api, TaskGroups=[group(2)])
    schedule(api)
    return api


def group(count: int, **fields: Any) -> dict[str, Any]:
    task = {"Name": "app", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"}}
    return {"Name": "grp", "Count": count, "Tasks": [task], **fields}


def placed(api: Api) -> list[str]:
    return sorted(api.replica.state().allocations)


def table_index(api: Api) -> int:
    return api.replica.state().table_index(ALLOCATIONS)


async def submit_and_schedule(api: Api, id_: str) -> None:
    await submit(api, id_)
    schedule(api)


def collect(api: Api, *ids: str) -> None:
    api.replica.apply(CollectGarbage(at_ns=api.clock.now_ns(), allocation_ids=ids))


def purge_job(api: Api, id_: str = "web") -> None:
    command = DeregisterJob(
        at_ns=api.clock.now_ns(),
        key=JobKey(("default", id_)),
        seed=api.ids.new_seed(),
        is_purge=True,
    )
    api.replica.apply(command)
    schedule(api)


# The list


async def test_the_list_has_an_entry_for_each_by_id(working: Api):
    answer = await working.get("/v1/allocations")

    assert answer.status == 200
    assert [one["ID"] for one in answer.json] == placed(working)
    assert answer.index == table_index(working)
    assert "Job" not in answer.json[0]


async def test_the_list_of_nothing_is_never_at_index_0(api: Api):
    answer = await api.get("/v1/allocations")

    assert (answer.body, answer.index) == (b"[]", 1)


async def test_the_list_waits_for_any_allocation(working: Api):
    path = f"/v1/allocations?index={table_index(working)}"

    answer = await working.read_during(path, lambda: submit_and_schedule(working, "b"))

    assert len(answer.json) == 3
    assert answer.index == table_index(working)


async def test_a_prefix_is_part_of_the_list_and_waits_for_its_own(working: Api):
    first, second = placed(working)
    prefix = first.replace("-", "")[:10]
    path = f"/v1/allocations?prefix={prefix.upper()}&index={table_index(working)}"

    assert [one["ID"] for one in (await working.get(path[:-9])).json] == [first]
    answer = await working.read_during(path, lambda: report_one(working, first))

    assert [one["ClientStatus"] for one in answer.json] == [RUNNING]
    assert first[:10] != second[:10]


async def report_one(api: Api, id_: str) -> None:
    answer = await api.put(
        NODE_LIST,
        {
            "SecretID": "6f8d9c11-0000-4000-8000-000000000001",
            "Alloc": [{"ID": id_, "ClientStatus": RUNNING}],
        },
    )
    assert answer.status == 200, answer.text


async def test_a_change_elsewhere_does_not_end_the_wait_of_a_prefix(working: Api):
    first, second = placed(working)
    prefix = first.replace("-", "")[:10]
    index = table_index(working)

    path = f"/v1/allocations?prefix={prefix}&index={index}&wait=1s"
    answer = await working.read_during(path, lambda: other_and_time(working, second))

    assert [one["ID"] for one in answer.json] == [first]
    # What the wait's end shows is the table as it is then.
    assert answer.index == table_index(working) > index


async def other_and_time(api: Api, id_: str) -> None:
    await report_one(api, id_)
    await still_waits(api)
    for _ in range(30):
        await api.clock.step(0.05)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            "prefix=123",
            "alloc lookup failed: index error: Input (without hyphens) must",
        ),
        ("prefix=zz", "alloc lookup failed: index error: Invalid UUID"),
        ("per_page=x", "Expect a number for `per_page`"),
        ("filter=Nope==1", "failed to create result paginator"),
        ("resources=maybe", 'Failed to parse value of "resources" (maybe) as a bool'),
        ("task_states=maybe", 'Failed to parse value of "task_states"'),
        ("namespace=a_b", "invalid namespace"),
        ("next_token=" + "0" * 65, "`next_token` has 65 characters"),
        ("index=x", "Invalid index"),
    ],
)
async def test_what_cannot_be_asked_of_the_list_is_said(api: Api, query, text):
    answer = await api.get(f"/v1/allocations?{query}")

    assert (answer.status, answer.text[: len(text)]) == (400, text)


async def test_pages_filters_and_more_fields(working: Api):
    first, second = placed(working)

    page = await working.get("/v1/allocations?per_page=1")
    rest = await working.get(f"/v1/allocations?next_token={second}")
    found = await working.get(f'/v1/allocations?filter=ID=="{second}"')
    more = await working.get("/v1/allocations?resources=true")
    less = await working.get("/v1/allocations?task_states=false")

    assert [one["ID"] for one in page.json] == [first]
    assert page.headers["x-nomad-nexttoken"] == second
    assert [one["ID"] for one in rest.json] == [second]
    assert "x-nomad-nexttoken" not in rest.headers
    assert [one["ID"] for one in found.json] == [second]
    assert more.json[0]["AllocatedResources"]["Tasks"]["app"]["Cpu"]["CpuShares"] == 100
    assert less.json[0]["TaskStates"] is None


async def test_each_namespace_has_a_list_and_all_have_one(working: Api):
    sent = {"Job": job_body("other", Namespace="dev")}
    assert (await working.put("/v1/jobs?namespace=dev", sent)).status == 200
    schedule(working)

    lists = {
        name: (await working.get(f"/v1/allocations?namespace={name}")).json
        for name in ("default", "dev", "*", "none")
    }

    assert {name: len(found) for name, found in lists.items()} == {
        "default": 2,
        "dev": 1,
        "*": 3,
        "none": 0,
    }


async def test_lists_are_indented_for_people(working: Api):
    answer = await working.get("/v1/allocations?pretty")

    assert answer.body.startswith(b"[\n    {\n        ")
    assert answer.json == (await working.get("/v1/allocations")).json


# One


async def test_one_is_read_in_full_at_its_own_index(working: Api):
    id_, _ = placed(working)
    await submit_and_schedule(working, "later")

    answer = await working.get(f"/v1/allocation/{id_.upper()}")

    assert answer.status == 200
    assert answer.json["ID"] == id_
    assert answer.json["Job"]["ID"] == "web"
    assert answer.index == answer.json["ModifyIndex"] < table_index(working)


async def test_one_that_is_unknown_has_the_tables_index(working: Api):
    answer = await working.get(f"/v1/allocation/{UNKNOWN_ID}")

    assert (answer.status, answer.text) == (404, "alloc not found")
    assert answer.index == table_index(working)
    assert answer.headers["x-nomad-knownleader"] == "true"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("allocation/f747", "alloc lookup failed: index error: UUID must be 36"),
        ("allocation/", "missing allocation ID"),
        (
            "evaluation/f747/allocations",
            "eval lookup failed: index error: UUID must be",
        ),
        ("evaluation/", "missing evaluation ID"),
    ],
)
async def test_an_id_that_is_none_is_refused(api: Api, path, text):
    answer = await api.get(f"/v1/{path}")

    assert (answer.status, answer.text[: len(text)]) == (400, text)


async def test_one_waits_for_itself_alone(working: Api):
    first, second = placed(working)
    index = (await working.get(f"/v1/allocation/{first}")).index
    await submit_and_schedule(working, "later")

    async def write() -> None:
        await report_one(working, second)
        await still_waits(working)
        await report_one(working, first)

    answer = await working.read_during(f"/v1/allocation/{first}?index={index}", write)

    assert answer.json["ClientStatus"] == RUNNING
    assert answer.index == answer.json["ModifyIndex"] == table_index(working)


# Those of an evaluation


async def test_those_that_an_evaluation_made_are_entries_by_id(working: Api):
    (evaluation,) = evaluations(working)
    await submit_and_schedule(working, "other")

    answer = await working.get(f"/v1/evaluation/{evaluation.id}/allocations")
    none = await working.get(f"/v1/evaluation/{UNKNOWN_ID}/allocations")

    assert [one["EvalID"] for one in answer.json] == [evaluation.id] * 2
    assert answer.json == sorted(answer.json, key=lambda one: one["ID"])
    assert answer.index == none.index == table_index(working)
    assert (none.status, none.body) == (200, b"[]")


async def test_those_of_an_evaluation_wait_for_their_own(working: Api):
    (evaluation,) = evaluations(working)
    path = f"/v1/evaluation/{evaluation.id}/allocations?index={table_index(working)}"

    async def write() -> None:
        await submit_and_schedule(working, "other")
        await still_waits(working)
        await report_one(working, placed_of(working, "web")[0])

    answer = await working.read_during(path, write)

    assert len(answer.json) == 2


def placed_of(api: Api, job_id: str) -> list[str]:
    found = api.replica.state().allocations.values()
    return sorted(one.id for one in found if one.job_id == job_id)


# Those of a node


@rows("A4")
async def test_the_list_of_a_node_is_empty_and_never_at_index_0(api: Api):
    await api.register()

    answer = await api.get(NODE_LIST)

    assert (answer.status, answer.body, answer.index) == (200, b"[]", 1)


@pytest.mark.row("AL16")
async def test_a_node_that_is_unknown_has_none_at_the_tables_index(working: Api):
    answer = await working.get(f"/v1/node/{UNKNOWN_ID}/allocations")

    assert (answer.status, answer.body) == (200, b"[]")
    assert answer.index == table_index(working)


@pytest.mark.row("AL16")
async def test_those_of_a_purged_node_are_still_listed(working: Api):
    await working.put(f"{NODE_PATH}/purge")

    assert len((await working.get(NODE_LIST)).json) == 2


async def test_those_of_a_node_are_in_full_with_their_job(working: Api):
    answer = await working.get(NODE_LIST)

    one = answer.json[0]
    assert [one["ID"] for one in answer.json] == placed(working)
    assert one["Job"]["TaskGroups"][0]["Count"] == 2
    # Every key, whatever its value.
    assert (one["DeploymentID"], one["TaskStates"]) == ("", None)
    assert one["NodeID"] == NODE_ID


async def test_their_index_is_that_of_the_latest_of_them(working: Api):
    before = (await working.get(NODE_LIST)).index
    await add_node(working, OTHER_ID)
    await submit(working, "sys", Type="system", TaskGroups=[group(1)])
    schedule(working)
    listed = await working.get(NODE_LIST)

    assert listed.index == max(one["ModifyIndex"] for one in listed.json) > before


async def test_their_index_is_not_moved_by_what_happens_elsewhere(working: Api):
    before = (await working.get(NODE_LIST)).index
    await add_node(working, OTHER_ID)
    await working.put(f"{NODE_PATH}/eligibility", {"Eligibility": "ineligible"})
    await submit_and_schedule(working, "other")

    assert (await working.get(NODE_LIST)).index == before < table_index(working)


@pytest.mark.row("AL17")
async def test_what_is_over_comes_last(working: Api):
    await working.put(f"/v1/allocation/{placed(working)[0]}/stop")
    schedule(working)

    listed = (await working.get(NODE_LIST)).json

    wanted = [one["DesiredStatus"] for one in listed]
    assert wanted == ["run", "run", "stop"]
    assert [one["ID"] for one in listed[:2]] == sorted(one["ID"] for one in listed[:2])


@pytest.mark.row("AL14")
async def test_those_of_a_node_wait_for_one_that_is_placed(working: Api):
    index = (await working.get(NODE_LIST)).index

    answer = await working.read_during(
        f"{NODE_LIST}?index={index}", lambda: submit_and_schedule(working, "b")
    )

    assert len(answer.json) == 3
    assert answer.index == table_index(working)


@pytest.mark.row("AL15")
@pytest.mark.row("AL18")
async def test_those_of_a_node_wait_for_what_its_agent_says(working: Api):
    index = (await working.get(NODE_LIST)).index
    id_, _ = placed(working)

    answer = await working.read_during(
        f"{NODE_LIST}?index={index}", lambda: report_one(working, id_)
    )

    (changed,) = [one for one in answer.json if one["ClientStatus"] == RUNNING]
    assert changed["ID"] == id_
    assert changed["AllocModifyIndex"] == index
    assert answer.index == changed["ModifyIndex"] > index


async def test_those_of_a_node_do_not_wait_for_another_nodes(working: Api):
    index = (await working.get(NODE_LIST)).index
    await add_node(working, OTHER_ID)

    async def write() -> None:
        await working.put(f"{NODE_PATH}/eligibility", {"Eligibility": "ineligible"})
        await submit_and_schedule(working, "other")
        await still_waits(working)
        await report_one(working, placed(working)[0])

    await working.read_during(f"{NODE_LIST}?index={index}", write)


async def test_that_one_is_gone_ends_the_wait_at_the_tables_index(working: Api):
    purge_job(working)
    report(working, "complete")
    first, second = placed(working)
    index = (await working.get(NODE_LIST)).index

    async def remove() -> None:
        collect(working, first)

    answer = await working.read_during(f"{NODE_LIST}?index={index}", remove)

    assert [one["ID"] for one in answer.json] == [second]
    assert answer.index == table_index(working) > index


@rows("V18")
@pytest.mark.parametrize(
    "node_id", [case("A2", "foobarbaz"), case("A3", "nope"), case("A6", "1")]
)
async def test_a_malformed_id_of_a_node_is_refused(api: Api, node_id):
    answer = await api.get(f"/v1/node/{node_id}/allocations")

    assert answer.status == 400
    assert answer.text == "node lookup failed: index error: UUID must be 36 characters"


# Stopping one


@pytest.mark.row("AL20")
async def test_one_is_marked_and_its_job_looked_at_in_one_entry(working: Api):
    id_, other = placed(working)

    answer = await working.put(f"/v1/allocation/{id_}/stop")

    shown = (await working.get(f"/v1/allocation/{id_}")).json
    evaluation = evaluations(working)[-1]
    assert answer.status == 200
    assert answer.json == {"EvalID": evaluation.id, "Index": answer.index}
    assert shown["DesiredTransition"]["Migrate"] is True
    assert evaluation.triggered_by == "alloc-stop"
    assert evaluation.create_index == shown["ModifyIndex"] == answer.index

    schedule(working)
    stopped, successor = [
        one
        for one in (await working.get("/v1/allocations")).json
        if one["Name"] == shown["Name"] and one["ID"] != other
    ]
    if stopped["ID"] != id_:
        stopped, successor = successor, stopped
    assert stopped["DesiredStatus"] == "stop"
    assert successor["DesiredStatus"] == "run"


async def test_one_that_is_over_is_left_alone(working: Api):
    id_, _ = placed(working)
    await working.put(f"/v1/allocation/{id_}/stop")
    schedule(working)

    answer = await working.put(f"/v1/allocation/{id_}/stop")

    assert (answer.status, answer.json) == (200, {"EvalID": "", "Index": 0})


async def test_one_that_is_unknown_cannot_be_stopped(working: Api):
    answer = await working.put(f"/v1/allocation/{UNKNOWN_ID}/stop", "{}")

    assert (answer.status, answer.text) == (404, "alloc not found")
    assert answer.headers["x-nodestate-outcome"] == "none"


async def test_stopping_is_a_write(working: Api):
    answer = await working.get(f"/v1/allocation/{UNKNOWN_ID}/stop")

    assert (answer.status, answer.headers["allow"]) == (405, "POST, PUT")
