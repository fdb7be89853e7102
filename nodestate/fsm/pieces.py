"""A state as a row of pieces: written and read a little at a time, whatever its size.

The first piece says what follows. Each of the others has some records of one table, in
order. The same state makes the same pieces on every server of one version.

A server reads what older ones wrote, and refuses what it would read only in part: a
format, a table or a field that it does not know.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect
from msgspec.structs import replace

from nodestate.errors import SnapshotError
from nodestate.fsm.packing import NodePacker, NodeUnpacker
from nodestate.fsm.state import NODES, State
from nodestate.fsm.tables import TABLES, Item, Table
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.job import Job
from nodestate.model.node import Node

PIECES_VERSION: Final = 1
RECORDS_PER_PIECE: Final = 64
"""Few enough that a piece takes 3 ms at most, to write or to read."""

NEWER: Final = "it was written by a newer version of nodestate"


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first piece.

    `counts` has the number of records by table, and `fields` the number of fields by
    kind of record: fields are only ever added.
    """

    version: int
    indexes: dict[str, int]
    counts: dict[str, int]
    fields: dict[str, int]


class _Piece(msgspec.Struct, frozen=True, array_like=True):
    """Records of one table; nodes as `packing` has them, of others keys and records."""

    table: str
    records: msgspec.Raw


_INDEX_FIELDS: Final = (
    "create_index",
    "modify_index",
    "node_modify_index",
    "alloc_modify_index",
    "snapshot_index",
)
_HEAD: Final = msgpack_decoder(_Head)
_PIECE: Final = msgpack_decoder(_Piece)
_BY_NAME: Final = {table.name: table for table in TABLES}
_ITEMS: Final[dict[str, msgspec.msgpack.Decoder[list[Item]]]] = {
    table.name: msgpack_decoder(list[tuple[table.key, table.record]])  # type: ignore[name-defined]
    for table in TABLES
}


def _count_fields(kinds: Iterable[Any]) -> dict[str, int]:
    """Return how many fields each kind of record has, down to the innermost."""
    counts: dict[str, int] = {}
    rest = list(inspect.multi_type_info(kinds))
    while rest:
        kind = rest.pop()
        if isinstance(kind, inspect.StructType):
            name = kind.cls.__name__
            if name not in counts:
                counts[name] = len(kind.fields)
                rest += [field.type for field in kind.fields]
        for inner in ("item_type", "key_type", "value_type"):
            if hasattr(kind, inner):
                rest.append(getattr(kind, inner))
        for inner in ("item_types", "types"):
            rest += getattr(kind, inner, ())
    return dict(sorted(counts.items()))


FIELDS: Final = _count_fields(table.record for table in TABLES)
"""How many fields each kind of record has in this version."""


def encode_pieces(state: State) -> Iterator[bytes]:
    """Yield the pieces; an empty one is none, and only a place to pause.

    The state must not change meanwhile: hand in a `shallow_copy`.
    """
    yield MSGPACK.encode(
        _Head(
            version=PIECES_VERSION,
            indexes=state.indexes,
            counts={table.name: table.count(state) for table in TABLES},
            fields=FIELDS,
        )
    )
    for table in TABLES:
        packer = NodePacker() if table.name == NODES else None
        items: list[Item] = []
        for item in table.items(state):
            if item is None:
                yield b""
                continue
            items.append(item)
            if len(items) == RECORDS_PER_PIECE:
                yield _encode_piece(table, items, packer)
                items = []
        if items:
            yield _encode_piece(table, items, packer)


def _encode_piece(table: Table, items: list[Item], packer: NodePacker | None) -> bytes:
    records = MSGPACK.encode(items) if packer is None else packer.encode(items)
    return MSGPACK.encode(_Piece(table.name, msgspec.Raw(records)))


class StateLoader:
    """Puts a state together from its pieces, fed in order.

    After a `SnapshotError` nothing of it is of use.
    """

    def __init__(self) -> None:
        self._state = State()
        self._head: _Head | None = None
        self._rest = list(TABLES)  # from the table of the last piece on
        self._last_key: Any = None
        self._nodes = NodeUnpacker()

    def feed(self, piece: bytes, *, index_max: int | None = None) -> None:
        """Take the next piece; `SnapshotError` if it is not what can come next.

        Records that say that they changed after `index_max` then say that they did there.
        """
        try:
            if self._head is None:
                self._begin(_HEAD.decode(piece))
            else:
                self._add(_PIECE.decode(piece), index_max)
        except (msgspec.MsgspecError, ValueError) as error:
            # msgspec lets a text that is no UTF-8 through as Python's own error.
            raise SnapshotError(f"a piece cannot be read: {error}") from error

    def finish(self) -> State:
        """Return the state, if nothing is missing."""
        if self._head is None:
            raise SnapshotError("there are no pieces")
        for table in TABLES:
            count = table.count(self._state)
            expected = self._head.counts.get(table.name, 0)
            if count != expected:
                raise SnapshotError(
                    f"table {table.name} has {count} records, expected {expected}"
                )
        return self._state

    def _begin(self, head: _Head) -> None:
        if head.version != PIECES_VERSION:
            raise SnapshotError(
                f"its state has format {head.version}, this server reads {PIECES_VERSION}"
            )
        for name, count in head.fields.items():
            if count > FIELDS.get(name, 0):
                raise SnapshotError(f"{NEWER}: {name} has {count} fields")
        for name in head.counts:
            if name not in _BY_NAME:
                raise SnapshotError(f"{NEWER}: it has a table {name}")
        self._state.indexes.update(head.indexes)
        self._head = head

    def _add(self, piece: _Piece, index_max: int | None) -> None:
        table = _BY_NAME.get(piece.table)
        if table is None:
            raise SnapshotError(f"{NEWER}: it has a table {piece.table}")
        if table not in self._rest:
            raise SnapshotError(f"records of table {table.name} are out of order")
        while self._rest[0] is not table:
            del self._rest[0]
            self._last_key = None
        if table.name == NODES:
            items: list[Item] = list(self._nodes.decode(piece.records))
        else:
            items = _ITEMS[table.name].decode(piece.records)
        if table.is_sorted:
            self._check_order(table, items)
        if index_max is not None:
            items = [(key, _capped(record, index_max)) for key, record in items]
        table.put(self._state, items)

    def _check_order(self, table: Table, items: list[Item]) -> None:
        last_key = self._last_key
        for key, _ in items:
            if last_key is not None and not last_key < key:
                raise SnapshotError(f"keys of table {table.name} are out of order")
            last_key = key
        self._last_key = last_key


def _capped(record: Any, index_max: int) -> Any:
    """Return a record none of whose indexes is beyond that one."""
    changed: dict[str, Any] = {
        name: index_max
        for name in _INDEX_FIELDS
        if getattr(record, name, 0) > index_max
    }
    if isinstance(record, Job):
        # Which job it is among those that had its id: versions are found by it.
        changed.pop("create_index", None)
    if isinstance(record, Node):
        events = tuple(_capped(event, index_max) for event in record.events)
        if events != record.events:
            changed["events"] = events
    return replace(record, **changed) if changed else record
