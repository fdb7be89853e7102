"""JSON of records, encoded once for each version and kept while there is room for it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from nodestate.api.replies import Body

KEPT_BYTES_MAX: Final = 64 << 20
"""JSON of one kind that is kept; what was encoded first goes first."""

K = TypeVar("K", bound=Hashable)


class _Kept(NamedTuple):
    records: tuple[object, ...]
    body: Body


class RecordCache(Generic[K]):
    """The JSON of what is known by a key, true as long as its records are the same ones.

    Records never change, so the same object is the same version.
    """

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        # A plain map that loses its first record again and again is ever slower at it.
        self._kept: OrderedDict[K, _Kept] = OrderedDict()
        self._kept_bytes = 0

    def body(self, key: K, encode: Callable[[], bytes], *records: object) -> Body:
        """Return the JSON that `encode` makes of the records, made once for these ones."""
        kept = self._kept.get(key)
        if kept is not None:
            if all(map(_is_same, kept.records, records)):
                return kept.body
            self._drop(key)
        body = Body(encode())
        self._kept[key] = _Kept(records, body)
        self._kept_bytes += len(body.plain)
        while self._kept_bytes > self._bytes_max and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))
        return body

    def _drop(self, key: K) -> None:
        self._kept_bytes -= len(self._kept.pop(key).body.plain)


def _is_same(one: object, other: object) -> bool:
    return one is other
