"""Whether a new version of a job can take over what runs, or has to replace it.

What the agent cannot change under a running task is compared here; everything else
(counts, constraints, policies, services, …) goes over to the new version in place.
"""

from typing import Any

from nodestate.model.job import Affinity, Job, Spread, Task, TaskGroup
from nodestate.model.node import NetworkResource


def is_destructive(old: Job, new: Job, group_name: str) -> bool:
    """Say whether allocations of the group have to be replaced to run the new version.

    So it is as well if either version has no such group.
    """
    old_group = old.group(group_name)
    new_group = new.group(group_name)
    if old_group is None or new_group is None:
        return True
    if _group_facts(old, old_group) != _group_facts(new, new_group):
        return True
    old_tasks = {task.name: task for task in old_group.tasks}
    new_tasks = {task.name: task for task in new_group.tasks}
    if old_tasks.keys() != new_tasks.keys():
        return True
    return any(
        _task_facts(old, old_group, task)
        != _task_facts(new, new_group, new_tasks[name])
        for name, task in old_tasks.items()
    )


def _wishes(
    level: Job | TaskGroup | Task,
) -> tuple[tuple[Affinity, ...], tuple[Spread, ...]]:
    spreads = () if isinstance(level, Task) else level.spreads or ()
    return level.affinities or (), spreads


def _group_facts(job: Job, group: TaskGroup) -> tuple[Any, ...]:
    return (
        group.ephemeral_disk,
        _networks(group.networks),
        _wishes(job),
        _wishes(group),
    )


def _task_facts(job: Job, group: TaskGroup, task: Task) -> tuple[Any, ...]:
    resources = task.resources
    return (
        task.driver,
        task.user,
        task.config or None,
        task.env or {},
        task.artifacts or None,
        task.vault,
        task.templates or None,
        {**(job.meta or {}), **(group.meta or {}), **(task.meta or {})},
        _wishes(task),
        resources.cpu,
        resources.memory_mb,
        resources.devices or (),
        _networks(resources.networks),
    )


def _networks(networks: list[NetworkResource] | None) -> list[tuple[Any, ...]]:
    """Return what was asked for: of dynamic ports, whose numbers are given, the labels."""
    return [
        (
            network.mode,
            network.mbits,
            {
                port.label: (port.value, port.to)
                for port in network.reserved_ports or ()
            },
            {port.label: port.to for port in network.dynamic_ports or ()},
        )
        for network in networks or ()
    ]
