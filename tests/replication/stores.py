"""Snapshots without files: what is said of them, and a store that a test can hold up."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.state import State
from nodestate.replication.snapshot_format import SnapshotMeta
from nodestate.replication.snapshots import SnapshotInfo

BYTES_MAX = 1 << 30
DIGEST_BYTES = 32


def meta(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index=index, term=term, configuration=b"members")


def snapshot(index: int, *, term: int = 1, byte_count: int = 1000) -> SnapshotInfo:
    return SnapshotInfo(
        index=index,
        term=term,
        configuration=b"members",
        configuration_index=1,
        cluster_id="c",
        byte_count=byte_count,
        name=f"snapshot-{index}",
    )


def content(index: int, byte_count: int) -> bytes:
    """Return a file of that size, with a sum at its end."""
    text = f"{index},".encode()
    body = (text * (byte_count // len(text) + 1))[: byte_count - DIGEST_BYTES]
    return body + hashlib.sha256(body).digest()


class FakeStore:
    """Keeps files in memory; `before` holds up a step of a test's choice, or fails it."""

    def __init__(self) -> None:
        self.files: dict[SnapshotInfo, bytes] = {}
        self.staged: list[FakeReceiving] = []
        self.steps: list[str] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}

    def put(self, index: int, byte_count: int, *, term: int = 1) -> SnapshotInfo:
        info = snapshot(index, term=term, byte_count=byte_count)
        self.files[info] = content(index, byte_count)
        return info

    def remove(self, info: SnapshotInfo) -> None:
        del self.files[info]

    def fail(self, step: str, error: Exception) -> None:
        async def raise_it() -> None:
            raise error

        self.before[step] = raise_it

    def hold(self, step: str) -> asyncio.Event:
        event = asyncio.Event()

        async def wait() -> None:
            await event.wait()

        self.before[step] = wait
        return event

    async def reach(self, step: str) -> None:
        self.steps.append(step)
        await asyncio.sleep(0)
        if step in self.before:
            await self.before[step]()

    def newest(self) -> SnapshotInfo | None:
        return max(self.files, key=lambda info: info.index, default=None)

    async def read_piece(self, info: SnapshotInfo, offset: int, length: int) -> bytes:
        await self.reach("read")
        if info not in self.files:
            raise JournalError(f"cannot open {info.name}")
        return self.files[info][offset : offset + length]

    def receive(self, index: int, term: int, byte_count: int) -> "FakeReceiving":
        if byte_count > BYTES_MAX:
            raise SnapshotError(f"snapshot of {byte_count} bytes is too large")
        return FakeReceiving(self, index, term)


class FakeReceiving:
    """A file out of sight until it is finished."""

    def __init__(self, store: FakeStore, index: int, term: int) -> None:
        self._store = store
        self._index = index
        self._term = term
        self._data = b""
        store.staged.append(self)

    async def add(self, offset: int, data: bytes) -> None:
        assert offset == len(self._data)
        await self._store.reach("add")
        self._data += data

    async def finish(self) -> tuple[SnapshotInfo, State]:
        await self._store.reach("verify")
        body, digest = self._data[:-DIGEST_BYTES], self._data[-DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            raise SnapshotError("checksum differs")
        await self._store.reach("load")
        state = State()
        state.indexes["nodes"] = self._index
        await self._store.reach("keep")
        info = snapshot(self._index, term=self._term, byte_count=len(self._data))
        self._store.files[info] = self._data
        self._store.staged.remove(self)
        return info, state

    def abandon(self) -> None:
        if self in self._store.staged:
            self._store.staged.remove(self)
