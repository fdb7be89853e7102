"""The routes: one table, from which methods, needs and metric labels follow."""

from typing import Final

import msgspec

from nodestate.api import (
    acl_bootstrap,
    acl_policies,
    acl_roles,
    acl_tokens,
    agent,
    agent_allocations,
    allocations,
    cluster_routes,
    drain_preview,
    evaluations,
    job_listing,
    job_plan,
    job_writes,
    jobs,
    metrics,
    nodes,
    openapi,
    operator,
    restores,
    status,
    system,
)
from nodestate.api.calls import Call
from nodestate.api.needs import (
    ALLOCATION_LIFECYCLE,
    ALLOCATION_READ,
    ANY_TOKEN,
    MANAGEMENT,
    NAMESPACE_LIST_JOBS,
    NAMESPACE_READ_JOB,
    NAMESPACE_SUBMIT_JOB,
    NODE_READ,
    NODE_READ_OR_AGENT,
    NODE_READ_OR_OWN_AGENT,
    NODE_SECRET,
    NODE_WRITE,
    NODE_WRITE_OR_OWN_AGENT,
    OPEN,
    OPERATOR_SNAPSHOT_SAVE,
)
from nodestate.api.problems import MISSING_NODE_ID
from nodestate.api.replies import Reply
from nodestate.api.route import DELETES, ID, LONG_ID, PUTS, READS, WRITES, Route

__all__ = [
    "DELETES",
    "ID",
    "LONG_ID",
    "PUTS",
    "READS",
    "ROUTES",
    "WRITES",
    "Place",
    "Route",
    "RouteTable",
]

MISSING_ID: Final = {
    "/v1/node/": MISSING_NODE_ID,
    "/v1/job/": "missing job ID",
    "/v1/allocation/": "missing allocation ID",
    "/v1/evaluation/": "missing evaluation ID",
    "/v1/acl/policy/": "Missing Policy Name",
    "/v1/acl/token/": "Missing Token Accessor",
    "/v1/acl/role/name/": "missing ACL role name",
    "/v1/acl/role/": "missing ACL role ID",
    **cluster_routes.MISSING_ID,
}
"""What to say of a path that ends where an id should stand."""


async def _describe_routes(call: Call) -> Reply:
    """Answer `GET /v1/openapi.json`: what this table says."""
    return await openapi.describe_routes(call, ROUTES)


ROUTES: Final[tuple[Route, ...]] = (
    *cluster_routes.NODE_POOL_ROUTES,
    Route(READS, "/v1/nodes", "nodes.list", nodes.list_nodes, NODE_READ),
    Route(WRITES, "/v1/nodes", "nodes.register", agent.register_nodes, NODE_SECRET),
    Route(READS, "/v1/node/:id", "node.read", nodes.read_node, NODE_READ_OR_AGENT),
    Route(
        READS,
        "/v1/node/:id/allocations",
        "node.allocations",
        allocations.list_node_allocations,
        NODE_READ_OR_OWN_AGENT,
    ),
    Route(
        WRITES,
        "/v1/node/:id/allocations",
        "node.report_allocations",
        agent_allocations.report_allocations,
        NODE_SECRET,
    ),
    Route(
        WRITES,
        "/v1/node/:id/evaluate",
        "node.evaluate",
        nodes.evaluate_node,
        NODE_WRITE,
    ),
    Route(
        READS,
        "/v1/node/:id/drain",
        "node.read_drain",
        drain_preview.read_drain,
        NODE_READ,
    ),
    Route(
        WRITES,
        "/v1/node/:id/drain",
        "node.drain",
        nodes.drain_node,
        NODE_WRITE_OR_OWN_AGENT,
    ),
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
    Route(READS, "/v1/jobs", "jobs.list", job_listing.list_jobs, NAMESPACE_LIST_JOBS),
    Route(
        WRITES,
        "/v1/jobs",
        "jobs.register",
        job_writes.register_job,
        NAMESPACE_SUBMIT_JOB,
    ),
    Route(WRITES, "/v1/jobs/parse", "jobs.parse", job_writes.parse_job, OPEN),
    Route(
        WRITES,
        "/v1/validate/job",
        "job.validate",
        job_writes.validate_job,
        NAMESPACE_READ_JOB,
    ),
    Route(READS, "/v1/job/*id", "job.read", jobs.read_job, NAMESPACE_READ_JOB),
    Route(
        WRITES,
        "/v1/job/*id",
        "job.register",
        job_writes.register_job,
        NAMESPACE_SUBMIT_JOB,
    ),
    Route(
        DELETES,
        "/v1/job/*id",
        "job.deregister",
        job_writes.deregister_job,
        NAMESPACE_SUBMIT_JOB,
    ),
    Route(
        READS,
        "/v1/job/*id/allocations",
        "job.allocations",
        jobs.list_job_allocations,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/job/*id/evaluations",
        "job.evaluations",
        jobs.list_job_evaluations,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/job/*id/summary",
        "job.summary",
        jobs.read_job_summary,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/job/*id/versions",
        "job.versions",
        jobs.list_job_versions,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/job/*id/deployments",
        "job.deployments",
        jobs.list_job_deployments,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/job/*id/deployment",
        "job.deployment",
        jobs.read_job_deployment,
        NAMESPACE_READ_JOB,
    ),
    Route(
        WRITES,
        "/v1/job/*id/evaluate",
        "job.evaluate",
        job_writes.evaluate_job,
        NAMESPACE_SUBMIT_JOB,
    ),
    Route(
        WRITES,
        "/v1/job/*id/plan",
        "job.plan",
        job_plan.plan_job,
        NAMESPACE_SUBMIT_JOB,
    ),
    Route(
        READS,
        "/v1/allocations",
        "allocations.list",
        allocations.list_allocations,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/allocation/:id",
        "allocation.read",
        allocations.read_allocation,
        ALLOCATION_READ,
    ),
    Route(
        WRITES,
        "/v1/allocation/:id/stop",
        "allocation.stop",
        allocations.stop_allocation,
        ALLOCATION_LIFECYCLE,
    ),
    Route(
        READS,
        "/v1/evaluations",
        "evaluations.list",
        evaluations.list_evaluations,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/evaluation/:id",
        "evaluation.read",
        evaluations.read_evaluation,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/evaluation/:id/allocations",
        "evaluation.allocations",
        allocations.list_evaluation_allocations,
        NAMESPACE_READ_JOB,
    ),
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
    Route(PUTS, "/v1/system/gc", "system.gc", system.collect_garbage, MANAGEMENT),
    Route(
        PUTS,
        "/v1/system/reconcile/summaries",
        "system.reconcile_summaries",
        system.reconcile_summaries,
        MANAGEMENT,
    ),
    Route(WRITES, "/v1/acl/bootstrap", "acl.bootstrap", acl_bootstrap.bootstrap, OPEN),
    Route(
        READS, "/v1/acl/policies", "acl.policies", acl_policies.list_policies, ANY_TOKEN
    ),
    Route(
        READS,
        "/v1/acl/policy/:id",
        "acl.policy_read",
        acl_policies.read_policy,
        ANY_TOKEN,
    ),
    Route(
        WRITES,
        "/v1/acl/policy/:id",
        "acl.policy_write",
        acl_policies.write_policy,
        MANAGEMENT,
    ),
    Route(
        DELETES,
        "/v1/acl/policy/:id",
        "acl.policy_delete",
        acl_policies.delete_policy,
        MANAGEMENT,
    ),
    Route(READS, "/v1/acl/tokens", "acl.tokens", acl_tokens.list_tokens, MANAGEMENT),
    Route(
        WRITES, "/v1/acl/token", "acl.token_create", acl_tokens.create_token, MANAGEMENT
    ),
    Route(
        READS,
        "/v1/acl/token/self",
        "acl.token_self",
        acl_tokens.read_own_token,
        ANY_TOKEN,
    ),
    Route(
        READS, "/v1/acl/token/:id", "acl.token_read", acl_tokens.read_token, ANY_TOKEN
    ),
    Route(
        WRITES,
        "/v1/acl/token/:id",
        "acl.token_update",
        acl_tokens.update_token,
        MANAGEMENT,
    ),
    Route(
        DELETES,
        "/v1/acl/token/:id",
        "acl.token_delete",
        acl_tokens.delete_token,
        MANAGEMENT,
    ),
    Route(READS, "/v1/acl/roles", "acl.roles", acl_roles.list_roles, ANY_TOKEN),
    Route(WRITES, "/v1/acl/role", "acl.role_create", acl_roles.create_role, MANAGEMENT),
    Route(
        READS,
        "/v1/acl/role/name/:id",
        "acl.role_read_named",
        acl_roles.read_named_role,
        ANY_TOKEN,
    ),
    Route(READS, "/v1/acl/role/:id", "acl.role_read", acl_roles.read_role, ANY_TOKEN),
    Route(
        WRITES, "/v1/acl/role/:id", "acl.role_update", acl_roles.update_role, MANAGEMENT
    ),
    Route(
        DELETES,
        "/v1/acl/role/:id",
        "acl.role_delete",
        acl_roles.delete_role,
        MANAGEMENT,
    ),
    *cluster_routes.CLUSTER_ROUTES,
    Route(READS, "/v1/metrics", "metrics", metrics.read_metrics, OPEN),
    Route(READS, "/v1/openapi.json", "openapi", _describe_routes, OPEN),
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

    `missing` says what a path lacks of which only the id is missing.
    """

    resource: Resource | None
    id_text: str = ""
    missing: str = ""


NOWHERE: Final = Place(None)


class Below:
    """What there is below a prefix that an id follows: a resource for each tail."""

    __slots__ = ("by_tail", "has_long_ids", "missing", "prefix")

    def __init__(self, prefix: str, *, has_long_ids: bool) -> None:
        self.prefix = prefix
        self.has_long_ids = has_long_ids
        self.by_tail: dict[str, Resource] = {}
        self.missing = Place(None, missing=MISSING_ID[prefix])

    def find(self, path: str) -> Place | None:
        """Return where a path leads, `None` if it is not below this prefix."""
        if not path.startswith(self.prefix):
            return self.missing if path == self.prefix[:-1] else None
        rest = path[len(self.prefix) :]
        return self._find_long(rest) if self.has_long_ids else self._find(rest)

    def _find(self, rest: str) -> Place:
        id_text, _, tail = rest.partition("/")
        if not tail:
            return self._base(id_text)
        resource = self.by_tail.get(f"/{tail.removesuffix('/')}")
        return NOWHERE if resource is None else Place(resource, id_text)

    def _find_long(self, rest: str) -> Place:
        """Take a known tail off the end: what stands before it is the id, as it is."""
        rest = rest.removesuffix("/")
        id_text, slash, word = rest.rpartition("/")
        resource = self.by_tail.get(f"/{word}") if slash else None
        if resource is None:
            return self._base(rest)
        return Place(resource, id_text) if id_text else self.missing

    def _base(self, id_text: str) -> Place:
        if not id_text:
            return self.missing
        resource = self.by_tail.get("")
        return NOWHERE if resource is None else Place(resource, id_text)


class RouteTable:
    """Finds the resource for a path."""

    def __init__(self, routes: tuple[Route, ...] = ROUTES) -> None:
        self._exact: dict[str, Resource] = {}
        self._below: dict[str, Below] = {}
        for route in routes:
            self._places(route).setdefault(_tail(route.path), Resource()).add(route)

    def _places(self, route: Route) -> dict[str, Resource]:
        """Return where a route is entered, by what stands behind the id if it has one."""
        for mark in (ID, LONG_ID):
            prefix, found, _ = route.path.partition(mark)
            if found:
                below = Below(prefix, has_long_ids=mark == LONG_ID)
                return self._below.setdefault(prefix, below).by_tail
        return self._exact

    def find(self, path: str) -> Place:
        """Return where a path leads; one trailing slash is forgiven.

        A path without an id in it wins: `/v1/acl/token/self` is nobody's accessor. But
        with the slash behind which an id should stand, it is the id that is missing.
        """
        resource = self._exact.get(path)
        if path in self._below:
            return self._below[path].missing
        if resource is None and len(path) > 1 and path.endswith("/"):
            resource = self._exact.get(path[:-1])
        if resource is not None:
            return Place(resource)
        for below in self._below.values():
            place = below.find(path)
            if place is not None:
                return place
        return NOWHERE


def _tail(path: str) -> str:
    """Return what stands behind the id of a route, or the whole path if it has none."""
    for mark in (ID, LONG_ID):
        _, found, tail = path.partition(mark)
        if found:
            return tail
    return path
