import errno
import random

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import CorruptRecordError, JournalError
from nodestate.replication.recovery import recover, segment_name
from tests.replication.journals import (
    SEGMENT_BYTES,
    contents,
    entries,
    file_contents,
    flush,
    open_journal,
    refuses,
    with_files,
    writing,
    written,
)

FIRST, SECOND, THIRD = (segment_name(number) for number in (1, 2, 3))


@pytest.mark.slow
async def test_no_flipped_bit_ever_loses_or_changes_what_was_durable():
    """Every bit of a journal whose every change was acknowledged, one at a time.

    Nothing is lost even in the last round, since the closing mark vouches for it.
    """
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.set_hard_state(1, "server1")
        journal.append(entries(1, 2))
        await flush(journal)
        journal.truncate_from(2)
        journal.append(entries(2, 1, body=b"other"))
        await flush(journal)
    files = file_contents(disk)
    truth = contents(journal)
    used = len((files[FIRST] or b"").rstrip(b"\0"))
    refused_count = 0

    for bit in range((used + 40) * 8):
        damaged = with_files(files)
        damaged.flip_bit(FIRST, bit)
        before = file_contents(damaged)
        try:
            again = open_journal(damaged)
        except CorruptRecordError:
            refused_count += 1
            assert file_contents(damaged) == before, bit
        else:
            assert contents(again) == truth, bit

    assert refused_count > used * 7


@pytest.mark.slow
async def test_no_flipped_bit_matters_across_segments():
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 200)] for i in range(1, 25)))
    files = file_contents(disk)
    truth = contents(open_journal(with_files(files)))
    assert len(truth[2]) == 24
    rng = random.Random(5)

    for name, data in files.items():
        for bit in rng.sample(range(SEGMENT_BYTES * 8), 300):
            damaged = with_files(files)
            damaged.flip_bit(name, bit)
            try:
                again = open_journal(damaged)
            except CorruptRecordError:
                assert data is not None
            else:
                assert contents(again) == truth, (name, bit)


async def test_a_file_cut_at_any_length_is_refused():
    disk = MemoryDisk()
    await written(disk, entries(1, 3), entries(4, 2))
    data = disk.read_file(FIRST) or b""

    for length in range(len(data)):
        text = refuses(with_files({FIRST: data[:length]}))
        assert FIRST in text, length


async def test_a_tail_that_was_not_durable_is_cut_at_any_length():
    disk = MemoryDisk()
    await written(disk, entries(1, 3))
    durable = (disk.read_file(FIRST) or b"").rstrip(b"\0")
    journal = open_journal(disk)
    journal.append(entries(4, 4, body=b"torn"))
    async with writing(journal):
        await flush(journal)
    data = disk.read_file(FIRST) or b""
    written_bytes = len(data.rstrip(b"\0"))

    for length in range(len(durable) + 1, written_bytes):
        # What the second round would look like with only its start on disk.
        torn = data[:length] + bytes(len(data) - length)
        again = open_journal(with_files({FIRST: torn}))
        assert 3 <= again.last_index() <= 7, length
        assert contents(again)[2] == contents(journal)[2][: again.last_index()]


async def test_a_cut_tail_never_comes_back():
    disk = MemoryDisk()
    await written(disk, entries(1, 2))
    journal = open_journal(disk)
    journal.append(entries(3, 6, body=b"old" * 30))
    async with writing(journal):
        await flush(journal)
    whole = disk.read_file(FIRST) or b""
    second_round = whole.index(b"old" * 30)
    torn = whole[:second_round] + b"\0" + whole[second_round + 1 :]
    mark_start = len(whole.rstrip(b"\0")) - 29
    disk.put_file(FIRST, torn[:mark_start] + bytes(len(torn) - mark_start))

    cut = open_journal(disk)
    async with writing(cut):
        cut.append(entries(3, 1, term=2, body=b"new"))
        await flush(cut)
    disk.crash(random.Random(1))
    again = open_journal(disk)

    assert [entry.body for entry in contents(again)[2]] == [b"b", b"b", b"new"]
    assert b"old" not in (disk.read_file(FIRST) or b"")


async def test_damage_names_the_file_the_place_and_what_to_do():
    disk = MemoryDisk()
    await written(disk, entries(1, 1, body=b"one"), entries(2, 1, body=b"two"))
    data = disk.read_file(FIRST) or b""
    disk.flip_bit(FIRST, data.index(b"one") * 8)
    offset = data.index(b"one") - 45

    text = refuses(disk)

    assert text.startswith(f"{FIRST}, byte {offset}: checksum ")
    assert "expected" in text
    assert "position 1 belongs here and was durable" in text
    assert "replace this server" in text


async def test_a_missing_first_or_middle_segment_is_refused():
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 400)] for i in range(1, 20)))
    files = file_contents(disk)
    assert len(files) > 3

    for name in (FIRST, SECOND):
        text = refuses(with_files({k: v for k, v in files.items() if k != name}))
        assert text.startswith(f"{name} is missing")


async def test_a_blank_segment_before_another_is_refused():
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 400)] for i in range(1, 20)))

    for name in (FIRST, SECOND):
        files = file_contents(disk)
        files[name] = bytes(SEGMENT_BYTES)
        refuses(with_files(files))


async def test_a_segment_that_lost_its_end_is_refused_once_the_next_was_begun():
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 400)] for i in range(1, 8)))
    files = file_contents(disk)
    data = files[FIRST] or b""
    cut = data.rindex(b"s" * 400) - 45
    files[FIRST] = data[:cut] + bytes(len(data) - cut)

    text = refuses(with_files(files))

    assert "position" in text


async def test_a_segment_made_ahead_and_never_used_is_fine():
    disk = MemoryDisk()
    await written(disk, entries(1, 2))
    disk.put_file(SECOND, bytes(SEGMENT_BYTES))

    journal = open_journal(disk)
    async with writing(journal):
        journal.append(entries(3, 30, body=b"s" * 100))
        await flush(journal)
    disk.kill()

    assert contents(open_journal(disk)) == contents(journal)


def test_a_blank_first_segment_is_an_empty_journal():
    disk = MemoryDisk()
    disk.put_file(FIRST, bytes(SEGMENT_BYTES))

    assert open_journal(disk).position() == 0


async def test_a_torn_first_write_into_a_new_segment_is_wiped():
    disk = MemoryDisk()
    await written(disk, entries(1, 2))
    disk.put_file(SECOND, b"\0" * 600 + b"torn" * 9 + bytes(SEGMENT_BYTES - 636))

    journal = open_journal(disk)

    assert (journal.last_index(), journal.position()) == (2, 2)
    assert disk.read_file(SECOND) == bytes(SEGMENT_BYTES)


async def test_two_segments_made_ahead_are_refused():
    disk = MemoryDisk()
    await written(disk, entries(1, 2))
    disk.put_file(SECOND, bytes(SEGMENT_BYTES))
    disk.put_file(THIRD, bytes(SEGMENT_BYTES))

    assert "before it is blank" in refuses(disk)


async def test_a_torn_closing_mark_of_a_full_segment_is_no_damage():
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 400)] for i in range(1, 8)))
    files = file_contents(disk)
    data = files[FIRST] or b""
    used = len(data.rstrip(b"\0"))
    mark_start = data.rindex(b"\xf1nsR")
    files[FIRST] = data[: mark_start + 9] + bytes(len(data) - mark_start - 9)
    assert used > mark_start + 9

    assert open_journal(with_files(files)).last_index() == 7


async def test_segments_that_changed_places_are_refused():
    disk = MemoryDisk()
    await written(disk, *([*entries(i, 1, body=b"s" * 400)] for i in range(1, 20)))
    files = file_contents(disk)
    files[FIRST], files[SECOND] = files[SECOND], files[FIRST]

    refuses(with_files(files))


async def test_what_a_failed_sync_left_in_memory_is_written_again():
    """The system calls such pages clean: only writing them again makes them durable."""
    disk = MemoryDisk()
    await written(disk, entries(1, 1))
    journal = open_journal(disk)
    disk.failing["sync"] = errno.EIO
    journal.append(entries(2, 1, body=b"dropped"))
    with pytest.raises(JournalError):
        await journal.run(lambda: None)
    disk.failing.clear()
    disk.kill()

    again = open_journal(disk)
    assert again.last_index() == again.durable_index() == 2
    disk.crash(random.Random(1))

    assert open_journal(disk).last_index() == 2


async def test_a_disk_that_cannot_be_read_or_repaired_stops_the_start():
    disk = MemoryDisk()
    await written(disk, entries(1, 1))
    data = disk.read_file(FIRST) or b""
    disk.failing["read"] = errno.EIO

    with pytest.raises(JournalError, match="Input/output error"):
        recover(disk)

    disk.failing = {"sync": errno.EIO}
    used = len(data.rstrip(b"\0"))
    disk.put_file(
        FIRST, data[:used] + bytes(9) + b"junk" + bytes(len(data) - used - 13)
    )
    with pytest.raises(JournalError, match="Input/output error"):
        recover(disk)


def test_other_files_are_left_alone():
    disk = MemoryDisk()
    disk.put_file("identity", b"me")
    disk.put_file("journal-1.log", b"not ours")

    assert open_journal(disk).position() == 0
    assert disk.names() == ["identity", "journal-1.log"]
