"""Sections 12.6 and 12.8: drains of nodes that run nothing, and eligibility."""

import time
import uuid
from urllib.parse import quote

import pytest

from tests.compat.comparison import parse_time_ns
from tests.conformance.agents import HOUR_NS, Agent, registered
from tests.conformance.rows import case, rows
from tests.real_server import Answer, RealServer

SET = "Node drain strategy set"
COMPLETE = "Node drain complete"
CLOSED = "Node marked as ineligible for scheduling"
OPENED = "Node marked as eligible for scheduling"
ZEROS = {"EvalCreateIndex": 0, "EvalIDs": None, "Index": 0, "NodeModifyIndex": 0}


def started_drain(server: RealServer, spec: object) -> tuple[Agent, Answer]:
    """Return a new node's agent, and the answer to the drain that it has begun."""
    agent = registered(server)
    return agent, agent.drain(spec)


@pytest.mark.row("EV11", "DR52")
@rows("D1", "D2", "D3", "D21", "D22")
@pytest.mark.parametrize(
    "deadline", [10_000_000_000, 600_000_000_000, 0, -1, -5_000_000_000, 1, 1000]
)
def test_an_empty_node_drains_at_once_and_stays_closed(server, deadline):
    agent, answer = started_drain(server, {"Deadline": deadline})

    node = agent.settled()

    assert answer.json["Index"] == answer.json["NodeModifyIndex"] == answer.index > 0
    assert (answer.json["EvalIDs"], answer.json["EvalCreateIndex"]) == (None, 0)
    assert (node["Drain"], node["DrainStrategy"]) == (False, None)
    assert node["SchedulingEligibility"] == "ineligible"
    set_event, complete_event = node["Events"][1:]
    assert (set_event["Message"], set_event["Subsystem"]) == (SET, "Drain")
    assert set_event["CreateIndex"] == answer.index
    assert (complete_event["Message"], complete_event["Details"]) == (COMPLETE, None)
    assert complete_event["CreateIndex"] == node["ModifyIndex"] > answer.index


@rows("D23")
def test_a_forced_drain_completes_once(server):
    """V39: also when the deadline is over as soon as the drain begins."""
    agent, _ = started_drain(server, {"Deadline": -1})
    index = agent.settled()["ModifyIndex"]

    waited = server.get(f"{agent.path}?index={index}&wait=1500ms")

    assert waited.index == index
    assert agent.messages().count(COMPLETE) == 1


@rows("D4", "D13", "D33")
def test_a_drain_leaves_a_trace(server):
    """LastDrain, as later versions keep it; the strategy is gone by then."""
    before = int(time.time())
    agent = registered(server)

    agent.drain({"Deadline": HOUR_NS}, Meta={"why": "disk"})

    last = agent.settled()["LastDrain"]
    assert last["Status"] == "complete"
    assert last["AccessorID"] == "token:acls-disabled"
    assert last["Meta"] == {"why": "disk"}
    started_s, updated_s = (
        parse_time_ns(last[key]) / 1e9 for key in ("StartedAt", "UpdatedAt")
    )
    assert before <= started_s <= updated_s <= time.time()
    assert agent.stub()["LastDrain"] == last


@rows("D5")
def test_a_second_drain_of_a_drained_node_is_a_new_one(server):
    """While a drain is under way it is an update: that needs work, so tests/fsm has it."""
    agent, _ = started_drain(server, {"Deadline": HOUR_NS})
    agent.settled()

    agent.drain({"Deadline": HOUR_NS}, Meta={"again": "yes"})

    node = agent.settled()
    assert agent.messages()[1:] == [SET, COMPLETE, SET, COMPLETE]
    assert node["LastDrain"]["Meta"] == {"again": "yes"}


@rows("D6", "D7", "D10", "D14", "D34")
@pytest.mark.parametrize("body", ["null", "{}", '{"DrainSpec":null}'])
def test_stopping_a_drain_that_is_over_writes_and_says_nothing(server, body):
    agent, _ = started_drain(server, {"Deadline": HOUR_NS})
    before = agent.settled()

    answer = server.put(f"{agent.path}/drain", body)

    node = agent.read()
    assert answer.status == 200
    assert node["ModifyIndex"] == answer.index > before["ModifyIndex"]
    unchanged = (
        "Drain",
        "DrainStrategy",
        "SchedulingEligibility",
        "Events",
        "LastDrain",
    )
    assert {key: node[key] for key in unchanged} == {
        key: before[key] for key in unchanged
    }


@rows("D9", "D11")
def test_stopping_with_mark_eligible_opens_the_node_without_an_event(server):
    agent, _ = started_drain(server, {"Deadline": HOUR_NS})
    before = agent.settled()

    for _ in range(2):
        answer = agent.drain(None, MarkEligible=True)
        assert answer.json["EvalIDs"] is None

    node = agent.read()
    assert node["SchedulingEligibility"] == "eligible"
    assert node["Events"] == before["Events"]
    assert node["LastDrain"] == before["LastDrain"]


@rows("D12")
def test_mark_eligible_means_nothing_to_a_drain(server):
    agent = registered(server)

    agent.drain({}, MarkEligible=True)

    node = agent.settled()
    assert node["SchedulingEligibility"] == "ineligible"
    assert SET in agent.messages()


@rows("D15", "G9")
@pytest.mark.parametrize(
    ("tail", "body"),
    [("drain", {"DrainSpec": {}}), ("eligibility", {"Eligibility": "ineligible"})],
)
def test_a_body_for_another_node_is_refused(server, tail, body):
    """V15: nothing happens to either of them."""
    agent, other = registered(server), registered(server)
    index = server.get("/v1/nodes").index

    answer = server.put(f"{agent.path}/{tail}", {**body, "NodeID": other.id})

    assert answer.status == 400
    assert "NodeID" in answer.text
    assert server.get("/v1/nodes").index == index


@rows("D15", "G9")
def test_a_body_for_the_same_node_is_fine(server):
    agent = registered(server)

    answer = server.put(
        f"{agent.path}/eligibility", {"Eligibility": "ineligible", "NodeID": agent.id}
    )

    assert answer.status == 200
    assert agent.read()["SchedulingEligibility"] == "ineligible"


@pytest.mark.parametrize(
    ("word", "drains"),
    [
        *(case("D16", word, True) for word in ("true", "True", "TRUE", "1", "t", "T")),
        *(case("D17", word, False) for word in ("false", "False", "0", "f")),
    ],
)
def test_the_old_parameter_drains_or_opens(server, word, drains):
    """Whatever the body says: it is not read."""
    agent = registered(server)
    agent.set_eligibility("ineligible")

    answer = server.put(f"{agent.path}/drain?enable={word}", "not JSON")

    node = agent.settled()
    assert answer.status == 200
    assert (SET in agent.messages()) is drains
    assert node["SchedulingEligibility"] == ("ineligible" if drains else "eligible")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        case("D18", "maybe", "invalid enable value"),
        case("D19", "", "Request body is empty"),
    ],
)
def test_an_old_parameter_that_is_no_boolean_is_refused(server, word, text):
    agent = registered(server)

    answer = server.put(f"{agent.path}/drain?enable={word}")

    assert (answer.status, answer.text) == (400, text)
    assert agent.messages() == ["Node registered"]


@rows("D30")
def test_a_node_that_is_down_can_be_drained(server):
    agent = registered(server, Status="down")

    agent.drain({"Deadline": HOUR_NS})

    assert agent.settled()["Status"] == "down"
    assert agent.messages()[1:] == [SET, COMPLETE]


@rows("G1", "G2", "G7")
def test_a_node_is_closed_and_opened(server):
    """V9: the answer has the node's new index."""
    agent = registered(server)

    answers = [agent.set_eligibility(word) for word in ("ineligible", "eligible")]

    node = agent.read()
    assert [event["Message"] for event in node["Events"][1:]] == [CLOSED, OPENED]
    assert {event["Subsystem"] for event in node["Events"]} == {"Cluster"}
    assert [event["CreateIndex"] for event in node["Events"][1:]] == [
        answer.json["NodeModifyIndex"] for answer in answers
    ]
    for answer in answers:
        assert answer.json == {
            **ZEROS,
            "Index": answer.index,
            "NodeModifyIndex": answer.index,
        }
    assert node["ModifyIndex"] == answers[1].index > answers[0].index


@pytest.mark.parametrize(
    ("body", "word"),
    [
        case("G3", '{"Eligibility":"foo"}', '"foo"'),
        case("G3", '{"Eligibility":"a\\"b"}', '"a\\"b"'),
        case("G4", '{"Eligibility":"ELIGIBLE"}', '"ELIGIBLE"'),
        case("G4", '{"Eligibility":""}', '""'),
        case("G4", '{"Eligibility":null}', '""'),
        case("G4", "{}", '""'),
        case("G4", "null", '""'),
    ],
)
def test_a_word_that_is_none_is_refused(server, body, word):
    """V3."""
    agent = registered(server)

    answer = server.put(f"{agent.path}/eligibility", body)

    assert answer.status == 400
    assert answer.text == f"invalid scheduling eligibility {word}"
    assert agent.messages() == ["Node registered"]


@rows("G6")
def test_an_unchanged_word_writes_nothing(server):
    agent = registered(server)
    before = server.get("/v1/nodes")

    answer = agent.set_eligibility("eligible")

    assert (answer.status, answer.json, answer.index) == (200, ZEROS, 0)
    after = server.get("/v1/nodes")
    assert (after.index, after.body) == (before.index, before.body)


@rows("G5")
def test_a_drained_node_may_be_opened_and_a_draining_one_not(server):
    """A drain that lasts needs work; the race with an empty one has two right ends."""
    agent, _ = started_drain(server, {"Deadline": HOUR_NS})

    answer = agent.set_eligibility("eligible")

    if answer.status != 200:
        assert answer.status == 409
        assert answer.text == (
            "can not set node's scheduling eligibility to eligible while it is draining"
        )
    agent.settled()
    assert agent.set_eligibility("eligible").status == 200
    assert agent.read()["SchedulingEligibility"] == "eligible"


@rows("G8")
def test_a_node_event_in_the_body_is_refused(server):
    agent = registered(server)
    body = {"Eligibility": "ineligible", "NodeEvent": {"Message": "x"}}

    answer = server.put(f"{agent.path}/eligibility", body)

    assert (answer.status, answer.text) == (400, "node event must not be set")
    assert agent.messages() == ["Node registered"]


@rows("G10")
def test_a_bad_word_is_reported_before_an_unknown_node(server):
    answer = server.put(f"/v1/node/{uuid.uuid4()}/eligibility", {"Eligibility": "foo"})

    assert (answer.status, answer.text) == (400, 'invalid scheduling eligibility "foo"')


@rows("G1")
def test_a_node_that_is_down_can_be_closed(server):
    agent = registered(server, Status="down")

    agent.set_eligibility("ineligible")

    expression = quote('Status == "down"')
    (stub,) = server.get(f"/v1/nodes?prefix={agent.id}&filter={expression}").json
    assert stub["SchedulingEligibility"] == "ineligible"
