"""Lists of work: allocations and evaluations, sorted by id, encoded once per version.

A list is made from a copy of its table, so that others may have their turn meanwhile: the
index that is taken with the copy belongs to everything that is made of it.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from nodestate.api.cache import EncodedList, Pace, slices
from nodestate.api.parameters import ALL_NAMESPACES
from nodestate.api.replies import Body
from nodestate.api.shapes import join_list
from nodestate.clock import Clock
from nodestate.fsm.state import State

ENTRY_BYTES_MAX: Final = 64 << 20
"""Entries of one table that are kept."""
STRAY_ENTRIES_MAX: Final = 1000
"""Entries of records that are gone, beyond which they are cleared out."""
LISTS_MAX: Final = 4
"""Whole lists of one table that are kept, each of one namespace or of all."""

_BEHIND_ID_CHARACTERS: Final = "g"


class Listed(Protocol):
    """What a record must have to be in a list."""

    @property
    def id(self) -> str:
        """Return what it is called."""

    @property
    def namespace(self) -> str:
        """Return where its job is."""


R = TypeVar("R", bound=Listed)


class Page(NamedTuple, Generic[R]):
    """Some records, in the order of their ids; the token is empty on the last page."""

    records: list[R]
    next_token: str


class Selection(msgspec.Struct, frozen=True):
    """Which records a list has; `token` is the id at which it begins.

    `sees` says which namespaces the caller may see, where that is not all.
    """

    namespace: str
    prefix: str = ""
    token: str = ""
    per_page: int = 0
    is_wanted: Callable[[Any], bool] | None = None
    sees: Callable[[str], bool] | None = None


class TableCopy(msgspec.Struct, Generic[R], frozen=True):
    """A table as it was at an index, and its ids, sorted."""

    index: int
    records: dict[str, R]
    ids: list[str]


class TableLists(Generic[R]):
    """The list of one table, for all who ask for it."""

    def __init__(
        self,
        table: str,
        records: Callable[[State], Mapping[str, R]],
        encode: Callable[[R], bytes],
        clock: Clock,
    ) -> None:
        self._table = table
        self._records = records
        self._encode = encode
        self._clock = clock
        self._entries: dict[str, tuple[R, bytes]] = {}
        self._entry_bytes = 0
        self._copy: TableCopy[R] = TableCopy(-1, {}, [])
        self._kept: dict[str, EncodedList] = {}
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def whole(self, state: State, namespace: str) -> EncodedList:
        """Return all of a namespace, or of all for `*`, as it is now or newer."""
        copy = await self.copy(state)

        def is_made() -> bool:
            kept = self._kept.get(namespace)
            return kept is not None and kept.index >= copy.index

        async def make() -> None:
            page = await self._read(copy, Selection(namespace))
            made = EncodedList(
                copy.index, Body(join_list(await self.parts(page.records)))
            )
            self._kept.pop(namespace, None)
            self._kept[namespace] = made
            if len(self._kept) > LISTS_MAX:
                del self._kept[next(iter(self._kept))]

        await self._once(f"list {namespace}", is_made, make)
        return self._kept[namespace]

    async def page(self, state: State, selection: Selection) -> tuple[int, Page[R]]:
        """Return some of the list as it is now or newer, and the index that it shows."""
        copy = await self.copy(state)
        return copy.index, await self._read(copy, selection)

    async def parts(self, records: Sequence[R]) -> list[bytes]:
        """Return the entries of records."""
        parts: list[bytes] = []
        pace = Pace(self._clock)
        for piece in slices(len(records)):
            parts += map(self.entry, records[piece])
            await pace.pause_if_due()
        return parts

    def entry(self, record: R) -> bytes:
        """Return a record's entry, encoded once for as long as it is the same record.

        Lists are read from one end to the other: what is kept when there is no room for
        more stays, or nothing would be found again.
        """
        kept = self._entries.get(record.id)
        if kept is not None:
            if kept[0] is record:
                return kept[1]
            self._forget(record.id)
        encoded = self._encode(record)
        if self._entry_bytes + len(encoded) <= ENTRY_BYTES_MAX:
            self._entries[record.id] = record, encoded
            self._entry_bytes += len(encoded)
        return encoded

    def _forget(self, id_: str) -> None:
        self._entry_bytes -= len(self._entries.pop(id_)[1])

    async def copy(self, state: State) -> TableCopy[R]:
        """Return the table as it is now, or newer; one copy is made at a time."""
        wanted_index = state.table_index(self._table)
        await self._once(
            "copy",
            lambda: self._copy.index >= wanted_index,
            lambda: self._make_copy(state),
        )
        return self._copy

    async def _make_copy(self, state: State) -> None:
        index = state.table_index(self._table)
        records = dict(self._records(state))
        ids = await self._sorted_ids(records)
        if len(self._entries) > len(records) + STRAY_ENTRIES_MAX:
            for id_ in [id_ for id_ in self._entries if id_ not in records]:
                self._forget(id_)
        self._copy = TableCopy(index, records, ids)

    async def _sorted_ids(self, records: dict[str, R]) -> list[str]:
        """Return the ids, sorted: those known before, and the new ones merged into them.

        New records stand at the end of a table, so that they are found by what is missing.
        """
        known = self._copy.ids
        ids: list[str] = []
        pace = Pace(self._clock)
        for piece in slices(len(known)):
            ids += [id_ for id_ in known[piece] if id_ in records]
            await pace.pause_if_due()
        missing = len(records) - len(ids)
        new: list[str] = []
        for id_ in reversed(records):
            if len(new) == missing:
                break
            if not _is_among(ids, id_):
                new.append(id_)
        ids += sorted(new)
        ids.sort()  # of two sorted runs: one merge
        return ids

    async def _read(self, copy: TableCopy[R], selection: Selection) -> Page[R]:
        first = bisect_left(copy.ids, max(selection.prefix, selection.token))
        end = bisect_left(copy.ids, selection.prefix + _BEHIND_ID_CHARACTERS)
        ids, records = copy.ids[first:end], copy.records
        # One more than the page has: that is where the next one begins.
        limit = selection.per_page + 1 if selection.per_page else len(ids)
        found: list[R] = []
        pace = Pace(self._clock)
        for piece in slices(len(ids)):
            part = [records[id_] for id_ in ids[piece]]
            found += [one for one in part if is_selected(one, selection)]
            if len(found) >= limit and selection.per_page:
                return Page(found[: limit - 1], next_token=found[limit - 1].id)
            await pace.pause_if_due()
        return Page(found, next_token="")

    async def _once(
        self,
        name: str,
        is_made: Callable[[], bool],
        make: Callable[[], Awaitable[None]],
    ) -> None:
        """Have something made that many wait for, one at a time."""
        while not is_made():
            under_way = self._under_way.get(name)
            if under_way is not None:
                await asyncio.shield(under_way)
                continue
            done = asyncio.get_running_loop().create_future()
            self._under_way[name] = done
            try:
                await make()
            finally:
                # Also if it failed: then one of those who wait makes it.
                del self._under_way[name]
                done.set_result(None)


def is_selected(record: Listed, selection: Selection) -> bool:
    """Say whether a record under the prefix is in the list."""
    if selection.namespace not in {ALL_NAMESPACES, record.namespace}:
        return False
    if selection.sees is not None and not selection.sees(record.namespace):
        return False
    return selection.is_wanted is None or selection.is_wanted(record)


def _is_among(ids: Sequence[str], id_: str) -> bool:
    position = bisect_left(ids, id_)
    return position < len(ids) and ids[position] == id_
