"""What a task group needs of a node, read once for all the nodes that are looked at."""

from nodestate.model.allocation import (
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
    Allocation,
)
from nodestate.model.job import Job, JobType, TaskGroup
from nodestate.model.node import CpuResources, MemoryResources, NetworkResource
from nodestate.planning.feasibility import Distinct, requirements_of
from nodestate.planning.ranking import Affinities, Spreads

Networks = dict[str | None, list[NetworkResource] | None]
"""Networks by task; those that the tasks share are under `None`."""


class Needs:
    """What a group must have, what it takes, and what it would rather have."""

    __slots__ = (
        "affinities",
        "cpu",
        "disk_mb",
        "distinct",
        "group",
        "is_system",
        "memory_mb",
        "networks",
        "requirements",
        "spreads",
        "without_networks",
    )

    def __init__(self, job: Job, group: TaskGroup) -> None:
        self.group = group
        self.is_system = job.type is JobType.SYSTEM
        self.requirements = requirements_of(job, group)
        self.distinct = Distinct(job, group)
        self.affinities = Affinities(job, group)
        self.spreads = Spreads(job, group)
        self.cpu = sum(task.resources.cpu for task in group.tasks)
        self.memory_mb = sum(task.resources.memory_mb for task in group.tasks)
        self.disk_mb = group.ephemeral_disk.size_mb
        self.networks = _asked_networks(group)
        self.without_networks = self.resources({})

    @property
    def is_choosy(self) -> bool:
        """Say whether it likes some nodes better, so that all have to be looked at."""
        return self.affinities.is_asked or self.spreads.is_asked

    def resources(self, networks: Networks) -> AllocatedResources:
        """Return what an allocation of the group has when it is given these networks."""
        tasks = {
            task.name: AllocatedTask(
                cpu=CpuResources(cpu_shares=task.resources.cpu),
                memory=MemoryResources(memory_mb=task.resources.memory_mb),
                networks=networks.get(task.name),
            )
            for task in self.group.tasks
        }
        shared = AllocatedShared(networks=networks.get(None), disk_mb=self.disk_mb)
        return AllocatedResources(tasks=tasks, shared=shared)


def _asked_networks(group: TaskGroup) -> dict[str | None, NetworkResource]:
    """Return the first network of the group, then that of each task: others are ignored."""
    asked: dict[str | None, NetworkResource] = {}
    if group.networks:
        asked[None] = group.networks[0]
    for task in group.tasks:
        if task.resources.networks:
            asked[task.name] = task.resources.networks[0]
    return asked


def networks_of(allocation: Allocation) -> Networks:
    """Return the networks that an allocation has."""
    resources = allocation.allocated_resources
    networks: Networks = {None: resources.shared.networks}
    networks |= {name: task.networks for name, task in resources.tasks.items()}
    return networks
