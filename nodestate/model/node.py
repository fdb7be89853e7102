"""The record of a client machine, and the records it is made of.

Field names and the meaning of every field are Nomad's; see `naming.nomad_name` for how
a name is spelt in JSON. Unset lists and maps are `None`, which is sent as `null`.
"""

from enum import StrEnum
from typing import Final, Literal, NewType

import msgspec

from nodestate.model.naming import nomad_name
from nodestate.model.timestamp import NO_TIME, Timestamp

NodeKey = NewType("NodeKey", str)
"""A node's identity: 32 lower-case hex digits. The record shows the id as registered."""

NODE_EVENTS_MAX: Final = 10
DEFAULT_POOL: Final = "default"
UNIQUE_PREFIX: Final = "unique."
"""How the key of an attribute begins that says nothing about other nodes."""


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename=nomad_name):
    """What every record is: immutable, untracked by the collector, Nomad's spelling."""


class NodeStatus(StrEnum):
    """Whether the agent of a node is heard of."""

    INITIALIZING = "initializing"
    READY = "ready"
    DOWN = "down"


ELIGIBLE: Final = "eligible"
INELIGIBLE: Final = "ineligible"


class NodeEvent(Record, frozen=True, kw_only=True):
    """One line of a node's own history; the last ten are kept, oldest first."""

    message: str = ""
    subsystem: str = ""
    details: dict[str, str] | None = None
    timestamp: Timestamp = NO_TIME
    create_index: int = 0


class Driver(Record, frozen=True, kw_only=True):
    """What an agent found out about one task driver."""

    attributes: dict[str, str] | None = None
    detected: bool = False
    healthy: bool = False
    health_description: str = ""
    update_time: Timestamp = NO_TIME


class HostVolume(Record, frozen=True, kw_only=True):
    """A directory that the node offers to tasks."""

    name: str = ""
    path: str = ""
    read_only: bool = False


class Port(Record, frozen=True, kw_only=True):
    """A port by label."""

    label: str = ""
    value: int = 0
    to: int = 0


class NetworkResource(Record, frozen=True, kw_only=True):
    """A network interface of the node."""

    mode: str = ""
    device: str = ""
    cidr: str = ""
    ip: str = ""
    mbits: int = 0
    reserved_ports: list[Port] | None = None
    dynamic_ports: list[Port] | None = None


class DeviceAttribute(Record, frozen=True, kw_only=True):
    """A typed value: one of the first four is set."""

    float_: float | None = msgspec.field(name="Float", default=None)
    int_: int | None = msgspec.field(name="Int", default=None)
    string: str | None = None
    bool_: bool | None = msgspec.field(name="Bool", default=None)
    unit: str = ""


class DeviceLocality(Record, frozen=True, kw_only=True):
    """Where a device instance sits."""

    pci_bus_id: str = msgspec.field(name="PciBusID", default="")


class DeviceInstance(Record, frozen=True, kw_only=True):
    """One physical device of a kind."""

    id: str = ""
    healthy: bool = False
    health_description: str = ""
    locality: DeviceLocality | None = None


class DeviceResource(Record, frozen=True, kw_only=True):
    """A kind of device that the node has."""

    vendor: str = ""
    type: str = ""
    name: str = ""
    instances: list[DeviceInstance] | None = None
    attributes: dict[str, DeviceAttribute] | None = None


class CpuResources(Record, frozen=True, kw_only=True):
    """CPU in MHz."""

    cpu_shares: int = 0


class MemoryResources(Record, frozen=True, kw_only=True):
    """Memory in MiB."""

    memory_mb: int = 0


class DiskResources(Record, frozen=True, kw_only=True):
    """Disk in MiB."""

    disk_mb: int = 0


class NodeResources(Record, frozen=True, kw_only=True):
    """What the node has."""

    cpu: CpuResources = CpuResources()
    memory: MemoryResources = MemoryResources()
    disk: DiskResources = DiskResources()
    networks: list[NetworkResource] | None = None
    devices: list[DeviceResource] | None = None


class ReservedNetworks(Record, frozen=True, kw_only=True):
    """Ports that tasks may not have, as a text such as `22,80,8000-9000`."""

    reserved_host_ports: str = ""


class ReservedResources(Record, frozen=True, kw_only=True):
    """What of the node tasks may not have."""

    cpu: CpuResources = CpuResources()
    memory: MemoryResources = MemoryResources()
    disk: DiskResources = DiskResources()
    networks: ReservedNetworks = ReservedNetworks()


class RequestedDevice(Record, frozen=True, kw_only=True):
    """A device in the old form of resources."""

    name: str = ""
    count: int = 0


class LegacyResources(Record, frozen=True, kw_only=True):
    """Resources in the form of before Nomad 0.9, still sent beside the new one."""

    cpu: int = msgspec.field(name="CPU", default=0)
    memory_mb: int = 0
    disk_mb: int = 0
    iops: int = 0
    networks: list[NetworkResource] | None = None
    devices: list[RequestedDevice] | None = None


class DrainStrategy(Record, frozen=True, kw_only=True):
    """How a node is being drained.

    `deadline` is a duration in ns: 0 is no deadline, a negative one forces at once; both
    have no `force_deadline`.
    """

    deadline: int = 0
    ignore_system_jobs: bool = False
    force_deadline: Timestamp = NO_TIME
    started_at: Timestamp = NO_TIME


class LastDrain(Record, frozen=True, kw_only=True):
    """The last drain of a node, kept after it is over."""

    started_at: Timestamp = NO_TIME
    updated_at: Timestamp = NO_TIME
    status: Literal["draining", "complete", "canceled"] = "draining"
    accessor_id: str = ""
    meta: dict[str, str] | None = None


class Node(Record, frozen=True, kw_only=True):
    """A client machine. `secret_id` is always empty: the secret is kept elsewhere."""

    id: str = ""
    name: str = ""
    datacenter: str = ""
    node_class: str = ""
    node_pool: str = DEFAULT_POOL
    http_addr: str = ""
    tls_enabled: bool = False
    attributes: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    links: dict[str, str] | None = None
    drivers: dict[str, Driver] | None = None
    host_volumes: dict[str, HostVolume] | None = None
    resources: LegacyResources | None = None
    reserved: LegacyResources | None = None
    node_resources: NodeResources | None = None
    reserved_resources: ReservedResources | None = None
    computed_class: str = ""
    secret_id: Literal[""] = ""
    status: NodeStatus = NodeStatus.INITIALIZING
    status_description: str = ""
    status_updated_at: int = 0  # seconds, as Nomad has it
    scheduling_eligibility: str = ELIGIBLE
    drain: bool = False
    drain_strategy: DrainStrategy | None = None
    last_drain: LastDrain | None = None
    events: tuple[NodeEvent, ...] = ()
    create_index: int = 0
    modify_index: int = 0

    @property
    def is_draining(self) -> bool:
        """Say whether a drain is under way."""
        return self.drain_strategy is not None
