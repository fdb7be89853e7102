"""A server about itself, and what agents of Nomad are told to do."""

import pytest

from nodestate import __version__
from nodestate.ports import ServerAddress
from tests.api.conftest import Api, ApiFactory

THREE = (
    ServerAddress("server1", "10.0.0.1:4647", "10.0.0.1:4646"),
    ServerAddress("server2", "10.0.0.2:4647", "10.0.0.2:4646"),
    ServerAddress("server3", "[::1]:5647", "[::1]:5646"),
)
SELF = "/v1/agent/self"


@pytest.fixture
async def three(api: Api) -> Api:
    api.leadership.addresses = THREE
    return api


# Itself


async def test_there_are_three_parts_and_no_index(three: Api):
    answer = await three.get(SELF)

    assert set(answer.json) == {"config", "member", "stats"}
    assert answer.nomad_headers() == set()


async def test_all_stats_are_texts(three: Api):
    """One number among them, and the whole answer is lost to typed clients."""
    stats = (await three.get(SELF)).json["stats"]

    assert set(stats) == {"nomad", "raft", "runtime", "serf"}
    for part in stats.values():
        assert part
        assert all(isinstance(text, str) for text in part.values())


async def test_no_node_runs_here(three: Api):
    """By that `nomad node status -self` knows."""
    answer = (await three.get(SELF)).json

    assert "client" not in answer["stats"]
    assert answer["config"]["Client"] == {"Enabled": False}


async def test_what_is_configured_is_under_nomads_names(make_api: ApiFactory):
    api = await make_api(
        name="server2",
        datacenter="dc9",
        region="north",
        http="127.0.0.1:4646",
        acl_enabled=False,
        heartbeat_grace_s=5.0,
        http_tls_key="/etc/secret.pem",
        log_level="debug",
    )
    api.leadership.addresses = THREE

    config = (await api.get(SELF)).json["config"]

    assert config["Datacenter"] == "dc9"
    assert config["Region"] == "north"
    assert config["NodeName"] == "server2"
    assert config["BindAddr"] == "127.0.0.1"
    assert config["LogLevel"] == "DEBUG"
    assert config["ACL"] == {"Enabled": False}
    assert config["Server"]["HeartbeatGrace"] == 5_000_000_000
    assert config["AdvertiseAddrs"]["HTTP"] == "10.0.0.2:4646"
    assert config["AdvertiseAddrs"]["RPC"] == "10.0.0.2:4647"
    assert config["Version"] == {
        "Revision": "",
        "Version": __version__,
        "VersionMetadata": "",
        "VersionPrerelease": "",
    }
    assert config["TLSConfig"]["KeyFile"] == "<redacted>"


async def test_the_member_is_the_one_in_the_list(three: Api):
    member = (await three.get(SELF)).json["member"]
    members = (await three.get("/v1/agent/members")).json["Members"]

    assert member in members
    assert member["Name"] == "server1.global"


async def test_a_leader_says_so(three: Api):
    await three.register()
    applied = three.replica.applied_index()

    stats = (await three.get(SELF)).json["stats"]

    assert stats["nomad"] == {
        "bootstrap": "false",
        "known_regions": "1",
        "leader": "true",
        "leader_addr": "10.0.0.1:4647",
        "server": "true",
    }
    raft = stats["raft"]
    assert raft["state"] == "Leader"
    assert raft["last_contact"] == "0"
    assert raft["num_peers"] == "2"
    assert raft["applied_index"] == raft["last_log_index"] == str(applied)
    assert raft["fsm_pending"] == "0"
    assert raft["term"] == "1"
    assert raft["latest_configuration"].startswith(
        "[{Suffrage:Voter ID:server1 Address:10.0.0.1:4647} "
    )


async def test_a_follower_says_so(three: Api):
    three.leadership.lose("server2")
    three.leadership.last_contact_s = 0.25
    three.admin.learners = {"server3"}

    stats = (await three.get(SELF)).json["stats"]

    assert stats["nomad"]["leader"] == "false"
    assert stats["nomad"]["leader_addr"] == "10.0.0.2:4647"
    assert stats["raft"]["state"] == "Follower"
    assert stats["raft"]["last_contact"] == "250ms"
    assert stats["raft"]["num_peers"] == "1"
    assert "Suffrage:Nonvoter ID:server3" in stats["raft"]["latest_configuration"]


async def test_without_a_leader_the_server_still_describes_itself(three: Api):
    three.leadership.lose(None)

    answer = await three.get(SELF)

    assert answer.status == 200
    assert answer.json["stats"]["raft"]["last_contact"] == "never"
    assert answer.json["stats"]["nomad"]["leader_addr"] == ""


async def test_another_region_is_elsewhere(api: Api):
    assert (await api.get(f"{SELF}?region=mars")).status == 400


# What agents are told


async def test_the_servers_are_listed_by_address(three: Api):
    three.leadership.addresses = THREE[::-1]

    answer = await three.get("/v1/agent/servers")

    assert answer.json == ["10.0.0.1:4647", "10.0.0.2:4647", "[::1]:5647"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_there_is_no_agent_that_could_be_told_its_servers(api: Api, method):
    answer = await api.ask(method, "/v1/agent/servers?address=10.0.0.9:4647")

    assert (answer.status, answer.text) == (501, "Invalid method")


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_who_joins_a_member_is_told_that_it_is_one(three: Api, method):
    answer = await three.ask(
        method, "/v1/agent/join?address=10.0.0.2:4647&address=10.0.0.1:4647"
    )

    assert (answer.status, answer.json) == (200, {"num_joined": 2, "error": ""})


async def test_who_joins_another_is_told_how_one_is_added(three: Api):
    before = three.admin.membership()

    answer = await three.put("/v1/agent/join?address=10.0.0.2:4647&address=nope")

    assert answer.status == 200
    assert answer.json["num_joined"] == 1
    assert "nope" in answer.json["error"]
    assert "10.0.0.2" not in answer.json["error"]
    assert "/v1/operator/raft/peer" in answer.json["error"]
    assert three.admin.membership() == before


@pytest.mark.parametrize("query", ["", "?address="])
async def test_a_join_needs_an_address(api: Api, query):
    answer = await api.put(f"/v1/agent/join{query}")

    assert (answer.status, answer.text) == (400, "missing address to join")


async def test_a_join_has_a_limit(api: Api):
    query = "&".join(f"address=10.0.0.9:{port}" for port in range(1, 102))

    assert (await api.put(f"/v1/agent/join?{query}")).status == 400


async def test_who_is_not_there_has_left(three: Api):
    answer = await three.put("/v1/agent/force-leave?node=nobody.global")

    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("name", ["server2", "server2.global"])
async def test_a_member_does_not_leave_by_force(three: Api, name):
    answer = await three.ask("POST", f"/v1/agent/force-leave?node={name}")

    assert answer.status == 409
    assert "DELETE /v1/operator/raft/peer?id=server2" in answer.text
    assert len(three.leadership.addresses) == 3


async def test_a_force_leave_needs_a_name(api: Api):
    answer = await api.put("/v1/agent/force-leave")

    assert (answer.status, answer.text) == (400, "missing node to force leave")
