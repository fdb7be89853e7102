import asyncio
import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_only_the_owner_may_look(system_disk, tmp_path):
    system_disk.replace_file("identity", b"me")
    system_disk.create_file("segment", 1).close()
    directory = tmp_path / "data" / "server1"

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


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
