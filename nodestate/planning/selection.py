"""Choosing nodes for the groups of one job, in one evaluation.

A `Selection` looks at a state that does not change under it, and at what the plan has
come to so far: whoever plans tells it what is to stop, and it counts what it places
itself. What may take long is a generator that yields `None` after each small part of the
work, so that others can have their turn; what it returns is the result.

    selection = Selection(state, job, seed=(evaluation.id, index))
    yield from selection.prepare()
    selection.stop(old)
    choice = yield from selection.choose(group, penalised={failed_on})
    if choice.selected is None:
        failed[group.name] = choice.metrics

The same state, job, seed and questions give the same choices, ports included, on every
machine.
"""

from collections.abc import Generator, Sequence, Set as AbstractSet
from typing import Final, NamedTuple, TypeVar

from nodestate.fsm.state import NODES, State
from nodestate.model.allocation import AllocatedResources, Allocation
from nodestate.model.job import Job, JobType, TaskGroup
from nodestate.model.node import ELIGIBLE, Node, NodeKey, NodeStatus
from nodestate.planning.chance import Chance, Walk
from nodestate.planning.feasibility import refusal_of
from nodestate.planning.needs import Needs, networks_of
from nodestate.planning.occupancy import Occupancy
from nodestate.planning.ranking import Candidates
from nodestate.planning.search import Choice, Ground, Search, Standings

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work in small parts: yields between two of them, returns what came of it."""

SCORE_ALL_NODES_MAX: Final = 100
"""Up to so many ready nodes every one is scored; beyond that, as many as will do."""
BATCH_LIMIT: Final = 2
SERVICE_LIMIT_MIN: Final = 2
SET_ASIDE_MAX: Final = 3
READY_KEPT_MAX: Final = 16
"""For how many sets of datacenters the nodes that are ready are remembered."""
WEIGHT_PER_STEP: Final = 512
"""How much is looked at between two pauses, about a millisecond's worth."""


def is_ready(node: Node) -> bool:
    """Say whether new work may be placed on the node."""
    return (
        node.status is NodeStatus.READY
        and node.scheduling_eligibility == ELIGIBLE
        and not node.is_draining
    )


def sample_limit(job_type: JobType, ready_count: int) -> int:
    """Return how many candidates are enough where there are many nodes."""
    if job_type is JobType.BATCH:
        return BATCH_LIMIT
    rounded_up_log2 = (ready_count - 1).bit_length() if ready_count else 0
    return max(SERVICE_LIMIT_MIN, rounded_up_log2)


class Ready(NamedTuple):
    """The nodes that are ready, sorted by key, and how many there are by datacenter."""

    keys: Sequence[NodeKey]
    by_datacenter: dict[str, int]


class ReadyNodes:
    """Which nodes are ready, remembered for as long as no node changes.

    Evaluations of one log may share it: each of them need not look at every node then.
    """

    __slots__ = ("_found", "_index")

    def __init__(self) -> None:
        self._index = -1
        self._found: dict[tuple[str, ...], Ready] = {}

    def find(self, state: State, datacenters: tuple[str, ...]) -> Steps[Ready]:
        """Return the nodes that are ready in these datacenters; nobody changes them."""
        index = state.table_index(NODES)
        if index != self._index:
            self._index, self._found = index, {}
        found = self._found.get(datacenters)
        if found is None:
            found = yield from _look_for_ready(state, datacenters)
            # Others may have seen a later state meanwhile.
            if index == self._index and len(self._found) < READY_KEPT_MAX:
                self._found[datacenters] = found
        return found


def _look_for_ready(state: State, datacenters: tuple[str, ...]) -> Steps[Ready]:
    nodes, available = state.nodes, dict.fromkeys(datacenters, 0)
    keys: list[NodeKey] = []
    for number, key in enumerate(state.node_keys, 1):
        node = nodes[key]
        if node.datacenter in available and is_ready(node):
            keys.append(key)
            available[node.datacenter] += 1
        if not number % WEIGHT_PER_STEP:
            yield
    return Ready(keys, available)


class Selection:
    """The nodes for one job, and what of them the plan so far has taken."""

    def __init__(
        self,
        state: State,
        job: Job,
        *,
        seed: Sequence[str | int],
        ready: ReadyNodes | None = None,
    ) -> None:
        self._job = job
        self._ready_nodes = ready or ReadyNodes()
        self._ready: Sequence[NodeKey] = ()
        self._groups: dict[str, Standings] = {}
        self._ground = Ground(
            state=state,
            occupancy=Occupancy(state, job.key),
            chance=Chance(*seed),
            nodes_available=dict.fromkeys(job.datacenters, 0),
        )
        self._walk: Walk | None = None

    def prepare(self) -> Steps[None]:
        """Find the nodes that are ready in the job's datacenters; once, before all else."""
        ground = self._ground
        yield from ground.occupancy.prepare()
        found = yield from self._ready_nodes.find(ground.state, self._job.datacenters)
        self._ready = found.keys
        self._ground = ground._replace(nodes_available=found.by_datacenter)
        self._walk = Walk(len(self._ready), self._ground.chance)

    @property
    def ready_keys(self) -> Sequence[NodeKey]:
        """Return the nodes that are ready in the job's datacenters, sorted by key."""
        return self._ready

    @property
    def nodes_available(self) -> dict[str, int]:
        """Return how many of them there are in each of the job's datacenters."""
        return self._ground.nodes_available

    def stop(self, allocation: Allocation) -> None:
        """Count an allocation as stopped by the plan: its room is free; twice is once."""
        self._ground.occupancy.stop(allocation)

    def keep(self, allocation: Allocation) -> None:
        """Take that back, for one that is not stopped after all."""
        self._ground.occupancy.keep(allocation)

    def choose(
        self,
        group: TaskGroup,
        *,
        penalised: AbstractSet[NodeKey] = frozenset(),
        preferred: NodeKey | None = None,
    ) -> Steps[Choice]:
        """Choose a node for one more of the group, and count it as placed there.

        `penalised` are nodes where it failed before. The `preferred` node, if it is ready
        and will do, is taken without looking further.
        """
        if preferred is not None and self._may_place_on(preferred):
            choice = self.choose_on(group, preferred)
            if choice.selected is not None:
                return choice
        assert self._walk is not None, "the nodes are found before one is chosen"
        standings = self._standings(group)
        candidates = self._candidates(standings.needs)
        search = Search(self._ground, standings, candidates, penalised)
        weight = 0
        for _ in range(len(self._ready)):
            weight += search.look(self._ready[self._walk.step()])
            if candidates.is_full:
                break
            if weight >= WEIGHT_PER_STEP:
                weight = 0
                yield
        return search.settle()

    def choose_on(self, group: TaskGroup, key: NodeKey) -> Choice:
        """Place one more of the group on that node, if it will do; the node is there."""
        candidates = Candidates(1, set_aside_max=0)
        search = Search(self._ground, self._standings(group), candidates)
        search.look(key)
        return search.settle()

    def update(
        self, allocation: Allocation, group: TaskGroup
    ) -> AllocatedResources | None:
        """Count an allocation as going on where it is, as one of the group as it is now.

        It keeps its networks. Returns its new resources; `None`, with nothing changed, if
        its node is gone, will not do or has no room.
        """
        key, occupancy = allocation.node_key, self._ground.occupancy
        node = self._ground.state.node(key)
        if node is None:
            return None
        needs = self._standings(group).needs
        self.stop(allocation)
        refusal = refusal_of(needs.requirements, node)
        refusal = refusal or needs.distinct.refusal(occupancy, key, node)
        room = occupancy.room(key)
        if refusal or room.shortfall_of(needs.cpu, needs.memory_mb, needs.disk_mb):
            self.keep(allocation)
            return None
        resources = needs.resources(networks_of(allocation))
        occupancy.place(key, group.name, resources)
        return resources

    def _may_place_on(self, key: NodeKey) -> bool:
        node = self._ground.state.node(key)
        if node is None or node.datacenter not in self.nodes_available:
            return False
        return is_ready(node)

    def _standings(self, group: TaskGroup) -> Standings:
        standings = self._groups.get(group.name)
        if standings is None:
            needs = Needs(self._job, group)
            standings = self._groups[group.name] = Standings(self._ground, needs)
        known = standings.needs.group
        assert known is group or known == group, "a job has one group of a name"
        return standings

    def _candidates(self, needs: Needs) -> Candidates:
        count = len(self._ready)
        if needs.is_choosy or count <= SCORE_ALL_NODES_MAX:
            return Candidates(count, set_aside_max=0)
        limit = sample_limit(self._job.type, count)
        return Candidates(limit, set_aside_max=SET_ASIDE_MAX)
