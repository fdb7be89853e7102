"""Waits for an index or a change: all end."""

import asyncio

import pytest

from nodestate.replication.waiters import AppliedWaiters, ChangeWaiters
from tests.fakes import FakeClock, settle


async def test_an_applied_index_wakes_those_up_to_it():
    clock = FakeClock()
    waiters = AppliedWaiters(clock)
    tasks = [asyncio.create_task(waiters.wait(index, 5.0)) for index in (9, 7, 8)]
    await settle()

    waiters.wake(8)
    await settle()

    assert [task.done() for task in tasks] == [False, True, True]
    await clock.step(5.0)
    assert [await task for task in tasks] == [False, True, True]
    assert waiters._heap == []


async def test_an_index_that_is_applied_as_the_time_runs_out_ends_the_wait():
    clock = FakeClock()
    waiters = AppliedWaiters(clock)
    task = asyncio.create_task(waiters.wait(7, 5.0))
    await settle()
    (_, _, future), *_ = waiters._heap
    future.set_result(False)  # as the timer does, and the task has no turn yet

    waiters.wake(7)

    assert await task is False
    assert waiters._heap == []


async def test_a_cancelled_wait_leaves_nothing_behind():
    waiters = AppliedWaiters(FakeClock())
    task = asyncio.create_task(waiters.wait(9, 5.0))
    await settle()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert waiters._heap == []
    waiters.wake(9)


async def test_a_change_wakes_everyone():
    clock = FakeClock()
    waiters = ChangeWaiters(clock)
    tasks = [asyncio.create_task(waiters.wait(5.0)) for _ in range(2)]
    await settle()

    waiters.wake()
    await asyncio.gather(*tasks)

    assert not waiters._futures


async def test_a_wait_for_change_is_over_in_time():
    clock = FakeClock()
    waiters = ChangeWaiters(clock)
    task = asyncio.create_task(waiters.wait(5.0))

    await clock.step(4.9)
    assert not task.done()
    await clock.step(0.2)

    assert task.done()
