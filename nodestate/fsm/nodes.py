"""Nodes: registration, status, history, eligibility, evaluation and purge.

`decide_*` reads and says what follows, with the finished records; `evolve_*` writes them.
"""

from collections.abc import Sequence
from hmac import compare_digest
from typing import Final, NamedTuple

from msgspec.structs import replace

from nodestate.fsm.canonical import canonical
from nodestate.fsm.evaluations import Cause, decide_node_evaluations
from nodestate.fsm.state import NODES, State
from nodestate.model.command import (
    EmitNodeEvents,
    EvaluateNode,
    MissHeartbeats,
    PurgeNodes,
    Registration,
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
from nodestate.model.node import (
    ELIGIBLE,
    INELIGIBLE,
    NODE_EVENTS_MAX,
    Node,
    NodeEvent,
    NodeKey,
    NodeStatus,
)
from nodestate.model.outcome import (
    ELIGIBLE_WHILE_DRAINING,
    INVALID_ELIGIBILITY,
    NODE_NOT_FOUND,
    NODE_SECRET_MISMATCH,
    PERMISSION_DENIED,
    REGISTER_SECRET_MISMATCH,
    RefusalCode,
    Refused,
)
from nodestate.model.timestamp import NANOSECONDS, Timestamp

CLUSTER: Final = "Cluster"
REGISTERED: Final = "Node registered"
REREGISTERED: Final = "Node re-registered"
BACK_BY_HEARTBEAT: Final = "Node reregistered by heartbeat"
HEARTBEAT_MISSED: Final = "Node heartbeat missed"
MARKED_ELIGIBLE: Final = "Node marked as eligible for scheduling"
MARKED_INELIGIBLE: Final = "Node marked as ineligible for scheduling"

_UNKNOWN_NODE: Final = Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)
_WRONG_SECRET: Final = Refused(RefusalCode.FORBIDDEN, NODE_SECRET_MISMATCH)


class When(NamedTuple):
    """The entry's index and the time that its command carries."""

    entry_index: int
    at_ns: int

    @property
    def at_s(self) -> int:
        """Return the time in whole seconds."""
        return self.at_ns // NANOSECONDS


def add_node_events(
    node: Node, events: Sequence[NodeEvent], index: int
) -> tuple[NodeEvent, ...]:
    """Return the node's history with more lines, the oldest dropped beyond the limit."""
    stamped = tuple(
        NodeEvent(
            message=event.message,
            subsystem=event.subsystem,
            details=event.details or None,
            timestamp=event.timestamp,
            create_index=index,
        )
        for event in events
    )
    return (node.events + stamped)[-NODE_EVENTS_MAX:]


def cluster_event(message: str, at_ns: int) -> NodeEvent:
    """Return a line about the node as a member of the cluster."""
    return NodeEvent(message=message, subsystem=CLUSTER, timestamp=Timestamp(at_ns))


# Registration


def decide_register(
    state: State, registration: Registration, cause: Cause
) -> list[Event] | Refused:
    """Take a new node as it is sent; keep of a known one what is not its agent's to say."""
    when = When(cause.entry_index, cause.at_ns)
    key = registration.key
    known = state.node(key)
    if known is None and registration.is_known:
        return Refused(RefusalCode.FORBIDDEN, PERMISSION_DENIED)
    secret = state.node_secrets.get(key)
    if secret and not compare_digest(secret, registration.secret_sha256):
        return Refused(RefusalCode.FORBIDDEN, REGISTER_SECRET_MISMATCH)
    sent = canonical(registration.node)
    if known is None:
        node = _first_registered(sent, when)
        is_of_interest = calls_for_evaluations(NodeStatus.INITIALIZING, node.status)
    else:
        node = _registered_again(known, sent, when)
        is_of_interest = calls_for_evaluations(known.status, node.status)
        is_of_interest = is_of_interest or _is_another_choice(known, node)
    events: list[Event] = [NodeRegistered(key, node, registration.secret_sha256)]
    if is_of_interest:
        events += decide_node_evaluations(
            state, key, node, cause, node_modify_index=cause.entry_index
        )
    return events


def _first_registered(sent: Node, when: When) -> Node:
    event = cluster_event(REGISTERED, when.at_s * NANOSECONDS)
    return replace(
        sent,
        status_updated_at=when.at_s,
        last_drain=None,
        events=(replace(event, create_index=when.entry_index),),
        create_index=when.entry_index,
        modify_index=when.entry_index,
    )


def _registered_again(known: Node, sent: Node, when: When) -> Node:
    events = known.events
    if known.status is NodeStatus.DOWN and sent.status is not NodeStatus.DOWN:
        event = cluster_event(REREGISTERED, when.at_s * NANOSECONDS)
        events = add_node_events(known, (event,), when.entry_index)
    return replace(
        sent,
        status_updated_at=when.at_s,
        scheduling_eligibility=known.scheduling_eligibility,
        drain=known.drain,
        drain_strategy=known.drain_strategy,
        last_drain=known.last_drain,
        events=events,
        create_index=known.create_index,
        modify_index=when.entry_index,
    )


def _is_another_choice(known: Node, node: Node) -> bool:
    """Say whether what jobs choose nodes by has changed; resources are not among it."""
    if _chosen_by(known) != _chosen_by(node):
        return True
    return _usable_drivers(known) != _usable_drivers(node)


def _chosen_by(node: Node) -> tuple[object, ...]:
    resources = node.node_resources
    return (
        node.name,
        node.datacenter,
        node.node_pool,
        node.node_class,
        node.attributes,
        node.meta,
        node.host_volumes,
        None if resources is None else resources.devices or None,
    )


def _usable_drivers(node: Node) -> set[str]:
    drivers = (node.drivers or {}).items()
    return {name for name, driver in drivers if driver.detected and driver.healthy}


def calls_for_evaluations(before: NodeStatus, after: NodeStatus) -> bool:
    """Say whether a change of status concerns a scheduler; a new node was initializing."""
    if after is NodeStatus.INITIALIZING:
        return False
    return before is not after or after is NodeStatus.DOWN


def evolve_node_registered(state: State, event: NodeRegistered, index: int) -> None:
    """Write the record and the digest of its secret."""
    state.put_node(event.key, event.node)
    state.put_node_secret(event.key, event.secret_sha256)
    state.indexes[NODES] = index


# Status


def decide_update_status(
    state: State, command: UpdateNodeStatus, index: int
) -> list[Event] | Refused:
    """Set the status; one that stays changes nothing, though `down` wakes schedulers."""
    node = _authenticated(state, command.key, command.secret_sha256)
    if isinstance(node, Refused):
        return node
    return _decide_status(
        state, command.key, command.status, Cause(index, command.at_ns, command.seed)
    )


def _decide_status(
    state: State, key: NodeKey, status: NodeStatus, cause: Cause, *events: NodeEvent
) -> list[Event]:
    node = state.nodes[key]
    if node.status is status:
        if status is not NodeStatus.DOWN:
            return []
        return [*decide_node_evaluations(state, key, node, cause, node_modify_index=0)]
    if node.status is NodeStatus.DOWN:
        events = events or (cluster_event(BACK_BY_HEARTBEAT, cause.at_ns),)
    updated = replace(
        node,
        status=status,
        status_updated_at=cause.at_ns // NANOSECONDS,
        events=add_node_events(node, events, cause.entry_index),
        modify_index=cause.entry_index,
    )
    decided: list[Event] = [NodeStatusUpdated(key, updated)]
    if calls_for_evaluations(node.status, status):
        decided += decide_node_evaluations(
            state, key, updated, cause, node_modify_index=cause.entry_index
        )
    return decided


def decide_miss_heartbeats(
    state: State, command: MissHeartbeats, index: int
) -> list[Event]:
    """Mark nodes down; one that is gone or down already is passed over."""
    missed = cluster_event(HEARTBEAT_MISSED, command.at_ns)
    cause = Cause(index, command.at_ns, command.seed)
    decided: list[Event] = []
    for key in dict.fromkeys(command.keys):
        node = state.node(key)
        if node is not None and node.status is not NodeStatus.DOWN:
            decided += _decide_status(state, key, NodeStatus.DOWN, cause, missed)
    return decided


# History


def decide_emit_events(
    state: State, command: EmitNodeEvents, index: int
) -> list[Event] | Refused:
    """Add what the agent says to the node's history; this moves its ModifyIndex."""
    node = _authenticated(state, command.key, command.secret_sha256)
    if isinstance(node, Refused):
        return node
    if not command.events:
        return []
    updated = replace(
        node,
        events=add_node_events(node, command.events, index),
        modify_index=index,
    )
    return [NodeEventsAdded(command.key, updated)]


def _authenticated(state: State, key: NodeKey, secret: bytes) -> Node | Refused:
    node = state.node(key)
    if node is None:
        return _UNKNOWN_NODE
    if not compare_digest(state.node_secrets.get(key, b""), secret):
        return _WRONG_SECRET
    return node


# Eligibility


def decide_set_eligibility(
    state: State, command: SetEligibility, index: int
) -> list[Event] | Refused:
    """Refuse to reopen a draining node: the drain closed it and must end first."""
    node = state.node(command.key)
    if node is None:
        return _UNKNOWN_NODE
    if command.eligibility not in (ELIGIBLE, INELIGIBLE):
        return Refused(RefusalCode.INVALID, INVALID_ELIGIBILITY)
    is_opening = command.eligibility == ELIGIBLE
    if node.is_draining and is_opening:
        return Refused(RefusalCode.CONFLICT, ELIGIBLE_WHILE_DRAINING)
    if node.scheduling_eligibility == command.eligibility:
        return []
    message = MARKED_ELIGIBLE if is_opening else MARKED_INELIGIBLE
    event = cluster_event(message, command.at_ns)
    updated = replace(
        node,
        scheduling_eligibility=command.eligibility,
        status_updated_at=command.at_ns // NANOSECONDS,
        events=add_node_events(node, (event,), index),
        modify_index=index,
    )
    decided: list[Event] = [NodeEligibilityUpdated(command.key, updated)]
    if is_opening and node.scheduling_eligibility == INELIGIBLE:
        decided += decide_node_evaluations(
            state,
            command.key,
            updated,
            Cause(index, command.at_ns, command.seed),
            node_modify_index=index,
        )
    return decided


# Evaluation and purge


def decide_evaluate(
    state: State, command: EvaluateNode, index: int
) -> list[EvaluationCreated] | Refused:
    """Wake the schedulers for whatever concerns the node, which stays as it is."""
    node = state.node(command.key)
    if node is None:
        return _UNKNOWN_NODE
    return decide_node_evaluations(
        state,
        command.key,
        node,
        Cause(index, command.at_ns, command.seed),
        node_modify_index=node.modify_index,
    )


def decide_purge(
    state: State, command: PurgeNodes, index: int
) -> list[Event] | Refused:
    """Remove all of the nodes or none; their allocations stay, and are looked at."""
    cause = Cause(index, command.at_ns, command.seed)
    decided: list[Event] = []
    for key in dict.fromkeys(command.keys):
        node = state.node(key)
        if node is None:
            return _UNKNOWN_NODE
        decided.append(NodePurged(key, node))
        decided += decide_node_evaluations(
            state, key, node, cause, node_modify_index=index
        )
    return decided


def evolve_node_written(
    state: State,
    event: NodeStatusUpdated
    | NodeEventsAdded
    | NodeDrainUpdated
    | NodeEligibilityUpdated,
    index: int,
) -> None:
    """Write a node's new record."""
    state.put_node(event.key, event.node)
    state.indexes[NODES] = index


def evolve_node_purged(state: State, event: NodePurged, index: int) -> None:
    """Remove the record and its secret."""
    state.remove_node(event.key)
    state.indexes[NODES] = index
