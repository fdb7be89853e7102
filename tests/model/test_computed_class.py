"""The class of a node: Nomad's own numbers, and what counts."""

import pytest
from msgspec.structs import replace

from nodestate.model.computed_class import compute_class
from nodestate.model.node import (
    CpuResources,
    DeviceAttribute,
    DeviceInstance,
    DeviceResource,
    Driver,
    HostVolume,
    NetworkResource,
    Node,
    NodeResources,
    NodeStatus,
)

ATTRIBUTES = {
    "kernel.name": "linux",
    "arch": "x86",
    "nomad.version": "0.5.0",
    "driver.exec": "1",
    "driver.mock_driver": "1",
}
META = {"pci-dss": "true", "database": "mysql", "version": "5.6"}
A = Node(
    id="f7476465-4d6e-c0de-26d0-e383c49be941",
    datacenter="dc1",
    node_class="linux-medium-pci",
    attributes=ATTRIBUTES,
    meta=META,
    node_resources=NodeResources(),
)
GPU = DeviceResource(
    vendor="v",
    type="gpu",
    name="m",
    attributes={
        "mem": DeviceAttribute(int_=4, unit="MiB"),
        "b": DeviceAttribute(bool_=True),
        "s": DeviceAttribute(string="x"),
        "f": DeviceAttribute(float_=1.5, unit="GHz"),
    },
)
WITH_GPU = replace(A, meta=None, node_resources=NodeResources(devices=[GPU]))
A_CLASS = "v1:3536556687399806124"


def with_device(**fields: object) -> Node:
    device = replace(GPU, **fields)
    return replace(WITH_GPU, node_resources=NodeResources(devices=[device]))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param(A, A_CLASS, id="C6:A"),
        pytest.param(replace(A, datacenter="dc2"), "v1:6901289125721939385", id="C6:datacenter"),
        pytest.param(replace(A, node_class="x"), "v1:1986062535179102726", id="C6:class"),
        pytest.param(replace(A, attributes=ATTRIBUTES | {"foo": "1"}), "v1:12315373005066596357", id="C6:attribute"),
        pytest.param(replace(A, meta=META | {"foo": "1"}), "v1:17283876458346244545", id="C6:meta"),
        pytest.param(replace(A, node_resources=None), "v1:15109268452017801875", id="C6:resources"),
        pytest.param(WITH_GPU, "v1:3952190679390530442", id="C6:device"),
    ],
)  # fmt: skip
def test_the_number_is_nomads(node, expected):
    assert compute_class(node) == expected


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(replace(A), id="C1"),
        pytest.param(replace(A, id="other"), id="C3:id"),
        pytest.param(replace(A, attributes=ATTRIBUTES | {"unique.foo": "1"}), id="C4:attribute"),
        pytest.param(replace(A, meta=META | {"unique.foo": "1"}), id="C4:meta"),
        pytest.param(replace(A, name="other"), id="C5:name"),
        pytest.param(replace(A, drivers={"docker": Driver(healthy=True)}), id="C5:drivers"),
        pytest.param(replace(A, links={"consul": "x"}), id="C5:links"),
        pytest.param(replace(A, node_resources=NodeResources(cpu=CpuResources(cpu_shares=9))), id="C5:cpu"),
        pytest.param(replace(A, node_resources=NodeResources(networks=[NetworkResource(ip="::1")])), id="C5:networks"),
        pytest.param(replace(A, host_volumes={"v": HostVolume(name="v")}), id="C5:volumes"),
        pytest.param(replace(A, status=NodeStatus.DOWN), id="C5:status"),
        pytest.param(replace(A, computed_class="v1:1"), id="C5:class"),
        pytest.param(replace(A, attributes=dict(reversed(ATTRIBUTES.items()))), id="C1:order"),
    ],
)  # fmt: skip
def test_what_a_scheduler_need_not_know_does_not_count(node):
    assert compute_class(node) == A_CLASS


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(replace(A, datacenter="dc2"), id="C2:datacenter"),
        pytest.param(replace(A, node_class=""), id="C2:class"),
        pytest.param(replace(A, attributes=ATTRIBUTES | {"arch": "arm"}), id="C2:attribute"),
        pytest.param(replace(A, attributes={"arch": "x86"}), id="C2:removed"),
        pytest.param(replace(A, attributes=None), id="C2:none"),
        pytest.param(replace(A, meta=META | {"version": "5.7"}), id="C2:meta"),
        pytest.param(replace(A, node_resources=NodeResources(devices=[GPU])), id="C2:device"),
        pytest.param(replace(A, node_pool="gpu"), id="C2:pool"),
    ],
)  # fmt: skip
def test_what_a_scheduler_looks_at_counts(node):
    assert compute_class(node) != A_CLASS


def test_each_part_of_a_device_counts():
    unlike = [
        WITH_GPU,
        with_device(vendor="w"),
        with_device(type="fpga"),
        with_device(name="n"),
        with_device(attributes=None),
        with_device(attributes={"b": DeviceAttribute(bool_=False)}),
        with_device(attributes={"b": DeviceAttribute(bool_=True)}),
        with_device(attributes={"b": DeviceAttribute(int_=1)}),
        with_device(attributes={"b": DeviceAttribute(int_=-1)}),
        with_device(attributes={"b": DeviceAttribute(float_=1.0)}),
        with_device(attributes={"b": DeviceAttribute(string="1")}),
        with_device(attributes={"b": DeviceAttribute(string="1", unit="s")}),
        replace(WITH_GPU, node_resources=NodeResources(devices=[GPU, GPU])),
    ]

    assert len({compute_class(node) for node in unlike}) == len(unlike)


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(
            with_device(attributes={**(GPU.attributes or {}), "unique.x": DeviceAttribute(int_=1)}),
            id="C4:device",
        ),
        pytest.param(with_device(instances=[DeviceInstance(id="i")]), id="C5:instances"),
    ],
)  # fmt: skip
def test_instances_and_unique_attributes_of_a_device_do_not_count(node):
    assert compute_class(node) == compute_class(WITH_GPU)


def test_the_default_pool_is_as_none():
    """Nomad 0.10.9 had no pools: its numbers stay true for nodes in the default one."""
    assert compute_class(replace(A, node_pool="default")) == A_CLASS


@pytest.mark.parametrize("length", [127, 128, 129, 4096])
def test_a_text_counts_to_its_last_character(length):
    """Short texts are remembered with their hash, long ones are not."""
    text = "x" * length
    classes = {
        compute_class(replace(A, meta={"key": value}))
        for value in (text, text, text[:-1] + "y", text + "x")
    }

    assert len(classes) == 3
