"""How many allocations of a group may move at once."""

from typing import Any

import pytest

from nodestate.fsm.pacing import group_budget, is_forced, is_unfinished
from nodestate.model.allocation import (
    Allocation,
    DeploymentStatus,
    DesiredTransition,
)
from nodestate.model.job import JobType, MigrateStrategy
from nodestate.model.node import DrainStrategy
from nodestate.model.timestamp import Timestamp
from tests.fsm.work import group

HEALTHY = DeploymentStatus(healthy=True)
MARKED = DesiredTransition(migrate=True)


def allocation(**fields: Any) -> Allocation:
    known: dict[str, Any] = {"task_group": "g", "deployment_status": HEALTHY}
    return Allocation(**{**known, **fields})


def budget(*allocations: Allocation, count: int = 4, max_parallel: int = 2) -> int:
    migrate = MigrateStrategy(max_parallel=max_parallel)
    return group_budget(group(count=count, migrate=migrate), allocations)


def test_a_healthy_group_lets_max_parallel_go():
    assert budget(*[allocation()] * 4) == 2


@pytest.mark.parametrize(
    "other",
    [
        allocation(desired_transition=MARKED),
        allocation(deployment_status=None),
        allocation(deployment_status=DeploymentStatus()),
        allocation(client_status="failed"),
        allocation(desired_status="stop"),
        allocation(task_group="other"),
    ],
)
def test_what_is_not_settled_does_not_count(other):
    assert budget(*[allocation()] * 3, other) == 1


def test_an_unhealthy_one_is_settled():
    assert budget(*[allocation(deployment_status=DeploymentStatus(healthy=False))] * 4) == 2  # fmt: skip


def test_a_group_that_is_short_lets_nothing_go():
    assert budget(allocation()) == 0


def test_a_group_that_shrinks_lets_more_go():
    assert budget(*[allocation()] * 4, count=2) == 4


def test_no_parallel_moves_are_none():
    assert budget(*[allocation()] * 4, max_parallel=0) == 0


def test_a_group_that_says_nothing_of_moving_is_not_moved():
    assert group_budget(group(migrate=None), [allocation()] * 4) == 0


@pytest.mark.parametrize(
    ("strategy", "at_ns", "expected"),
    [
        (DrainStrategy(deadline=-1), 0, True),
        (DrainStrategy(), 10**18, False),
        (DrainStrategy(deadline=5, force_deadline=Timestamp(100)), 99, False),
        (DrainStrategy(deadline=5, force_deadline=Timestamp(100)), 100, True),
    ],
)
def test_a_drain_is_forced_at_once_at_its_deadline_or_never(strategy, at_ns, expected):
    assert is_forced(strategy, at_ns) is expected


@pytest.mark.parametrize(
    ("kind", "desired", "client", "expected"),
    [
        (JobType.SERVICE, "run", "running", True),
        (JobType.SERVICE, "stop", "running", True),
        (JobType.BATCH, "run", "complete", False),
        (JobType.SYSTEM, "run", "running", False),
    ],
)
def test_what_agents_have_not_reported_over_holds_a_drain_up(
    kind, desired, client, expected
):
    one = Allocation(job_type=kind, desired_status=desired, client_status=client)

    assert is_unfinished(one) is expected
