"""Snapshots on a disk: durable and verified, or not there at all."""

import asyncio
import errno
import gc
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.snapshot import encode_state
from nodestate.fsm.state import State
from nodestate.ports import Disk
from nodestate.replication import snapshots
from nodestate.replication.disk import SystemDisk
from nodestate.replication.snapshot_format import (
    SnapshotEncoder,
    SnapshotMeta,
    decode_frame,
    snapshot_name,
)
from nodestate.replication.snapshots import SnapshotInfo, SnapshotStore, release
from tests.fakes import FakeClock
from tests.fsm.entries import key, node
from tests.fsm.states import full_state

SEGMENT = "journal-00000001.log"


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "simulated":
        yield MemoryDisk()
        return
    disk = SystemDisk(tmp_path / "data")
    disk.lock()
    yield disk
    disk.close()


def store_on(disk: Disk) -> SnapshotStore:
    return SnapshotStore(disk, FakeClock())


def meta(index: int = 10, term: int = 2) -> SnapshotMeta:
    return SnapshotMeta(
        index=index,
        term=term,
        configuration=b"members",
        configuration_index=4,
        cluster_id="c",
    )


def wide_state(node_count: int = 300) -> State:
    state = State()
    for number in range(node_count):
        state.put_node(key(number), node(key(number), meta={"serial": str(number)}))
    return state


def has_same_content(one: State, other: State) -> bool:
    return encode_state(one) == encode_state(other)


async def send(store: SnapshotStore, content: bytes, *, index: int = 10, term: int = 2, size: int = 100) -> SnapshotInfo:  # fmt: skip
    """Let a store receive a file in slices."""
    receiving = store.receive(index, term, len(content))
    try:
        for offset in range(0, len(content), size):
            await receiving.add(offset, content[offset : offset + size])
        info, state = await receiving.finish()
        assert has_same_content(state, await store.load(info))
        return info
    finally:
        receiving.abandon()


# Written and loaded


async def test_a_state_is_loaded_as_it_was_written(disk):
    store = store_on(disk)
    state = full_state()
    disk.replace_file(SEGMENT, b"")
    assert store.newest() is None

    info = await store.write(meta(), state)

    assert store.newest() == info
    assert (info.index, info.term, info.configuration) == (10, 2, b"members")
    assert (info.configuration_index, info.cluster_id) == (4, "c")
    assert info.byte_count == len(disk.read_file(info.name) or b"")
    assert has_same_content(await store.load(info), state)
    assert has_same_content(store.load_now(info), state)


async def test_what_was_written_is_there_after_a_restart(disk):
    info = await store_on(disk).write(meta(), full_state())

    again = store_on(disk)

    assert again.newest() == info
    assert has_same_content(again.load_now(info), full_state())


async def test_the_same_state_is_the_same_file_everywhere():
    disks = [MemoryDisk(), MemoryDisk()]

    for disk in disks:
        await store_on(disk).write(meta(), full_state())

    assert len({disk.read_file(snapshot_name(10, 2)) for disk in disks}) == 1


async def test_a_state_of_many_frames_comes_back(disk, monkeypatch):
    monkeypatch.setattr(snapshots, "FRAME_BYTES", 1000)
    monkeypatch.setattr(snapshots, "READ_BYTES", 777)
    store = store_on(disk)
    state = wide_state()

    info = await store.write(meta(), state)

    assert has_same_content(await store.load(info), state)
    assert has_same_content(store.load_now(info), state)


async def test_the_newest_is_the_one_that_ends_last(disk):
    store = store_on(disk)
    for index, term in ((9, 1), (100, 10), (100, 9), (20, 11)):
        await store.write(meta(index, term), State())

    for each in (store, store_on(disk)):
        newest = each.newest()
        assert newest is not None
        assert (newest.index, newest.term) == (100, 10)


async def test_a_snapshot_that_is_there_is_not_written_again(disk):
    store = store_on(disk)
    first = await store.write(meta(), full_state())
    content = disk.read_file(first.name)

    assert await store.write(meta(), State()) == first

    assert disk.read_file(first.name) == content


class CountingClock(FakeClock):
    """A clock on which every look takes a while."""

    def __init__(self, look_s: float) -> None:
        super().__init__()
        self.look_s = look_s
        self.now_s = 0.0
        self.sleeps: list[float] = []

    @override
    def monotonic_s(self) -> float:
        self.now_s += self.look_s
        return self.now_s

    @override
    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await super().sleep(seconds)


@pytest.mark.parametrize(("look_s", "count"), [(0.0051, 79), (0.0, 9)])
async def test_others_have_their_turn_by_time_and_by_count(look_s, count):
    clock = CountingClock(look_s)
    store = SnapshotStore(MemoryDisk(), clock)
    state = wide_state(78 * 64)

    info = await store.write(meta(), state)
    assert clock.sleeps == [0] * count
    clock.sleeps.clear()
    await store.load(info)

    assert clock.sleeps == [0] * count


def test_the_collector_is_off_while_loading_and_on_again_after(monkeypatch):
    disk = MemoryDisk()
    store = store_on(disk)
    info = asyncio.run(store.write(meta(), full_state()))
    seen = []

    def noting(payload: bytes) -> list[bytes]:
        seen.append(gc.isenabled())
        return decode_frame(payload)

    monkeypatch.setattr(snapshots, "decode_frame", noting)

    store.load_now(info)
    disk.flip_bit(info.name, 2000)
    with pytest.raises(SnapshotError):
        store.load_now(info)

    assert seen
    assert not any(seen)
    assert gc.isenabled()


@pytest.mark.parametrize("node_count", [9, 10])
async def test_a_large_state_is_not_the_collectors_any_more(monkeypatch, node_count):
    monkeypatch.setattr(snapshots, "FROZEN_NODES_MIN", 10)
    seen = []
    monkeypatch.setattr(gc, "freeze", lambda: seen.append(gc.isenabled()))
    store = store_on(MemoryDisk())
    info = await store.write(meta(), wide_state(node_count))

    await store.load(info)

    assert seen == ([False] if node_count == 10 else [])
    assert gc.isenabled()


async def test_a_state_is_let_go_of_in_slices():
    clock = CountingClock(0.01)
    state = full_state()
    for number in range(1000):
        state.put_node(key(number), node(key(number)))
    kept = state.nodes[key(5)]

    await release(state, clock)

    assert clock.sleeps == [0] * 7
    assert (state.nodes, state.allocations, state.evaluations) == ({}, {}, {})
    assert kept.id


# Refused


LOADS = [
    lambda store, info: store.load(info),
    lambda store, info: asyncio.to_thread(store.load_now, info),
]
Load = Callable[[SnapshotStore, SnapshotInfo], Awaitable[State]]


@pytest.mark.parametrize("load", LOADS, ids=["sliced", "at once"])
async def test_a_damaged_file_is_refused_with_its_name_and_what_to_do(load: Load):
    disk = MemoryDisk()
    store = store_on(disk)
    info = await store.write(meta(), full_state())
    whole = disk.read_file(info.name)
    assert whole is not None
    damaged = [whole[:length] for length in (0, 5, 50, len(whole) - 1)]
    damaged.append(whole + b"\0")
    for position in range(0, len(whole), 40):
        flipped = bytearray(whole)
        flipped[position] ^= 4
        damaged.append(bytes(flipped))

    for content in damaged:
        disk.put_file(info.name, content)
        with pytest.raises(SnapshotError, match="replace this server") as error:
            await load(store, info)
        assert info.name in str(error.value)


@pytest.mark.parametrize("content", [b"", b"something else, and long enough", b"nodesnap\x02" + bytes(20)])  # fmt: skip
def test_an_unreadable_header_is_an_error_and_never_no_snapshot(content):
    disk = MemoryDisk()
    disk.put_file(snapshot_name(5, 1), content)

    with pytest.raises(
        SnapshotError, match=f"{snapshot_name(5, 1)} cannot be used.*repl"
    ):
        store_on(disk).newest()


async def test_a_file_under_the_name_of_another_is_refused():
    disk = MemoryDisk()
    store = store_on(disk)
    info = await store.write(meta(), State())
    disk.put_file(snapshot_name(11, 2), disk.read_file(info.name) or b"")

    with pytest.raises(SnapshotError, match="it is the one of entry 10, term 2"):
        store_on(disk).newest()


@pytest.mark.parametrize("load", LOADS, ids=["sliced", "at once"])
async def test_a_file_that_is_gone_is_an_error(load: Load):
    disk = MemoryDisk()
    store = store_on(disk)
    info = await store.write(meta(), State())
    disk.remove_file(info.name)

    with pytest.raises((SnapshotError, JournalError)):
        await load(store, info)


# Written in vain


@pytest.mark.parametrize("action", ["write", "sync", "read"])
async def test_a_failing_disk_leaves_what_was_there(action):
    disk = MemoryDisk()
    disk.bytes_free = 1 << 20
    store = store_on(disk)
    old = await store.write(meta(), full_state())
    free = disk.bytes_free
    disk.failing[action] = errno.EIO

    with pytest.raises(JournalError, match="Input/output error"):
        await store.write(meta(20), full_state())

    assert store.newest() == old
    assert disk.names() == [old.name]
    assert disk.bytes_free == free
    disk.failing.clear()
    assert (await store.write(meta(20), full_state())).index == 20


async def test_a_full_disk_leaves_what_was_there():
    disk = MemoryDisk()
    store = store_on(disk)
    old = await store.write(meta(), full_state())
    disk.bytes_free = old.byte_count - 1

    with pytest.raises(JournalError, match="No space left"):
        await store.write(meta(20), full_state())

    assert disk.bytes_free == old.byte_count - 1
    assert store.newest() == old
    disk.bytes_free += 1
    await store.write(meta(20), full_state())


async def test_what_the_disk_has_not_kept_as_written_gets_no_name(monkeypatch):
    disk = MemoryDisk()
    store = store_on(disk)
    stage_file = disk.stage_file

    def rotting(name: str):
        file = stage_file(name)
        real = file.append

        async def append(data: bytes) -> None:
            await real(data)
            file._data[20] ^= 1

        monkeypatch.setattr(file, "append", append)
        return file

    monkeypatch.setattr(disk, "stage_file", rotting)

    with pytest.raises(SnapshotError, match="it is not kept"):
        await store.write(meta(), full_state())
    assert disk.names() == []
    assert store.newest() is None


async def test_a_crash_anywhere_leaves_whole_snapshots_only():
    """With power loss at every await: what has a name can be loaded."""
    found = set()
    for turns in range(60):
        disk = MemoryDisk()
        store = store_on(disk)
        await store.write(meta(), State())
        writing = asyncio.ensure_future(store.write(meta(20), full_state()))
        for _ in range(turns):
            await asyncio.sleep(0)
        disk.crash(random.Random(turns))
        is_done = writing.done()
        writing.cancel()
        await asyncio.wait([writing])
        disk.lock()
        again = store_on(disk)
        newest = again.newest()
        assert newest is not None
        again.load_now(newest)
        assert newest.index == 20 or not is_done
        found.add((newest.index, is_done))

    assert {(10, False), (20, True)} <= found


async def test_a_cancelled_writing_leaves_nothing():
    disk = MemoryDisk()
    store = store_on(disk)
    writing = asyncio.ensure_future(store.write(meta(), wide_state()))
    for _ in range(5):
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])

    assert disk.names() == []
    assert store.newest() is None
    await store.write(meta(), wide_state())


# Received


async def written(state: State) -> bytes:
    disk = MemoryDisk()
    info = await store_on(disk).write(meta(), state)
    return disk.read_file(info.name) or b""


@pytest.mark.parametrize("size", [50, 100_000])
async def test_what_is_received_is_what_was_sent(disk, size):
    store = store_on(disk)
    content = await written(full_state())

    info = await send(store, content, size=size)

    assert disk.read_file(info.name) == content
    assert store.newest() == info == store_on(disk).newest()
    assert has_same_content(await store.load(info), full_state())


async def test_nothing_shows_before_all_of_it_is_verified(disk):
    store = store_on(disk)
    content = await written(full_state())
    receiving = store.receive(10, 2, len(content))

    await receiving.add(0, content)

    assert disk.names() == []
    assert store.newest() is None
    receiving.abandon()
    await disk.compute(lambda: None)
    assert disk.names() == []


async def test_only_what_comes_next_is_taken():
    store = store_on(MemoryDisk())
    receiving = store.receive(10, 2, 100)
    await receiving.add(0, bytes(60))

    for offset in (0, 59, 61):
        with pytest.raises(
            SnapshotError, match=f"bytes from {offset} on, where 60 comes"
        ):
            await receiving.add(offset, b"x")
    with pytest.raises(SnapshotError, match="101 bytes of 100"):
        await receiving.add(60, bytes(41))
    with pytest.raises(SnapshotError, match="60 bytes of 100"):
        await receiving.finish()


async def test_what_does_not_fit_together_is_not_kept():
    content = await written(full_state())
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1

    for sent, index in (
        (bytes(flipped), 10),
        (content[:-1], 10),
        (content, 11),
        (b"", 10),
    ):
        disk = MemoryDisk()
        store = store_on(disk)
        with pytest.raises(SnapshotError, match="it is not kept"):
            await send(store, sent, index=index)
        assert disk.names() == []
        assert store.newest() is None


async def test_what_only_a_newer_version_can_read_is_not_kept():
    encoder = SnapshotEncoder()
    content = encoder.opening(meta()) + encoder.frame([b"\xc1"]) + encoder.footer()
    disk = MemoryDisk()

    with pytest.raises(SnapshotError, match="it is not kept"):
        await send(store_on(disk), content)

    assert disk.names() == []


def test_what_is_too_large_is_not_begun(monkeypatch):
    monkeypatch.setattr(snapshots, "SNAPSHOT_BYTES_MAX", 10)

    with pytest.raises(SnapshotError, match="11 bytes, at most 10 are taken"):
        store_on(MemoryDisk()).receive(1, 1, 11)


# Sent, and removed


async def test_a_file_is_read_in_pieces(disk):
    store = store_on(disk)
    info = await store.write(meta(), full_state())

    first = await store.read_piece(info, 0, 100)
    rest = await store.read_piece(info, 100, info.byte_count)

    assert first + rest == disk.read_file(info.name)


async def test_older_snapshots_are_removed_and_the_newest_never(disk):
    store = store_on(disk)
    infos = [await store.write(meta(index), State()) for index in (1, 2, 3, 4)]
    disk.replace_file(SEGMENT, b"")

    await store.prune()
    assert disk.names() == [SEGMENT, infos[2].name, infos[3].name]
    await store.prune(0)

    assert disk.names() == [SEGMENT, infos[3].name]
    assert store.newest() == infos[3]
    with pytest.raises(SnapshotError, match="is gone"):
        await store.read_piece(infos[0], 0, 1)


async def test_a_file_that_goes_while_it_is_read_is_an_error():
    disk = MemoryDisk()
    store = store_on(disk)
    info = await store.write(meta(), State())
    disk.remove_file(info.name)

    with pytest.raises(SnapshotError, match="No such file"):
        await store.read_piece(info, 0, 1)
