"""The real disk: a data directory of one server.

Only this module touches files. Every `OSError` becomes a `JournalError` that names the
file and what was tried.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nodestate.errors import JournalError

LOCK_NAME: Final = "lock"
UNFINISHED_SUFFIX: Final = ".tmp"
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
ZEROS_BYTES: Final = 1 << 20
"""How much is preallocated at a time: a sync of each keeps other syncs short."""


class SystemDisk:
    """The files in one directory, and the two threads that write them.

    One thread writes and syncs; the other makes new files, so that the first never
    waits behind a whole segment of zeros.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None
        self._writer = ThreadPoolExecutor(1, "journal-writer")
        self._maker = ThreadPoolExecutor(1, "journal-maker")

    def lock(self) -> None:
        """Make the directory if need be, and keep every other server out of it."""
        if self._lock is not None:
            return
        with _as_journal_error("lock", self._path):
            self._path.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            lock = os.open(
                self._path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE
            )
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(lock)
                raise JournalError(
                    f"data directory {self._path} is in use by another server"
                ) from error
            self._lock = lock
            _sync_directory(self._path)
            for leftover in self._path.glob(f"*{UNFINISHED_SUFFIX}"):
                leftover.unlink()

    def names(self) -> list[str]:
        """Return what is here, without the lock and what was left half made."""
        with _as_journal_error("list", self._path):
            return sorted(
                file.name
                for file in self._path.iterdir()
                if file.name != LOCK_NAME and file.suffix != UNFINISHED_SUFFIX
            )

    def read_file(self, name: str) -> bytes | None:
        """Return the whole file, or `None` if there is none."""
        path = self._path_of(name)
        with _as_journal_error("read", path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def replace_file(self, name: str, content: bytes) -> None:
        """Write beside it, sync, rename, sync the directory."""
        path = self._path_of(name)
        with _as_journal_error("write", path):
            descriptor = _create_unfinished(path)
            try:
                _write_all(descriptor, content, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _finish(path)

    def remove_file(self, name: str) -> None:
        """Remove it and sync the directory."""
        path = self._path_of(name)
        with _as_journal_error("remove", path):
            path.unlink(missing_ok=True)
            _sync_directory(self._path)

    def create_file(self, name: str, bytes_allocated: int) -> "SystemFile":
        """Write zeros, sync, rename, sync the directory."""
        path = self._path_of(name)
        return SystemFile(path, _allocate(path, bytes_allocated), self._writer)

    async def prepare_file(self, name: str, bytes_allocated: int) -> "SystemFile":
        """Do that on the second thread."""
        path = self._path_of(name)
        future = self._maker.submit(_allocate, path, bytes_allocated)
        try:
            descriptor = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # The thread may be done, or not to be stopped: nobody waits for its file.
            future.add_done_callback(_close_unwanted)
            raise
        return SystemFile(path, descriptor, self._writer)

    def open_file(self, name: str) -> "SystemFile":
        """Open it for reading and writing."""
        path = self._path_of(name)
        with _as_journal_error("open", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return SystemFile(path, descriptor, self._writer)

    def close(self) -> None:
        """Wait for the threads, and let another server in; close the files first."""
        self._writer.shutdown()
        self._maker.shutdown()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _path_of(self, name: str) -> Path:
        assert name == Path(name).name, name
        assert name != LOCK_NAME
        return self._path / name


class SystemFile:
    """A file whose writes and syncs happen on the writer thread, one after another."""

    def __init__(self, path: Path, descriptor: int, writer: ThreadPoolExecutor) -> None:
        self._path = path
        self._descriptor = descriptor
        self._writer = writer
        self._has_failed = False
        self._is_closed = False

    def size(self) -> int:
        """Ask the system."""
        with _as_journal_error("measure", self._path):
            return os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Read until there is no more; one call gives 2 GiB at most."""
        pieces: list[bytes] = []
        with _as_journal_error("read", self._path):
            while length > 0:
                piece = os.pread(self._descriptor, length, offset)
                if not piece:
                    break
                pieces.append(piece)
                offset += len(piece)
                length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def write_and_sync(
        self, offset: int, data: bytes, *, trailer: bytes = b""
    ) -> None:
        """Hand all of it to the writer thread in one hop."""
        await asyncio.get_running_loop().run_in_executor(
            self._writer, self._write, offset, data, trailer
        )

    def write_and_sync_now(
        self, offset: int, data: bytes, *, trailer: bytes = b""
    ) -> None:
        """Do it on the writer thread all the same, and wait."""
        self._writer.submit(self._write, offset, data, trailer).result()

    def close(self) -> None:
        """Close after whatever the writer thread still has to do with it."""
        if not self._is_closed:
            self._is_closed = True
            self._writer.submit(os.close, self._descriptor).result()

    def _write(self, offset: int, data: bytes, trailer: bytes) -> None:
        if self._has_failed:
            raise JournalError(f"{self._path} has failed before and is not tried again")
        # True until it is done, so that no way out of here leaves it usable.
        self._has_failed = True
        with _as_journal_error("write", self._path):
            _write_all(self._descriptor, data, offset)
            os.fdatasync(self._descriptor)
            _write_all(self._descriptor, trailer, offset + len(data))
        self._has_failed = False


@contextmanager
def _as_journal_error(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"cannot {action} {path}: {error}") from error


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED_SUFFIX)


def _create_unfinished(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.open(_unfinished(path), flags, FILE_MODE)


def _finish(path: Path) -> None:
    _unfinished(path).replace(path)
    _sync_directory(path.parent)


def _allocate(path: Path, bytes_allocated: int) -> int:
    """Write the zeros: reserved blocks that were never written cost a sync extra."""
    with _as_journal_error("create", path):
        descriptor = _create_unfinished(path)
        try:
            for offset in range(0, bytes_allocated, ZEROS_BYTES):
                length = min(ZEROS_BYTES, bytes_allocated - offset)
                _write_all(descriptor, bytes(length), offset)
                os.fdatasync(descriptor)
            os.fsync(descriptor)
            _finish(path)
        except BaseException:
            os.close(descriptor)
            _unfinished(path).unlink(missing_ok=True)
            raise
    return descriptor


def _close_unwanted(future: Future[int]) -> None:
    if not future.cancelled() and future.exception() is None:
        os.close(future.result())


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
