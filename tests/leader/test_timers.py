"""The wheel of node timers."""

import pytest
from hypothesis import given, strategies

from nodestate.leader.timers import TICK_S, NodeTimers
from tests.leader.worlds import key_of

A, B, C = key_of(1), key_of(2), key_of(3)


@pytest.fixture
def timers() -> NodeTimers:
    return NodeTimers(now_s=100.0)


def test_a_timer_fires_once_and_never_early(timers):
    timers.start(A, 103.1)

    assert timers.take_due(103.09) == []
    assert timers.take_due(103.1) == []  # its tick ends at 103.25
    assert timers.take_due(103.25) == [A]
    assert timers.take_due(200.0) == []
    assert len(timers) == 0


def test_a_restarted_timer_fires_at_its_new_time_later_or_earlier(timers):
    timers.start(A, 110.0)
    timers.start(A, 120.0)
    timers.start(B, 120.0)
    timers.start(B, 110.0)

    assert timers.take_due(110.0) == [B]
    assert timers.take_due(120.0) == [A]


def test_a_stopped_timer_does_not_fire(timers):
    timers.start(A, 110.0)
    timers.stop(A)
    timers.stop(B)

    assert A not in timers
    assert timers.take_due(200.0) == []


def test_a_timer_for_the_past_fires_with_the_next_tick(timers):
    timers.take_due(150.0)
    timers.start(A, 120.0)

    assert timers.take_due(150.0) == []
    assert timers.take_due(150.0 + TICK_S) == [A]


def test_due_timers_come_in_the_order_of_their_time(timers):
    timers.start(A, 130.0)
    timers.start(B, 120.0)
    timers.start(C, 125.0)

    assert timers.take_due(10_000.0) == [B, C, A]


def test_putting_off_moves_only_what_would_fire_before(timers):
    timers.start(A, 101.0)
    timers.start(B, 105.0)
    timers.start(C, 120.0)

    timers.put_off(110.0)

    assert timers.take_due(109.9) == []
    assert timers.take_due(110.0) == [A, B]
    assert timers.take_due(120.0) == [C]


def test_putting_off_nothing_leaves_nothing_behind(timers):
    timers.put_off(110.0)
    timers.start(A, 120.0)
    timers.put_off(110.0)

    assert timers.take_due(120.0) == [A]
    assert timers._buckets == {}


def test_many_timers_start_at_once(timers):
    timers.start_many([], 105.0)
    timers.start_many([A, B], 110.0)
    timers.start(B, 120.0)

    assert timers.take_due(110.0) == [A]
    assert timers.take_due(120.0) == [B]
    assert timers._buckets == {}


def test_time_that_goes_back_takes_nothing_twice(timers):
    timers.start(A, 110.0)
    timers.take_due(115.0)
    timers.start(B, 116.0)

    assert timers.take_due(105.0) == []
    assert timers.take_due(116.0) == [B]


@given(
    strategies.lists(
        strategies.tuples(
            strategies.sampled_from(["start", "stop", "put_off", "take"]),
            strategies.integers(1, 5),
            strategies.floats(0, 30),
        ),
        max_size=60,
    )
)
def test_the_wheel_does_what_a_plain_dictionary_does(steps):
    timers, plain, now_s = NodeTimers(0.0), dict[str, float](), 0.0
    for what, number, seconds in steps:
        key, due_s = key_of(number), now_s + seconds
        if what == "start":
            timers.start(key, due_s)
            plain[key] = due_s
        elif what == "stop":
            timers.stop(key)
            plain.pop(key, None)
        elif what == "put_off":
            timers.put_off(due_s)
            plain = {known: max(due, due_s) for known, due in plain.items()}
        else:
            now_s = due_s
            taken = set(timers.take_due(now_s))
            early = {known for known in taken if plain[known] > now_s}
            late = {
                known
                for known, due in plain.items()
                if due + 2 * TICK_S <= now_s and known not in taken
            }
            assert (early, late) == (set(), set())
            plain = {known: due for known, due in plain.items() if known not in taken}
        assert set(timers.keys()) == set(plain)
