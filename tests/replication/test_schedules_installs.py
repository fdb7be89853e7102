"""Leaders, a follower, real snapshot files, and everything that can go wrong in between.

What the follower called installed survives every crash from there on, and is what the
leader's state was; and once nothing goes wrong any more, it gets there.
"""

import asyncio
import errno
import random
from collections.abc import Callable, Coroutine
from typing import Any, cast

import msgspec
import pytest

from cluster.simulation.disk import MemoryDisk
from cluster.simulation.loop import run
from nodestate.clock import Timer
from nodestate.fsm.snapshot import digest
from nodestate.fsm.state import State
from nodestate.replication import offers
from nodestate.replication.frames import SnapshotChunk, SnapshotReply
from nodestate.replication.installs import SnapshotReceiver
from nodestate.replication.offers import SnapshotSender
from nodestate.replication.snapshot_format import SnapshotMeta
from nodestate.replication.snapshots import SnapshotInfo, SnapshotStore
from tests.fakes import FakeMetrics
from tests.fsm.entries import key, node
from tests.replication.fakes import RecordingLogger

TERM = 3
CHUNK_BYTES = 400
FAULT_COUNT = 12
TROUBLE_S = 60.0
QUIET_S = 400.0
SEEDS = 40
OLD, NEW, NEWEST = 100, 200, 300


def state_at(index: int) -> State:
    state = State()
    for number in range(index // 4):
        serial = f"{index}-{number}"
        state.put_node(key(number), node(key(number), meta={"serial": serial}))
    state.indexes["nodes"] = index
    return state


def meta(index: int) -> SnapshotMeta:
    return SnapshotMeta(index=index, term=2, configuration=b"m", cluster_id="c")


class Process:
    """One start of a server: its time and its tasks end with it."""

    def __init__(self) -> None:
        self.is_dead = False
        self.tasks: list[asyncio.Task[None]] = []

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def now_ns(self) -> int:
        return round(self.monotonic_s() * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, self._run, callback)

    def _run(self, callback: Callable[[], None]) -> None:
        if not self.is_dead:
            callback()

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        self.tasks.append(asyncio.ensure_future(coroutine))

    async def die(self) -> None:
        self.is_dead = True
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            try:
                await task
            except asyncio.CancelledError:
                continue


class Leader:
    def __init__(self, world: "World", name: str, disk: MemoryDisk) -> None:
        self.name, self.disk, self.process = name, disk, Process()
        self.store = SnapshotStore(disk, self.process)
        self.sender = SnapshotSender(
            self.store,
            send=lambda _, chunk: world.send_chunk(self, cast(SnapshotChunk, chunk)),
            on_installed=lambda _, index: world.on_installed(index),
            bytes_per_s_max=1 << 20,
            clock=self.process,
            spawner=self.process,
            metrics=FakeMetrics(),
            logger=cast(Any, RecordingLogger()),
        )


class Follower:
    def __init__(self, world: "World", disk: MemoryDisk) -> None:
        self.world, self.disk, self.process = world, disk, Process()
        self.store = SnapshotStore(disk, self.process)
        newest = self.store.newest()
        self.commit_index = newest.index if newest else 10
        self.state = self.store.load_now(newest) if newest else State()
        self.receiver = SnapshotReceiver(
            self.store,
            reply=self._reply,
            is_needed=lambda index: index > self.commit_index,
            install=self._install,
            term=lambda: TERM,
            clock=self.process,
            spawner=self.process,
            metrics=FakeMetrics(),
            logger=cast(Any, RecordingLogger()),
        )

    def _install(self, info: SnapshotInfo, state: State) -> None:
        self.commit_index, self.state = info.index, state

    def _reply(self, leader: str, reply: SnapshotReply) -> None:
        if reply.is_installed:
            assert self.commit_index >= reply.index
            assert digest(self.state) == self.world.digests[self.commit_index]
            self.world.acknowledged_index = self.commit_index
        self.world.send_reply(leader, reply)


class World:
    """Two that may lead, one that follows, and the links between them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.digests = {i: digest(state_at(i)) for i in (OLD, NEW, NEWEST)}
        self.acknowledged_index = 0
        self.installed_index = 0
        self.is_up = True
        self.connection = 0
        self.damage_count = 0

    async def start(self) -> None:
        self.leaders = [Leader(self, name, self.new_disk()) for name in "AC"]
        for leader in self.leaders:
            await leader.store.write(meta(OLD), state_at(OLD))
        self.leading = self.leaders[0]
        self.follower = Follower(self, self.new_disk())

    def new_disk(self) -> MemoryDisk:
        async def delay() -> None:
            await asyncio.sleep(self.rng.uniform(0, 0.3))

        return MemoryDisk(delay=delay)

    def send_chunk(self, leader: Leader, chunk: SnapshotChunk) -> bool:
        if not self.is_up or leader is not self.leading:
            return False
        if self.damage_count > 0 and chunk.data:
            self.damage_count -= 1
            data = bytearray(chunk.data)
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            chunk = msgspec.structs.replace(chunk, data=bytes(data))
        self._later(lambda: self.follower.receiver.on_chunk(leader.name, chunk))
        return True

    def send_reply(self, leader_name: str, reply: SnapshotReply) -> None:
        if self.is_up and leader_name == self.leading.name:
            self._later(lambda: self.leading.sender.on_reply("B", reply))

    def _later(self, deliver: Callable[[], None]) -> None:
        """Deliver while the connection is the same; sometimes so late that it is tried again."""
        connection = self.connection

        def arrive() -> None:
            if connection == self.connection:
                deliver()

        delay_s = self.rng.choice([0.001, 0.05, 0.05, 2.0, offers.REPLY_S_MAX * 1.5])
        asyncio.get_running_loop().call_later(delay_s, arrive)

    def on_installed(self, index: int) -> None:
        assert self.acknowledged_index >= index
        self.installed_index = index

    def lacks_something(self) -> bool:
        newest = self.leading.store.newest()
        return newest is not None and self.follower.commit_index < newest.index

    async def run_engine(self) -> None:
        while True:
            if self.is_up and self.lacks_something():
                self.leading.sender.offer("B", TERM)
            await asyncio.sleep(0.2)
            for process in self.processes():
                for task in process.tasks:
                    if task.done() and not task.cancelled():
                        task.result()

    def processes(self) -> list[Process]:
        return [self.follower.process, *(leader.process for leader in self.leaders)]

    # Faults

    async def lose_connection(self) -> None:
        self.connection += 1
        self.leading.sender.on_disconnected("B")
        self.is_up = False
        await asyncio.sleep(self.rng.uniform(0, 5))
        self.is_up = True

    async def crash_follower(self) -> None:
        self.connection += 1
        self.leading.sender.on_disconnected("B")
        disk = self.follower.disk
        if self.rng.random() < 0.5:
            disk.kill()
        else:
            disk.crash(self.rng)
        await self.follower.process.die()
        disk.lock()
        self.follower = Follower(self, disk)
        assert self.follower.commit_index >= self.acknowledged_index
        assert self.follower.commit_index in (10, *self.digests)
        if self.follower.commit_index > 10:
            assert (
                digest(self.follower.state) == self.digests[self.follower.commit_index]
            )

    async def restart_leader(self) -> None:
        self.connection += 1
        at = self.leaders.index(self.leading)
        self.leading.disk.kill()
        await self.leading.process.die()
        self.leading.disk.lock()
        self.leading = self.leaders[at] = Leader(
            self, self.leading.name, self.leading.disk
        )

    async def change_leader(self) -> None:
        self.leading.sender.stop()
        self.leading = self.leaders[1 - self.leaders.index(self.leading)]

    async def write_newer(self) -> None:
        newest = self.leading.store.newest()
        assert newest is not None
        if newest.index < NEWEST:
            index = newest.index + OLD
            await self.leading.store.write(meta(index), state_at(index))
            await self.leading.store.prune(1)

    async def fill_disk(self) -> None:
        disk = self.follower.disk
        disk.failing["write"] = errno.ENOSPC
        await asyncio.sleep(self.rng.uniform(0, 5))
        disk.failing.clear()

    async def damage_chunk(self) -> None:
        self.damage_count += 1

    async def let_go(self) -> None:
        self.follower.receiver.abandon()

    def faults(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [
            self.lose_connection,
            self.crash_follower,
            self.restart_leader,
            self.change_leader,
            self.write_newer,
            self.fill_disk,
            self.damage_chunk,
            self.let_go,
        ]


async def play(seed: int) -> None:
    world = World(seed)
    await world.start()
    engine = asyncio.ensure_future(world.run_engine())
    for _ in range(FAULT_COUNT):
        await asyncio.sleep(world.rng.uniform(0, TROUBLE_S / FAULT_COUNT))
        await world.rng.choice(world.faults())()
        if engine.done():
            engine.result()
    world.damage_count = 0
    for _ in range(round(QUIET_S)):
        if not world.lacks_something():
            break
        await asyncio.sleep(1.0)
    newest = world.leading.store.newest()
    assert newest is not None
    assert world.follower.commit_index >= newest.index, "never got there"
    assert digest(world.follower.state) == world.digests[world.follower.commit_index]
    # The answer is on its way; what it promised outlives the power cut at this moment.
    await world.crash_follower()
    engine.cancel()
    await asyncio.wait([engine])
    for process in world.processes():
        await process.die()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_follower_gets_there_whatever_happens(seed, monkeypatch):
    monkeypatch.setattr(offers, "CHUNK_BYTES_MAX", CHUNK_BYTES)

    run(play(seed))
