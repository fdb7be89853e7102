"""Digests of the tables: equal on two servers where their states are.

A table's digest is the SHA-256 of the digests of its records, in order, and of the index
at which it last changed. A record that is still the one of last time is not encoded
again: that takes most of the work away where little changes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Generator
from hashlib import sha256
from itertools import islice
from operator import is_
from typing import Any, Final, NamedTuple

from nodestate.fsm.pieces import FIELDS
from nodestate.fsm.state import State
from nodestate.fsm.tables import TABLES, Table
from nodestate.model.encoding import MSGPACK

RECORDS_PER_STEP: Final = 128
"""Few enough that a step takes 3 ms at most."""
SHA_BYTES: Final = sha256().digest_size

Digests = tuple[tuple[str, bytes], ...]
"""Each table's name and digest, in the order of the list of tables."""

FORM: Final = "form-" + sha256(MSGPACK.encode(FIELDS)).hexdigest()[:16]
"""What records look like in this version: where that differs, equal states have other
digests, and say nothing about each other."""


class _Columns(NamedTuple):
    """A table as it was last time: three columns, which cost less than a map would."""

    keys: list[Any]
    records: list[Any]
    digests: bytearray


class Digester:
    """Digests one server's state, again and again."""

    def __init__(self) -> None:
        self._remembered: dict[str, _Columns] = {}

    def steps(self, state: State) -> Generator[None, None, Digests]:
        """Return the digests of all tables; yields wherever others may have their turn.

        The state must not change meanwhile: hand in a `shallow_copy`. `FORM` is the name
        of the first digest, so that those of two forms are not compared.
        """
        digests: list[tuple[str, bytes]] = [(FORM, b"")]
        for table in TABLES:
            digest = yield from self._table_steps(table, state)
            digests.append((table.name, digest))
        return tuple(digests)

    def _table_steps(self, table: Table, state: State) -> Generator[None, None, bytes]:
        before = self._remembered.pop(table.name, _Columns([], [], bytearray()))
        now = _Columns([], [], bytearray())
        whole = sha256(MSGPACK.encode(state.indexes.get(table.name, 0)))
        position = -1
        items = table.items(state)
        while step := list(islice(items, RECORDS_PER_STEP)):
            found = [item for item in step if item is not None]
            if found:
                keys = [key for key, _ in found]
                records = [record for _, record in found]
                span = _span(before.keys, keys, position, is_sorted=table.is_sorted)
                position = span.stop
                digests = _digests(before, span, keys, records)
                now.keys.extend(keys)
                now.records.extend(records)
                now.digests.extend(digests)
                whole.update(digests)
            yield
        self._remembered[table.name] = now
        return whole.digest()


def table_digests(state: State) -> Digests:
    """Return the digests of all tables at once, holding up whoever waits."""
    steps = Digester().steps(state)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            digests: Digests = done.value
            return digests


def digest_of_all(digests: Digests) -> bytes:
    """Return one digest for all tables."""
    return sha256(MSGPACK.encode(digests)).digest()


def _span(
    before: list[Any], keys: list[Any], position: int, *, is_sorted: bool
) -> range:
    """Return where in a table these keys may be, the next ones after `position`.

    That is -1 at first. A table that is not sorted loses records at its front and gains
    them at its end: if it has lost the first one, it has lost them all.
    """
    if is_sorted:
        start = bisect_left(before, keys[0], max(position, 0))
        return range(start, bisect_right(before, keys[-1], start))
    if position >= 0:
        start = position
    else:
        start = before.index(keys[0]) if keys[0] in before else len(before)
    return range(start, min(start + len(keys), len(before)))


def _digests(
    before: _Columns, span: range, keys: list[Any], records: list[Any]
) -> bytes:
    """Return the digests of records; of those that are the same, the ones of last time."""
    start, stop = span.start, span.stop
    if keys == before.keys[start:stop] and all(
        map(is_, records, before.records[start:stop])
    ):
        return bytes(before.digests[start * SHA_BYTES : stop * SHA_BYTES])
    positions = {before.keys[position]: position for position in span}
    digests = bytearray()
    for key, record in zip(keys, records, strict=True):
        position = positions.get(key)
        if position is not None and before.records[position] is record:
            start = position * SHA_BYTES
            digests += before.digests[start : start + SHA_BYTES]
        else:
            digests += sha256(MSGPACK.encode((key, record))).digest()
    return bytes(digests)
