import pytest
from hypothesis import given, strategies as st

from nodestate.fsm.capacity import Claim, Room
from nodestate.model.node import NetworkResource, Port
from nodestate.planning.chance import Chance
from nodestate.planning.ports import (
    ADDRESSES_MAX,
    DYNAMIC_PORT_MAX,
    DYNAMIC_PORT_MIN,
    addresses_of,
    assign_network,
)
from tests.conformance.rows import example
from tests.planning.fleets import node

EVERY_PORT = f"{DYNAMIC_PORT_MIN}-{DYNAMIC_PORT_MAX}"


def ask(*, static=(), dynamic=(), mbits=0):
    """Static ports by number, dynamic ones by where they lead to."""
    return NetworkResource(
        mbits=mbits,
        reserved_ports=[Port(label=f"s{number}", value=number) for number in static],
        dynamic_ports=[
            Port(label=f"d{number}", to=to) for number, to in enumerate(dynamic)
        ],
    )


def taken(*ports, ip="192.168.0.100", mbits=0):
    return Claim(
        networks=(
            NetworkResource(
                device="eth0",
                ip=ip,
                mbits=mbits,
                reserved_ports=[Port(value=port) for port in ports],
            ),
        )
    )


def room_with(*claims, **fields):
    room = Room(node(cidr="192.168.0.100/30", **fields))
    for claim in claims:
        room.add(claim)
    return room


def assign(room, asked):
    return assign_network(room, asked, Chance("ports"))


@pytest.mark.parametrize(
    ("claims", "fields", "asked", "reason"),
    [
        example("RK13", [taken(mbits=70)], {}, ask(mbits=1000), "bandwidth exceeded"),
        example("RK15", [], {"ports": EVERY_PORT}, ask(dynamic=[0]),
            "dynamic port selection failed"),
        example("RK16", [], {"cidr": ""}, ask(), "no networks available"),
        example("RK10", [], {"ports": "80"}, ask(static=[80]), "reserved port collision"),
        ([], {}, ask(static=[80, 80]), "reserved port collision"),
        ([], {}, ask(static=[65_536]), "invalid port 65536 (out of range)"),
        ([], {}, ask(static=[-1]), "invalid port -1 (out of range)"),
        ([], {"cidr": "ten"}, ask(), "no networks available"),
    ],
)  # fmt: skip
def test_what_cannot_be_assigned(claims, fields, asked, reason):
    room = Room(node(**{"cidr": "192.168.0.100/30", **fields}))
    for claim in claims:
        room.add(claim)

    assert assign(room, asked) == f"network: {reason}"


@pytest.mark.row("RK11")
def test_a_taken_port_leads_to_the_next_address():
    """RK11."""
    room = room_with(taken(8000))

    assert assign(room, ask(static=[8000])).ip == "192.168.0.101"


@pytest.mark.row("RK12")
def test_dynamic_ports_are_distinct_and_lead_where_they_should():
    """RK12."""
    offer = assign(room_with(taken(8000)), ask(dynamic=[0, -1, 8080], mbits=5))

    first, same, other = offer.dynamic_ports
    assert (offer.ip, offer.device, offer.mbits) == ("192.168.0.100", "eth0", 5)
    assert len({first.value, same.value, other.value} - {0}) == 3
    assert (first.to, same.to, other.to) == (0, same.value, 8080)


@pytest.mark.row("RK14")
@pytest.mark.parametrize(
    "free", [DYNAMIC_PORT_MIN, DYNAMIC_PORT_MIN + 4321, DYNAMIC_PORT_MAX]
)
def test_the_last_free_port_is_found(free):
    """RK14."""
    ports = f"{DYNAMIC_PORT_MIN}-{free - 1},{free + 1}-{DYNAMIC_PORT_MAX}"
    kept = ports.removeprefix(f"{DYNAMIC_PORT_MIN}-{DYNAMIC_PORT_MIN - 1},")
    kept = kept.removesuffix(f",{DYNAMIC_PORT_MAX + 1}-{DYNAMIC_PORT_MAX}")
    room = room_with(ports=kept)

    [port] = assign(room, ask(dynamic=[0])).dynamic_ports

    assert port.value == free
    assert "dynamic port" in assign(room, ask(dynamic=[0, 0]))


def test_a_device_without_bandwidth_is_passed_over():
    fast = NetworkResource(device="eth1", cidr="10.0.0.1/32", mbits=100)
    slow = NetworkResource(device="eth0", cidr="10.0.0.2/32", mbits=10)
    both = node()
    resources = both.node_resources
    assert resources is not None
    resources = type(resources)(networks=[slow, fast])
    room = Room(type(both)(node_resources=resources))

    assert assign(room, ask(mbits=50)).device == "eth1"


@pytest.mark.parametrize(
    ("cidr", "first", "count"),
    [
        ("10.0.0.1/32", "10.0.0.1", 1),
        ("192.168.0.101/30", "192.168.0.100", 4),
        ("10.1.2.3/8", "10.0.0.0", ADDRESSES_MAX),
        ("fd00::1/128", "fd00::1", 1),
    ],
)
def test_addresses(cidr, first, count):
    addresses = addresses_of(cidr)

    assert (addresses[0], len(addresses)) == (first, count)


@pytest.mark.parametrize(
    "cidr", ["", "10.0.0.1", "10.0.0.256/24", "10.0.0.1/33", "x/8"]
)
def test_what_is_no_network_has_no_addresses(cidr):
    assert addresses_of(cidr) == ()


@given(
    st.lists(st.integers(20_000, 20_009), max_size=10, unique=True),
    st.lists(st.integers(20_000, 20_009), max_size=3),
    st.lists(st.sampled_from((0, -1, 80)), max_size=4),
    st.text(max_size=3),
)
def test_what_is_assigned_fits(used, static, dynamic, seed):
    kept = f"20010-{DYNAMIC_PORT_MAX}"
    room = room_with(taken(*used), ports=kept)

    offer = assign_network(room, ask(static=static, dynamic=dynamic), Chance(seed))

    if not isinstance(offer, str):
        room.add(Claim(networks=(offer,)))
        assert room.shortfall() is None
        assert len(offer.dynamic_ports or ()) == len(dynamic)


def test_an_assignment_takes_nothing_yet():
    room = room_with()
    offer = assign(room, ask(static=[80], mbits=1000))

    assert offer == assign(room, ask(static=[80], mbits=1000))
