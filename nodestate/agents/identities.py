"""Who the nodes are: ids, secrets and registrations, the same ones for the same seed."""

import hashlib
import uuid
from typing import Any, Final

import msgspec

NODES_MAX: Final = 50_000
_MBITS: Final = 1000


class FleetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes there are, and what they are like.

    Node n has the n-th of `datacenters` and `classes`, in turn. CPU is in MHz, memory and
    disk are in MiB. `attributes` and `meta` come on top of what every node has.
    """

    node_count: int
    seed: str = "0"
    name_prefix: str = "simulated"
    datacenters: tuple[str, ...] = ("dc1",)
    classes: tuple[str, ...] = ("",)
    node_pool: str = ""
    cpu_mhz: int = 4000
    memory_mb: int = 8192
    disk_mb: int = 102_400
    drivers: tuple[str, ...] = ("docker", "exec", "raw_exec", "mock_driver")
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    meta: dict[str, str] = msgspec.field(default_factory=dict)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One node: who it is, its secret, and its registration without a status."""

    number: int
    node_id: str
    secret_id: str
    name: str
    node: dict[str, Any]

    def registration(self, status: str) -> dict[str, Any]:
        """Return what is sent to register it."""
        return {**self.node, "SecretID": self.secret_id, "Status": status}


def identities(spec: FleetSpec) -> list[Identity]:
    """Return the nodes of a fleet, by number from 0."""
    return [_identity(spec, number) for number in range(spec.node_count)]


def _identity(spec: FleetSpec, number: int) -> Identity:
    node_id = _uuid(spec.seed, f"node {number}")
    name = f"{spec.name_prefix}-{number:05d}"
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    node = {
        "ID": node_id,
        "Name": name,
        "Datacenter": spec.datacenters[number % len(spec.datacenters)],
        "NodeClass": spec.classes[number % len(spec.classes)],
        "NodePool": spec.node_pool,
        "HTTPAddr": f"{address}:4646",
        "Attributes": _attributes(spec, name, address),
        "Meta": dict(spec.meta),
        "Drivers": {driver: _driver(driver) for driver in spec.drivers},
        "NodeResources": {
            "Cpu": {"CpuShares": spec.cpu_mhz},
            "Memory": {"MemoryMB": spec.memory_mb},
            "Disk": {"DiskMB": spec.disk_mb},
            "Networks": [_network(address)],
        },
        "Resources": {
            "CPU": spec.cpu_mhz,
            "MemoryMB": spec.memory_mb,
            "DiskMB": spec.disk_mb,
            "Networks": [_network(address)],
        },
    }
    return Identity(
        number=number,
        node_id=node_id,
        secret_id=_uuid(spec.seed, f"secret {number}"),
        name=name,
        node=node,
    )


def _attributes(spec: FleetSpec, name: str, address: str) -> dict[str, str]:
    return {
        "kernel.name": "linux",
        "cpu.arch": "amd64",
        "cpu.totalcompute": str(spec.cpu_mhz),
        "memory.totalbytes": str(spec.memory_mb << 20),
        "unique.hostname": name,
        "unique.network.ip-address": address,
        **{f"driver.{driver}": "1" for driver in spec.drivers},
        **spec.attributes,
    }


def _driver(name: str) -> dict[str, Any]:
    return {
        "Attributes": {f"driver.{name}": "true"},
        "Detected": True,
        "Healthy": True,
        "HealthDescription": "Healthy",
    }


def _network(address: str) -> dict[str, Any]:
    return {
        "Device": "eth0",
        "IP": address,
        "CIDR": f"{address}/32",
        "MBits": _MBITS,
    }


def _uuid(seed: str, text: str) -> str:
    digest = hashlib.sha256(f"{seed}\0{text}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
