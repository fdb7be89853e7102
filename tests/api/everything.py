"""One request to each route, in a world in which each has something to answer."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from nodestate.api.described import Operation
from nodestate.api.operations import OPERATIONS
from nodestate.api.routes import ROUTES, Route
from tests.api.conftest import (
    NODE_ID,
    OTHER_ID,
    SECRET,
    Answer,
    Api,
    ApiFactory,
    node_body,
)
from tests.api.test_restores import snapshot_of
from tests.api.working import add_node, job_body, report, schedule, submit

ROUTE: Final[Mapping[str, Route]] = {route.name: route for route in ROUTES}

VALUES: Final[Mapping[str, str]] = {
    "address": "127.0.0.1:4647",
    "cas": "1",
    "deadline": "1h",
    "filter": "CreateIndex != 0",
    "force": "false",
    "global": "false",
    "format": "",
    "http": "127.0.0.1:4646",
    "id": "server9",
    "index": "0",
    "job": "web",
    "namespace": "default",
    "next_token": "0",
    "node": "nobody",
    "node_id": NODE_ID,
    "per_page": "5",
    "prefix": "",
    "region": "global",
    "status": "complete",
    "type": "server",
    "wait": "1s",
}
"""What the parameters are that are no flags: such as leave something to be answered."""


class Asked(NamedTuple):
    """A request: the id in its path, its body, and parameters that it cannot be without.

    `without` are those that exclude others, and are tried on their own.
    """

    name: str
    id: str = ""
    body: object = None
    query: Mapping[str, str] = {}
    without: tuple[str, ...] = ()

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.name]

    def path(self, parameters: Mapping[str, str]) -> str:
        path = ROUTE[self.name].path
        path = path.replace(":id", self.id).replace("*id", quote(self.id))
        pairs = {**self.query, **parameters}.items()
        return path + "?" + "&".join(f"{name}={quote(text)}" for name, text in pairs)

    def all_parameters(self) -> dict[str, str]:
        return {
            one.name: VALUES.get(one.name, "true")
            for one in self.operation.parameters
            if one.name not in self.without
        }


class Told(NamedTuple):
    """A request and its answer."""

    asked: Asked
    method: str
    answer: Answer


NODE_SENT: Final = {
    "Node": node_body(OTHER_ID, Name="beta", DrainStrategy=None),
}
EVENTS: Final = [{"Message": "restarted", "Subsystem": "agent", "Details": {"a": "b"}}]


MANAGER: Final = "9184ec35-65d4-9258-61e3-0c066d0a45c5"
BOOTSTRAP: Final = {"BootstrapSecret": MANAGER}
RULES: Final = """
namespace "default" { policy = "read" capabilities = ["submit-job"] }
node_pool "p*" { policy = "write" }
agent { policy = "read" }
node { policy = "write" }
operator { policy = "read" }
quota { policy = "read" }
plugin { policy = "list" }
host_volume "v" { policy = "write" }
"""
POLICY: Final = {"Name": "p", "Description": "what it is for", "Rules": RULES}
ROLE: Final = {"Name": "r", "Policies": [{"Name": "p"}]}
TOKEN: Final = {
    "Name": "t",
    "Type": "client",
    "Policies": ["p"],
    "Roles": [{"Name": "r"}],
    "ExpirationTTL": "1h",
}


async def fill(api: Api) -> None:
    """Make a node, a job of two versions, and what comes of them."""
    api.admin.snapshot_bytes = b"a snapshot"
    await add_node(api)
    in_dc1 = {"LTarget": "${node.datacenter}", "RTarget": "dc1", "Operand": "="}
    await submit(api, Constraints=[in_dc1])
    schedule(api)
    report(api, "running")
    await submit(api, Priority=60, Meta={"a": "b"})
    await submit(
        api, "greedy", TaskGroups=[{**job_body()["TaskGroups"][0], "Count": 99}]
    )
    schedule(api)


def requests(api: Api) -> list[Asked]:
    """Return one request for each route; what is deleted goes last."""
    state = api.replica.state()
    allocation, evaluation = (
        next(iter(state.allocations)),
        next(iter(state.evaluations)),
    )
    job = {"Job": job_body()}
    reported = {
        "SecretID": SECRET,
        "Alloc": [
            {
                "ID": allocation,
                "ClientStatus": "running",
                "TaskStates": {
                    "app": {"State": "running", "Events": [{"Type": "Started"}]}
                },
                "DeploymentStatus": {"Healthy": True},
            }
        ],
    }
    return [
        Asked("nodes.list"),
        Asked("nodes.register", body=NODE_SENT),
        Asked("nodes.register", body={"Nodes": [NODE_SENT["Node"], {"ID": "x"}]}),
        Asked("node.read", NODE_ID),
        Asked("node.allocations", NODE_ID),
        Asked("node.report_allocations", NODE_ID, reported),
        Asked("node.evaluate", NODE_ID),
        Asked("node.heartbeat", NODE_ID, {"SecretID": SECRET, "Status": "ready"}),
        Asked("node.events", NODE_ID, {"SecretID": SECRET, "NodeEvents": EVENTS}),
        Asked("node.eligibility", NODE_ID, {"Eligibility": "eligible"}),
        Asked("node.read_drain", NODE_ID),
        Asked("node.drain", NODE_ID, {"DrainSpec": {"Deadline": 10**9}, "Meta": {"a": "b"}}),
        Asked("node.read_drain", NODE_ID),
        Asked("node.read", NODE_ID),
        Asked("jobs.list"),
        Asked("jobs.register", body=job),
        Asked("jobs.parse"),
        Asked("job.validate", body={"Job": {"ID": "bad"}}),
        Asked("job.read", "web"),
        Asked("job.register", "web", job),
        Asked("job.allocations", "web"),
        Asked("job.evaluations", "greedy"),
        Asked("job.summary", "web"),
        Asked("job.versions", "web"),
        Asked("job.deployments", "web"),
        Asked("job.deployment", "web"),
        Asked("job.evaluate", "web", {"JobID": "web"}),
        Asked("job.plan", "web", {"Job": job_body(Priority=70), "Diff": True}),
        Asked("allocations.list"),
        Asked("allocation.read", allocation),
        Asked("evaluations.list", query={}, without=("status",)),
        Asked("evaluation.read", evaluation),
        Asked("evaluation.allocations", evaluation),
        Asked("allocation.stop", allocation),
        Asked("status.leader"),
        Asked("status.peers"),
        Asked("regions"),
        Asked("agent.health"),
        Asked("agent.members"),
        Asked("operator.raft_configuration"),
        Asked("operator.add_peer", query={"id": "a", "address": "a:1", "http": "a:2"}),
        Asked("operator.transfer_leadership", query={"id": "server1"}, without=("address",)),
        Asked("operator.remove_peer", query={"id": "a"}, without=("address",)),
        Asked("operator.save_snapshot"),
        *cluster_requests(allocation),
        Asked("system.gc"),
        Asked("system.reconcile_summaries"),
        Asked("metrics"),
        Asked("openapi"),
        Asked("job.deregister", "web"),
        Asked("node.purge", NODE_ID),
        Asked("operator.restore_snapshot", body=snapshot_of(state)),
    ]  # fmt: skip


def cluster_requests(allocation: str) -> list[Asked]:
    """Return one request for each of the routes that are asked of any server."""
    autopilot = {"LastContactThreshold": "1s", "MaxTrailingLogs": 250}
    return [
        Asked("agent.self"),
        Asked("agent.servers"),
        Asked("agent.set_servers"),
        Asked("agent.join", query={"address": "10.0.0.9:4647"}),
        Asked("agent.force_leave", query={"node": "nobody"}),
        Asked("operator.autopilot"),
        Asked("operator.set_autopilot", body=autopilot),
        Asked("operator.autopilot_health"),
        Asked("operator.scheduler"),
        Asked("operator.set_scheduler", body={"SchedulerAlgorithm": "binpack"}),
        Asked("search", body={"Prefix": "", "Context": "all"}),
        Asked("search.fuzzy", body={"Text": "we", "Context": "all"}),
        Asked("namespaces.list"),
        Asked("namespace.read", "default"),
        Asked("namespace.create", body={"Name": "team"}),
        Asked("namespace.write", "team", {"Name": "team"}),
        Asked("namespace.delete", "team"),
        Asked("node_pools.list"),
        Asked("node_pools.write", body={"Name": "gpu"}),
        Asked("node_pool.read", "all"),
        Asked("node_pool.write", "gpu", {"Name": "gpu"}),
        Asked("node_pool.delete", "gpu"),
        Asked("node_pool.nodes", "all"),
        Asked("node_pool.jobs", "all"),
        Asked("deployments.list"),
        Asked("deployment.read", f"allocations/{OTHER_ID}"),
        Asked("deployment.read", OTHER_ID),
        Asked("deployment.write", f"fail/{OTHER_ID}"),
        Asked("volumes.list"),
        Asked("plugins.list"),
        Asked("client.stats", query={"node_id": NODE_ID}),
        Asked("client.gc", query={"node_id": NODE_ID}),
        Asked("client.metadata", query={"node_id": NODE_ID}),
        Asked("client.allocation_read", f"{allocation}/stats"),
        Asked("client.allocation_write", f"{allocation}/restart"),
        Asked("client.fs", f"ls/{allocation}"),
    ]


async def acl_requests(guarded: Api) -> list[Asked]:
    """Return one request for each route about ACLs; the first makes them, once."""
    await guarded.put("/v1/acl/bootstrap", BOOTSTRAP)
    headers = {"X-Nomad-Token": MANAGER}
    for path, body in (("policy/p", POLICY), ("role", ROLE), ("token", TOKEN)):
        answer = await guarded.ask("PUT", f"/v1/acl/{path}", body, headers)
        assert answer.status == 200, answer.text
    state = guarded.replica.state()
    role = next(iter(state.acl_roles))
    (token,) = [id_ for id_, one in state.acl_tokens.items() if one.name == "t"]
    return [
        Asked("acl.policies"),
        Asked("acl.policy_read", "p"),
        Asked("acl.policy_read", "self"),
        Asked("acl.policy_write", "p", POLICY),
        Asked("acl.tokens"),
        Asked("acl.token_create", body=TOKEN),
        Asked("acl.token_self"),
        Asked("acl.token_read", token),
        Asked("acl.token_update", token, {**TOKEN, "AccessorID": token}),
        Asked("acl.roles"),
        Asked("acl.role_create", body={**ROLE, "Name": "r2"}),
        Asked("acl.role_read_named", "r"),
        Asked("acl.role_read", role),
        Asked("acl.role_update", role, {**ROLE, "ID": role, "Description": "d"}),
        Asked("acl.token_delete", token),
        Asked("acl.role_delete", role),
        Asked("acl.policy_delete", "p"),
    ]


async def ask_everything(
    make_api: ApiFactory,
    parameters: Callable[[Asked], Mapping[str, str]] = lambda _: {},
    **headers: str,
) -> AsyncIterator[Told]:
    """Yield the answer to each request by each method of its route."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}

    async def ask(api: Api, asked: Asked) -> AsyncIterator[Told]:
        for method in ROUTE[asked.name].methods:
            path = asked.path(parameters(asked))
            yield Told(asked, method, await api.ask(method, path, asked.body, named))

    api, guarded = await make_api(), await make_api(acl_enabled=True)
    await fill(api)
    for asked in requests(api):
        async for told in ask(api, asked):
            yield told
    async for told in ask(guarded, Asked("acl.bootstrap", body=BOOTSTRAP)):
        yield told
    named["X-Nomad-Token"] = MANAGER
    for asked in await acl_requests(guarded):
        async for told in ask(guarded, asked):
            yield told
