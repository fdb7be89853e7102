"""Snapshots from a leader: whole or not at all, and "installed" is said last of all."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st

from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.state import State
from nodestate.replication.frames import CHUNK_BYTES_MAX, SnapshotChunk, SnapshotReply
from nodestate.replication.installs import IDLE_S_MAX, SnapshotReceiver
from nodestate.replication.snapshots import SnapshotInfo
from tests.fakes import FakeClock, FakeMetrics, settle
from tests.replication.fakes import RecordingLogger
from tests.replication.stores import BYTES_MAX, FakeStore, content
from tests.replication.tasks import RunningTasks

SIZE = 2 * CHUNK_BYTES_MAX + 1000
ENDS = [CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX, SIZE]
TERM = 3


class Follower:
    """A receiver, its store, and what it answered; a test plays the leaders."""

    def __init__(self) -> None:
        self.store, self.clock, self.tasks = FakeStore(), FakeClock(), RunningTasks()
        self.metrics, self.logger = FakeMetrics(), RecordingLogger()
        self.replies: list[tuple[str, SnapshotReply]] = []
        self.commit_index = 10
        self.term = TERM
        self.installed: list[int] = []
        self.install_error: Exception | None = None
        self.sequence = 0
        self.receiver = SnapshotReceiver(
            self.store,
            reply=self._reply,
            is_needed=lambda index: index > self.commit_index,
            install=self._install,
            term=lambda: self.term,
            clock=self.clock,
            spawner=self.tasks,
            metrics=self.metrics,
            logger=cast(Any, self.logger),
        )

    def _reply(self, peer_id: str, reply: SnapshotReply) -> None:
        if reply.is_installed:
            assert self.commit_index >= reply.index, "acknowledged before installed"
        self.store.steps.append("installed!" if reply.is_installed else "reply")
        self.replies.append((peer_id, reply))

    def _install(self, info: SnapshotInfo, state: State) -> None:
        self.store.steps.append("install")
        if self.install_error is not None:
            raise self.install_error
        assert info in self.store.files, "installed before durable"
        assert state.indexes["nodes"] == info.index
        self.commit_index = info.index
        self.installed.append(info.index)

    def put(
        self,
        offset: int,
        *,
        leader_id: str = "A",
        index: int = 50,
        data: bytes | None = None,
        total_bytes: int = SIZE,
    ) -> None:
        """Have a chunk arrive, by default the right one for its place."""
        self.sequence += 1
        if data is None:
            data = content(index, total_bytes)[offset : offset + CHUNK_BYTES_MAX]
        chunk = SnapshotChunk(TERM, self.sequence, index, 2, total_bytes, offset, data)
        self.receiver.on_chunk(leader_id, chunk)

    async def take(self, offset: int, **chunk: Any) -> SnapshotReply:
        """Have a chunk arrive, and return the last answer."""
        self.put(offset, **chunk)
        await settle()
        return self.last()

    async def take_all(self, **chunk: Any) -> SnapshotReply:
        for offset in (0, *ENDS[:2]):
            await self.take(offset, **chunk)
        return self.last()

    def last(self) -> SnapshotReply:
        return self.replies[-1][1]


@pytest.fixture
def follower() -> Follower:
    return Follower()


async def test_a_snapshot_is_installed_and_then_said_to_be(follower):
    for offset, end in zip((0, *ENDS[:2]), ENDS[:2], strict=False):
        reply = await follower.take(offset)
        assert (reply.received_bytes, reply.is_installed, reply.reason) == (
            end,
            False,
            "",
        )
        assert reply.sequence == follower.sequence
    follower.store.steps.clear()

    reply = await follower.take(ENDS[1])

    assert (reply.received_bytes, reply.is_installed, reply.reason) == (SIZE, True, "")
    assert follower.store.steps == [
        "add",
        "verify",
        "load",
        "keep",
        "install",
        "installed!",
    ]
    assert follower.installed == [50]
    assert follower.replies[-1][0] == "A"
    assert follower.store.staged == []
    name = "nodestate_replication_snapshots_installed_total"
    assert follower.metrics.count(name) == 1


async def test_installed_is_said_again_to_who_did_not_hear_it(follower):
    await follower.take_all()

    for offset in (ENDS[1], SIZE, 0):
        reply = await follower.take(offset, data=b"" if offset == SIZE else None)
        assert (reply.sequence, reply.is_installed) == (follower.sequence, True)
    assert follower.installed == [50]


@pytest.mark.parametrize("step", ["add", "verify", "load", "keep"])
async def test_nothing_is_said_before_it_is_so(follower, step):
    """Whatever still runs, nothing is acknowledged of what hangs on it (F7)."""
    for offset in (0, ENDS[0]):
        await follower.take(offset)
    reached = follower.store.hold(step)
    count = len(follower.replies)
    follower.put(ENDS[1])
    await settle()
    await follower.clock.step(10)

    assert len(follower.replies) == count
    assert follower.installed == []

    reached.set()
    await settle()
    assert follower.last().is_installed
    assert follower.installed == [50]


async def test_a_crash_at_any_step_says_nothing_and_leaves_nothing_half_done():
    for step in ("add", "verify", "load", "keep"):
        follower = Follower()
        for offset in (0, ENDS[0]):
            await follower.take(offset)
        follower.store.hold(step)
        follower.put(ENDS[1])
        await settle()
        follower.tasks.tasks[-1].cancel()
        await settle()

        assert follower.installed == []
        assert not any(reply.is_installed for _, reply in follower.replies)


@settings(max_examples=25)
@given(st.integers(0, SIZE * 8 - 1))
def test_a_flipped_bit_is_found_and_nothing_is_touched(bit):
    asyncio.run(_flip(bit))


async def _flip(bit: int) -> None:
    follower = Follower()
    data = bytearray(content(50, SIZE))
    data[bit // 8] ^= 1 << (bit % 8)
    for offset in (0, *ENDS[:2]):
        piece = bytes(data[offset : offset + CHUNK_BYTES_MAX])
        await follower.take(offset, data=piece)

    reply = follower.last()
    assert (reply.received_bytes, reply.is_installed) == (0, False)
    assert reply.reason
    assert follower.installed == []
    assert follower.store.staged == []
    assert follower.store.files == {}
    # The next try, of the same file, begins at the beginning and succeeds.
    assert (await follower.take_all()).is_installed


async def test_the_end_missing_is_found(follower):
    await follower.take(0, total_bytes=1000, data=content(50, SIZE)[:1000])

    assert follower.last().reason
    assert follower.installed == []


async def test_a_file_that_cannot_be_loaded_is_not_installed(follower):
    follower.store.fail("load", SnapshotError("format 9, this server reads 1"))

    reply = await follower.take_all()

    assert not reply.is_installed
    assert "format 9" in reply.reason
    assert follower.installed == []
    assert follower.tasks.error() is None


@pytest.mark.parametrize("offset", [1, ENDS[0] - 1, ENDS[1], SIZE])
async def test_a_chunk_out_of_place_is_answered_with_what_there_is(follower, offset):
    await follower.take(0)

    reply = await follower.take(offset, data=b"x" * 7 if offset < SIZE else b"")

    assert (reply.received_bytes, reply.is_installed, reply.reason) == (
        ENDS[0],
        False,
        "",
    )
    assert reply.sequence == follower.sequence
    assert follower.tasks.error() is None
    assert (await follower.take(ENDS[0])).received_bytes == ENDS[1]
    assert (await follower.take(ENDS[1])).is_installed


async def test_a_chunk_twice_is_taken_once(follower):
    await follower.take(0)
    assert (await follower.take(0)).received_bytes == ENDS[0]

    await follower.take(ENDS[0])
    assert (await follower.take(ENDS[1])).is_installed


async def test_the_middle_of_an_unknown_file_is_answered_with_nothing(follower):
    reply = await follower.take(ENDS[0])

    assert (reply.received_bytes, reply.reason) == (0, "")
    assert follower.store.staged == []


@pytest.mark.parametrize(
    "other", [{"leader_id": "C"}, {"index": 60}, {"total_bytes": SIZE + 1}]
)
async def test_another_file_takes_the_place_of_the_old(follower, other):
    await follower.take(0)
    reply = await follower.take(0, **other)

    assert reply.received_bytes == ENDS[0]
    assert len(follower.store.staged) == 1
    reply = await follower.take(ENDS[0])
    assert reply.received_bytes == 0


async def test_what_is_committed_here_is_not_installed_again(follower):
    follower.commit_index = 50

    reply = await follower.take(0)

    assert (reply.received_bytes, reply.is_installed) == (SIZE, True)
    assert follower.installed == []
    assert follower.store.steps == ["installed!"]


@pytest.mark.parametrize("step", ["verify", "load", "keep"])
async def test_what_came_meanwhile_by_entries_is_not_undone(follower, step):
    for offset in (0, ENDS[0]):
        await follower.take(offset)
    reached = follower.store.hold(step)
    follower.put(ENDS[1])
    await settle()
    follower.commit_index = 55
    reached.set()
    await settle()

    assert follower.installed == []
    assert follower.last().is_installed


async def test_what_is_no_longer_needed_in_the_middle_is_let_go(follower):
    await follower.take(0)
    follower.commit_index = 50

    assert (await follower.take(ENDS[0])).is_installed
    assert follower.store.staged == []


async def test_a_full_disk_is_said_and_the_server_goes_on(follower):
    for _ in range(3):
        follower.store.fail("add", JournalError("cannot write: no space left"))
        reply = await follower.take(0)
        assert "no space left" in reply.reason
        assert not reply.is_installed
        assert follower.store.staged == []
    assert follower.tasks.error() is None
    assert follower.logger.lines.count("snapshot cannot be installed") == 3

    follower.store.before.clear()
    assert (await follower.take_all()).is_installed


async def test_an_error_is_loud_once(follower):
    loud: list[str] = []
    follower.logger.error = lambda event, **_: loud.append(event)
    follower.store.fail("add", JournalError("cannot write: no space left"))
    for _ in range(3):
        await follower.take(0)

    assert loud == ["snapshot cannot be installed"]
    name = "nodestate_replication_snapshot_install_failures_total"
    assert follower.metrics.count(name) == 3


async def test_what_fails_in_the_middle_of_installing_stops_the_server(follower):
    follower.install_error = JournalError("the log cannot be reset")

    await follower.take_all()

    assert isinstance(follower.tasks.error(), JournalError)
    assert not any(reply.is_installed for _, reply in follower.replies)


async def test_a_file_that_is_too_large_is_refused_before_it_is_begun(follower):
    reply = await follower.take(0, total_bytes=BYTES_MAX + 1, data=b"x")

    assert "too large" in reply.reason
    assert follower.store.staged == []


async def test_a_file_cannot_grow_over_its_size(follower):
    reply = await follower.take(0, total_bytes=100, data=b"x" * 101)

    assert "101 bytes received of 100" in reply.reason
    assert follower.store.staged == []


async def test_an_empty_file_is_no_snapshot(follower):
    reply = await follower.take(0, total_bytes=0, data=b"")

    assert reply.reason
    assert not reply.is_installed


async def test_at_most_one_chunk_waits(follower):
    adding = follower.store.hold("add")
    follower.put(0)
    await settle()
    for _ in range(100):
        follower.put(ENDS[0])
    adding.set()
    await settle()

    assert [reply.sequence for _, reply in follower.replies] == [1, 101]
    assert follower.tasks.running() == 0


@pytest.mark.parametrize("step", ["verify", "load", "keep"])
async def test_while_it_verifies_it_answers_that_it_is_alive(follower, step):
    for offset in (0, ENDS[0]):
        await follower.take(offset)
    reached = follower.store.hold(step)
    follower.put(ENDS[1])
    await settle()
    for chunk in (ENDS[1], SIZE):
        reply = await follower.take(chunk)
        assert (reply.received_bytes, reply.is_installed) == (SIZE, False)
        assert reply.sequence == follower.sequence

    reached.set()
    await settle()
    assert follower.last().is_installed
    assert follower.installed == [50]


async def test_another_leader_waits_for_the_end_of_an_install(follower):
    for offset in (0, ENDS[0]):
        await follower.take(offset)
    loading = follower.store.hold("load")
    follower.put(ENDS[1])
    await settle()
    follower.put(0, leader_id="C", index=60)
    await settle()
    loading.set()
    await settle()

    (installed, begun) = follower.replies[-2:]
    assert installed[0] == "A"
    assert installed[1].is_installed
    assert begun[0] == "C"
    assert begun[1].received_bytes == ENDS[0]


async def test_the_answer_has_the_term_of_its_moment(follower):
    adding = follower.store.hold("add")
    follower.put(0)
    await settle()
    follower.term = TERM + 4
    adding.set()
    await settle()

    assert follower.last().term == TERM + 4


async def test_an_unfinished_file_is_not_kept_for_ever(follower):
    await follower.take(0)
    await follower.clock.step(IDLE_S_MAX - 1)
    await follower.take(ENDS[0])
    await follower.clock.step(IDLE_S_MAX - 1)
    assert len(follower.store.staged) == 1

    await follower.clock.step(1)

    assert follower.store.staged == []
    assert (await follower.take(ENDS[1])).received_bytes == 0


async def test_a_slow_disk_is_no_idle_leader(follower):
    await follower.take(0)
    adding = follower.store.hold("add")
    follower.put(ENDS[0])
    await follower.clock.step(2 * IDLE_S_MAX)
    adding.set()
    await settle()

    assert follower.last().received_bytes == ENDS[1]
    assert (await follower.take(ENDS[1])).is_installed


@pytest.mark.parametrize("step", ["add", "verify", "load", "keep"])
async def test_a_server_that_follows_no_more_lets_go(follower, step):
    for offset in (0, ENDS[0]):
        await follower.take(offset)
    reached = follower.store.hold(step)
    follower.put(ENDS[1])
    await settle()
    follower.receiver.abandon()
    reached.set()
    await settle()

    assert follower.installed == []
    assert follower.store.staged == []
    assert not any(reply.is_installed for _, reply in follower.replies)
    follower.store.before.clear()
    assert (await follower.take_all(leader_id="C", index=60)).is_installed


async def test_what_is_let_go_while_more_is_written_leaves_no_file(follower):
    await follower.take(0)
    adding = follower.store.hold("add")
    follower.put(ENDS[0])
    await settle()
    follower.receiver.abandon()
    adding.set()
    await settle()

    assert follower.store.staged == []
    assert (await follower.take(ENDS[1])).received_bytes == 0


async def test_what_nobody_works_on_is_let_go_at_once(follower):
    await follower.take(0)
    follower.receiver.abandon()

    assert follower.store.staged == []
    assert (await follower.take(ENDS[0])).received_bytes == 0
