"""When an allocation is over, for its agent and for all."""

import pytest

from nodestate.model.allocation import Allocation
from nodestate.model.job import JobType

SERVICE, BATCH, SYSTEM = JobType.SERVICE, JobType.BATCH, JobType.SYSTEM


@pytest.mark.parametrize(
    ("client", "is_terminal"),
    [
        ("pending", False),
        ("running", False),
        ("complete", True),
        ("failed", True),
        ("lost", True),
        ("unknown", False),
    ],
)
def test_an_agent_reports_an_allocation_over(client, is_terminal):
    assert Allocation(client_status=client).is_client_terminal is is_terminal


@pytest.mark.parametrize(
    ("kind", "client", "desired", "is_finished"),
    [
        (SERVICE, "complete", "stop", True),
        (SERVICE, "lost", "evict", True),
        (SERVICE, "complete", "run", False),
        (SERVICE, "running", "stop", False),
        (SYSTEM, "failed", "stop", True),
        (SYSTEM, "failed", "run", False),
        (BATCH, "complete", "run", True),
        (BATCH, "running", "stop", False),
    ],
)
def test_it_is_finished_when_both_sides_say_so(kind, client, desired, is_finished):
    allocation = Allocation(job_type=kind, client_status=client, desired_status=desired)

    assert allocation.is_finished is is_finished
