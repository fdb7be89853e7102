"""Journal records: bytes to values and back, with no file in sight.

A record is a mark to find it by, a checksum, a length, its kind, its position (the
number of the change), how far the journal was durable when it was written, and a
payload. What a crash or a bad disk can leave behind is decided here (`scan_segment`),
so that every kind of damage is a plain test.
"""

import struct
import zlib
from enum import IntEnum
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

FORMAT_VERSION: Final = 2
"""What is written. Version 1, which is still read, says nothing of the log's end."""
SEGMENT_BYTES_MIN: Final = 1024
"""Room for any segment header; a shorter file has lost its end."""
PAYLOAD_BYTES_MAX: Final = 16 << 20
"""Twice what a frame may carry, so that whatever arrives can be kept."""
VOTE_BYTES_MAX: Final = 255

Natural = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

_MAGIC: Final = b"\xf1nsR"
_HEADER: Final = struct.Struct("<4sIIBQQ")
_CHECKED: Final = struct.Struct("<IBQQ")
_CHECKED_FROM: Final = _HEADER.size - _CHECKED.size
_PLACE: Final = struct.Struct("<QQ")
_ENTRY: Final = struct.Struct("<QQ")
_INDEX: Final = struct.Struct("<Q")
_SEGMENT: Final = struct.Struct("<IQQ")
_LOG_BASE: Final = struct.Struct("<QQ")
_HARD_STATE: Final = struct.Struct("<QB")

RECORD_BYTES_MIN: Final = _HEADER.size
ENTRY_OVERHEAD_BYTES: Final = _HEADER.size + _ENTRY.size


class Kind(IntEnum):
    """What a record says. Numbers are for ever."""

    SEGMENT = 1
    ENTRY = 2
    TRUNCATE = 3
    HARD_STATE = 4
    SYNCED = 5
    SNAPSHOT = 6


_KINDS: Final = frozenset(int(kind) for kind in Kind)


class Entry(NamedTuple):
    """One entry of the log, in the order that the engine's base class keeps."""

    body: bytes
    index: Natural  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    term: Natural


class LogBase(NamedTuple):
    """An entry that the log goes on behind: its index and term, (0, 0) for none.

    What a snapshot covers ends with one, and so do the entries before a segment.
    """

    index: Natural  # type: ignore[assignment]  # as above
    term: Natural


class HardState(NamedTuple):
    """What a server may never forget: its term, and whom it voted for in it."""

    term: int
    voted_for: str | None


class Segment(NamedTuple):
    """What a segment says of itself: its number, its size, and what is before it.

    That is the hard state and the last entry of the log, `None` if the segment is of
    version 1.
    """

    number: int
    segment_bytes: int
    hard_state: HardState
    log_end: LogBase | None


class Record(NamedTuple):
    """A record that its checksum vouches for; `end` is the offset behind it."""

    kind: int
    position: int
    synced: int
    payload: bytes
    end: int


class Fault(NamedTuple):
    """Why the bytes at an offset are no record."""

    reason: str


class SegmentScan(NamedTuple):
    """What was read from one segment.

    `records` are the good ones in order, without the closing mark; `ends` has the offset
    behind each. `position` is that of the last good record, and `end` the offset where
    the next belongs. `fault` says what is wrong there, or "". `synced` is the furthest
    position that any good record, also one behind the fault, knows to be durable.
    """

    records: list[Record]
    position: int
    end: int
    used: int
    synced: int
    fault: str

    @property
    def is_blank(self) -> bool:
        """Say whether nothing was ever written here."""
        return self.used == 0


def encode_record(
    kind: int, payload: bytes, *, position: int, synced: int, number: int, offset: int
) -> bytes:
    """Return the record that belongs at `offset` of segment `number`, and only there."""
    checked = _CHECKED.pack(len(payload), kind, position, synced)
    checksum = zlib.crc32(payload, zlib.crc32(checked, _seed(number, offset)))
    return b"".join((_MAGIC, checksum.to_bytes(4, "little"), checked, payload))


def decode_record(data: bytes, offset: int, number: int) -> Record | Fault:
    """Read the record at `offset` of segment `number`, or say what is wrong with it."""
    start = offset + _HEADER.size
    if start > len(data):
        return Fault(f"the file ends at {len(data)}, inside a record's header")
    magic, checksum, length, kind, position, synced = _HEADER.unpack_from(data, offset)
    if magic != _MAGIC:
        return Fault(f"expected a record's mark {_MAGIC.hex()}, found {magic.hex()}")
    if length > PAYLOAD_BYTES_MAX:
        return Fault(f"length {length}, at most {PAYLOAD_BYTES_MAX} expected")
    end = start + length
    if end > len(data):
        return Fault(f"length {length}, but the file ends at {len(data)}")
    view = memoryview(data)[offset + _CHECKED_FROM : end]
    found = zlib.crc32(view, _seed(number, offset))
    if found != checksum:
        return Fault(f"checksum {found:08x}, expected {checksum:08x}")
    if kind not in _KINDS:
        return Fault(f"kind {kind} is unknown to this version")
    return Record(kind, position, synced, data[start:end], end)


def scan_segment(data: bytes, number: int, position: int) -> SegmentScan:
    """Read a whole segment that follows the change at `position`.

    The checksum covers the place of a record, so a copy of one inside an entry's body
    is never taken for evidence, and neither is one that the disk put elsewhere.
    """
    used = len(data.rstrip(b"\0"))
    records: list[Record] = []
    offset, synced, fault = 0, 0, ""
    while offset < used and not fault:
        found = decode_record(data, offset, number)
        if isinstance(found, Fault):
            fault = found.reason
            break
        synced = max(synced, found.synced)
        fault = _order_fault(found, position, is_first=not records)
        if fault:
            break
        if found.kind == Kind.SYNCED:
            # The next round overwrites this mark, so nothing whole can stand behind it.
            if found.end < used:
                fault = "bytes behind the closing mark"
            break
        records.append(found)
        position, offset = found.position, found.end
    if fault:
        synced = max(synced, _furthest_synced(data, offset, number, position))
    return SegmentScan(records, position, offset, used, synced, fault)


def encode_entry(entry: Entry) -> bytes:
    """Return the payload of an entry."""
    return _ENTRY.pack(entry.index, entry.term) + entry.body


def decode_entry(payload: bytes) -> Entry:
    """Read the payload of an entry."""
    index, term = _ENTRY.unpack_from(payload)
    return Entry(payload[_ENTRY.size :], index, term)


def encode_truncation(index: int) -> bytes:
    """Return the payload that removes the entries from `index` on."""
    return _INDEX.pack(index)


def decode_truncation(payload: bytes) -> int:
    """Read from which index on entries are removed."""
    (index,) = _INDEX.unpack(payload)
    return int(index)


def encode_snapshot_mark(base: LogBase) -> bytes:
    """Return the payload that replaces all entries by a snapshot up to `base`."""
    return _LOG_BASE.pack(*base)


def decode_snapshot_mark(payload: bytes) -> LogBase:
    """Read up to where a snapshot replaced all entries."""
    return LogBase(*_LOG_BASE.unpack(payload))


def encode_hard_state(hard_state: HardState) -> bytes:
    """Return the payload of a term and a vote."""
    term, voted_for = hard_state
    has_voted = voted_for is not None
    return _HARD_STATE.pack(term, has_voted) + (voted_for or "").encode()


def decode_hard_state(payload: bytes) -> HardState:
    """Read a term and a vote."""
    term, has_voted = _HARD_STATE.unpack_from(payload)
    voted_for = payload[_HARD_STATE.size :].decode() if has_voted else None
    return HardState(term, voted_for)


def encode_segment(segment: Segment) -> bytes:
    """Return the payload that every segment starts with."""
    assert segment.log_end is not None
    return b"".join(
        (
            _SEGMENT.pack(FORMAT_VERSION, segment.number, segment.segment_bytes),
            _LOG_BASE.pack(*segment.log_end),
            encode_hard_state(segment.hard_state),
        )
    )


def decode_segment(payload: bytes) -> Segment | Fault:
    """Read what a segment says of itself, or say that its format is unknown."""
    version, number, segment_bytes = _SEGMENT.unpack_from(payload)
    start, log_end = _SEGMENT.size, None
    if version not in (1, FORMAT_VERSION):
        return Fault(
            f"journal format {version}, this version reads 1 to {FORMAT_VERSION}"
        )
    if version > 1:
        log_end = LogBase(*_LOG_BASE.unpack_from(payload, start))
        start += _LOG_BASE.size
    hard_state = decode_hard_state(payload[start:])
    return Segment(number, segment_bytes, hard_state, log_end)


def _seed(number: int, offset: int) -> int:
    return zlib.crc32(_PLACE.pack(number, offset))


def _order_fault(record: Record, position: int, *, is_first: bool) -> str:
    """Say what is wrong with a whole record as the next one, or ""."""
    if is_first != (record.kind == Kind.SEGMENT):
        return f"kind {record.kind} in the wrong place"
    # The header and the closing mark are no changes: they repeat the last position.
    is_change = record.kind not in (Kind.SEGMENT, Kind.SYNCED)
    expected = position + is_change
    if record.position != expected:
        return f"position {record.position}, expected {expected}"
    return ""


def _furthest_synced(data: bytes, start: int, number: int, position: int) -> int:
    """Return how far the whole records at any offset from `start` know it durable.

    Only positions that can stand there count, which keeps the search cheap when a body
    is full of marks. `data` is the whole segment: a record may well end in zeros.
    """
    highest = position + (len(data) - start) // _HEADER.size + 1
    furthest = 0
    offset = data.find(_MAGIC, start)
    while offset >= 0:
        if _may_be_record(data, offset, position, highest):
            found = decode_record(data, offset, number)
            if isinstance(found, Record):
                furthest = max(furthest, found.synced)
        offset = data.find(_MAGIC, offset + 1)
    return furthest


def _may_be_record(data: bytes, offset: int, lowest: int, highest: int) -> bool:
    if offset + _HEADER.size > len(data):
        return False
    position = _HEADER.unpack_from(data, offset)[4]
    return bool(lowest <= position <= highest)
