"""How many allocations of a group a drain may move at once, as things stand.

The drainer plans by it, and the state machine holds it to it: a mark that was planned
from an older view, or by a leader that is none any more, must not move one too many.
"""

from collections.abc import Iterable
from typing import Final

from nodestate.model.allocation import Allocation
from nodestate.model.job import JobType, TaskGroup
from nodestate.model.node import DrainStrategy

NO_BUDGET: Final = 0


def is_settled(allocation: Allocation) -> bool:
    """Say whether it runs, is not about to move, and its agent has judged its health."""
    return (
        not allocation.is_terminal
        and not allocation.is_migrating
        and allocation.deployment_status is not None
        and allocation.deployment_status.healthy is not None
    )


def group_budget(group: TaskGroup, allocations: Iterable[Allocation]) -> int:
    """Return how many more of the group's allocations may be told to move, at least 0.

    `allocations` are its job's, on whatever nodes; those of other groups do not count.
    """
    if group.migrate is None:
        return NO_BUDGET
    settled = sum(
        allocation.task_group == group.name and is_settled(allocation)
        for allocation in allocations
    )
    return max(NO_BUDGET, settled - (group.count - group.migrate.max_parallel))


def deadline_ns(strategy: DrainStrategy) -> int | None:
    """Return when the drain is forced; 0 for at once, `None` for never."""
    if strategy.deadline < 0:
        return 0
    return strategy.force_deadline.ns or None


def is_forced(strategy: DrainStrategy, at_ns: int) -> bool:
    """Say whether a drain waits for nothing any more."""
    deadline = deadline_ns(strategy)
    return deadline is not None and at_ns >= deadline


def is_unfinished(allocation: Allocation) -> bool:
    """Say whether the allocation holds a drain up."""
    return (
        allocation.job_type is not JobType.SYSTEM and not allocation.is_client_terminal
    )
