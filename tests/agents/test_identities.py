import uuid

import msgspec
from msgspec.structs import replace

from nodestate.agents.identities import FleetSpec, identities
from nodestate.api.agent import _registration
from nodestate.api.shapes import NodeSent
from nodestate.model.encoding import encode_json, from_json_value

SPEC = FleetSpec(node_count=5, seed="7")


def test_the_same_seed_is_the_same_nodes():
    assert identities(SPEC) == identities(SPEC)
    assert identities(SPEC) == identities(replace(SPEC, node_count=9))[:5]


def test_another_seed_is_other_nodes():
    ours = {one.node_id for one in identities(SPEC)}
    others = {one.node_id for one in identities(replace(SPEC, seed="8"))}

    assert ours.isdisjoint(others)


def test_ids_and_secrets_are_uuids_and_no_two_are_the_same():
    texts = [text for one in identities(SPEC) for text in (one.node_id, one.secret_id)]

    assert len(set(texts)) == 10
    assert all(str(uuid.UUID(text)) == text for text in texts)


def test_datacenters_and_classes_take_turns():
    spec = replace(SPEC, datacenters=("dc1", "dc2"), classes=("a", "b", "c"))

    nodes = [one.node for one in identities(spec)]

    assert [node["Datacenter"] for node in nodes] == ["dc1", "dc2", "dc1", "dc2", "dc1"]
    assert [node["NodeClass"] for node in nodes] == ["a", "b", "c", "a", "b"]


def test_what_is_given_comes_on_top_of_what_every_node_has():
    spec = replace(
        SPEC, attributes={"kernel.name": "bsd", "x": "1"}, meta={"rack": "r"}
    )

    node = identities(spec)[0].node

    assert (node["Attributes"]["kernel.name"], node["Attributes"]["x"]) == ("bsd", "1")
    assert node["Attributes"]["cpu.arch"] == "amd64"
    assert node["Meta"] == {"rack": "r"}


def test_a_server_accepts_the_registration():
    sent = encode_json(identities(SPEC)[0].registration("ready"))
    decoded = msgspec.json.decode(sent, type=NodeSent, dec_hook=from_json_value)

    node = _registration(decoded).node

    assert node.status == "ready"
    assert node.node_resources is not None
    assert node.node_resources.cpu.cpu_shares == 4000
    assert node.drivers is not None
    assert node.drivers["exec"].healthy
