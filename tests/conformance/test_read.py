"""Sections 12.3, 12.5, 12.7, 12.13: one node read, evaluated, purged, classified."""

import time
import uuid
from typing import Any

import pytest

from tests.conformance.agents import Agent, registered
from tests.conformance.rows import case, rows
from tests.real_server import RealServer

ID_ERROR = "node lookup failed: index error: "
DEVICE = {
    "Vendor": "v",
    "Type": "gpu",
    "Name": "m",
    "Attributes": {
        "mem": {"Int": 4, "Unit": "MiB"},
        "b": {"Bool": True},
        "s": {"String": "x"},
        "f": {"Float": 1.5, "Unit": "GHz"},
    },
}
CLASSED: dict[str, Any] = {
    "Datacenter": "dc1",
    "NodeClass": "linux-medium-pci",
    "Attributes": {
        "kernel.name": "linux",
        "arch": "x86",
        "nomad.version": "0.5.0",
        "driver.exec": "1",
        "driver.mock_driver": "1",
    },
    "Meta": {"pci-dss": "true", "database": "mysql", "version": "5.6"},
    "NodeResources": {},
}
CLASSED_AS = "v1:3536556687399806124"


@rows("R1", "R2", "R3", "R4", "N1")
def test_a_node_is_read_as_registered(server):
    agent = Agent(server)
    written = agent.register()

    answer = server.get(agent.path)

    node = answer.json
    assert node["ID"] == agent.id
    assert node["Events"][0]["Message"] == "Node registered"
    assert node["SecretID"] == ""
    assert node["ComputedClass"].startswith("v1:")
    assert written.json["Index"] == written.json["NodeModifyIndex"] == written.index
    assert node["CreateIndex"] == node["ModifyIndex"] == answer.index == written.index


@rows("R5")
def test_the_status_is_as_old_as_the_registration(server):
    started = int(time.time())

    node = registered(server).read()

    assert started <= node["StatusUpdatedAt"] <= time.time()


@rows("R6")
def test_an_unknown_node_is_not_found_at_the_tables_index(server):
    index = registered(server).read()["ModifyIndex"]

    answer = server.get(f"/v1/node/{uuid.uuid4()}")

    assert (answer.status, answer.text, answer.index) == (404, "node not found", index)
    assert answer.headers["x-nomad-knownleader"] == "true"
    assert "x-nomad-lastcontact" in answer.headers


@pytest.mark.parametrize(
    ("node_id", "text"),
    [
        case("R8", "12345678", "UUID must be 36 characters"),
        case("R8", "1" * 37, "UUID must be 36 characters"),
        case("R10", "1234-5678-1234-5678-1234-56781234567", "5"),
        case("R11", "z1111111-2222-3333-4444-555555555555", "U+007A 'z'"),
        case("R11", "1111111-2222-3333-4444-5555555555555", None),
    ],
)
def test_a_malformed_id_is_refused(server, node_id, text):
    """V2."""
    texts = {
        "5": 'UUID should have maximum of 4 "-"; got 5',
        "U+007A 'z'": "Invalid UUID: encoding/hex: invalid byte: U+007A 'z'",
    }

    answer = server.get(f"/v1/node/{node_id}")

    if text is None:
        assert (answer.status, answer.text) == (404, "node not found")
    else:
        assert answer.status == 400
        assert answer.text == ID_ERROR + texts.get(text, text)


@rows("R9")
def test_an_id_may_be_written_otherwise_and_is_shown_as_registered(server):
    agent = registered(server)
    digits = agent.id.replace("-", "")

    for other in (agent.id.upper(), f"--{digits}--", f"{digits}----"):
        answer = server.get(f"/v1/node/{other}")
        assert (answer.status, answer.json["ID"]) == (200, agent.id)


@rows("R12")
def test_what_was_not_registered_is_null_or_zero(server):
    """V33: resources are filled with zeros."""
    node = registered(server).read()

    for key in (
        "Drivers",
        "Links",
        "Meta",
        "HostVolumes",
        "DrainStrategy",
        "LastDrain",
    ):
        assert node[key] is None
    assert node["NodeResources"]["Cpu"] == {"CpuShares": 0}
    assert node["ReservedResources"]["Networks"] == {"ReservedHostPorts": ""}
    assert node["Resources"]["MemoryMB"] == 0


@rows("R13")
def test_empty_maps_are_null(server):
    agent = registered(server, Meta={}, Links={}, Drivers={"java": {"Attributes": {}}})

    node = agent.read()

    assert (node["Meta"], node["Links"]) == (None, None)
    assert node["Drivers"]["java"]["Attributes"] is None
    assert agent.stub()["Drivers"]["java"]["Attributes"] is None


@rows("R14")
def test_device_attributes_have_all_five_keys(server):
    node = registered(server, NodeResources={"Devices": [DEVICE]}).read()

    attributes = node["NodeResources"]["Devices"][0]["Attributes"]
    unset = dict.fromkeys(("Float", "Int", "String", "Bool"))
    assert attributes == {
        "mem": {**unset, "Int": 4, "Unit": "MiB"},
        "b": {**unset, "Bool": True, "Unit": ""},
        "s": {**unset, "String": "x", "Unit": ""},
        "f": {**unset, "Float": 1.5, "Unit": "GHz"},
    }


@rows("E1", "D20", "P3", "N15")
@pytest.mark.parametrize(
    ("tail", "body"),
    [
        ("evaluate", None),
        ("drain", {"DrainSpec": {"Deadline": 1}}),
        ("purge", None),
        ("eligibility", {"Eligibility": "eligible"}),
        ("heartbeat", {"SecretID": str(uuid.uuid4()), "Status": "ready"}),
        ("events", {"SecretID": str(uuid.uuid4()), "NodeEvents": [{"Message": "x"}]}),
    ],
)
def test_a_write_to_a_missing_node_is_404(server, tail, body):
    """V1."""
    before = server.get("/v1/nodes").index

    answer = server.put(f"/v1/node/{uuid.uuid4()}/{tail}", body)

    assert (answer.status, answer.text) == (404, "node not found")
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert server.get("/v1/nodes").index == before


@rows("D20", "P4", "N16")
@pytest.mark.parametrize(
    ("tail", "body"),
    [
        ("evaluate", None),
        ("drain", {"DrainSpec": {"Deadline": 1}}),
        ("purge", None),
        ("eligibility", {"Eligibility": "eligible"}),
        ("heartbeat", {"SecretID": str(uuid.uuid4()), "Status": "ready"}),
    ],
)
def test_a_write_to_a_malformed_id_is_400(server, tail, body):
    """V2."""
    answer = server.put(f"/v1/node/12345678/{tail}", body)

    assert answer.status == 400
    assert answer.text == f"{ID_ERROR}UUID must be 36 characters"


@rows("E2", "E7", "E9")
@pytest.mark.parametrize("body", [None, "garbage", "{", {"NodeID": "other"}])
def test_nothing_to_evaluate_writes_nothing(server, body):
    agent = registered(server)
    before = server.get("/v1/nodes")

    answer = server.put(f"{agent.path}/evaluate", body)

    assert (answer.status, answer.index) == (200, 0)
    assert answer.json["EvalIDs"] is None
    for key in ("EvalCreateIndex", "Index", "NodeModifyIndex", "HeartbeatTTL"):
        assert answer.json[key] == 0
    assert answer.json["KnownLeader"] is False
    assert answer.json["NumNodes"] == len(before.json)
    assert answer.json["Servers"][0]["RPCAdvertiseAddr"] == answer.json["LeaderRPCAddr"]
    assert answer.json["LeaderRPCAddr"]
    assert server.get("/v1/nodes").index == before.index


@rows("P1", "P2", "P5")
def test_a_purged_node_is_gone(server):
    agent = registered(server)

    answer = agent.purge()

    assert answer.status == 200
    assert answer.json == {
        "EvalCreateIndex": 0,
        "EvalIDs": None,
        "HeartbeatTTL": 0,
        "Index": answer.index,
        "KnownLeader": False,
        "LastContact": 0,
        "LeaderRPCAddr": "",
        "NodeModifyIndex": answer.index,
        "NumNodes": 0,
        "Servers": None,
    }
    gone = server.get(agent.path)
    assert (gone.status, gone.index) == (404, answer.index)
    assert server.get(f"/v1/nodes?prefix={agent.id}").json == []
    assert agent.purge().status == 404


@rows("P9")
def test_a_purged_node_comes_back_as_a_new_one(server):
    agent = registered(server)
    agent.set_eligibility("ineligible")
    first = agent.read()
    agent.purge()

    agent.register()

    second = agent.read()
    assert second["CreateIndex"] > first["ModifyIndex"]
    assert second["SchedulingEligibility"] == "eligible"
    assert agent.messages() == ["Node registered"]


def classed(server: RealServer, **fields: Any) -> str:
    changed = {**CLASSED, **fields}
    return str(registered(server, **changed).read()["ComputedClass"])


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        case("C6", "as it is", {}, CLASSED_AS),
        case("C6", "datacenter", {"Datacenter": "dc2"}, "v1:6901289125721939385"),
        case("C6", "class", {"NodeClass": "x"}, "v1:1986062535179102726"),
        case(
            "C6",
            "attribute",
            {"Attributes": {**CLASSED["Attributes"], "foo": "1"}},
            "v1:12315373005066596357",
        ),
        case(
            "C6",
            "meta",
            {"Meta": {**CLASSED["Meta"], "foo": "1"}},
            "v1:17283876458346244545",
        ),
        case("C6", "no resources", {"NodeResources": None}, "v1:15109268452017801875"),
        case(
            "C6",
            "device",
            {"Meta": {}, "NodeResources": {"Devices": [DEVICE]}},
            "v1:3952190679390530442",
        ),
        case(
            "C4",
            "unique meta",
            {"Meta": {**CLASSED["Meta"], "unique.x": "1"}},
            CLASSED_AS,
        ),
        case(
            "C4",
            "unique attribute",
            {"Attributes": {**CLASSED["Attributes"], "unique.x": "1"}},
            CLASSED_AS,
        ),
        case("C5", "name", {"Name": "other"}, CLASSED_AS),
        case("C5", "links", {"Links": {"a": "b"}}, CLASSED_AS),
        case("C5", "drivers", {"Drivers": {"exec": {"Healthy": True}}}, CLASSED_AS),
        case("C5", "cpu", {"NodeResources": {"Cpu": {"CpuShares": 7}}}, CLASSED_AS),
        case("C5", "volumes", {"HostVolumes": {"v": {"Path": "/v"}}}, CLASSED_AS),
        case("C5", "sent class", {"ComputedClass": "v1:1"}, CLASSED_AS),
    ],
)
def test_the_computed_class_is_nomads_bit_for_bit(server, name, fields, expected):
    assert classed(server, **fields) == expected


@rows("C1", "C3")
def test_the_class_is_the_same_for_every_id(server):
    assert classed(server) == classed(server)


@rows("C2")
def test_what_counts_changes_the_class(server):
    classes = [
        classed(server, **fields)
        for fields in (
            {},
            {"Datacenter": "dc2"},
            {"NodeClass": "other"},
            {"Attributes": {"arch": "x86"}},
            {"Meta": {"database": "mysql"}},
            {"NodeResources": {"Devices": [DEVICE]}},
        )
    ]

    assert len({*classes}) == len(classes)
