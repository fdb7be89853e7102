"""What a simulated agent runs, by the virtual time."""

import math

import pytest

from cluster.simulation.agents import Run


@pytest.mark.parametrize(
    ("now_s", "status", "is_healthy"),
    [
        (0.9, "pending", False),
        (1.0, "running", False),
        (2.0, "running", True),
        (5.0, "complete", False),
    ],
)
def test_a_run_begins_is_well_and_ends(now_s, status, is_healthy):
    run = Run(begins_s=1.0, healthy_s=2.0, ends_s=5.0)

    assert (run.status(now_s), run.is_healthy(now_s)) == (status, is_healthy)


def test_a_run_that_is_stopped_ends_well():
    run = Run(begins_s=1.0, healthy_s=2.0, ends_s=math.inf)

    run.stop(3.0)

    assert (run.status(2.9), run.status(3.0)) == ("running", "complete")


def test_what_has_ended_by_itself_is_not_stopped_later():
    run = Run(begins_s=1.0, healthy_s=2.0, ends_s=2.0, is_failing=True)

    run.stop(3.0)

    assert run.status(3.0) == "failed"
