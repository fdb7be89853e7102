"""How long a node may be silent."""

import pytest

from nodestate.planning.heartbeats import (
    HeartbeatRules,
    base_ttl_s,
    first_silence_s_max,
    silence_s_max,
    ttl_s,
)

RULES = HeartbeatRules(
    ttl_s_min=10.0, per_second_max=50.0, grace_s=10.0, failover_ttl_s=300.0
)


@pytest.mark.parametrize(
    ("timer_count", "base"),
    [(0, 10.0), (1, 10.0), (500, 10.0), (501, 10.02), (1000, 20.0), (5000, 100.0)],
)
def test_the_ttl_grows_with_the_fleet_so_that_the_rate_does_not(timer_count, base):
    assert base_ttl_s(timer_count, RULES) == pytest.approx(base)


@pytest.mark.parametrize(
    ("rate", "base"),
    [(0.0, 10.0), (-1.0, 10.0), (1 / 86_400, 10.0), (2 / 86_400, 4_320_000.0)],
)
def test_a_rate_of_next_to_nothing_counts_as_none(rate, base):
    rules = RULES._replace(per_second_max=rate)

    assert base_ttl_s(100, rules) == pytest.approx(base)


@pytest.mark.parametrize(("jitter", "ttl"), [(0.0, 20.0), (0.5, 30.0), (0.999, 39.98)])
def test_jitter_spreads_to_twice_the_base(jitter, ttl):
    assert ttl_s(1000, RULES, jitter=jitter) == pytest.approx(ttl)


def test_a_node_has_its_ttl_and_the_grace():
    assert silence_s_max(15.0, RULES) == 25.0


def test_a_new_leader_waits_as_for_a_node_it_never_heard_of():
    assert first_silence_s_max(RULES) == 310.0
