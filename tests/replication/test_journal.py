import asyncio
import errno
import random
from dataclasses import dataclass, field

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import JournalError
from nodestate.replication.journal import ROUND_BYTES_MAX, Journal
from nodestate.replication.records import (
    ENTRY_OVERHEAD_BYTES,
    PAYLOAD_BYTES_MAX,
    VOTE_BYTES_MAX,
    Entry,
)
from tests.replication.journals import (
    SEGMENT_BYTES,
    contents,
    entries,
    flush,
    open_journal,
    writing,
)

CRASH_SEEDS = 150


def test_an_empty_disk_is_an_empty_journal():
    journal = open_journal(MemoryDisk())

    assert contents(journal) == (0, None, ())
    assert (journal.first_index(), journal.last_index(), journal.last_term()) == (
        1,
        0,
        0,
    )
    assert (journal.base_index(), journal.base_term()) == (0, 0)
    assert (journal.segment_count(), journal.disk_bytes()) == (0, 0)
    assert (journal.position(), journal.durable_position()) == (0, 0)
    assert journal.durable_index() == 0
    assert journal.entries_from(1, 100) == ()
    assert journal.term_at(0) == 0


async def test_changes_are_seen_at_once_and_durable_later():
    journal = open_journal(MemoryDisk())

    journal.set_hard_state(3, "server1")
    journal.append(entries(1, 2, term=3))

    assert contents(journal) == (3, "server1", tuple(entries(1, 2, term=3)))
    assert (journal.position(), journal.durable_position()) == (3, 0)
    assert journal.durable_index() == 0
    assert journal.buffered_bytes() > 0
    async with writing(journal):
        await flush(journal)
    assert (journal.durable_position(), journal.durable_index()) == (3, 2)
    assert journal.buffered_bytes() == 0


async def test_a_restart_finds_everything_that_was_durable():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.set_hard_state(2, "server3")
        journal.append(entries(1, 100, term=2, body=b"x" * 100))
        await flush(journal)
        journal.truncate_from(90)
        journal.append(entries(90, 3, term=2, body=b"other"))
        journal.set_hard_state(3, None)
        await flush(journal)
    disk.crash(random.Random(1))

    again = open_journal(disk)

    assert contents(again) == contents(journal)
    assert again.position() == again.durable_position() == journal.position()
    assert again.durable_index() == again.last_index() == 92
    assert len(disk.names()) > 3


async def test_what_is_added_after_a_restart_follows_on():
    disk = MemoryDisk()
    for first in range(1, 60, 3):
        journal = open_journal(disk)
        assert journal.last_index() == first - 1
        async with writing(journal):
            journal.append(entries(first, 3, body=b"y" * 50))
            await flush(journal)
        disk.crash(random.Random(first))

    assert contents(open_journal(disk))[2] == tuple(entries(1, 60, body=b"y" * 50))


async def test_one_sync_takes_all_that_has_gathered():
    disk = MemoryDisk()
    journal = open_journal(disk, segment_bytes=1 << 16)
    async with writing(journal):
        for index in range(1, 51):
            journal.append(entries(index, 1))
        await flush(journal)

    assert disk.sync_count == 1


async def test_what_arrives_during_a_sync_goes_into_the_next():
    disk = MemoryDisk()
    gate = asyncio.Event()
    disk.delay = lambda: _wait(gate)
    journal = open_journal(disk, segment_bytes=1 << 16)
    async with writing(journal):
        gate.set()
        journal.append(entries(1, 1))
        await flush(journal)
        gate.clear()
        journal.append(entries(2, 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        journal.append(entries(3, 5))
        assert journal.durable_index() == 1
        gate.set()
        await flush(journal)

    assert disk.sync_count == 3


async def _wait(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_durable_is_told_on_the_loop_after_each_sync():
    journal = open_journal(MemoryDisk())
    seen: list[int] = []
    task = asyncio.create_task(
        journal.run(lambda: seen.append(journal.durable_position()))
    )

    for index in (1, 2):
        journal.append(entries(index, 1))
        await flush(journal)
    task.cancel()
    await asyncio.wait([task])

    assert seen == [1, 2]


async def test_a_sync_in_flight_does_not_vouch_for_what_replaced_its_entries():
    gate = asyncio.Event()
    gate.set()
    disk = MemoryDisk(delay=lambda: _wait(gate))
    journal = open_journal(disk, segment_bytes=1 << 16)
    seen: list[tuple[int, int]] = []

    def take_note() -> None:
        seen.append((journal.durable_position(), journal.durable_index()))

    writer = asyncio.create_task(journal.run(take_note))
    journal.append(entries(1, 2))
    await flush(journal)
    gate.clear()
    journal.append(entries(3, 2, term=1))
    for _ in range(5):
        await asyncio.sleep(0)
    journal.truncate_from(3)
    journal.append(entries(3, 2, term=2))
    gate.set()
    await flush(journal)
    writer.cancel()
    await asyncio.wait([writer])

    assert seen == [(2, 2), (4, 2), (7, 4)]


async def test_a_truncation_shortens_what_is_durable_at_once():
    journal = open_journal(MemoryDisk())
    async with writing(journal):
        journal.append(entries(1, 5))
        await flush(journal)

    journal.truncate_from(3)

    assert journal.durable_index() == journal.last_index() == 2
    journal.truncate_from(1)
    assert journal.durable_index() == journal.last_index() == 0


def test_truncating_behind_the_end_changes_nothing():
    journal = open_journal(MemoryDisk())
    journal.append(entries(1, 2))

    journal.truncate_from(3)

    assert journal.position() == 2


def test_the_same_hard_state_is_not_written_twice():
    journal = open_journal(MemoryDisk())
    journal.set_hard_state(1, "server1")

    journal.set_hard_state(1, "server1")

    assert journal.position() == 1


def test_entries_are_taken_as_they_fit_but_at_least_one():
    journal = open_journal(MemoryDisk())
    journal.append(entries(1, 10, body=b"x" * 100))
    one = 100 + ENTRY_OVERHEAD_BYTES

    assert len(journal.entries_from(1, 0)) == 1
    assert len(journal.entries_from(1, 3 * one)) == 3
    assert len(journal.entries_from(1, 3 * one - 1)) == 2
    assert len(journal.entries_from(9, 1 << 20)) == 2
    assert journal.entries_from(11, 1 << 20) == ()


def test_entries_are_found_by_index():
    journal = open_journal(MemoryDisk())
    journal.append(entries(1, 2, term=1))
    journal.append(entries(3, 1, term=4))

    assert journal.entry(3) == Entry(b"b", 3, 4)
    assert [journal.term_at(index) for index in range(4)] == [0, 1, 1, 4]
    assert (journal.first_index(), journal.last_term()) == (1, 4)


def test_an_index_that_is_not_there_is_a_defect():
    journal = open_journal(MemoryDisk())
    journal.append(entries(1, 2))

    for index in (-1, 3):
        with pytest.raises(AssertionError):
            journal.entry(index)


@pytest.mark.parametrize(
    "wrong",
    [
        [Entry(b"", 2, 1)],
        [Entry(b"", 4, 1)],
        [Entry(b"", 3, 0)],
        [Entry(b"", 3, 2), Entry(b"", 4, 1)],
    ],
)
def test_entries_that_do_not_follow_are_a_defect_and_change_nothing(wrong):
    journal = open_journal(MemoryDisk())
    journal.append(entries(1, 2))

    with pytest.raises(AssertionError):
        journal.append(wrong)

    assert (journal.last_index(), journal.position()) == (2, 2)


def test_an_entry_that_is_too_large_is_refused_and_changes_nothing():
    journal = open_journal(MemoryDisk())

    with pytest.raises(JournalError, match="too large"):
        journal.append([Entry(b"", 1, 1), Entry(bytes(PAYLOAD_BYTES_MAX), 2, 1)])

    assert (journal.last_index(), journal.position()) == (0, 0)


def test_a_vote_that_is_too_long_is_refused_and_changes_nothing():
    journal = open_journal(MemoryDisk())

    with pytest.raises(JournalError, match="vote"):
        journal.set_hard_state(1, "x" * (VOTE_BYTES_MAX + 1))

    assert journal.term() == 0
    journal.set_hard_state(1, "x" * VOTE_BYTES_MAX)
    assert journal.term() == 1


async def test_a_record_larger_than_a_segment_gets_one_of_its_own():
    disk = MemoryDisk()
    journal = open_journal(disk)
    large = bytes(range(256)) * 64
    bodies = [b"a", large, b"b", large, large, b"c"]
    async with writing(journal):
        for index, body in enumerate(bodies, 1):
            journal.append([Entry(body, index, 1)])
            await flush(journal)
    disk.crash(random.Random(0))

    again = open_journal(disk)

    assert [entry.body for entry in contents(again)[2]] == bodies
    assert max(disk.open_file(name).size() for name in disk.names()) > len(large)


@pytest.mark.slow
async def test_a_round_has_a_limit():
    disk = MemoryDisk(page_bytes=1 << 20)
    journal = open_journal(disk, segment_bytes=5 * ROUND_BYTES_MAX)
    async with writing(journal):
        journal.append(entries(1, 5, body=bytes(ROUND_BYTES_MAX // 2)))
        await flush(journal)

    assert disk.sync_count == 3


async def test_every_segment_starts_with_the_hard_state_before_it():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        for term in range(1, 60):
            journal.set_hard_state(term, f"server{term % 3}")
            journal.append(entries(term, 1, term=term, body=b"z" * 99))
            await flush(journal)
    disk.kill()

    again = open_journal(disk)

    assert len(disk.names()) >= 4
    assert (again.term(), again.voted_for()) == (59, "server2")


async def test_the_next_segment_is_made_before_it_is_needed():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 2, body=bytes(SEGMENT_BYTES // 4)))
        await flush(journal)
        assert journal.durable_index() == 2
        for _ in range(5):
            await asyncio.sleep(0)

    assert disk.names() == ["journal-00000001.log", "journal-00000002.log"]


@pytest.mark.parametrize("action", ["write", "sync"])
async def test_a_failed_write_or_sync_ends_the_journal(action):
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 1))
        await flush(journal)
    disk.kill()
    journal = open_journal(disk)
    disk.failing[action] = errno.EIO
    journal.append(entries(2, 1))

    with pytest.raises(JournalError, match="Input/output error"):
        await journal.run(lambda: pytest.fail("nothing became durable"))

    assert journal.durable_index() == 1
    with pytest.raises(JournalError, match="cannot be changed any more"):
        journal.append(entries(3, 1))
    with pytest.raises(JournalError):
        journal.set_hard_state(9, None)
    with pytest.raises(JournalError):
        journal.truncate_from(1)


async def test_a_full_disk_at_the_first_segment_ends_the_journal():
    disk = MemoryDisk()
    disk.bytes_free = SEGMENT_BYTES - 1
    journal = open_journal(disk)
    journal.append(entries(1, 1))

    with pytest.raises(JournalError, match="No space left"):
        await journal.run(lambda: pytest.fail("nothing became durable"))


async def test_a_full_disk_hurts_only_when_the_segment_is_full():
    disk = MemoryDisk()
    disk.bytes_free = SEGMENT_BYTES
    journal = open_journal(disk)
    async with writing(journal) as writer:
        index = 0
        while not writer.done():
            index += 1
            journal.append(entries(index, 1, body=b"f" * 100))
            for _ in range(10):
                await asyncio.sleep(0)
        assert isinstance(writer.exception(), JournalError)
    durable = journal.durable_index()
    assert durable > 5
    disk.crash(random.Random(3))

    assert open_journal(disk).last_index() == durable


async def test_space_made_in_time_saves_the_journal():
    disk = MemoryDisk()
    disk.bytes_free = SEGMENT_BYTES
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 2, body=bytes(SEGMENT_BYTES // 4)))
        await flush(journal)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(disk.names()) == 1
        disk.bytes_free = None
        journal.append(entries(3, 9, body=bytes(SEGMENT_BYTES // 4)))
        await flush(journal)

    assert journal.durable_index() == 11


async def test_a_closed_journal_takes_nothing_more():
    journal = open_journal(MemoryDisk())

    journal.close()

    with pytest.raises(JournalError, match="closed"):
        journal.append(entries(1, 1))


@dataclass
class Story:
    """What a server did with its journal, change by change, to be told after a crash."""

    rng: random.Random
    states: list[tuple[int, str | None, tuple[Entry, ...]]] = field(
        default_factory=lambda: [(0, None, ())]
    )

    def change(self, journal: Journal) -> None:
        action = self.rng.random()
        term, vote, log = self.states[-1]
        if action < 0.15:
            term, vote = term + 1, self.rng.choice([None, "server1", "server2"])
            journal.set_hard_state(term, vote)
            self.states.append((term, vote, log))
        elif action < 0.3 and log:
            index = self.rng.randint(max(1, len(log) - 4), len(log))
            journal.truncate_from(index)
            self.states.append((term, vote, log[: index - 1]))
        else:
            for _ in range(self.rng.randint(1, 4)):
                body = self.rng.randbytes(self.rng.choice([0, 5, 60, 300, 3000]))
                entry = Entry(body, len(log) + 1, max(term, 1))
                log = (*log, entry)
                journal.append([entry])
                self.states.append((term, vote, log))

    def forget_after(self, position: int) -> None:
        del self.states[position + 1 :]


async def live(journal: Journal, story: Story) -> None:
    """Change the journal for a while, with syncs at any time or none at all."""
    async with writing(journal):
        for _ in range(story.rng.randint(1, 25)):
            story.change(journal)
            for _ in range(story.rng.choice([0, 0, 1, 3, 10])):
                await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.parametrize("page_bytes", [512, 4096])
async def test_power_loss_never_takes_what_was_durable(page_bytes):
    """Any page subset may survive; every change told durable does, and in order."""
    lost_count = 0
    for seed in range(CRASH_SEEDS):
        rng = random.Random(seed)
        disk = MemoryDisk(page_bytes=page_bytes)
        story = Story(rng)
        for _ in range(6):
            journal = open_journal(disk)
            await live(journal, story)
            durable = journal.durable_position()
            if rng.random() < 0.7:
                disk.crash(rng)
            else:
                disk.kill()
            again = open_journal(disk)
            found = again.position()
            assert durable <= found <= journal.position(), seed
            assert contents(again) == story.states[found], seed
            lost_count += journal.position() - found
            if rng.random() < 0.5:
                # Recovery itself made it durable: a second loss of power takes nothing.
                disk.crash(rng)
                assert contents(open_journal(disk)) == story.states[found], seed
            disk.kill()
            story.forget_after(found)
    assert lost_count > 100, "the crashes did not tear anything"
