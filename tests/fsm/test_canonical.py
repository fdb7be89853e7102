"""The one form in which a node is stored."""

from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from nodestate.fsm.canonical import FLAG_ONLY_DRAIN, canonical
from nodestate.model.computed_class import compute_class
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.node import (
    DeviceAttribute,
    DeviceResource,
    DrainStrategy,
    Driver,
    HostVolume,
    NetworkResource,
    Node,
    NodeEvent,
    NodeResources,
)
from nodestate.model.timestamp import Timestamp
from tests.fsm.entries import node
from tests.strategies import nodes

STRATEGY = DrainStrategy(deadline=5)
DEVICE = DeviceResource(name="m", attributes={"b": DeviceAttribute(bool_=True)})


def read_back(sent: Node) -> Node:
    return msgpack_decoder(Node).decode(MSGPACK.encode(sent))


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"attributes": {}}, {"attributes": None}),
        ({"meta": {}}, {"meta": None}),
        ({"links": {}}, {"links": None}),
        ({"drivers": {}}, {"drivers": None}),
        ({"host_volumes": {}}, {"host_volumes": None}),
        (
            {"drivers": {"exec": Driver(attributes={}, healthy=True)}},
            {"drivers": {"exec": Driver(attributes=None, healthy=True)}},
        ),
        (
            {"node_resources": NodeResources(devices=[replace(DEVICE, attributes={})])},
            {"node_resources": NodeResources(devices=[replace(DEVICE, attributes=None)])},
        ),
    ],
)  # fmt: skip
def test_an_empty_map_is_unset(sent, stored):
    assert canonical(node(**sent)) == node(**stored)


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": {"a": "1", "unique.b": ""}, "meta": {"": ""}},
        {"links": {"consul": "x"}, "datacenter": "", "node_class": "m"},
        {"drivers": {"exec": Driver(attributes={"a": "1"}, health_description="x")}},
        {"host_volumes": {"v": HostVolume(path="/v")}},
        {"node_resources": NodeResources(networks=[NetworkResource(ip="::1")])},
        {"node_resources": NodeResources(devices=[DEVICE])},
        {"node_resources": NodeResources(devices=[])},
        {"events": (NodeEvent(message="m", timestamp=Timestamp(5)),)},
        {"scheduling_eligibility": "elsewhere"},
    ],
)
def test_what_is_in_the_form_stays(fields):
    assert canonical(node(**fields)) == node(**fields)


@pytest.mark.parametrize(
    ("drain", "strategy", "eligibility", "expected"),
    [
        (False, None, "", (False, None, "eligible")),
        (False, None, "ineligible", (False, None, "ineligible")),
        (True, None, "eligible", (True, FLAG_ONLY_DRAIN, "ineligible")),
        (True, STRATEGY, "", (True, STRATEGY, "ineligible")),
        (False, STRATEGY, "eligible", (True, STRATEGY, "ineligible")),
    ],
)
def test_a_drain_has_a_strategy_and_closes_the_node(
    drain, strategy, eligibility, expected
):
    """A flag without a strategy forces, as with old agents; a strategy is a drain."""
    sent = node(
        drain=drain, drain_strategy=strategy, scheduling_eligibility=eligibility
    )

    stored = canonical(sent)

    found = stored.drain, stored.drain_strategy, stored.scheduling_eligibility
    assert found == expected


def test_what_nodes_have_in_common_is_kept_once():
    fields: dict[str, Any] = {
        "datacenter": "a datacenter",
        "node_class": "a class",
        "node_pool": "a pool",
        "computed_class": "v1:12345",
        "attributes": {"a kernel": "a linux"},
        "drivers": {"a driver": Driver(health_description="a health")},
    }

    one, other = (canonical(read_back(node(**fields))) for _ in range(2))

    for name in ("datacenter", "node_class", "node_pool", "computed_class"):
        assert getattr(one, name) is getattr(other, name)
    assert one.attributes is not None
    assert other.attributes is not None
    assert one.attributes["a kernel"] is other.attributes["a kernel"]
    assert one.drivers is not None
    assert other.drivers is not None
    health = [each["a driver"].health_description for each in (one.drivers, other.drivers)]  # fmt: skip
    assert health[0] is health[1]


@pytest.mark.slow
@given(nodes())
def test_twice_is_as_once_and_in_any_order(sent):
    stored = canonical(sent)

    assert canonical(stored) == stored
    assert canonical(read_back(stored)) == stored


@pytest.mark.slow
@given(nodes())
def test_the_class_is_the_same_in_either_form(sent):
    assert compute_class(canonical(sent)) == compute_class(sent)
