"""Long work on the loop, in slices, so that others have their turn between two of them."""

from collections.abc import Generator
from typing import Final, TypeVar

from nodestate.clock import Clock

T = TypeVar("T")

SLICE_S_MAX: Final = 0.004
"""How long a slice goes on, unless a single step takes longer."""
SLICE_STEPS_MAX: Final = 64
"""How many steps it has at most: where time stands still, others have their turn too."""


async def in_slices(work: Generator[None, None, T], clock: Clock) -> T:
    """Return the result of work that yields after each of its steps."""
    began_s = clock.monotonic_s()
    step_count = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        step_count += 1
        is_over = clock.monotonic_s() - began_s >= SLICE_S_MAX
        if is_over or step_count >= SLICE_STEPS_MAX:
            await clock.sleep(0)
            began_s = clock.monotonic_s()
            step_count = 0
