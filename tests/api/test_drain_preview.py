"""What a drain does or would do, over HTTP."""

from typing import Any

import pytest

from nodestate.model.node_id import node_key
from tests.api.conftest import NODE_ID, NODE_PATH, OTHER_ID, SECRET, UNKNOWN_ID, Api
from tests.api.working import add_node, group_body, schedule, still_waits, submit
from tests.fakes import START_NS

HOUR = 3_600_000_000_000
DRAIN = f"{NODE_PATH}/drain"


@pytest.fixture
async def working(api: Api) -> Api:
    """A node that runs two of `web`, one of them healthy, a batch and a system job."""
    await add_node(api)
    await submit(api, TaskGroups=[group_body(Count=2)])
    await submit(api, "bat", Type="batch")
    await submit(api, "sys", Type="system")
    schedule(api)
    await add_node(api, OTHER_ID)
    schedule(api)
    return api


def ids_of(api: Api, job_id: str) -> list[str]:
    found = api.replica.state().allocations.values()
    mine = [one for one in found if one.job_id == job_id]
    return [one.id for one in sorted(mine, key=lambda one: (one.create_index, one.id))]


async def report(api: Api, id_: str, status: str = "running", **fields: Any) -> None:
    sent = [{"ID": id_, "ClientStatus": status, **fields}]
    body = {"SecretID": SECRET, "Alloc": sent}
    assert (await api.put(f"{NODE_PATH}/allocations", body)).status == 200


async def report_healthy(api: Api, job_id: str = "web") -> None:
    for id_ in ids_of(api, job_id):
        await report(api, id_, DeploymentStatus={"Healthy": True})


async def view(api: Api, query: str = "") -> dict[str, Any]:
    answer = await api.get(DRAIN + query)
    assert answer.status == 200, answer.text
    shown: dict[str, Any] = answer.json
    return shown


def groups(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["JobID"]: group for group in shown["Groups"]}


async def drain(api: Api, **spec: Any) -> None:
    assert (await api.put(DRAIN, {"DrainSpec": spec})).status == 200


async def test_it_says_of_a_node_what_a_drain_would_do(working: Api):
    await report_healthy(working)
    web = ids_of(working, "web")

    shown = await view(working)

    assert {key: value for key, value in shown.items() if key != "Groups"} == {
        "NodeID": NODE_ID,
        "Draining": False,
        "Done": False,
        "Forced": False,
        "Deadline": None,
        "IgnoreSystemJobs": False,
    }
    assert [group["JobID"] for group in shown["Groups"]] == ["bat", "sys", "web"]
    found = groups(shown)
    assert found["web"] == {
        "Namespace": "default",
        "JobID": "web",
        "JobType": "service",
        "TaskGroup": "grp",
        "Moving": [],
        "Next": found["web"]["Next"],
        "Waiting": found["web"]["Waiting"],
        "WaitsFor": "max_parallel",
        "Wanted": 2,
        "MaxParallel": 1,
        "Settled": 2,
        "Finished": 0,
    }
    assert len(found["web"]["Next"]) == len(found["web"]["Waiting"]) == 1
    assert {*found["web"]["Next"], *found["web"]["Waiting"]} == set(web)
    assert found["bat"]["WaitsFor"] == "finish"
    assert found["sys"]["WaitsFor"] == "last"
    assert working.replica.state().draining_keys == {}


async def test_it_says_of_a_drain_what_it_waits_for(working: Api):
    await drain(working, Deadline=HOUR)

    shown = await view(working)

    assert (shown["Draining"], shown["Done"]) == (True, False)
    assert shown["Deadline"] == "2023-11-14T23:13:20Z"
    assert groups(shown)["web"]["WaitsFor"] == "health"
    assert groups(shown)["web"]["Next"] == []


@pytest.mark.parametrize("text", ["1h", "3600000000000", "3600s", "3600000000000ns"])
async def test_a_deadline_that_is_asked_for_counts_from_now(working: Api, text):
    shown = await view(working, f"?deadline={text}")

    assert working.clock.now_ns() == START_NS
    assert shown["Deadline"] == "2023-11-14T23:13:20Z"
    assert (shown["Forced"], shown["Draining"]) == (False, False)


@pytest.mark.parametrize("text", ["-1s", "-1000000000"])
async def test_a_drain_may_be_asked_for_that_is_forced_at_once(working: Api, text):
    shown = await view(working, f"?deadline={text}")

    assert (shown["Forced"], shown["Deadline"]) == (True, None)
    assert [len(group["Next"]) for group in shown["Groups"]] == [1, 1, 2]
    assert all(group["WaitsFor"] == "" for group in shown["Groups"])


@pytest.mark.parametrize("text", ["0", "0s"])
async def test_a_drain_may_be_asked_for_that_is_never_forced(working: Api, text):
    await drain(working, Deadline=HOUR)

    assert (await view(working, f"?deadline={text}"))["Deadline"] is None


async def test_system_jobs_may_be_asked_to_stay(working: Api):
    await drain(working, Deadline=HOUR, IgnoreSystemJobs=True)

    as_it_is = await view(working)
    changed = await view(working, "?ignore_system_jobs=false")

    assert as_it_is["IgnoreSystemJobs"] is True
    assert groups(as_it_is)["sys"]["WaitsFor"] == "ignored"
    assert changed["IgnoreSystemJobs"] is False
    assert groups(changed)["sys"]["WaitsFor"] == "last"
    # The rest of it is as it is, counted from now.
    assert changed["Deadline"] == as_it_is["Deadline"]
    assert (await view(working, "?ignore_system_jobs"))["IgnoreSystemJobs"] is True


async def test_a_node_with_nothing_is_done(api: Api):
    await add_node(api)

    shown = await view(api)

    assert (shown["Done"], shown["Groups"]) == (True, [])


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (f"/v1/node/{UNKNOWN_ID}/drain", 404, "node not found"),
        ("/v1/node/f747/drain", 400, "node lookup failed: index error: UUID must be"),
        ("/v1/node//drain", 400, "missing node ID"),
        (f"{DRAIN}?deadline=1", 200, "{"),
        (f"{DRAIN}?deadline=1d", 400, "invalid deadline: expected a duration such as"),
        (f"{DRAIN}?deadline=%C2%B2", 400, "invalid deadline"),
        (f"{DRAIN}?deadline=--1", 400, "invalid deadline"),
        (f"{DRAIN}?deadline={2**63}", 400, "invalid deadline"),
        (f"{DRAIN}?deadline={'1' * 1000}", 400, "invalid deadline"),
        (f"{DRAIN}?ignore_system_jobs=maybe", 400, "Expect `true` or `false`"),
    ],
)
async def test_what_cannot_be_asked_is_said(working: Api, path, status, text):
    answer = await working.get(path)

    assert (answer.status, answer.text[: len(text)]) == (status, text)


# Waiting


async def index_of(api: Api) -> int:
    return (await api.get(DRAIN)).index


async def test_its_index_is_that_of_the_latest_change_to_what_it_shows(working: Api):
    await report_healthy(working)
    web = (await working.get(f"/v1/allocation/{ids_of(working, 'web')[-1]}")).index
    assert await index_of(working) == web

    await drain(working, Deadline=HOUR)
    assert await index_of(working) == working.replica.applied_index() > web


async def test_it_waits_for_the_node_and_its_allocations_and_those_of_its_jobs(
    working: Api,
):
    async def read_after(write: Any) -> dict[str, Any]:
        index = await index_of(working)
        answer = await working.read_during(f"{DRAIN}?index={index}", write)
        assert answer.index > index
        shown: dict[str, Any] = answer.json
        return shown

    shown = await read_after(lambda: report_healthy(working))
    assert groups(shown)["web"]["Settled"] >= 1
    shown = await read_after(lambda: drain(working, Deadline=HOUR))
    assert shown["Draining"] is True
    # A new version of the job, of which one runs elsewhere.
    sent = [group_body(Count=3)]
    shown = await read_after(lambda: submit(working, TaskGroups=sent))
    assert groups(shown)["web"]["Wanted"] == 3

    async def place() -> None:
        schedule(working)

    path = f"{DRAIN}?index={await index_of(working)}"
    await working.read_during(path, place)


async def test_it_waits_for_those_of_its_jobs_on_other_nodes(working: Api):
    await submit(working, TaskGroups=[group_body(Count=3)])
    schedule(working)
    state = working.replica.state()
    (elsewhere,) = state.allocations_on(node_key(OTHER_ID))[:1]
    assert elsewhere.job_id in {"web", "sys"}
    sent = [{"ID": elsewhere.id, "ClientStatus": "running"}]

    async def write() -> None:
        path = f"/v1/node/{OTHER_ID}/allocations"
        await working.put(path, {"SecretID": SECRET, "Alloc": sent})

    index = await index_of(working)
    answer = await working.read_during(f"{DRAIN}?index={index}", write)

    assert answer.index == working.replica.applied_index() > index


async def test_it_waits_for_its_jobs_to_be_looked_at(working: Api):
    index = await index_of(working)

    answer = await working.read_during(
        f"{DRAIN}?index={index}", lambda: working.put("/v1/job/web/evaluate")
    )

    assert answer.index == working.replica.applied_index() > index


async def test_it_does_not_wait_for_what_does_not_concern_it(working: Api):
    await report_healthy(working)
    path = f"{DRAIN}?index={await index_of(working)}"

    async def write() -> None:
        eligibility = {"Eligibility": "ineligible"}
        await working.put(f"/v1/node/{OTHER_ID}/eligibility", eligibility)
        await submit(working, "new", Datacenters=["none"])
        schedule(working)
        await still_waits(working)
        await working.put(f"{NODE_PATH}/purge")

    answer = await working.read_during(path, write)

    assert (answer.status, answer.text) == (404, "node not found")
