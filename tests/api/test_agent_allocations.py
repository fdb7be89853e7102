"""What agents report of their allocations: the rules of who may say what."""

from typing import Any

import pytest

from nodestate.api import agent_allocations
from nodestate.fsm.state import ALLOCATIONS
from nodestate.model.allocation import TASK_EVENTS_MAX
from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    OTHER_ID,
    SECRET,
    UNKNOWN_ID,
    Answer,
    Api,
)
from tests.api.working import add_node, evaluations, group_body, schedule, submit

PATH = f"{NODE_PATH}/allocations"
NEVER = {"Attempts": 0, "Unlimited": False}


@pytest.fixture
async def working(api: Api) -> Api:
    """A node that runs two allocations of `web`, as far as the servers know."""
    await add_node(api)
    await submit(api, TaskGroups=[group_body(Count=2)])
    schedule(api)
    return api


def placed(api: Api) -> list[str]:
    return sorted(api.replica.state().allocations)


def said(id_: str, status: str = "running", **fields: Any) -> dict[str, Any]:
    return {"ID": id_, "ClientStatus": status, **fields}


async def send(api: Api, *allocations: Any, **fields: Any) -> Answer:
    body = {"SecretID": SECRET, "Alloc": list(allocations), **fields}
    return await api.put(PATH, body)


async def reported(api: Api, *allocations: Any) -> Answer:
    answer = await send(api, *allocations)
    assert answer.status == 200, answer.text
    return answer


async def shown(api: Api, id_: str) -> dict[str, Any]:
    one: dict[str, Any] = (await api.get(f"/v1/allocation/{id_}")).json
    return one


@pytest.mark.row("AL1")
async def test_what_an_agent_says_is_written_and_moves_one_index(working: Api):
    id_, other = placed(working)
    before = await shown(working, id_)
    state = {"State": "running", "StartedAt": "2026-01-02T03:04:05Z", "Restarts": 2}

    answer = await reported(
        working,
        said(id_, ClientDescription="Tasks are running", TaskStates={"app": state}),
    )

    after = await shown(working, id_)
    assert answer.json == {"Index": answer.index}
    assert answer.index == after["ModifyIndex"] > before["ModifyIndex"]
    assert after["AllocModifyIndex"] == before["AllocModifyIndex"]
    assert after["ClientStatus"] == "running"
    assert after["ClientDescription"] == "Tasks are running"
    assert after["TaskStates"]["app"]["Restarts"] == 2
    assert after["TaskStates"]["app"]["StartedAt"] == "2026-01-02T03:04:05Z"
    assert (await shown(working, other))["ClientStatus"] == "pending"


@pytest.mark.row("AL2")
async def test_what_else_an_agent_says_is_passed_over(working: Api):
    id_, _ = placed(working)
    before = await shown(working, id_)

    await reported(
        working,
        said(
            id_,
            NodeID=OTHER_ID,
            DesiredStatus="stop",
            Job={"ID": "other"},
            ModifyTime=1,
            CreateIndex=99,
        ),
    )

    after = await shown(working, id_)
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {"ClientStatus", "ModifyIndex"} | (changed & {"ModifyTime"})


async def test_many_are_reported_in_one_entry(working: Api):
    before = working.replica.applied_index()

    answer = await reported(working, *(said(id_) for id_ in placed(working)))

    assert working.replica.applied_index() == before + 1 == answer.index
    assert {(await shown(working, id_))["ModifyIndex"] for id_ in placed(working)} == {
        answer.index
    }


@pytest.mark.row("AL3")
async def test_two_that_failed_have_their_job_looked_at_once(working: Api):
    answer = await reported(working, *(said(id_, "failed") for id_ in placed(working)))

    made = evaluations(working)[-1]
    assert len(evaluations(working)) == 2
    assert (made.triggered_by, made.create_index) == ("alloc-failure", answer.index)


@pytest.mark.row("AL9")
@pytest.mark.row("AL10")
@pytest.mark.row("AL11")
async def test_health_is_kept_with_the_index_at_which_it_changed(working: Api):
    id_, _ = placed(working)
    healthy = {"Healthy": True, "Timestamp": "2026-01-02T03:04:05Z", "ModifyIndex": 77}

    first = await reported(working, said(id_, DeploymentStatus=healthy))
    again = await reported(
        working, said(id_, ClientDescription="on", DeploymentStatus=healthy)
    )
    silent = await reported(working, said(id_, ClientDescription="still on"))

    after = await shown(working, id_)
    assert first.index < again.index < silent.index == after["ModifyIndex"]
    assert after["DeploymentStatus"] == {
        "Healthy": True,
        "Timestamp": "2026-01-02T03:04:05Z",
        "Canary": False,
        "ModifyIndex": first.index,
    }


async def test_what_is_no_news_has_no_index_and_wakes_nobody(working: Api):
    id_, _ = placed(working)
    await reported(working, said(id_))
    index = working.replica.state().table_index(ALLOCATIONS)

    answer = await reported(working, said(id_))

    assert answer.json == {"Index": 0}
    assert working.replica.state().table_index(ALLOCATIONS) == index


@pytest.mark.row("AL12")
async def test_one_that_is_unknown_is_passed_over(working: Api):
    id_, _ = placed(working)

    answer = await send(working, said(UNKNOWN_ID), said(id_.upper()))

    assert answer.status == 200
    assert (await shown(working, id_))["ClientStatus"] == "running"


async def test_one_of_another_node_is_passed_over(working: Api):
    await add_node(working, OTHER_ID)
    id_, _ = placed(working)
    body = {"SecretID": SECRET, "Alloc": [said(id_)]}

    answer = await working.put(f"/v1/node/{OTHER_ID}/allocations", body)

    assert answer.json == {"Index": 0}
    assert (await shown(working, id_))["ClientStatus"] == "pending"


async def test_of_a_long_history_the_newest_lines_are_kept_and_logged(working: Api):
    id_, _ = placed(working)
    events = [{"Type": "Started", "Time": number} for number in range(50)]

    await reported(
        working, said(id_, TaskStates={"app": {"State": "running", "Events": events}})
    )

    kept = (await shown(working, id_))["TaskStates"]["app"]["Events"]
    assert [one["Time"] for one in kept] == list(range(50 - TASK_EVENTS_MAX, 50))
    command: Any = working.proposer.commands[-1]
    assert len(command.reports[0].allocations[0].task_states["app"].events) == 10


# Refused


@pytest.mark.row("AL6")
@pytest.mark.parametrize("body", [{}, {"Alloc": []}, {"Alloc": None}])
async def test_a_report_is_about_something(working: Api, body):
    answer = await working.put(PATH, {"SecretID": SECRET, **body})

    assert (answer.status, answer.text) == (400, "must update at least one allocation")


@pytest.mark.row("AL7")
async def test_evaluations_are_not_an_agents_to_make(working: Api):
    answer = await send(working, said(placed(working)[0]), Evals=[{"ID": "x"}])

    assert (answer.status, answer.text) == (400, "evals field must not be set")


@pytest.mark.parametrize(
    ("allocation", "text"),
    [
        ({"ClientStatus": "running"}, "missing allocation ID"),
        (None, "missing allocation ID"),
        ({"ID": "x", "ClientStatus": "lost"}, 'invalid client status "lost" of alloc'),
        (
            {"ID": "x"},
            'invalid client status "" of allocation "x": expected one of pend',
        ),
        ({"ID": 1}, "Alloc[1].ID: found a"),
        (
            {"ID": "x", "TaskStates": {"t": {"Events": [{"Time": "x"}]}}},
            "Alloc[1].TaskStates.t.Events[0].Time: found a text",
        ),
    ],
)
async def test_a_malformed_one_is_refused_and_with_it_the_report(
    working: Api, allocation, text
):
    id_, _ = placed(working)

    answer = await send(working, said(id_), allocation)

    assert answer.status == 400
    assert text in answer.text
    assert (await shown(working, id_))["ClientStatus"] == "pending"


@pytest.mark.parametrize(
    ("node_id", "secret", "status", "text"),
    [
        (NODE_ID, "", 400, "missing node secret ID for client status update"),
        (NODE_ID, "secret", 400, "SecretID must be a UUID"),
        (NODE_ID, UNKNOWN_ID, 403, "node secret ID does not match"),
        (UNKNOWN_ID, SECRET, 404, "node not found"),
        ("f747", SECRET, 400, "node lookup failed: index error: UUID must be 36 char"),
    ],
)
async def test_only_the_node_itself_may_report(
    working: Api, node_id, secret, status, text
):
    id_, _ = placed(working)

    answer = await working.put(
        f"/v1/node/{node_id}/allocations", {"SecretID": secret, "Alloc": [said(id_)]}
    )

    assert (answer.status, answer.text[: len(text)]) == (status, text)
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert SECRET not in answer.text
    assert (await shown(working, id_))["ClientStatus"] == "pending"


async def test_the_secret_may_be_the_token(working: Api):
    id_, _ = placed(working)

    answer = await working.ask(
        "POST", PATH, {"Alloc": [said(id_)]}, {"X-Nomad-Token": SECRET}
    )

    assert answer.status == 200
    assert SECRET.encode() not in repr(working.proposer.commands).encode()


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("ALLOCATIONS_PER_REPORT_MAX", "the number of Alloc is over its limit of 1"),
        ("TASKS_PER_ALLOCATION_MAX", "the number of TaskStates is over its limit of 1"),
    ],
)
async def test_a_report_has_limits(working: Api, monkeypatch, limit, text):
    monkeypatch.setattr(agent_allocations, limit, 1)
    states = {"a": {"State": "running"}, "b": {"State": "running"}}
    first, second = placed(working)

    sent = [said(first, TaskStates=states)]
    if limit == "ALLOCATIONS_PER_REPORT_MAX":
        sent = [said(first), said(second)]
    answer = await send(working, *sent)

    assert (answer.status, answer.text[: len(text)]) == (413, text)


async def test_a_body_over_the_limit_of_one_node_is_refused(make_api):
    api = await make_api(body_bytes_max=2000)
    await add_node(api)

    answer = await send(api, said(UNKNOWN_ID, ClientDescription="x" * 3000))

    assert answer.status == 413
