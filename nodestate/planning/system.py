"""What a system job wants, compared with what there is of it: so many on every node."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from nodestate.model.allocation import NODE_TAINTED, UPDATING, Allocation
from nodestate.model.job import Job, TaskGroup
from nodestate.model.node import NodeKey, NodeStatus
from nodestate.planning.reconcile import (
    STEP_RECORDS,
    InPlace,
    Reconciled,
    Steps,
    Subject,
    Versions,
    Wanted,
    in_order,
    lost_stop,
    stop,
    stop_all,
    sweep_lost,
)
from nodestate.planning.selection import is_ready

STEP_NODES: Final = 64
"""How many nodes are looked at in one step."""

_Place = tuple[NodeKey, str]
"""A node and a name on it."""


def reconcile_system(
    subject: Subject, ready_keys: Iterable[NodeKey]
) -> Steps[Reconciled]:
    """Return what is to change so that every ready node has what the job wants there.

    `ready_keys` are the nodes of the job's datacenters that take placements.
    """
    found = Reconciled(stops=(yield from sweep_lost(subject)))
    job = subject.job
    allocations = in_order(subject.allocations)
    if job is None or job.stop:
        stop_all(subject, allocations, found)
        return found
    names = _names(job)
    for group in job.task_groups:
        found.changes_of(group.name)
    places = yield from _compare(subject, job, names, allocations, found)
    for count, key in enumerate(ready_keys):
        if count % STEP_NODES == 0:
            yield
        for name, group in names.items():
            if (key, name) not in places.taken:
                previous = places.ended.get((key, name))
                found.placements.append(Wanted(name, group, previous, node_key=key))
                found.changes_of(group.name).placed += 1
    return found


class _Places(NamedTuple):
    """Where something runs and goes on, and what has ended where, the last one of each."""

    taken: set[_Place]
    ended: dict[_Place, Allocation]


def _compare(
    subject: Subject,
    job: Job,
    names: dict[str, TaskGroup],
    allocations: list[Allocation],
    found: Reconciled,
) -> Steps[_Places]:
    places = _Places(set(), {})
    versions = Versions(job, subject.view)
    for count, allocation in enumerate(allocations):
        if count % STEP_RECORDS == 0:
            yield
        place = allocation.node_key, allocation.name
        group = names.get(allocation.name)
        if allocation.is_terminal:
            is_ended = not allocation.next_allocation
        elif group is None or place in places.taken:
            stop_all(subject, (allocation,), found)
            is_ended = False
        else:
            is_ended = not _look_at(subject, job, allocation, group, versions, found)
            if not is_ended:
                places.taken.add(place)
        if is_ended:
            places.ended[place] = allocation
    return places


def _names(job: Job) -> dict[str, TaskGroup]:
    """Return the names that every node has to have, each with its group."""
    return {
        f"{job.name}.{group.name}[{number}]": group
        for group in job.task_groups
        for number in range(group.count)
    }


def _look_at(
    subject: Subject,
    job: Job,
    allocation: Allocation,
    group: TaskGroup,
    versions: Versions,
    found: Reconciled,
) -> bool:
    """Say whether the allocation's place stays taken; and write down what it needs."""
    node = subject.view.node(allocation.node_key)
    changes = found.changes_of(group.name)
    if node is None or node.status is NodeStatus.DOWN:
        found.stops.append(lost_stop(allocation))
        changes.stopped += 1
        return False
    if allocation.is_migrating:
        found.stops.append(stop(allocation, NODE_TAINTED))
        changes.migrated += 1
        return False
    is_targeted = node.datacenter in job.datacenters
    is_current = versions.is_current(allocation)
    if not is_targeted or not (is_current or node.is_draining or is_ready(node)):
        found.stops.append(stop(allocation))
        changes.stopped += 1
        return False
    if is_current or node.is_draining:
        changes.ignored += 1
        return True
    wanted = Wanted(
        allocation.name,
        group,
        allocation,
        stop_text=UPDATING,
        is_update=True,
        node_key=allocation.node_key,
    )
    if versions.needs_replacement(allocation):
        found.replacements.append(wanted)
        changes.updated += 1
    else:
        found.updates.append(InPlace(allocation, group, wanted))
        changes.updated_in_place += 1
    return True
