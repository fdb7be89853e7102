"""What is encoded once and kept, and when it is let go."""

import asyncio

import msgspec
import pytest
from typing_extensions import override

from nodestate.api import cache
from nodestate.api.cache import ListCache, NodeCache, Pace, StubCache, slices
from nodestate.fsm.state import NODES, State
from nodestate.model.node import Node, NodeKey
from tests.fakes import FakeClock


def state_of(count: int, index: int = 5) -> State:
    state = State()
    for number in range(count):
        state.put_node(NodeKey(f"{number:032x}"), Node(id=f"{number:032x}"))
    state.indexes[NODES] = index
    return state


def test_a_node_is_encoded_once_for_as_long_as_it_is_the_same_record():
    nodes, key, node = NodeCache(), NodeKey("0" * 32), Node(id="a", modify_index=7)
    body = nodes.encoded(key, node)

    assert nodes.encoded(key, node) is body
    changed = msgspec.structs.replace(node, name="b")
    assert nodes.encoded(key, changed) is not body
    assert b'"Name":"b"' in nodes.encoded(key, changed).body.plain


def test_the_bytes_of_nodes_are_bounded(monkeypatch):
    size = len(NodeCache().encoded(NodeKey("x"), Node(id="00")).body.plain)
    monkeypatch.setattr(cache, "NODE_BYTES_MAX", 3 * size)
    nodes = NodeCache()
    records = {NodeKey(f"{number:02}"): Node(id=f"{number:02}") for number in range(10)}

    kept = {key: nodes.encoded(key, node) for key, node in records.items()}

    again = {key: nodes.encoded(key, node) for key, node in [*records.items()][-3:]}
    assert all(kept[key] is body for key, body in again.items())
    assert nodes._kept_bytes == 3 * size
    assert (
        nodes.encoded(NodeKey("00"), records[NodeKey("00")]) is not kept[NodeKey("00")]
    )


async def test_a_list_is_built_once_per_index_by_whoever_comes_first():
    state, lists = state_of(1000), ListCache(FakeClock())

    first, *others = await asyncio.gather(*(lists.at_least(state) for _ in range(20)))

    assert all(other is first for other in others)
    assert first.index == 5
    assert len(msgspec.json.decode(first.body.plain)) == 1000


class SlowClock(FakeClock):
    """A clock on which every look takes long, so that every slice is over."""

    @override
    def monotonic_s(self) -> float:
        self.pause(1.0)
        return super().monotonic_s()


async def test_a_list_is_of_one_moment_though_the_state_goes_on():
    state, lists = state_of(1000), ListCache(SlowClock())
    building = asyncio.create_task(lists.at_least(state))
    joining = asyncio.create_task(lists.at_least(state))
    await asyncio.sleep(0)

    state.put_node(NodeKey("f" * 32), Node(id="f" * 32))
    state.indexes[NODES] = 6
    late = asyncio.create_task(lists.at_least(state))

    built = await building
    assert (built.index, len(msgspec.json.decode(built.body.plain))) == (5, 1000)
    assert (await joining).index >= 5
    assert (await late).index == 6
    assert len(msgspec.json.decode((await late).body.plain)) == 1001


async def test_one_whose_builder_goes_away_builds_it_himself():
    state, lists = state_of(1000), ListCache(SlowClock())
    building = asyncio.create_task(lists.at_least(state))
    joining = asyncio.create_task(lists.at_least(state))
    await asyncio.sleep(0)

    building.cancel()

    assert (await joining).index == 5


def test_stubs_are_kept_by_record_and_strays_are_let_go(monkeypatch):
    monkeypatch.setattr(cache, "STRAY_STUBS_MAX", 2)
    stubs, nodes = StubCache(), [Node(id=str(number)) for number in range(5)]
    kept = [stubs.stub(node) for node in nodes]

    stubs.forget_strays(nodes[:3])
    assert len(stubs._kept) == 5
    stubs.forget_strays(nodes[:2])
    assert len(stubs._kept) == 2
    assert stubs.stub(nodes[0]) is kept[0]


@pytest.mark.parametrize(
    ("length", "count"),
    [(0, 0), (1, 1), (cache.SLICE_NODES, 1), (cache.SLICE_NODES + 1, 2)],
)
def test_slices_cover_everything_once(length, count):
    pieces = [[*range(length)][piece] for piece in slices(length)]

    assert [item for piece in pieces for item in piece] == [*range(length)]
    assert len(pieces) == count


async def test_the_pace_yields_when_its_slice_is_over():
    clock = FakeClock()
    pace, turns = Pace(clock), list[str]()
    asyncio.get_running_loop().call_soon(turns.append, "another's")

    await pace.pause_if_due()
    assert turns == []
    clock.pause(cache.SLICE_S_MAX)
    await pace.pause_if_due()

    assert turns == ["another's"]
