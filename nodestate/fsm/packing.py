"""Nodes as a snapshot has them: what many have in common is written, and read, once.

Thousands of nodes repeat the same attributes, drivers and resources. A node is taken
apart into what is its own and into parts; a part is written where it first occurs, and
is a number from then on. Nodes that were read back share the parts, which are never
changed in place.

Parts are forgotten, by writer and reader alike, when there are too many of them.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from sys import intern
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from nodestate.errors import SnapshotError
from nodestate.fsm.canonical import shared_drivers, shared_event, shared_texts
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.node import (
    UNIQUE_PREFIX,
    DrainStrategy,
    Driver,
    HostVolume,
    LastDrain,
    LegacyResources,
    NetworkResource,
    Node,
    NodeEvent,
    NodeKey,
    NodeResources,
    ReservedResources,
)
from nodestate.model.timestamp import NO_TIME, Timestamp

PARTS_MAX: Final = 1 << 14
"""How many parts are remembered at least; a node adds a dozen at most."""

_Ref = Annotated[int, msgspec.Meta(ge=0)]
"""The number of a part of one kind, from 1 in the order of their writing; 0 is none."""


class _Parts(msgspec.Struct, array_like=True, gc=False):
    """Parts by kind: `frames` are nodes without all that has a place of its own."""

    frames: list[Node]
    texts: list[dict[str, str]]
    drivers: list[dict[str, Driver]]
    volumes: list[dict[str, HostVolume]]
    legacy: list[LegacyResources]
    resources: list[NodeResources]
    reserved: list[ReservedResources]
    events: list[NodeEvent]


class _Packed(msgspec.Struct, array_like=True, gc=False):
    """A node: what is its own, and the numbers of its parts.

    `unique` are the attributes that say nothing about other nodes, `driver_times` the
    drivers' update times in the order of their names, `networks` those of the resources,
    and an event is its part, its time and its index.
    """

    key: NodeKey
    id: str
    name: str
    http_addr: str
    status_updated_at: int
    create_index: int
    modify_index: int
    drain_strategy: DrainStrategy | None
    last_drain: LastDrain | None
    unique: dict[str, str] | None
    driver_times: list[int]
    networks: list[NetworkResource] | None
    events: list[tuple[_Ref, int, int]]
    frame: _Ref
    attributes: _Ref
    meta: _Ref
    links: _Ref
    drivers: _Ref
    host_volumes: _Ref
    resources: _Ref
    reserved: _Ref
    node_resources: _Ref
    reserved_resources: _Ref


class _Piece(msgspec.Struct, array_like=True, gc=False):
    """Some nodes, and the parts that they bring in; `is_fresh` forgets those before."""

    is_fresh: bool
    new: _Parts
    nodes: list[_Packed]


_DECODER: Final = msgpack_decoder(_Piece)
_KINDS: Final = _Parts.__struct_fields__
_P: Final = len(UNIQUE_PREFIX)
_NOT_OF_FRAME: Final = {*_Packed.__struct_fields__, "attributes", "events"}


def _makeup(kind: type[msgspec.Struct], *without: str) -> Callable[[Any], Any]:
    """Return what gives all of a record but these fields, as a key to look it up by."""
    return attrgetter(*(name for name in kind.__struct_fields__ if name not in without))


_frame_makeup: Final = _makeup(Node, *_NOT_OF_FRAME)
_driver_makeup: Final = _makeup(Driver, "attributes", "update_time")
_resources_makeup: Final = _makeup(NodeResources, "networks")
_event_makeup: Final = _makeup(NodeEvent, "timestamp", "create_index")
_FRAME_BLANKS: Final = {
    field.name: field.default
    for field in msgspec.structs.fields(Node)
    if field.name in _NOT_OF_FRAME
}


class NodePacker:
    """Writes the nodes of one snapshot, in pieces.

    What a part is called is decided by its bytes. Encoding each to find it among those
    that are known would be most of the work, so that they are also known by what they
    are made of.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[bytes, int]] = {}
        self._by_makeup: dict[str, dict[Any, int]] = {}
        self._new: dict[str, list[msgspec.Raw]] = {}
        self._forget()

    def encode(self, items: Iterable[tuple[NodeKey, Node]]) -> bytes:
        """Return the next piece."""
        is_fresh = sum(map(len, self._by_makeup.values())) > PARTS_MAX
        if is_fresh:
            self._forget()
        nodes = [self._pack(key, node) for key, node in items]
        piece = MSGPACK.encode((is_fresh, tuple(self._new.values()), nodes))
        self._new = {kind: [] for kind in _KINDS}
        return piece

    def _forget(self) -> None:
        self._known = {kind: {} for kind in _KINDS}
        self._by_makeup = {kind: {} for kind in _KINDS}
        self._new = {kind: [] for kind in _KINDS}

    def _pack(self, key: NodeKey, node: Node) -> tuple[Any, ...]:
        """Return the fields of `_Packed`, in their order."""
        attributes, unique = self._attributes(node.attributes)
        drivers, driver_times = self._drivers(node.drivers)
        resources, networks = self._resources(node.node_resources)
        return (
            key,
            node.id,
            node.name,
            node.http_addr,
            node.status_updated_at,
            node.create_index,
            node.modify_index,
            node.drain_strategy,
            node.last_drain,
            unique,
            driver_times,
            networks,
            [self._event(event) for event in node.events],
            self._ref("frames", _frame_makeup(node), lambda: _frame(node)),
            attributes,
            self._texts(node.meta),
            self._texts(node.links),
            drivers,
            self._plain("volumes", node.host_volumes),
            self._plain("legacy", node.resources),
            self._plain("legacy", node.reserved),
            resources,
            self._plain("reserved", node.reserved_resources),
        )

    def _attributes(
        self, attributes: dict[str, str] | None
    ) -> tuple[int, dict[str, str] | None]:
        if attributes is None:
            return 0, None
        common = [item for item in attributes.items() if item[0][:_P] != UNIQUE_PREFIX]
        ref = self._ref("texts", tuple(common), lambda: dict(common)) if common else 0
        if len(common) == len(attributes):
            return ref, None
        return ref, {
            key: text for key, text in attributes.items() if key[:_P] == UNIQUE_PREFIX
        }

    def _texts(self, texts: dict[str, str] | None) -> int:
        if texts is None:
            return 0
        return self._ref("texts", tuple(texts.items()), lambda: texts)

    def _drivers(self, drivers: dict[str, Driver] | None) -> tuple[int, list[int]]:
        if drivers is None:
            return 0, []
        makeup = tuple(
            [
                (name, _driver_makeup(driver), tuple((driver.attributes or {}).items()))
                for name, driver in drivers.items()
            ]
        )
        ref = self._ref("drivers", makeup, lambda: _timeless(drivers))
        return ref, [drivers[name].update_time.ns for name in sorted(drivers)]

    def _resources(
        self, resources: NodeResources | None
    ) -> tuple[int, list[NetworkResource] | None]:
        if resources is None:
            return 0, None
        ref = self._ref(
            "resources",
            _resources_makeup(resources),
            lambda: replace(resources, networks=None),
        )
        return ref, resources.networks

    def _event(self, event: NodeEvent) -> tuple[int, int, int]:
        ref = self._ref(
            "events",
            _event_makeup(event),
            lambda: replace(event, timestamp=NO_TIME, create_index=0),
        )
        return ref, event.timestamp.ns, event.create_index

    def _plain(self, kind: str, part: Any) -> int:
        return 0 if part is None else self._ref(kind, part, lambda: part)

    def _ref(self, kind: str, makeup: Any, make: Callable[[], Any]) -> int:
        """Return the part's number; give it one, and write it, if it is new."""
        by_makeup = self._by_makeup[kind]
        try:
            number = by_makeup.get(makeup)
        except TypeError:  # there is a map or a list in it, which no table can look up
            return self._number(kind, make())
        if number is None:
            number = by_makeup[makeup] = self._number(kind, make())
        return number

    def _number(self, kind: str, part: Any) -> int:
        content = MSGPACK.encode(part)
        known = self._known[kind]
        number = known.get(content)
        if number is None:
            number = known[content] = len(known) + 1
            self._new[kind].append(msgspec.Raw(content))
        return number


class NodeUnpacker:
    """Reads the nodes of one snapshot, piece by piece."""

    def __init__(self) -> None:
        self._known: dict[str, list[Any]] = {}
        self._forget()

    def decode(self, content: msgspec.Raw) -> list[tuple[NodeKey, Node]]:
        """Return the nodes of the next piece.

        Raises `SnapshotError` if one lacks a part, and msgspec's errors.
        """
        piece = _DECODER.decode(content)
        if piece.is_fresh:
            self._forget()
        self._learn(piece.new)
        try:
            return [(packed.key, self._unpack(packed)) for packed in piece.nodes]
        except (IndexError, TypeError, ValueError) as error:
            raise SnapshotError(f"a node lacks a part of it: {error}") from error

    def _forget(self) -> None:
        """Have no parts but the one that is none."""
        self._known = {kind: [None] for kind in _KINDS}

    def _learn(self, new: _Parts) -> None:
        known = self._known
        known["frames"] += map(_shared_frame, new.frames)
        known["texts"] += map(shared_texts, new.texts)
        known["drivers"] += map(shared_drivers, new.drivers)
        known["volumes"] += new.volumes
        known["legacy"] += new.legacy
        known["resources"] += new.resources
        known["reserved"] += new.reserved
        known["events"] += map(shared_event, new.events)

    def _unpack(self, packed: _Packed) -> Node:
        known = self._known
        texts, events = known["texts"], known["events"]
        resources = known["resources"][packed.node_resources]
        if packed.networks is not None:
            resources = replace(resources, networks=packed.networks)
        frame: Node = known["frames"][packed.frame]
        return replace(
            frame,
            id=packed.id,
            name=packed.name,
            http_addr=packed.http_addr,
            attributes=_joined(texts[packed.attributes], packed.unique),
            meta=texts[packed.meta],
            links=texts[packed.links],
            drivers=_timed(known["drivers"][packed.drivers], packed.driver_times),
            host_volumes=known["volumes"][packed.host_volumes],
            resources=known["legacy"][packed.resources],
            reserved=known["legacy"][packed.reserved],
            node_resources=resources,
            reserved_resources=known["reserved"][packed.reserved_resources],
            status_updated_at=packed.status_updated_at,
            drain_strategy=packed.drain_strategy,
            last_drain=packed.last_drain,
            events=tuple(
                [
                    replace(events[ref], timestamp=Timestamp(ns), create_index=index)
                    for ref, ns, index in packed.events
                ]
            ),
            create_index=packed.create_index,
            modify_index=packed.modify_index,
        )


def _frame(node: Node) -> Node:
    return replace(node, **_FRAME_BLANKS)


def _shared_frame(frame: Node) -> Node:
    return replace(
        frame,
        datacenter=intern(frame.datacenter),
        node_class=intern(frame.node_class),
        node_pool=intern(frame.node_pool),
        computed_class=intern(frame.computed_class),
        scheduling_eligibility=intern(frame.scheduling_eligibility),
    )


def _joined(
    common: dict[str, str] | None, unique: dict[str, str] | None
) -> dict[str, str] | None:
    """Return both in one map, in the order of its keys as any map that was read."""
    if unique is None:
        return common
    own = {intern(key): text for key, text in unique.items()}
    if common is None:
        return own
    attributes = common | own
    if next(reversed(common)) > UNIQUE_PREFIX:
        return dict(sorted(attributes.items()))
    return attributes


def _timeless(drivers: dict[str, Driver]) -> dict[str, Driver]:
    return {
        name: replace(driver, update_time=NO_TIME) for name, driver in drivers.items()
    }


def _timed(
    drivers: dict[str, Driver] | None, times: Sequence[int]
) -> dict[str, Driver] | None:
    if drivers is None:
        return None
    return {
        name: replace(driver, update_time=Timestamp(ns) if ns else NO_TIME)
        for (name, driver), ns in zip(drivers.items(), times, strict=True)
    }
