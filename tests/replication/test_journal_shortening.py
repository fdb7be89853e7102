"""The journal lets go of what a snapshot covers, and of what one replaces."""

import asyncio
import errno
import random

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import JournalError
from nodestate.replication.journal import Journal
from nodestate.replication.records import LogBase
from tests.fakes import FakeClock, FakeMetrics
from tests.replication.journals import (
    SEGMENT_BYTES,
    entries,
    flush,
    open_journal,
    writing,
)


async def waiting(gate: asyncio.Event) -> None:
    await gate.wait()


async def shortened(disk: MemoryDisk) -> Journal:
    """Have ten segments or so, of forty entries, and let go of the first thirty."""
    journal = open_journal(disk)
    async with writing(journal):
        journal.set_hard_state(1, "server1")
        for index in range(1, 41):
            journal.append(entries(index, 1, body=b"c" * 400))
            await flush(journal)
        await journal.compact(31)
    return journal


async def test_what_a_snapshot_covers_leaves_memory_at_once_and_the_disk_in_time():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 20, term=2, body=b"c" * 400))
        await flush(journal)
        before = disk.names()
        compacting = asyncio.create_task(journal.compact(16))
        await asyncio.sleep(0)

        assert (journal.base_index(), journal.base_term()) == (15, 2)
        assert (journal.first_index(), journal.last_index()) == (16, 20)
        assert journal.term_at(15) == 2
        assert journal.entries_from(16, 1 << 20) == tuple(
            entries(16, 5, term=2, body=b"c" * 400)
        )
        assert disk.names() == before
        await compacting

    assert disk.names()[0] == "journal-00000004.log"


async def test_what_is_before_the_first_entry_cannot_be_asked_for():
    journal = await shortened(MemoryDisk())

    for index in (0, 29):
        with pytest.raises(AssertionError):
            journal.term_at(index)
    with pytest.raises(AssertionError):
        journal.entry(30)
    with pytest.raises(AssertionError):
        journal.entries_from(30, 100)
    with pytest.raises(AssertionError):
        journal.truncate_from(30)


async def test_a_shortened_journal_is_found_again():
    disk = MemoryDisk()
    journal = await shortened(disk)
    disk.crash(random.Random(1))

    again = open_journal(disk, snapshot=LogBase(32, 1))

    assert "journal-00000001.log" not in disk.names()
    assert (again.term(), again.voted_for()) == (1, "server1")
    assert again.position() == again.durable_position() == journal.position()
    # A segment also has entries before those that were to be kept.
    assert 25 < again.base_index() <= 30
    assert again.base_term() == 1
    assert again.durable_index() == again.last_index() == 40
    assert again.entries_from(31, 1 << 20) == journal.entries_from(31, 1 << 20)


async def test_a_shortened_journal_goes_on():
    disk = MemoryDisk()
    await shortened(disk)
    disk.kill()
    journal = open_journal(disk, snapshot=LogBase(30, 1))
    async with writing(journal):
        journal.truncate_from(39)
        journal.append(entries(39, 20, term=2, body=b"d" * 400))
        await journal.compact(50)
        await flush(journal)
        await journal.compact(50)
    disk.crash(random.Random(1))

    again = open_journal(disk, snapshot=LogBase(49, 2))

    assert again.last_index() == 58
    assert 40 < again.base_index() < 50
    assert again.entries_from(50, 1 << 20) == tuple(
        entries(50, 9, term=2, body=b"d" * 400)
    )


async def test_compacting_twice_or_to_an_earlier_index_changes_nothing():
    disk = MemoryDisk()
    journal = await shortened(disk)
    before = disk.names()

    await journal.compact(31)
    await journal.compact(1)

    assert journal.base_index() == 30
    assert disk.names() == before


async def test_a_log_that_is_covered_whole_is_empty_and_remembers_its_end():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 3, term=4))
        await flush(journal)
        await journal.compact(10)

    assert (journal.base_index(), journal.last_index(), journal.last_term()) == (
        3,
        3,
        4,
    )
    assert (journal.first_index(), journal.durable_index()) == (4, 3)
    assert journal.entries_from(4, 100) == ()
    journal.append(entries(4, 1, term=4))
    assert journal.entry(4).index == 4


async def test_a_segment_stays_until_a_later_one_is_durable():
    """What tells where the log was must survive before what it stands for may go."""
    gate = asyncio.Event()
    gate.set()
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 4, body=b"c" * 400))
        await flush(journal)
        disk.delay = lambda: waiting(gate)
        for _ in range(5):
            await asyncio.sleep(0)
        gate.clear()
        journal.append(entries(5, 1, body=b"c" * 400))
        for _ in range(5):
            await asyncio.sleep(0)
        assert journal.segment_count() == 2
        compacting = asyncio.create_task(journal.compact(6))
        for _ in range(5):
            await asyncio.sleep(0)
        assert compacting.done(), "nothing is being removed"
        assert disk.names()[0] == "journal-00000001.log"
        gate.set()
        await flush(journal)
        await journal.compact(6)

    assert disk.names()[0] == "journal-00000002.log"


async def test_a_segment_with_an_entry_that_was_replaced_stays_as_well():
    """Its index says how far a snapshot must reach before anyone can do without it."""
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 4, body=b"c" * 400))
        await flush(journal)
        journal.truncate_from(3)
        journal.append(entries(3, 9, term=2, body=b"d" * 400))
        await flush(journal)
        await journal.compact(4)
        assert disk.names()[0] == "journal-00000001.log"
        await journal.compact(5)

    assert disk.names()[0] == "journal-00000002.log"


async def test_a_segment_that_cannot_be_removed_is_an_error_and_left_for_later():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 20, body=b"c" * 400))
        await flush(journal)
        before = disk.names()
        disk.failing["remove"] = errno.EIO
        with pytest.raises(JournalError, match="cannot remove journal-00000001"):
            await journal.compact(16)
        assert disk.names() == before
        journal.append(entries(21, 1))
        disk.failing.clear()
        await journal.compact(16)
        await flush(journal)

    assert disk.names()[0] == "journal-00000004.log"


async def test_two_compactions_at_a_time_leave_no_gap():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 30, body=b"c" * 400))
        await flush(journal)
        compactions = [asyncio.create_task(journal.compact(i)) for i in (9, 25, 17)]
        for _ in range(3):
            await asyncio.sleep(0)
        compactions[0].cancel()
        await asyncio.wait(compactions)
        assert compactions[1].exception() is None

    disk.kill()
    again = open_journal(disk, snapshot=LogBase(24, 1))
    assert 20 < again.base_index() <= 24
    assert again.last_index() == 30


async def test_an_installed_snapshot_takes_the_place_of_other_entries():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 5, term=1))
        await flush(journal)
        journal.reset_to(LogBase(4, 2))

        assert (journal.base_index(), journal.base_term()) == (4, 2)
        assert (journal.last_index(), journal.last_term()) == (4, 2)
        assert journal.durable_index() == 4
        assert (journal.position(), journal.durable_position()) == (6, 5)
        journal.append(entries(5, 2, term=3))
        assert journal.durable_index() == 4
        await flush(journal)
    disk.crash(random.Random(1))

    again = open_journal(disk, snapshot=LogBase(4, 2))

    assert again.position() == 8
    assert again.base_index() == 4
    assert again.entries_from(5, 1 << 20) == tuple(entries(5, 2, term=3))


async def test_an_installed_snapshot_keeps_what_follows_its_last_entry():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 5, term=1))
        await flush(journal)
        journal.reset_to(LogBase(4, 1))
        journal.reset_to(LogBase(4, 1))

    assert (journal.base_index(), journal.base_term()) == (4, 1)
    assert journal.entries_from(5, 1 << 20) == tuple(entries(5, 1))
    assert journal.position() == 5
    disk.crash(random.Random(1))
    assert open_journal(disk, snapshot=LogBase(4, 1)).last_index() == 5


async def test_an_installed_snapshot_far_ahead_spares_every_segment_before_its_mark():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 20, body=b"c" * 400))
        await flush(journal)
        journal.reset_to(LogBase(1000, 7))
        journal.append(entries(1001, 9, term=7, body=b"d" * 400))
        await flush(journal)
        await journal.compact(1001)
    disk.crash(random.Random(1))

    again = open_journal(disk, snapshot=LogBase(1000, 7))

    assert len(disk.names()) < 6
    assert again.base_index() == 1000
    assert (again.last_index(), again.last_term()) == (1009, 7)


async def test_a_mark_counts_as_its_index_before_and_after_a_restart():
    disk = MemoryDisk()
    snapshot = LogBase(1000, 7)
    journal = open_journal(disk)
    async with writing(journal):
        journal.reset_to(snapshot)
        for term in range(7, 80):
            journal.set_hard_state(term, "server1")
        await flush(journal)
        await journal.compact(1000)
    disk.kill()
    again = open_journal(disk, snapshot=snapshot)
    await again.compact(1000)
    assert disk.names()[0] == "journal-00000001.log"

    await again.compact(1001)

    assert disk.names()[0] != "journal-00000001.log"
    disk.kill()
    found = open_journal(disk, snapshot=snapshot)
    assert (found.base_index(), found.base_term(), found.term()) == (1000, 7, 79)


def test_a_snapshot_older_than_the_log_is_a_defect():
    journal = open_journal(MemoryDisk())
    journal.append(entries(1, 9))
    journal.reset_to(LogBase(5, 1))

    with pytest.raises(AssertionError):
        journal.reset_to(LogBase(4, 1))


async def test_the_size_on_disk_is_measured():
    disk = MemoryDisk()
    metrics = FakeMetrics()
    journal = Journal.open(
        disk, segment_bytes=SEGMENT_BYTES, clock=FakeClock(), metrics=metrics
    )
    async with writing(journal):
        journal.append(entries(1, 20, body=b"c" * 400))
        await flush(journal)
        for _ in range(5):
            await asyncio.sleep(0)
        await journal.compact(12)

    files = [disk.read_file(name) or b"" for name in disk.names()]
    assert journal.segment_count() == len(files)
    assert journal.disk_bytes() == sum(map(len, files))
    gauge = metrics.gauges["nodestate_replication_journal_disk_bytes"]
    assert gauge() == journal.disk_bytes()
    journal.close()
    gauge()
