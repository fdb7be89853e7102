"""What a stopped server's journal holds, entry by entry, without a change to it.

Nothing is decided or repaired here as at a start: damage is shown where it is, and what
was read before it stays shown.
"""

from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgspec

from nodestate.errors import JournalError
from nodestate.model.encoding import encode_json
from nodestate.model.naming import nomad_name
from nodestate.replication import entries
from nodestate.replication.configuration import Configuration
from nodestate.replication.frames import Formation
from nodestate.replication.records import (
    RECORD_BYTES_MIN,
    Entry,
    Fault,
    Kind,
    Record,
    SegmentScan,
    decode_entry,
    decode_record,
    decode_segment,
    decode_snapshot_mark,
    decode_truncation,
    scan_segment,
)
from nodestate.replication.recovery import present_segments, segment_name

REDACTED: Final = "(redacted)"
_NAMES: Final = {
    entries.COMMAND: "command",
    entries.NOOP: "noop",
    entries.FORMATION: "formation",
    entries.CONFIGURATION: "configuration",
}


class JournalFiles(Protocol):
    """A data directory to read from."""

    def names(self) -> list[str]:
        """Return the names of the files."""

    def read_file(self, name: str) -> bytes | None:
        """Return the whole of a file, or `None` if there is none."""


class EntryFound(
    msgspec.Struct, frozen=True, kw_only=True, rename=nomad_name, omit_defaults=True
):
    """One entry: where it was in the log, and what it says.

    `position` is the number of the change that brought it. `is_replaced` says that a
    later change took it out of the log again, and `error` why the body cannot be read.
    """

    index: int
    term: int
    position: int
    kind: str
    body_bytes: int
    is_replaced: bool = False
    body: Any = None
    error: str = ""


class FaultFound(msgspec.Struct, frozen=True, kw_only=True, rename=nomad_name):
    """Where reading ends before the journal does, and why.

    What stands there `was_durable` once, so that it is damage that no server starts
    from; otherwise a crash tore it, and the next start cuts it off.
    """

    file: str
    offset: int
    reason: str
    was_durable: bool


def read_entries(files: JournalFiles) -> Iterator[EntryFound | FaultFound]:
    """Yield every entry in the order of the journal; a fault, if any, is the last.

    Raises `JournalError` if there is no journal, or a file cannot be read. Reads all of
    it twice: only its end tells which entries were replaced.
    """
    kept_positions = set(_positions_kept(files))
    for found in _read_records(files):
        if isinstance(found, FaultFound):
            yield found
        elif found.kind == Kind.ENTRY:
            yield _describe(
                decode_entry(found.payload),
                found.position,
                is_replaced=found.position not in kept_positions,
            )


def _positions_kept(files: JournalFiles) -> list[int]:
    """Return the positions of the entries that no later change took away."""
    kept: list[tuple[int, int]] = []
    for found in _read_records(files):
        if isinstance(found, FaultFound):
            break
        if found.kind == Kind.ENTRY:
            kept.append((decode_entry(found.payload).index, found.position))
        elif found.kind == Kind.TRUNCATE:
            first = decode_truncation(found.payload)
            while kept and kept[-1][0] >= first:
                kept.pop()
        elif found.kind == Kind.SNAPSHOT:
            # What it covers is still in the state; what it does not was given up.
            covered_index = decode_snapshot_mark(found.payload).index
            while kept and kept[-1][0] > covered_index:
                kept.pop()
    return [position for _, position in kept]


def _read_records(files: JournalFiles) -> Iterator[Record | FaultFound]:
    """Yield the records of all segments, and then what ended the reading, if anything."""
    numbers = present_segments(files.names())
    if not numbers:
        raise JournalError("there is no journal")
    position: int | None = None
    torn: FaultFound | None = None
    for expected, number in enumerate(numbers, numbers[0]):
        name = segment_name(number)
        if number != expected:
            reason = f"missing, but {name} is there"
            yield _damage(segment_name(expected), 0, reason)
            return
        data = files.read_file(name) or b""
        scan = scan_segment(data, number, _position_before(data, number, position))
        if scan.is_blank:
            # Made ahead, unless another one was made after it.
            if number != numbers[-1]:
                torn = _damage(name, 0, "blank, but not the last segment")
            break
        if torn is not None:
            # The next segment is begun when all of the one before it is durable.
            yield msgspec.structs.replace(torn, was_durable=True)
            return
        yield from scan.records
        position = scan.position
        torn = _fault_of(name, data, scan)
        if torn is not None and torn.was_durable:
            break
        if _is_closing_mark_torn(scan) and number != numbers[-1]:
            torn = None
    if torn is not None:
        yield torn


def _position_before(data: bytes, number: int, position: int | None) -> int:
    """Return the position that a segment follows; the first one says it itself."""
    if position is not None:
        return position
    record = decode_record(data, 0, number)
    return 0 if isinstance(record, Fault) else record.position


def _fault_of(name: str, data: bytes, scan: SegmentScan) -> FaultFound | None:
    """Say what is wrong with a segment, `None` if nothing is."""
    if scan.records:
        header = decode_segment(scan.records[0].payload)
        if isinstance(header, Fault):
            return _damage(name, 0, header.reason)
        if header.segment_bytes != len(data):
            reason = f"{len(data)} bytes long, expected {header.segment_bytes}"
            return _damage(name, min(len(data), header.segment_bytes), reason)
    if scan.synced > scan.position:
        return _damage(name, scan.end, scan.fault or "no record")
    if not scan.fault:
        return None
    return FaultFound(file=name, offset=scan.end, reason=scan.fault, was_durable=False)


def _is_closing_mark_torn(scan: SegmentScan) -> bool:
    """Say whether no more than the mark behind the last record is missing.

    It is never synced, and once the next segment is begun nothing needs it.
    """
    return scan.used - scan.end <= RECORD_BYTES_MIN


def _damage(name: str, offset: int, reason: str) -> FaultFound:
    return FaultFound(file=name, offset=offset, reason=reason, was_durable=True)


def _describe(entry: Entry, position: int, *, is_replaced: bool) -> EntryFound:
    kind = entry.body[0] if entry.body else None
    body, error = None, ""
    if kind in _NAMES:
        try:
            body = _readable(entries.decode_body(entry.body))
        except JournalError as cannot_read:
            error = str(cannot_read)
    return EntryFound(
        index=entry.index,
        term=entry.term,
        position=position,
        kind=_NAMES.get(kind, f"unknown ({kind})") if kind is not None else "empty",
        body_bytes=len(entry.body),
        is_replaced=is_replaced,
        body=body,
        error=error,
    )


def _readable(body: entries.Body) -> Any:
    """Return what a body says under names, without what is secret."""
    if isinstance(body, entries.Envelope):
        shown = {
            "Origin": _origin(body),
            "Floor": body.floor,
            "Command": msgspec.json.decode(encode_json(body.command)),
        }
        if body.idempotency is not None:
            shown["IdempotencyKey"] = body.idempotency.key
        return redacted(shown)
    if isinstance(body, entries.Noop):
        return {"Origin": _origin(body)} if body.origin is not None else None
    if isinstance(body, Configuration):
        return {"Members": [_named(member) for member in body.members]}
    return _formation(body)


def _origin(body: entries.Envelope | entries.Noop) -> dict[str, Any]:
    assert body.origin is not None
    return _named(body.origin)


def _formation(formation: Formation) -> dict[str, Any]:
    addresses = {server_id: rest for server_id, *rest in formation.addresses}
    return {
        "ClusterID": formation.cluster_id,
        "Members": [
            {
                "ServerID": server_id,
                "Incarnation": incarnation,
                "Addresses": addresses.get(server_id, []),
            }
            for server_id, incarnation in formation.members
        ],
    }


def _named(record: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a record that is written as a bare list."""
    return {
        nomad_name(name): getattr(record, name) for name in record.__struct_fields__
    }


def redacted(value: Any) -> Any:
    """Return a value of JSON with every secret in it, or digest of one, left out."""
    if isinstance(value, list):
        return [redacted(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: REDACTED if item and "secret" in name.lower() else redacted(item)
        for name, item in value.items()
    }
