"""The real disk: a data directory of one server.

Only this module touches files. Every `OSError` becomes a `JournalError` that names the
file and what was tried.
"""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import structlog

from nodestate.errors import JournalError

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOCK_NAME: Final = "lock"
UNFINISHED_SUFFIX: Final = ".tmp"
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
OTHERS_MASK: Final = 0o077
ZEROS_BYTES: Final = 1 << 20
"""How much is preallocated at a time: a sync of each keeps other syncs short."""
STAGED_BYTES_UNSYNCED_MAX: Final = 4 << 20
"""How much of a staged file may wait for a sync, for the same reason."""


class SystemDisk:
    """The files in one directory, and the three threads that write them.

    One thread writes and syncs the journal; one makes new files and one has to do with
    snapshots, so that the first never waits behind a whole segment of zeros, nor behind
    a state.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None
        self._writer = ThreadPoolExecutor(1, "journal-writer")
        self._maker = ThreadPoolExecutor(1, "journal-maker")
        self._snapshot_writer = ThreadPoolExecutor(1, "snapshot-writer")
        self._staged_count = 0

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
            _close_to_others(self._path)
            _sync_directory(self._path)
            for leftover in self._path.glob(f"*{UNFINISHED_SUFFIX}"):
                leftover.unlink()

    def lock_to_read(self) -> None:
        """Keep servers out while a directory is looked at, without a change to it."""
        with _as_journal_error("lock", self._path):
            if not self._path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            try:
                lock = os.open(self._path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                # A copy that somebody made: no server uses it.
                return
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(lock)
                raise JournalError(
                    f"data directory {self._path} is in use by a server: stop it first"
                ) from error
            self._lock = lock

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
            descriptor = _create_unfinished(_unfinished(path))
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

    async def discard_file(self, name: str) -> None:
        """Do that on the second thread: to free a whole segment takes its time."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._maker, self.remove_file, name)

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

    def stage_file(self, name: str) -> "StagedSystemFile":
        """Begin a file under a name of its own."""
        self._staged_count += 1
        return StagedSystemFile(
            self._path_of(name),
            self._path_of(f"{name}.{self._staged_count}{UNFINISHED_SUFFIX}"),
            self._snapshot_writer,
        )

    async def read_piece(self, name: str, offset: int, length: int) -> bytes:
        """Open, read and close it on the third thread."""
        path = self._path_of(name)
        return await self.compute(lambda: _read_piece(path, offset, length))

    async def compute(self, work: Callable[[], T]) -> T:
        """Do it on the third thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._snapshot_writer, work)

    def close(self) -> None:
        """Wait for the threads, and let another server in; close the files first."""
        self._writer.shutdown()
        self._maker.shutdown()
        self._snapshot_writer.shutdown()
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
        """Ask until there is no more."""
        with _as_journal_error("read", self._path):
            return _read_all(self._descriptor, offset, length)

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


class StagedSystemFile:
    """A file that is written on the snapshots' thread, under another name until it is whole.

    What is below the public methods runs on that thread alone.
    """

    def __init__(
        self, path: Path, unfinished: Path, writer: ThreadPoolExecutor
    ) -> None:
        self._path = path
        self._unfinished = unfinished
        self._writer = writer
        self._descriptor: int | None = None
        self._size = 0
        self._bytes_unsynced = 0
        self._is_over = False

    async def append(self, data: bytes) -> None:
        """Write it, and sync now and then: one sync of it all would hold up others."""
        await self._run(self._append, data)

    async def sync(self) -> None:
        """Sync, and have the system forget what it could answer from memory."""
        await self._run(self._sync)

    async def read(self, offset: int, length: int) -> bytes:
        """Read it on the thread that writes."""
        return await self._run(self._read, offset, length)

    async def finish(self) -> None:
        """Sync, rename, sync the directory."""
        await self._run(self._finish)

    def abandon(self) -> None:
        """Leave the removal to the thread, behind what it is doing."""
        self._writer.submit(self._abandon)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, work, *arguments)

    def _append(self, data: bytes) -> None:
        with self._working() as descriptor:
            _write_all(descriptor, data, self._size)
            self._size += len(data)
            self._bytes_unsynced += len(data)
            if self._bytes_unsynced > STAGED_BYTES_UNSYNCED_MAX:
                os.fdatasync(descriptor)
                self._bytes_unsynced = 0

    def _sync(self) -> None:
        with self._working() as descriptor:
            os.fdatasync(descriptor)
            self._bytes_unsynced = 0
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _read(self, offset: int, length: int) -> bytes:
        with self._working() as descriptor:
            return _read_all(descriptor, offset, length)

    def _finish(self) -> None:
        with self._working() as descriptor:
            os.fsync(descriptor)
            self._unfinished.replace(self._path)
            _sync_directory(self._path.parent)
        self._close()

    def _abandon(self) -> None:
        if self._descriptor is None:
            self._is_over = True
            return
        self._close()
        # What cannot be removed is cleared away at the next start.
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)

    @contextmanager
    def _working(self) -> Iterator[int]:
        """Give the descriptor; whatever goes wrong is the end of the file."""
        if self._is_over:
            raise JournalError(f"{self._unfinished} is over and not tried again")
        with _as_journal_error("write", self._unfinished):
            if self._descriptor is None:
                self._descriptor = _create_unfinished(self._unfinished)
            self._is_over = True
            yield self._descriptor
            self._is_over = False

    def _close(self) -> None:
        self._is_over = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _close_to_others(directory: Path) -> None:
    """Take from others what a directory or a file in it lets them do, and say so.

    Both are made closed; this is for what was there before: a directory that systemd or
    a person made, files out of a backup. A directory that is not our own, or holds more
    than our plain files (`data_dir = "/tmp"`), is left as it is.
    """
    status = directory.stat()
    is_open = bool(stat.S_IMODE(status.st_mode) & OTHERS_MASK)
    entries = list(directory.iterdir())
    is_ours = status.st_uid == os.geteuid() and all(
        entry.is_file() and not entry.is_symlink() for entry in entries
    )
    if not is_ours:
        if is_open:
            log.warning("data directory is open to others", path=str(directory))
        return
    wide = [each for each in (directory, *entries) if each.stat().st_mode & OTHERS_MASK]
    for each in wide:
        each.chmod(stat.S_IMODE(each.stat().st_mode) & ~OTHERS_MASK)
    if wide:
        log.warning(
            "data directory was open to others and is not any more",
            path=str(directory),
            mode=f"{stat.S_IMODE(status.st_mode):04o}",
            entry_count=len(wide),
        )


@contextmanager
def _as_journal_error(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"cannot {action} {path}: {error}") from error


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED_SUFFIX)


def _create_unfinished(unfinished: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.open(unfinished, flags, FILE_MODE)


def _finish(path: Path) -> None:
    _unfinished(path).replace(path)
    _sync_directory(path.parent)


def _allocate(path: Path, bytes_allocated: int) -> int:
    """Write the zeros: reserved blocks that were never written cost a sync extra."""
    with _as_journal_error("create", path):
        descriptor = _create_unfinished(_unfinished(path))
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


def _read_piece(path: Path, offset: int, length: int) -> bytes:
    with _as_journal_error("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read_all(descriptor, offset, length)
        finally:
            os.close(descriptor)


def _read_all(descriptor: int, offset: int, length: int) -> bytes:
    """Read until there is no more; one call of the system gives 2 GiB at most."""
    pieces: list[bytes] = []
    while length > 0:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


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
