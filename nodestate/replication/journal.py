"""The write-ahead journal: append, sync, truncate, recover, on the disk it is given.

Changes are made in memory at once and buffered in order; one task writes and syncs
whatever has gathered, so the sync in flight is the window in which the next round
fills. What may be told to others is what `durable_position` and `durable_index` cover.

A journal is a row of segments of fixed size, preallocated so that a sync has no file
size to write. Nothing but the closing mark behind the last record is ever overwritten:
it says how far the journal is durable while no later record does.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self

from nodestate.clock import Clock
from nodestate.errors import JournalError
from nodestate.ports import Disk, DiskFile, Metrics
from nodestate.replication.records import (
    ENTRY_OVERHEAD_BYTES,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES_MIN,
    SEGMENT_BYTES_MIN,
    VOTE_BYTES_MAX,
    Entry,
    HardState,
    Kind,
    Segment,
    decode_hard_state,
    encode_entry,
    encode_hard_state,
    encode_record,
    encode_segment,
    encode_truncation,
)
from nodestate.replication.recovery import Recovered, recover, segment_name

ROUND_BYTES_MAX: Final = 16 << 20
"""At most this much goes into one write, unless a single record is larger."""


class _Round(NamedTuple):
    """What goes to disk in one write, and the closing mark that follows its sync."""

    data: bytes
    mark: bytes
    last_position: int


class Journal:
    """The log and the hard state of one server, as kept on its disk.

    After a failed write or sync every change raises `JournalError`: what is on disk is
    unknown, and only a restart finds out.
    """

    def __init__(
        self,
        disk: Disk,
        recovered: Recovered,
        *,
        segment_bytes: int,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        assert segment_bytes >= SEGMENT_BYTES_MIN
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._entries = recovered.entries
        # The position of the change that brought each entry, in step with `_entries`.
        self._positions = recovered.positions
        self._hard_state = recovered.hard_state
        self._position = recovered.position
        self._written_hard_state = recovered.hard_state
        self._durable_position = recovered.position
        self._buffer: deque[tuple[Kind, bytes]] = deque()
        self._buffered_bytes = 0
        self._arrived = asyncio.Event()
        self._number = recovered.number
        self._file = recovered.file
        self._file_bytes = recovered.file.size() if recovered.file else 0
        self._offset = recovered.offset
        self._ahead = recovered.ahead
        self._making_ahead: asyncio.Task[DiskFile] | None = None
        self._is_running = False
        self._failure = ""
        self._declare(metrics)

    @classmethod
    def open(
        cls, disk: Disk, *, segment_bytes: int, clock: Clock, metrics: Metrics
    ) -> Self:
        """Recover what the disk holds; all of it is durable when this returns.

        Raises `CorruptRecordError` if what was durable once is damaged, and
        `JournalError` if the disk cannot be used.
        """
        disk.lock()
        recovered = recover(disk)
        return cls(
            disk, recovered, segment_bytes=segment_bytes, clock=clock, metrics=metrics
        )

    def term(self) -> int:
        """Return the current term."""
        return self._hard_state.term

    def voted_for(self) -> str | None:
        """Return whom this server voted for in the current term."""
        return self._hard_state.voted_for

    def first_index(self) -> int:
        """Return the index of the first entry, 0 if there is none."""
        return self._entries[0].index if self._entries else 0

    def last_index(self) -> int:
        """Return the index of the last entry, 0 if there is none."""
        return self._entries[-1].index if self._entries else 0

    def last_term(self) -> int:
        """Return the term of the last entry, 0 if there is none."""
        return self._entries[-1].term if self._entries else 0

    def entry(self, index: int) -> Entry:
        """Return the entry at `index`, which must be there."""
        return self._entries[self._offset_of(index)]

    def term_at(self, index: int) -> int:
        """Return the term of the entry at `index`, which must be there; 0 for 0."""
        return self.entry(index).term if index else 0

    def entries_from(self, index: int, bytes_max: int) -> tuple[Entry, ...]:
        """Return entries from `index` on: as many as fit, at least one if there is one.

        Each counts for what it takes in the journal, which is more than its body.
        """
        if index > self.last_index():
            return ()
        start = end = self._offset_of(index)
        total_bytes = 0
        while end < len(self._entries):
            total_bytes += len(self._entries[end].body) + ENTRY_OVERHEAD_BYTES
            if total_bytes > bytes_max and end > start:
                break
            end += 1
        return tuple(self._entries[start:end])

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one; all of them or, if one cannot be, none."""
        self._check_usable()
        self._check_appendable(entries)
        for entry in entries:
            self._entries.append(entry)
            self._positions.append(self._position + 1)
            self._buffer_change(Kind.ENTRY, encode_entry(entry))

    def truncate_from(self, index: int) -> None:
        """Remove the entry at `index` and every later one."""
        self._check_usable()
        if index > self.last_index():
            return
        offset = self._offset_of(index)
        del self._entries[offset:]
        del self._positions[offset:]
        self._buffer_change(Kind.TRUNCATE, encode_truncation(index))

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        """Change term and vote together."""
        self._check_usable()
        assert term >= self.term(), term
        hard_state = HardState(term, voted_for)
        if hard_state == self._hard_state:
            return
        if len((voted_for or "").encode()) > VOTE_BYTES_MAX:
            raise JournalError(f"vote of more than {VOTE_BYTES_MAX} bytes")
        self._hard_state = hard_state
        self._buffer_change(Kind.HARD_STATE, encode_hard_state(hard_state))

    def position(self) -> int:
        """Return the number of the last change made."""
        return self._position

    def durable_position(self) -> int:
        """Return the number of the last change that survives anything from here on."""
        return self._durable_position

    def durable_index(self) -> int:
        """Return the highest index that is durable with the content it has now.

        Read from the positions, so that a sync that ends after a truncation says
        nothing of the entries that were put in place of the old ones.
        """
        durable_count = bisect_right(self._positions, self._durable_position)
        return self._entries[durable_count - 1].index if durable_count else 0

    def buffered_bytes(self) -> int:
        """Return how much waits to be written, for those who can hold back."""
        return self._buffered_bytes

    async def run(self, on_durable: Callable[[], None]) -> None:
        """Write and sync whatever arrives, for ever; call back after each sync.

        There is one such task, once: where a cancelled write got to, nobody knows.
        Raises `JournalError` when a write or sync fails.
        """
        assert not self._is_running
        self._is_running = True
        try:
            while True:
                while self._buffer:
                    await self._write_round()
                    on_durable()
                self._arrived.clear()
                await self._arrived.wait()
        except JournalError as error:
            self._failure = str(error)
            raise
        finally:
            if self._making_ahead is not None:
                self._making_ahead.cancel()

    def close(self) -> None:
        """Close the files; what is still buffered was promised to nobody."""
        self._failure = self._failure or "closed"
        making = self._making_ahead
        if making is not None and _has_result(making):
            making.result().close()
        for file in (self._file, self._ahead):
            if file is not None:
                file.close()

    def _declare(self, metrics: Metrics) -> None:
        self._sync_timing = metrics.timing(
            "nodestate_replication_journal_sync_seconds",
            "How long it took to write and sync one round of the journal.",
        )
        self._written_bytes = metrics.counter(
            "nodestate_replication_journal_written_bytes_total",
            "Bytes written to the journal.",
        )
        metrics.gauge(
            "nodestate_replication_journal_buffered_bytes",
            "Bytes that wait to be written to the journal.",
            lambda: float(self._buffered_bytes),
        )

    def _offset_of(self, index: int) -> int:
        offset = index - self.first_index()
        assert 0 <= offset < len(self._entries), index
        return offset

    def _check_usable(self) -> None:
        if self._failure:
            raise JournalError(
                f"the journal cannot be changed any more: {self._failure}"
            )

    def _check_appendable(self, entries: Sequence[Entry]) -> None:
        index, term = self.last_index(), self.last_term()
        for entry in entries:
            assert entry.index == index + 1, (entry.index, index)
            assert entry.term >= term, (entry.term, term)
            if len(entry.body) + ENTRY_OVERHEAD_BYTES > PAYLOAD_BYTES_MAX:
                raise JournalError(f"entry of {len(entry.body)} bytes is too large")
            index, term = entry.index, entry.term

    def _buffer_change(self, kind: Kind, payload: bytes) -> None:
        self._position += 1
        self._buffer.append((kind, payload))
        self._buffered_bytes += RECORD_BYTES_MIN + len(payload)
        self._arrived.set()

    async def _write_round(self) -> None:
        """Write and sync what fits into this segment; the rest is for the next round."""
        needed_bytes = RECORD_BYTES_MIN + len(self._buffer[0][1])
        if self._file is None or not self._fits(self._offset + needed_bytes):
            await self._begin_segment(needed_bytes)
        file = self._file
        assert file is not None
        offset = self._offset
        writing = self._take_round()
        started_s = self._clock.monotonic_s()
        await file.write_and_sync(offset, writing.data, trailer=writing.mark)
        self._sync_timing.observe(self._clock.monotonic_s() - started_s)
        self._written_bytes.add(len(writing.data))
        self._durable_position = writing.last_position
        self._make_segment_ahead()

    def _take_round(self) -> _Round:
        """Encode the round, and move on as if it were written."""
        parts: list[bytes] = []
        # Every earlier round is durable, since there is one in flight at a time.
        synced = position = self._durable_position
        start = self._offset
        if start == 0:
            parts.append(self._encode_header(synced))
            self._offset += len(parts[0])
        while self._buffer and self._offset - start < ROUND_BYTES_MAX:
            kind, payload = self._buffer[0]
            if not self._fits(self._offset + RECORD_BYTES_MIN + len(payload)):
                break
            position += 1
            parts.append(self._encode(kind, payload, position, synced))
            self._offset += len(parts[-1])
            self._buffered_bytes -= len(parts[-1])
            self._buffer.popleft()
            if kind is Kind.HARD_STATE:
                self._written_hard_state = decode_hard_state(payload)
        assert position > synced
        mark = self._encode(Kind.SYNCED, b"", position, position)
        return _Round(b"".join(parts), mark, position)

    def _encode(self, kind: Kind, payload: bytes, position: int, synced: int) -> bytes:
        return encode_record(
            kind,
            payload,
            position=position,
            synced=synced,
            number=self._number,
            offset=self._offset,
        )

    def _encode_header(self, position: int) -> bytes:
        header = Segment(self._number, self._file_bytes, self._written_hard_state)
        return self._encode(Kind.SEGMENT, encode_segment(header), position, position)

    def _fits(self, end: int) -> bool:
        """Say whether a record may end there: the closing mark must fit behind it."""
        return end + RECORD_BYTES_MIN <= self._file_bytes

    async def _begin_segment(self, needed_bytes: int) -> None:
        """Go on in the next segment, which is made larger for a record that needs it."""
        bytes_min = SEGMENT_BYTES_MIN + needed_bytes
        if self._making_ahead is not None:
            # Made in time as a rule; a failure is tried again below, on a new file.
            await asyncio.wait([self._making_ahead])
            if _has_result(self._making_ahead):
                self._ahead = self._making_ahead.result()
            self._making_ahead = None
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.size() < bytes_min:
            ahead.close()
            ahead = None
        if ahead is None:
            bytes_allocated = max(self._segment_bytes, bytes_min)
            name = segment_name(self._number + 1)
            ahead = await self._disk.prepare_file(name, bytes_allocated)
        if self._file is not None:
            self._file.close()
        self._file, self._file_bytes, self._offset = ahead, ahead.size(), 0
        self._number += 1

    def _make_segment_ahead(self) -> None:
        """From the middle of a segment on, have the next one ready."""
        if self._ahead is not None or self._making_ahead is not None:
            return
        if self._offset < self._file_bytes // 2:
            return
        name = segment_name(self._number + 1)
        self._making_ahead = asyncio.get_running_loop().create_task(
            self._disk.prepare_file(name, self._segment_bytes),
            name="journal segment ahead",
        )


def _has_result(task: asyncio.Task[DiskFile]) -> bool:
    """Say whether it ended well; reading the exception also marks it as seen."""
    return task.done() and not task.cancelled() and task.exception() is None
