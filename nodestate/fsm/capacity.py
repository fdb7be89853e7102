"""What a node has room for: whole numbers only, so that every server agrees.

One arithmetic for those who choose a node and for those who check the choice. What a
node keeps for itself counts as taken from the start.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from nodestate.model.allocation import AllocatedResources, Allocation
from nodestate.model.node import LegacyResources, NetworkResource, Node

PORT_MAX: Final = 65_535
PORT_TEXTS_KEPT_MAX: Final = 64

CPU: Final = "cpu"
MEMORY: Final = "memory"
DISK: Final = "disk"
BANDWIDTH_EXCEEDED: Final = "bandwidth exceeded"
PORT_COLLISION: Final = "reserved port collision"


class Claim(NamedTuple):
    """What one allocation takes: MHz, MiB and MiB, and networks with their ports."""

    cpu: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    networks: tuple[NetworkResource, ...] = ()


def claim_of(resources: AllocatedResources) -> Claim:
    """Return what an allocation with these resources takes of its node."""
    cpu = memory_mb = 0
    shared = resources.shared
    networks = shared.networks or []
    for task in resources.tasks.values():
        cpu += task.cpu.cpu_shares
        memory_mb += task.memory.memory_mb
        if task.networks:
            networks = networks + task.networks
    return Claim(cpu, memory_mb, shared.disk_mb, tuple(networks))


def takes_room(allocation: Allocation) -> bool:
    """Say whether it still takes what it has: until its agent has reported it over."""
    return not allocation.is_client_terminal


class Totals(NamedTuple):
    """What a node has for allocations, without what it keeps for itself."""

    cpu: int
    memory_mb: int
    disk_mb: int
    networks: Sequence[NetworkResource]


def totals_of(node: Node) -> Totals:
    """Return what a node has for allocations; the older form counts without the newer."""
    cpu, memory_mb, disk_mb, networks = _all_of(node)
    kept = node.reserved_resources
    if kept is not None:
        return Totals(
            cpu - kept.cpu.cpu_shares,
            memory_mb - kept.memory.memory_mb,
            disk_mb - kept.disk.disk_mb,
            networks,
        )
    older = node.reserved or LegacyResources()
    return Totals(
        cpu - older.cpu, memory_mb - older.memory_mb, disk_mb - older.disk_mb, networks
    )


def _all_of(node: Node) -> Totals:
    found = node.node_resources
    if found is not None:
        return Totals(
            found.cpu.cpu_shares,
            found.memory.memory_mb,
            found.disk.disk_mb,
            _with_device(found.networks),
        )
    older = node.resources or LegacyResources()
    return Totals(
        older.cpu, older.memory_mb, older.disk_mb, _with_device(older.networks)
    )


def _with_device(networks: list[NetworkResource] | None) -> list[NetworkResource]:
    return [network for network in networks or () if network.device]


@lru_cache(maxsize=PORT_TEXTS_KEPT_MAX)
def parse_ports(text: str) -> frozenset[int]:
    """Return the ports of a text such as `22,80,8000-9000`; none if it cannot be read.

    Each port is looked at once, however many parts of the text have it.
    """
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        bounds = (first.strip(), (last or first).strip())
        if not all(bound.isascii() and bound.isdigit() for bound in bounds):
            return frozenset()
        if any(len(bound) > 5 or int(bound) > PORT_MAX for bound in bounds):
            return frozenset()
        ranges.append((int(bounds[0]), int(bounds[1])))
    ports: set[int] = set()
    following = 0
    for begin, end in sorted(ranges):
        ports.update(range(max(begin, following), end + 1))
        following = max(following, end + 1)
    return frozenset(ports)


class Room:
    """What is left of one node, as allocations come and go."""

    __slots__ = (
        "_collision_count",
        "_free_mbits",
        "_kept_ports",
        "_port_counts",
        "free_cpu",
        "free_disk_mb",
        "free_memory_mb",
        "networks",
        "totals",
    )

    def __init__(self, node: Node) -> None:
        totals = totals_of(node)
        self.totals = totals
        self.free_cpu, self.free_memory_mb, self.free_disk_mb, self.networks = totals
        self._free_mbits: dict[str, int] = {}
        for network in totals.networks:
            free = self._free_mbits.get(network.device, 0)
            self._free_mbits[network.device] = free + network.mbits
        self._port_counts: dict[tuple[str, int], int] = {}
        self._collision_count = 0
        kept = node.reserved_resources
        text = kept.networks.reserved_host_ports if kept is not None else ""
        self._kept_ports = parse_ports(text) if text else frozenset()
        if kept is None and node.reserved is not None:
            self._change_networks(tuple(node.reserved.networks or ()), 1)

    def add(self, claim: Claim) -> None:
        """Take what an allocation takes, whether or not there is room for it."""
        self._change(claim, 1)

    def remove(self, claim: Claim) -> None:
        """Give it back."""
        self._change(claim, -1)

    def _change(self, claim: Claim, sign: int) -> None:
        cpu, memory_mb, disk_mb, networks = claim
        self.free_cpu -= sign * cpu
        self.free_memory_mb -= sign * memory_mb
        self.free_disk_mb -= sign * disk_mb
        if networks:
            self._change_networks(networks, sign)

    def _change_networks(
        self, networks: tuple[NetworkResource, ...], sign: int
    ) -> None:
        for network in networks:
            free = self._free_mbits.get(network.device, 0)
            self._free_mbits[network.device] = free - sign * network.mbits
            for port in (
                *(network.reserved_ports or ()),
                *(network.dynamic_ports or ()),
            ):
                self._change_port(network.ip, port.value, sign)

    def _change_port(self, address: str, value: int, sign: int) -> None:
        key = (address, value)
        before = self._port_counts.get(key, 0)
        after = before + sign
        assert after >= 0, "nothing is given back that was not taken"
        self._port_counts[key] = after
        is_impossible = value in self._kept_ports or not 0 <= value <= PORT_MAX
        if is_impossible or max(before, after) > 1:
            self._collision_count += sign

    def is_port_used(self, address: str, value: int) -> bool:
        """Say whether somebody, or the node itself, has the port."""
        return value in self._kept_ports or bool(
            self._port_counts.get((address, value))
        )

    def free_mbits(self, device: str) -> int:
        """Return what is left of a device's bandwidth."""
        return self._free_mbits.get(device, 0)

    def shortfall_of(self, cpu: int, memory_mb: int, disk_mb: int) -> str | None:
        """Return what there is too little of for that much more, `None` if it fits."""
        if cpu > self.free_cpu:
            return CPU
        if memory_mb > self.free_memory_mb:
            return MEMORY
        if disk_mb > self.free_disk_mb:
            return DISK
        return None

    def shortfall(self) -> str | None:
        """Return what there is too little of for all that is here, `None` if it fits."""
        short = self.shortfall_of(0, 0, 0)
        if short is not None:
            return short
        if self._collision_count:
            return PORT_COLLISION
        if any(free < 0 for free in self._free_mbits.values()):
            return BANDWIDTH_EXCEEDED
        return None


def room_left(node: Node, allocations: Iterable[Allocation]) -> Room:
    """Return what these allocations leave of a node; those that are over take nothing."""
    room = Room(node)
    for allocation in allocations:
        if takes_room(allocation):
            room.add(claim_of(allocation.allocated_resources))
    return room
