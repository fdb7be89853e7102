"""The tables, their secondary indexes, and the index at which each last changed."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from msgspec.structs import replace

from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey
from nodestate.model.node import Node, NodeKey
from nodestate.model.request import KeptKey, KeyId, Session, SessionId

NODES: Final = "nodes"
ALLOCATIONS: Final = "allocations"
EVALUATIONS: Final = "evaluations"
JOBS: Final = "jobs"
TABLES: Final = (NODES, ALLOCATIONS, EVALUATIONS, JOBS)


class Restore(Protocol):
    """A state on its way here, piece by piece; `restores` knows what it is."""

    @property
    def begun_index(self) -> int:
        """Return the index of the entry that announced it."""


class State:
    """Everything that is replicated.

    Only `apply` changes it. The read side is the methods below; records are immutable,
    so what they return may be kept.
    """

    __slots__ = (
        "allocations",
        "allocations_by_node",
        "draining_keys",
        "evaluations",
        "idempotency_keys",
        "idempotency_order",
        "indexes",
        "jobs",
        "node_keys",
        "node_secrets",
        "nodes",
        "restore",
        "sessions",
    )

    def __init__(self) -> None:
        self.nodes: dict[NodeKey, Node] = {}
        self.node_keys: list[NodeKey] = []  # sorted: the order of the id's bytes
        self.draining_keys: dict[NodeKey, None] = {}
        self.node_secrets: dict[NodeKey, bytes] = {}
        self.jobs: dict[JobKey, Job] = {}
        self.allocations: dict[str, Allocation] = {}
        self.allocations_by_node: dict[NodeKey, dict[str, None]] = {}
        self.evaluations: dict[str, Evaluation] = {}
        self.sessions: dict[SessionId, Session] = {}
        self.idempotency_keys: dict[KeyId, KeptKey] = {}  # the oldest first
        self.idempotency_order: deque[KeyId] = deque()
        self.indexes: dict[str, int] = dict.fromkeys(TABLES, 0)
        self.restore: Restore | None = None  # in no snapshot and no digest

    def shallow_copy(self) -> "State":
        """Return a state that stays as it is now; it shares the records.

        Only for reading: sessions, which are changed in place, are copied for that.
        """
        copy = State()
        copy.nodes = self.nodes.copy()
        copy.node_keys = self.node_keys.copy()
        copy.draining_keys = self.draining_keys.copy()
        copy.node_secrets = self.node_secrets.copy()
        copy.jobs = self.jobs.copy()
        copy.allocations = self.allocations.copy()
        copy.allocations_by_node = self.allocations_by_node.copy()
        copy.evaluations = self.evaluations.copy()
        copy.sessions = {
            id_: replace(session, outcomes=session.outcomes.copy())
            for id_, session in self.sessions.items()
        }
        copy.idempotency_keys = self.idempotency_keys.copy()
        copy.idempotency_order = self.idempotency_order.copy()
        copy.indexes = self.indexes.copy()
        return copy

    @property
    def is_restoring(self) -> bool:
        """Say whether a restore is under way: a snapshot now would not have it."""
        return self.restore is not None

    def node(self, key: NodeKey) -> Node | None:
        """Return the node, `None` if there is none."""
        return self.nodes.get(key)

    def table_index(self, table: str) -> int:
        """Return the index of the last entry that changed the table, 0 if none did."""
        return self.indexes[table]

    def nodes_under(self, prefix: str) -> Iterator[Node]:
        """Yield the nodes whose key starts with `prefix`, in order; all for `""`."""
        position = bisect_left(self.node_keys, prefix)
        while position < len(self.node_keys):
            key = self.node_keys[position]
            if not key.startswith(prefix):
                return
            yield self.nodes[key]
            position += 1

    def draining_nodes(self) -> list[tuple[NodeKey, Node]]:
        """Return the nodes that drain, sorted by key; most of the time there are none."""
        return [(key, self.nodes[key]) for key in sorted(self.draining_keys)]

    def allocations_on(self, key: NodeKey) -> list[Allocation]:
        """Return a node's allocations, sorted by id."""
        return [
            self.allocations[id_]
            for id_ in sorted(self.allocations_by_node.get(key, ()))
        ]

    def put_node(self, key: NodeKey, node: Node) -> None:
        """Write a record; for `evolve_*` alone."""
        if key not in self.nodes:
            insort(self.node_keys, key)
        self.nodes[key] = node
        if node.is_draining:
            self.draining_keys[key] = None
        else:
            self.draining_keys.pop(key, None)

    def remove_node(self, key: NodeKey) -> None:
        """Remove a record and its secret; for `evolve_*` alone."""
        del self.nodes[key]
        del self.node_keys[bisect_left(self.node_keys, key)]
        self.draining_keys.pop(key, None)
        self.node_secrets.pop(key, None)

    def put_job(self, job: Job) -> None:
        """Write a record; for `evolve_*` alone."""
        self.jobs[JobKey((job.namespace, job.id))] = job

    def put_allocation(self, allocation: Allocation) -> None:
        """Write a record and enter it under its node; for `evolve_*` alone."""
        self.allocations[allocation.id] = allocation
        on_node = self.allocations_by_node.get(allocation.node_key, {})
        if allocation.id not in on_node:
            # A new one in its place: shallow copies share the old one.
            self.allocations_by_node[allocation.node_key] = {
                **on_node,
                allocation.id: None,
            }

    def put_idempotency_key(self, key_id: KeyId, kept: KeptKey) -> None:
        """Write a record behind all others; for `evolve_*` alone."""
        assert key_id not in self.idempotency_keys, "a key is kept until it is dropped"
        self.idempotency_keys[key_id] = kept
        self.idempotency_order.append(key_id)

    def oldest_idempotency_key(self) -> KeptKey | None:
        """Return the record that is dropped next, `None` if there is none.

        The order is kept beside the table: a map that loses its first record again and
        again takes longer and longer to find the next one.
        """
        order = self.idempotency_order
        return self.idempotency_keys[order[0]] if order else None

    def drop_oldest_idempotency_key(self) -> None:
        """Remove that record; for `evolve_*` alone."""
        del self.idempotency_keys[self.idempotency_order.popleft()]
