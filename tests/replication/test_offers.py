"""Snapshots on their way: chunk by chunk, no faster than may be, and not for ever."""

import asyncio
from typing import Any, cast

import pytest

from nodestate.errors import JournalError
from nodestate.replication.frames import CHUNK_BYTES_MAX, SnapshotChunk, SnapshotReply
from nodestate.replication.offers import (
    ATTEMPTS_MAX,
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    POLL_S,
    REPLY_S_MAX,
    SENDING_S_MAX,
    SnapshotSender,
)
from tests.fakes import FakeClock, FakeMetrics, settle
from tests.replication.fakes import RecordingLogger
from tests.replication.stores import FakeStore, content
from tests.replication.tasks import RunningTasks

SIZE = 2 * CHUNK_BYTES_MAX + 1000
ENDS = [CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX, SIZE]
FAST = 1 << 40
TERM = 3


class Leader:
    """A sender, its store, and what it sent; a test plays the peers."""

    def __init__(self, bytes_per_s_max: int = FAST) -> None:
        self.store, self.clock, self.tasks = FakeStore(), FakeClock(), RunningTasks()
        self.metrics, self.logger = FakeMetrics(), RecordingLogger()
        self.chunks: list[SnapshotChunk] = []
        self.peers: list[str] = []
        self.installed: list[tuple[str, int]] = []
        self.is_up = True
        self.sender = SnapshotSender(
            self.store,
            send=self._send,
            on_installed=lambda peer, index: self.installed.append((peer, index)),
            bytes_per_s_max=bytes_per_s_max,
            clock=self.clock,
            spawner=self.tasks,
            metrics=self.metrics,
            logger=cast(Any, self.logger),
        )

    def _send(self, peer_id: str, message: Any) -> bool:
        if self.is_up:
            self.peers.append(peer_id)
            self.chunks.append(message)
        return self.is_up

    async def offer(self, peer_id: str = "B", term: int = TERM) -> None:
        self.sender.offer(peer_id, term)
        await settle()

    async def answer(
        self,
        received_bytes: int,
        *,
        to: int = -1,
        peer_id: str = "B",
        is_installed: bool = False,
        reason: str = "",
    ) -> None:
        chunk = self.chunks[to]
        self.sender.on_reply(
            peer_id,
            SnapshotReply(
                TERM, chunk.sequence, chunk.index, received_bytes, is_installed, reason
            ),
        )
        await settle()

    def offsets(self) -> list[int]:
        return [chunk.offset for chunk in self.chunks]

    def is_sending(self) -> bool:
        return self.tasks.running() > 0


@pytest.fixture
def leader() -> Leader:
    leader = Leader()
    leader.store.put(50, SIZE, term=2)
    return leader


async def test_the_next_chunk_follows_the_answer_to_the_last(leader):
    await leader.offer()
    assert leader.offsets() == [0]
    for end in ENDS[:2]:
        await leader.answer(end)
    assert leader.offsets() == [0, *ENDS[:2]]
    assert leader.installed == []

    await leader.answer(SIZE, is_installed=True)

    assert leader.installed == [("B", 50)]
    assert b"".join(chunk.data for chunk in leader.chunks) == content(50, SIZE)
    assert not leader.is_sending()
    assert leader.metrics.count("nodestate_replication_snapshots_sent_total") == 1
    name = "nodestate_replication_snapshot_sent_bytes_total"
    assert leader.metrics.count(name) == SIZE


async def test_a_chunk_says_what_it_is_of(leader):
    await leader.offer()

    (chunk,) = leader.chunks
    assert (chunk.term, chunk.index, chunk.last_term) == (TERM, 50, 2)
    assert (chunk.total_bytes, len(chunk.data)) == (SIZE, CHUNK_BYTES_MAX)


async def test_all_received_is_not_installed(leader):
    await leader.offer()
    for end in ENDS:
        await leader.answer(end)

    assert leader.installed == []
    assert leader.is_sending()


async def test_a_peer_that_verifies_is_asked_now_and_then(leader):
    await leader.offer()
    for end in ENDS:
        await leader.answer(end)
    leader.chunks.clear()

    for _ in range(20):
        await leader.clock.step(POLL_S)
        await leader.answer(SIZE)
        assert leader.chunks[-1].offset == SIZE
        assert leader.chunks[-1].data == b""
    assert len(leader.chunks) == 20

    await leader.answer(SIZE, is_installed=True)
    assert leader.installed == [("B", 50)]


async def test_what_is_offered_once_is_sent_once(leader):
    for _ in range(3):
        await leader.offer()

    assert leader.offsets() == [0]


async def test_two_peers_are_served_apart(leader):
    await leader.offer("B")
    await leader.offer("C")
    await leader.answer(ENDS[0], to=0, peer_id="B")

    assert list(zip(leader.peers, leader.offsets(), strict=True)) == [
        ("B", 0),
        ("C", 0),
        ("B", ENDS[0]),
    ]


async def test_without_a_snapshot_nothing_is_sent():
    leader = Leader()
    await leader.offer()

    assert leader.chunks == []
    assert leader.sender.oldest_in_use() is None


async def test_what_is_in_use_is_known(leader):
    await leader.offer("B")
    leader.store.put(60, SIZE)
    await leader.offer("C")
    assert leader.sender.oldest_in_use() == 50

    await leader.answer(SIZE, to=0, is_installed=True)
    assert leader.sender.oldest_in_use() == 60

    leader.sender.stop()
    assert leader.sender.oldest_in_use() is None


async def test_without_an_answer_the_same_chunk_is_sent_again(leader):
    await leader.offer()
    await leader.answer(ENDS[0])
    await leader.clock.step(REPLY_S_MAX)

    assert leader.offsets() == [0, ENDS[0], ENDS[0]]
    assert leader.chunks[1].data == leader.chunks[2].data
    assert leader.chunks[1].sequence < leader.chunks[2].sequence


async def test_a_peer_that_never_answers_is_given_up(leader):
    await leader.offer()
    await leader.clock.step(ATTEMPTS_MAX * REPLY_S_MAX)

    assert leader.offsets() == [0] * ATTEMPTS_MAX
    assert not leader.is_sending()
    assert leader.sender.oldest_in_use() is None
    name = "nodestate_replication_snapshot_send_failures_total"
    assert leader.metrics.count(name) == 1


async def test_each_answer_renews_the_patience(leader):
    await leader.offer()
    for end in ENDS[:2]:
        await leader.clock.step((ATTEMPTS_MAX - 1) * REPLY_S_MAX)
        await leader.answer(end)

    assert leader.is_sending()
    assert leader.offsets()[-1] == ENDS[1]


async def test_an_unsent_chunk_is_one_without_an_answer(leader):
    leader.is_up = False
    await leader.offer()
    await leader.clock.step((ATTEMPTS_MAX - 1) * REPLY_S_MAX)
    assert leader.is_sending()

    await leader.clock.step(REPLY_S_MAX)

    assert not leader.is_sending()


async def test_a_peer_that_says_why_not_is_left_alone_longer_and_longer(leader):
    waits = []
    for _ in range(9):
        await leader.offer()
        await leader.answer(0, reason="disk full")
        refused_at_s = leader.clock.monotonic_s()
        count = len(leader.chunks)
        while len(leader.chunks) == count:
            await leader.clock.step(BACKOFF_S_MIN / 2)
            await leader.offer()
        waits.append(leader.clock.monotonic_s() - refused_at_s)

    assert waits == [1, 2, 4, 8, 16, 32, BACKOFF_S_MAX, BACKOFF_S_MAX, BACKOFF_S_MAX]
    assert leader.installed == []


async def test_success_ends_the_back_off(leader):
    await leader.offer()
    await leader.answer(0, reason="disk full")
    await leader.clock.step(BACKOFF_S_MIN)
    await leader.offer()
    await leader.answer(SIZE, is_installed=True)
    await leader.offer()
    await leader.answer(0, reason="disk full")

    await leader.clock.step(BACKOFF_S_MIN)
    await leader.offer()

    assert len(leader.chunks) == 4


async def test_a_peer_that_comes_back_is_served_at_once(leader):
    await leader.offer()
    await leader.answer(0, reason="disk full")
    leader.sender.on_disconnected("B")
    await leader.offer()

    assert leader.offsets() == [0, 0]


@pytest.mark.parametrize("is_disconnected", [True, False])
async def test_what_is_stopped_sends_no_more(leader, is_disconnected):
    await leader.offer()
    if is_disconnected:
        leader.sender.on_disconnected("B")
    else:
        leader.sender.stop()
    await leader.answer(ENDS[0])
    await leader.answer(SIZE, is_installed=True)
    await leader.clock.step(10 * REPLY_S_MAX)

    assert leader.offsets() == [0]
    assert leader.installed == []
    assert not leader.is_sending()
    assert leader.logger.lines == ["snapshot offered"]


async def test_stopped_in_the_middle_of_a_read_it_sends_nothing(leader):
    reading = leader.store.hold("read")
    await leader.offer()
    leader.sender.stop()
    reading.set()
    await settle()

    assert leader.chunks == []
    assert not leader.is_sending()


async def test_stopped_in_the_middle_of_a_read_that_fails_it_blames_nobody(leader):
    reading = asyncio.Event()

    async def fail() -> None:
        await reading.wait()
        raise JournalError("the disk is gone")

    leader.store.before["read"] = fail
    await leader.offer()
    leader.sender.stop()
    reading.set()
    await settle()
    leader.store.before.clear()
    await leader.offer()

    assert leader.offsets() == [0]
    assert "snapshot not installed by peer" not in leader.logger.lines


async def test_who_leads_again_begins_without_grudges(leader):
    await leader.offer()
    await leader.answer(0, reason="disk full")
    leader.sender.stop()
    await leader.offer()

    assert leader.offsets() == [0, 0]


async def test_a_new_term_begins_anew(leader):
    await leader.offer()
    await leader.answer(ENDS[0])
    await leader.offer(term=TERM + 1)

    assert leader.offsets() == [0, ENDS[0], 0]
    assert leader.chunks[-1].term == TERM + 1
    await leader.clock.step(0)
    assert leader.tasks.running() == 1
    await leader.answer(SIZE, is_installed=True)
    assert leader.installed == [("B", 50)]


@pytest.mark.parametrize("received_bytes", [0, 17, ENDS[0]])
async def test_it_goes_on_from_where_the_peer_is(leader, received_bytes):
    await leader.offer()
    await leader.answer(ENDS[0])
    await leader.answer(received_bytes)

    assert leader.chunks[-1].offset == received_bytes
    expected = content(50, SIZE)[received_bytes : received_bytes + CHUNK_BYTES_MAX]
    assert leader.chunks[-1].data == expected


async def test_a_peer_cannot_have_more_than_there_is(leader):
    await leader.offer()
    await leader.answer(SIZE + 1)

    assert not leader.is_sending()
    assert leader.installed == []


async def test_answers_to_earlier_chunks_do_not_move_it(leader):
    await leader.offer()
    await leader.clock.step(REPLY_S_MAX)
    await leader.answer(ENDS[1], to=0)
    assert leader.offsets() == [0, 0]

    await leader.answer(ENDS[0], to=1)

    assert leader.offsets() == [0, 0, ENDS[0]]


async def test_installed_counts_however_late_it_is_said(leader):
    await leader.offer()
    for end in ENDS[:2]:
        await leader.answer(end)
    await leader.clock.step(REPLY_S_MAX)
    await leader.answer(SIZE, to=-2, is_installed=True)

    assert leader.installed == [("B", 50)]


async def test_an_answer_about_another_snapshot_or_peer_counts_for_nothing(leader):
    await leader.offer()
    sequence = leader.chunks[-1].sequence
    for peer_id, reply in (
        ("B", SnapshotReply(TERM, sequence, 49, SIZE, is_installed=True)),
        ("B", SnapshotReply(TERM, sequence + 1, 50, SIZE, is_installed=True)),
        ("B", SnapshotReply(TERM, sequence - 1, 50, SIZE, is_installed=True)),
        ("C", SnapshotReply(TERM, sequence, 50, SIZE, is_installed=True)),
    ):
        leader.sender.on_reply(peer_id, reply)
    await settle()

    assert leader.installed == []
    assert leader.offsets() == [0]


async def test_an_answer_that_comes_while_the_next_try_is_prepared_counts(leader):
    await leader.offer()
    reading = leader.store.hold("read")
    await leader.clock.step(REPLY_S_MAX)
    await leader.answer(ENDS[0])
    reading.set()
    leader.store.before.clear()
    await settle()

    assert leader.offsets() == [0, ENDS[0]]


async def test_no_more_goes_out_in_a_second_than_may():
    leader = Leader(bytes_per_s_max=CHUNK_BYTES_MAX // 2)
    leader.store.put(50, 6 * CHUNK_BYTES_MAX)
    await leader.offer()
    for _ in range(40):
        await leader.answer(leader.chunks[-1].offset + CHUNK_BYTES_MAX)
        await leader.clock.step(0.25)

    # At once, after 2 s, 4 s, 6 s and 8 s; the fifth is answered, the next is due at 10.
    assert leader.clock.monotonic_s() == 10.0
    assert leader.offsets() == [n * CHUNK_BYTES_MAX for n in range(6)]


async def test_a_snapshot_that_is_gone_makes_room_for_the_newest(leader):
    await leader.offer()
    (old,) = leader.store.files
    leader.store.put(90, SIZE)
    leader.store.remove(old)
    await leader.answer(ENDS[0])

    assert [(chunk.index, chunk.offset) for chunk in leader.chunks] == [
        (50, 0),
        (90, 0),
    ]
    await leader.answer(SIZE, to=0, is_installed=True)
    assert leader.installed == []
    await leader.answer(SIZE, is_installed=True)
    assert leader.installed == [("B", 90)]


async def test_a_newer_one_alone_is_no_reason_to_begin_again(leader):
    await leader.offer()
    leader.store.put(90, SIZE)
    await leader.answer(ENDS[0])

    assert [chunk.index for chunk in leader.chunks] == [50, 50]


@pytest.mark.parametrize("damage", ["unreadable", "short"])
async def test_a_file_that_cannot_be_read_is_not_sent(leader, damage):
    if damage == "unreadable":
        leader.store.fail("read", JournalError("I/O error"))
    else:
        (info,) = leader.store.files
        leader.store.files[info] = leader.store.files[info][:10]
    await leader.offer()

    assert leader.chunks == []
    assert not leader.is_sending()
    assert leader.tasks.error() is None
    assert leader.logger.lines[-1] == "snapshot not installed by peer"


async def test_no_transfer_lasts_for_ever(leader):
    await leader.offer()
    for _ in range(round(SENDING_S_MAX / REPLY_S_MAX) + 10):
        await leader.clock.step(REPLY_S_MAX)
        if leader.is_sending():
            await leader.answer(0)

    assert not leader.is_sending()
