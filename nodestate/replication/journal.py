"""The write-ahead journal: append, sync, truncate, recover, on the disk it is given.

Changes are made in memory at once and buffered in order; one task writes and syncs
whatever has gathered, so the sync in flight is the window in which the next round
fills. What may be told to others is what `durable_position` and `durable_index` cover.

A journal is a row of segments of fixed size, preallocated so that a sync has no file
size to write. Nothing but the closing mark behind the last record is ever overwritten:
it says how far the journal is durable while no later record does.

The log may begin behind an entry that is not there any more, its base: what a snapshot
covers is let go, first from memory, then whole segments at a time from disk.
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
    LogBase,
    Segment,
    decode_hard_state,
    encode_entry,
    encode_hard_state,
    encode_record,
    encode_segment,
    encode_snapshot_mark,
    encode_truncation,
)
from nodestate.replication.recovery import (
    Recovered,
    SegmentUse,
    recover,
    segment_name,
)

ROUND_BYTES_MAX: Final = 16 << 20
"""At most this much goes into one write, unless a single record is larger."""


class _Change(NamedTuple):
    """A change that waits to be written, and where the log ended with it."""

    kind: Kind
    payload: bytes
    log_end: LogBase


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
        self._base = recovered.base
        self._entries = recovered.entries
        # The position of the change that brought each entry, in step with `_entries`.
        self._positions = recovered.positions
        self._hard_state = recovered.hard_state
        self._position = recovered.position
        self._written_hard_state = recovered.hard_state
        self._written_log_end = self._log_end()
        self._durable_position = recovered.position
        self._buffer: deque[_Change] = deque()
        self._buffered_bytes = 0
        self._arrived = asyncio.Event()
        self._segments = deque(recovered.segments)
        # Older segments can be spared once the header of this one is durable.
        self._sparing_number = 0 if recovered.is_old_format else recovered.number
        self._discarding = asyncio.Lock()
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
        cls,
        disk: Disk,
        *,
        snapshot: LogBase | None = None,
        segment_bytes: int,
        clock: Clock,
        metrics: Metrics,
    ) -> Self:
        """Recover what the disk holds; all of it is durable when this returns.

        `snapshot` is where the newest durable and verified snapshot ends. The log goes
        on behind it or, where it holds that entry, begins earlier.

        Raises `CorruptRecordError` if what was durable once is damaged or missing, and
        `JournalError` if the disk cannot be used.
        """
        disk.lock()
        recovered = recover(disk, snapshot)
        journal = cls(
            disk, recovered, segment_bytes=segment_bytes, clock=clock, metrics=metrics
        )
        try:
            if snapshot is not None and not journal._holds(snapshot):
                journal.reset_to(snapshot)
                journal._write_now()
        except BaseException:
            journal.close()
            raise
        return journal

    def term(self) -> int:
        """Return the current term."""
        return self._hard_state.term

    def voted_for(self) -> str | None:
        """Return whom this server voted for in the current term."""
        return self._hard_state.voted_for

    def base_index(self) -> int:
        """Return the index of the entry before the first, 0 while the log is whole."""
        return self._base.index

    def base_term(self) -> int:
        """Return the term of the entry before the first, 0 while the log is whole."""
        return self._base.term

    def first_index(self) -> int:
        """Return the index of the first entry, or of the next if there is none."""
        return self._base.index + 1

    def last_index(self) -> int:
        """Return the index of the last entry, that of the base if there is none."""
        return self._base.index + len(self._entries)

    def last_term(self) -> int:
        """Return the term of the last entry, that of the base if there is none."""
        return self._log_end().term

    def entry(self, index: int) -> Entry:
        """Return the entry at `index`, which must be there."""
        return self._entries[self._offset_of(index)]

    def term_at(self, index: int) -> int:
        """Return the term of the entry at `index`, which must be there or be the base."""
        if index == self._base.index:
            return self._base.term
        return self.entry(index).term

    def entries_from(self, index: int, bytes_max: int) -> tuple[Entry, ...]:
        """Return entries from `index` on: as many as fit, at least one if there is one.

        Each counts for what it takes in the journal, which is more than its body. None
        may be asked for that is at or before the base.
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

    def reset_to(self, base: LogBase) -> None:
        """Go on behind a snapshot that is durable, and ends with `base`.

        If the log holds that entry, what follows it is kept. Otherwise every entry goes,
        which is a change like any other.
        """
        self._check_usable()
        assert base.index >= self._base.index, (base, self._base)
        if self._holds(base):
            self._let_go_to(base.index)
            return
        self._base = base
        self._entries.clear()
        self._positions.clear()
        self._buffer_change(Kind.SNAPSHOT, encode_snapshot_mark(base))

    async def compact(self, keep_from: int) -> None:
        """Let go of the entries before `keep_from`, which a durable snapshot covers.

        They leave memory at once; segments that have nothing else leave the disk, oldest
        first, by the time this returns. If it fails, they are left for the next time.
        """
        self._check_usable()
        self._let_go_to(min(keep_from - 1, self.last_index()))
        async with self._discarding:
            while self._can_spare_first(keep_from):
                self._check_usable()
                await self._disk.discard_file(segment_name(self._segments[0].number))
                self._segments.popleft()

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
        nothing of the entries that were put in place of the old ones. The base always
        is, by the snapshot.
        """
        return self._base.index + bisect_right(self._positions, self._durable_position)

    def buffered_bytes(self) -> int:
        """Return how much waits to be written, for those who can hold back."""
        return self._buffered_bytes

    def segment_count(self) -> int:
        """Return how many files the journal has, with one that was made ahead."""
        return len(self._segments) + (self._ahead_bytes() > 0)

    def disk_bytes(self) -> int:
        """Return the size of these files."""
        total_bytes = sum(segment.segment_bytes for segment in self._segments)
        return total_bytes + self._ahead_bytes()

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
        self._ahead = None

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
        metrics.gauge(
            "nodestate_replication_journal_disk_bytes",
            "Bytes that the files of the journal take.",
            lambda: float(self.disk_bytes()),
        )

    def _ahead_bytes(self) -> int:
        making = self._making_ahead
        if making is not None and _has_result(making):
            return self._segment_bytes
        return self._ahead.size() if self._ahead is not None else 0

    def _log_end(self) -> LogBase:
        if not self._entries:
            return self._base
        return LogBase(self._entries[-1].index, self._entries[-1].term)

    def _holds(self, entry: LogBase) -> bool:
        """Say whether this is the base or an entry of the log."""
        if not self._base.index <= entry.index <= self.last_index():
            return False
        return self.term_at(entry.index) == entry.term

    def _let_go_to(self, index: int) -> None:
        """Make the entry at `index` the base, if it is behind it."""
        if index <= self._base.index:
            return
        base = LogBase(index, self.term_at(index))
        count = index - self._base.index
        del self._entries[:count]
        del self._positions[:count]
        self._base = base

    def _can_spare_first(self, keep_from: int) -> bool:
        """Say whether recovery can do without the oldest segment.

        It can if a later one durably says where the log and the hard state were, and the
        snapshot covers everything that was ever in this one.
        """
        first = self._segments[0] if self._segments else None
        return (
            first is not None
            and first.number < self._sparing_number
            and first.highest_index < keep_from
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
        self._buffer.append(_Change(kind, payload, self._log_end()))
        self._buffered_bytes += RECORD_BYTES_MIN + len(payload)
        self._arrived.set()

    async def _write_round(self) -> None:
        """Write and sync what fits into this segment; the rest is for the next round."""
        needed_bytes = self._next_bytes()
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
        if offset == 0:
            self._sparing_number = self._number
        self._make_segment_ahead()

    def _write_now(self) -> None:
        """Write the one change there is and sync, holding up the loop: for the start."""
        needed_bytes = self._next_bytes()
        if not self._fits(self._offset + needed_bytes):
            self._begin_segment_now(needed_bytes)
        assert self._file is not None
        offset = self._offset
        writing = self._take_round()
        assert not self._buffer
        self._file.write_and_sync_now(offset, writing.data, trailer=writing.mark)
        self._durable_position = writing.last_position
        if offset == 0:
            self._sparing_number = self._number

    def _next_bytes(self) -> int:
        return RECORD_BYTES_MIN + len(self._buffer[0].payload)

    def _take_round(self) -> _Round:
        """Encode the round, and move on as if it were written."""
        parts: list[bytes] = []
        # Every earlier round is durable, since there is one in flight at a time.
        synced = position = self._durable_position
        start = self._offset
        highest_index = self._segments[-1].highest_index
        if start == 0:
            parts.append(self._encode_header(synced))
            self._offset += len(parts[0])
        while self._buffer and self._offset - start < ROUND_BYTES_MAX:
            kind, payload, log_end = self._buffer[0]
            if not self._fits(self._offset + RECORD_BYTES_MIN + len(payload)):
                break
            position += 1
            parts.append(self._encode(kind, payload, position, synced))
            self._offset += len(parts[-1])
            self._buffered_bytes -= len(parts[-1])
            self._buffer.popleft()
            self._written_log_end = log_end
            if kind is Kind.HARD_STATE:
                self._written_hard_state = decode_hard_state(payload)
            elif kind in (Kind.ENTRY, Kind.SNAPSHOT):
                highest_index = max(highest_index, log_end.index)
        assert position > synced
        self._segments[-1] = self._segments[-1]._replace(highest_index=highest_index)
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
        header = Segment(
            self._number,
            self._file_bytes,
            self._written_hard_state,
            self._written_log_end,
        )
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
        file = self._take_ahead(bytes_min)
        if file is None:
            bytes_allocated = max(self._segment_bytes, bytes_min)
            name = segment_name(self._number + 1)
            file = await self._disk.prepare_file(name, bytes_allocated)
        self._use_segment(file)

    def _begin_segment_now(self, needed_bytes: int) -> None:
        bytes_min = SEGMENT_BYTES_MIN + needed_bytes
        file = self._take_ahead(bytes_min)
        if file is None:
            bytes_allocated = max(self._segment_bytes, bytes_min)
            name = segment_name(self._number + 1)
            file = self._disk.create_file(name, bytes_allocated)
        self._use_segment(file)

    def _take_ahead(self, bytes_min: int) -> DiskFile | None:
        """Return the segment that was made ahead, unless it is too small."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.size() < bytes_min:
            ahead.close()
            return None
        return ahead

    def _use_segment(self, file: DiskFile) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._file_bytes, self._offset = file, file.size(), 0
        self._number += 1
        self._segments.append(SegmentUse(self._number, file.size(), 0))

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
