"""Schedules from seeds: always the same, and never more than was promised."""

import msgspec
import pytest
from hypothesis import given, strategies as st

from cluster.simulation.draw import FAULTS, SCENARIOS, draw_schedule
from cluster.simulation.schedule import (
    FlipBit,
    Remove,
    Wipe,
    Write,
    decode_schedule,
    describe,
    encode_schedule,
)

SEEDS = st.integers(0, 1_000_000)


@given(SEEDS, st.sampled_from(sorted(SCENARIOS)))
def test_a_seed_always_draws_the_same(seed, scenario):
    assert draw_schedule(seed, 3, scenario) == draw_schedule(seed, 3, scenario)


@given(SEEDS, st.sampled_from([None, 1, 3, 5]))
def test_a_schedule_survives_its_file(seed, server_count):
    schedule = draw_schedule(seed, server_count)

    assert decode_schedule(encode_schedule(schedule)) == schedule


@given(SEEDS, st.sampled_from([1, 3, 5]))
def test_lasting_damage_is_kept_to_a_minority(seed, server_count):
    schedule = draw_schedule(seed, server_count)

    damaged = {s.server for s in schedule.steps if isinstance(s, FlipBit | Wipe)}
    damaged |= {s.member for s in schedule.steps if isinstance(s, Remove)}
    assert len(damaged) <= (server_count - 1) // 2


@given(SEEDS)
def test_steps_come_in_their_order_and_operations_have_their_own_numbers(seed):
    schedule = draw_schedule(seed)

    times = [step.at_ms for step in schedule.steps]
    assert times == sorted(times)
    numbers = [step.op for step in schedule.steps if isinstance(step, Write)]
    assert len(numbers) == len(set(numbers))


def test_every_scenario_is_made_of_known_faults():
    for kinds in SCENARIOS.values():
        assert set(kinds) <= set(FAULTS)


def test_a_step_is_described_in_a_line():
    step = Write(at_ms=1200, op=7, server="server1", verb="drain", node="n1")

    assert describe(step) == (
        "  1200 ms  write op=7 server=server1 verb=drain node=n1 is_retried=False"
    )


def test_what_is_no_schedule_is_refused():
    with pytest.raises(msgspec.ValidationError, match="Invalid value 'explode'"):
        decode_schedule(
            b'{"seed": 1, "server_count": 3, "duration_ms": 1,'
            b' "steps": [{"do": "explode", "at_ms": 1}]}'
        )
