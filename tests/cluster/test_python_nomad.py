"""python-nomad, the real package, against a real cluster of three: nothing is changed for it.

Every call is made twice, to the leader and to a server that follows.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import nomad
import pytest
from nomad.api.exceptions import (
    BadRequestNomadException,
    BaseNomadException,
    URLNotFoundNomadException,
)

from cluster.fleet import make_node, node_id, secret_id
from cluster.servers import ServerFiles
from tests.cluster.running import POLL_S, SERVING_S, RunningCluster
from tests.real_server import HttpClient

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("python-nomad")]

UNKNOWN: Final = "11111111-2222-3333-4444-555555555555"
SECOND_NS: Final = 1_000_000_000
ANSWER_S: Final = 10.0


class Site:
    """One server of the cluster as the package sees it, and agents for its nodes.

    `number` is of this server alone, so that what is made here has names of its own.
    """

    def __init__(self, running: RunningCluster, asked: ServerFiles) -> None:
        self.asked = asked
        self.number = running.servers.index(asked)
        self.addresses = [files.peer for files in running.servers]
        self.names = [files.name for files in running.servers]
        self.nomad = nomad.Nomad(address=asked.url, timeout=ANSWER_S)

    def add_node(self, number: int, **fields: Any) -> str:
        """Register a node in a datacenter where nothing else is, and return its id."""
        number = self.of_its_own(number)
        node = {**make_node(number), "Datacenter": f"dc-{number}", **fields}
        self._put("/v1/nodes", {"Node": node})
        return node_id(number)

    def of_its_own(self, number: int) -> int:
        return number + 100 * self.number

    def job(self, number: int, **fields: Any) -> dict[str, Any]:
        """Return a job that runs on that node, as the package is given it."""
        number = self.of_its_own(number)
        task = {"Name": "app", "Driver": "exec", "Config": {"command": "/bin/sleep"}}
        job = {
            "ID": f"job-{number:04}",
            "Name": f"job-{number:04}",
            "Type": "service",
            "Datacenters": [f"dc-{number}"],
            "TaskGroups": [{"Name": "grp", "Count": 1, "Tasks": [task]}],
            **fields,
        }
        return {"Job": job}

    def run(self, number: int, **fields: Any) -> tuple[str, dict[str, Any]]:
        """Have a job run on a node of its own; return the job's id and its allocation."""
        node = self.add_node(number)
        job = self.job(number, **fields)
        self.nomad.jobs.register_job(job)
        placed = until(lambda: self.nomad.node.get_allocations(node))
        self.report(number, placed[0]["ID"], "running")
        return job["Job"]["ID"], placed[0]

    def report(self, number: int, allocation: str, status: str) -> None:
        """Say how an allocation does, as the node's agent does."""
        number = self.of_its_own(number)
        report = {"ID": allocation, "ClientStatus": status}
        self._put(
            f"/v1/node/{node_id(number)}/allocations",
            {"SecretID": secret_id(number), "Alloc": [report]},
        )

    def _put(self, path: str, body: object) -> None:
        answer = HttpClient(self.asked.http).put(path, body)
        assert answer.status == 200, answer.text


def until(find: Callable[[], Any]) -> Any:
    """Return what is found, once it is."""
    give_up_at_s = time.monotonic() + SERVING_S
    while True:
        found = find()
        if found:
            return found
        assert time.monotonic() < give_up_at_s, "it never came true"
        time.sleep(POLL_S)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """Three servers, and how to ask the leader and a follower."""
    directory = tmp_path_factory.mktemp("python-nomad")
    running = RunningCluster(directory, count=3, settings={})

    async def start() -> ServerFiles:
        async with running:
            return await running.wait_for_leader()

    try:
        leader = asyncio.run(start())
        follower = next(files for files in running.servers if files is not leader)
        yield {"leader": Site(running, leader), "follower": Site(running, follower)}
    finally:
        running.destroy()


@pytest.fixture(params=["leader", "follower"])
def site(
    request: pytest.FixtureRequest,
    sites: dict[str, Site],
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    for name in ("ADDR", "NAMESPACE", "TOKEN", "REGION", "CLIENT_CERT", "CLIENT_KEY"):
        monkeypatch.delenv(f"NOMAD_{name}", raising=False)
    return sites[request.param]


# Nodes


def test_nodes(site: Site) -> None:
    id_ = site.add_node(1, NodeClass="lone")
    site.add_node(2)
    nodes = site.nomad.nodes
    name = nodes[id_]["Name"]

    assert id_ in nodes
    assert name in nodes
    assert nodes[name]["ID"] == id_
    assert UNKNOWN not in nodes
    with pytest.raises(KeyError):
        nodes[UNKNOWN]
    assert len(nodes) == len(list(nodes)) == len(nodes.get_nodes()) >= 2
    assert [one["ID"] for one in nodes.get_nodes(prefix=id_[:8])] == [id_]
    assert nodes.get_nodes(prefix="ffffffff-ffff") == []
    (found,) = nodes.get_nodes(
        filter_=f'ID == "{id_}" and NodeClass == "lone"', resources=True, os=True
    )
    assert found["NodeResources"]["Cpu"]["CpuShares"] == 38_400
    assert "os.name" in found["Attributes"]
    assert "NodeResources" not in nodes.get_nodes(resources=False)[0]


def test_nodes_page_by_page(site: Site) -> None:
    site.add_node(3)
    site.add_node(33)
    everything = [one["ID"] for one in site.nomad.nodes]

    first = site.nomad.nodes.get_nodes(per_page="1")
    rest = site.nomad.nodes.get_nodes(next_token=everything[1].replace("-", ""))

    assert [one["ID"] for one in first] == everything[:1]
    assert [one["ID"] for one in rest] == everything[1:]


def test_one_node(site: Site) -> None:
    id_ = site.add_node(4)
    node = site.nomad.node

    assert node.get_node(id_)["ID"] == node[id_]["ID"] == id_
    assert id_ in node
    assert UNKNOWN not in node
    with pytest.raises(KeyError):
        node[UNKNOWN]
    with pytest.raises(URLNotFoundNomadException):
        node.get_node(UNKNOWN)
    with pytest.raises(BadRequestNomadException):
        node.get_node("nonsense")
    assert node.get_allocations(id_) == []
    assert node.evaluate_node(id_)["EvalIDs"] is None


def test_a_node_is_closed_and_opened(site: Site) -> None:
    id_ = site.add_node(5)
    node = site.nomad.node

    closed = node.eligible_node(id_, eligible=False)
    assert node[id_]["SchedulingEligibility"] == "ineligible"
    assert node[id_]["ModifyIndex"] == closed["NodeModifyIndex"]
    node.eligible_node(id_, eligible=True)
    assert node[id_]["SchedulingEligibility"] == "eligible"
    node.eligible_node(id_, ineligible=True)
    assert node[id_]["SchedulingEligibility"] == "ineligible"


def test_a_node_is_drained_in_the_old_way(site: Site) -> None:
    job_id, allocation = site.run(6)
    node, id_ = site.nomad.node, allocation["NodeID"]

    started = node.drain_node(id_, enable=True)
    # Forced, so that it may be over before it is looked at.
    shown = node[id_]
    strategy = shown["DrainStrategy"] or {"Deadline": -SECOND_NS}
    assert strategy["Deadline"] == -SECOND_NS
    assert shown["LastDrain"]
    assert "EvalIDs" in started
    stopped = node.drain_node(id_, enable=False)

    assert "EvalIDs" in stopped
    assert node[id_]["Drain"] is False
    assert node[id_]["DrainStrategy"] is None
    assert site.nomad.job[job_id]["Status"]


def test_a_node_is_drained_with_a_spec(site: Site) -> None:
    _, allocation = site.run(7)
    node, id_ = site.nomad.node, allocation["NodeID"]

    node.drain_node_with_spec(id_, {"Duration": "5m"})
    drained = node[id_]
    assert drained["Drain"] is True
    assert drained["DrainStrategy"]["Deadline"] == 0
    node.drain_node_with_spec(id_, {"Deadline": 3600 * SECOND_NS})
    assert node[id_]["DrainStrategy"]["Deadline"] == 3600 * SECOND_NS
    node.drain_node_with_spec(id_, None, mark_eligible=True)

    assert node[id_]["Drain"] is False
    assert node[id_]["SchedulingEligibility"] == "eligible"


def test_a_node_is_purged(site: Site) -> None:
    id_ = site.add_node(8)

    purged = site.nomad.node.purge_node(id_)

    assert purged["NodeModifyIndex"] > 0
    assert id_ not in site.nomad.node
    with pytest.raises(URLNotFoundNomadException):
        site.nomad.node.purge_node(id_)


# Work


def test_jobs(site: Site) -> None:
    jobs, body = site.nomad.jobs, site.job(10)
    id_ = body["Job"]["ID"]

    registered = jobs.register_job(body)

    assert registered["EvalID"]
    assert registered["JobModifyIndex"] > 0
    assert id_ in jobs
    assert "no such job" not in jobs
    assert jobs[id_]["ID"] == id_
    with pytest.raises(KeyError):
        jobs["no such job"]
    assert len(jobs) == len(list(jobs)) >= 1
    assert [one["ID"] for one in jobs.get_jobs(prefix=id_)] == [id_]
    assert jobs.get_jobs(namespace="nowhere") == []
    assert [one["ID"] for one in jobs.get_jobs(filter_=f'ID == "{id_}"')] == [id_]
    with pytest.raises(BadRequestNomadException):
        jobs.register_job({"Job": {"ID": "bad"}})
    with pytest.raises(BaseNomadException):
        jobs.parse('job "web" {}')


def test_one_job(site: Site) -> None:
    id_, allocation = site.run(11)
    job, body = site.nomad.job, site.job(11, Priority=60)

    assert job.get_job(id_)["ID"] == job[id_]["ID"] == id_
    assert id_ in job
    assert "no such job" not in job
    with pytest.raises(KeyError):
        job["no such job"]
    assert [one["ID"] for one in job.get_allocations(id_)] == [allocation["ID"]]
    evaluations = [one["ID"] for one in job.get_evaluations(id_)]
    assert allocation["EvalID"] in evaluations
    assert job.get_deployments(id_) == []
    assert job.get_deployment(id_) is None
    assert set(job.get_summary(id_)["Summary"]) == {"grp"}
    planned = job.plan_job(id_, body, diff=True)
    assert planned["Diff"]["Type"] == "Edited"
    assert job[id_]["Version"] == 0
    assert job.register_job(id_, body)["EvalID"]
    assert [one["Version"] for one in job.get_versions(id_)["Versions"]] == [1, 0]
    assert job.evaluate_job(id_)["EvalID"]


def test_a_job_is_stopped_and_purged(site: Site) -> None:
    body = site.job(12)
    id_ = body["Job"]["ID"]
    site.nomad.jobs.register_job(body)

    assert site.nomad.job.deregister_job(id_)["EvalID"]
    assert site.nomad.job[id_]["Stop"] is True
    site.nomad.job.deregister_job(id_, purge=True)

    assert id_ not in site.nomad.job


def test_what_jobs_do_not_have_here_is_refused_and_changes_nothing(site: Site) -> None:
    body = site.job(13)
    id_, job = body["Job"]["ID"], site.nomad.job
    site.nomad.jobs.register_job(body)
    before = [one["ID"] for one in site.nomad.jobs]

    for refused in (
        lambda: job.periodic_job(id_),
        lambda: job.dispatch_job(id_),
        lambda: job.revert_job(id_, 0),
        lambda: job.stable_job(id_, 0, stable=True),
    ):
        with pytest.raises(BaseNomadException):
            refused()

    assert [one["ID"] for one in site.nomad.jobs] == before


def test_allocations(site: Site) -> None:
    _, placed = site.run(14)
    id_ = placed["ID"]
    allocations, allocation = site.nomad.allocations, site.nomad.allocation

    assert len(allocations) == len(list(allocations)) >= 1
    (found,) = allocations.get_allocations(prefix=id_[:8], resources=True)
    assert found["ID"] == id_
    assert found["ClientStatus"] == "running"
    assert found["AllocatedResources"] is not None
    (filtered,) = allocations.get_allocations(filter_=f'ID == "{id_}"', namespace="*")
    assert filtered["NodeID"] == placed["NodeID"]
    assert allocation.get_allocation(id_)["ID"] == allocation[id_]["ID"] == id_
    assert id_ in allocation
    assert UNKNOWN not in allocation
    with pytest.raises(KeyError):
        allocation[UNKNOWN]

    stopped = allocation.stop_allocation(id_)

    assert stopped["EvalID"] in site.nomad.evaluation
    until(lambda: allocation[id_]["DesiredStatus"] == "stop")


def test_evaluations(site: Site) -> None:
    job_id, placed = site.run(15)
    id_ = placed["EvalID"]
    evaluations, evaluation = site.nomad.evaluations, site.nomad.evaluation

    assert id_ in evaluations
    assert UNKNOWN not in evaluations
    assert evaluations[id_]["JobID"] == job_id
    with pytest.raises(KeyError):
        evaluations[UNKNOWN]
    assert len(evaluations) == len(list(evaluations)) >= 1
    assert [one["ID"] for one in evaluations.get_evaluations(prefix=id_[:8])] == [id_]
    assert evaluation.get_evaluation(id_)["ID"] == evaluation[id_]["ID"] == id_
    assert [one["ID"] for one in evaluation.get_allocations(id_)] == [placed["ID"]]
    assert id_ in evaluation
    assert UNKNOWN not in evaluation
    with pytest.raises(KeyError):
        evaluation[UNKNOWN]


# Servers


def test_status(site: Site) -> None:
    leader, peers = site.nomad.status.leader, site.nomad.status.peers
    address = leader.get_leader()

    assert address in site.addresses
    assert address in leader
    assert len(leader) == len(address)
    assert sorted(peers.get_peers()) == sorted(site.addresses)
    assert address in peers
    assert "10.9.9.9:4647" not in peers
    assert len(peers) == len(list(peers)) == 3
    assert peers[address] == address
    with pytest.raises(KeyError):
        peers["10.9.9.9:4647"]


def test_regions(site: Site) -> None:
    regions = site.nomad.regions

    assert regions.get_regions() == list(regions) == ["global"]
    assert "global" in regions
    assert "mars" not in regions
    assert len(regions) == 1
    assert regions["global"] == "global"
    with pytest.raises(KeyError):
        regions["mars"]


def test_the_agent(site: Site) -> None:
    agent = site.nomad.agent
    described = agent.get_agent()
    members = agent.get_members()

    assert described["member"]["Name"] == f"{site.asked.name}.global"
    assert described["config"]["Region"] == "global"
    assert described["stats"]["nomad"]["server"] == "true"
    assert described["stats"]["raft"]["num_peers"] == "2"
    assert int(described["stats"]["raft"]["applied_index"]) > 0
    assert int(described["stats"]["raft"]["last_log_index"]) > 0
    leads = described["stats"]["nomad"]["leader"] == "true"
    assert leads is (site.nomad.status.leader.get_leader() == site.asked.peer)
    assert described["stats"]["raft"]["state"] == ("Leader" if leads else "Follower")
    names = {one["Name"] for one in members["Members"]}
    assert names == {f"{name}.global" for name in site.names}
    assert members["ServerRegion"] == "global"
    assert agent.get_servers() == sorted(site.addresses)
    assert agent.join_agent(site.addresses[0]) == {"num_joined": 1, "error": ""}
    joined = agent.join_agent(["10.9.9.9:4647", site.addresses[0]])
    assert joined["num_joined"] == 1
    assert "10.9.9.9:4647" in joined["error"]
    assert agent.force_leave("nobody.global") == 200
    with pytest.raises(BaseNomadException):
        agent.force_leave(site.names[0])
    with pytest.raises(BaseNomadException):
        agent.update_servers(site.addresses[0])


def test_the_operator(site: Site) -> None:
    operator = site.nomad.operator
    servers = operator.get_configuration()["Servers"]
    assert sorted(one["Address"] for one in servers) == sorted(site.addresses)
    assert [one["Voter"] for one in servers] == [True] * 3
    assert operator.get_configuration(stale=True)["Servers"] == servers
    leaders = [one["Address"] for one in servers if one["Leader"]]
    assert leaders == [site.nomad.status.leader.get_leader()]

    with pytest.raises(URLNotFoundNomadException):
        operator.delete_peer("10.9.9.9:4647")


def test_a_peer_is_removed(site: Site) -> None:
    """One that was only just added, and never was there."""
    operator = site.nomad.operator
    query = "id=server9&address=127.0.0.1:9&http=127.0.0.1:10"
    added = HttpClient(site.asked.http).put(f"/v1/operator/raft/peer?{query}")
    assert added.status == 200, added.text
    assert len(operator.get_configuration()["Servers"]) == 4

    assert operator.delete_peer("127.0.0.1:9") is True

    assert len(operator.get_configuration()["Servers"]) == 3


def test_search(site: Site) -> None:
    job_id, placed = site.run(20)
    id_ = placed["NodeID"]
    search = site.nomad.search

    for length in (8, 9, 12, 13, 36):
        found = search.search(id_[:length], "nodes")
        assert found["Matches"] == {"nodes": [id_]}
        assert found["Truncations"] == {"nodes": False}
    assert search.search(job_id, "jobs")["Matches"] == {"jobs": [job_id]}
    everything = search.search(placed["ID"][:13], "all")["Matches"]
    assert everything["allocs"] == [placed["ID"]]
    assert everything["nodes"] is None
    assert search.search("zz", "all")["Matches"] == {"jobs": None}
    for context in ("evals", "deployment", "plugins", "volumes"):
        assert search.search("ffffffff", context)["Matches"] == {context: None}
    name = site.nomad.node[id_]["Name"]
    fuzzy = search.fuzzy_search(name[3:12], "nodes")["Matches"]["nodes"]
    assert {"ID": name, "Scope": [id_]} in fuzzy
    of_jobs = search.fuzzy_search(job_id, "all")["Matches"]["jobs"]
    assert {"ID": job_id, "Scope": ["default", job_id]} in of_jobs


def test_the_system(site: Site) -> None:
    assert site.nomad.system.initiate_garbage_collection() is True
    assert site.nomad.system.reconcile_summaries() is True


def test_metrics(site: Site) -> None:
    metrics = site.nomad.metrics.get_metrics()

    assert {"Counters", "Gauges", "Points", "Samples", "Timestamp"} <= set(metrics)
    leads = site.nomad.status.leader.get_leader() == site.asked.peer
    gauges = {one["Name"]: one["Value"] for one in metrics["Gauges"]}
    assert gauges["nodestate_replication_is_leader"] == leads


# What is not here, and answered so that one goes on


def test_what_only_an_agent_could_answer(site: Site) -> None:
    _, placed = site.run(21)
    client = site.nomad.client

    for refused in (
        lambda: client.stats.read_stats(node_id=placed["NodeID"]),
        lambda: client.gc_all_allocations.garbage_collect(node_id=placed["NodeID"]),
        lambda: client.gc_allocation.garbage_collect(placed["ID"]),
        lambda: client.allocation.read_allocation_stats(placed["ID"]),
        lambda: client.allocation.restart_allocation(placed["ID"]),
        lambda: client.ls.list_files(placed["ID"]),
        lambda: client.cat.read_file(placed["ID"], "/a"),
        lambda: client.stream_logs.stream(placed["ID"], "app", "stdout"),
    ):
        with pytest.raises(URLNotFoundNomadException, match="No path to node"):
            refused()


def test_deployments(site: Site) -> None:
    deployments, deployment = site.nomad.deployments, site.nomad.deployment

    assert deployments.get_deployments() == list(deployments) == []
    assert len(deployments) == 0
    assert UNKNOWN not in deployments
    assert UNKNOWN not in deployment
    with pytest.raises(URLNotFoundNomadException):
        deployment.get_deployment(UNKNOWN)
    assert deployment.get_deployment_allocations(UNKNOWN) == []
    with pytest.raises(URLNotFoundNomadException):
        deployment.fail_deployment(UNKNOWN)


def test_namespaces(site: Site) -> None:
    name = f"team-{site.number}"
    of_team = site.job(22, Namespace=name)
    in_team = nomad.Nomad(address=site.asked.url, namespace=name, timeout=ANSWER_S)
    in_team.jobs.register_job(of_team)
    namespaces, namespace = site.nomad.namespaces, site.nomad.namespace

    assert {"default", name} <= {one["Name"] for one in namespaces}
    assert "default" in namespaces
    assert "nowhere" not in namespaces
    assert namespaces[name]["Name"] == namespace.get_namespace(name)["Name"] == name
    assert "nowhere" not in namespace
    found = namespaces.get_namespaces(prefix=name)
    assert [one["Name"] for one in found] == [name]
    assert of_team["Job"]["ID"] in in_team.jobs
    assert of_team["Job"]["ID"] not in site.nomad.jobs
    with pytest.raises(BaseNomadException, match="as soon as a job names it"):
        namespace.create_namespace({"Name": "made"})
    with pytest.raises(BaseNomadException):
        namespace.delete_namespace(name)


def test_an_answer_of_another_region_is_refused(site: Site) -> None:
    elsewhere = nomad.Nomad(address=site.asked.url, region="mars", timeout=ANSWER_S)

    with pytest.raises(BadRequestNomadException, match="No path to region"):
        elsewhere.nodes.get_nodes()
