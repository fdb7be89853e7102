"""What the routes of `cluster_routes` take and give, in the words of `described`."""

from typing import Final

from nodestate.api.agent_self import AgentSelf, Joined
from nodestate.api.autopilot import (
    AutopilotConfiguration,
    AutopilotSent,
    ClusterHealth,
)
from nodestate.api.described import (
    LEADING,
    LISTING,
    NAMESPACES,
    NEVER,
    NOT_FOUND,
    NOTHING,
    OF_LIST,
    OF_READ,
    READING,
    REGION,
    WITH_BODY,
    WRITING,
    Operation,
    Parameter,
    ask,
    flag,
    read,
)
from nodestate.api.fuzzy_search import FuzzyAnswer, FuzzySent
from nodestate.api.job_shapes import JobStub
from nodestate.api.json_schemas import integer
from nodestate.api.namespaces import Namespace
from nodestate.api.node_pools import NodePool
from nodestate.api.scheduler_settings import (
    SchedulerConfiguration,
    SchedulerConfigurationSet,
    SchedulerConfigurationShown,
)
from nodestate.api.search import SearchAnswer, SearchSent
from nodestate.api.shapes import Stub

NOT_HERE: Final = (501,)
NAME_PREFIX: Final = Parameter("prefix", "Only what has a name that begins so.")
NODE_ID: Final = Parameter("node_id", "The node that is meant.", is_required=True)


def _refused(summary: str) -> Operation:
    return Operation(summary=summary, answer=NEVER, errors=NOT_HERE)


def _of_agents(summary: str, *parameters: Parameter) -> Operation:
    """Return what only a node's agent could do, which no server reaches."""
    return Operation(
        summary=summary,
        parameters=(*READING, *parameters),
        answer=NEVER,
        errors=(*NOT_FOUND, *LEADING),
    )


_AGENT: Final = {
    "agent.self": ask("Describe this server", AgentSelf, *READING),
    "agent.servers": ask(
        "List where the servers reach each other", list[str], *READING
    ),
    "agent.set_servers": Operation(
        summary="Say that no agent of a node is here",
        parameters=(REGION,),
        answer=NEVER,
        errors=NOT_HERE,
    ),
    "agent.join": Operation(
        summary="Say which of these servers are in the cluster",
        parameters=(
            *WRITING,
            Parameter("address", "Of a server; may be repeated.", is_required=True),
        ),
        answer=Joined,
    ),
    "agent.force_leave": Operation(
        summary="Say whether a server has left the cluster",
        parameters=(
            REGION,
            Parameter("node", "The server's name in the list.", is_required=True),
        ),
        answer=NOTHING,
        errors=(409,),
    ),
}

_OPERATOR: Final = {
    "operator.autopilot": ask(
        "Read the settings of autopilot", AutopilotConfiguration, *READING
    ),
    "operator.set_autopilot": Operation(
        summary="Hold the settings of autopilot to what they are",
        parameters=(
            *WRITING,
            Parameter(
                "cas", "False is answered unless that is the index.", integer(minimum=0)
            ),
        ),
        body=AutopilotSent,
        answer=bool,
        errors=(*WITH_BODY, *NOT_HERE),
    ),
    "operator.autopilot_health": Operation(
        summary="Say how the servers do",
        parameters=READING,
        answer=ClusterHealth,
        errors=LEADING,
        errors_in_json=(429,),
    ),
    "operator.scheduler": ask(
        "Read the settings of the scheduler", SchedulerConfigurationShown, *READING
    ),
    "operator.set_scheduler": Operation(
        summary="Hold the settings of the scheduler to what they are",
        parameters=WRITING,
        body=SchedulerConfiguration,
        answer=SchedulerConfigurationSet,
        errors=(*WITH_BODY, *NOT_HERE),
    ),
}

_SEARCH: Final = {
    "search": Operation(
        summary="Find ids and names that begin like this",
        parameters=(*READING, NAMESPACES),
        body=SearchSent,
        answer=SearchAnswer,
        answer_headers=OF_READ,
        errors=(*WITH_BODY, *LEADING),
    ),
    "search.fuzzy": Operation(
        summary="Find names with this in them",
        parameters=(*READING, NAMESPACES),
        body=FuzzySent,
        answer=FuzzyAnswer,
        answer_headers=OF_READ,
        errors=(*WITH_BODY, *LEADING),
    ),
}

_GROUPS: Final = {
    "namespaces.list": read("List namespaces", list[Namespace], NAME_PREFIX),
    "namespace.read": read("Read a namespace", Namespace),
    "namespace.create": _refused("Say that namespaces are not made"),
    "namespace.write": _refused("Say that namespaces are not written"),
    "namespace.delete": _refused("Say that namespaces are not deleted"),
    "node_pools.list": read("List node pools", list[NodePool], NAME_PREFIX),
    "node_pools.write": _refused("Say that node pools are not made"),
    "node_pool.read": read("Read a node pool", NodePool),
    "node_pool.write": _refused("Say that node pools are not written"),
    "node_pool.delete": _refused("Say that node pools are not deleted"),
    "node_pool.nodes": Operation(
        summary="List the nodes of a pool",
        parameters=(
            *READING,
            *LISTING,
            flag("resources", "Show the resources of each node too."),
            flag("os", "Show the operating system of each node too."),
        ),
        answer=list[Stub],
        answer_headers=OF_LIST,
        errors=(*NOT_FOUND, *LEADING),
    ),
    "node_pool.jobs": Operation(
        summary="List the jobs of a pool",
        parameters=(*READING, *LISTING, NAMESPACES),
        answer=list[JobStub],
        answer_headers=OF_LIST,
        errors=(*NOT_FOUND, *LEADING),
    ),
}

_ABSENT: Final = {
    "deployments.list": read("List no deployments", list[None]),
    "deployment.read": Operation(
        summary="Find no deployment, and none of its allocations",
        parameters=READING,
        answer=list[None],
        answer_headers=OF_READ,
        errors=(*NOT_FOUND, *LEADING),
    ),
    "deployment.write": Operation(
        summary="Find no deployment to change", answer=NEVER, errors=NOT_FOUND
    ),
    "volumes.list": read("List no volumes", list[None]),
    "plugins.list": read("List no plugins", list[None]),
    "client.stats": _of_agents("Reach no node for its use of resources", NODE_ID),
    "client.gc": _of_agents("Reach no node to collect its garbage", NODE_ID),
    "client.metadata": _of_agents("Reach no node for its metadata", NODE_ID),
    "client.allocation_read": _of_agents("Reach no allocation"),
    "client.allocation_write": _of_agents("Reach no allocation to change it"),
    "client.fs": _of_agents("Reach no allocation for its files"),
}

CLUSTER_OPERATIONS: Final[dict[str, Operation]] = {
    **_AGENT,
    **_OPERATOR,
    **_SEARCH,
    **_GROUPS,
    **_ABSENT,
}
