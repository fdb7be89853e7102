"""A journal whose oldest segments are gone, and one that a snapshot takes the place of."""

import random
import struct

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.replication.records import (
    Entry,
    HardState,
    Kind,
    LogBase,
    Segment,
    encode_entry,
    encode_record,
    encode_segment,
    encode_truncation,
)
from nodestate.replication.recovery import segment_name
from tests.replication.journals import (
    SEGMENT_BYTES,
    entries,
    file_contents,
    flush,
    old_journal,
    open_journal,
    refuses,
    with_files,
    writing,
    written,
)

FIRST, SECOND, THIRD = (segment_name(number) for number in (1, 2, 3))


async def long_journal() -> MemoryDisk:
    """Have 19 entries of term 1, four to a segment."""
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 400)] for i in range(1, 20)))
    return disk


async def test_old_segments_may_be_gone_if_the_snapshot_covers_them():
    disk = await long_journal()
    disk.remove_file(FIRST)
    disk.remove_file(SECOND)

    again = open_journal(with_files(file_contents(disk)), snapshot=LogBase(8, 1))

    assert (again.base_index(), again.base_term(), again.last_index()) == (8, 1, 19)
    assert (again.position(), again.durable_position()) == (19, 19)
    text = refuses(disk, LogBase(7, 1))
    assert text.startswith(
        f"{THIRD}, byte 0: what follows needs a snapshot up to index 8, "
        "but the newest ends at 7; the journal is left as it is"
    )


async def test_a_gap_in_the_middle_is_refused_whatever_the_snapshot_covers():
    disk = await long_journal()
    disk.remove_file(SECOND)

    assert refuses(disk, LogBase(19, 1)).startswith(f"{SECOND} is missing, but {THIRD}")


async def test_the_first_segment_that_is_left_must_be_whole():
    disk = await long_journal()
    disk.remove_file(FIRST)
    files = file_contents(disk)
    data = files[SECOND] or b""

    for bit in range(70 * 8):
        damaged = with_files(files)
        damaged.flip_bit(SECOND, bit)
        text = refuses(damaged, LogBase(19, 1))
        assert text.startswith(f"{SECOND}, byte 0: ")
    assert "the segments before it are gone" in refuses(
        with_files({**files, SECOND: bytes(len(data))}), LogBase(19, 1)
    )


async def test_a_segment_that_says_another_end_of_the_log_is_refused():
    files = file_contents(await long_journal())
    other = MemoryDisk()
    await written(
        other, *([*entries(i, 1, term=2, body=b"s" * 400)] for i in range(1, 20))
    )

    text = refuses(with_files({**files, SECOND: other.read_file(SECOND)}))

    assert "LogBase(index=4, term=2) is not where the log was before it" in text


def test_a_snapshot_without_a_journal_is_refused():
    """Term and vote are lost with the journal, so this server could vote twice."""
    snapshot = LogBase(5, 1)
    blank = MemoryDisk()
    blank.put_file(FIRST, bytes(SEGMENT_BYTES))

    for disk in (MemoryDisk(), blank):
        text = refuses(disk, snapshot)
        assert text.startswith(f"a snapshot up to index 5 is there, but {FIRST} is")
        assert "replace this server" in text


async def test_a_mark_needs_its_snapshot():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 2))
        journal.reset_to(LogBase(9, 1))
        journal.append(entries(10, 2))
        await flush(journal)
    disk.kill()

    assert "needs a snapshot up to index 9, but there is none" in refuses(disk)
    assert "the newest ends at 8" in refuses(disk, LogBase(8, 1))
    assert open_journal(disk, snapshot=LogBase(9, 1)).last_index() == 11


@pytest.mark.parametrize("snapshot", [LogBase(5, 1), LogBase(2, 9)])
async def test_a_snapshot_takes_the_place_of_a_log_that_lacks_its_last_entry(snapshot):
    """The server stopped between the snapshot of an installation and its mark."""
    disk = MemoryDisk()
    await written(disk, entries(1, 3))

    journal = open_journal(disk, snapshot=snapshot)

    assert journal.base_index() == journal.last_index() == snapshot.index
    assert journal.base_term() == journal.last_term() == snapshot.term
    assert journal.position() == journal.durable_position() == 4
    disk.crash(random.Random(1))
    again = open_journal(disk, snapshot=snapshot)
    assert again.position() == 4
    async with writing(again):
        again.append(entries(snapshot.index + 1, 1, term=9))
        await flush(again)
    disk.crash(random.Random(1))
    assert open_journal(disk, snapshot=snapshot).last_index() == snapshot.index + 1


async def test_the_mark_of_a_snapshot_that_takes_over_may_need_a_segment():
    file_counts = set()
    for body_bytes in range(820, 960):
        disk = MemoryDisk()
        await written(disk, entries(1, 2, body=bytes(body_bytes)))

        open_journal(disk, snapshot=LogBase(7, 1))
        disk.crash(random.Random(1))

        again = open_journal(disk, snapshot=LogBase(7, 1))
        assert (again.position(), again.base_index()) == (3, 7)
        file_counts.add(len(disk.names()))
    assert file_counts == {1, 2}


async def test_a_log_that_was_truncated_into_lost_segments_begins_where_it_can_be_read():
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(1, 7, body=b"o" * 400))
        # So large that the truncation does not fit behind it.
        journal.append(entries(8, 1, body=b"o" * 540))
        await flush(journal)
        journal.truncate_from(6)
        journal.append(entries(6, 12, term=2, body=b"n" * 400))
        await flush(journal)
    disk.kill()
    disk.remove_file(FIRST)
    disk.remove_file(SECOND)
    files = file_contents(disk)

    again = open_journal(with_files(files), snapshot=LogBase(8, 2))

    assert (again.base_index(), again.base_term(), again.last_index()) == (6, 2, 17)
    assert again.entry(7) == Entry(b"n" * 400, 7, 2)
    assert again.durable_index() == 17
    assert "up to index 8" in refuses(with_files(files), LogBase(7, 2))
    # The same, with all that follows the truncation lost before it was durable.
    data = files[THIRD] or b""
    kept = data[: data.index(b"n" * 400) - 45]
    torn = with_files({THIRD: kept + bytes(len(data) - len(kept))})
    empty = open_journal(torn, snapshot=LogBase(8, 2))
    assert (empty.base_index(), empty.base_term(), empty.last_index()) == (8, 2, 8)


async def test_a_snapshot_takes_over_from_a_log_that_ends_in_lost_segments():
    """Also where its mark begins a segment, whose header says where that end was."""
    numbers_used = set()
    for vote_count in range(30, 50):
        disk = MemoryDisk()
        journal = open_journal(disk)
        async with writing(journal):
            journal.append(entries(1, 7, body=b"o" * 400))
            journal.append(entries(8, 1, body=b"o" * 540))
            await flush(journal)
            journal.truncate_from(6)
            for term in range(2, vote_count):
                journal.set_hard_state(term, "server1")
            await flush(journal)
        disk.kill()
        disk.remove_file(FIRST)
        disk.remove_file(SECOND)

        open_journal(disk, snapshot=LogBase(8, 2))
        disk.crash(random.Random(1))
        again = open_journal(disk, snapshot=LogBase(8, 2))

        assert (again.base_index(), again.last_index(), again.last_term()) == (8, 8, 2)
        assert again.term() == vote_count - 1
        numbers_used.add(disk.names()[-1])
    assert numbers_used == {THIRD, segment_name(4)}


def test_a_journal_of_the_first_version_is_read():
    disk = old_journal()

    journal = open_journal(disk)

    assert (journal.term(), journal.voted_for(), journal.position()) == (3, None, 18)
    assert [journal.term_at(index) for index in (7, 8, 14)] == [2, 3, 3]
    assert journal.entry(7).body == b"old7" + b"." * 100
    assert journal.entry(14).body == b"more" * 30


async def test_a_journal_of_the_first_version_goes_on_and_can_be_shortened():
    """Only once a segment that tells where the log was is there for those before it."""
    disk = old_journal()
    journal = open_journal(disk)
    async with writing(journal):
        await journal.compact(15)
        journal.append(entries(15, 1, term=3, body=b"s" * 400))
        await flush(journal)
        await journal.compact(15)
        assert disk.names()[0] == FIRST
        journal.append(entries(16, 4, term=3, body=b"s" * 400))
        await flush(journal)
        await journal.compact(16)
    disk.crash(random.Random(1))

    again = open_journal(disk, snapshot=LogBase(15, 3))

    assert disk.names()[0] == THIRD
    assert (again.term(), again.base_index(), again.last_index()) == (3, 14, 19)


@pytest.mark.parametrize(
    ("gone", "snapshot", "base"),
    [
        # The second begins with entry 7, which is given up for its term.
        ([FIRST], LogBase(9, 3), LogBase(7, 2)),
        ([FIRST], LogBase(6, 2), LogBase(6, 2)),
        ([FIRST, SECOND], LogBase(14, 3), LogBase(14, 3)),
        ([FIRST, SECOND], LogBase(13, 3), LogBase(13, 3)),
        ([FIRST, SECOND], LogBase(20, 4), LogBase(20, 4)),
    ],
)
def test_a_journal_may_begin_with_a_segment_of_the_first_version(gone, snapshot, base):
    """The server stopped in the middle of dropping them."""
    disk = old_journal()
    for name in gone:
        disk.remove_file(name)

    journal = open_journal(disk, snapshot=snapshot)

    assert (journal.base_index(), journal.base_term()) == base
    assert journal.last_index() == max(14, base.index)
    assert (journal.term(), journal.voted_for()) == (3, None)


def test_a_first_version_segment_that_begins_above_the_snapshot_is_refused():
    disk = old_journal()
    disk.remove_file(FIRST)
    disk.remove_file(SECOND)

    assert "needs a snapshot up to index 13" in refuses(disk, LogBase(12, 3))


def first_version_segment(number: int, *changes: tuple[Kind, bytes]) -> MemoryDisk:
    """Have one segment of the first version, whose changes follow position 50."""
    header = struct.pack("<IQQQB", 1, number, SEGMENT_BYTES, 7, 1) + b"server2"
    data = b""
    position = 50
    for kind, payload in ((Kind.SEGMENT, header), *changes):
        position += kind is not Kind.SEGMENT
        data += encode_record(
            kind, payload, position=position, synced=50, number=number, offset=len(data)
        )
    disk = MemoryDisk()
    disk.put_file(segment_name(number), data.ljust(SEGMENT_BYTES, b"\0"))
    return disk


@pytest.mark.parametrize(
    ("first_index", "base"), [(10, LogBase(10, 6)), (1, LogBase(0, 0))]
)
def test_a_first_version_segment_may_begin_with_a_truncation(first_index, base):
    disk = first_version_segment(
        4,
        (Kind.TRUNCATE, encode_truncation(first_index)),
        *(
            (Kind.ENTRY, encode_entry(Entry(b"", index, 6)))
            for index in range(first_index, 14)
        ),
    )

    journal = open_journal(disk, snapshot=LogBase(12, 6))

    assert (journal.base_index(), journal.base_term()) == base
    assert journal.last_index() == 13
    assert (journal.term(), journal.voted_for()) == (7, "server2")
    assert journal.position() == 65 - first_index


def test_a_first_version_segment_that_says_nothing_of_the_log_is_refused():
    disk = first_version_segment(4)

    text = refuses(disk, LogBase(12, 6))

    assert text.startswith(f"{segment_name(4)}, byte 0: nothing in it says where")


async def test_a_segment_of_today_tells_where_the_log_was_before_it():
    """Also when the first one that is left, an older one, does not."""
    disk = first_version_segment(4)
    header = encode_segment(
        Segment(5, SEGMENT_BYTES, HardState(7, "server2"), LogBase(9, 6))
    )
    data = encode_record(
        Kind.SEGMENT, header, position=50, synced=50, number=5, offset=0
    )
    disk.put_file(segment_name(5), data.ljust(SEGMENT_BYTES, b"\0"))

    journal = open_journal(disk, snapshot=LogBase(9, 6))

    assert (journal.base_index(), journal.base_term()) == (9, 6)
    assert journal.position() == 50
