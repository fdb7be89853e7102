"""Snapshots that an operator sends, to be restored: checked whole, then read again.

The file lies beside the others under a name of its own, which no server takes for a
snapshot of its log, and is gone when it is closed or the server stops.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Final

from nodestate.errors import JournalError, RequestError, SnapshotError
from nodestate.ports import Disk, UploadedSnapshot
from nodestate.replication.snapshot_format import SnapshotScanner, decode_frame

FILE_NAME: Final = "restore.snap"
READ_BYTES: Final = 1 << 20


class DiskUpload:
    """`ports.SnapshotUpload` on a server's disk; the work is done off the loop."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._staged = disk.stage_file(FILE_NAME)
        self._scanner = SnapshotScanner()
        self._sha256 = sha256()
        self._piece_bytes = 0

    async def add(self, data: bytes) -> None:
        """Keep it, check it, and sum up the pieces of the state that are whole with it."""
        with _naming():
            await self._staged.append(data)
            for piece in await self._pieces_in(self._scanner, data):
                self._sha256.update(piece)
                self._piece_bytes += len(piece)

    async def finish(self) -> UploadedSnapshot:
        """Return what it is; `RequestError` if its end is missing."""
        with _naming():
            meta = self._scanner.finish()
        return UploadedSnapshot(
            index=meta.index,
            term=meta.term,
            byte_count=self._piece_bytes,
            sha256=self._sha256.digest(),
        )

    async def pieces(self) -> AsyncIterator[bytes]:
        """Read it back, and check it again: it has been on a disk meanwhile."""
        scanner = SnapshotScanner()
        offset = 0
        with _naming():
            while data := await self._staged.read(offset, READ_BYTES):
                offset += len(data)
                for piece in await self._pieces_in(scanner, data):
                    yield piece
            scanner.finish()

    def close(self) -> None:
        """Remove the file."""
        self._staged.abandon()

    async def _pieces_in(self, scanner: SnapshotScanner, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        for payload in await self._disk.compute(partial(scanner.feed, data)):
            pieces += await self._disk.compute(partial(decode_frame, payload))
        return pieces


@contextmanager
def _naming() -> Iterator[None]:
    """Tell what is wrong with the file from what is wrong with the disk."""
    try:
        yield
    except SnapshotError as error:
        raise RequestError(f"the snapshot cannot be restored: {error}") from error
    except JournalError as error:
        raise SnapshotError(str(error)) from error
