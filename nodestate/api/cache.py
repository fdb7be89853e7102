"""Encoded answers, kept as long as they are true, and shared by everyone who asks.

A node's JSON belongs to its record: records are immutable, so as long as the state has
the same object, the bytes are right. The list belongs to the table's index.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from nodestate.api.replies import JSON_TYPE, Body
from nodestate.api.shapes import encode_node, encode_stub, join_list
from nodestate.clock import Clock
from nodestate.fsm.state import NODES, State
from nodestate.model.node import Node, NodeKey

NODE_BYTES_MAX: Final = 64 << 20
"""Full records that are kept; the oldest go first."""
STRAY_STUBS_MAX: Final = 1000
"""Stubs of nodes that are gone, beyond which they are cleared out."""
SLICE_S_MAX: Final = 0.005
"""How long the loop may be held before others have their turn."""
SLICE_NODES: Final = 128


class Pace:
    """Lets others have their turn whenever a slice of work has taken its time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s = clock.monotonic_s()

    async def pause_if_due(self) -> None:
        """Yield to the loop if the slice is over, and begin the next one."""
        if self._clock.monotonic_s() - self._since_s >= SLICE_S_MAX:
            await asyncio.sleep(0)
            self._since_s = self._clock.monotonic_s()


class EncodedNode(NamedTuple):
    """A record, its JSON, and the header lines that belong to just this version."""

    node: Node
    body: Body
    headers: bytes


class NodeCache:
    """The full JSON of nodes that were read."""

    def __init__(self) -> None:
        # A plain map that loses its first record again and again is ever slower at it.
        self._kept: OrderedDict[NodeKey, EncodedNode] = OrderedDict()
        self._kept_bytes = 0

    def encoded(self, key: NodeKey, node: Node) -> EncodedNode:
        """Return the node's JSON, encoded once for as long as the record is this one."""
        kept = self._kept.get(key)
        if kept is not None:
            if kept.node is node:
                return kept
            self._drop(key)
        headers = b"%bX-Nomad-Index: %d\r\n" % (JSON_TYPE, node.modify_index)
        encoded = EncodedNode(node, Body(encode_node(node)), headers)
        self._kept[key] = encoded
        self._kept_bytes += len(encoded.body.plain)
        while self._kept_bytes > NODE_BYTES_MAX and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))
        return encoded

    def _drop(self, key: NodeKey) -> None:
        self._kept_bytes -= len(self._kept.pop(key).body.plain)


class StubCache:
    """The JSON of list entries, one for each node there is."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Node, bytes]] = {}

    def stub(self, node: Node) -> bytes:
        """Return the node's entry, encoded once for as long as the record is this one."""
        kept = self._kept.get(node.id)
        if kept is not None and kept[0] is node:
            return kept[1]
        encoded = encode_stub(node)
        self._kept[node.id] = (node, encoded)
        return encoded

    def forget_strays(self, present: Sequence[Node]) -> None:
        """Let go of nodes that are gone, once there are many of them."""
        if len(self._kept) > len(present) + STRAY_STUBS_MAX:
            self._kept = {
                node.id: self._kept[node.id]
                for node in present
                if node.id in self._kept
            }


class EncodedList(msgspec.Struct, frozen=True):
    """The whole list, and the index of the table that it shows."""

    index: int
    body: Body


class ListCache:
    """The newest whole list that somebody asked for."""

    def __init__(self, clock: Clock) -> None:
        self.stubs = StubCache()
        self._clock = clock
        self._kept = EncodedList(-1, Body(b"[]"))
        self._building: asyncio.Future[None] | None = None

    async def at_least(self, state: State) -> EncodedList:
        """Return the list as it is now, or newer; one is built at a time.

        The index belongs to the body: both are taken in one step, from which on the
        encoding works on a copy.
        """
        wanted_index = state.table_index(NODES)
        while self._kept.index < wanted_index:
            if self._building is None:
                await self._build(state)
            else:
                await asyncio.shield(self._building)
        return self._kept

    async def _build(self, state: State) -> None:
        building = self._building = asyncio.get_running_loop().create_future()
        try:
            index = state.table_index(NODES)
            nodes = [state.nodes[key] for key in state.node_keys]
            self.stubs.forget_strays(nodes)
            parts: list[bytes] = []
            pace = Pace(self._clock)
            for piece in slices(len(nodes)):
                parts += map(self.stubs.stub, nodes[piece])
                await pace.pause_if_due()
            self._kept = EncodedList(index, Body(join_list(parts)))
        finally:
            # Also if it failed: then one of those who wait builds it.
            self._building = None
            building.set_result(None)


def slices(length: int) -> Iterator[slice]:
    """Yield the parts of a long piece of work, between which others may have a turn."""
    for start in range(0, length, SLICE_NODES):
        yield slice(start, start + SLICE_NODES)


async def encode_stubs(
    nodes: Sequence[Node], clock: Clock, *, shows_resources: bool, shows_os: bool
) -> list[bytes]:
    """Return list entries that show more; they are not kept."""
    parts: list[bytes] = []
    pace = Pace(clock)
    for piece in slices(len(nodes)):
        parts += [
            encode_stub(node, shows_resources=shows_resources, shows_os=shows_os)
            for node in nodes[piece]
        ]
        await pace.pause_if_due()
    return parts
