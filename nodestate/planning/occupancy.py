"""What is on the nodes, as the plan made so far would leave it.

The state's allocations, without those that the plan stops, and with those that it places.
Two questions are asked of it, and they count differently: what takes room (until an agent
has reported it over, but not what this plan stops), and which allocations of the job are
to stay (those that neither side has ended).
"""

from collections.abc import Generator
from typing import Any, Final, TypeVar

from nodestate.fsm.capacity import Claim, Room, claim_of, takes_room
from nodestate.fsm.state import State
from nodestate.model.allocation import AllocatedResources, Allocation
from nodestate.model.job import JobKey
from nodestate.model.node import NodeKey
from nodestate.planning.constraints import target_reader

T = TypeVar("T")

ALLOCATIONS_PER_STEP: Final = 512

Tally = dict[str, int]
"""How many allocations are on nodes with a value of some property; only of those."""


class Occupancy:
    """What is where, for the plan of one job."""

    __slots__ = (
        "_caches",
        "_counts",
        "_job_key",
        "_rooms",
        "_state",
        "_stopped",
        "_tallies",
    )

    def __init__(self, state: State, job_key: JobKey) -> None:
        self._state = state
        self._rooms: dict[NodeKey, Room] = {}
        self._caches: list[dict[NodeKey, Any]] = []
        self._stopped: dict[NodeKey, dict[str, Allocation]] = {}
        self._counts: dict[NodeKey, dict[str, int]] = {}
        self._tallies: dict[tuple[str, str | None], Tally] = {}
        self._job_key = job_key

    def prepare(self) -> Generator[None, None, None]:
        """Count what there is of the job, with pauses; once, before all else."""
        allocations = self._state.allocations_of(self._job_key)
        for number, allocation in enumerate(allocations, 1):
            if not allocation.is_terminal:
                self._count(allocation.node_key, allocation.task_group, 1)
            if not number % ALLOCATIONS_PER_STEP:
                yield

    def room(self, key: NodeKey) -> Room:
        """Return what is left of a node that there is."""
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = self._measured(key)
        return room

    def _measured(self, key: NodeKey) -> Room:
        """Start from what is summed up already, unless somebody has networks."""
        node = self._state.node(key)
        assert node is not None, "a node is measured while it is there"
        room = Room(node)
        stopped = self._stopped.get(key, {})
        usage = self._state.usage_of(key)
        if not usage.networked:
            room.add(Claim(usage.cpu, usage.memory_mb, usage.disk_mb))
            for allocation in stopped.values():
                if takes_room(allocation):
                    room.remove(claim_of(allocation.allocated_resources))
            return room
        for allocation in self._state.allocations_on(key):
            if takes_room(allocation) and allocation.id not in stopped:
                room.add(claim_of(allocation.allocated_resources))
        return room

    def forgets_in(self, cache: dict[NodeKey, T]) -> None:
        """Have a node's entry taken out of the cache whenever the node changes."""
        self._caches.append(cache)

    def count_on(self, key: NodeKey, group_name: str | None = None) -> int:
        """Return how many of the job, or of one group, are to stay on the node."""
        counts = self._counts.get(key)
        if counts is None:
            return 0
        if group_name is None:
            return sum(counts.values())
        return counts.get(group_name, 0)

    def tally(self, target: str, group_name: str | None) -> Tally:
        """Return how many of the job, or of one group, there are by value of a target."""
        tally = self._tallies.get((target, group_name))
        if tally is None:
            tally = self._tallies[target, group_name] = {}
            for key, counts in self._counts.items():
                for name, count in counts.items():
                    if group_name in {None, name}:
                        self._add_to_tally(tally, target, key, count)
        return tally

    def _add_to_tally(
        self, tally: Tally, target: str, key: NodeKey, count: int
    ) -> None:
        node = self._state.node(key)
        value = None if node is None else target_reader(target)(node)
        if value is None:
            return
        total = tally.get(value, 0) + count
        if total:
            tally[value] = total
        else:
            tally.pop(value, None)

    def stop(self, allocation: Allocation) -> None:
        """Count an allocation of the state as stopped by the plan; twice is once."""
        stopped = self._stopped.setdefault(allocation.node_key, {})
        if allocation.id not in stopped:
            stopped[allocation.id] = allocation
            self._change(allocation, -1)

    def keep(self, allocation: Allocation) -> None:
        """Take the stop of an allocation back."""
        del self._stopped[allocation.node_key][allocation.id]
        self._change(allocation, 1)

    def _change(self, allocation: Allocation, sign: int) -> None:
        key = allocation.node_key
        room = self._rooms.get(key)
        if room is not None and takes_room(allocation):
            claim = claim_of(allocation.allocated_resources)
            if sign > 0:
                room.add(claim)
            else:
                room.remove(claim)
        if not allocation.is_terminal:
            self._count(key, allocation.task_group, sign)
        self._touch(key)

    def place(
        self, key: NodeKey, group_name: str, resources: AllocatedResources
    ) -> None:
        """Count a new allocation of the group."""
        self.room(key).add(claim_of(resources))
        self._count(key, group_name, 1)
        self._touch(key)

    def _count(self, key: NodeKey, group_name: str, change: int) -> None:
        counts = self._counts.setdefault(key, {})
        counts[group_name] = counts.get(group_name, 0) + change
        for (target, of_group), tally in self._tallies.items():
            if of_group in {None, group_name}:
                self._add_to_tally(tally, target, key, change)

    def _touch(self, key: NodeKey) -> None:
        for cache in self._caches:
            cache.pop(key, None)
