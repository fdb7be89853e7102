"""What each route takes and gives: its parameters, its body, its answer, its errors.

The table of routes says where and for whom; this one, by the names of the routes, says
what. `openapi` puts both together. Nothing here changes what a handler does: the tests
hold every handler to what is said of it.
"""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from nodestate.api.agent_allocations import AllocationsReported, ReportSent
from nodestate.api.allocation_shapes import (
    AllocationStopped,
    AllocationStub,
    FullAllocation,
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
from nodestate.api.json_schemas import BOOLEAN, TEXT, Schema, integer
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
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobSummary
from nodestate.model.node import Node
from nodestate.query.paging import PER_PAGE_MAX
from nodestate.telemetry import MetricsSummary


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query. A flag that stands there without a value is on."""

    name: str
    description: str
    schema: Schema = msgspec.field(default_factory=TEXT.copy)
    is_required: bool = False


class Header(msgspec.Struct, frozen=True):
    """A header of an answer; one that is not `is_certain` may be left out."""

    name: str
    description: str
    schema: Schema = msgspec.field(default_factory=TEXT.copy)
    is_certain: bool = True


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What one route takes and gives.

    `body` is what a client sends as JSON, `FILE` for bytes, `None` for nothing that is
    looked at. `answer` is the type that is sent as JSON, or a tuple of such, `NOTHING`
    for an empty body, `FILE` for bytes, `NEVER` where there is none that is not an error.
    `errors` are the statuses beside those that any request may get; those of
    `errors_in_json` have the body of the answer. `has_text` is that the answer may also
    be plain text.
    """

    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    is_body_required: bool = True
    answer: Any
    answer_headers: tuple[Header, ...] = ()
    errors: tuple[int, ...] = ()
    errors_in_json: tuple[int, ...] = ()
    has_text: bool = False

    @property
    def takes_key(self) -> bool:
        """Say whether the `Idempotency-Key` of a request is looked at."""
        return HTTPStatus.UNPROCESSABLE_ENTITY in self.errors


class _Mark:
    """Something that is no type of JSON."""


FILE: Final = _Mark()
NOTHING: Final = _Mark()
NEVER: Final = _Mark()


# Parameters


def _flag(name: str, description: str) -> Parameter:
    return Parameter(name, description, BOOLEAN)


PRETTY: Final = _flag("pretty", "Indent the answer.")
REGION: Final = Parameter("region", "The region that is meant: that of the servers.")
READING: Final = (
    Parameter(
        "index",
        "Answer once the index of what is read is past this one.",
        integer(minimum=0),
    ),
    Parameter(
        "wait", "How long to wait for that, such as `60s`; the default for 0 and less."
    ),
    _flag("stale", "Answer whatever this server has, leader or not."),
    _flag(
        "consistent", "See every write acknowledged before, whichever server is asked."
    ),
    PRETTY,
    REGION,
)
WRITING: Final = (PRETTY, REGION)
NAMESPACE: Final = Parameter("namespace", "The namespace, `default` if left out.")
NAMESPACES: Final = Parameter(
    "namespace", "The namespace, `default` if left out; `*` is all of them."
)
LISTING: Final = (
    Parameter("prefix", "Only what has an id that begins so."),
    Parameter("filter", "Only what the expression holds for."),
    Parameter(
        "per_page",
        "How many a page has at most; 0 is no limit.",
        integer(minimum=0, maximum=PER_PAGE_MAX),
    ),
    Parameter("next_token", "Where the page begins: `X-Nomad-NextToken` of the last."),
)
READING_JOBS: Final = (*READING, NAMESPACE)
WRITING_JOBS: Final = (*WRITING, NAMESPACE)
PEER_ID: Final = Parameter("id", "The server's name.")
PEER_ADDRESS: Final = Parameter("address", "Where its peers reach it, `host:port`.")


# Headers of answers

INDEX: Final = Header(
    "X-Nomad-Index",
    "The index of what is shown, or of the entry that was written.",
    integer(minimum=0),
)
CONTACT: Final = (
    Header(
        "X-Nomad-KnownLeader",
        "Whether the server knows a leader.",
        {**TEXT, "enum": ["true", "false"]},
    ),
    Header(
        "X-Nomad-LastContact",
        "Milliseconds since the server heard from the leader.",
        integer(minimum=0),
    ),
)
NEXT_TOKEN: Final = Header(
    "X-Nomad-NextToken", "Where the next page begins.", is_certain=False
)
REPLAYED: Final = Header(
    "Idempotency-Replayed",
    "`true` if the answer is that of an earlier request with the key.",
    is_certain=False,
)
DIGEST: Final = Header("Digest", "`sha-256=` and the SHA-256 of the body in base64.")
OF_READ: Final = (INDEX, *CONTACT)
OF_LIST: Final = (*OF_READ, NEXT_TOKEN)
OF_WRITE: Final = (INDEX, REPLAYED)


# What goes wrong

NOT_FOUND: Final = (404,)
WITH_BODY: Final = (408, 413, 415)
LEADING: Final = (503,)
PROPOSING: Final = (409, 422, 503, 504)
WRITES: Final = (*WITH_BODY, *PROPOSING)
WRITES_ONE: Final = (*NOT_FOUND, *WRITES)
READS_ONE: Final = (*NOT_FOUND, *LEADING)


# The operations, by the names of their routes


def _read(summary: str, answer: Any, *parameters: Parameter) -> Operation:
    return Operation(
        summary=summary,
        parameters=(*READING, *parameters),
        answer=answer,
        answer_headers=OF_READ,
        errors=READS_ONE,
    )


def _list(summary: str, answer: Any, *parameters: Parameter) -> Operation:
    return Operation(
        summary=summary,
        parameters=(*READING, *LISTING, *parameters),
        answer=answer,
        answer_headers=OF_LIST,
        errors=LEADING,
    )


def _write(
    summary: str,
    answer: Any,
    *parameters: Parameter,
    body: Any = None,
    is_body_required: bool = True,
) -> Operation:
    return Operation(
        summary=summary,
        parameters=(*WRITING, *parameters),
        body=body,
        is_body_required=is_body_required,
        answer=answer,
        answer_headers=OF_WRITE,
        errors=(*NOT_FOUND, *PROPOSING) if body is None else WRITES_ONE,
    )


def _ask(summary: str, answer: Any, *parameters: Parameter) -> Operation:
    """Return a question about the server itself, whose answer has no index."""
    return Operation(
        summary=summary, parameters=parameters, answer=answer, errors=LEADING
    )


_NODES: Final = {
    "nodes.list": _list(
        "List nodes",
        list[Stub],
        _flag("resources", "Show the resources of each node too."),
        _flag("os", "Show the operating system of each node too."),
    ),
    "nodes.register": _write(
        "Register a node, or many, each judged on its own",
        (NodeWritten, NodesRegistered),
        body=RegistrationSent,
    ),
    "node.read": _read("Read a node", Node),
    "node.allocations": _read("List the allocations on a node", list[FullAllocation]),
    "node.report_allocations": _write(
        "Report how allocations do", AllocationsReported, body=ReportSent
    ),
    "node.evaluate": _write("Have a node's jobs looked at again", NodeWritten),
    "node.read_drain": _read(
        "Show what a drain does, or would do",
        DrainShown,
        Parameter("deadline", "Of the drain that would be, such as `1h`, or in ns."),
        _flag("ignore_system_jobs", "Leave system jobs alone in that drain."),
    ),
    "node.drain": _write(
        "Start, change or stop a drain",
        NodeUpdated,
        _flag("enable", "The old form of a request: with it the body is not read."),
        body=DrainSent,
        is_body_required=False,
    ),
    "node.purge": _write("Forget a node", NodeWritten),
    "node.eligibility": _write(
        "Open or close a node for placements", NodeUpdated, body=EligibilitySent
    ),
    "node.heartbeat": _write(
        "Say that a node is there", NodeWritten, body=HeartbeatSent
    ),
    "node.events": _write(
        "Add to a node's own history", EventsEmitted, body=EventsSent
    ),
}

_JOBS: Final = {
    "jobs.list": _list("List jobs", list[JobStub], NAMESPACES),
    "jobs.register": _write("Register a job", JobWritten, NAMESPACE, body=JobSent),
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
    "job.read": _read("Read a job", Job, NAMESPACE),
    "job.register": _write("Register this job", JobWritten, NAMESPACE, body=JobSent),
    "job.deregister": _write(
        "Stop a job", JobWritten, NAMESPACE, _flag("purge", "Forget it as well.")
    ),
    "job.allocations": _read(
        "List a job's allocations",
        list[AllocationStub],
        NAMESPACE,
        _flag("all", "Also those of earlier jobs of that id."),
    ),
    "job.evaluations": _read("List a job's evaluations", list[Evaluation], NAMESPACE),
    "job.summary": _read("Read a job in numbers", JobSummary, NAMESPACE),
    "job.versions": _read(
        "List a job's versions",
        JobVersions,
        NAMESPACE,
        _flag("diffs", "Also what each changed."),
    ),
    "job.deployments": _read("List no deployments", list[None], NAMESPACE),
    "job.deployment": _read("Read no deployment", None, NAMESPACE),
    "job.evaluate": _write(
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
    "allocations.list": _list(
        "List allocations",
        list[AllocationStub],
        NAMESPACES,
        _flag("resources", "Show the resources of each allocation too."),
        _flag("task_states", "Show the states of tasks: on if left out."),
    ),
    "allocation.read": _read("Read an allocation", FullAllocation),
    "allocation.stop": _write("Stop an allocation", AllocationStopped),
    "evaluations.list": _list(
        "List evaluations",
        list[Evaluation],
        NAMESPACES,
        Parameter("status", "Only those of this status."),
        Parameter("job", "Only those of this job."),
    ),
    "evaluation.read": _read("Read an evaluation", Evaluation),
    "evaluation.allocations": _read(
        "List the allocations of an evaluation", list[AllocationStub]
    ),
}

_SERVERS: Final = {
    "status.leader": _ask("Name the leader", str, *READING),
    "status.peers": _ask("List the servers", list[str], *READING),
    "regions": _ask("List the regions", list[str], PRETTY),
    "agent.health": Operation(
        summary="Say whether the server can do its work",
        parameters=(
            PRETTY,
            Parameter("type", "Of what.", {**TEXT, "enum": ["server", "client"]}),
        ),
        answer=dict[str, PartHealth],
        errors_in_json=(500,),
    ),
    "agent.members": _ask("List the servers in full", Members, PRETTY),
    "operator.raft_configuration": _ask(
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
        parameters=(*WRITING, _flag("force", "Give up a restore begun before.")),
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

OPERATIONS: Final[dict[str, Operation]] = {**_NODES, **_JOBS, **_WORK, **_SERVERS}
