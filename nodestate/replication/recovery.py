"""Reading a journal back after any kind of stop, and deciding what to believe.

A bad record behind everything that is known to have been durable is a torn tail: it was
never acknowledged, and is cut. A bad record that some later record knows to have been
durable is damage, and nothing is changed: the server must not go on with a log that has
forgotten something it promised.

The oldest segments may be gone, if the snapshot covers the log up to where the first
one that is there begins. What is read then starts in the middle of a story: it may
truncate entries that nobody can read any more, and replace them.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Never

import structlog

from nodestate.errors import CorruptRecordError
from nodestate.ports import Disk, DiskFile
from nodestate.replication.records import (
    RECORD_BYTES_MIN,
    SEGMENT_BYTES_MIN,
    Entry,
    Fault,
    HardState,
    Kind,
    LogBase,
    Record,
    Segment,
    SegmentScan,
    decode_entry,
    decode_hard_state,
    decode_record,
    decode_segment,
    decode_snapshot_mark,
    decode_truncation,
    encode_record,
    scan_segment,
)

log = structlog.get_logger(__name__)

FIRST_SEGMENT: Final = 1
_UNKNOWN: Final = -1
_SEGMENT_NAME: Final = re.compile(r"^journal-(\d{8})\.log$")
_ADVICE: Final = (
    "the journal is left as it is and must not be edited: "
    "replace this server (remove it, and add one with an empty data directory)"
)


def segment_name(number: int) -> str:
    """Return the name of a segment's file."""
    return f"journal-{number:08d}.log"


def present_segments(names: Sequence[str]) -> list[int]:
    """Return the numbers of the segments among the files, in order."""
    return sorted(int(match[1]) for match in map(_SEGMENT_NAME.match, names) if match)


class SegmentUse(NamedTuple):
    """A segment's file: its number, its size, the highest index it has to do with.

    That is the highest of an entry or a snapshot's mark in it, truncated or not, 0 if
    there is none.
    """

    number: int
    segment_bytes: int
    highest_index: int


class Recovered:
    """What a journal holds, and where its next record goes.

    `file` is `None` if nothing was ever written; `ahead` is a blank segment that was
    made before it was needed. `is_old_format` says that the segment in use was begun by
    a version whose segments do not tell where the log was.
    """

    def __init__(self) -> None:
        self.base = LogBase(0, 0)
        self.entries: list[Entry] = []
        self.positions: list[int] = []
        self.hard_state = HardState(0, None)
        self.position = 0
        self.segments: list[SegmentUse] = []
        self.number = FIRST_SEGMENT - 1
        self.file: DiskFile | None = None
        self.offset = 0
        self.is_old_format = False
        self.ahead: DiskFile | None = None
        # A snapshot must cover this much, for what is before `base` cannot be read.
        self._index_to_cover = 0
        self._marked_index = 0

    def close(self) -> None:
        """Close the files."""
        for file in (self.file, self.ahead):
            if file is not None:
                file.close()

    def begin_late(self, header: Segment, position: int) -> None:
        """Go on from what the first segment that is left says of those before it."""
        self.position = position
        self.hard_state = header.hard_state
        self._rebase(header.log_end or LogBase(_UNKNOWN, _UNKNOWN))

    def agrees_on_log_end(self, log_end: LogBase | None) -> bool:
        """Say whether a segment's header fits what was read before; learn from it."""
        if log_end is None or log_end == self._log_end():
            return True
        index, term = self._log_end()
        if self.entries or term != _UNKNOWN or index not in (_UNKNOWN, log_end.index):
            return False
        self._rebase(log_end)
        return True

    def replay(
        self, number: int, segment_bytes: int, records: Sequence[Record]
    ) -> None:
        """Take the records of one segment into account, in order."""
        highest_index = 0
        for record in records:
            highest_index = max(highest_index, self._replay_record(record))
        self.number = number
        self.segments.append(SegmentUse(number, segment_bytes, highest_index))

    def settle_base(self, snapshot: LogBase | None) -> str:
        """Let the log begin where it can be read, or say what the snapshot fails to cover.

        Nothing of the log is lost that is above the snapshot.
        """
        covered = snapshot or LogBase(0, 0)
        if self.base.index == _UNKNOWN:
            return "nothing in it says where the log was"
        if self._index_to_cover > covered.index:
            return f"what follows needs a snapshot up to index {self._index_to_cover}"
        if self.base.term != _UNKNOWN:
            return ""
        if self.base.index == 0:
            self.base = LogBase(0, 0)
        elif self.base.index == covered.index:
            self.base = covered
        elif self.entries:
            first = self.entries.pop(0)
            self.positions.pop(0)
            self.base = LogBase(first.index, first.term)
        else:
            # It ends before the snapshot does, which will take its place.
            self.base = LogBase(self.base.index, 0)
        return ""

    def _replay_record(self, record: Record) -> int:
        """Return the index of the entry or mark that it was, else 0."""
        index = 0
        if record.kind == Kind.ENTRY:
            entry = decode_entry(record.payload)
            index = entry.index
            if self.base.index == _UNKNOWN:
                self._rebase(LogBase(index - 1, _UNKNOWN))
            assert index == self._log_end().index + 1, index
            self.entries.append(entry)
            self.positions.append(record.position)
        elif record.kind == Kind.TRUNCATE:
            self._truncate(decode_truncation(record.payload))
        elif record.kind == Kind.SNAPSHOT:
            base = decode_snapshot_mark(record.payload)
            index = self._marked_index = base.index
            self._rebase(base)
        elif record.kind == Kind.HARD_STATE:
            self.hard_state = decode_hard_state(record.payload)
        self.position = record.position
        return index

    def _log_end(self) -> LogBase:
        if not self.entries:
            return self.base
        return LogBase(self.entries[-1].index, self.entries[-1].term)

    def _truncate(self, index: int) -> None:
        assert index > self._marked_index, index
        if index <= self.base.index or self.base.index == _UNKNOWN:
            # These were in segments that are gone; what replaced them follows.
            self._rebase(LogBase(index - 1, _UNKNOWN))
            return
        kept_count = index - 1 - self.base.index
        del self.entries[kept_count:]
        del self.positions[kept_count:]

    def _rebase(self, base: LogBase) -> None:
        self.base = base
        self._index_to_cover = max(self._index_to_cover, base.index)
        self.entries.clear()
        self.positions.clear()


class _SegmentRead(NamedTuple):
    """One segment as it was found."""

    name: str
    file: DiskFile
    data: bytes
    scan: SegmentScan


def recover(disk: Disk, snapshot: LogBase | None = None) -> Recovered:
    """Read every segment, cut a torn tail, and make what was kept durable.

    `snapshot` is where the newest durable snapshot ends, which must have been verified.
    What is recovered begins at or before its end, and may hold other entries than it
    or end too early, if an installation was cut short: then the snapshot replaces it.

    Raises `CorruptRecordError`, having changed nothing, if anything is missing or
    damaged that was durable once.
    """
    recovered = Recovered()
    last: _SegmentRead | None = None
    torn_at_start: _SegmentRead | None = None
    numbers = _segment_numbers(disk.names(), snapshot)
    try:
        for number in numbers:
            segment = _read_segment(disk, number, recovered, last)
            if segment.scan.end > 0:
                last = segment
            elif not segment.scan.is_blank:
                torn_at_start = segment
        _check_base(recovered, numbers, snapshot)
        # Nothing is written before all of it has been read and found to be in order.
        if last is not None:
            _settle(last, recovered)
        if torn_at_start is not None:
            _blank(torn_at_start)
    except BaseException:
        recovered.close()
        raise
    return recovered


def _segment_numbers(names: Sequence[str], snapshot: LogBase | None) -> list[int]:
    numbers = present_segments(names)
    first = numbers[0] if numbers and snapshot is not None else FIRST_SEGMENT
    for expected, number in enumerate(numbers, first):
        if number != expected:
            missing = segment_name(expected)
            raise CorruptRecordError(
                f"{missing} is missing, but {segment_name(number)} is there; {_ADVICE}"
            )
    return numbers


def _check_base(
    recovered: Recovered, numbers: Sequence[int], snapshot: LogBase | None
) -> None:
    """Refuse a journal that does not go on where the snapshot ends."""
    if recovered.file is None:
        if snapshot is not None:
            # A snapshot is made of what the journal had: term and vote are lost.
            raise CorruptRecordError(
                f"a snapshot up to index {snapshot.index} is there, but "
                f"{segment_name(numbers[0] if numbers else FIRST_SEGMENT)} is missing "
                f"or blank; {_ADVICE}"
            )
        return
    uncovered = recovered.settle_base(snapshot)
    if uncovered:
        covered = (
            f"the newest ends at {snapshot.index}" if snapshot else "there is none"
        )
        _refuse(segment_name(numbers[0]), 0, f"{uncovered}, but {covered}")


def _read_segment(
    disk: Disk, number: int, recovered: Recovered, previous: _SegmentRead | None
) -> _SegmentRead:
    """Read one segment, add it to what is recovered, and pass on how it was found."""
    name = segment_name(number)
    file = disk.open_file(name)
    try:
        data = file.read(0, file.size())
        if number != FIRST_SEGMENT and not recovered.segments:
            _begin_late(name, data, number, recovered)
        scan = scan_segment(data, number, recovered.position)
        segment = _SegmentRead(name, file, data, scan)
        _check_follows(segment, recovered, previous)
        _check_segment(segment, number, recovered)
    except BaseException:
        file.close()
        raise
    if scan.end == 0:
        recovered.ahead = file
        return segment
    if recovered.file is not None:
        recovered.file.close()
    recovered.file, recovered.offset = file, scan.end
    recovered.replay(number, len(data), scan.records)
    return segment


def _begin_late(name: str, data: bytes, number: int, recovered: Recovered) -> None:
    """Start from a segment that the ones before it are gone of."""
    record = decode_record(data, 0, number)
    if isinstance(record, Fault):
        _refuse(name, 0, f"{record.reason}; the segments before it are gone")
    if record.kind != Kind.SEGMENT:
        _refuse(name, 0, f"kind {record.kind} in the wrong place")
    header = decode_segment(record.payload)
    if isinstance(header, Fault):
        _refuse(name, 0, header.reason)
    recovered.begin_late(header, record.position)


def _check_follows(
    segment: _SegmentRead, recovered: Recovered, previous: _SegmentRead | None
) -> None:
    """Refuse a segment that proves that the one before it has lost something.

    A segment is begun when all of the one before it is durable, and made ahead only
    when the one before it is in use.
    """
    if recovered.ahead is not None:
        _refuse(segment.name, 0, "the segment before it is blank")
    if previous is None or not previous.scan.fault:
        return
    # A closing mark is never synced and may be torn; every other record is longer. If
    # more than that is lost, the segment's own header knows, or its size tells.
    if previous.scan.used - previous.scan.end <= RECORD_BYTES_MIN:
        return
    if not segment.scan.is_blank:
        reason = f"{previous.scan.fault}, but {segment.name} has been begun"
        _refuse(previous.name, previous.scan.end, reason)


def _check_segment(segment: _SegmentRead, number: int, recovered: Recovered) -> None:
    name, _, data, scan = segment
    if len(data) < SEGMENT_BYTES_MIN:
        _refuse(name, len(data), f"expected {SEGMENT_BYTES_MIN} bytes at least")
    if scan.synced > scan.position:
        reason = scan.fault or "no record"
        _refuse(
            name,
            scan.end,
            f"{reason}; position {scan.position + 1} belongs here and was durable, "
            f"as was every one up to {scan.synced}",
        )
    if scan.end == 0:
        return
    header = decode_segment(scan.records[0].payload)
    if isinstance(header, Fault):
        _refuse(name, 0, header.reason)
    if header.number != number:
        _refuse(name, 0, f"segment {header.number}, expected {number}")
    if header.segment_bytes != len(data):
        reason = f"the file has {len(data)} bytes, expected {header.segment_bytes}"
        _refuse(name, min(len(data), header.segment_bytes), reason)
    if header.hard_state != recovered.hard_state:
        reason = f"{header.hard_state}, expected {recovered.hard_state}"
        _refuse(name, 0, reason)
    if not recovered.agrees_on_log_end(header.log_end):
        _refuse(name, 0, f"{header.log_end} is not where the log was before it")
    recovered.is_old_format = header.log_end is None


def _blank(segment: _SegmentRead) -> None:
    """Wipe a segment whose very first write was torn."""
    _log_cut(segment)
    segment.file.write_and_sync_now(0, bytes(segment.scan.used))


def _settle(segment: _SegmentRead, recovered: Recovered) -> None:
    """Make durable what was kept, and wipe durably what was not.

    Records that nothing proves durable may be in the system's memory alone, and a sync
    that failed before may have marked them clean: so they are written again, the same
    bytes in the same place. What is cut is overwritten, or parts of it could be taken
    for records one day.
    """
    scan = segment.scan
    start = _unproven_offset(scan)
    kept = segment.data[start : scan.end]
    if not kept and not scan.fault:
        return
    if scan.fault:
        _log_cut(segment)
    wiped_bytes = scan.used - scan.end if scan.fault else 0
    segment.file.write_and_sync_now(start, kept + bytes(max(wiped_bytes, 0)))
    mark = encode_record(
        Kind.SYNCED,
        b"",
        position=recovered.position,
        synced=recovered.position,
        number=recovered.number,
        offset=scan.end,
    )
    segment.file.write_and_sync_now(scan.end, b"", trailer=mark)


def _unproven_offset(scan: SegmentScan) -> int:
    """Return where the first record starts that nothing later knows to be durable."""
    offset = 0
    for record in scan.records[1:]:
        if record.position > scan.synced:
            break
        offset = record.end
    return offset


def _log_cut(segment: _SegmentRead) -> None:
    log.warning(
        "journal tail cut",
        file=segment.name,
        offset_bytes=segment.scan.end,
        cut_bytes=segment.scan.used - segment.scan.end,
        reason=segment.scan.fault,
        last_position=segment.scan.position,
    )


def _refuse(name: str, offset: int, reason: str) -> Never:
    raise CorruptRecordError(f"{name}, byte {offset}: {reason}; {_ADVICE}")
