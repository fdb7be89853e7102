"""`apply`: the one way in which state changes, and the only dispatcher."""

from typing import NamedTuple, assert_never

from nodestate.fsm import drains, nodes
from nodestate.fsm.evaluations import Cause, evolve_evaluation_created
from nodestate.fsm.state import EVALUATIONS, NODES, State
from nodestate.model.command import (
    Command,
    CompleteDrains,
    EmitNodeEvents,
    EvaluateNode,
    MissHeartbeats,
    PurgeNodes,
    RegisterNodes,
    Registration,
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
)
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import Accepted, Outcome, Refused, RegistrationResult

WatchKey = tuple[str, ...]


class Applied(NamedTuple):
    """What an entry did: the proposer's outcome, what followed, which keys it touched."""

    outcome: Outcome
    events: tuple[Event, ...]
    keys: tuple[WatchKey, ...]


def apply(state: State, index: int, command: Command) -> Applied:
    """Apply one entry. Total: every command in every state has an outcome."""
    if isinstance(command, RegisterNodes):
        return _apply_registrations(state, index, command)
    decided = _decide(state, command, index)
    if isinstance(decided, Refused):
        return Applied(decided, (), ())
    for event in decided:
        _evolve(state, event, index)
    return Applied(_accepted(state, decided, index), *_followed(decided))


def check(state: State, command: Command) -> None:
    """Decide without writing; an exception out of here would have stopped every server."""
    index = max(state.indexes.values()) + 1
    if isinstance(command, RegisterNodes):
        cause = Cause(index, command.at_ns, command.seed)
        for registration in command.registrations:
            nodes.decide_register(state, registration, cause)
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
        case RegisterNodes():
            raise AssertionError("registrations are decided one after the other")
        case _:
            assert_never(command)


def _apply_registrations(state: State, index: int, command: RegisterNodes) -> Applied:
    """Accept or refuse each on its own, as if they had come one after the other."""
    cause = Cause(index, command.at_ns, command.seed)
    results: list[RegistrationResult] = []
    events: list[Event] = []
    for registration in command.registrations:
        decided = nodes.decide_register(state, registration, cause)
        if isinstance(decided, Refused):
            results.append(
                RegistrationResult(node_id=registration.node.id, refused=decided)
            )
            continue
        for event in decided:
            _evolve(state, event, index)
        events += decided
        results.append(_registration_result(registration, decided, index))
    outcome = Accepted(
        index=index if events else 0,
        node_modify_index=index if events else 0,
        eval_ids=_evaluation_ids(events),
        node_count=len(state.nodes),
        registrations=tuple(results),
    )
    return Applied(outcome, *_followed(events))


def _registration_result(
    registration: Registration, decided: list[Event], index: int
) -> RegistrationResult:
    return RegistrationResult(
        node_id=registration.node.id,
        node_modify_index=index,
        eval_ids=_evaluation_ids(decided),
        is_down=registration.node.status is NodeStatus.DOWN,
    )


def _accepted(
    state: State, events: list[Event] | list[EvaluationCreated], index: int
) -> Accepted:
    is_node_written = any(not isinstance(event, EvaluationCreated) for event in events)
    return Accepted(
        index=index if events else 0,
        node_modify_index=index if is_node_written else 0,
        eval_ids=_evaluation_ids(events),
        node_count=len(state.nodes),
    )


def _evaluation_ids(
    events: list[Event] | list[EvaluationCreated],
) -> tuple[str, ...]:
    return tuple(
        event.evaluation.id for event in events if isinstance(event, EvaluationCreated)
    )


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
        case _:
            assert_never(event)


def _followed(
    events: list[Event] | list[EvaluationCreated],
) -> tuple[tuple[Event, ...], tuple[WatchKey, ...]]:
    """Return the events and, each once, the keys that they touch."""
    keys: dict[WatchKey, None] = {}
    for event in events:
        if isinstance(event, EvaluationCreated):
            keys[EVALUATIONS,] = None
            keys[EVALUATIONS, event.evaluation.id] = None
        else:
            keys[NODES,] = None
            keys[NODES, event.key] = None
    return tuple(events), tuple(keys)
