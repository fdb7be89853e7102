"""Snapshots that are sent here: checked as they come, and again when they are used."""

import errno
import hashlib

import pytest
from typing_extensions import override

from cluster.simulation.disk import MemoryDisk, StagedMemoryFile
from nodestate.errors import RequestError, SnapshotError
from nodestate.fsm.pieces import encode_pieces
from nodestate.ports import UploadedSnapshot
from nodestate.replication.snapshot_format import SnapshotEncoder, SnapshotMeta
from nodestate.replication.uploads import DiskUpload
from tests.fsm.states import full_state

META = SnapshotMeta(index=70, term=3)
PIECES = [piece for piece in encode_pieces(full_state()) if piece]


def file_of(pieces: list[bytes]) -> bytes:
    encoder = SnapshotEncoder()
    opening = encoder.opening(META)
    frames = [encoder.frame(pieces[n : n + 2]) for n in range(0, len(pieces), 2)]
    return b"".join([opening, *frames, encoder.footer()])


FILE = file_of(PIECES)


async def upload_of(content: bytes, disk: MemoryDisk, size: int = 100) -> DiskUpload:
    upload = DiskUpload(disk)
    for offset in range(0, len(content), size):
        await upload.add(content[offset : offset + size])
    return upload


@pytest.mark.parametrize("size", [1, 100, len(FILE)])
async def test_what_comes_in_slices_is_summed_up_and_read_back(size):
    upload = await upload_of(FILE, MemoryDisk(), size)

    uploaded = await upload.finish()

    joined = b"".join(PIECES)
    digest = hashlib.sha256(joined).digest()
    assert uploaded == UploadedSnapshot(
        index=70, term=3, byte_count=len(joined), sha256=digest
    )
    assert [piece async for piece in upload.pieces()] == PIECES


async def test_a_file_without_its_end_is_none():
    for length in range(0, len(FILE), 61):
        upload = await upload_of(FILE[:length], MemoryDisk(), 1000)
        with pytest.raises(RequestError, match="cannot be restored: it ends too early"):
            await upload.finish()


async def test_damage_is_found_wherever_it_is():
    for position in range(0, len(FILE), 61):
        spoilt = bytearray(FILE)
        spoilt[position] ^= 1
        with pytest.raises(RequestError, match="cannot be restored"):
            await (await upload_of(bytes(spoilt), MemoryDisk(), 1000)).finish()


async def test_a_disk_that_is_full_is_not_the_callers_fault():
    disk = MemoryDisk()
    disk.bytes_free = 150

    with pytest.raises(SnapshotError):
        await upload_of(FILE, disk)


async def test_a_disk_that_cannot_be_read_is_not_either():
    disk = MemoryDisk()
    upload = await upload_of(FILE, disk)
    await upload.finish()
    disk.failing["read"] = errno.EIO

    with pytest.raises(SnapshotError):
        _ = [piece async for piece in upload.pieces()]


async def test_nothing_is_left_of_it():
    disk = MemoryDisk()
    upload = await upload_of(FILE, disk)
    await upload.finish()

    upload.close()
    upload.close()

    assert disk.staged_bytes == 0
    assert disk.names() == []


async def test_what_the_disk_has_lost_since_is_missed():
    class Disk(MemoryDisk):
        @override
        def stage_file(self, name: str) -> StagedMemoryFile:
            self.staged = super().stage_file(name)
            return self.staged

    disk = Disk()
    upload = await upload_of(FILE, disk)
    await upload.finish()
    del disk.staged._data[-1:]

    with pytest.raises(RequestError, match="ends too early"):
        _ = [piece async for piece in upload.pieces()]
