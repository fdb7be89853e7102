"""Which network of a node a group gets, and which ports.

The choice is made here and travels in the entry; the state machine only checks it. What
has no definite answer, the number of a dynamic port, follows from a seed.
"""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

from msgspec.structs import replace

from nodestate.fsm.capacity import PORT_MAX, Room
from nodestate.model.node import NetworkResource, Port
from nodestate.planning.chance import Chance

DYNAMIC_PORT_MIN: Final = 20_000
DYNAMIC_PORT_MAX: Final = 32_000
PROBES_MAX: Final = 20
ADDRESSES_MAX: Final = 256
"""How far into a network's addresses is looked for a free port."""
CIDRS_KEPT_MAX: Final = 1_024

NO_NETWORKS: Final = "network: no networks available"
BANDWIDTH_EXCEEDED: Final = "network: bandwidth exceeded"
PORT_COLLISION: Final = "network: reserved port collision"
NO_DYNAMIC_PORT: Final = "network: dynamic port selection failed"


def assign_network(
    room: Room, ask: NetworkResource, chance: Chance
) -> NetworkResource | str:
    """Return the network as it is assigned, or why there is none: the last reason met.

    The first address on which everything fits wins. Nothing is taken: that is for the
    caller, once it has chosen the node.
    """
    reason = NO_NETWORKS
    for network, address in _addresses(room):
        if ask.mbits > room.free_mbits(network.device):
            reason = BANDWIDTH_EXCEEDED
            continue
        assigned = _assign_ports(room, ask, address, chance)
        if isinstance(assigned, str):
            reason = assigned
            continue
        return replace(assigned, device=network.device)
    return reason


def _addresses(room: Room) -> Iterator[tuple[NetworkResource, str]]:
    for network in room.networks:
        for address in addresses_of(network.cidr):
            yield network, address


@lru_cache(maxsize=CIDRS_KEPT_MAX)
def addresses_of(cidr: str) -> tuple[str, ...]:
    """Return a network's addresses from its first on; none of a text that is no CIDR."""
    try:
        network = ip_network(cidr, strict=False)
    except ValueError:
        return ()
    if "/" not in cidr:
        return ()
    count = min(network.num_addresses, ADDRESSES_MAX)
    return tuple(str(network[number]) for number in range(count))


def _assign_ports(
    room: Room, ask: NetworkResource, address: str, chance: Chance
) -> NetworkResource | str:
    taken: set[int] = set()
    for port in ask.reserved_ports or ():
        if not 0 <= port.value <= PORT_MAX:
            return f"network: invalid port {port.value} (out of range)"
        if port.value in taken or room.is_port_used(address, port.value):
            return PORT_COLLISION
        taken.add(port.value)
    assigned: list[Port] = []
    for port in ask.dynamic_ports or ():
        value = _free_port(room, address, taken, chance)
        if value is None:
            return NO_DYNAMIC_PORT
        taken.add(value)
        to = value if port.to == -1 else port.to
        assigned.append(replace(port, value=value, to=to))
    return NetworkResource(
        mode=ask.mode,
        ip=address,
        mbits=ask.mbits,
        reserved_ports=ask.reserved_ports,
        dynamic_ports=assigned or None,
    )


def _free_port(room: Room, address: str, taken: set[int], chance: Chance) -> int | None:
    """Return a port that nobody has: a few tries at random, then one after the other."""
    for _ in range(PROBES_MAX):
        span = DYNAMIC_PORT_MAX - DYNAMIC_PORT_MIN
        value = DYNAMIC_PORT_MIN + chance.below(span)
        if value not in taken and not room.is_port_used(address, value):
            return value
    for value in range(DYNAMIC_PORT_MIN, DYNAMIC_PORT_MAX + 1):
        if value not in taken and not room.is_port_used(address, value):
            return value
    return None
