"""Shrinking: what is left fails, and nothing of it can be left out."""

from hypothesis import given, strategies as st

from cluster.simulation.schedule import Heal, Schedule
from cluster.simulation.shrink import shrink


def schedule_of(count: int) -> Schedule:
    steps = tuple(Heal(at_ms=100 * number) for number in range(count))
    return Schedule(seed=1, server_count=3, duration_ms=60_000, steps=steps)


@given(st.sets(st.integers(0, 39), max_size=5))
def test_exactly_what_is_needed_is_left(needed):
    wanted = {100 * number for number in needed}
    plays = []

    def fails(schedule: Schedule) -> bool:
        plays.append(schedule)
        return wanted <= {step.at_ms for step in schedule.steps}

    shortest = shrink(schedule_of(40), fails)

    assert {step.at_ms for step in shortest.steps} == wanted
    assert shortest.duration_ms == max(wanted, default=0) + 100
    assert len(plays) < 400


def test_it_ends_with_what_it_has_when_it_may_play_no_more():
    shortest = shrink(schedule_of(64), lambda one: len(one.steps) > 3, plays_max=3)

    assert 3 < len(shortest.steps) < 64


def test_a_failure_that_needs_the_whole_time_keeps_it():
    shortest = shrink(schedule_of(4), lambda one: one.duration_ms == 60_000)

    assert shortest.steps == ()
    assert shortest.duration_ms == 60_000
