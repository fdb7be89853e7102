"""`apply`: the one way in which state changes, and the only dispatcher."""

from typing import Final, NamedTuple, assert_never

from nodestate.fsm import drains, nodes, requests, restores
from nodestate.fsm.evaluations import Cause, evolve_evaluation_created
from nodestate.fsm.state import EVALUATIONS, NODES, State
from nodestate.model.command import (
    AbandonRestore,
    AddRestorePiece,
    BeginRestore,
    Command,
    CompleteDrains,
    EmitNodeEvents,
    EvaluateNode,
    FinishRestore,
    MissHeartbeats,
    PurgeNodes,
    RegisterNodes,
    Restoring,
    SetDrain,
    SetEligibility,
    UpdateNodeStatus,
)
from nodestate.model.event import (
    EvaluationCreated,
    Event,
    NodeDrainUpdated,
    NodeEligibilityUpdated,
    NodeEventsAdded,
    NodePurged,
    NodeRegistered,
    NodeStatusUpdated,
    StateRestored,
)
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import Accepted, Outcome, Refused, RegistrationResult
from nodestate.model.request import Request

WatchKey = tuple[str, ...]
_NODES_KEY: Final = (NODES,)
_EVALUATIONS_KEY: Final = (EVALUATIONS,)
EVERYTHING: Final[WatchKey] = ()
"""Touched when the whole state is another one: whoever waits for whatever is woken."""


class Applied(NamedTuple):
    """What an entry did: the proposer's outcome, what followed, which keys it touched.

    `is_repeat` says that the command was passed over, because of an earlier request.
    """

    outcome: Outcome
    events: tuple[Event, ...]
    keys: tuple[WatchKey, ...]
    is_repeat: bool = False


def apply(
    state: State, index: int, command: Command, request: Request | None = None
) -> Applied:
    """Apply one entry. Total: every command in every state has an outcome.

    A `request` that was applied before is not applied again: its first outcome comes
    back, and nothing changes.
    """
    restores.drop_if_late(state, index)
    if request is None or request.floor == 0:
        return _apply_command(state, index, command)
    known = requests.decide_request(state, request)
    if known is not None:
        return Applied(known, (), (), is_repeat=True)
    applied = _apply_under_key(state, index, command, request)
    requests.evolve_request_answered(state, request, applied.outcome, index)
    return applied


def _apply_under_key(
    state: State, index: int, command: Command, request: Request
) -> Applied:
    """Apply a new request, unless its caller asks for the second time."""
    key = request.idempotency
    if key is None:
        return _apply_command(state, index, command)
    known = requests.decide_key(state, key, command)
    if known is not None:
        return Applied(known, (), (), is_repeat=True)
    applied = _apply_command(state, index, command)
    requests.evolve_key_used(state, key, command, applied.outcome, index)
    return applied


def _apply_command(state: State, index: int, command: Command) -> Applied:
    if isinstance(command, RegisterNodes):
        return _apply_registrations(state, index, command)
    if isinstance(command, Restoring):
        return _apply_restoring(state, index, command)
    decided = _decide(state, command, index)
    if isinstance(decided, Refused):
        return Applied(decided, (), ())
    followed = _Followed()
    for event in decided:
        _evolve(state, event, index)
        followed.add(event)
    return followed.applied(index, node_count=len(state.nodes))


def check(state: State, command: Command) -> None:
    """Decide without writing; an exception out of here would have stopped every server."""
    index = max(state.indexes.values()) + 1
    if isinstance(command, RegisterNodes):
        cause = Cause(index, command.at_ns, command.seed)
        for registration in command.registrations:
            nodes.decide_register(state, registration, cause)
    elif isinstance(command, Restoring):
        restores.decide_step(state, command)
    else:
        _decide(state, command, index)


def _decide(
    state: State, command: Command, index: int
) -> list[Event] | list[EvaluationCreated] | Refused:
    match command:
        case UpdateNodeStatus():
            return nodes.decide_update_status(state, command, index)
        case MissHeartbeats():
            return nodes.decide_miss_heartbeats(state, command, index)
        case EmitNodeEvents():
            return nodes.decide_emit_events(state, command, index)
        case SetDrain():
            return drains.decide_set_drain(state, command, index)
        case CompleteDrains():
            return drains.decide_complete_drains(state, command, index)
        case SetEligibility():
            return nodes.decide_set_eligibility(state, command, index)
        case EvaluateNode():
            return nodes.decide_evaluate(state, command, index)
        case PurgeNodes():
            return nodes.decide_purge(state, command, index)
        case (
            RegisterNodes()
            | BeginRestore()
            | AddRestorePiece()
            | FinishRestore()
            | AbandonRestore()
        ):
            raise AssertionError("registrations one after the other, restores by step")
        case _:
            assert_never(command)


def _apply_registrations(state: State, index: int, command: RegisterNodes) -> Applied:
    """Accept or refuse each on its own, as if they had come one after the other."""
    cause = Cause(index, command.at_ns, command.seed)
    results: list[RegistrationResult] = []
    followed = _Followed()
    for registration in command.registrations:
        decided = nodes.decide_register(state, registration, cause)
        if isinstance(decided, Refused):
            results.append(
                RegistrationResult(node_id=registration.node.id, refused=decided)
            )
            continue
        evaluations_before = len(followed.eval_ids)
        for event in decided:
            _evolve(state, event, index)
            followed.add(event)
        results.append(
            RegistrationResult(
                node_id=registration.node.id,
                node_modify_index=index,
                eval_ids=tuple(followed.eval_ids[evaluations_before:]),
                is_down=registration.node.status is NodeStatus.DOWN,
            )
        )
    return followed.applied(index, node_count=len(state.nodes), results=tuple(results))


def _apply_restoring(state: State, index: int, command: Restoring) -> Applied:
    """Take a step of a restore; only the last one changes what can be read."""
    refused = restores.decide_step(state, command)
    if refused is None:
        refused = restores.evolve_step(state, command, index)
    if refused is not None:
        return Applied(refused, (), ())
    outcome = Accepted(index=index, node_count=len(state.nodes))
    if isinstance(command, FinishRestore):
        return Applied(outcome, (StateRestored(command.restore_id),), (EVERYTHING,))
    return Applied(outcome, (), ())


class _Followed:
    """What followed from an entry, gathered event by event."""

    __slots__ = ("eval_ids", "events", "is_node_written", "keys")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.eval_ids: list[str] = []
        self.is_node_written = False
        self.keys: dict[WatchKey, None] = {}

    def add(self, event: Event) -> None:
        """Take an event into account, and the keys that it touches."""
        self.events.append(event)
        if isinstance(event, EvaluationCreated):
            self.eval_ids.append(event.evaluation.id)
            self.keys[_EVALUATIONS_KEY] = None
            self.keys[EVALUATIONS, event.evaluation.id] = None
        elif not isinstance(event, StateRestored):
            self.is_node_written = True
            self.keys[_NODES_KEY] = None
            self.keys[NODES, event.key] = None

    def applied(
        self,
        index: int,
        *,
        node_count: int,
        results: tuple[RegistrationResult, ...] = (),
    ) -> Applied:
        """Return what the proposer, the stream and the watchers are told."""
        outcome = Accepted(
            index=index if self.events else 0,
            node_modify_index=index if self.is_node_written else 0,
            eval_ids=tuple(self.eval_ids),
            node_count=node_count,
            registrations=results,
        )
        return Applied(outcome, tuple(self.events), tuple(self.keys))


def _evolve(state: State, event: Event, index: int) -> None:
    match event:
        case NodeRegistered():
            nodes.evolve_node_registered(state, event, index)
        case (
            NodeStatusUpdated()
            | NodeEventsAdded()
            | NodeDrainUpdated()
            | NodeEligibilityUpdated()
        ):
            nodes.evolve_node_written(state, event.key, event.node, index)
        case NodePurged():
            nodes.evolve_node_purged(state, event, index)
        case EvaluationCreated():
            evolve_evaluation_created(state, event, index)
        case StateRestored():
            raise AssertionError("a restore swaps the tables as one")
        case _:
            assert_never(event)
