"""Nodes and commands for property tests: few keys, so that commands meet each other."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from nodestate.model.command import (
    Command,
    CompletedDrain,
    CompleteDrains,
    EmitNodeEvents,
    EvaluateNode,
    MissHeartbeats,
    PurgeNodes,
    RegisterNodes,
    Registration,
    SetDrain,
    SetEligibility,
    UpdateNodeStatus,
)
from nodestate.model.computed_class import compute_class
from nodestate.model.node import (
    CpuResources,
    DeviceAttribute,
    DeviceInstance,
    DeviceResource,
    DiskResources,
    DrainStrategy,
    Driver,
    HostVolume,
    LegacyResources,
    MemoryResources,
    NetworkResource,
    Node,
    NodeEvent,
    NodeKey,
    NodeResources,
    NodeStatus,
    Port,
    ReservedNetworks,
    ReservedResources,
)
from nodestate.model.timestamp import NO_TIME, Timestamp

HOUR_NS = 3_600 * 10**9
NOW_NS = 1_700_000_000 * 10**9
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
SECRETS = tuple(hashlib.sha256(text).digest() for text in (b"one", b"two"))
KEYS = tuple(NodeKey(f"{number:032x}") for number in range(1, 5))

# Time goes backwards between leaders.
times_ns = st.integers(NOW_NS - 2 * HOUR_NS, NOW_NS + 2 * HOUR_NS)
timestamps = st.just(NO_TIME) | times_ns.map(Timestamp)
words = st.sampled_from(("", "a", "b", "linux", "é", "\u2028", "<&>"))
counts = st.integers(0, 5) | st.sampled_from((INTEGER_MIN, INTEGER_MAX))
keys = st.sampled_from(KEYS)
secrets = st.sampled_from((SECRETS[0], SECRETS[0], SECRETS[0], SECRETS[1]))
seeds = st.binary(min_size=16, max_size=16)
statuses = st.sampled_from(NodeStatus)
durations_ns = st.sampled_from((0, -1, 1, HOUR_NS, -HOUR_NS, INTEGER_MIN, INTEGER_MAX))
asked_by = st.sampled_from(("anonymous", "server", "5d7bc1a5-accessor"))


def optional(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """Return the strategy with `None` among its values."""
    return st.none() | strategy


def texts(key: st.SearchStrategy[str] | None = None) -> st.SearchStrategy:
    """Return maps of texts, unset, empty or of a few entries."""
    names = key or st.sampled_from(("arch", "kernel.name", "unique.name", "z", ""))
    return optional(st.dictionaries(names, words, max_size=3))


def record(kind: Callable[..., Any], **fields: st.SearchStrategy) -> st.SearchStrategy:
    """Return records of which any field may be left at its default."""
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: kind(**given))


def few(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return optional(st.lists(strategy, max_size=2))


ports = record(Port, label=words, value=counts, to=counts)
networks = record(
    NetworkResource,
    mode=words,
    device=words,
    cidr=words,
    ip=words,
    mbits=counts,
    reserved_ports=few(ports),
    dynamic_ports=few(ports),
)
device_attributes = record(
    DeviceAttribute,
    float_=optional(st.floats(allow_nan=False)),
    int_=optional(counts),
    string=optional(words),
    bool_=optional(st.booleans()),
    unit=words,
)
devices = record(
    DeviceResource,
    vendor=words,
    type=words,
    name=words,
    instances=few(record(DeviceInstance, id=words, healthy=st.booleans())),
    attributes=optional(st.dictionaries(words, device_attributes, max_size=2)),
)
amounts = {
    "cpu": record(CpuResources, cpu_shares=counts),
    "memory": record(MemoryResources, memory_mb=counts),
    "disk": record(DiskResources, disk_mb=counts),
}
resources = record(
    NodeResources, networks=few(networks), devices=few(devices), **amounts
)
reserved = record(
    ReservedResources,
    networks=record(ReservedNetworks, reserved_host_ports=words),
    **amounts,
)
legacy_resources = record(LegacyResources, cpu=counts, networks=few(networks))
drivers = record(
    Driver,
    attributes=texts(),
    detected=st.booleans(),
    healthy=st.booleans(),
    health_description=words,
    update_time=timestamps,
)
node_events = record(
    NodeEvent,
    message=words,
    subsystem=words,
    details=texts(),
    timestamp=timestamps,
    create_index=counts,
)
drain_strategies = st.builds(
    DrainStrategy, deadline=durations_ns, ignore_system_jobs=st.booleans()
)


@st.composite
def nodes(draw: st.DrawFn, key: NodeKey = KEYS[0]) -> Node:
    """Draw a node as an agent sends it, with its computed class."""
    node: Node = draw(
        record(
            partial(Node, id=key),
            name=words,
            datacenter=st.sampled_from(("dc1", "dc2")),
            node_class=words,
            node_pool=st.sampled_from(("default", "gpu")),
            http_addr=words,
            tls_enabled=st.booleans(),
            attributes=texts(),
            meta=texts(),
            links=texts(),
            drivers=optional(st.dictionaries(words, drivers, max_size=2)),
            host_volumes=optional(
                st.dictionaries(words, record(HostVolume, path=words), max_size=2)
            ),
            resources=optional(legacy_resources),
            reserved=optional(legacy_resources),
            node_resources=optional(resources),
            reserved_resources=optional(reserved),
            status=statuses,
            status_description=words,
            scheduling_eligibility=st.sampled_from(
                ("eligible", "ineligible", "", "open")
            ),
            drain=st.booleans(),
            drain_strategy=optional(drain_strategies),
            events=st.lists(node_events, max_size=2).map(tuple),
            create_index=counts,
            modify_index=counts,
        )
    )
    computed: Node = replace(node, computed_class=compute_class(node))
    return computed


@st.composite
def registrations(draw: st.DrawFn) -> Registration:
    """Draw one of a node that other commands may mean as well."""
    key = draw(keys)
    return Registration(key, draw(nodes(key)), draw(secrets))


def command(kind: type, **fields: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(kind, at_ns=times_ns, asked_by=asked_by, **fields)


completed_drains = st.builds(
    CompletedDrain,
    key=keys,
    modify_index=st.integers(10, 40),
    deadline_reached=st.booleans(),
)


def commands() -> st.SearchStrategy[Command]:
    """Return every kind of command but those of restores, on few keys."""
    few_keys = st.lists(keys, max_size=3).map(tuple)
    registering = command(
        RegisterNodes,
        registrations=st.lists(registrations(), max_size=3).map(tuple),
        seed=seeds,
    )
    others = (
        command(
            UpdateNodeStatus,
            key=keys,
            status=statuses,
            secret_sha256=secrets,
            seed=seeds,
        ),
        command(MissHeartbeats, keys=few_keys, seed=seeds),
        command(
            EmitNodeEvents,
            key=keys,
            secret_sha256=secrets,
            events=st.lists(node_events, max_size=12).map(tuple),
        ),
        command(
            SetDrain,
            key=keys,
            strategy=optional(drain_strategies),
            mark_eligible=st.booleans(),
            accessor_id=st.sampled_from(("", "token:acls-disabled")),
            meta=texts(),
            seed=seeds,
        ),
        command(
            CompleteDrains, drains=st.lists(completed_drains, max_size=3).map(tuple)
        ),
        command(
            SetEligibility,
            key=keys,
            eligibility=st.sampled_from(("eligible", "ineligible", "bogus", "")),
            seed=seeds,
        ),
        command(EvaluateNode, key=keys, seed=seeds),
        command(PurgeNodes, keys=few_keys, seed=seeds),
    )
    return st.one_of(registering, registering, *others)


def sequences(
    *, min_size: int = 6, max_size: int = 25
) -> st.SearchStrategy[list[Command]]:
    """Return what may stand in a log, one after the other."""
    return st.lists(commands(), min_size=min_size, max_size=max_size)
