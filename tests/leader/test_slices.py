"""Long work leaves others their turn."""

import asyncio
from collections.abc import Generator

import pytest

from nodestate.leader.slices import SLICE_S_MAX, SLICE_STEPS_MAX, in_slices
from tests.fakes import FakeClock


def steps(
    clock: FakeClock, count: int, took_s: float = 0
) -> Generator[None, None, str]:
    for _ in range(count):
        clock.pause(took_s)
        yield
    return "done"


async def turns(clock: FakeClock, count: int, took_s: float = 0) -> int:
    """Return how many turns another task has while the work goes on."""
    had = 0

    async def other() -> None:
        nonlocal had
        while True:
            had += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert await in_slices(steps(clock, count, took_s), clock) == "done"
    task.cancel()
    return had


@pytest.mark.parametrize(
    ("count", "had"),
    [(0, 0), (1, 0), (SLICE_STEPS_MAX - 1, 0), (SLICE_STEPS_MAX, 1)],
)
async def test_a_slice_has_so_many_steps(count, had):
    assert await turns(FakeClock(), count) == had


async def test_a_slice_takes_so_long():
    assert await turns(FakeClock(), 4, SLICE_S_MAX / 2) == 2
