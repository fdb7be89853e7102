"""Nodes taken apart and put together again."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec import NODEFAULT, Raw, msgpack
from msgspec.structs import replace

from nodestate.errors import SnapshotError
from nodestate.fsm import packing
from nodestate.fsm.canonical import canonical
from nodestate.fsm.packing import NodePacker, NodeUnpacker
from nodestate.model.node import (
    Driver,
    NetworkResource,
    Node,
    NodeEvent,
    NodeKey,
    NodeResources,
)
from nodestate.model.timestamp import Timestamp
from tests import strategies
from tests.fsm.entries import key, node
from tests.fsm.test_golden import WHOLE

Batch = list[tuple[NodeKey, Node]]


def through(*batches: Batch) -> list[Batch]:
    packer, unpacker = NodePacker(), NodeUnpacker()
    return [unpacker.decode(Raw(packer.encode(batch))) for batch in batches]


def test_every_field_of_a_node_survives():
    whole = canonical(node(**WHOLE))

    assert through([(key(1), whole)]) == [[(key(1), whole)]]


def test_a_node_without_anything_survives():
    assert through([(key(1), Node())]) == [[(key(1), Node())]]


@given(st.lists(st.lists(strategies.nodes().map(canonical), max_size=3), max_size=3))
def test_any_nodes_survive(batches):
    keyed = [[(key(1), each) for each in batch] for batch in batches]

    assert through(*keyed) == keyed


DRIVER = Driver(
    attributes={"a": "b"},
    detected=True,
    healthy=True,
    health_description="fine",
    update_time=Timestamp(1),
)
EVENT = NodeEvent(message="m", subsystem="s", details={"a": "b"}, timestamp=Timestamp(1), create_index=5)  # fmt: skip


def without_one(record: Any) -> list[Any]:
    """Return a record for each of its fields, with that one at its default."""
    return [
        replace(record, **{field.name: field.default})
        for field in msgspec.structs.fields(record)
        if field.default is not NODEFAULT
    ]


def test_nodes_that_differ_in_one_field_stay_apart():
    whole = canonical(node(**WHOLE))
    resources = WHOLE["node_resources"]
    nodes = [
        *without_one(whole),
        *(replace(whole, drivers={"d": each}) for each in without_one(DRIVER)),
        *(replace(whole, events=(each,)) for each in without_one(EVENT)),
        *(replace(whole, node_resources=each) for each in without_one(resources)),
    ]
    batch = [(key(number), each) for number, each in enumerate([whole, *nodes])]

    assert len(batch) > 40
    assert through(batch) == [batch]


def alike(number: int) -> Node:
    """One of many nodes that differ as the nodes of a fleet do."""
    resources = NodeResources(networks=[NetworkResource(ip=f"10.0.0.{number}")])
    return canonical(
        node(
            key(number),
            attributes={"kernel.name": "linux", "unique.hostname": f"n{number}"},
            meta={"rack": "r1"},
            drivers={"exec": Driver(attributes={"a": "b"}, update_time=Timestamp(number))},
            node_resources=resources,
        )
    )  # fmt: skip


def test_what_nodes_have_in_common_is_written_once_and_shared():
    packer = NodePacker()
    first = packer.encode([(key(1), alike(1))])
    second = packer.encode([(key(2), alike(2))])

    assert b"linux" in first
    assert b"linux" not in second
    assert b"rack" not in second
    unpacker = NodeUnpacker()
    one, other = (unpacker.decode(Raw(piece))[0][1] for piece in (first, second))
    assert one.meta is other.meta
    assert one.drivers is not None
    assert other.drivers is not None
    assert one.drivers["exec"].attributes is other.drivers["exec"].attributes
    assert one.drivers["exec"].update_time == Timestamp(1)
    assert one.attributes is not None
    assert one.attributes["unique.hostname"] == "n1"
    assert one.node_class is other.node_class


def test_the_order_of_a_map_does_not_show():
    forward = node(
        attributes={"a": "1", "unique.x": "2", "z": "3"}, meta={"a": "", "b": ""}
    )
    backward = node(
        attributes={"z": "3", "unique.x": "2", "a": "1"}, meta={"b": "", "a": ""}
    )
    drivers = {
        "a": Driver(update_time=Timestamp(1)),
        "b": Driver(update_time=Timestamp(2)),
    }
    one = canonical(node(drivers=drivers))
    other = canonical(node(drivers=dict(reversed(drivers.items()))))

    for first, second in ((forward, backward), (one, other)):
        assert NodePacker().encode([(key(1), first)]) == NodePacker().encode(
            [(key(1), second)]
        )
    ((_, read),) = through([(key(1), backward)])[0]
    assert list(read.attributes or ()) == ["a", "unique.x", "z"]
    ((_, read),) = through([(key(1), other)])[0]
    assert read.drivers == drivers  # fmt: skip


def test_parts_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(packing, "PARTS_MAX", 5)
    packer, unpacker = NodePacker(), NodeUnpacker()

    for number in range(20):
        each = canonical(node(key(number), meta={"serial": str(number)}))
        piece = packer.encode([(key(number), each)])
        assert unpacker.decode(Raw(piece)) == [(key(number), each)]
        assert sum(map(len, unpacker._known.values())) < 30


@pytest.mark.parametrize("field", range(13, 23))
def test_a_part_that_is_not_there_is_an_error(field):
    piece = msgpack.decode(NodePacker().encode([(key(1), alike(1))]))
    piece[2][0][field] = 9

    with pytest.raises(SnapshotError, match="lacks a part"):
        NodeUnpacker().decode(Raw(msgpack.encode(piece)))


@pytest.mark.parametrize(("field", "value"), [(10, []), (13, 0)])
def test_parts_that_do_not_fit_are_an_error(field, value):
    piece = msgpack.decode(NodePacker().encode([(key(1), alike(1))]))
    piece[2][0][field] = value

    with pytest.raises(SnapshotError, match="lacks a part"):
        NodeUnpacker().decode(Raw(msgpack.encode(piece)))
