"""How many allocations of a group may move at once."""

from typing import Any

import pytest

from nodestate.fsm.pacing import group_budget
from nodestate.model.allocation import (
    Allocation,
    DeploymentStatus,
    DesiredTransition,
)
from nodestate.model.job import MigrateStrategy
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
