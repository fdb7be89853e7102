"""The routes: one table, from which methods, permissions and metric labels follow."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from nodestate.api import (
    agent,
    allocations,
    metrics,
    nodes,
    operator,
    restores,
    status,
)
from nodestate.api.calls import Call
from nodestate.api.replies import Reply

Handler = Callable[[Call], Awaitable[Reply]]

ID: Final = ":id"
READS: Final = ("GET", "HEAD")
WRITES: Final = ("POST", "PUT")
DELETES: Final = ("DELETE",)

NODE_READ: Final = "node:read"
NODE_WRITE: Final = "node:write"
NODE_SECRET: Final = "node secret"  # noqa: S105  the name of a permission
OPERATOR_SNAPSHOT_SAVE: Final = "operator:snapshot-save"
MANAGEMENT: Final = "management"
OPEN: Final = "open"


class Route(msgspec.Struct, frozen=True):
    """One line of the table; `name` is also its label in the metrics.

    `permission` is what a caller must be allowed once there are tokens.
    """

    methods: tuple[str, ...]
    path: str
    name: str
    handler: Handler
    permission: str

    @property
    def is_write(self) -> bool:
        """Say whether it may change something."""
        return self.methods is not READS


ROUTES: Final = (
    Route(READS, "/v1/nodes", "nodes.list", nodes.list_nodes, NODE_READ),
    Route(WRITES, "/v1/nodes", "nodes.register", agent.register_nodes, NODE_SECRET),
    Route(READS, "/v1/node/:id", "node.read", nodes.read_node, NODE_READ),
    Route(
        READS,
        "/v1/node/:id/allocations",
        "node.allocations",
        allocations.list_node_allocations,
        NODE_READ,
    ),
    Route(
        WRITES,
        "/v1/node/:id/evaluate",
        "node.evaluate",
        nodes.evaluate_node,
        NODE_WRITE,
    ),
    Route(WRITES, "/v1/node/:id/drain", "node.drain", nodes.drain_node, NODE_WRITE),
    Route(WRITES, "/v1/node/:id/purge", "node.purge", nodes.purge_node, NODE_WRITE),
    Route(
        WRITES,
        "/v1/node/:id/eligibility",
        "node.eligibility",
        nodes.set_eligibility,
        NODE_WRITE,
    ),
    Route(
        WRITES,
        "/v1/node/:id/heartbeat",
        "node.heartbeat",
        agent.heartbeat_node,
        NODE_SECRET,
    ),
    Route(WRITES, "/v1/node/:id/events", "node.events", agent.emit_events, NODE_SECRET),
    Route(READS, "/v1/status/leader", "status.leader", status.read_leader, OPEN),
    Route(READS, "/v1/status/peers", "status.peers", status.list_peers, OPEN),
    Route(READS, "/v1/regions", "regions", status.list_regions, OPEN),
    Route(READS, "/v1/agent/health", "agent.health", status.read_health, OPEN),
    Route(READS, "/v1/agent/members", "agent.members", status.list_members, NODE_READ),
    Route(
        READS,
        "/v1/operator/raft/configuration",
        "operator.raft_configuration",
        operator.read_configuration,
        MANAGEMENT,
    ),
    Route(
        DELETES,
        "/v1/operator/raft/peer",
        "operator.remove_peer",
        operator.remove_peer,
        MANAGEMENT,
    ),
    Route(
        WRITES,
        "/v1/operator/raft/peer",
        "operator.add_peer",
        operator.add_peer,
        MANAGEMENT,
    ),
    Route(
        WRITES,
        "/v1/operator/raft/transfer-leadership",
        "operator.transfer_leadership",
        operator.transfer_leadership,
        MANAGEMENT,
    ),
    Route(
        READS,
        "/v1/operator/snapshot",
        "operator.save_snapshot",
        operator.save_snapshot,
        OPERATOR_SNAPSHOT_SAVE,
    ),
    Route(
        WRITES,
        "/v1/operator/snapshot",
        "operator.restore_snapshot",
        restores.restore_snapshot,
        MANAGEMENT,
    ),
    Route(READS, "/v1/metrics", "metrics", metrics.read_metrics, OPEN),
)


class Resource:
    """What there is at one path: a route for each method."""

    __slots__ = ("allowed", "by_method")

    def __init__(self) -> None:
        self.by_method: dict[str, Route] = {}
        self.allowed = b""

    def add(self, route: Route) -> None:
        """Enter a route for each of its methods."""
        for method in route.methods:
            assert method not in self.by_method, f"{method} {route.path} twice"
            self.by_method[method] = route
        self.allowed = ", ".join(sorted(self.by_method)).encode("ascii")


class Place(msgspec.Struct, frozen=True):
    """Where a path leads: a resource and the id in it; `None` where there is nothing.

    `lacks_id` says that only the id is missing.
    """

    resource: Resource | None
    node_text: str = ""
    lacks_id: bool = False


NOWHERE: Final = Place(None)


class RouteTable:
    """Finds the resource for a path."""

    def __init__(self, routes: tuple[Route, ...] = ROUTES) -> None:
        self._exact: dict[str, Resource] = {}
        self._below_id: dict[str, dict[str, Resource]] = {}
        for route in routes:
            before, has_id, after = route.path.partition(ID)
            known = self._below_id.setdefault(before, {}) if has_id else self._exact
            known.setdefault(after if has_id else route.path, Resource()).add(route)

    def find(self, path: str) -> Place:
        """Return where a path leads; one trailing slash is forgiven."""
        for before, below in self._below_id.items():
            if path.startswith(before):
                return _find_below(below, path[len(before) :])
            if path == before[:-1]:
                return Place(None, lacks_id=True)
        resource = self._exact.get(path)
        if resource is None and len(path) > 1 and path.endswith("/"):
            resource = self._exact.get(path[:-1])
        return NOWHERE if resource is None else Place(resource)


def _find_below(below: dict[str, Resource], rest: str) -> Place:
    node_text, slash, tail = rest.partition("/")
    if not slash and node_text:
        return Place(below[""], node_text)
    if not tail:
        return Place(below[""], node_text) if node_text else Place(None, lacks_id=True)
    resource = below.get(f"/{tail.removesuffix('/')}")
    return NOWHERE if resource is None else Place(resource, node_text)
