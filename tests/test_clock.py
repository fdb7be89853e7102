"""The real clock and the real ids."""

import asyncio
import uuid

from nodestate.clock import SystemClock, SystemIdSource


def test_monotonic_time_never_goes_back():
    clock = SystemClock()

    readings = [clock.monotonic_s() for _ in range(100)]

    assert readings == sorted(readings)


async def test_a_timer_runs_unless_it_is_called_off():
    clock = SystemClock()
    called = asyncio.Event()
    off: list[str] = []

    clock.call_later(0.0, called.set)
    clock.call_later(0.0, lambda: off.append("ran")).cancel()
    await asyncio.wait_for(called.wait(), 5.0)
    await clock.sleep(0.0)

    assert off == []


def test_ids_are_uuids_and_do_not_repeat():
    ids = SystemIdSource()

    made = {ids.new_id() for _ in range(100)}

    assert len(made) == 100
    assert all(str(uuid.UUID(text)) == text for text in made)
    assert len(ids.new_seed()) == 16
    assert 0.0 <= ids.jitter() < 1.0
