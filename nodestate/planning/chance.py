"""Choices that look like chance and follow from a seed.

A scheduling run is to be the same again for the same state and evaluation, on every
machine and in every version of Python: so the numbers are our own, SplitMix64, and not
those of a library that may change.
"""

import hashlib
from typing import Final, TypeVar

T = TypeVar("T")

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_STEP: Final = 0x9E37_79B9_7F4A_7C15


class Chance:
    """A sequence of numbers that the seed alone decides."""

    __slots__ = ("_state",)

    def __init__(self, *seed: str | int) -> None:
        text = "\0".join(map(str, seed))
        self._state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])

    def below(self, bound: int) -> int:
        """Return a number from 0 up to, and not including, `bound` (at most 2**32).

        The high bits count, so that no number is favoured by more than one in 2**32.
        """
        self._state = (self._state + _STEP) & _MASK
        mixed = self._state
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58_476D_1CE4_E5B9 & _MASK
        mixed = (mixed ^ (mixed >> 27)) * 0x94D0_49BB_1331_11EB & _MASK
        return (mixed ^ (mixed >> 31)) * bound >> 64


class Walk:
    """A walk around a list in shuffled order, that goes on where it stopped.

    The list is shuffled as far as the walk has come: an evaluation that needs ten nodes
    of ten thousand does not pay for the rest.
    """

    __slots__ = ("_chance", "_items", "_position", "_shuffled_count")

    def __init__(self, count: int, chance: Chance) -> None:
        self._items = list(range(count))
        self._chance = chance
        self._position = 0
        self._shuffled_count = 0

    def __len__(self) -> int:
        return len(self._items)

    def step(self) -> int:
        """Return the number of the next item; after the last comes the first again."""
        position = self._position
        items = self._items
        if position == self._shuffled_count:
            other = position + self._chance.below(len(items) - position)
            items[position], items[other] = items[other], items[position]
            self._shuffled_count += 1
        self._position = (position + 1) % len(items)
        return items[position]
