"""Compaction: in time, one at a time, and nothing is let go before the snapshot is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.state import State
from nodestate.replication.compaction import (
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    KEPT,
    KEPT_IN_USE,
    Capture,
    Compactor,
    Limits,
)
from nodestate.replication.snapshot_format import SnapshotMeta
from nodestate.replication.snapshots import SnapshotInfo
from tests.fakes import FakeClock, FakeMetrics, settle
from tests.replication.fakes import RecordingLogger
from tests.replication.stores import meta, snapshot

LIMITS = Limits(entries_max=10, bytes_max=1000, tail_entries=4)


class Server:
    """A compactor, and everything that it asks or tells, written down in order."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.index = 0
        self.is_ready = True
        self.oldest_in_use: int | None = None
        self.keep = 0
        self.kept: list[SnapshotInfo] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.clock, self.metrics = FakeClock(), FakeMetrics()
        self.logger = RecordingLogger()
        self.tasks: list[asyncio.Task[None]] = []
        self.compactor = Compactor(
            LIMITS,
            capture=self._capture,
            oldest_in_use=lambda: self.oldest_in_use,
            store=self,
            journal=self,
            clock=self.clock,
            spawner=self,
            metrics=self.metrics,
            logger=cast(Any, self.logger),
        )

    def _capture(self) -> Capture | None:
        if not self.is_ready:
            return None
        self.steps.append(f"capture {self.index}")
        return Capture(meta(self.index), State())

    def spawn(self, coroutine: Any, *, name: str) -> None:
        self.tasks.append(asyncio.create_task(coroutine, name=name))

    def newest(self) -> SnapshotInfo | None:
        return self.kept[-1] if self.kept else None

    async def write(self, meta: SnapshotMeta, state: State) -> SnapshotInfo:
        await self._do(f"write {meta.index}")
        self.kept.append(snapshot(meta.index))
        return self.kept[-1]

    async def compact(self, keep_from: int) -> None:
        await self._do(f"compact {keep_from}")

    async def prune(self, keep: int) -> None:
        self.keep = keep
        await self._do("prune")

    async def _do(self, step: str) -> None:
        self.steps.append(step)
        action = step.split(maxsplit=1)[0]
        if action in self.before:
            await self.before[action]()

    def apply(self, count: int, entry_bytes: int = 1) -> None:
        for _ in range(count):
            self.index += 1
            self.compactor.note_applied(entry_bytes)
            self.compactor.start_if_due()

    def entries_since(self) -> float:
        return self.metrics.gauges["nodestate_replication_snapshot_entries_since"]()

    def fail(self, action: str, error: Exception) -> None:
        async def raise_it() -> None:
            raise error

        self.before[action] = raise_it

    def hold(self, action: str) -> asyncio.Event:
        """Hold that step up until the event is set."""
        event = asyncio.Event()

        async def wait() -> None:
            await event.wait()

        self.before[action] = wait
        return event


@pytest.fixture
def server() -> Server:
    return Server()


async def test_a_snapshot_is_due_after_so_many_entries(server):
    server.apply(9)
    await settle()
    assert server.steps == []

    server.apply(1)
    await settle()

    assert server.steps == ["capture 10", "write 10", "compact 7", "prune"]


async def test_or_after_so_many_bytes(server):
    server.apply(2, entry_bytes=400)
    await settle()
    assert server.steps == []

    server.apply(1, entry_bytes=400)
    await settle()

    assert "write 3" in server.steps


async def test_the_log_lets_go_only_once_the_snapshot_is_durable(server):
    durable = server.hold("write")
    server.apply(10)
    await settle()
    assert server.steps == ["capture 10", "write 10"]

    durable.set()
    await settle()

    assert server.steps[2:] == ["compact 7", "prune"]


async def test_one_snapshot_at_a_time_and_none_while_the_log_lets_go(server):
    for action in ("write", "compact", "prune"):
        released = server.hold(action)
        server.apply(25)
        await settle()
        server.apply(25)
        await settle()

        held = [step for step in server.steps if step.startswith("capture")]
        assert len(held) == 1
        released.set()
        del server.before[action]
        server.compactor.start_if_due()
        await settle()
        server.compactor.note_installed()
        server.steps.clear()


async def test_what_was_applied_meanwhile_counts_for_the_next_one(server):
    durable = server.hold("write")
    server.apply(10, entry_bytes=10)
    server.apply(7, entry_bytes=10)
    await settle()
    durable.set()
    await settle()

    assert server.entries_since() == 7
    server.apply(2)
    await settle()
    assert "write 19" not in server.steps
    server.apply(1)
    await settle()
    assert "write 20" in server.steps


async def test_what_cannot_be_captured_now_is_captured_later(server):
    server.is_ready = False
    server.apply(12)
    server.is_ready = True
    server.apply(1)
    await settle()

    assert server.steps[0] == "capture 13"


async def test_entries_that_a_follower_will_ask_for_are_kept(server):
    server.oldest_in_use = 3
    server.apply(10)
    await settle()
    assert "compact 4" in server.steps

    server.oldest_in_use = 10
    server.apply(10)
    await settle()
    assert "compact 11" in server.steps

    server.oldest_in_use = 29
    server.apply(10)
    await settle()
    assert "compact 27" in server.steps


async def test_snapshots_that_are_on_their_way_are_kept_longer(server):
    server.apply(10)
    await settle()
    assert server.keep == KEPT

    server.oldest_in_use = 10
    server.apply(10)
    await settle()

    assert server.keep == KEPT_IN_USE


@pytest.mark.parametrize("error", [JournalError("disk full"), SnapshotError("rotten")])
async def test_a_failed_snapshot_leaves_the_log_alone(server, error):
    server.fail("write", error)
    server.apply(10)
    await settle()

    assert server.steps == ["capture 10", "write 10"]
    assert server.entries_since() == 10
    assert server.metrics.count("nodestate_replication_snapshot_failures_total") == 1
    assert all(task.exception() is None for task in server.tasks)


async def test_it_is_tried_again_ever_more_seldom_and_logged_once(server):
    server.fail("write", JournalError("disk full"))
    server.apply(10)
    await settle()
    tried_at_s = []
    count = server.steps.count("write 10")
    for _ in range(400):
        await server.clock.step(BACKOFF_S_MIN / 2)
        server.compactor.start_if_due()
        await settle()
        if server.steps.count("write 10") > count:
            count = server.steps.count("write 10")
            tried_at_s.append(server.clock.monotonic_s())

    waits = [
        later - earlier
        for earlier, later in zip([0.0, *tried_at_s], tried_at_s, strict=False)
    ]
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert set(waits[6:]) == {BACKOFF_S_MAX}
    assert server.logger.lines == ["snapshot cannot be written"]

    server.before.clear()
    await server.clock.step(BACKOFF_S_MAX)
    server.compactor.start_if_due()
    await settle()
    assert server.steps[-3:] == ["write 10", "compact 7", "prune"]

    server.fail("write", JournalError("disk full again"))
    server.apply(10)
    await settle()
    await server.clock.step(BACKOFF_S_MIN)
    server.compactor.start_if_due()
    await settle()
    assert server.steps.count("write 20") == 2
    assert server.logger.lines.count("snapshot cannot be written") == 2


async def test_a_log_that_cannot_let_go_stops_the_server(server):
    server.fail("compact", JournalError("cannot remove"))
    server.apply(10)
    await settle()

    (task,) = server.tasks
    assert isinstance(task.exception(), JournalError)


async def test_an_old_snapshot_that_cannot_be_removed_does_not(server):
    server.fail("prune", JournalError("cannot remove"))
    server.apply(20)
    await settle()
    server.apply(10)
    await settle()

    assert server.steps.count("prune") == 2
    assert server.logger.lines.count("old snapshots cannot be removed") == 2


async def test_an_operator_need_not_wait_until_it_is_due(server):
    server.apply(3)

    written = await server.compactor.write_now()

    assert written == snapshot(3)
    await settle()
    assert server.steps == ["capture 3", "write 3", "compact 0", "prune"]


async def test_an_operator_joins_what_is_under_way(server):
    durable = server.hold("write")
    server.apply(10)
    first = asyncio.create_task(server.compactor.write_now())
    second = asyncio.create_task(server.compactor.write_now())
    await settle()
    assert not first.done()

    durable.set()

    assert await first == await second == snapshot(10)
    await settle()
    assert server.steps.count("capture 10") == 1


async def test_an_operator_who_leaves_does_not_end_it(server):
    durable = server.hold("write")
    server.apply(1)
    waiting = asyncio.create_task(server.compactor.write_now())
    await settle()
    waiting.cancel()
    await settle()
    durable.set()
    await settle()

    assert server.steps[-1] == "prune"


async def test_an_operator_is_told_why_not(server):
    server.fail("write", JournalError("disk full"))
    with pytest.raises(SnapshotError, match="disk full"):
        await server.compactor.write_now()

    server.is_ready = False
    with pytest.raises(SnapshotError, match="no snapshot can be taken now"):
        await server.compactor.write_now()


async def test_an_operator_need_not_wait_for_the_back_off(server):
    server.fail("write", JournalError("disk full"))
    server.apply(10)
    await settle()
    server.before.clear()

    assert await server.compactor.write_now() == snapshot(10)


async def test_an_operator_is_told_that_the_server_stops(server):
    server.hold("write")
    server.apply(1)
    waiting = asyncio.create_task(server.compactor.write_now())
    await settle()
    server.tasks[0].cancel()

    with pytest.raises(SnapshotError, match="server stopped"):
        await waiting


async def test_after_a_snapshot_from_elsewhere_counting_begins_anew(server):
    server.apply(9)
    server.compactor.note_installed()
    server.apply(9)
    await settle()

    assert server.steps == []
    assert server.entries_since() == 9


async def test_a_snapshot_that_an_installed_one_overtook_counts_for_nothing(server):
    durable = server.hold("write")
    server.apply(10)
    server.apply(3)
    await settle()
    server.compactor.note_installed()
    server.apply(2)
    durable.set()
    await settle()

    assert server.entries_since() == 2


async def test_it_is_measured(server):
    async def take_a_second() -> None:
        await server.clock.sleep(1.0)

    server.before["write"] = take_a_second
    server.apply(10)
    await server.clock.step(1.0)

    metrics = server.metrics
    prefix = "nodestate_replication_snapshot"
    assert metrics.count(f"{prefix}s_written_total") == 1
    assert metrics.count(f"{prefix}_written_bytes_total") == snapshot(10).byte_count
    assert metrics.gauges[f"{prefix}_index"]() == 10
    assert metrics.timings[f"{prefix}_write_seconds"].seconds == {"": [1.0]}
