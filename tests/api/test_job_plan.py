"""What registering a job would do, and that asking does none of it."""

import asyncio
from typing import Any

import pytest

from nodestate.api.job_plan import DRY_RUNS_MAX
from nodestate.fsm.state import State
from nodestate.model.command import UpdateNodeStatus
from nodestate.model.node import NodeStatus
from nodestate.model.node_id import node_key
from nodestate.planning.scheduling import dry_run
from tests.api.conftest import NODE_ID, Answer, Api
from tests.api.working import add_node, group_body, job_body, schedule, submit

NOTHING = {
    "Canary": 0,
    "DestructiveUpdate": 0,
    "Ignore": 0,
    "InPlaceUpdate": 0,
    "Migrate": 0,
    "Place": 0,
    "Preemptions": 0,
    "Stop": 0,
}
COMMAND = {"Name": "app", "Driver": "raw_exec", "Config": {"command": "/bin/true"}}


async def plan(api: Api, *groups: object, diff: bool = False, **fields: Any) -> Answer:
    job = job_body(TaskGroups=groups or [group_body(Count=2)], **fields)
    answer = await api.put("/v1/job/web/plan", {"Job": job, "Diff": diff})
    assert answer.status == 200, answer.text
    return answer


def updates(answer: Answer, name: str = "grp") -> dict[str, int]:
    found = answer.json["Annotations"]["DesiredTGUpdates"][name]
    assert found.keys() == NOTHING.keys()
    return {word: count for word, count in found.items() if count}


async def test_a_new_job_would_be_placed(api: Api):
    await add_node(api)
    before = api.replica.applied_index()

    answer = await plan(api, diff=True)

    assert updates(answer) == {"Place": 2}
    assert answer.json["FailedTGAllocs"] is None
    assert answer.json["JobModifyIndex"] == answer.json["Index"] == 0
    assert answer.json["Diff"]["Type"] == "Added"
    assert answer.json["NextPeriodicLaunch"] is None
    assert api.replica.applied_index() == before
    assert not api.replica.state().jobs
    assert not api.replica.state().allocations


async def test_what_finds_no_room_says_why(api: Api):
    await add_node(api)
    task = {**COMMAND, "Resources": {"CPU": 99_999, "MemoryMB": 64}}

    answer = await plan(api, group_body(Tasks=[task]))

    metric = answer.json["FailedTGAllocs"]["grp"]
    assert metric["NodesExhausted"] == 1
    assert metric["DimensionExhausted"] == {"cpu": 1}


@pytest.mark.parametrize(
    ("group", "expected", "type_"),
    [
        (group_body(Count=2), {"Ignore": 2}, "None"),
        (group_body(Count=3), {"InPlaceUpdate": 2, "Place": 1}, "Edited"),
        (group_body(Count=1), {"InPlaceUpdate": 1, "Stop": 1}, "Edited"),
        (group_body(Count=2, Tasks=[COMMAND]), {"DestructiveUpdate": 2}, "Edited"),
    ],
)
async def test_what_would_become_of_what_runs(api: Api, group, expected, type_):
    await add_node(api)
    index = (await submit(api, TaskGroups=[group_body(Count=2)])).index
    schedule(api)
    before = (await api.get("/v1/job/web")).body

    answer = await plan(api, group, diff=True)

    assert updates(answer) == expected
    assert answer.json["JobModifyIndex"] == answer.index == index
    assert answer.json["Diff"]["Type"] == type_
    (shown,) = answer.json["Diff"]["TaskGroups"]
    assert sum(shown["Updates"].values()) == sum(expected.values())
    assert (await api.get("/v1/job/web")).body == before


async def test_what_happens_meanwhile_is_not_in_it(api: Api, monkeypatch):
    """The plan is of one moment, though others have their turn while it is made."""

    def interrupted(state: State, *rest: Any):
        yield
        api.replica.apply(UpdateNodeStatus(**down))
        return (yield from dry_run(state, *rest))

    await add_node(api)
    key = node_key(NODE_ID)
    down: dict[str, Any] = {
        "key": key,
        "status": NodeStatus.DOWN,
        "secret_sha256": api.replica.state().node_secrets[key],
        "seed": b"",
        "at_ns": api.clock.now_ns(),
    }
    monkeypatch.setattr("nodestate.api.job_plan.dry_run", interrupted)

    answer = await plan(api)

    assert api.replica.state().nodes[key].status is NodeStatus.DOWN
    assert answer.json["FailedTGAllocs"] is None


async def test_a_diff_is_there_only_if_asked_for(api: Api):
    assert (await plan(api)).json["Diff"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("web", {}, 400, "Job must be specified"),
        ("other", {"Job": job_body()}, 400, "Job ID does not match"),
        ("web", {"Job": job_body(Priority=101)}, 400, "Job priority must be between"),
        ("web", {"Job": job_body(Type="batch")}, 400, "cannot update job from type"),
        ("web?namespace=a%20b", {"Job": job_body()}, 400, "invalid namespace"),
        ("web?region=mars", {"Job": job_body()}, 400, "No path to region"),
    ],
)
async def test_what_can_not_be_registered_can_not_be_planned(
    api: Api, path, body, status, text
):
    await submit(api)
    name, _, query = path.partition("?")
    answer = await api.put(f"/v1/job/{name}/plan?{query}", body)

    assert answer.status == status
    assert text in answer.text


async def test_others_have_their_turn_and_there_are_not_too_many(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    """Dry runs that take long hold up neither reads nor each other, up to a limit."""
    is_held = True

    def slow(*arguments: object):
        while is_held:
            yield
        return (yield from dry_run(*arguments))  # type: ignore[arg-type]

    async def give_way(*_: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr("nodestate.api.job_plan.dry_run", slow)
    monkeypatch.setattr("nodestate.api.job_plan.Pace.pause_if_due", give_way)
    body = {"Job": job_body()}
    runs = [
        asyncio.create_task(api.put("/v1/job/web/plan", body))
        for _ in range(DRY_RUNS_MAX + 1)
    ]
    done, _ = await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)

    (over,) = done
    assert over.result().status == 429
    assert "DRY_RUNS_MAX" in over.result().text
    assert (await api.get("/v1/jobs")).status == 200
    is_held = False
    statuses = sorted(answer.status for answer in await asyncio.gather(*runs))
    assert statuses == [200] * DRY_RUNS_MAX + [429]
    assert (await api.put("/v1/job/web/plan", body)).status == 200
