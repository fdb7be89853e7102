"""What each route takes and gives: its parameters, its body, its answer, its errors.

The table of routes says where and for whom; this one, by the names of the routes, says
what. `openapi` puts both together. Nothing here changes what a handler does: the tests
hold every handler to what is said of it.
"""

from typing import Any, Final

from msgspec.structs import replace

from nodestate.acl.answers import PolicyAnswer, PolicyStub, TokenAnswer, TokenStub
from nodestate.api.acl_bootstrap import BootstrapSent
from nodestate.api.acl_policies import PolicySent
from nodestate.api.acl_roles import RoleSent
from nodestate.api.acl_tokens import TokenSent
from nodestate.api.agent_allocations import AllocationsReported, ReportSent
from nodestate.api.allocation_shapes import (
    AllocationStopped,
    AllocationStub,
    FullAllocation,
)
from nodestate.api.cluster_operations import CLUSTER_OPERATIONS
from nodestate.api.described import (
    DIGEST,
    FILE,
    INDEX,
    LEADING,
    NAMESPACE,
    NAMESPACES,
    NEVER,
    NOT_FOUND,
    NOTHING,
    OF_READ,
    PEER_ADDRESS,
    PEER_ID,
    PRETTY,
    PROPOSING,
    READING,
    READING_JOBS,
    WITH_BODY,
    WRITES,
    WRITING,
    WRITING_JOBS,
    Operation,
    Parameter,
    ask,
    flag,
    list_of,
    read,
    write,
)
from nodestate.api.drain_preview import DrainShown
from nodestate.api.job_shapes import (
    EvaluationSent,
    JobPlanned,
    JobSent,
    JobStub,
    JobValidated,
    JobVersions,
    JobWritten,
    PlanSent,
)
from nodestate.api.json_schemas import TEXT
from nodestate.api.operator import LeadershipTransferred, PeerAdded, RaftConfiguration
from nodestate.api.shapes import (
    DrainSent,
    EligibilitySent,
    EventsEmitted,
    EventsSent,
    HeartbeatSent,
    NodesRegistered,
    NodeUpdated,
    NodeWritten,
    RegistrationSent,
    Stub,
)
from nodestate.api.status import Members, PartHealth
from nodestate.model.acl import ACLRole
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobSummary
from nodestate.model.node import Node
from nodestate.telemetry import MetricsSummary

_NODES: Final = {
    "nodes.list": list_of(
        "List nodes",
        list[Stub],
        flag("resources", "Show the resources of each node too."),
        flag("os", "Show the operating system of each node too."),
    ),
    "nodes.register": write(
        "Register a node, or many, each judged on its own",
        (NodeWritten, NodesRegistered),
        body=RegistrationSent,
    ),
    "node.read": read("Read a node", Node),
    "node.allocations": read("List the allocations on a node", list[FullAllocation]),
    "node.report_allocations": write(
        "Report how allocations do", AllocationsReported, body=ReportSent
    ),
    "node.evaluate": write("Have a node's jobs looked at again", NodeWritten),
    "node.read_drain": read(
        "Show what a drain does, or would do",
        DrainShown,
        Parameter("deadline", "Of the drain that would be, such as `1h`, or in ns."),
        flag("ignore_system_jobs", "Leave system jobs alone in that drain."),
    ),
    "node.drain": write(
        "Start, change or stop a drain",
        NodeUpdated,
        flag("enable", "The old form of a request: with it the body is not read."),
        body=DrainSent,
        is_body_required=False,
    ),
    "node.purge": write("Forget a node", NodeWritten),
    "node.eligibility": write(
        "Open or close a node for placements", NodeUpdated, body=EligibilitySent
    ),
    "node.heartbeat": write(
        "Say that a node is there", NodeWritten, body=HeartbeatSent
    ),
    "node.events": write("Add to a node's own history", EventsEmitted, body=EventsSent),
}

_JOBS: Final = {
    "jobs.list": list_of("List jobs", list[JobStub], NAMESPACES),
    "jobs.register": write("Register a job", JobWritten, NAMESPACE, body=JobSent),
    "jobs.parse": Operation(
        summary="Say that HCL is not parsed", answer=NEVER, errors=(501,)
    ),
    "job.validate": Operation(
        summary="Say what is wrong with a job",
        parameters=WRITING_JOBS,
        body=JobSent,
        answer=JobValidated,
        errors=WITH_BODY,
    ),
    "job.read": read("Read a job", Job, NAMESPACE),
    "job.register": write("Register this job", JobWritten, NAMESPACE, body=JobSent),
    "job.deregister": write(
        "Stop a job", JobWritten, NAMESPACE, flag("purge", "Forget it as well.")
    ),
    "job.allocations": read(
        "List a job's allocations",
        list[AllocationStub],
        NAMESPACE,
        flag("all", "Also those of earlier jobs of that id."),
    ),
    "job.evaluations": read("List a job's evaluations", list[Evaluation], NAMESPACE),
    "job.summary": read("Read a job in numbers", JobSummary, NAMESPACE),
    "job.versions": read(
        "List a job's versions",
        JobVersions,
        NAMESPACE,
        flag("diffs", "Also what each changed."),
    ),
    "job.deployments": read("List no deployments", list[None], NAMESPACE),
    "job.deployment": read("Read no deployment", None, NAMESPACE),
    "job.evaluate": write(
        "Have a job looked at again",
        JobWritten,
        NAMESPACE,
        body=EvaluationSent,
        is_body_required=False,
    ),
    "job.plan": Operation(
        summary="Say what registering a job would do",
        parameters=READING_JOBS,
        body=PlanSent,
        answer=JobPlanned,
        answer_headers=(INDEX,),
        errors=(*NOT_FOUND, *WITH_BODY, 409, 503),
    ),
}

_WORK: Final = {
    "allocations.list": list_of(
        "List allocations",
        list[AllocationStub],
        NAMESPACES,
        flag("resources", "Show the resources of each allocation too."),
        flag("task_states", "Show the states of tasks: on if left out."),
    ),
    "allocation.read": read("Read an allocation", FullAllocation),
    "allocation.stop": write("Stop an allocation", AllocationStopped),
    "evaluations.list": list_of(
        "List evaluations",
        list[Evaluation],
        NAMESPACES,
        Parameter("status", "Only those of this status."),
        Parameter("job", "Only those of this job."),
    ),
    "evaluation.read": read("Read an evaluation", Evaluation),
    "evaluation.allocations": read(
        "List the allocations of an evaluation", list[AllocationStub]
    ),
}

_PREFIX: Final = Parameter("prefix", "Only what has an id or name that begins so.")
_ACL: Final = {
    "acl.bootstrap": write(
        "Make the first token", TokenAnswer, body=BootstrapSent, is_body_required=False
    ),
    "acl.policies": read("List policies", list[PolicyStub], _PREFIX),
    "acl.policy_read": read(
        "Read a policy, or for `self` list what is in force",
        (PolicyAnswer, list[PolicyStub]),
    ),
    "acl.policy_write": write("Write a policy", NOTHING, body=PolicySent),
    "acl.policy_delete": write("Delete a policy", NOTHING),
    "acl.tokens": list_of(
        "List tokens",
        list[TokenStub],
        flag("global", "Only global ones."),
        flag("reverse", "From the last to the first."),
    ),
    "acl.token_create": write("Make a token", TokenAnswer, body=TokenSent),
    "acl.token_self": read("Read the caller's token", TokenAnswer),
    "acl.token_read": read("Read a token", TokenAnswer),
    "acl.token_update": write("Change a token", TokenAnswer, body=TokenSent),
    "acl.token_delete": write("Delete a token", NOTHING),
    "acl.roles": read("List roles", list[ACLRole], _PREFIX),
    "acl.role_create": write("Make a role", ACLRole, body=RoleSent),
    "acl.role_read_named": read("Read a role by its name", ACLRole),
    "acl.role_read": read("Read a role", ACLRole),
    "acl.role_update": write("Change a role", ACLRole, body=RoleSent),
    "acl.role_delete": write("Delete a role", NOTHING),
}

_SERVERS: Final = {
    "status.leader": ask("Name the leader", str, *READING),
    "status.peers": ask("List the servers", list[str], *READING),
    "regions": ask("List the regions", list[str], PRETTY),
    "agent.health": Operation(
        summary="Say whether the server can do its work",
        parameters=(
            PRETTY,
            Parameter("type", "Of what.", {**TEXT, "enum": ["server", "client"]}),
        ),
        answer=dict[str, PartHealth],
        errors_in_json=(500,),
    ),
    "agent.members": ask("List the servers in full", Members, PRETTY),
    "operator.raft_configuration": ask(
        "List the members of the cluster", RaftConfiguration, *READING
    ),
    "operator.remove_peer": Operation(
        summary="Remove a server from the cluster",
        parameters=(*WRITING, PEER_ID, PEER_ADDRESS),
        answer=NOTHING,
        errors=(*NOT_FOUND, *PROPOSING),
    ),
    "operator.add_peer": Operation(
        summary="Add a server to the cluster, or change its addresses",
        parameters=(
            *WRITING,
            replace(PEER_ID, is_required=True),
            replace(PEER_ADDRESS, is_required=True),
            Parameter(
                "http", "Where its clients reach it, `host:port`.", is_required=True
            ),
        ),
        answer=PeerAdded,
        errors=PROPOSING,
    ),
    "operator.transfer_leadership": Operation(
        summary="Hand leadership on",
        parameters=(*WRITING, PEER_ID, PEER_ADDRESS),
        answer=LeadershipTransferred,
        errors=(*NOT_FOUND, *PROPOSING),
    ),
    "operator.save_snapshot": Operation(
        summary="Read the whole state, as a file",
        parameters=READING,
        answer=FILE,
        answer_headers=(*OF_READ, DIGEST),
        errors=LEADING,
    ),
    "operator.restore_snapshot": Operation(
        summary="Put such a file in place of the state",
        parameters=(*WRITING, flag("force", "Give up a restore begun before.")),
        body=FILE,
        answer=NOTHING,
        answer_headers=(INDEX,),
        errors=WRITES,
    ),
    "system.gc": Operation(
        summary="Remove what is over",
        parameters=WRITING,
        answer=NOTHING,
        errors=PROPOSING,
    ),
    "system.reconcile_summaries": Operation(
        summary="Do nothing: the summaries of jobs are right",
        parameters=WRITING,
        answer=NOTHING,
        errors=PROPOSING,
    ),
    "metrics": Operation(
        summary="Read what is measured",
        parameters=(
            PRETTY,
            Parameter("format", "`prometheus` for its text.", TEXT),
        ),
        answer=MetricsSummary,
        has_text=True,
    ),
    "openapi": Operation(
        summary="Read this document", parameters=(PRETTY,), answer=dict[str, Any]
    ),
}

OPERATIONS: Final[dict[str, Operation]] = {
    **_NODES,
    **_JOBS,
    **_WORK,
    **_ACL,
    **_SERVERS,
    **CLUSTER_OPERATIONS,
}
