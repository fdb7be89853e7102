"""How the servers do, and what can be set about it, which is nothing."""

import asyncio
import json

import pytest

from nodestate.errors import NoLeaderError
from nodestate.ports import ServerAddress
from tests.api.conftest import Api, ApiFactory

CONFIGURATION = "/v1/operator/autopilot/configuration"
HEALTH = "/v1/operator/autopilot/health"
THREE = tuple(
    ServerAddress(f"server{number}", f"10.0.0.{number}:4647", f"10.0.0.{number}:4646")
    for number in (1, 2, 3)
)


@pytest.fixture
async def three(api: Api) -> Api:
    api.leadership.addresses = THREE
    return api


# Configuration


async def test_the_configuration_says_what_is_so(make_api: ApiFactory):
    api = await make_api(election_timeout_s_min=1.5)

    answer = await api.get(CONFIGURATION)

    assert answer.json == {
        "CleanupDeadServers": False,
        "CreateIndex": 1,
        "DisableUpgradeMigration": False,
        "EnableCustomUpgrades": False,
        "EnableRedundancyZones": False,
        "LastContactThreshold": "1.5s",
        "MaxTrailingLogs": 250,
        "ModifyIndex": 1,
        "ServerStabilizationTime": "0s",
    }
    assert answer.nomad_headers() == set()


@pytest.mark.parametrize("query", ["", "?cas=1"])
async def test_what_was_read_can_be_written_back(api: Api, query):
    read = (await api.get(CONFIGURATION)).json

    answer = await api.put(f"{CONFIGURATION}{query}", read)

    assert (answer.status, answer.body) == (200, b"true")


async def test_a_duration_may_be_written_otherwise(api: Api):
    sent = {"LastContactThreshold": "1000ms", "MaxTrailingLogs": 250}

    assert (await api.put(CONFIGURATION, sent)).body == b"true"


async def test_of_another_index_nothing_is_so(api: Api):
    answer = await api.put(f"{CONFIGURATION}?cas=7", {"MaxTrailingLogs": 9})

    assert (answer.status, answer.body) == (200, b"false")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("CleanupDeadServers", True, "CleanupDeadServers is false"),
        ("LastContactThreshold", "200ms", 'LastContactThreshold is "1s"'),
        ("MaxTrailingLogs", 100, "MaxTrailingLogs is 250"),
        ("EnableCustomUpgrades", True, "EnableCustomUpgrades is false"),
    ],
)
async def test_what_cannot_be_set_is_refused_by_name(api: Api, name, value, shown):
    sent = (await api.get(CONFIGURATION)).json | {name: value}

    answer = await api.put(CONFIGURATION, sent)

    assert answer.status == 501
    assert shown in answer.text
    assert answer.headers["x-nodestate-outcome"] == "none"


@pytest.mark.parametrize(
    ("query", "body", "text"),
    [
        ("", {"LastContactThreshold": "soon"}, "Error parsing autopilot config: "),
        ("", {"MaxTrailingLogs": "many"}, "Error parsing autopilot config: "),
        ("", "{", "Error parsing autopilot config: "),
        ("", None, "Error parsing autopilot config: Request body is empty"),
        ("?cas=-1", {}, "Error parsing cas value: "),
        ("?cas=x", {}, "Error parsing cas value: "),
    ],
)
async def test_what_cannot_be_read_is_refused_in_nomads_words(
    api: Api, query, body, text
):
    answer = await api.put(f"{CONFIGURATION}{query}", body)

    assert answer.status == 400
    assert answer.text.startswith(text)


async def test_a_body_has_a_limit_of_its_own(make_api: ApiFactory):
    api = await make_api(body_bytes_max=1024)

    answer = await api.put(CONFIGURATION, json.dumps({"a": "x" * 2000}))

    assert answer.status == 413


async def test_only_put_writes_it(api: Api):
    answer = await api.ask("POST", CONFIGURATION, {})

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, PUT")


# Health


async def test_a_cluster_in_which_all_are_well(three: Api):
    answer = await three.get(HEALTH)

    assert answer.status == 200
    assert answer.nomad_headers() == set()
    health = answer.json
    assert health["Healthy"] is True
    assert health["FailureTolerance"] == 1
    assert health["MinQuorum"] == 2
    assert health["Leader"] == "server1"
    assert health["Voters"] == ["server1", "server2", "server3"]
    first, second, _ = health["Servers"]
    assert first == {
        "Address": "10.0.0.1:4647",
        "Healthy": True,
        "ID": "server1",
        "LastContact": "0s",
        "LastIndex": three.replica.applied_index(),
        "LastTerm": 1,
        "Leader": True,
        "Name": "server1.global",
        "SerfStatus": "alive",
        "StableSince": "2023-11-14T22:13:20Z",
        "Version": first["Version"],
        "Voter": True,
    }
    assert (second["Leader"], second["LastContact"]) == (False, "50ms")


@pytest.mark.parametrize(
    ("unhealthy", "learners", "tolerance", "status"),
    [
        ({"server2"}, set(), 0, 429),
        ({"server2", "server3"}, set(), 0, 429),
        (set(), {"server3"}, 0, 200),
        ({"server3"}, {"server3"}, 0, 429),
    ],
)
async def test_one_that_is_not_well_makes_it_429(
    three: Api, unhealthy, learners, tolerance, status
):
    three.admin.unhealthy = unhealthy
    three.admin.learners = learners

    answer = await three.get(HEALTH)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["Healthy"] is (status == 200)
    assert answer.json["FailureTolerance"] == tolerance
    healths = {one["ID"]: one["Healthy"] for one in answer.json["Servers"]}
    assert {name for name, is_well in healths.items() if not is_well} == unhealthy
    voters = {one["ID"] for one in answer.json["Servers"] if one["Voter"]}
    assert (
        voters
        == {"server1", "server2", "server3"} - learners
        == {*answer.json["Voters"]}
    )


async def test_whoever_leads_next_is_asked_again(three: Api):
    three.admin.errors = [NoLeaderError("gone"), NoLeaderError("gone")]
    asking = asyncio.create_task(three.get(HEALTH))
    await three.until(lambda: three.clock.timer_count() > 0)

    await three.pass_time(asking, 2)

    assert (await asking).status == 200


async def test_without_a_leader_nobody_knows(three: Api):
    three.leadership.lose(None)
    asking = asyncio.create_task(three.get(HEALTH))
    await three.until(lambda: three.clock.timer_count() > 0)
    await three.pass_time(asking, 5)

    assert ((await asking).status, (await asking).text) == (503, "No cluster leader")
