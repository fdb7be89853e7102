"""Everything that can follow from a command: a tagged union, for ever.

An event has all that is needed to write the new records; writing them asks nothing
again. Node history, the event stream and the watchers are fed by the same events.
"""

import msgspec

from nodestate.model.evaluation import Evaluation
from nodestate.model.node import Node, NodeKey


class NodeRegistered(msgspec.Struct, frozen=True, gc=False, tag="node.registered"):
    """A node registered, for the first time or again."""

    key: NodeKey
    node: Node
    secret_sha256: bytes


class NodeStatusUpdated(
    msgspec.Struct, frozen=True, gc=False, tag="node.status_updated"
):
    """A node's status changed."""

    key: NodeKey
    node: Node


class NodeEventsAdded(msgspec.Struct, frozen=True, gc=False, tag="node.events_added"):
    """An agent added lines to its node's history."""

    key: NodeKey
    node: Node


class NodeDrainUpdated(msgspec.Struct, frozen=True, gc=False, tag="node.drain_updated"):
    """A drain started, changed, stopped or was complete."""

    key: NodeKey
    node: Node


class NodeEligibilityUpdated(
    msgspec.Struct, frozen=True, gc=False, tag="node.eligibility_updated"
):
    """A node opened or closed for placements."""

    key: NodeKey
    node: Node


class NodePurged(msgspec.Struct, frozen=True, gc=False, tag="node.purged"):
    """A node was removed; `node` is what it was."""

    key: NodeKey
    node: Node


class EvaluationCreated(
    msgspec.Struct, frozen=True, gc=False, tag="evaluation.created"
):
    """A change calls for a scheduler to look at a job."""

    evaluation: Evaluation


class StateRestored(msgspec.Struct, frozen=True, gc=False, tag="state.restored"):
    """A state from a snapshot took the place of the one that there was."""

    restore_id: str


Event = (
    NodeRegistered
    | NodeStatusUpdated
    | NodeEventsAdded
    | NodeDrainUpdated
    | NodeEligibilityUpdated
    | NodePurged
    | EvaluationCreated
    | StateRestored
)
