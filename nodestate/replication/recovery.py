"""Reading a journal back after any kind of stop, and deciding what to believe.

A bad record behind everything that is known to have been durable is a torn tail: it was
never acknowledged, and is cut. A bad record that some later record knows to have been
durable is damage, and nothing is changed: the server must not go on with a log that has
forgotten something it promised.
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
    Record,
    SegmentScan,
    decode_entry,
    decode_hard_state,
    decode_segment,
    decode_truncation,
    encode_record,
    scan_segment,
)

log = structlog.get_logger(__name__)

FIRST_SEGMENT: Final = 1
_SEGMENT_NAME: Final = re.compile(r"^journal-(\d{8})\.log$")
_ADVICE: Final = (
    "the journal is left as it is and must not be edited: "
    "replace this server (remove it, and add one with an empty data directory)"
)


def segment_name(number: int) -> str:
    """Return the name of a segment's file."""
    return f"journal-{number:08d}.log"


class Recovered:
    """What a journal holds, and where its next record goes.

    `file` is `None` if nothing was ever written; `ahead` is a blank segment that was
    made before it was needed.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.positions: list[int] = []
        self.hard_state = HardState(0, None)
        self.position = 0
        self.number = FIRST_SEGMENT - 1
        self.file: DiskFile | None = None
        self.offset = 0
        self.ahead: DiskFile | None = None

    def close(self) -> None:
        """Close the files."""
        for file in (self.file, self.ahead):
            if file is not None:
                file.close()

    def replay(self, record: Record) -> None:
        """Take one good record into account, in order."""
        if record.kind == Kind.ENTRY:
            entry = decode_entry(record.payload)
            assert entry.index == len(self.entries) + 1, entry.index
            self.entries.append(entry)
            self.positions.append(record.position)
        elif record.kind == Kind.TRUNCATE:
            kept_count = decode_truncation(record.payload) - 1
            del self.entries[kept_count:]
            del self.positions[kept_count:]
        elif record.kind == Kind.HARD_STATE:
            self.hard_state = decode_hard_state(record.payload)
        self.position = record.position


class _SegmentRead(NamedTuple):
    """One segment as it was found."""

    name: str
    file: DiskFile
    data: bytes
    scan: SegmentScan


def recover(disk: Disk) -> Recovered:
    """Read every segment, cut a torn tail, and make what was kept durable.

    Raises `CorruptRecordError`, having changed nothing, if anything is missing or
    damaged that was durable once.
    """
    recovered = Recovered()
    last: _SegmentRead | None = None
    torn_at_start: _SegmentRead | None = None
    try:
        for number in _segment_numbers(disk.names()):
            segment = _read_segment(disk, number, recovered, last)
            if segment.scan.end > 0:
                last = segment
            elif not segment.scan.is_blank:
                torn_at_start = segment
        # Nothing is written before all of it has been read and found to be in order.
        if last is not None:
            _settle(last, recovered)
        if torn_at_start is not None:
            _blank(torn_at_start)
    except BaseException:
        recovered.close()
        raise
    return recovered


def _segment_numbers(names: Sequence[str]) -> list[int]:
    numbers = sorted(
        int(match[1]) for match in map(_SEGMENT_NAME.match, names) if match
    )
    for expected, number in enumerate(numbers, FIRST_SEGMENT):
        if number != expected:
            missing = segment_name(expected)
            raise CorruptRecordError(
                f"{missing} is missing, but {segment_name(number)} is there; {_ADVICE}"
            )
    return numbers


def _read_segment(
    disk: Disk, number: int, recovered: Recovered, previous: _SegmentRead | None
) -> _SegmentRead:
    """Read one segment, add it to what is recovered, and pass on how it was found."""
    name = segment_name(number)
    file = disk.open_file(name)
    try:
        data = file.read(0, file.size())
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
    recovered.number, recovered.file, recovered.offset = number, file, scan.end
    for record in scan.records:
        recovered.replay(record)
    return segment


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
