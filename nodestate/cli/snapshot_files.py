"""Snapshot files read without a server: every checksum, every record.

What is read here can be restored: it is put together as a server would do it.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from nodestate.fsm.pieces import StateLoader
from nodestate.fsm.state import State
from nodestate.fsm.tables import TABLES
from nodestate.model.naming import nomad_name
from nodestate.replication.configuration import MemberEntry, decode_image
from nodestate.replication.snapshot_format import (
    SnapshotMeta,
    SnapshotScanner,
    decode_frame,
    snapshot_name,
)

READ_BYTES: Final = 1 << 20

_PIECE: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_NAME: Final = msgspec.msgpack.Decoder(str)


class TableSummary(msgspec.Struct, frozen=True, rename=nomad_name):
    """How many records of a table there are, and what they take before compression."""

    name: str
    count: int
    bytes: int


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read whole and found right."""

    meta: SnapshotMeta
    byte_count: int
    state: State
    tables: tuple[TableSummary, ...]

    @property
    def name(self) -> str:
        """Return what a server would call the file."""
        return snapshot_name(self.meta.index, self.meta.term)

    def members(self) -> tuple[MemberEntry, ...]:
        """Return the members of the cluster that it is of, none if it does not say."""
        if not self.meta.configuration:
            return ()
        return decode_image(self.meta.configuration).configuration.members

    def records(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield table, key and record of everything in it, in order."""
        for table in TABLES:
            for item in table.items(self.state):
                if item is not None:
                    yield table.name, *item


def read_snapshot_file(path: Path) -> SnapshotFile:
    """Read a file; `SnapshotError` and `OSError` say why that cannot be done."""
    scanner, loader = SnapshotScanner(), StateLoader()
    bytes_by_table: Counter[str] = Counter()
    byte_count = piece_count = 0
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            byte_count += len(data)
            for payload in scanner.feed(data):
                for piece in decode_frame(payload):
                    loader.feed(piece)
                    # The first one is about the others.
                    if piece_count > 0:
                        bytes_by_table[_table_of(piece)] += len(piece)
                    piece_count += 1
    meta, state = scanner.finish(), loader.finish()
    return SnapshotFile(
        meta=meta,
        byte_count=byte_count,
        state=state,
        tables=tuple(
            TableSummary(table.name, table.count(state), bytes_by_table[table.name])
            for table in TABLES
        ),
    )


def _table_of(piece: bytes) -> str:
    name, *_ = _PIECE.decode(piece)
    return _NAME.decode(name)
