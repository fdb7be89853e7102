"""The routes that Nomad's tools ask of any server, whatever it is there for.

Servers, settings and search; and what Nomad has and is not here, answered so that tools
go on without it.
"""

from typing import Final

from nodestate.api import (
    absent,
    agent_self,
    autopilot,
    client_side,
    fuzzy_search,
    namespaces,
    node_pools,
    scheduler_settings,
    search,
)
from nodestate.api.needs import (
    AGENT_READ,
    AGENT_WRITE,
    ALLOCATION_READ,
    ANY_TOKEN,
    MANAGEMENT,
    NAMESPACE_READ_JOB,
    NAMESPACE_SUBMIT_JOB,
    NODE_READ,
    NODE_WRITE,
    OPEN,
    OPERATOR_READ,
    OPERATOR_WRITE,
    SEARCH,
)
from nodestate.api.route import DELETES, PUTS, READS, WRITES, Route

MISSING_ID: Final = {
    "/v1/node/pool/": "missing node pool name",
    "/v1/namespace/": "missing namespace name",
    "/v1/deployment/": "missing deployment ID",
    "/v1/client/allocation/": "missing allocation ID",
    "/v1/client/fs/": "missing allocation ID",
}
"""What to say of a path that ends where an id should stand."""

NODE_POOL_ROUTES: Final = (
    Route(READS, "/v1/node/pools", "node_pools.list", node_pools.list_pools, ANY_TOKEN),
    Route(
        WRITES,
        "/v1/node/pools",
        "node_pools.write",
        node_pools.refuse_write,
        MANAGEMENT,
    ),
    Route(
        READS,
        "/v1/node/pool/:id",
        "node_pool.read",
        node_pools.read_pool,
        ANY_TOKEN,
    ),
    Route(
        WRITES,
        "/v1/node/pool/:id",
        "node_pool.write",
        node_pools.refuse_write,
        MANAGEMENT,
    ),
    Route(
        DELETES,
        "/v1/node/pool/:id",
        "node_pool.delete",
        node_pools.refuse_write,
        MANAGEMENT,
    ),
    Route(
        READS,
        "/v1/node/pool/:id/nodes",
        "node_pool.nodes",
        node_pools.list_pool_nodes,
        NODE_READ,
    ),
    Route(
        READS,
        "/v1/node/pool/:id/jobs",
        "node_pool.jobs",
        node_pools.list_pool_jobs,
        NAMESPACE_READ_JOB,
    ),
)
"""Before the routes of nodes: `pool` is nobody's id."""

CLUSTER_ROUTES: Final = (
    Route(READS, "/v1/agent/self", "agent.self", agent_self.read_self, AGENT_READ),
    Route(
        READS, "/v1/agent/servers", "agent.servers", agent_self.list_servers, AGENT_READ
    ),
    Route(
        WRITES,
        "/v1/agent/servers",
        "agent.set_servers",
        agent_self.set_servers,
        AGENT_WRITE,
    ),
    Route(WRITES, "/v1/agent/join", "agent.join", agent_self.join, OPEN),
    Route(
        WRITES,
        "/v1/agent/force-leave",
        "agent.force_leave",
        agent_self.force_leave,
        AGENT_WRITE,
    ),
    Route(
        READS,
        "/v1/operator/autopilot/configuration",
        "operator.autopilot",
        autopilot.read_configuration,
        OPERATOR_READ,
    ),
    Route(
        PUTS,
        "/v1/operator/autopilot/configuration",
        "operator.set_autopilot",
        autopilot.write_configuration,
        OPERATOR_WRITE,
    ),
    Route(
        READS,
        "/v1/operator/autopilot/health",
        "operator.autopilot_health",
        autopilot.read_health,
        OPERATOR_READ,
    ),
    Route(
        READS,
        "/v1/operator/scheduler/configuration",
        "operator.scheduler",
        scheduler_settings.read_configuration,
        OPERATOR_READ,
    ),
    Route(
        WRITES,
        "/v1/operator/scheduler/configuration",
        "operator.set_scheduler",
        scheduler_settings.write_configuration,
        OPERATOR_WRITE,
    ),
    Route(WRITES, "/v1/search", "search", search.search, SEARCH),
    Route(
        WRITES, "/v1/search/fuzzy", "search.fuzzy", fuzzy_search.fuzzy_search, SEARCH
    ),
    Route(
        READS,
        "/v1/namespaces",
        "namespaces.list",
        namespaces.list_namespaces,
        ANY_TOKEN,
    ),
    Route(
        WRITES,
        "/v1/namespace",
        "namespace.create",
        namespaces.refuse_write,
        MANAGEMENT,
    ),
    Route(
        READS,
        "/v1/namespace/:id",
        "namespace.read",
        namespaces.read_namespace,
        ANY_TOKEN,
    ),
    Route(
        WRITES,
        "/v1/namespace/:id",
        "namespace.write",
        namespaces.refuse_write,
        MANAGEMENT,
    ),
    Route(
        DELETES,
        "/v1/namespace/:id",
        "namespace.delete",
        namespaces.refuse_write,
        MANAGEMENT,
    ),
    Route(
        READS,
        "/v1/deployments",
        "deployments.list",
        absent.list_nothing,
        NAMESPACE_READ_JOB,
    ),
    Route(
        READS,
        "/v1/deployment/*id",
        "deployment.read",
        absent.read_deployment,
        NAMESPACE_READ_JOB,
    ),
    Route(
        WRITES,
        "/v1/deployment/*id",
        "deployment.write",
        absent.change_deployment,
        NAMESPACE_SUBMIT_JOB,
    ),
    Route(
        READS, "/v1/volumes", "volumes.list", absent.list_nothing, NAMESPACE_READ_JOB
    ),
    Route(READS, "/v1/plugins", "plugins.list", absent.list_nothing, ANY_TOKEN),
    Route(READS, "/v1/client/stats", "client.stats", client_side.ask_node, NODE_READ),
    Route(READS, "/v1/client/gc", "client.gc", client_side.ask_node, NODE_WRITE),
    Route(
        READS, "/v1/client/metadata", "client.metadata", client_side.ask_node, NODE_READ
    ),
    Route(
        READS,
        "/v1/client/allocation/*id",
        "client.allocation_read",
        client_side.ask_allocation,
        ALLOCATION_READ,
    ),
    Route(
        WRITES,
        "/v1/client/allocation/*id",
        "client.allocation_write",
        client_side.ask_allocation,
        ALLOCATION_READ,
    ),
    Route(
        READS,
        "/v1/client/fs/*id",
        "client.fs",
        client_side.ask_files,
        ALLOCATION_READ,
    ),
)
