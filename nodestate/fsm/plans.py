"""Plans: what of them still fits when they are applied, and the records that makes.

The check is made here, in the entry that commits, so that nothing can come between. It
goes node by node, in whole numbers: a node that cannot take all that the plan has for it
takes nothing of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar, assert_never

from msgspec.structs import replace

from nodestate.fsm.capacity import Room, claim_of, takes_room
from nodestate.fsm.evaluations import created_evaluation
from nodestate.fsm.state import ALLOCATIONS, NODES, State
from nodestate.model.allocation import LOST, STOP, AllocatedResources, Allocation
from nodestate.model.command import ApplyPlan
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import (
    AllocationPlaced,
    AllocationUpdated,
    EvaluationCreated,
    EvaluationUpdated,
    Event,
)
from nodestate.model.job import Job
from nodestate.model.node import ELIGIBLE, Node, NodeKey, NodeStatus
from nodestate.model.outcome import PLAN_IS_OLD, RefusalCode, Refused
from nodestate.model.plan import (
    Annotation,
    InPlaceUpdate,
    Placement,
    Plan,
    PlanResult,
    RejectedNode,
    Stop,
)

NO_NODE: Final = "node does not exist"
NOT_READY: Final = "node is not ready for placements"
DRAINING: Final = "node is draining"
NOT_ELIGIBLE: Final = "node is not eligible"

Part = Stop | Placement | InPlaceUpdate | Annotation
P = TypeVar("P", bound=Stop | Placement | InPlaceUpdate | Annotation)


def decide_apply_plan(
    state: State, command: ApplyPlan, index: int
) -> tuple[list[Event], PlanResult] | Refused:
    """Carry out what fits; refuse a plan whose evaluation has moved on since."""
    plan = command.plan
    evaluation = state.evaluations.get(plan.eval_id)
    if (
        evaluation is None
        or evaluation.is_terminal
        or evaluation.modify_index != plan.eval_modify_index
    ):
        return Refused(RefusalCode.CONFLICT, PLAN_IS_OLD)
    check = _Check(state, plan)
    check.settle()
    if plan.is_all_at_once and check.dropped:
        check.drop_everything()
    return _Carrying(state, check, command, index).carry_out(evaluation)


class _Check:
    """Which parts of a plan hold.

    `dropped` has those that do not, of which the scheduler must think again. What has
    come about in another way, such as the stop of an allocation that is over, is passed
    over: `stops`, `updates` and `annotations` have the parts that there is something to
    do for.
    """

    def __init__(self, state: State, plan: Plan) -> None:
        self._state = state
        self.job = (
            None if plan.version is None else state.job_versions.get(plan.version)
        )
        self.dropped: dict[str, None] = {}
        self.rejected: dict[NodeKey, str] = {}
        stops = {stop.id: stop for stop in plan.stops if self._is_to_stop(stop)}
        updates = {part.id: part for part in plan.updates if self._is_to_update(part)}
        self.stops = list(stops.values())
        self.updates = [part for id_, part in updates.items() if id_ not in stops]
        self.annotations = [part for part in plan.annotations if self._runs(part)]
        self.placements = list(plan.placements)
        is_wanted = self._is_wanted(plan)
        known: set[str] = set()
        for placement in plan.placements:
            if not is_wanted or not self._is_new(placement, known):
                self.dropped[placement.id] = None
            known |= {placement.id, placement.previous_allocation} - {""}
        if not is_wanted:
            self.dropped.update(dict.fromkeys(part.id for part in self.updates))

    def _is_wanted(self, plan: Plan) -> bool:
        """Say whether the job is still the one of which the plan runs a version."""
        if plan.version is None or self.job is None:
            return False
        job = self._state.job(plan.job_key)
        return (
            job is not None
            and not job.stop
            and plan.version.job_key == plan.job_key
            and job.create_index == plan.version.create_index
        )

    def _is_to_stop(self, stop: Stop) -> bool:
        stored = self._state.allocations.get(stop.id)
        if stored is None or stored.node_key != stop.node_key:
            return False
        if stop.is_lost and not stored.is_client_terminal:
            return True
        return not stored.is_server_terminal

    def _is_to_update(self, update: InPlaceUpdate) -> bool:
        stored = self._state.allocations.get(update.id)
        return (
            stored is not None
            and not stored.is_terminal
            and stored.node_key == update.node_key
        )

    def _runs(self, annotation: Annotation) -> bool:
        stored = self._state.allocations.get(annotation.id)
        return (
            stored is not None
            and not stored.is_server_terminal
            and stored.node_key == annotation.node_key
        )

    def _is_new(self, placement: Placement, known: set[str]) -> bool:
        """Say whether it is there only once, and replaces what nothing else does.

        `known` has the ids of the placements before it, and of what those replace.
        """
        if placement.id in self._state.allocations or placement.id in known:
            return False
        if placement.previous_allocation in known:
            return False
        previous = self._state.allocations.get(placement.previous_allocation)
        return previous is None or not previous.next_allocation

    # Node by node

    def settle(self) -> None:
        """Drop what does not fit, and what makes no sense without that, until all does."""
        self._drop_halves()
        is_settled = False
        while not is_settled:
            is_settled = True
            for key, parts in self._by_node():
                reason = self._shortcoming(key, parts)
                if reason:
                    self.rejected[key] = reason
                    self.dropped.update(dict.fromkeys(part.id for part in parts))
                    self._drop_halves()
                    is_settled = False

    def _by_node(self) -> Iterable[tuple[NodeKey, list[Part]]]:
        """Return the parts that are left of each node, nodes sorted by key."""
        parts: defaultdict[NodeKey, list[Part]] = defaultdict(list)
        found: list[Part] = [*self.stops, *self.updates]
        found += [*self.annotations, *self.placements]
        for part in self.left(found):
            parts[part.node_key].append(part)
        return sorted(parts.items())

    def left(self, parts: Iterable[P]) -> list[P]:
        """Return those of the parts that were not dropped."""
        return [part for part in parts if part.id not in self.dropped]

    def _drop_halves(self) -> None:
        """Drop a stop without its placement, and a placement without its stop."""
        for stop in self.stops:
            if stop.only_with and {stop.id, stop.only_with} & self.dropped.keys():
                self.dropped[stop.id] = None
                self.dropped[stop.only_with] = None

    def drop_everything(self) -> None:
        """Drop all that there is something to do for."""
        for _, parts in self._by_node():
            self.dropped.update(dict.fromkeys(part.id for part in parts))

    def _shortcoming(self, key: NodeKey, parts: list[Part]) -> str:
        """Return why the node cannot take its parts, `""` if it can."""
        node = self._state.node(key)
        is_placed_on = any(isinstance(part, Placement) for part in parts)
        if not is_placed_on and not any(
            isinstance(part, InPlaceUpdate) for part in parts
        ):
            return ""
        if node is None:
            return NO_NODE
        if is_placed_on:
            reason = _refuse_placements(node)
            if reason:
                return reason
        return self._shortfall(node, key, parts)

    def _shortfall(self, node: Node, key: NodeKey, parts: list[Part]) -> str:
        """Return what the node would have too little of, `""` if all of it fits.

        What is on the node is summed up already. That is enough as long as nobody, here
        or in the plan, has networks.
        """
        cpu, memory_mb, disk_mb, networked = self._state.usage_of(key)
        for part in parts:
            for sign, resources in self._changes(part):
                claim = claim_of(resources)
                cpu += sign * claim.cpu
                memory_mb += sign * claim.memory_mb
                disk_mb += sign * claim.disk_mb
                networked += 1 if claim.networks else 0
        if networked:
            return self._room(node, key, parts).shortfall() or ""
        return Room(node).shortfall_of(cpu, memory_mb, disk_mb) or ""

    def _changes(self, part: Part) -> Iterator[tuple[int, AllocatedResources]]:
        """Yield what a part gives back of the node, and what it takes."""
        if isinstance(part, Stop | InPlaceUpdate):
            stored = self._state.allocations[part.id]
            if takes_room(stored):
                yield -1, stored.allocated_resources
        if isinstance(part, Placement | InPlaceUpdate):
            yield 1, part.resources

    def _room(self, node: Node, key: NodeKey, parts: list[Part]) -> Room:
        room = Room(node)
        replaced = {part.id for part in parts if not isinstance(part, Annotation)}
        for allocation in self._state.allocations_on(key):
            if takes_room(allocation) and allocation.id not in replaced:
                room.add(claim_of(allocation.allocated_resources))
        for part in parts:
            if isinstance(part, Placement | InPlaceUpdate):
                room.add(claim_of(part.resources))
        return room


def _refuse_placements(node: Node) -> str:
    if node.status is not NodeStatus.READY:
        return NOT_READY
    if node.is_draining:
        return DRAINING
    if node.scheduling_eligibility != ELIGIBLE:
        return NOT_ELIGIBLE
    return ""


class _Carrying:
    """The records that the parts which hold make."""

    def __init__(
        self, state: State, check: _Check, command: ApplyPlan, index: int
    ) -> None:
        self._state = state
        self._check = check
        self._command = command
        self._plan = command.plan
        self._index = index
        self._at_ns = command.at_ns
        self._changed: dict[str, Allocation] = {}
        self._placed: list[Allocation] = []

    def carry_out(self, evaluation: Evaluation) -> tuple[list[Event], PlanResult]:
        """Return what follows, and what became of the plan."""
        check = self._check
        stops = check.left(check.stops)
        updates = check.left(check.updates)
        changes: list[Stop | InPlaceUpdate | Annotation] = [*stops, *updates]
        for part in [*changes, *check.left(check.annotations)]:
            self._change(part)
        for placement in check.left(check.placements):
            self._place(placement)
        result = PlanResult(
            rejected=tuple(
                RejectedNode(key, reason)
                for key, reason in sorted(check.rejected.items())
            ),
            dropped=tuple(sorted(check.dropped)),
            refresh_index=self._refresh_index(),
            placed_count=len(self._placed),
            stopped_count=len(stops),
            updated_count=len(updates),
        )
        return self._events(evaluation), result

    def _refresh_index(self) -> int:
        if not self._check.dropped:
            return 0
        indexes = self._state.indexes
        return max(self._index, indexes[NODES], indexes[ALLOCATIONS])

    def _events(self, evaluation: Evaluation) -> list[Event]:
        events: list[Event] = [
            AllocationUpdated(item) for item in self._changed.values()
        ]
        events += [AllocationPlaced(item) for item in self._placed]
        made = [
            EvaluationCreated(created_evaluation(sent, self._index, self._at_ns))
            for sent in self._command.evaluations
            if sent.id not in self._state.evaluations
        ]
        if not events and not made:
            return []
        # A later evaluation of the job waits until this index has been seen.
        seen = replace(
            evaluation,
            modify_index=self._index,
            modify_time=max(self._at_ns, evaluation.create_time + 1),
        )
        return [*events, *made, EvaluationUpdated(seen)]

    def _change(self, part: Stop | InPlaceUpdate | Annotation) -> None:
        stored = self._state.allocations[part.id]
        match part:
            case Stop():
                written = _stopped(stored, part)
            case InPlaceUpdate():
                written = self._updated(stored, part)
            case Annotation():
                written = replace(stored, followup_eval_id=part.followup_eval_id)
            case _:
                assert_never(part)
        self._changed[part.id] = replace(
            written,
            modify_index=self._index,
            alloc_modify_index=self._index,
            modify_time=self._at_ns,
        )

    def _updated(self, stored: Allocation, update: InPlaceUpdate) -> Allocation:
        job = self._job()
        return replace(
            stored,
            eval_id=self._plan.eval_id,
            job_priority=job.priority,
            job_version=job.version,
            job_create_index=job.create_index,
            job_modify_index=job.job_modify_index,
            allocated_resources=update.resources,
        )

    def _place(self, placement: Placement) -> None:
        job = self._job()
        node = self._state.nodes[placement.node_key]
        self._placed.append(
            Allocation(
                id=placement.id,
                namespace=job.namespace,
                job_id=job.id,
                job_type=job.type,
                job_priority=job.priority,
                job_version=job.version,
                job_create_index=job.create_index,
                job_modify_index=job.job_modify_index,
                eval_id=self._plan.eval_id,
                name=placement.name,
                task_group=placement.task_group,
                node_key=placement.node_key,
                node_id=node.id,
                node_name=node.name,
                allocated_resources=placement.resources,
                metrics=placement.metrics,
                previous_allocation=placement.previous_allocation,
                reschedule_tracker=placement.reschedule_tracker,
                create_time=self._at_ns,
                modify_time=self._at_ns,
                create_index=self._index,
                modify_index=self._index,
                alloc_modify_index=self._index,
            )
        )
        self._link_back(placement)

    def _link_back(self, placement: Placement) -> None:
        """Tell the allocation that is replaced by which; its agent need not know."""
        id_ = placement.previous_allocation
        previous = self._changed.get(id_) or self._state.allocations.get(id_)
        if previous is not None:
            self._changed[id_] = replace(
                previous, next_allocation=placement.id, modify_index=self._index
            )

    def _job(self) -> Job:
        job = self._check.job
        assert job is not None, "without its job a placement is dropped"
        return job


def _stopped(stored: Allocation, stop: Stop) -> Allocation:
    is_lost = stop.is_lost and not stored.is_client_terminal
    return replace(
        stored,
        desired_status=stored.desired_status if stored.is_server_terminal else STOP,
        desired_description=stop.description,
        client_status=LOST if is_lost else stored.client_status,
    )
