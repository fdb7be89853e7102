"""Paths into the node record: what they find, and which do not exist."""

import pytest

from nodestate.errors import RequestError
from nodestate.model.node import (
    CpuResources,
    DeviceAttribute,
    DeviceResource,
    DrainStrategy,
    Driver,
    LastDrain,
    Node,
    NodeEvent,
    NodeResources,
    NodeStatus,
)
from nodestate.model.timestamp import Timestamp
from nodestate.query.selectors import Kind, find_selector

NODE = Node(
    id="abc",
    status=NodeStatus.READY,
    tls_enabled=True,
    meta={"a.b": "c"},
    drivers={"docker": Driver(detected=True)},
    node_resources=NodeResources(
        cpu=CpuResources(cpu_shares=4000),
        devices=[DeviceResource(attributes={"memory": DeviceAttribute(float_=1.5)})],
    ),
    last_drain=LastDrain(status="complete", meta={"owner": "as"}),
    events=(NodeEvent(message="Node registered", timestamp=Timestamp(1_000_000_000)),),
    modify_index=7,
)


@pytest.mark.parametrize(
    ("path", "kind", "value"),
    [
        ("ID", Kind.TEXT, "abc"),
        ("SecretID", Kind.TEXT, ""),
        ("Status", Kind.TEXT, "ready"),
        ("TLSEnabled", Kind.BOOLEAN, True),
        ("ModifyIndex", Kind.WHOLE_NUMBER, 7),
        ("Meta", Kind.MAP, {"a.b": "c"}),
        ("Meta/a.b", Kind.TEXT, "c"),
        ("Meta/other", Kind.TEXT, None),
        ("Links/any", Kind.TEXT, None),
        ("Drivers/docker/Detected", Kind.BOOLEAN, True),
        ("NodeResources/Cpu/CpuShares", Kind.WHOLE_NUMBER, 4000),
        ("NodeResources/Devices/0/Attributes/memory/Float", Kind.NUMBER, 1.5),
        ("NodeResources/Devices/1/Vendor", Kind.TEXT, None),
        ("LastDrain/Status", Kind.TEXT, "complete"),
        ("LastDrain/Meta/owner", Kind.TEXT, "as"),
        ("LastDrain/StartedAt", Kind.TEXT, None),
        ("DrainStrategy/Deadline", Kind.WHOLE_NUMBER, None),
        ("DrainStrategy", Kind.RECORD, None),
        ("Events", Kind.LIST, NODE.events),
        ("Events/0/Timestamp", Kind.TEXT, "1970-01-01T00:00:01Z"),
    ],
)
def test_a_path_leads_to_what_the_json_shows(path, kind, value):
    selector = find_selector(path.split("/"))

    assert (selector.kind, selector.read(NODE)) == (kind, value)


def test_what_can_be_null_is_known():
    assert find_selector(["DrainStrategy"]).is_nullable
    assert not find_selector(["Status"]).is_nullable
    assert (
        find_selector(["DrainStrategy"]).read(Node(drain_strategy=DrainStrategy()))
        == DrainStrategy()
    )


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("Nope", "no field is called 'Nope'; there are ID, Name, Datacenter"),
        ("id", "no field is called 'id'"),
        (
            "LastDrain/Nope",
            "no field of LastDrain is called 'Nope'; there are StartedAt",
        ),
        ("Drivers/a.b/X", "no field of Drivers[\"a.b\"] is called 'X'"),
        ("Name/x", "Name is a text: there is no 'x' in it"),
        ("Attributes/os/name", "Attributes.os is a text: there is no 'name' in it"),
        ("Events/first", "Events is a list: 'first' is no position in it"),
        ("Events/1234567890", "no position in it"),
        ("Events/\u0661", "no position in it"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_by_name(path, complaint):
    with pytest.raises(RequestError) as caught:
        find_selector(path.split("/"))

    assert complaint in str(caught.value)
