"""A leader's snapshot, taken in by a follower that is too far behind for entries.

What a follower has received and what it has installed are two things: it says "installed"
only after the whole file is verified, durable and the state that it serves (F7).
"""

from collections.abc import Callable
from typing import Final, Protocol

import structlog

from nodestate.clock import Clock, Timer
from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.state import State
from nodestate.ports import Metrics, Spawner
from nodestate.replication.frames import SnapshotChunk, SnapshotReply
from nodestate.replication.snapshots import SnapshotInfo

IDLE_S_MAX: Final = 60.0
"""How long an unfinished file is kept for a leader that sends no more of it."""
REASON_LENGTH: Final = 1000


class ReceivedFile(Protocol):
    """A file that comes from elsewhere; nothing of it shows until it is finished."""

    async def add(self, offset: int, data: bytes) -> None:
        """Write what comes next."""

    async def finish(self) -> tuple[SnapshotInfo, State]:
        """Return it and its state once all of it is verified, loaded and durable."""

    def abandon(self) -> None:
        """Remove what there is."""


class ReceivingStore(Protocol):
    """Where a follower's snapshots are put, as `snapshots.SnapshotStore` does it."""

    def receive(self, index: int, term: int, byte_count: int) -> ReceivedFile:
        """Begin a file; `SnapshotError` if it is too large."""


class _Received:
    """A file that grows by chunks, and whose it is."""

    def __init__(
        self, leader_id: str, first: SnapshotChunk, file: ReceivedFile
    ) -> None:
        self.file = file
        self.received_bytes = 0
        self.is_finishing = False
        self._source = _source_of(leader_id, first)

    def is_continued_by(self, leader_id: str, chunk: SnapshotChunk) -> bool:
        """Say whether this is a chunk of the same file from the same leader."""
        return self._source == _source_of(leader_id, chunk)


def _source_of(leader_id: str, chunk: SnapshotChunk) -> tuple[str, int, int, int]:
    return leader_id, chunk.index, chunk.last_term, chunk.total_bytes


class SnapshotReceiver:
    """A follower's side: one file at a time, and at most one chunk that waits."""

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        store: ReceivingStore,
        *,
        reply: Callable[[str, SnapshotReply], object],
        is_needed: Callable[[int], bool],
        install: Callable[[SnapshotInfo, State], None],
        term: Callable[[], int],
        clock: Clock,
        spawner: Spawner,
        metrics: Metrics,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        """Each callable is asked on the loop, as of now.

        `reply` sends, once the term that it reveals is durable. `is_needed` says whether
        the commit index is lower than a snapshot's. `install` makes its state the one
        that is served and lets the log begin behind it; what goes wrong in it stops the
        server, and after a crash the durable snapshot is what the log is recovered by.
        """
        self._store = store
        self._reply = reply
        self._is_needed = is_needed
        self._install = install
        self._term = term
        self._clock = clock
        self._spawner = spawner
        self._logger = logger
        self._received: _Received | None = None
        self._waiting: tuple[str, SnapshotChunk] | None = None
        self._is_working = False
        self._is_unwanted = False
        self._idle_timer: Timer | None = None
        self._has_failed = False
        self._declare(metrics)

    def on_chunk(self, leader_id: str, chunk: SnapshotChunk) -> None:
        """Take a chunk from the leader of the current term; it is answered later."""
        if self._is_finishing(leader_id, chunk):
            # It is told that we are alive; the verdict takes as long as it takes.
            self._answer(leader_id, chunk, chunk.total_bytes)
            return
        # A leader sends one at a time: if another waits, it has been given up.
        self._waiting = leader_id, chunk
        if not self._is_working:
            self._is_working = True
            self._cancel_idle_timer()
            self._spawner.spawn(self._work(), name="snapshot from leader")

    def abandon(self) -> None:
        """Let go of what was received: this server follows nobody who would send more."""
        self._waiting = None
        if self._is_working:
            self._is_unwanted = True
        else:
            self._drop()

    def _is_finishing(self, leader_id: str, chunk: SnapshotChunk) -> bool:
        received = self._received
        if received is None or not received.is_finishing:
            return False
        return received.is_continued_by(leader_id, chunk)

    async def _work(self) -> None:
        try:
            while self._waiting is not None:
                (leader_id, chunk), self._waiting = self._waiting, None
                await self._take(leader_id, chunk)
                if self._is_unwanted:
                    self._is_unwanted = False
                    self._drop()
        finally:
            self._is_working = False
        self._set_idle_timer()

    async def _take(self, leader_id: str, chunk: SnapshotChunk) -> None:
        if not self._is_needed(chunk.index):
            self._drop()
            self._answer_installed(leader_id, chunk)
            return
        try:
            received = await self._add(leader_id, chunk)
            if received is None:
                return
            loaded = await self._finish(received)
        except (JournalError, SnapshotError) as error:
            self._drop()
            self._note_failure(leader_id, chunk, error)
            self._answer(leader_id, chunk, 0, reason=str(error)[:REASON_LENGTH])
            return
        if not self._is_unwanted:
            self._use(*loaded, leader_id)
            self._answer_installed(leader_id, chunk)

    async def _add(self, leader_id: str, chunk: SnapshotChunk) -> _Received | None:
        """Put the chunk in its place and answer it; return the file if it is the last."""
        received = self._received_so_far(leader_id, chunk)
        if received is None or chunk.offset != received.received_bytes:
            count = 0 if received is None else received.received_bytes
            self._answer(leader_id, chunk, count)
            return None
        end = chunk.offset + len(chunk.data)
        if end > chunk.total_bytes:
            raise SnapshotError(f"{end} bytes received of {chunk.total_bytes}")
        await received.file.add(chunk.offset, chunk.data)
        received.received_bytes = end
        if end < chunk.total_bytes:
            self._answer(leader_id, chunk, end)
            return None
        return received

    def _received_so_far(
        self, leader_id: str, chunk: SnapshotChunk
    ) -> _Received | None:
        """Return the file that the chunk belongs to, a new one if it is the first."""
        received = self._received
        if received is not None and received.is_continued_by(leader_id, chunk):
            return received
        self._drop()
        if chunk.offset > 0:
            return None
        file = self._store.receive(chunk.index, chunk.last_term, chunk.total_bytes)
        self._received = _Received(leader_id, chunk, file)
        return self._received

    async def _finish(self, received: _Received) -> tuple[SnapshotInfo, State]:
        """Have all of it verified, loaded and durable; nothing is answered yet (F7)."""
        received.is_finishing = True
        started_s = self._clock.monotonic_s()
        info, state = await received.file.finish()
        self._received = None
        self._timing.observe(self._clock.monotonic_s() - started_s)
        return info, state

    def _use(self, info: SnapshotInfo, state: State, leader_id: str) -> None:
        # Entries may have come meanwhile, from this leader or another: then the log
        # goes on behind the snapshot, and to go back to it would undo what is committed.
        if not self._is_needed(info.index):
            return
        self._install(info, state)
        self._has_failed = False
        self._installed.add()
        self._logger.info("snapshot installed", index=info.index, leader=leader_id)

    def _answer_installed(self, leader_id: str, chunk: SnapshotChunk) -> None:
        self._answer(leader_id, chunk, chunk.total_bytes, is_installed=True)

    def _answer(
        self,
        leader_id: str,
        chunk: SnapshotChunk,
        received_bytes: int,
        *,
        is_installed: bool = False,
        reason: str = "",
    ) -> None:
        self._reply(
            leader_id,
            SnapshotReply(
                self._term(),
                chunk.sequence,
                chunk.index,
                received_bytes,
                is_installed,
                reason,
            ),
        )

    def _drop(self) -> None:
        received, self._received = self._received, None
        if received is not None:
            received.file.abandon()

    def _set_idle_timer(self) -> None:
        self._cancel_idle_timer()
        if self._received is not None:
            self._idle_timer = self._clock.call_later(IDLE_S_MAX, self.abandon)

    def _cancel_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _note_failure(
        self, leader_id: str, chunk: SnapshotChunk, error: Exception
    ) -> None:
        self._failed.add()
        log = self._logger.debug if self._has_failed else self._logger.error
        self._has_failed = True
        log(
            "snapshot cannot be installed",
            index=chunk.index,
            leader=leader_id,
            error=str(error),
        )

    def _declare(self, metrics: Metrics) -> None:
        self._installed = metrics.counter(
            "nodestate_replication_snapshots_installed_total",
            "Snapshots from a leader that this server installed.",
        )
        self._failed = metrics.counter(
            "nodestate_replication_snapshot_install_failures_total",
            "Snapshots from a leader that could not be installed.",
        )
        self._timing = metrics.timing(
            "nodestate_replication_snapshot_install_seconds",
            "How long it took to verify and load a snapshot from a leader.",
        )
