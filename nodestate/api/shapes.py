"""What is sent and is no record (stubs, answers to writes), and what is received.

Keys are Nomad's, derived from the field names as for the records. A shape that is
received has every field optional, with the value that leaving it out means.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from nodestate.model.encoding import encode_json
from nodestate.model.naming import nomad_name
from nodestate.model.node import (
    DrainStrategy,
    Driver,
    HostVolume,
    LastDrain,
    LegacyResources,
    Node,
    NodeEvent,
    NodeResources,
    ReservedResources,
)
from nodestate.model.outcome import Accepted
from nodestate.ports import ServerAddress

RPC_VERSION: Final = 1  # what servers of Nomad 0.10.9 say
PRETTY_INDENT: Final = 4


class Shape(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=nomad_name):
    """What all of these are."""


# Sent


class Stub(Shape, frozen=True, kw_only=True):
    """A node in the list. The last three are there only if asked for."""

    address: str
    create_index: int
    datacenter: str
    drain: bool
    drivers: dict[str, Driver] | None
    host_volumes: dict[str, HostVolume] | None
    id: str
    last_drain: LastDrain | None
    modify_index: int
    name: str
    node_class: str
    node_pool: str
    scheduling_eligibility: str
    status: str
    status_description: str
    version: str
    attributes: dict[str, str] | UnsetType = UNSET
    node_resources: NodeResources | UnsetType = UNSET
    reserved_resources: ReservedResources | UnsetType = UNSET


class NodeUpdated(Shape, frozen=True, kw_only=True):
    """The answer to a drain and to a change of eligibility."""

    eval_create_index: int
    eval_ids: tuple[str, ...] | None = msgspec.field(name="EvalIDs")
    index: int
    node_modify_index: int


class ServerListed(Shape, frozen=True, kw_only=True):
    """A server as agents are told of it."""

    datacenter: str
    rpc_advertise_addr: str
    rpc_major_version: int = RPC_VERSION
    rpc_minor_version: int = RPC_VERSION


class NodeWritten(Shape, frozen=True, kw_only=True):
    """The answer to evaluate, purge, a registration and a heartbeat."""

    eval_create_index: int = 0
    eval_ids: tuple[str, ...] | None = msgspec.field(name="EvalIDs", default=None)
    heartbeat_ttl: int = 0  # ns, as Nomad has it
    index: int = 0
    known_leader: bool = False
    last_contact: int = 0
    leader_rpc_addr: str = ""
    node_modify_index: int = 0
    num_nodes: int = 0
    servers: tuple[ServerListed, ...] | None = None


class NodeRegistered(NodeWritten, frozen=True, kw_only=True):
    """What became of one node of a batch: the single answer, its id, and its error."""

    id: str
    error: str = ""


class NodesRegistered(Shape, frozen=True, kw_only=True):
    """The answer to a batch registration, one result per node, in order."""

    index: int
    results: tuple[NodeRegistered, ...]


class EventsEmitted(Shape, frozen=True, kw_only=True):
    """The answer to events."""

    index: int


# Received


class DrainSpecSent(Shape, frozen=True, kw_only=True):
    """How to drain."""

    deadline: int = 0
    ignore_system_jobs: bool = False


class DrainSent(Shape, frozen=True, kw_only=True):
    """The body of a drain: without a spec it stops."""

    node_id: str = ""
    drain_spec: DrainSpecSent | None = None
    mark_eligible: bool = False
    meta: dict[str, str] | None = None


class AnythingSent(Shape, frozen=True, kw_only=True):
    """An object of which only matters whether it is there."""


class EligibilitySent(Shape, frozen=True, kw_only=True):
    """The body of a change of eligibility."""

    node_id: str = ""
    eligibility: str = ""
    node_event: AnythingSent | None = None


class HeartbeatSent(Shape, frozen=True, kw_only=True):
    """The body of a heartbeat."""

    node_id: str = ""
    secret_id: str = ""
    status: str = ""


class EventsSent(Shape, frozen=True, kw_only=True):
    """The body of events; their `create_index` is not the agent's to say."""

    node_id: str = ""
    secret_id: str = ""
    node_events: list[NodeEvent] | None = None


class NodeSent(Shape, frozen=True, kw_only=True):
    """A node as its agent sends it: what is not its to say has no field here."""

    id: str = ""
    secret_id: str = ""
    name: str = ""
    datacenter: str = ""
    node_class: str = ""
    node_pool: str = ""
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
    status: str = ""
    status_description: str = ""
    scheduling_eligibility: str = ""
    drain: bool = False
    drain_strategy: DrainStrategy | None = None


class RegistrationSent(Shape, frozen=True, kw_only=True):
    """The body of a registration: one node or many."""

    node: NodeSent | None = None
    nodes: list[NodeSent] | None = None


# From records to what is sent

_LINE_IN_LIST: Final = b"\n" + b" " * PRETTY_INDENT
_NO_RESOURCES: Final = LegacyResources()
_NO_NODE_RESOURCES: Final = NodeResources()
_NOTHING_RESERVED: Final = ReservedResources()
# Escaped by Nomad too: to JavaScript of old they end a line.
_LINE_SEPARATOR: Final = "\u2028".encode()
_PARAGRAPH_SEPARATOR: Final = "\u2029".encode()


def encode(value: Any) -> bytes:
    """Return the compact JSON of a record or a shape, as Nomad escapes it."""
    encoded = encode_json(value)
    if b"\xe2\x80" not in encoded:
        return encoded
    return encoded.replace(_LINE_SEPARATOR, rb"\u2028").replace(
        _PARAGRAPH_SEPARATOR, rb"\u2029"
    )


def prettify(encoded: bytes) -> bytes:
    """Return JSON for people: indented, with a final newline."""
    return msgspec.json.format(encoded, indent=PRETTY_INDENT) + b"\n"


def prettify_part(encoded: bytes) -> bytes:
    """Return an entry of a list for people: indented, behind the list's own indent."""
    # JSON has no line break inside a text, so every one of them is the indenter's.
    indented = msgspec.json.format(encoded, indent=PRETTY_INDENT)
    return indented.replace(b"\n", _LINE_IN_LIST)


def join_pretty_list(parts: Sequence[bytes]) -> bytes:
    """Return the list of entries for people."""
    if not parts:
        return b"[]\n"
    inner = (b"," + _LINE_IN_LIST).join(parts)
    return b"[%b%b\n]\n" % (_LINE_IN_LIST, inner)


def join_list(parts: Sequence[bytes]) -> bytes:
    """Return the JSON list of encoded parts."""
    if not parts:
        return b"[]"
    # The brackets go onto the ends, so that a large list is copied once.
    bracketed = [*parts]
    bracketed[0] = b"[" + bracketed[0]
    bracketed[-1] += b"]"
    return b",".join(bracketed)


def encode_node(node: Node) -> bytes:
    """Return the full record; resources that were not registered are zeros.

    The `nomad` command crashes on the nulls that Nomad would send there.
    """
    filled = msgspec.structs.replace(
        node,
        resources=node.resources or _NO_RESOURCES,
        node_resources=node.node_resources or _NO_NODE_RESOURCES,
        reserved_resources=node.reserved_resources or _NOTHING_RESERVED,
    )
    return encode(filled)


def encode_stub(
    node: Node, *, shows_resources: bool = False, shows_os: bool = False
) -> bytes:
    """Return a node's entry in the list."""
    attributes = node.attributes or {}
    stub = Stub(
        address=_host(node.http_addr),
        create_index=node.create_index,
        datacenter=node.datacenter,
        drain=node.drain,
        drivers=node.drivers,
        host_volumes=node.host_volumes,
        id=node.id,
        last_drain=node.last_drain,
        modify_index=node.modify_index,
        name=node.name,
        node_class=node.node_class,
        node_pool=node.node_pool,
        scheduling_eligibility=node.scheduling_eligibility,
        status=node.status,
        status_description=node.status_description,
        version=attributes.get("nomad.version", ""),
        attributes={"os.name": attributes.get("os.name", "")} if shows_os else UNSET,
        node_resources=(node.node_resources or _NO_NODE_RESOURCES)
        if shows_resources
        else UNSET,
        reserved_resources=(node.reserved_resources or _NOTHING_RESERVED)
        if shows_resources
        else UNSET,
    )
    return encode(stub)


def _host(http_addr: str) -> str:
    """Return the host of `host:port`, IPv6 without brackets; nothing if it is none."""
    host, colon, _ = http_addr.rpartition(":")
    if not colon:
        return ""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return "" if ":" in host else host


def list_servers(
    servers: Sequence[ServerAddress], datacenter: str
) -> tuple[ServerListed, ...]:
    """Return the servers as agents are told of them."""
    return tuple(
        ServerListed(datacenter=datacenter, rpc_advertise_addr=server.peer_address)
        for server in servers
    )


def describe_update(accepted: Accepted) -> NodeUpdated:
    """Return the answer to a drain or a change of eligibility."""
    return NodeUpdated(
        eval_create_index=accepted.eval_create_index,
        eval_ids=accepted.eval_ids or None,
        index=accepted.index,
        node_modify_index=accepted.node_modify_index,
    )
