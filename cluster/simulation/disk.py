"""A disk in memory that forgets as a real one does when the power goes.

What was written and not synced is kept apart, page by page and version by version, so
that a crash can leave any mixture of old and new. It also fails, fills up and rots on
demand.
"""

import asyncio
import errno
import os
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nodestate.errors import JournalError

T = TypeVar("T")

PAGE_BYTES: Final = 512


async def _no_delay() -> None:
    await asyncio.sleep(0)


def _tell_nobody(name: str, durable: bytearray) -> None:
    del name, durable


class MemoryDisk:
    """One server's data directory; it outlives the server that uses it.

    `delay` is awaited between a write and its sync, and wherever a real disk works on a
    thread. `failing` maps an action ("read", "write", "sync", "create", "remove") to the
    `errno` it fails with for as long as it is there. `bytes_free` bounds what can still
    be created. `on_sync` is told the name and the durable bytes after each sync of a file
    that is written in place.
    """

    def __init__(
        self,
        *,
        page_bytes: int = PAGE_BYTES,
        delay: Callable[[], Awaitable[None]] = _no_delay,
    ) -> None:
        self.page_bytes = page_bytes
        self.delay = delay
        self.on_sync: Callable[[str, bytearray], None] = _tell_nobody
        self.failing: dict[str, int] = {}
        self.bytes_free: int | None = None
        self.sync_count = 0
        self.power_cycle = 0
        self.staged_bytes = 0
        self._contents: dict[str, _Content] = {}
        # What a name stood for, for as long as its renaming or removal is not durable.
        self._replaced: dict[str, _Content | None] = {}

    def lock(self) -> None:
        """Clear away what was left half made, and sync the directory."""
        self.free(self.staged_bytes)
        self.staged_bytes = 0
        self._replaced.clear()

    def names(self) -> list[str]:
        """Return the names of the files."""
        return sorted(self._contents)

    def read_file(self, name: str) -> bytes | None:
        """Return the whole file as the system sees it."""
        self.check("read", name)
        content = self._contents.get(name)
        return None if content is None else bytes(content.seen)

    def replace_file(self, name: str, content: bytes) -> None:
        """Replace it at once and durably."""
        self.check("create", name)
        self._contents[name] = _Content(bytearray(content))

    def remove_file(self, name: str) -> None:
        """Remove it at once and durably."""
        content = self._contents.pop(name, None)
        self._replaced.pop(name, None)
        if content is not None:
            self.free(len(content.seen))

    async def discard_file(self, name: str) -> None:
        """Remove it after a while; the power may go before and after the removal."""
        power_cycle = self.power_cycle
        await self.delay()
        self.check_power(power_cycle)
        self.check("remove", name)
        content = self._contents.pop(name, None)
        if content is not None:
            self._replaced.setdefault(name, content)
        await self.delay()
        self.check_power(power_cycle)
        self.sync_name(name)

    def create_file(self, name: str, bytes_allocated: int) -> "MemoryFile":
        """Make a file of zeros, if there is room."""
        self.check("create", name)
        self.take("create", name, bytes_allocated)
        self._contents[name] = _Content(bytearray(bytes_allocated))
        return self.open_file(name)

    async def prepare_file(self, name: str, bytes_allocated: int) -> "MemoryFile":
        """Make it after a while; a crash in between leaves nothing."""
        power_cycle = self.power_cycle
        await self.delay()
        self.check_power(power_cycle)
        return self.create_file(name, bytes_allocated)

    def open_file(self, name: str) -> "MemoryFile":
        """Open a file that is there."""
        if name not in self._contents:
            raise JournalError(f"cannot open {name}: {os.strerror(errno.ENOENT)}")
        return MemoryFile(self, name, self._contents[name])

    def stage_file(self, name: str) -> "StagedMemoryFile":
        """Begin a file that nothing is left of unless it is finished."""
        return StagedMemoryFile(self, name)

    async def read_piece(self, name: str, offset: int, length: int) -> bytes:
        """Read it after a while."""
        power_cycle = self.power_cycle
        await self.delay()
        self.check_power(power_cycle)
        return self.open_file(name).read(offset, length)

    async def compute(self, work: Callable[[], T]) -> T:
        """Do it after a while."""
        power_cycle = self.power_cycle
        await self.delay()
        self.check_power(power_cycle)
        return work()

    def rename_over(self, name: str, data: bytes) -> None:
        """Have a synced file under its name, until a power cut decides otherwise."""
        self._replaced.setdefault(name, self._contents.get(name))
        self._contents[name] = _Content(bytearray(data))

    def sync_name(self, name: str) -> None:
        """Make a renaming durable; only then is there room again."""
        replaced = self._replaced.pop(name, None)
        if replaced is not None:
            self.free(len(replaced.seen))

    def kill(self) -> None:
        """End the process that used the disk; the system keeps what it was told."""
        self.power_cycle += 1

    def crash(self, rng: random.Random) -> None:
        """Cut the power: any subset of the unsynced pages survives, in any version."""
        self.power_cycle += 1
        for name, replaced in sorted(self._replaced.items()):
            if rng.random() < 0.5:
                self._contents.pop(name, None)
                if replaced is not None:
                    self._contents[name] = replaced
        self._replaced.clear()
        for content in self._contents.values():
            content.crash(rng, self.page_bytes)

    def used_bytes(self, name: str) -> int:
        """Return how much of a file was written, zeros at its end left out."""
        return len(self._contents[name].seen.rstrip(b"\0"))

    def durable_names(self) -> list[str]:
        """Return the names of the files whose naming a power cut cannot undo."""
        return [name for name in self.names() if name not in self._replaced]

    def flip_bit(self, name: str, bit: int) -> None:
        """Let one bit of a file rot."""
        content = self._contents[name]
        for data in (content.seen, content.durable):
            data[bit // 8] ^= 1 << (bit % 8)

    def put_file(self, name: str, data: bytes) -> None:
        """Have exactly these bytes in the file, for tests that damage it."""
        self._contents[name] = _Content(bytearray(data))

    def take(self, action: str, name: str, byte_count: int) -> None:
        """Use up room, or fail for want of it."""
        if self.bytes_free is not None:
            if self.bytes_free < byte_count:
                text = os.strerror(errno.ENOSPC)
                raise JournalError(f"cannot {action} {name}: {text}")
            self.bytes_free -= byte_count

    def free(self, byte_count: int) -> None:
        """Give room back."""
        if self.bytes_free is not None:
            self.bytes_free += byte_count

    def check(self, action: str, name: str) -> None:
        """Fail if this action is to fail."""
        if action in self.failing:
            text = os.strerror(self.failing[action])
            raise JournalError(f"cannot {action} {name}: {text}")

    def check_power(self, power_cycle: int) -> None:
        """Fail for a process that has not survived."""
        if power_cycle != self.power_cycle:
            raise JournalError("the server that opened this file is gone")


class MemoryFile:
    """One server's handle of a file; of no use after a crash."""

    def __init__(self, disk: MemoryDisk, name: str, content: "_Content") -> None:
        self._disk = disk
        self._name = name
        self._content = content
        self._power_cycle = disk.power_cycle
        self._has_failed = False

    def size(self) -> int:
        """Return how long it is."""
        return len(self._content.seen)

    def read(self, offset: int, length: int) -> bytes:
        """Return what the system sees, durable or not."""
        self._disk.check("read", self._name)
        return bytes(self._content.seen[offset : offset + length])

    async def write_and_sync(
        self, offset: int, data: bytes, *, trailer: bytes = b""
    ) -> None:
        """Write, wait as the disk does, sync, write the trailer."""
        self._write(offset, data)
        await self._disk.delay()
        self._sync()
        self._write(offset + len(data), trailer)

    def write_and_sync_now(
        self, offset: int, data: bytes, *, trailer: bytes = b""
    ) -> None:
        """Do the same without waiting."""
        self._write(offset, data)
        self._sync()
        self._write(offset + len(data), trailer)

    def close(self) -> None:
        """Do nothing: memory needs no closing."""

    def _write(self, offset: int, data: bytes) -> None:
        self._check("write")
        self._content.write(offset, data, self._disk.page_bytes)

    def _sync(self) -> None:
        try:
            self._check("sync")
        except JournalError:
            # The system forgets that the pages were never written, and says so once.
            self._content.unsynced.clear()
            raise
        self._disk.sync_count += 1
        self._content.sync(self._disk.page_bytes)
        self._disk.on_sync(self._name, self._content.durable)

    def _check(self, action: str) -> None:
        self._disk.check_power(self._power_cycle)
        if self._has_failed:
            raise JournalError(f"{self._name} has failed before and is not tried again")
        try:
            self._disk.check(action, self._name)
        except JournalError:
            self._has_failed = True
            raise


class StagedMemoryFile:
    """A file that a crash, of the process or of the power, leaves nothing of."""

    def __init__(self, disk: MemoryDisk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._data = bytearray()
        self._power_cycle = disk.power_cycle
        self._is_over = False

    async def append(self, data: bytes) -> None:
        """Write after a while, if there is room."""
        await self._work("write")
        self._disk.take("write", self._name, len(data))
        self._disk.staged_bytes += len(data)
        self._data += data
        self._is_over = False

    async def sync(self) -> None:
        """Sync after a while."""
        await self._work("sync")
        self._disk.sync_count += 1
        self._is_over = False

    async def read(self, offset: int, length: int) -> bytes:
        """Read after a while."""
        await self._work("read")
        self._is_over = False
        return bytes(self._data[offset : offset + length])

    async def finish(self) -> None:
        """Sync, rename, sync the directory; the power may go before and after each."""
        await self.sync()
        await self._work("sync")
        self._disk.rename_over(self._name, bytes(self._data))
        self._disk.staged_bytes -= len(self._data)
        self._data.clear()
        await self._work_on("sync")
        self._disk.sync_name(self._name)

    def abandon(self) -> None:
        """Forget it at once."""
        if self._power_cycle == self._disk.power_cycle:
            self._disk.free(len(self._data))
            self._disk.staged_bytes -= len(self._data)
        self._data.clear()
        self._is_over = True

    async def _work(self, action: str) -> None:
        """Take a while; until the caller says otherwise, that was the end of the file."""
        if self._is_over:
            raise JournalError(f"{self._name} is over and not tried again")
        self._is_over = True
        await self._work_on(action)

    async def _work_on(self, action: str) -> None:
        await self._disk.delay()
        self._disk.check_power(self._power_cycle)
        self._disk.check(action, self._name)


class _Content:
    """A file's bytes: as the system sees them, as they are on disk, and in between."""

    def __init__(self, durable: bytearray) -> None:
        self.durable = durable
        self.seen = bytearray(durable)
        self.unsynced: dict[int, list[bytes]] = {}

    def write(self, offset: int, data: bytes, page_bytes: int) -> None:
        if not data:
            return
        end = offset + len(data)
        assert end <= len(self.seen), "journal files never grow"
        self.seen[offset:end] = data
        for page in range(offset // page_bytes, (end - 1) // page_bytes + 1):
            start = page * page_bytes
            version = bytes(self.seen[start : start + page_bytes])
            self.unsynced.setdefault(page, []).append(version)

    def sync(self, page_bytes: int) -> None:
        for page, versions in self.unsynced.items():
            start = page * page_bytes
            self.durable[start : start + page_bytes] = versions[-1]
        self.unsynced.clear()

    def crash(self, rng: random.Random, page_bytes: int) -> None:
        for page, versions in sorted(self.unsynced.items()):
            survivor = rng.randrange(len(versions) + 1)
            if survivor > 0:
                start = page * page_bytes
                self.durable[start : start + page_bytes] = versions[survivor - 1]
        self.unsynced.clear()
        self.seen = bytearray(self.durable)
