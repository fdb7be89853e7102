"""The loop: time that jumps, processes that stand still, and some that end anywhere."""

import asyncio

import pytest

from cluster.simulation import loop
from cluster.simulation.loop import Process, SimulationError, VirtualTimeLoop


def running_loop() -> VirtualTimeLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualTimeLoop)
    return running


def test_an_hour_passes_at_once_and_in_order():
    seen = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((seconds, asyncio.get_running_loop().time()))

    async def main():
        await asyncio.gather(sleep(3600), sleep(1), sleep(60))

    loop.run(main())

    assert seen == [(1, 1.0), (60, 60.0), (3600, 3600.0)]


def test_a_paused_process_does_later_what_was_due_in_order():
    seen = []

    async def main():
        process = Process(running_loop(), "a")

        async def work() -> None:
            for number in range(3):
                await asyncio.sleep(1)
                seen.append((number, asyncio.get_running_loop().time()))

        process.spawn(work())
        await asyncio.sleep(1.5)
        process.pause()
        await asyncio.sleep(10)
        assert len(seen) == 1
        assert process.active_s() == 1.5
        process.resume()
        await asyncio.sleep(5)
        assert process.active_s() == 6.5

    loop.run(main())

    assert seen == [(0, 1.0), (1, 11.5), (2, 12.5)]


def test_a_killed_process_runs_no_more_not_even_its_ends():
    seen: list[str | float] = []

    async def main():
        process = Process(running_loop(), "a")

        async def work() -> None:
            try:
                await asyncio.sleep(1)
                seen.append("went on")
            finally:
                seen.append(asyncio.get_running_loop().time())

        process.spawn(work())
        await asyncio.sleep(0.5)
        process.kill()
        await process.gone
        await asyncio.sleep(10)
        assert seen == []

    loop.run(main())

    # The lab clears up once all is over.
    assert seen == [10.5]


def test_what_a_process_begins_belongs_to_it():
    async def main():
        seen = []
        process = Process(running_loop(), "a")

        async def child() -> None:
            await asyncio.sleep(1)
            seen.append("child")

        async def parent() -> None:
            running_loop().call_later(1, seen.append, "timer")
            await asyncio.create_task(child())

        process.spawn(parent())
        await asyncio.sleep(0.5)
        process.kill()
        await asyncio.sleep(5)
        assert seen == []

    loop.run(main())


def test_a_trap_is_between_two_callbacks():
    async def main():
        running = running_loop()
        counts = []
        running.call_after(3, lambda: counts.append(running.callback_count))
        before = running.callback_count
        for _ in range(10):
            await asyncio.sleep(0)
        assert counts == [before + 3]

    loop.run(main())


def test_waiting_for_nothing_is_an_error_of_the_simulation():
    async def main():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(SimulationError, match="nothing will happen"):
        loop.run(main())


def test_an_error_in_a_callback_is_kept():
    async def main():
        running = running_loop()
        running.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)
        return running.errors

    (error,) = loop.run(main())

    assert isinstance(error, ZeroDivisionError)
