"""Compaction: when to write a snapshot, and what may go once it is there.

A snapshot is due after so many entries or bytes since the last one. It is written by a
task, from a copy of the state, while the server goes on. Only when it is durable and
verified does the journal let go of what it covers, all but a tail: a follower that is a
little behind needs no snapshot then.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog

from nodestate.clock import Clock
from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.state import State
from nodestate.ports import Metrics, Spawner
from nodestate.replication.snapshot_format import SnapshotMeta
from nodestate.replication.snapshots import SnapshotInfo

BACKOFF_S_MIN: Final = 1.0
BACKOFF_S_MAX: Final = 60.0
KEPT: Final = 2
KEPT_IN_USE: Final = 6
"""So many while one is on its way, or it would be gone before it has arrived."""
NOT_NOW: Final = "no snapshot can be taken now"
STOPPED: Final = "the server stopped before the snapshot was written"


class Limits(NamedTuple):
    """When a snapshot is due, and how many entries before its end are kept."""

    entries_max: int
    bytes_max: int
    tail_entries: int


class _Applied(NamedTuple):
    """How much this server has applied since it started."""

    entry_count: int
    byte_count: int


class Capture(NamedTuple):
    """What a snapshot is written from: a moment, and a copy of the state as it was."""

    meta: SnapshotMeta
    state: State


class Store(Protocol):
    """Where snapshots are kept, as `snapshots.SnapshotStore` does it."""

    def newest(self) -> SnapshotInfo | None:
        """Return the newest one."""

    async def write(self, meta: SnapshotMeta, state: State) -> SnapshotInfo:
        """Return once it is durable and verified."""

    async def prune(self, keep: int) -> None:
        """Remove all but the newest ones."""


class Log(Protocol):
    """What lets go of entries, as `journal.Journal` does it."""

    async def compact(self, keep_from: int) -> None:
        """Let go of the entries before `keep_from`."""


class Compactor:
    """Keeps the log short; one snapshot at a time.

    Call `note_applied` for every entry and `start_if_due` now and then, both on the loop.
    """

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        limits: Limits,
        *,
        capture: Callable[[], Capture | None],
        oldest_in_use: Callable[[], int | None],
        store: Store,
        journal: Log,
        clock: Clock,
        spawner: Spawner,
        metrics: Metrics,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        """`capture` returns `None` where no snapshot can be taken now.

        `oldest_in_use` returns the index of the oldest snapshot that is on its way to a
        follower: what that follower will ask for next, the entries behind it, stays.
        """
        self._limits = limits
        self._capture = capture
        self._oldest_in_use = oldest_in_use
        self._store = store
        self._journal = journal
        self._clock = clock
        self._spawner = spawner
        self._logger = logger
        self._applied = _Applied(0, 0)
        # As much of it as the newest snapshot has.
        self._covered = _Applied(0, 0)
        # From the capture until the journal has let go; its result, once durable.
        self._under_way: asyncio.Future[SnapshotInfo] | None = None
        self._backoff_s = 0.0
        self._not_before_s = 0.0
        self._declare(metrics)

    def note_applied(self, entry_bytes: int) -> None:
        """Count an entry that was applied."""
        entry_count, byte_count = self._applied
        self._applied = _Applied(entry_count + 1, byte_count + entry_bytes)

    def note_installed(self) -> None:
        """Begin to count anew: the state is that of a snapshot from elsewhere."""
        self._covered = self._applied

    def start_if_due(self) -> None:
        """Begin to write a snapshot if it is time."""
        if not self._is_due():
            return
        if self._under_way is not None:
            return
        if self._clock.monotonic_s() < self._not_before_s:
            return
        captured = self._capture()
        if captured is not None:
            self._start(captured)

    async def write_now(self) -> SnapshotInfo:
        """Return the snapshot that is under way once it is durable, or one of now.

        Raises `SnapshotError` if it cannot be written. Cancelling this does not end the
        writing.
        """
        if self._under_way is None:
            captured = self._capture()
            if captured is None:
                raise SnapshotError(NOT_NOW)
            self._start(captured)
        assert self._under_way is not None
        return await asyncio.shield(self._under_way)

    def _is_due(self) -> bool:
        if self._entries_since() >= self._limits.entries_max:
            return True
        bytes_since = self._applied.byte_count - self._covered.byte_count
        return bytes_since >= self._limits.bytes_max

    def _entries_since(self) -> int:
        return self._applied.entry_count - self._covered.entry_count

    def _start(self, captured: Capture) -> None:
        self._under_way = asyncio.get_running_loop().create_future()
        writing = self._write(captured, self._applied, self._under_way)
        self._spawner.spawn(writing, name="snapshot")

    async def _write(
        self,
        captured: Capture,
        applied: _Applied,
        result: asyncio.Future[SnapshotInfo],
    ) -> None:
        started_s = self._clock.monotonic_s()
        try:
            info = await self._store.write(captured.meta, captured.state)
        except (JournalError, SnapshotError) as error:
            # The journal is untouched: the log is as long as before, and whole.
            _fail(result, f"snapshot not written: {error}")
            self._put_off(error)
        else:
            result.set_result(info)
            # One from elsewhere may have been installed since.
            self._covered = max(self._covered, applied)
            self._note_written(info, self._clock.monotonic_s() - started_s)
            await self._let_go(info.index)
        finally:
            _fail(result, STOPPED)
            self._under_way = None

    async def _let_go(self, index: int) -> None:
        """Drop what the snapshot covers, as long as nobody needs it."""
        keep_from = index - self._limits.tail_entries + 1
        oldest_in_use = self._oldest_in_use()
        if oldest_in_use is not None:
            keep_from = min(keep_from, oldest_in_use + 1)
        await self._journal.compact(keep_from)
        try:
            await self._store.prune(KEPT if oldest_in_use is None else KEPT_IN_USE)
        except (JournalError, SnapshotError) as error:
            self._logger.warning("old snapshots cannot be removed", error=str(error))

    def _put_off(self, error: Exception) -> None:
        self._failed.add()
        if self._backoff_s == 0.0:
            self._logger.error("snapshot cannot be written", error=str(error))
        self._backoff_s = min(max(2 * self._backoff_s, BACKOFF_S_MIN), BACKOFF_S_MAX)
        self._not_before_s = self._clock.monotonic_s() + self._backoff_s

    def _note_written(self, info: SnapshotInfo, seconds: float) -> None:
        self._backoff_s = 0.0
        self._not_before_s = 0.0
        self._written.add()
        self._written_bytes.add(info.byte_count)
        self._timing.observe(seconds)
        self._logger.info(
            "snapshot written",
            index=info.index,
            bytes=info.byte_count,
            seconds=round(seconds, 3),
        )

    def _declare(self, metrics: Metrics) -> None:
        self._written = metrics.counter(
            "nodestate_replication_snapshots_written_total",
            "Snapshots that this server wrote of its own state.",
        )
        self._failed = metrics.counter(
            "nodestate_replication_snapshot_failures_total",
            "Snapshots that could not be written.",
        )
        self._written_bytes = metrics.counter(
            "nodestate_replication_snapshot_written_bytes_total",
            "Bytes of the snapshots that were written.",
        )
        self._timing = metrics.timing(
            "nodestate_replication_snapshot_write_seconds",
            "How long it took, in the background, until a snapshot was durable.",
        )
        metrics.gauge(
            "nodestate_replication_snapshot_index",
            "The entry that the newest snapshot here ends with, 0 if there is none.",
            self._newest_index,
        )
        metrics.gauge(
            "nodestate_replication_snapshot_entries_since",
            "Entries applied since the newest snapshot.",
            lambda: float(self._entries_since()),
        )

    def _newest_index(self) -> float:
        newest = self._store.newest()
        return float(newest.index) if newest is not None else 0.0


def _fail(result: asyncio.Future[SnapshotInfo], reason: str) -> None:
    if not result.done():
        result.set_exception(SnapshotError(reason))
        # As a rule nobody waits for it; then there is nobody to complain to either.
        result.exception()
