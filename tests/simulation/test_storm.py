"""Storms: no acknowledged write is lost, whatever is cut, killed and healed."""

import logging

import pytest
import structlog

from cluster.simulation import storm

SEEDS = {3: range(1, 13), 5: range(1, 7)}


@pytest.fixture(autouse=True)
def _silence():
    """A storm logs a thousand lines; what they cost is not what is tested."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    yield
    structlog.reset_defaults()


@pytest.mark.slow
@pytest.mark.parametrize("server_count", SEEDS)
def test_promises_are_kept_in_a_storm(server_count):
    """Each failure names its seed, which alone reproduces it."""
    verdicts = [
        storm.play(seed, server_count=server_count, duration_s=6.0)
        for seed in SEEDS[server_count]
    ]

    assert [verdict for verdict in verdicts if verdict.violations] == []
    assert sum(verdict.acknowledged_count for verdict in verdicts) > 500
    assert sum(verdict.unknown_count for verdict in verdicts) > 0


@pytest.mark.slow
def test_a_seed_always_tells_the_same_story():
    assert storm.play(5, duration_s=5.0) == storm.play(5, duration_s=5.0)
