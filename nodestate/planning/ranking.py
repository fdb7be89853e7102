"""How good a node is for a group: a number from a few parts, the mean of them.

The arithmetic is that of IEEE 754 with nothing taken from a C library, so that the same
view gives the same order on every machine. None of it is stored but for being shown.
"""

from bisect import insort_right
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from nodestate.fsm.capacity import Room
from nodestate.model.job import Job, Spread, TaskGroup
from nodestate.model.node import Node, NodeKey
from nodestate.planning.constraints import Reader, target_reader
from nodestate.planning.feasibility import matcher
from nodestate.planning.occupancy import Occupancy, Tally

BINPACK: Final = "binpack"
ANTI_AFFINITY: Final = "job-anti-affinity"
PENALTY: Final = "node-reschedule-penalty"
AFFINITY: Final = "node-affinity"
SPREAD: Final = "allocation-spread"

CANDIDATES_KEPT_MAX: Final = 5
"""As many as a metrics object shows."""
PENALTY_SCORE: Final = -1.0
SPREAD_SCORE_MIN: Final = -1.0
FIT_MAX: Final = 18.0
OTHER_VALUES: Final = "*"
"""The target of a spread that stands for every value without a target of its own."""
POWERS_KEPT_MAX: Final = 65_536

_LN_10: Final = 2.302585092994046
_TERMS: Final = 28
"""So many of the series suffice for full precision up to ten to the power of one."""


@lru_cache(maxsize=POWERS_KEPT_MAX)
def _power_of_ten(numerator: int, denominator: int) -> float:
    """Return 10 to the power of a fraction from 0 to 1: the exponential series."""
    exponent = numerator / denominator * _LN_10
    value = 1.0
    for term in range(_TERMS, 0, -1):
        value = 1.0 + value * exponent / term
    return value


def binpack(room: Room, cpu: int, memory_mb: int) -> float:
    """Return how full the node would be with that much more on it, from 0 to 1.

    There is room for it. A resource that a node has nothing of is full.
    """
    totals = room.totals
    total = 0.0
    for free, whole in (
        (room.free_cpu - cpu, totals.cpu),
        (room.free_memory_mb - memory_mb, totals.memory_mb),
    ):
        total += _power_of_ten(free, whole) if whole > 0 else 1.0
    return min(max(20.0 - total, 0.0), FIT_MAX) / FIT_MAX


def anti_affinity(neighbour_count: int, group_count: int) -> float:
    """Return what speaks against a node with so many of the group on it."""
    return -(neighbour_count + 1) / max(group_count, 1)


class Score(NamedTuple):
    """The parts of a node's score. `None` where there is nothing to be said."""

    binpack: float
    anti_affinity: float | None = None
    affinity: float | None = None
    penalty: float | None = None
    spread: float | None = None

    def added_up(self) -> tuple[float, int]:
        """Return the sum of the parts that there are, and their number."""
        total, count = 0.0, 0
        for part in self:  # not sum(), which rounds by Python's version
            if part is not None:
                total += part
                count += 1
        return total, count

    def shown(self, *, is_system: bool, has_spreads: bool) -> dict[str, float]:
        """Return the parts by their names, as a metrics object shows them."""
        if is_system:
            return {BINPACK: self.binpack}
        shown = {
            BINPACK: self.binpack,
            ANTI_AFFINITY: self.anti_affinity or 0.0,
            PENALTY: self.penalty or 0.0,
            AFFINITY: self.affinity or 0.0,
        }
        if has_spreads:
            shown[SPREAD] = self.spread or 0.0
        return shown


class Affinities:
    """What a group would rather have, by its own word, its job's and its tasks'."""

    __slots__ = ("_weighed", "_weight_sum")

    def __init__(self, job: Job, group: TaskGroup) -> None:
        affinities = [*(job.affinities or ()), *(group.affinities or ())]
        for task in group.tasks:
            affinities += task.affinities or ()
        self._weighed: list[tuple[Callable[[Node], bool], int]] = [
            (matcher(each.l_target, each.operand, each.r_target), each.weight)
            for each in affinities
        ]
        self._weight_sum = sum(abs(each.weight) for each in affinities)

    @property
    def is_asked(self) -> bool:
        """Say whether there are any."""
        return bool(self._weighed)

    def score(self, node: Node) -> float | None:
        """Return from -1 to 1 how much the node is liked, `None` for neither way."""
        weight = sum(weight for is_met, weight in self._weighed if is_met(node))
        return weight / self._weight_sum if weight else None


class _Spread(NamedTuple):
    target: str
    read: Reader
    weight: int
    percents: dict[str, int]


class Spreads:
    """Over which values a group is spread, its own and its job's."""

    __slots__ = ("_group_count", "_group_name", "_spreads", "_weight_sum")

    def __init__(self, job: Job, group: TaskGroup) -> None:
        spreads = (*(group.spreads or ()), *(job.spreads or ()))
        self._spreads = [
            _Spread(
                each.attribute,
                target_reader(each.attribute),
                each.weight,
                _percents(each),
            )
            for each in spreads
        ]
        self._weight_sum = sum(each.weight for each in spreads)
        self._group_name = group.name
        self._group_count = group.count

    @property
    def is_asked(self) -> bool:
        """Say whether there are any."""
        return bool(self._spreads)

    def values_of(self, node: Node) -> tuple[str | None, ...]:
        """Return what the node has of each that the group is spread over."""
        return tuple(spread.read(node) for spread in self._spreads)

    def scorer(self, occupancy: Occupancy) -> Callable[[tuple[str | None, ...]], float]:
        """Return what scores a node's values as things stand, each value only once."""
        parts: list[tuple[_Spread, Tally]] = [
            (spread, occupancy.tally(spread.target, self._group_name))
            for spread in self._spreads
        ]
        known: dict[tuple[str | None, ...], float] = {}

        def score(values: tuple[str | None, ...]) -> float:
            total = known.get(values)
            if total is None:
                total = 0.0
                for (spread, tally), value in zip(parts, values, strict=True):
                    total += self._boost(spread, tally, value)
                known[values] = total
            return total

        return score

    def _boost(self, spread: _Spread, tally: Tally, value: str | None) -> float:
        if value is None:
            return SPREAD_SCORE_MIN
        if not spread.percents:
            return even_boost(tally, value)
        percent = spread.percents.get(value, spread.percents.get(OTHER_VALUES, 0))
        # In hundredths of an allocation, to stay among whole numbers.
        wanted = percent * self._group_count
        if wanted <= 0:
            return SPREAD_SCORE_MIN
        missing = wanted - 100 * (tally.get(value, 0) + 1)
        return missing / wanted * (spread.weight / max(self._weight_sum, 1))


def _percents(spread: Spread) -> dict[str, int]:
    """Return the targets of a spread; what they leave of 100 is for all other values."""
    percents = {each.value: each.percent for each in spread.spread_target or ()}
    total = sum(percents.values())
    if 0 < total < 100:
        percents.setdefault(OTHER_VALUES, 100 - total)
    return percents


def even_boost(tally: Tally, value: str) -> float:
    """Return what speaks for a value where all are to have equally many."""
    if not tally:
        return 0.0
    count, least, most = tally.get(value, 0), min(tally.values()), max(tally.values())
    if count != least:
        return (least - count) / least
    return SPREAD_SCORE_MIN if least == most else (most - least) / least


class Candidate(NamedTuple):
    """A node with room, what it is worth, and the mean of that."""

    key: NodeKey
    score: Score
    total: float


class Candidates:
    """The first so many nodes with room, of which the best few are kept.

    The first poor ones, at 0 or less, are set aside: they count only if there are not
    enough others.
    """

    __slots__ = ("_best", "_found_count", "_limit", "_set_aside", "_set_aside_max")

    def __init__(self, limit: int, *, set_aside_max: int) -> None:
        self._limit = limit
        self._set_aside_max = set_aside_max
        self._set_aside: list[Candidate] = []
        self._best: list[Candidate] = []
        self._found_count = 0

    def wants(self, total: float) -> bool:
        """Count one more that is worth that; say whether it is to be kept."""
        if total <= 0 and len(self._set_aside) < self._set_aside_max:
            return True
        self._found_count += 1
        best = self._best
        return len(best) < CANDIDATES_KEPT_MAX or total > best[-1].total

    def keep(self, candidate: Candidate) -> None:
        """Keep one that is wanted."""
        if candidate.total <= 0 and len(self._set_aside) < self._set_aside_max:
            self._set_aside.append(candidate)
        else:
            self._insert(candidate)

    def _insert(self, candidate: Candidate) -> None:
        insort_right(self._best, candidate, key=lambda each: -each.total)
        del self._best[CANDIDATES_KEPT_MAX:]

    @property
    def is_full(self) -> bool:
        """Say whether no more are needed."""
        return self._found_count >= self._limit

    def best_first(self) -> list[Candidate]:
        """Return the best of those that count; of equals the one seen first is first."""
        missing = max(self._limit - self._found_count, 0)
        for candidate in self._set_aside[:missing]:
            self._insert(candidate)
        self._found_count += len(self._set_aside[:missing])
        self._set_aside = []
        return self._best
