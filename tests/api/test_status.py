"""Servers, leader and health."""

import asyncio

import pytest

from nodestate.ports import ServerAddress
from tests.api.conftest import Api

THREE = (
    ServerAddress("server1", "10.0.0.1:4647", "10.0.0.1:4646"),
    ServerAddress("server2", "10.0.0.2:4647", "10.0.0.2:4646"),
    ServerAddress("server3", "[::1]:5647", "[::1]:5646"),
)
OK = {"server": {"ok": True, "message": "ok"}}
NO_LEADER = {"server": {"ok": False, "message": "no leader"}}


@pytest.fixture
async def three(api: Api) -> Api:
    api.leadership.addresses = THREE
    return api


async def test_the_leader_and_the_peers_are_their_peer_addresses(three: Api):
    three.leadership.lose("server2")

    leader = await three.get("/v1/status/leader")
    peers = await three.get("/v1/status/peers")

    assert leader.json == "10.0.0.2:4647"
    assert peers.json == ["10.0.0.1:4647", "10.0.0.2:4647", "[::1]:5647"]
    assert leader.nomad_headers() == peers.nomad_headers() == set()


async def test_without_a_leader_there_is_none_to_name(api: Api):
    api.leadership.lose(None)
    asking = asyncio.create_task(api.get("/v1/status/leader"))
    await api.until(lambda: api.clock.timer_count() > 0)
    await api.pass_time(asking, 5)

    assert ((await asking).status, (await asking).text) == (503, "No cluster leader")
    assert (await api.get("/v1/status/leader?stale")).json == ""


@pytest.mark.parametrize(
    ("leader_id", "contact_s", "query", "status", "expected"),
    [
        ("server1", 0.0, "", 200, OK),
        ("server1", 0.0, "?type=server", 200, OK),
        ("server2", 5.1, "", 500, NO_LEADER),
        (None, 0.0, "", 500, NO_LEADER),
        (None, None, "?type=server", 500, NO_LEADER),
        (
            "server1",
            0.0,
            "?type=client",
            500,
            {"client": {"ok": False, "message": "client not enabled"}},
        ),
    ],
)
async def test_health_is_json_at_any_status(
    api: Api, leader_id, contact_s, query, status, expected
):
    api.leadership.leader_id = leader_id
    api.leadership.last_contact_s = contact_s

    answer = await api.get(f"/v1/agent/health{query}")

    assert (answer.status, answer.json) == (status, expected)
    assert answer.headers["content-type"] == "application/json"


async def test_a_server_that_is_no_member_is_not_well(three: Api):
    """Removed, or not added yet: that it hears of no leader only follows from that."""
    three.leadership.server_id = "server4"
    three.leadership.leader_id = None

    answer = await three.get("/v1/agent/health")

    message = "not a member of the cluster: removed, or not added yet"
    assert answer.status == 500
    assert answer.json == {"server": {"ok": False, "message": message}}


async def test_a_server_that_knows_of_no_cluster_says_so(api: Api):
    """It waits for the others, or to be added: neither shows which."""
    api.leadership.addresses = ()
    api.leadership.leader_id = None

    answer = await api.get("/v1/agent/health")

    message = "no leader: the cluster has not formed, or not added this server yet"
    assert answer.status == 500
    assert answer.json == {"server": {"ok": False, "message": message}}


async def test_servers_that_disagree_are_not_well(api: Api):
    api.admin.in_dispute = True

    answer = await api.get("/v1/agent/health")

    message = "the servers have different states, and no majority the same"
    assert answer.status == 500
    assert answer.json == {"server": {"ok": False, "message": message}}


async def test_who_is_removed_is_listed_no_more(three: Api):
    await three.ask("DELETE", "/v1/operator/raft/peer?id=server3")

    peers = await three.get("/v1/status/peers")
    members = (await three.get("/v1/agent/members")).json["Members"]

    assert peers.json == ["10.0.0.1:4647", "10.0.0.2:4647"]
    assert [member["Name"] for member in members] == [
        "server1.global",
        "server2.global",
    ]


async def test_a_health_of_something_else_is_refused(api: Api):
    assert (await api.get("/v1/agent/health?type=x")).status == 400


async def test_members_lead_to_the_leaders_address(three: Api):
    answer = await three.get("/v1/agent/members")

    listed = answer.json
    assert listed["ServerName"] == "server1"
    assert listed["ServerRegion"] == "global"
    assert listed["ServerDC"] == "dc1"
    members = listed["Members"]
    assert [member["Name"] for member in members] == [
        "server1.global",
        "server2.global",
        "server3.global",
    ]
    addresses = [f"{one['Addr']}:{one['Tags']['port']}" for one in members]
    assert addresses[0] == (await three.get("/v1/status/leader")).json
    assert members[2]["Addr"] == "::1"
    assert all(isinstance(text, str) for text in members[0]["Tags"].values())
    assert isinstance(members[0]["Port"], int)
    assert members[0]["Status"] == "alive"
    assert {member["Tags"]["expect"] for member in members} == {"3"}


async def test_a_server_alone_expects_nobody(api: Api):
    """The tags say so as Nomad's do."""
    (member,) = (await api.get("/v1/agent/members")).json["Members"]

    assert member["Tags"]["bootstrap"] == "1"
    assert "expect" not in member["Tags"]


async def test_there_is_one_region(api: Api):
    assert (await api.get("/v1/regions")).json == ["global"]
