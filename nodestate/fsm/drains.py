"""Drains: started, changed, stopped, complete."""

from typing import Final

from msgspec.structs import replace

from nodestate.fsm.evaluations import Cause, decide_node_evaluations
from nodestate.fsm.nodes import add_node_events
from nodestate.fsm.state import State
from nodestate.model.command import CompleteDrains, SetDrain
from nodestate.model.event import Event, NodeDrainUpdated
from nodestate.model.node import (
    ELIGIBLE,
    INELIGIBLE,
    DrainStrategy,
    LastDrain,
    Node,
    NodeEvent,
)
from nodestate.model.outcome import NODE_NOT_FOUND, RefusalCode, Refused
from nodestate.model.timestamp import NANOSECONDS, NO_TIME, Timestamp

SUBSYSTEM: Final = "Drain"
STARTED: Final = "Node drain strategy set"
CHANGED: Final = "Node drain strategy updated"
STOPPED: Final = "Node drain disabled"
COMPLETE: Final = "Node drain complete"


def drain_event(
    message: str, at_ns: int, details: dict[str, str] | None = None
) -> NodeEvent:
    """Return a line about a drain."""
    return NodeEvent(
        message=message,
        subsystem=SUBSYSTEM,
        details=details,
        timestamp=Timestamp(at_ns),
    )


def decide_set_drain(
    state: State, command: SetDrain, index: int
) -> list[Event] | Refused:
    """Start, change or stop a drain; each writes the node, even if nothing differs."""
    node = state.node(command.key)
    if node is None:
        return Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)
    if command.strategy is None:
        return _decide_stop(state, node, command, index)
    return [NodeDrainUpdated(command.key, _drained(node, command, index))]


def _drained(node: Node, command: SetDrain, index: int) -> Node:
    assert command.strategy is not None
    message = CHANGED if node.is_draining else STARTED
    return replace(
        node,
        drain=True,
        drain_strategy=_strategy(node, command.strategy, command.at_ns),
        scheduling_eligibility=INELIGIBLE,
        last_drain=_draining(node, command),
        status_updated_at=command.at_ns // NANOSECONDS,
        events=add_node_events(node, (drain_event(message, command.at_ns),), index),
        modify_index=index,
    )


def _strategy(node: Node, asked: DrainStrategy, at_ns: int) -> DrainStrategy:
    """Count the deadline from now, and keep the start of a drain that goes on."""
    started_at = Timestamp(at_ns)
    if node.drain_strategy is not None:
        started_at = node.drain_strategy.started_at
    deadline = Timestamp(at_ns + asked.deadline) if asked.deadline > 0 else NO_TIME
    return DrainStrategy(
        deadline=asked.deadline,
        ignore_system_jobs=asked.ignore_system_jobs,
        force_deadline=deadline,
        started_at=started_at,
    )


def _whole_seconds(at_ns: int) -> Timestamp:
    return Timestamp(at_ns // NANOSECONDS * NANOSECONDS)


def _draining(node: Node, command: SetDrain) -> LastDrain:
    now = _whole_seconds(command.at_ns)
    if node.is_draining and node.last_drain is not None:
        return replace(
            node.last_drain,
            updated_at=now,
            accessor_id=command.accessor_id or node.last_drain.accessor_id,
            meta=command.meta or node.last_drain.meta,
        )
    return LastDrain(
        started_at=now,
        updated_at=now,
        status="draining",
        accessor_id=command.accessor_id,
        meta=command.meta or None,
    )


def _decide_stop(
    state: State, node: Node, command: SetDrain, index: int
) -> list[Event]:
    events = node.events
    last_drain = node.last_drain
    if node.is_draining:
        events = add_node_events(node, (drain_event(STOPPED, command.at_ns),), index)
        if last_drain is not None:
            last_drain = replace(
                last_drain,
                updated_at=_whole_seconds(command.at_ns),
                status="canceled",
                accessor_id=command.accessor_id or last_drain.accessor_id,
                meta=command.meta or last_drain.meta,
            )
    is_opened = command.mark_eligible and node.scheduling_eligibility != ELIGIBLE
    updated = replace(
        node,
        drain=False,
        drain_strategy=None,
        scheduling_eligibility=ELIGIBLE if is_opened else node.scheduling_eligibility,
        last_drain=last_drain,
        status_updated_at=command.at_ns // NANOSECONDS,
        events=events,
        modify_index=index,
    )
    decided: list[Event] = [NodeDrainUpdated(command.key, updated)]
    if is_opened:
        cause = Cause(index, command.at_ns, command.seed)
        decided += decide_node_evaluations(
            state, command.key, updated, cause, node_modify_index=index
        )
    return decided


def decide_complete_drains(
    state: State, command: CompleteDrains, index: int
) -> list[Event]:
    """End drains, unless the node has changed since it was looked at."""
    decided: list[Event] = []
    for drain in {drain.key: drain for drain in command.drains}.values():
        node = state.node(drain.key)
        if node is None or not node.is_draining:
            continue
        if node.modify_index == drain.modify_index:
            details = {"deadline_reached": "true"} if drain.deadline_reached else None
            event = drain_event(COMPLETE, command.at_ns, details)
            decided.append(
                NodeDrainUpdated(drain.key, _completed(node, event, command, index))
            )
    return decided


def _completed(
    node: Node, event: NodeEvent, command: CompleteDrains, index: int
) -> Node:
    last_drain = node.last_drain
    if last_drain is not None:
        now = _whole_seconds(command.at_ns)
        last_drain = replace(last_drain, updated_at=now, status="complete")
    return replace(
        node,
        drain=False,
        drain_strategy=None,
        last_drain=last_drain,
        status_updated_at=command.at_ns // NANOSECONDS,
        events=add_node_events(node, (event,), index),
        modify_index=index,
    )
