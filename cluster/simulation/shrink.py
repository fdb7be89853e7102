"""From a schedule that fails to the shortest part of it that fails in the same way."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from cluster.simulation.schedule import Schedule, Step

PLAYS_MAX: Final = 600

Fails = Callable[[Schedule], bool]


class _Shrinking:
    """Plays parts of one schedule, each once, for as long as there is budget."""

    def __init__(self, schedule: Schedule, fails: Fails, plays_max: int) -> None:
        self._schedule = schedule
        self._fails = fails
        self._left = plays_max
        self._known: dict[tuple[Step, ...], bool] = {}

    def fails(self, steps: Sequence[Step]) -> bool:
        """Say whether this part fails, too; no, if there is no budget left to know."""
        part = tuple(steps)
        if part not in self._known:
            if self._left == 0:
                return False
            self._left -= 1
            self._known[part] = self._fails(replace(self._schedule, steps=part))
        return self._known[part]


def shrink(schedule: Schedule, fails: Fails, *, plays_max: int = PLAYS_MAX) -> Schedule:
    """Return a part of the schedule that fails and, budget allowing, has no smaller one.

    Delta debugging: halves, quarters and so on are left out for as long as what remains
    fails. `fails` must be true of the schedule itself.
    """
    shrinking = _Shrinking(schedule, fails, plays_max)
    steps = list(schedule.steps)
    chunk = max(1, len(steps) // 2)
    while True:
        steps, has_shrunk = _without_chunks(shrinking, steps, chunk)
        if chunk == 1 and not has_shrunk:
            break
        if not has_shrunk:
            chunk = max(1, chunk // 2)
    return _shorter(replace(schedule, steps=tuple(steps)), fails)


def _without_chunks(
    shrinking: _Shrinking, steps: list[Step], chunk: int
) -> tuple[list[Step], bool]:
    """Leave out every chunk that is not needed; say whether any was not."""
    start, has_shrunk = 0, False
    while start < len(steps):
        rest = steps[:start] + steps[start + chunk :]
        if shrinking.fails(rest):
            steps, has_shrunk = rest, True
        else:
            start += chunk
    return steps, has_shrunk


def _shorter(schedule: Schedule, fails: Fails) -> Schedule:
    """End it soon after its last step, if that still fails."""
    last_ms = max((step.at_ms for step in schedule.steps), default=0)
    shorter = replace(schedule, duration_ms=min(schedule.duration_ms, last_ms + 100))
    return shorter if fails(shorter) else schedule
