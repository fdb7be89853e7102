"""Secondary indexes: which records have something in common, in the order they came."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from typing_extensions import override

K = TypeVar("K")
M = TypeVar("M")


class GroupIndex(Generic[K, M]):
    """The keys of records, by what they have in common.

    A copy shares the groups. The original then writes to a group only once it has a copy
    of its own, so that a busy group is copied once per copy of the index and not once per
    record. The copy is only for reading.
    """

    __slots__ = ("_groups", "_is_copy", "_owned")

    def __init__(self) -> None:
        self._groups: dict[K, dict[M, None]] = {}
        self._owned: set[K] = set()  # never iterated, so its order is nobody's concern
        self._is_copy = False

    def copy(self) -> "GroupIndex[K, M]":
        """Return an index that stays as this one is now."""
        copy: GroupIndex[K, M] = GroupIndex()
        copy._groups = self._groups.copy()
        copy._is_copy = True
        self._owned = set()
        return copy

    def group(self, key: K) -> Iterable[M]:
        """Return the members under a key, the oldest first; do not keep it."""
        return self._groups.get(key, ())

    def count(self, key: K) -> int:
        """Return how many members there are under a key."""
        return len(self._groups.get(key, ()))

    def add(self, key: K, member: M) -> None:
        """Enter a member; one that is there stays where it is."""
        group = self._groups.get(key)
        if group is None or member not in group:
            self._own(key)[member] = None

    def discard(self, key: K, member: M) -> None:
        """Take a member out, if it is there; no empty group stays behind."""
        group = self._groups.get(key)
        if group is None or member not in group:
            return
        if len(group) == 1:
            del self._groups[key]
            self._owned.discard(key)
        else:
            del self._own(key)[member]

    def _own(self, key: K) -> dict[M, None]:
        assert not self._is_copy, "a copy is only for reading"
        if key not in self._owned:
            self._groups[key] = dict(self._groups.get(key, ()))
            self._owned.add(key)
        return self._groups[key]

    @override
    def __eq__(self, other: object) -> bool:
        """Equal when they have the same members under the same keys, in any order."""
        return isinstance(other, GroupIndex) and self.as_sets() == other.as_sets()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def as_sets(self) -> dict[K, frozenset[M]]:
        """Return all groups, to compare two indexes by."""
        return {key: frozenset(group) for key, group in self._groups.items()}
