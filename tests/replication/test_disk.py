import asyncio
import errno
import os
import random
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import JournalError
from nodestate.ports import Disk
from nodestate.replication.disk import ZEROS_BYTES, SystemDisk
from tests.replication.journals import contents, entries, open_journal


@pytest.fixture
def system_disk(tmp_path):
    disk = SystemDisk(tmp_path / "data" / "server1")
    disk.lock()
    yield disk
    disk.close()


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Both disks keep the same promises."""
    if request.param == "simulated":
        yield MemoryDisk()
        return
    disk = SystemDisk(tmp_path / "data")
    disk.lock()
    yield disk
    disk.close()


def test_a_directory_is_looked_at_without_a_change(tmp_path):
    disk = SystemDisk(tmp_path)
    disk.lock()
    disk.replace_file("identity", b"me")
    reader = SystemDisk(tmp_path)
    with pytest.raises(JournalError, match="in use by a server: stop it first"):
        reader.lock_to_read()
    disk.close()
    (tmp_path / "segment.tmp").write_bytes(b"half")
    before = sorted(tmp_path.iterdir())

    reader.lock_to_read()

    assert sorted(tmp_path.iterdir()) == before
    assert reader.names() == ["identity"]
    with pytest.raises(JournalError, match="in use by another server"):
        disk.lock()
    reader.close()
    disk.lock()
    disk.close()


def test_a_copy_of_a_directory_needs_no_lock_to_be_looked_at(tmp_path):
    reader = SystemDisk(tmp_path)

    reader.lock_to_read()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JournalError, match=f"{tmp_path}/none: .*Not a directory"):
        SystemDisk(tmp_path / "none").lock_to_read()


def test_a_file_is_replaced_whole(disk):
    assert disk.read_file("identity") is None

    disk.replace_file("identity", b"one")
    disk.replace_file("identity", b"second")

    assert disk.read_file("identity") == b"second"
    assert disk.names() == ["identity"]


def test_a_removed_file_is_gone(disk):
    disk.replace_file("identity", b"one")

    disk.remove_file("identity")
    disk.remove_file("identity")

    assert disk.names() == []


async def test_a_discarded_file_is_gone(disk):
    disk.replace_file("segment", b"one")

    await disk.discard_file("segment")
    await disk.discard_file("segment")

    assert disk.names() == []


async def test_a_file_that_cannot_be_discarded_is_an_error(system_disk, tmp_path):
    (tmp_path / "data" / "server1" / "segment").mkdir()

    with pytest.raises(JournalError, match="cannot remove"):
        await system_disk.discard_file("segment")


async def test_a_simulated_crash_may_bring_back_what_was_being_discarded():
    outcomes = set()
    for turns in range(6):
        for seed in range(5):
            disk = MemoryDisk()
            disk.put_file("segment", b"old")
            discarding = asyncio.ensure_future(disk.discard_file("segment"))
            for _ in range(turns):
                await asyncio.sleep(0)
            disk.crash(random.Random(seed))
            discarding.cancel()
            await asyncio.wait([discarding])
            outcomes.add((turns, disk.read_file("segment")))

    both = [turn for turn, content in outcomes if content is None]
    assert (0, b"old") in outcomes
    assert (min(both), b"old") in outcomes, "between removal and its sync, either"
    assert (5, b"old") not in outcomes


def test_a_created_file_is_zeros_of_its_full_size(disk):
    size = ZEROS_BYTES + 10
    file = disk.create_file("segment", size)

    assert file.size() == size
    assert file.read(0, size) == bytes(size)
    assert file.read(size - 4, 100) == bytes(4)
    file.close()


async def test_a_prepared_file_takes_the_place_of_one_of_its_name(disk):
    old = disk.create_file("segment", 10)
    old.write_and_sync_now(0, b"old")
    old.close()

    file = await disk.prepare_file("segment", 20)

    assert file.read(0, 20) == bytes(20)
    file.close()


async def test_what_is_written_is_read_also_through_another_handle(disk):
    file = disk.create_file("segment", 20)

    await file.write_and_sync(2, b"data", trailer=b"mark")
    file.write_and_sync_now(12, b"now", trailer=b"!")

    again = disk.open_file("segment")
    assert again.read(0, 20) == b"\0\0datamark\0\0now!\0\0\0\0"
    again.close()
    file.close()


def test_a_file_that_is_not_there_cannot_be_opened(disk):
    with pytest.raises(JournalError, match="No such file"):
        disk.open_file("segment")


async def test_a_staged_file_shows_only_when_it_is_whole(disk):
    disk.replace_file("snapshot", b"before")
    staged = disk.stage_file("snapshot")

    await staged.append(b"one")
    await staged.append(b"two")
    await staged.sync()

    assert await staged.read(1, 4) == b"netw"
    assert await staged.read(4, 100) == b"wo"
    assert disk.read_file("snapshot") == b"before"
    await staged.finish()
    staged.abandon()

    assert disk.read_file("snapshot") == b"onetwo"
    assert disk.names() == ["snapshot"]


async def test_an_abandoned_file_leaves_nothing(disk):
    staged, never_begun = disk.stage_file("snapshot"), disk.stage_file("snapshot")
    await staged.append(b"half")

    for file in (staged, never_begun):
        file.abandon()
        file.abandon()
        with pytest.raises(JournalError, match="is over"):
            await file.append(b"more")

    assert disk.names() == []


async def test_two_files_of_one_name_may_grow_at_once(disk):
    first, second = disk.stage_file("snapshot"), disk.stage_file("snapshot")
    await first.append(b"first")
    await second.append(b"second")

    await first.finish()
    second.abandon()
    await disk.compute(lambda: None)

    assert disk.read_file("snapshot") == b"first"


async def test_a_piece_of_a_file_is_read(disk):
    disk.replace_file("snapshot", b"abcdef")

    assert await disk.read_piece("snapshot", 2, 3) == b"cde"
    assert await disk.read_piece("snapshot", 4, 30) == b"ef"
    assert await disk.read_piece("snapshot", 9, 1) == b""
    with pytest.raises(JournalError, match="No such file"):
        await disk.read_piece("elsewhere", 0, 1)


async def test_what_is_computed_aside_comes_back_with_its_errors(disk):
    def fail() -> None:
        raise JournalError("odd")

    assert await disk.compute(lambda: 42) == 42
    with pytest.raises(JournalError, match="odd"):
        await disk.compute(fail)


async def test_a_snapshot_does_not_hold_up_the_journal(system_disk):
    gate = threading.Event()
    computing = asyncio.ensure_future(system_disk.compute(gate.wait))
    file = system_disk.create_file("segment", 1)

    await file.write_and_sync(0, b"x")

    assert not computing.done()
    gate.set()
    await computing
    file.close()


async def test_a_staged_file_on_a_full_disk_leaves_nothing(system_disk, monkeypatch):
    def fail(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    staged = system_disk.stage_file("snapshot")
    await staged.append(b"fits")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fail)
        with pytest.raises(JournalError, match="No space left"):
            await staged.append(b"does not")
    with pytest.raises(JournalError, match="is over"):
        await staged.finish()
    staged.abandon()

    assert system_disk.names() == []
    assert await left_unfinished(system_disk) == []


async def left_unfinished(disk: SystemDisk) -> list[str]:
    await disk.compute(lambda: None)
    return [file.name for file in disk._path.glob("*.tmp")]


async def test_the_syncs_of_a_staged_file_stay_short(system_disk, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))
    staged = system_disk.stage_file("snapshot")

    for _ in range(10):
        await staged.append(bytes(1 << 20))

    assert synced == [5 << 20, 10 << 20]
    staged.abandon()


def test_only_the_owner_may_look(system_disk, tmp_path):
    system_disk.replace_file("identity", b"me")
    system_disk.create_file("segment", 1).close()
    asyncio.run(staged(system_disk, b"s"))
    directory = tmp_path / "data" / "server1"

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def locked_once(directory: Path) -> list[str]:
    """Lock a directory, let go of it, and return what was logged."""
    disk = SystemDisk(directory)
    with capture_logs() as lines:
        disk.lock()
    disk.close()
    return [line["event"] for line in lines]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_others_could_look_at_is_closed_to_them_and_that_is_said(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "identity").write_bytes(b"me")
    (directory / "identity").chmod(0o644)
    directory.chmod(0o2755)

    told = locked_once(directory)

    assert told == ["data directory was open to others and is not any more"]
    assert mode_of(directory) == 0o2700
    assert {mode_of(file) for file in directory.iterdir()} == {0o600}
    assert (directory / "identity").read_bytes() == b"me"
    assert locked_once(directory) == []


@pytest.mark.parametrize("foreign", ["folder", "link"])
def test_a_directory_that_is_not_ours_alone_is_left_as_it_is(tmp_path, foreign):
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "theirs").write_bytes(b"")
    (directory / "theirs").chmod(0o644)
    if foreign == "folder":
        (directory / "folder").mkdir()
    else:
        (directory / "link").symlink_to(tmp_path / "elsewhere")

    told = locked_once(directory)

    assert told == ["data directory is open to others"]
    assert mode_of(directory) == 0o777
    assert mode_of(directory / "theirs") == 0o644


def test_a_directory_of_another_owner_is_left_as_it_is(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    assert locked_once(tmp_path) == ["data directory is open to others"]
    assert mode_of(tmp_path) == 0o755


def test_a_directory_serves_one_server_at_a_time(system_disk, tmp_path):
    directory = tmp_path / "data" / "server1"
    other = SystemDisk(directory)
    system_disk.lock()

    with pytest.raises(JournalError, match="in use by another server") as error:
        other.lock()
    assert str(directory) in str(error.value)
    with pytest.raises(JournalError, match="in use"):
        open_journal(other)

    system_disk.close()
    other.lock()
    other.close()


def test_what_was_left_half_made_is_cleared_away(tmp_path):
    (tmp_path / "segment.tmp").write_bytes(b"half")
    disk = SystemDisk(tmp_path)
    disk.lock()

    assert disk.names() == []
    assert not (tmp_path / "segment.tmp").exists()
    disk.close()


def test_a_directory_that_cannot_be_is_an_error_with_its_name(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(JournalError, match=r"cannot lock .*file"):
        SystemDisk(tmp_path / "file" / "data").lock()


async def test_a_failed_write_is_never_tried_again(system_disk, monkeypatch):
    file = system_disk.create_file("segment", 10)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(JournalError, match="Input/output error"):
            await file.write_and_sync(0, b"x")
    with pytest.raises(JournalError, match="not tried again"):
        await file.write_and_sync(0, b"x")
    file.close()


async def test_a_full_disk_leaves_no_file_behind(system_disk, monkeypatch):
    def fail(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", fail)

    with pytest.raises(JournalError, match="No space left"):
        await system_disk.prepare_file("segment", 10)
    with pytest.raises(JournalError, match="No space left"):
        system_disk.create_file("segment", 10)

    assert system_disk.names() == []


async def test_short_writes_are_completed(system_disk, monkeypatch):
    file = system_disk.create_file("segment", 10)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:2], at))

    await file.write_and_sync(1, b"abcdefg")

    assert file.read(0, 10) == b"\0abcdefg\0\0"
    file.close()


def test_offsets_beyond_4_gib_work(system_disk, tmp_path):
    file = system_disk.create_file("segment", 1)
    os.truncate(tmp_path / "data" / "server1" / "segment", 5 << 30)

    file.write_and_sync_now((5 << 30) - 4, b"far!")

    assert file.size() == 5 << 30
    assert file.read((5 << 30) - 5, 100) == b"\0far!"
    file.close()


async def test_closing_waits_for_the_write_in_flight(system_disk):
    file = system_disk.create_file("segment", 1 << 20)
    write = asyncio.ensure_future(file.write_and_sync(0, b"x" * (1 << 20)))
    await asyncio.sleep(0)

    file.close()
    file.close()
    await write

    assert (system_disk.read_file("segment") or b"")[-1:] == b"x"


async def staged(disk: Disk, *pieces: bytes) -> None:
    file = disk.stage_file("snapshot")
    for piece in pieces:
        await file.append(piece)
    await file.finish()


async def crash_after(turns: int, disk: MemoryDisk, seed: int) -> None:
    """Cut the power while a file is staged, at that await."""
    writing = asyncio.ensure_future(staged(disk, b"new", b"er"))
    for _ in range(turns):
        await asyncio.sleep(0)
    disk.crash(random.Random(seed))
    writing.cancel()
    await asyncio.wait([writing])
    disk.lock()


async def test_a_simulated_crash_leaves_a_staged_file_whole_or_not_at_all():
    outcomes = []
    for turns in range(12):
        for seed in range(5):
            disk = MemoryDisk()
            disk.put_file("snapshot", b"old")
            await crash_after(turns, disk, seed)
            outcomes.append((turns, disk.read_file("snapshot")))

    assert {content for _, content in outcomes} == {b"old", b"newer"}
    both = [turn for turn, content in outcomes if content == b"newer"]
    assert (min(both), b"old") in outcomes, "between renaming and its sync, either"
    assert (11, b"old") not in outcomes


async def test_a_simulated_disk_has_room_again_for_what_was_given_up():
    disk = MemoryDisk()
    disk.bytes_free = 10
    file = disk.stage_file("snapshot")
    await file.append(b"sixsix")
    with pytest.raises(JournalError, match="No space left"):
        await file.append(b"5more")
    file.abandon()
    assert disk.bytes_free == 10

    await staged(disk, b"sixsix")
    await disk.stage_file("snapshot").append(b"four")
    assert disk.bytes_free == 0
    disk.crash(random.Random(1))
    disk.lock()
    assert disk.bytes_free == 4
    disk.remove_file("snapshot")

    assert disk.bytes_free == 10


def open_file_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_file_that_nobody_waits_for_any_more_is_closed(system_disk):
    before = open_file_count()
    making = asyncio.ensure_future(system_disk.prepare_file("segment", 4 << 20))
    await asyncio.sleep(0)
    making.cancel()
    await asyncio.wait([making])
    system_disk.close()

    assert open_file_count() <= before


async def test_a_journal_lives_on_the_real_disk(tmp_path):
    disk = SystemDisk(tmp_path)
    journal = open_journal(disk, segment_bytes=64 << 10)
    wake = asyncio.Event()
    task = asyncio.create_task(journal.run(wake.set))
    journal.set_hard_state(4, "server2")
    for first in range(1, 1000, 100):
        journal.append(entries(first, 100, term=4, body=b"r" * 100))
        while journal.durable_position() < journal.position():
            wake.clear()
            await wake.wait()
    task.cancel()
    await asyncio.wait([task])
    truth = contents(journal)
    journal.close()
    disk.close()

    disk = SystemDisk(tmp_path)
    again = open_journal(disk, segment_bytes=64 << 10)

    assert contents(again) == truth
    assert again.durable_index() == 1000
    assert len(disk.names()) >= 3
    again.close()
    disk.close()


def test_a_simulated_crash_keeps_an_arbitrary_mixture():
    outcomes = set()
    for seed in range(60):
        disk = MemoryDisk(page_bytes=2)
        file = disk.create_file("segment", 6)
        file.write_and_sync_now(0, b"aabbcc")
        file.write_and_sync_now(0, b"", trailer=b"AA")
        file._write(2, b"BB")
        file._write(2, b"XX")
        disk.crash(random.Random(seed))
        outcomes.add(disk.read_file("segment"))
        with pytest.raises(JournalError, match="gone"):
            file.write_and_sync_now(0, b"x")

    assert {value[2:4] for value in outcomes if value} == {b"bb", b"BB", b"XX"}


def test_a_simulated_bit_flip_survives_a_crash():
    disk = MemoryDisk()
    disk.create_file("segment", 4)

    disk.flip_bit("segment", 9)
    disk.crash(random.Random(1))

    assert disk.read_file("segment") == b"\0\2\0\0"
