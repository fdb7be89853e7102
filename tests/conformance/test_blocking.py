"""Section 12.12: what wakes a reader that waits, and what does not."""

import uuid

import pytest

from tests.conformance.agents import HOUR_NS, Agent, read_during, registered
from tests.conformance.rows import case, rows
from tests.real_server import Answer, RealServer

WAIT_S = 0.4
LATE_S = 0.5
UNTIL_WOKEN = "wait=10s"


def ran_out(answer: Answer, wait_s: float = WAIT_S) -> bool:
    return wait_s <= answer.elapsed_s <= wait_s * 17 / 16 + LATE_S


def woke(answer: Answer) -> bool:
    return answer.elapsed_s < 5


def table_index(server: RealServer) -> int:
    return server.get("/v1/nodes").index


@rows("B1")
def test_the_list_wakes_on_a_new_node(empty_server):
    index = table_index(empty_server)
    agent = Agent(empty_server)

    answer = read_during(
        empty_server, f"/v1/nodes?index={index}&{UNTIL_WOKEN}", agent.register
    )

    assert woke(answer)
    assert answer.index > index
    assert [stub["ID"] for stub in answer.json] == [agent.id]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        case("B2", "drain", lambda agent: agent.drain({"Deadline": HOUR_NS})),
        case("B3", "down", lambda agent: agent.heartbeat("down")),
        case("B4", "purge", lambda agent: agent.purge()),
        case("B10", "event", lambda agent: agent.emit("x")),
    ],
)
def test_the_list_wakes_on_any_change(server, name, write):
    agent = registered(server)
    index = table_index(server)
    written = []

    answer = read_during(
        server,
        f"/v1/nodes?index={index}&{UNTIL_WOKEN}",
        lambda: written.append(write(agent)),
    )

    assert woke(answer)
    assert answer.index >= written[0].index > index
    agent.server = server
    listed = {stub["ID"]: stub for stub in answer.json}
    assert (agent.id in listed) == (name != "purge")
    if name == "down":
        assert listed[agent.id]["Status"] == "down"
    if name == "drain":
        assert listed[agent.id]["SchedulingEligibility"] == "ineligible"


@rows("B5")
def test_a_read_wakes_when_its_node_arrives(server):
    registered(server)
    late = Agent(server)
    index = server.get(late.path).index

    answer = read_during(
        server, f"{late.path}?index={index}&{UNTIL_WOKEN}", late.register
    )

    assert woke(answer)
    assert answer.json["ID"] == late.id
    assert answer.index == answer.json["CreateIndex"] > index


@pytest.mark.parametrize(
    ("name", "write"),
    [
        case("B6", "down", lambda agent: agent.heartbeat("down")),
        case("B9", "event", lambda agent: agent.emit("x")),
    ],
)
def test_a_read_wakes_on_its_nodes_change(server, name, write):
    """V11: an event is one."""
    agent = registered(server)
    index = agent.read()["ModifyIndex"]
    written = []

    answer = read_during(
        server,
        f"{agent.path}?index={index}&{UNTIL_WOKEN}",
        lambda: written.append(write(agent)),
    )

    assert woke(answer)
    assert answer.index == answer.json["ModifyIndex"] == written[0].index
    assert answer.body == server.get(agent.path).body


@rows("B7", "B16")
def test_a_purge_releases_who_waits_for_the_node(server):
    agent = registered(server)
    index = agent.read()["ModifyIndex"]
    purged = []

    answer = read_during(
        server,
        f"{agent.path}?index={index}&{UNTIL_WOKEN}",
        lambda: purged.append(agent.purge()),
    )

    assert woke(answer)
    assert (answer.status, answer.text) == (404, "node not found")
    assert answer.index == purged[0].index
    assert answer.headers["x-nomad-knownleader"] == "true"


@rows("B8")
def test_a_read_does_not_wake_on_another_nodes_change(server):
    agent, other = registered(server), registered(server)
    index = agent.read()["ModifyIndex"]

    answer = read_during(
        server,
        f"{agent.path}?index={index}&wait={WAIT_S}s",
        lambda: other.set_eligibility("ineligible"),
    )

    assert ran_out(answer)
    assert answer.index == index


@rows("B11")
def test_a_prefix_list_does_not_wake_on_a_change_outside_it(server):
    """V46: it still answers with the index that the table has by then."""
    agent, other = registered(server), registered(server)
    index = table_index(server)

    answer = read_during(
        server,
        f"/v1/nodes?prefix={agent.id[:18]}&index={index}&wait={WAIT_S}s",
        lambda: other.set_eligibility("ineligible"),
    )

    assert ran_out(answer)
    assert answer.index == table_index(server) > index
    assert [stub["ID"] for stub in answer.json] == [agent.id]


@rows("B11")
def test_a_prefix_list_wakes_on_a_change_inside_it(server):
    agent = registered(server)
    index = table_index(server)

    answer = read_during(
        server,
        f"/v1/nodes?prefix={agent.id[:18]}&index={index}&{UNTIL_WOKEN}",
        lambda: agent.set_eligibility("ineligible"),
    )

    assert woke(answer)
    assert answer.json[0]["SchedulingEligibility"] == "ineligible"


@rows("B12", "B15")
def test_a_wait_for_a_missing_node_ends_in_404(server):
    index = table_index(server)

    answer = server.get(f"/v1/node/{uuid.uuid4()}?index={index}&wait={WAIT_S}s")

    assert (answer.status, answer.index) == (404, index)
    assert ran_out(answer)


@rows("B13")
def test_an_index_from_the_future_waits_and_shows_what_is(server):
    agent = registered(server)
    index = table_index(server)

    answer = read_during(
        server,
        f"/v1/nodes?index={index + 1000}&wait={WAIT_S}s",
        lambda: agent.set_eligibility("ineligible"),
    )

    assert ran_out(answer)
    assert index < answer.index < index + 1000
    listed = {stub["ID"]: stub for stub in answer.json}
    assert listed[agent.id]["SchedulingEligibility"] == "ineligible"


@rows("B14")
@pytest.mark.parametrize("query", ["index=0&wait=10s", "wait=10s", "index=1&wait=10s"])
def test_without_an_index_to_pass_nothing_waits(server, query):
    registered(server)

    answer = server.get(f"/v1/nodes?{query}")

    assert (answer.status, answer.elapsed_s < 2) == (200, True)


@rows("B15")
@pytest.mark.parametrize(
    "wait", ["400ms", "0.4s", "400000us", "400000%C2%B5s", "0m0.4s"]
)
def test_a_wait_takes_its_time_in_any_unit(server, wait):
    answer = server.get(f"/v1/nodes?index={table_index(server)}&wait={wait}")

    assert ran_out(answer)


@rows("A4")
def test_allocations_wait_as_well(server):
    agent = registered(server)

    answer = server.get(f"{agent.path}/allocations?index=1&wait={WAIT_S}s")

    assert (answer.status, answer.body, answer.index) == (200, b"[]", 1)
    assert ran_out(answer)
