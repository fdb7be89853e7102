"""One search for a node: each one looked at is filtered, exhausted or a candidate."""

from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from nodestate.fsm.capacity import Claim, Room
from nodestate.fsm.state import State
from nodestate.model.allocation import AllocatedResources, AllocMetric, NodeScore
from nodestate.model.node import NetworkResource, Node, NodeKey
from nodestate.planning.chance import Chance
from nodestate.planning.feasibility import refusal_of
from nodestate.planning.metrics import SearchRecord
from nodestate.planning.needs import Needs, Networks
from nodestate.planning.occupancy import Occupancy
from nodestate.planning.ports import assign_network
from nodestate.planning.ranking import (
    PENALTY_SCORE,
    Candidate,
    Candidates,
    Score,
    anti_affinity,
    binpack,
)

KNOWN_NODE_WEIGHT: Final = 1
MEASURED_NODE_WEIGHT: Final = 16
"""What it costs to look at a node, with its answer at hand and without."""


class Selected(NamedTuple):
    """A chosen node, and what the group gets of it."""

    key: NodeKey
    node: Node
    score: float
    resources: AllocatedResources


class Choice(NamedTuple):
    """What a search came to: a node or none, and what it went through."""

    selected: Selected | None
    metrics: AllocMetric

    @property
    def is_filtered(self) -> bool:
        """Say whether nothing was found, and no node that will do was merely full."""
        return self.selected is None and not self.metrics.nodes_exhausted


class Standing(NamedTuple):
    """What a node is to a group, as long as nothing changes on the node.

    `refusal` says why the group may not run there, `dimension` of what there is too
    little; the rest counts where there is neither. `total` adds up `part_count` parts.
    """

    refusal: str | None = None
    dimension: str | None = None
    score: Score = Score(0.0)
    total: float = 0.0
    part_count: int = 1
    resources: AllocatedResources = AllocatedResources()
    spread_values: tuple[str | None, ...] = ()


class Ground(NamedTuple):
    """What all searches of one evaluation share."""

    state: State
    occupancy: Occupancy
    chance: Chance
    nodes_available: dict[str, int]


class Standings:
    """What each node is to one group; measured when first asked, and after a change."""

    __slots__ = ("_ground", "_refusals", "known", "needs")

    def __init__(self, ground: Ground, needs: Needs) -> None:
        self.needs = needs
        self.known: dict[NodeKey, Standing] = {}
        self._ground = ground
        self._refusals: dict[NodeKey, str | None] = {}
        ground.occupancy.forgets_in(self.known)

    def measure(self, key: NodeKey, node: Node) -> Standing:
        """Return what the node is to the group now, and remember it."""
        if key not in self._refusals:
            self._refusals[key] = refusal_of(self.needs.requirements, node)
        refusal = self._refusals[key]
        if refusal is not None:
            standing = Standing(refusal=refusal)
        else:
            standing = self._measure_room(key, node)
        self.known[key] = standing
        return standing

    def _measure_room(self, key: NodeKey, node: Node) -> Standing:
        needs = self.needs
        room = self._ground.occupancy.room(key)
        dimension = room.shortfall_of(needs.cpu, needs.memory_mb, needs.disk_mb)
        dimension = dimension or room.shortfall()
        if dimension is not None:
            return Standing(dimension=dimension)
        resources = needs.without_networks
        if needs.networks:
            networks = assign_networks(room, needs, self._ground.chance)
            if isinstance(networks, str):
                return Standing(dimension=networks)
            resources = needs.resources(networks)
        score = self._score(key, node, room)
        total, part_count = score.added_up()
        values = needs.spreads.values_of(node)
        return Standing(None, None, score, total, part_count, resources, values)

    def _score(self, key: NodeKey, node: Node, room: Room) -> Score:
        needs = self.needs
        fit = binpack(room, needs.cpu, needs.memory_mb)
        if needs.is_system:
            return Score(fit)
        count = self._ground.occupancy.count_on(key, needs.group.name)
        return Score(
            fit,
            anti_affinity=anti_affinity(count, needs.group.count) if count else None,
            affinity=needs.affinities.score(node),
        )


def assign_networks(room: Room, needs: Needs, chance: Chance) -> Networks | str:
    """Return the networks that the group gets, or why it cannot have them.

    Each is assigned with those before it taken; afterwards the room is as it was.
    """
    given: dict[str | None, NetworkResource] = {}
    reason = None
    for owner, ask in needs.networks.items():
        assigned = assign_network(room, ask, chance)
        if isinstance(assigned, str):
            reason = assigned
            break
        given[owner] = assigned
        room.add(Claim(networks=(assigned,)))
    room.remove(Claim(networks=tuple(given.values())))
    if reason is not None:
        return reason
    return {owner: [network] for owner, network in given.items()}


class Search:
    """A search for one more node for a group."""

    __slots__ = (
        "_distinct",
        "_ground",
        "_penalised",
        "_record",
        "_spread_score",
        "_standings",
        "candidates",
    )

    def __init__(
        self,
        ground: Ground,
        standings: Standings,
        candidates: Candidates,
        penalised: AbstractSet[NodeKey] = frozenset(),
    ) -> None:
        self._ground = ground
        self._standings = standings
        self._penalised = penalised
        self._record = SearchRecord()
        needs = standings.needs
        is_spread = needs.spreads.is_asked and not needs.is_system
        scorer = needs.spreads.scorer(ground.occupancy) if is_spread else None
        self._spread_score = scorer
        self._distinct = needs.distinct if needs.distinct.is_asked else None
        self.candidates = candidates

    def look(self, key: NodeKey) -> int:
        """Look at a node that there is; returns what that cost."""
        node = self._ground.state.nodes[key]
        weight = KNOWN_NODE_WEIGHT
        standing = self._standings.known.get(key)
        if standing is None:
            standing = self._standings.measure(key, node)
            weight = MEASURED_NODE_WEIGHT
        self._record.evaluated_count += 1
        refusal = standing.refusal
        if refusal is None and self._distinct is not None:
            refusal = self._distinct.refusal(self._ground.occupancy, key, node)
        if refusal is not None:
            self._record.filter(node, refusal)
        elif standing.dimension is not None:
            self._record.exhaust(node, standing.dimension)
        else:
            self._weigh(key, standing)
        return weight

    def _weigh(self, key: NodeKey, standing: Standing) -> None:
        """Add what depends on the search to what the node is worth, and offer it."""
        total, part_count = standing.total, standing.part_count
        penalty = spread = None
        if key in self._penalised:
            penalty = PENALTY_SCORE
            total += penalty
            part_count += 1
        if self._spread_score is not None:
            spread = self._spread_score(standing.spread_values)
            total += spread
            part_count += 1
        total /= part_count
        if self.candidates.wants(total):
            score = standing.score
            if penalty is not None or spread is not None:
                score = score._replace(penalty=penalty, spread=spread)
            self.candidates.keep(Candidate(key, score, total))

    def settle(self) -> Choice:
        """Take the best candidate, if there is one, and count it as placed."""
        ranked = self.candidates.best_first()
        metrics = self._record.metric(
            self._ground.nodes_available,
            [self._shown(candidate) for candidate in ranked],
        )
        if not ranked:
            return Choice(None, metrics)
        return Choice(self._take(ranked[0]), metrics)

    def _take(self, candidate: Candidate) -> Selected:
        key = candidate.key
        resources = self._standings.known[key].resources
        name = self._standings.needs.group.name
        self._ground.occupancy.place(key, name, resources)
        return Selected(key, self._ground.state.nodes[key], candidate.total, resources)

    def _shown(self, candidate: Candidate) -> NodeScore:
        needs = self._standings.needs
        node = self._ground.state.nodes[candidate.key]
        scores = candidate.score.shown(
            is_system=needs.is_system, has_spreads=needs.spreads.is_asked
        )
        return NodeScore(node_id=node.id, scores=scores, norm_score=candidate.total)
