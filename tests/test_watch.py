"""Waiting for keys: nobody is forgotten, nobody is woken for nothing."""

import asyncio
from contextlib import ExitStack

from nodestate.watch import Waiter, Watch, prefix_key, record_key, table_key


async def wait_briefly(waiter: Waiter) -> bool:
    return await waiter.wait(0.0)


async def test_a_wake_up_between_registering_and_waiting_is_kept():
    watch = Watch()

    with watch.waiter(table_key("nodes")) as waiter:
        watch.wake([table_key("nodes")])

        assert await waiter.wait(60.0)


async def test_a_waiter_of_a_record_is_not_woken_by_its_neighbour():
    watch = Watch()

    with watch.waiter(record_key("nodes", "aa")) as waiter:
        watch.wake([table_key("nodes"), record_key("nodes", "ab")])

        assert not await wait_briefly(waiter)


async def test_a_waiter_of_a_prefix_is_woken_by_records_under_it_alone():
    watch = Watch()

    with watch.waiter(prefix_key("nodes", "ab")) as waiter:
        watch.wake([record_key("nodes", "aa00")])
        assert not await wait_briefly(waiter)
        watch.wake([record_key("nodes", "ab00")])
        assert await wait_briefly(waiter)


async def test_the_empty_prefix_is_every_record():
    watch = Watch()

    with watch.waiter(prefix_key("nodes", "")) as waiter:
        watch.wake([record_key("nodes", "aa00")])

        assert await wait_briefly(waiter)


async def test_rearming_forgets_what_was_seen():
    watch = Watch()

    with watch.waiter(table_key("nodes")) as waiter:
        watch.wake([table_key("nodes")])
        waiter.rearm()

        assert not await wait_briefly(waiter)


async def test_a_sleeping_waiter_is_woken():
    watch = Watch()

    with watch.waiter(table_key("nodes")) as waiter:
        asyncio.get_running_loop().call_soon(watch.wake, [table_key("nodes")])

        assert await waiter.wait(60.0)


async def test_waking_all_reaches_every_kind_of_key():
    watch = Watch()
    keys = [table_key("t"), record_key("t", "a"), prefix_key("t", "b")]

    for key in keys:
        with watch.waiter(key) as waiter:
            watch.wake_all()
            assert await wait_briefly(waiter)


async def test_leaving_leaves_nothing_behind():
    watch = Watch()
    keys = (table_key("t"), record_key("t", "a"), prefix_key("t", "b"))

    with watch.waiter(*keys), watch.waiter(*keys):
        assert watch.waiter_count() == 2

    assert watch.waiter_count() == 0
    watch.wake([*keys, record_key("t", "bb")])


async def test_a_cancelled_wait_leaves_the_books_in_order():
    watch = Watch()

    async def read() -> None:
        with watch.waiter(table_key("t")) as waiter:
            await waiter.wait(60.0)

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    assert watch.waiter_count() == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert watch.waiter_count() == 0


async def test_the_key_of_everything_wakes_everyone():
    watch = Watch()
    keys = (table_key("nodes"), record_key("jobs", "a"), prefix_key("nodes", "ab"))

    with ExitStack() as stack:
        waiters = [stack.enter_context(watch.waiter(key)) for key in keys]
        watch.wake([()])
        assert [await waiter.wait(0.0) for waiter in waiters] == [True] * 3
