import time

import pytest
from hypothesis import given, strategies as st

from nodestate.fsm.capacity import (
    Claim,
    Room,
    claim_of,
    parse_ports,
    room_left,
    totals_of,
)
from nodestate.model.allocation import (
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
    Allocation,
)
from nodestate.model.node import (
    CpuResources,
    DiskResources,
    LegacyResources,
    MemoryResources,
    NetworkResource,
    Node,
    NodeResources,
    Port,
    ReservedNetworks,
    ReservedResources,
)
from tests.conformance.rows import example

ADDRESS = "10.0.0.1"
ETH0 = NetworkResource(device="eth0", cidr="10.0.0.1/32", ip=ADDRESS, mbits=1000)


def node_with(total, reserved=(0, 0, 0), *, networks=(ETH0,), ports=""):
    """A node of so many MHz, MiB and MiB."""
    return Node(
        node_resources=NodeResources(
            cpu=CpuResources(cpu_shares=total[0]),
            memory=MemoryResources(memory_mb=total[1]),
            disk=DiskResources(disk_mb=total[2]),
            networks=list(networks),
        ),
        reserved_resources=ReservedResources(
            cpu=CpuResources(cpu_shares=reserved[0]),
            memory=MemoryResources(memory_mb=reserved[1]),
            disk=DiskResources(disk_mb=reserved[2]),
            networks=ReservedNetworks(reserved_host_ports=ports),
        ),
    )


def allocation_with(cpu, memory_mb, disk_mb, *, network=None, client="running"):
    task = AllocatedTask(
        cpu=CpuResources(cpu_shares=cpu),
        memory=MemoryResources(memory_mb=memory_mb),
        networks=[network] if network else None,
    )
    return Allocation(
        client_status=client,
        allocated_resources=AllocatedResources(
            tasks={"app": task}, shared=AllocatedShared(disk_mb=disk_mb)
        ),
    )


def network_with(*, static=(), dynamic=(), mbits=0, ip=ADDRESS, device="eth0"):
    return NetworkResource(
        device=device,
        ip=ip,
        mbits=mbits,
        reserved_ports=[Port(label="s", value=value) for value in static],
        dynamic_ports=[Port(label="d", value=value) for value in dynamic],
    )


SMALL = node_with((2000, 2048, 10_000), (1000, 1024, 5000))
FILLING = allocation_with(1000, 1024, 5000)


@pytest.mark.parametrize(
    ("allocations", "shortfall"),
    [
        example("RK7", [FILLING], None),
        example("RK7:two", [FILLING, FILLING], "cpu"),
        example(
            "RK8", [FILLING, allocation_with(1000, 1024, 5000, client="complete")], None
        ),
        example(
            "RK8:lost",
            [FILLING, allocation_with(1000, 1024, 5000, client="lost")],
            None,
        ),
        ([allocation_with(1001, 0, 0)], "cpu"),
        ([allocation_with(1000, 1025, 5001)], "memory"),
        ([allocation_with(1000, 1024, 5001)], "disk"),
    ],
)
def test_room_of_a_node(allocations, shortfall):
    assert room_left(SMALL, allocations).shortfall() == shortfall


def test_what_is_left_is_what_was_there_without_what_is_kept_and_taken():
    room = room_left(SMALL, [allocation_with(300, 24, 1000)])

    assert (room.free_cpu, room.free_memory_mb, room.free_disk_mb) == (700, 1000, 4000)
    assert room.shortfall_of(700, 1000, 4000) is None
    assert room.shortfall_of(701, 1000, 4000) == "cpu"
    assert room.shortfall_of(700, 1001, 4000) == "memory"
    assert room.shortfall_of(700, 1000, 4001) == "disk"


@pytest.mark.parametrize(
    ("networks", "shortfall"),
    [
        example("RK9", [{"static": [80]}, {"static": [80]}], "reserved port collision"),
        example("RK10", [{"static": [22]}], "reserved port collision"),
        ([{"static": [80]}, {"static": [81]}], None),
        ([{"static": [80]}, {"static": [80], "ip": "10.0.0.2"}], None),
        ([{"static": [80, 80]}], "reserved port collision"),
        ([{"static": [25_000]}, {"dynamic": [25_000]}], "reserved port collision"),
        ([{"dynamic": [65_535]}], None),
        ([{"dynamic": [65_536]}], "reserved port collision"),
        ([{"dynamic": [-1]}], "reserved port collision"),
        ([{"mbits": 600}, {"mbits": 400}], None),
        ([{"mbits": 600}, {"mbits": 401}], "bandwidth exceeded"),
        ([{"mbits": 1, "device": "eth9"}], "bandwidth exceeded"),
    ],
)  # fmt: skip
def test_networks_of_a_node(networks, shortfall):
    node = node_with((10, 10, 10), ports="22")
    allocations = [
        allocation_with(1, 1, 1, network=network_with(**fields)) for fields in networks
    ]

    assert room_left(node, allocations).shortfall() == shortfall


def test_the_whole_claim_counts():
    shared, one, two = (network_with(static=[number]) for number in (1, 2, 3))
    resources = AllocatedResources(
        tasks={
            "b": AllocatedTask(cpu=CpuResources(cpu_shares=5), networks=[two]),
            "a": AllocatedTask(memory=MemoryResources(memory_mb=6), networks=[one]),
        },
        shared=AllocatedShared(disk_mb=7, networks=[shared]),
    )

    assert claim_of(resources) == Claim(5, 6, 7, (shared, two, one))
    assert claim_of(AllocatedResources()) == Claim()


def test_the_older_form_counts_where_the_newer_is_missing():
    kept = network_with(static=[22], mbits=100)
    node = Node(
        resources=LegacyResources(cpu=9, memory_mb=8, disk_mb=7, networks=[ETH0]),
        reserved=LegacyResources(cpu=1, memory_mb=1, disk_mb=1, networks=[kept]),
    )

    room = Room(node)

    assert totals_of(node)[:3] == (8, 7, 6)
    assert room.free_mbits("eth0") == 900
    assert room.is_port_used(ADDRESS, 22)
    assert totals_of(Node())[:3] == (0, 0, 0)


def test_a_network_without_a_device_is_none():
    node = node_with((1, 1, 1), networks=[NetworkResource(cidr="10.0.0.0/8")])

    assert not totals_of(node).networks


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("22", {22}),
        (" 22 , 80", {22, 80}),
        ("8000-8002,8001", {8000, 8001, 8002}),
        ("65535", {65_535}),
        ("65536", set()),
        ("5-4", set()),
        ("22,", set()),
        ("-5", set()),
        ("http", set()),
        ("1-2-3", set()),
        ("٣", set()),
        ("9" * 5000, set()),
    ],
)
def test_ports_as_a_text(text, ports):
    assert parse_ports(text) == ports


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1))
def test_ports_of_many_parts_are_those_of_each(parts):
    text = ",".join(f"{first}-{last}" for first, last in parts)

    assert parse_ports(text) == {
        port for first, last in parts for port in range(first, last + 1)
    }


def test_a_port_that_many_parts_have_costs_no_more_than_once():
    text = ",".join(["0-65535"] * 100_000)
    started_s = time.process_time()

    assert len(parse_ports(text)) == 65_536
    assert time.process_time() - started_s < 10  # and not the hours of each on its own


claims = st.builds(
    Claim,
    cpu=st.integers(0, 5),
    memory_mb=st.integers(0, 5),
    disk_mb=st.integers(0, 5),
    networks=st.lists(
        st.builds(
            network_with,
            static=st.lists(st.integers(20, 24), max_size=2),
            dynamic=st.lists(st.integers(20, 24), max_size=2),
            mbits=st.integers(0, 600),
            ip=st.sampled_from((ADDRESS, "10.0.0.2")),
        ),
        max_size=2,
    ).map(tuple),
)


@given(st.lists(claims, max_size=5), st.lists(claims, max_size=5))
def test_what_is_given_back_was_never_there(kept, given_back):
    """Those that came and went leave no trace, in whatever order they went."""
    node = node_with((10, 10, 10), ports="22")
    expected, room = Room(node), Room(node)
    for claim in kept:
        expected.add(claim)
    for claim in given_back:
        room.add(claim)
    for claim in kept:
        room.add(claim)
    for claim in reversed(given_back):
        room.remove(claim)

    assert room.shortfall() == expected.shortfall()
    assert room.free_mbits("eth0") == expected.free_mbits("eth0")
    used = [room.is_port_used(ADDRESS, port) for port in range(20, 26)]
    assert used == [expected.is_port_used(ADDRESS, port) for port in range(20, 26)]
