"""Nodes as a real fleet registers them, the same ones each time."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any, Final

UPDATED_AT: Final = "2026-01-15T08:30:12.482913Z"

_DRIVERS: Final = {
    "docker": {
        "driver.docker": "true",
        "driver.docker.version": "20.10.24",
        "driver.docker.runtimes": "runc",
        "driver.docker.bridge_ip": "172.17.0.1",
    },
    "exec": {"driver.exec": "true"},
    "raw_exec": None,
}


def node_id(number: int) -> str:
    """Return the id of a node; ids are spread over the whole range as random ones are."""
    return _uuid(f"node {number}")


def secret_id(number: int) -> str:
    """Return the secret that its agent holds."""
    return _uuid(f"secret {number}")


def _uuid(text: str) -> str:
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4))


def make_node(number: int) -> dict[str, Any]:
    """Return a registration: read back in full about 2 KB, in the list about 0.9 KB."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return {
        "ID": node_id(number),
        "SecretID": secret_id(number),
        "Name": f"worker-{number:05d}.rack{number % 40:02d}.example.net",
        "Datacenter": f"dc{number % 3 + 1}",
        "NodeClass": ("general", "memory", "storage")[number % 3],
        "HTTPAddr": f"{address}:4646",
        "Status": "ready",
        "Attributes": _attributes(address),
        "Meta": {"rack": f"r{number % 40:02d}", "owner": "platform"},
        "Drivers": {
            name: {
                "Attributes": attributes,
                "Detected": True,
                "Healthy": attributes is not None,
                "HealthDescription": "Healthy" if attributes else "disabled",
                "UpdateTime": UPDATED_AT,
            }
            for name, attributes in _DRIVERS.items()
        },
        "NodeResources": {
            "Cpu": {"CpuShares": 38_400},
            "Memory": {"MemoryMB": 64_318},
            "Disk": {"DiskMB": 452_123},
            "Networks": [
                {
                    "Device": "eth0",
                    "CIDR": f"{address}/32",
                    "IP": address,
                    "MBits": 1000,
                }
            ],
        },
        "ReservedResources": {
            "Cpu": {"CpuShares": 500},
            "Memory": {"MemoryMB": 512},
            "Disk": {"DiskMB": 10_000},
            "Networks": {"ReservedHostPorts": "22"},
        },
    }


def _attributes(address: str) -> dict[str, str]:
    return {
        "cpu.arch": "amd64",
        "cpu.numcores": "16",
        "cpu.totalcompute": "38400",
        "kernel.name": "linux",
        "kernel.version": "6.1.0-18-amd64",
        "memory.totalbytes": "67442450432",
        "nomad.version": "0.10.9",
        "os.name": "debian",
        "os.version": "12.5",
        "unique.network.ip-address": address,
    }


def make_fleet(numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return the registrations of these nodes."""
    return [make_node(number) for number in numbers]
