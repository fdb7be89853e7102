"""Whether a group may run on a node at all, room aside, and if not, why.

What only the node decides (constraints, drivers, volumes, devices) is asked once per node
and evaluation. Nothing is remembered by computed class: two nodes that differ may have
one, `driver.docker` and `driver.exec` both on and both off for example, since Nomad's
hash of a map loses which value belongs to which key.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from nodestate.model.job import Constraint, Job, TaskGroup, VolumeRequest
from nodestate.model.node import Node, NodeKey
from nodestate.planning.constraints import (
    DISTINCT_HOSTS,
    DISTINCT_PROPERTY,
    Reader,
    holds,
    target_reader,
)
from nodestate.planning.occupancy import Occupancy

MISSING_DRIVERS: Final = "missing drivers"
MISSING_VOLUMES: Final = "missing compatible host volumes"
MISSING_DEVICES: Final = "missing devices"
UINT64_DIGITS: Final = 20
PROPERTY_COUNT_DEFAULT: Final = 1

_TRUE_TEXTS: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_DISTINCT: Final = frozenset({DISTINCT_HOSTS, DISTINCT_PROPERTY})


class Requirement(NamedTuple):
    """One thing that a node must have, and what is said of a node that has not."""

    reason: str
    is_met: Callable[[Node], bool]


def requirements_of(job: Job, group: TaskGroup) -> tuple[Requirement, ...]:
    """Return what the group asks of a node, in the order in which it is asked."""
    return (
        *_constraint_requirements(job.constraints),
        *_driver_requirements(group),
        *_constraint_requirements(group.constraints),
        *(
            requirement
            for task in group.tasks
            for requirement in _constraint_requirements(task.constraints)
        ),
        *_volume_requirements(group),
        *_device_requirements(group),
    )


def refusal_of(requirements: Iterable[Requirement], node: Node) -> str | None:
    """Return the first reason why the node will not do, `None` if it will."""
    for requirement in requirements:
        if not requirement.is_met(node):
            return requirement.reason
    return None


def matcher(l_target: str, operand: str, r_target: str) -> Callable[[Node], bool]:
    """Return what says whether a node satisfies a constraint, or an affinity."""
    left, right = target_reader(l_target), target_reader(r_target)
    return lambda node: holds(operand, left(node), right(node))


def _constraint_requirements(
    constraints: tuple[Constraint, ...] | None,
) -> Iterator[Requirement]:
    for each in constraints or ():
        if each.operand not in _DISTINCT:
            yield Requirement(
                f"{each.l_target} {each.operand} {each.r_target}",
                matcher(each.l_target, each.operand, each.r_target),
            )


def _driver_requirements(group: TaskGroup) -> Iterator[Requirement]:
    names = sorted({task.driver for task in group.tasks})
    if names:
        yield Requirement(
            MISSING_DRIVERS, lambda node: all(has_driver(node, each) for each in names)
        )


def has_driver(node: Node, name: str) -> bool:
    """Say whether the driver can be used; an agent may only tell by an attribute."""
    driver = (node.drivers or {}).get(name)
    if driver is not None:
        return driver.detected and driver.healthy
    return (node.attributes or {}).get(f"driver.{name}") in _TRUE_TEXTS


def _volume_requirements(group: TaskGroup) -> Iterator[Requirement]:
    requests = tuple((group.volumes or {}).values())
    if requests:
        yield Requirement(
            MISSING_VOLUMES,
            lambda node: all(has_volume(node, request) for request in requests),
        )


def has_volume(node: Node, request: VolumeRequest) -> bool:
    """Say whether the node offers the volume, to be written to if that is asked."""
    volume = (node.host_volumes or {}).get(request.source)
    if volume is None:
        return False
    return request.read_only or not volume.read_only


def _device_requirements(group: TaskGroup) -> Iterator[Requirement]:
    """Yield what no node has: devices are not placed."""
    if any(task.resources.devices for task in group.tasks):
        yield Requirement(MISSING_DEVICES, lambda _: False)


# What the other allocations of the job decide


class _DistinctProperty(NamedTuple):
    target: str
    read: Reader
    count_max: int
    group_name: str | None
    """Whose allocations count: the group's, or all of the job's."""


class Distinct:
    """Which nodes are ruled out because others of the job are there, or on nodes alike."""

    __slots__ = ("_group_name", "_is_alone_in_group", "_is_alone_in_job", "_properties")

    def __init__(self, job: Job, group: TaskGroup) -> None:
        of_job, of_group = job.constraints or (), group.constraints or ()
        self._group_name = group.name
        self._is_alone_in_job = _has_distinct_hosts(of_job)
        self._is_alone_in_group = _has_distinct_hosts(of_group)
        self._properties = (
            *_distinct_properties(of_job, None),
            *_distinct_properties(of_group, group.name),
        )

    @property
    def is_asked(self) -> bool:
        """Say whether there is anything to look at."""
        return (
            self._is_alone_in_job or self._is_alone_in_group or bool(self._properties)
        )

    def refusal(self, occupancy: Occupancy, key: NodeKey, node: Node) -> str | None:
        """Return why the node is ruled out as things stand, `None` if it is not."""
        if self._is_alone_in_job and occupancy.count_on(key):
            return DISTINCT_HOSTS
        if self._is_alone_in_group and occupancy.count_on(key, self._group_name):
            return DISTINCT_HOSTS
        for each in self._properties:
            value = each.read(node)
            if value is None:
                return f'missing property "{each.target}"'
            count = occupancy.tally(each.target, each.group_name).get(value, 0)
            if count >= each.count_max:
                return (
                    f"distinct_property: {each.target}={value} used by {count} allocs"
                )
        return None


def _has_distinct_hosts(constraints: Iterable[Constraint]) -> bool:
    return any(each.operand == DISTINCT_HOSTS for each in constraints)


def _distinct_properties(
    constraints: Iterable[Constraint], group_name: str | None
) -> Iterator[_DistinctProperty]:
    for each in constraints:
        if each.operand == DISTINCT_PROPERTY:
            count_max = _count_max(each.r_target)
            read = target_reader(each.l_target)
            yield _DistinctProperty(each.l_target, read, count_max, group_name)


def _count_max(text: str) -> int:
    """Return how many may share a value; none may if the text is no number."""
    if not text:
        return PROPERTY_COUNT_DEFAULT
    digits = text.lstrip("0")
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= UINT64_DIGITS
    return int(digits) if is_number else 0
