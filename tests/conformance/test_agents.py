"""Sections 12.9 and 12.10: registration, heartbeats, status and events."""

import uuid

import pytest

from tests.conformance.agents import Agent, registered
from tests.conformance.rows import case, rows
from tests.real_server import Answer, running_server

TTL_NS_MIN = 10_000_000_000
TTL_NS_MAX = 20_000_000_000


def has_ttl(answer: Answer) -> bool:
    return bool(TTL_NS_MIN <= answer.json["HeartbeatTTL"] <= TTL_NS_MAX)


@rows("N2")
def test_another_secret_does_not_register(server):
    """V31: refused as a permission, and nothing changes."""
    agent = registered(server)
    before = server.get(agent.path).body
    index = server.get("/v1/nodes").index
    agent.secret = str(uuid.uuid4())

    answer = agent.register(Name="other")

    assert answer.status == 403
    assert answer.text == "node secret ID does not match. Not registering node."
    assert server.get(agent.path).body == before
    assert server.get("/v1/nodes").index == index


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        case("N3", {"ID": ""}, "missing node ID for client registration"),
        case("N3", {"ID": None}, "missing node ID for client registration"),
        case("N3", {"Datacenter": ""}, "missing datacenter for client registration"),
        case("N3", {"Name": ""}, "missing node name for client registration"),
        case("N3", {"Attributes": {}}, "missing attributes for client registration"),
        case("N3", {"SecretID": ""}, "missing node secret ID for client registration"),
        case("N3", {"ID": "", "Name": ""}, "missing node ID for client registration"),
        case("N4", {"Status": "bogus"}, "invalid status for node"),
        case("N4", {"Status": "disconnected"}, "invalid status for node"),
        case(
            "N16",
            {"ID": "short"},
            "node lookup failed: index error: UUID must be 36 characters",
        ),
    ],
)
def test_a_registration_without_what_it_needs_is_refused(server, fields, text):
    """V3."""
    index = server.get("/v1/nodes").index

    answer = Agent(server).register(**fields)

    assert (answer.status, answer.text) == (400, text)
    assert server.get("/v1/nodes").index == index


@rows("N3")
@pytest.mark.parametrize("body", [{}, {"Node": None}])
def test_a_registration_without_a_node_is_refused(server, body):
    answer = server.put("/v1/nodes", body)

    assert answer.status == 400
    assert answer.text == "missing node for client registration"


@rows("N29")
@pytest.mark.parametrize("secret", ["opensesame", "z" * 36])
def test_a_secret_that_is_no_uuid_is_refused(server, secret):
    """V17."""
    agent = Agent(server)

    answer = agent.register(SecretID=secret)

    assert answer.status == 400
    assert "secret" in answer.text.lower()
    assert secret not in answer.text
    assert server.get(agent.path).status == 404


@rows("N5", "N6")
def test_status_and_eligibility_have_defaults(server):
    node = registered(server, Status="", SchedulingEligibility="").read()

    assert (node["Status"], node["SchedulingEligibility"]) == (
        "initializing",
        "eligible",
    )


@rows("N7", "N14")
def test_registration_and_heartbeat_tell_when_and_whom_to_ask_next(server):
    agent = Agent(server)

    for answer in (agent.register(), agent.heartbeat(), agent.heartbeat(None)):
        assert has_ttl(answer)
        assert answer.json["NumNodes"] == len(server.get("/v1/nodes").json)
        (entry,) = answer.json["Servers"]
        assert entry["Datacenter"] == "dc1"
        assert entry["RPCAdvertiseAddr"] == answer.json["LeaderRPCAddr"] != ""


@rows("N8")
def test_a_changed_status_is_written(server):
    agent = registered(server)

    answer = agent.heartbeat("initializing")

    node = agent.read()
    assert answer.json["Index"] == answer.json["NodeModifyIndex"] == node["ModifyIndex"]
    assert node["Status"] == "initializing"
    assert agent.messages() == ["Node registered"]


@rows("N9")
def test_a_heartbeat_brings_a_node_back(server):
    agent = registered(server, Status="down")

    answer = agent.heartbeat("initializing")

    assert has_ttl(answer)
    event = agent.read()["Events"][1]
    assert event["Message"] == "Node reregistered by heartbeat"
    assert (event["Subsystem"], event["CreateIndex"]) == ("Cluster", answer.index)


@rows("N13")
def test_a_heartbeat_that_changes_nothing_writes_nothing(server):
    agent = registered(server)
    before = server.get("/v1/nodes")

    answer = agent.heartbeat()

    assert (answer.json["Index"], answer.json["NodeModifyIndex"], answer.index) == (
        0,
        0,
        0,
    )
    assert has_ttl(answer)
    after = server.get("/v1/nodes")
    assert (after.index, after.body) == (before.index, before.body)


@rows("N7")
def test_a_node_registered_as_down_gets_no_ttl(server):
    assert Agent(server).register(Status="down").json["HeartbeatTTL"] == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        case("N16", {"Status": "bogus"}, 400),
        case("N16", {"Status": 1}, 400),
        case("N15", {"SecretID": ""}, 400),
        case("N15", {"SecretID": None}, 400),
        case("N15", {"SecretID": "no uuid"}, 400),
        case("N15", {"SecretID": "6f8d9c11-0000-4000-8000-000000000009"}, 403),
    ],
)
def test_a_heartbeat_that_proves_or_says_nothing_right_is_refused(server, body, status):
    """V31."""
    agent = registered(server)
    before = server.get("/v1/nodes").index

    answer = server.put(f"{agent.path}/heartbeat", {"SecretID": agent.secret, **body})

    assert answer.status == status
    assert answer.text
    if body.get("Status") == "bogus":
        assert answer.text == "invalid status for node"
    if status == 403:
        assert answer.text == "node secret ID does not match"
    assert server.get("/v1/nodes").index == before


@rows("N15")
def test_the_secret_may_come_as_the_token(server):
    agent = registered(server)
    token = {"X-Nomad-Token": agent.secret}

    answer = server.ask("PUT", f"{agent.path}/heartbeat", {"Status": "ready"}, token)

    assert (answer.status, has_ttl(answer)) == (200, True)


@rows("N17")
def test_down_twice_writes_once(server):
    agent = registered(server)

    first, second = agent.heartbeat("down"), agent.heartbeat("down")

    assert first.json["NodeModifyIndex"] > 0
    assert (second.status, second.json["NodeModifyIndex"]) == (200, 0)
    assert agent.read()["ModifyIndex"] == first.index


@rows("N18", "N19", "NE7")
def test_a_silent_node_goes_down_and_comes_back(restless_server):
    agent = registered(restless_server)

    node = agent.read_until(lambda node: node["Status"] == "down")

    missed = node["Events"][1]
    assert (missed["Message"], missed["Subsystem"]) == (
        "Node heartbeat missed",
        "Cluster",
    )
    assert missed["CreateIndex"] == node["ModifyIndex"]
    agent.register()
    assert agent.read()["Events"][2]["Message"] == "Node re-registered"


@rows("N24")
def test_a_new_leader_starts_a_timer_for_every_node(tmp_path):
    """A node that never speaks again after a restart goes down all the same."""
    with running_server(tmp_path) as server:
        agent = registered(server)
    settings = {
        "heartbeat_ttl_s_min": 0.2,
        "heartbeat_grace_s": 0.2,
        "failover_heartbeat_ttl_s": 0.5,
    }

    with running_server(tmp_path, **settings) as server:
        agent.server = server
        node = agent.read_until(lambda node: node["Status"] == "down")

    assert node["Events"][-1]["Message"] == "Node heartbeat missed"


@rows("N20")
def test_a_ready_node_that_registers_again_says_nothing(server):
    agent = registered(server)
    first = agent.read()

    answer = agent.register()

    second = agent.read()
    assert second["ModifyIndex"] == answer.index > first["ModifyIndex"]
    assert second["CreateIndex"] == first["CreateIndex"]
    assert second["Events"] == first["Events"]


@rows("N21", "N22")
def test_a_registration_does_not_undo_what_operators_set(server):
    agent = registered(server, SchedulingEligibility="eligible")
    agent.set_eligibility("ineligible")
    before = agent.read()

    agent.register(
        SchedulingEligibility="eligible",
        Drain=True,
        DrainStrategy={"Deadline": 1},
        Events=[{"Message": "forged"}],
        CreateIndex=1,
        ModifyIndex=1,
        ComputedClass="v1:1",
        StatusDescription="said",
        Name="renamed",
    )

    node = agent.read()
    kept = ("SchedulingEligibility", "Drain", "DrainStrategy", "Events", "CreateIndex")
    assert {key: node[key] for key in kept} == {key: before[key] for key in kept}
    assert node["ComputedClass"] == before["ComputedClass"]
    assert (node["StatusDescription"], node["Name"]) == ("said", "renamed")
    assert node["ModifyIndex"] > before["ModifyIndex"]


@rows("N23")
def test_a_drained_node_that_registers_again_stays_closed(server):
    agent = registered(server)
    agent.drain({"Deadline": -1}, Meta={"why": "disk"})
    before = agent.settled()

    agent.register(SchedulingEligibility="eligible")

    node = agent.read()
    assert node["SchedulingEligibility"] == "ineligible"
    assert node["LastDrain"] == before["LastDrain"]


@rows("NE1", "NE4")
def test_an_event_is_stored_as_sent_and_moves_the_node(server):
    """V11."""
    agent = registered(server)
    event = {
        "Message": "disk is slow",
        "Subsystem": "Driver",
        "Details": {"device": "sda"},
        "Timestamp": None,
    }

    answer = server.put(
        f"{agent.path}/events", {"SecretID": agent.secret, "NodeEvents": [event]}
    )

    assert answer.json == {"Index": answer.index}
    node = agent.read()
    assert node["Events"][1] == {**event, "CreateIndex": answer.index}
    assert node["ModifyIndex"] == answer.index == server.get("/v1/nodes").index


@rows("NE2", "NE8")
def test_ten_events_are_kept_the_newest_last(server):
    agent = registered(server)

    indexes = [agent.emit(f"event {number}").index for number in range(20)]

    events = agent.read()["Events"]
    assert [event["CreateIndex"] for event in events] == indexes[10:]
    assert events[-1]["Message"] == "event 19"


@rows("NE3")
def test_the_first_event_has_the_index_of_its_entry(server):
    """V12."""
    node = registered(server).read()

    (event,) = node["Events"]
    assert event["Subsystem"] == "Cluster"
    assert event["CreateIndex"] == node["CreateIndex"]
    assert event["Details"] is None
    assert "." not in event["Timestamp"]


@pytest.mark.parametrize(
    "events",
    [case("NE5", []), case("NE5", None), case("NE5", {}), case("NE5", [1])],
)
def test_events_that_are_none_are_refused(server, events):
    agent = registered(server)
    before = server.get("/v1/nodes").index
    body = {"SecretID": agent.secret, "NodeEvents": events}

    answer = server.put(f"{agent.path}/events", body)

    assert (answer.status, bool(answer.text)) == (400, True)
    assert server.get("/v1/nodes").index == before


@rows("NE5")
def test_an_empty_list_of_events_is_named(server):
    agent = registered(server)

    answer = server.put(
        f"{agent.path}/events", {"SecretID": agent.secret, "NodeEvents": []}
    )

    assert answer.text.startswith("no node events given")


@rows("NE6")
def test_events_of_an_unknown_node_are_refused(server):
    before = server.get("/v1/nodes").index

    answer = Agent(server).emit("x")

    assert (answer.status, answer.text) == (404, "node not found")
    assert server.get("/v1/nodes").index == before


@rows("X10")
@pytest.mark.parametrize("token", ["bogus", "5a1e7b2c-93d4-4f60-8a1b-0c2d3e4f5a6b", ""])
def test_without_acls_any_token_is_accepted(server, token):
    agent = registered(server)

    answers = [
        server.get(agent.path, {"X-Nomad-Token": token}),
        server.ask("PUT", f"{agent.path}/evaluate", headers={"X-Nomad-Token": token}),
    ]

    assert [answer.status for answer in answers] == [200, 200]


def test_a_batch_is_accepted_node_by_node(server):
    first, second, third = Agent(server), Agent(server), registered(server)
    third.secret = str(uuid.uuid4())
    nodes = [agent.body()["Node"] for agent in (first, second, third)]
    nodes[1]["Name"] = ""

    answer = server.put("/v1/nodes", {"Nodes": nodes})

    assert answer.status == 200
    results = answer.json["Results"]
    assert [result["ID"] for result in results] == [
        a.id for a in (first, second, third)
    ]
    assert [result["Error"] for result in results] == [
        "",
        "missing node name for client registration",
        "node secret ID does not match. Not registering node.",
    ]
    assert answer.json["Index"] == results[0]["NodeModifyIndex"] == answer.index
    assert TTL_NS_MIN <= results[0]["HeartbeatTTL"] <= TTL_NS_MAX
    assert first.read()["CreateIndex"] == answer.index
    assert server.get(second.path).status == 404
