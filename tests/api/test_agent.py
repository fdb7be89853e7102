"""What agents send: the rows N and NE, as changed on purpose."""

import asyncio
import hashlib

import pytest

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.model.command import RegisterNodes
from nodestate.model.encoding import MSGPACK
from nodestate.model.node_id import node_key
from nodestate.model.question import Heartbeat, NotAnswered, StartTimers
from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    OTHER_ID,
    SECRET,
    TTL_NS,
    UNKNOWN_ID,
    Api,
    node_body,
)
from tests.conformance.rows import case, rows

OTHER_SECRET = "6f8d9c11-0000-4000-8000-000000000002"
KEY = node_key(NODE_ID)
SHORTEST_NS = 10_000_000_000


@rows("N1", "N7", "N14")
async def test_a_registration_is_answered(api: Api):
    answer = await api.register()

    assert answer.json == {
        "EvalCreateIndex": 0,
        "EvalIDs": None,
        "HeartbeatTTL": TTL_NS,
        "Index": answer.index,
        "KnownLeader": False,
        "LastContact": 0,
        "LeaderRPCAddr": "127.0.0.1:4647",
        "NodeModifyIndex": answer.index,
        "NumNodes": 1,
        "Servers": [
            {
                "Datacenter": "dc1",
                "RPCAdvertiseAddr": "127.0.0.1:4647",
                "RPCMajorVersion": 1,
                "RPCMinorVersion": 1,
            }
        ],
    }
    assert api.questions == [StartTimers((KEY,))]


async def test_only_the_digest_of_the_secret_goes_on(api: Api):
    await api.register()

    (command,) = api.proposer.commands

    assert isinstance(command, RegisterNodes)
    (registration,) = command.registrations
    assert registration.secret_sha256 == hashlib.sha256(SECRET.encode()).digest()
    assert SECRET.encode() not in MSGPACK.encode(command)
    assert SECRET not in (await api.get(NODE_PATH)).text


@rows("N2")
async def test_another_secret_does_not_register(api: Api):
    await api.register()
    before = (await api.get(NODE_PATH)).body

    answer = await api.put("/v1/nodes", {"Node": node_body(SecretID=OTHER_SECRET)})

    assert answer.status == 403
    assert answer.text == "node secret ID does not match. Not registering node."
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert (await api.get(NODE_PATH)).body == before


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        case("N3", {"ID": ""}, "missing node ID for client registration"),
        case("N3", {"ID": None}, "missing node ID for client registration"),
        case("N3", {"Datacenter": ""}, "missing datacenter for client registration"),
        case("N3", {"Name": ""}, "missing node name for client registration"),
        case("N3", {"Attributes": {}}, "missing attributes for client registration"),
        case("N3", {"SecretID": ""}, "missing node secret ID for client registration"),
        case(
            "N3",
            {"Name": "", "SecretID": ""},
            "missing node name for client registration",
        ),
        case("N4", {"Status": "bogus"}, "invalid status for node"),
        case("N4", {"Status": "disconnected"}, "invalid status for node"),
        case(
            "N16",
            {"ID": "x"},
            "node lookup failed: index error: UUID must be 36 characters",
        ),
        case("N16", {"ID": "1" * 36}, "node ID must have 32 hex digits"),
        case("N29", {"SecretID": "secret"}, "SecretID must be a UUID"),
        case(
            "N31",
            {"NodePool": "a b"},
            "invalid node pool: must be 1 to 128 letters, digits, '-' and '_'",
        ),
        case(
            "N31",
            {"NodePool": "all"},
            'node is not allowed to register in node pool "all"',
        ),
    ],
)
async def test_a_registration_without_what_it_needs_is_refused(api: Api, fields, text):
    answer = await api.put("/v1/nodes", {"Node": node_body(**fields)})

    assert (answer.status, answer.text) == (400, text)
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert api.proposer.commands == []


@pytest.mark.parametrize("body", [case("N3", {}), case("N3", {"Node": None})])
async def test_a_registration_without_a_node_is_refused(api: Api, body):
    answer = await api.put("/v1/nodes", body)

    assert (answer.status, answer.text) == (
        400,
        "missing node for client registration",
    )


@rows("N5", "N6")
async def test_status_eligibility_and_pool_have_defaults(api: Api):
    await api.register(Status="", SchedulingEligibility="", NodePool="")

    node = await api.read()

    assert node["Status"] == "initializing"
    assert node["SchedulingEligibility"] == "eligible"
    assert node["NodePool"] == "default"


@rows("N21", "N22")
async def test_what_is_not_the_agents_to_say_is_not_taken(api: Api):
    await api.register()
    before = await api.read()

    await api.register(
        SchedulingEligibility="ineligible",
        Drain=True,
        DrainStrategy={"Deadline": 1},
        Events=[{"Message": "forged"}],
        CreateIndex=1,
        ModifyIndex=1,
        ComputedClass="v1:1",
        StatusUpdatedAt=1,
        LastDrain={"Status": "draining"},
        StatusDescription="said",
    )

    node = await api.read()
    assert node == {
        **before,
        "ModifyIndex": node["ModifyIndex"],
        "StatusDescription": "said",
    }


@pytest.mark.parametrize(
    "fields", [{"Drain": True}, {"DrainStrategy": {"Deadline": 5}}]
)
async def test_a_node_that_comes_draining_is_closed(api: Api, fields):
    await api.register(**fields)

    node = await api.read()

    assert node["Drain"] is True
    assert node["DrainStrategy"] is not None
    assert node["SchedulingEligibility"] == "ineligible"


@rows("N7")
async def test_a_node_registered_as_down_gets_no_ttl(api: Api):
    answer = await api.register(Status="down")

    assert answer.json["HeartbeatTTL"] == 0
    assert api.questions == []


@pytest.mark.parametrize("error", [NoLeaderError("x"), OutcomeUnknownError("x")])
async def test_a_registration_without_the_leaders_word_gets_the_shortest_ttl(
    api: Api, error
):
    api.leader_calls.errors.append(error)

    answer = await api.register()

    assert answer.json["HeartbeatTTL"] == SHORTEST_NS


@rows("V6")
async def test_an_unknown_outcome_is_said_to_be(api: Api):
    api.proposer.errors.append(OutcomeUnknownError("x"))

    answer = await api.put("/v1/nodes", {"Node": node_body()})

    assert answer.status == 504
    assert answer.text.startswith("outcome unknown: ")
    assert "read the node" in answer.text
    assert answer.headers["x-nodestate-outcome"] == "unknown"


async def test_a_batch_is_accepted_node_by_node(api: Api):
    await api.register(OTHER_ID)
    nodes = [
        node_body(Status="down"),
        node_body(UNKNOWN_ID, Name=""),
        node_body(OTHER_ID, SecretID=OTHER_SECRET),
        node_body(UNKNOWN_ID),
    ]

    answer = await api.put("/v1/nodes", {"Nodes": nodes})

    results = answer.json["Results"]
    assert [result["ID"] for result in results] == [
        NODE_ID,
        UNKNOWN_ID,
        OTHER_ID,
        UNKNOWN_ID,
    ]
    assert [result["Error"] for result in results] == [
        "",
        "missing node name for client registration",
        "node secret ID does not match. Not registering node.",
        "",
    ]
    assert [result["HeartbeatTTL"] for result in results] == [0, 0, 0, TTL_NS]
    assert [result["Index"] for result in results] == [answer.index, 0, 0, answer.index]
    assert answer.json["Index"] == answer.index == (await api.read())["CreateIndex"]
    assert len(api.proposer.commands) == 2


async def test_a_batch_of_which_nothing_is_right_writes_nothing(api: Api):
    answer = await api.put("/v1/nodes", {"Nodes": [node_body(Name="")]})

    assert (answer.status, answer.index, answer.json["Index"]) == (200, 0, 0)
    assert api.proposer.commands == []


@pytest.mark.parametrize(("count", "status"), [(2, 200), (3, 413)])
async def test_a_batch_has_a_limit(make_api, count, status):
    api = await make_api(batch_nodes_max=2)
    nodes = [node_body(f"{number:08x}{NODE_ID[8:]}") for number in range(count)]

    answer = await api.put("/v1/nodes", {"Nodes": nodes})

    assert answer.status == status
    assert ("batch_nodes_max" in answer.text) is (status == 413)


async def test_one_node_or_many_but_not_both(api: Api):
    answer = await api.put("/v1/nodes", {"Node": node_body(), "Nodes": []})

    assert answer.status == 400


# Heartbeat


@rows("N13")
async def test_a_heartbeat_that_changes_nothing_is_at_index_0(api: Api):
    await api.register()
    before = (await api.get("/v1/nodes")).body

    answer = await api.put(f"{NODE_PATH}/heartbeat", {"SecretID": SECRET})

    assert (answer.index, answer.json["Index"], answer.json["NodeModifyIndex"]) == (
        0,
        0,
        0,
    )
    assert answer.json["HeartbeatTTL"] == TTL_NS
    assert answer.json["NumNodes"] == 1
    assert (await api.get("/v1/nodes")).body == before
    asked = api.questions[-1]
    assert isinstance(asked, Heartbeat)
    assert (asked.key, asked.status) == (KEY, None)


@rows("N8")
async def test_a_changed_status_is_written(api: Api):
    await api.register()
    body = {"SecretID": SECRET, "Status": "initializing"}

    answer = await api.put(f"{NODE_PATH}/heartbeat", body)

    node = await api.read()
    assert node["Status"] == "initializing"
    assert node["ModifyIndex"] == answer.index == answer.json["NodeModifyIndex"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        case(
            "N16",
            {"Status": "bogus", "SecretID": SECRET},
            400,
            "invalid status for node",
        ),
        case("V31", {}, 400, "missing node secret ID for client status update"),
        case("V31", {"SecretID": "no uuid"}, 400, "SecretID must be a UUID"),
        case("V31", {"SecretID": OTHER_SECRET}, 403, "node secret ID does not match"),
    ],
)
async def test_a_heartbeat_that_proves_nothing_is_refused(api: Api, body, status, text):
    await api.register()
    before = (await api.get(NODE_PATH)).body

    answer = await api.put(f"{NODE_PATH}/heartbeat", body)

    assert (answer.status, answer.text) == (status, text)
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert (await api.get(NODE_PATH)).body == before


@pytest.mark.parametrize(
    "headers",
    [
        case("V31", {"X-Nomad-Token": f" {SECRET} "}),
        case("V22", {"Authorization": f"Bearer {SECRET}"}),
    ],
)
async def test_the_secret_may_come_as_the_token(api: Api, headers):
    await api.register()

    answer = await api.ask("POST", f"{NODE_PATH}/heartbeat", {}, headers)

    assert answer.status == 200


@rows("N15")
async def test_a_heartbeat_of_an_unknown_node_is_404(api: Api):
    answer = await api.put(f"/v1/node/{UNKNOWN_ID}/heartbeat", {"SecretID": SECRET})

    assert (answer.status, answer.text) == (404, "node not found")


async def test_a_heartbeat_waits_for_a_leader_that_is_not_ready_yet(api: Api):
    await api.register()
    api.leader_calls.errors += [NoLeaderError("x"), NoLeaderError("x")]
    timers = api.clock.timer_count()

    asking = asyncio.create_task(
        api.put(f"{NODE_PATH}/heartbeat", {"SecretID": SECRET})
    )
    await api.until(lambda: api.clock.timer_count() > timers)
    await api.pass_time(asking, 1)

    assert (await asking).status == 200


@pytest.mark.parametrize(
    ("may_apply", "status", "outcome"),
    [case("V5", False, 503, "none"), case("V6", True, 504, "unknown")],
)
async def test_a_leader_that_cannot_say_is_not_believed(
    api: Api, may_apply, status, outcome
):
    await api.register()

    async def answer(_: bytes) -> bytes:
        return MSGPACK.encode(NotAnswered("x", may_apply=may_apply))

    api.leader_calls.answer_with(answer)
    timers = api.clock.timer_count()
    asking = asyncio.create_task(
        api.put(f"{NODE_PATH}/heartbeat", {"SecretID": SECRET})
    )
    if not may_apply:
        await api.until(lambda: api.clock.timer_count() > timers)
    await api.pass_time(asking, 5)

    refused = await asking
    assert (refused.status, refused.headers["x-nodestate-outcome"]) == (status, outcome)


# Events


@rows("NE1", "NE3", "NE4")
async def test_an_event_is_stored_as_sent(api: Api):
    await api.register()
    event = {
        "Message": "disk is slow",
        "Subsystem": "Driver",
        "Details": {"device": "sda"},
        "Timestamp": None,
    }

    answer = await api.put(
        f"{NODE_PATH}/events",
        {"SecretID": SECRET, "NodeEvents": [{**event, "CreateIndex": 99}]},
    )

    assert answer.json == {"Index": answer.index}
    node = await api.read()
    assert node["Events"][1] == {**event, "CreateIndex": answer.index}
    assert node["ModifyIndex"] == answer.index


@pytest.mark.parametrize(
    ("events", "text"),
    [
        case("NE5", None, "no node events given"),
        case("NE5", [], f'no node events given for node "{NODE_ID}"'),
        case(
            "NE5",
            [1],
            "request body at NodeEvents[0]: found a whole number, expected an object",
        ),
    ],
)
async def test_events_that_are_none_are_refused(api: Api, events, text):
    await api.register()

    answer = await api.put(
        f"{NODE_PATH}/events", {"SecretID": SECRET, "NodeEvents": events}
    )

    assert (answer.status, answer.text) == (400, text)


@pytest.mark.parametrize(("count", "status"), [(1000, 200), (1001, 413)])
async def test_events_have_a_limit(api: Api, count, status):
    await api.register()

    answer = await api.put(
        f"{NODE_PATH}/events", {"SecretID": SECRET, "NodeEvents": [{}] * count}
    )

    assert answer.status == status


@pytest.mark.parametrize(
    ("node_id", "secret", "status"),
    [
        case("NE6", UNKNOWN_ID, SECRET, 404),
        case("V31", NODE_ID, OTHER_SECRET, 403),
        case("V31", NODE_ID, "", 400),
    ],
)
async def test_events_without_proof_are_refused(api: Api, node_id, secret, status):
    await api.register()
    body = {"SecretID": secret, "NodeEvents": [{"Message": "x"}]}

    assert (await api.put(f"/v1/node/{node_id}/events", body)).status == status
