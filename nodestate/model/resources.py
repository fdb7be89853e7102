"""The resources of an allocation, summed up, and in the forms of before Nomad 0.9.

The record has the new form; both are shown.
"""

from nodestate.model.allocation import AllocatedResources, AllocatedTask
from nodestate.model.node import LegacyResources, NetworkResource


def total_cpu(resources: AllocatedResources) -> int:
    """Return what all tasks have, in MHz."""
    return sum(task.cpu.cpu_shares for task in resources.tasks.values())


def total_memory_mb(resources: AllocatedResources) -> int:
    """Return what all tasks have, in MiB."""
    return sum(task.memory.memory_mb for task in resources.tasks.values())


def all_networks(resources: AllocatedResources) -> tuple[NetworkResource, ...]:
    """Return the shared networks, then those of the tasks, sorted by their names."""
    networks = list(resources.shared.networks or ())
    for _, task in sorted(resources.tasks.items()):
        networks += task.networks or ()
    return tuple(networks)


def legacy_sum(resources: AllocatedResources) -> LegacyResources:
    """Return `Resources` of an allocation: all tasks, and what they share."""
    return LegacyResources(
        cpu=total_cpu(resources),
        memory_mb=total_memory_mb(resources),
        disk_mb=resources.shared.disk_mb,
        networks=list(all_networks(resources)) or None,
    )


def legacy_shared(resources: AllocatedResources) -> LegacyResources:
    """Return `SharedResources` of an allocation."""
    shared = resources.shared
    return LegacyResources(disk_mb=shared.disk_mb, networks=shared.networks)


def legacy_tasks(resources: AllocatedResources) -> dict[str, LegacyResources]:
    """Return `TaskResources` of an allocation."""
    return {name: _legacy_task(task) for name, task in resources.tasks.items()}


def _legacy_task(task: AllocatedTask) -> LegacyResources:
    return LegacyResources(
        cpu=task.cpu.cpu_shares,
        memory_mb=task.memory.memory_mb,
        networks=task.networks,
    )
