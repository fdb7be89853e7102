"""The client for what is asked of any server: each call against a server's own HTTP side."""

from collections.abc import AsyncIterator

import pytest

from nodestate.client import Query
from nodestate.client_status import FuzzyMatch, StatusClient
from nodestate.errors import ResponseError
from nodestate.ports import ServerAddress
from tests.api.conftest import NODE_ID, OTHER_ID, Api, running_api
from tests.api.working import job_body, submit
from tests.scripted_server import Answer, scripted_server

THREE = tuple(
    ServerAddress(f"server{number}", f"10.0.0.{number}:4647", f"10.0.0.{number}:4646")
    for number in (1, 2, 3)
)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api() as api:
        api.leadership.addresses = THREE
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[StatusClient]:
    async with StatusClient(f"http://127.0.0.1:{api.port}") as client:
        yield client


async def test_servers_are_listed(client):
    assert await client.server_addresses() == [one.peer_address for one in THREE]


async def test_how_the_servers_do_is_an_answer_good_or_bad(api, client):
    well = await client.cluster_health()
    api.admin.unhealthy = {"server3"}
    unwell = await client.cluster_health()

    assert (well.healthy, well.failure_tolerance, well.min_quorum) == (True, 1, 2)
    assert well.leader == "server1"
    assert well.servers[1].last_contact == "50ms"
    assert well.servers[1].stable_since.ns > 0
    assert (unwell.healthy, unwell.failure_tolerance) == (False, 0)
    assert [one.healthy for one in unwell.servers] == [True, True, False]


async def test_that_there_are_too_many_requests_is_no_health():
    async with scripted_server() as script:
        script.on("/v1/operator/autopilot/health", Answer("too many", status=429))
        async with StatusClient(script.address) as client:
            with pytest.raises(ResponseError, match="too many") as refused:
                await client.cluster_health()

    assert refused.value.status == 429


async def test_settings_are_read(client):
    autopilot = await client.autopilot_configuration()
    scheduler = await client.scheduler_configuration()

    assert (autopilot.last_contact_threshold, autopilot.max_trailing_logs) == (
        "1s",
        250,
    )
    assert scheduler["SchedulerConfig"]["SchedulerAlgorithm"] == "binpack"


async def test_things_are_found(api, client):
    await api.register(NODE_ID, Name="alpha")
    await api.put("/v1/jobs?namespace=team", {"Job": job_body(Namespace="team")})

    nodes = await client.search(NODE_ID[:5], "nodes")
    everywhere = await client.search("we", namespace="*")
    fuzzy = await client.fuzzy_search("lph", "nodes")
    of_team = await client.fuzzy_search("web", "jobs", namespace="team")

    assert nodes.matches == {"nodes": (NODE_ID,)}
    assert nodes.truncations == {"nodes": False}
    assert everywhere.matches["jobs"] == ("web",)
    assert fuzzy.matches == {"nodes": (FuzzyMatch(id="alpha", scope=(NODE_ID,)),)}
    assert of_team.matches["jobs"] == (FuzzyMatch(id="web", scope=("team", "web")),)
    with pytest.raises(ResponseError, match="context must be one of"):
        await client.search("a", "bogus")


async def test_namespaces_and_pools_are_listed(api, client):
    await api.register(NODE_ID, NodePool="gpu")
    await api.register(OTHER_ID)
    await submit(api)

    namespaces = await client.namespaces()
    pools = await client.node_pools(Query(stale=True), prefix="g")

    assert [one.name for one in namespaces.value] == ["default"]
    assert namespaces.index >= 1
    assert [one.name for one in pools.value] == ["gpu"]
    assert [one.id for one in (await client.pool_nodes("gpu")).value] == [NODE_ID]
    assert [one.id for one in (await client.pool_jobs("all")).value] == ["web"]
    assert (await client.namespaces(prefix="x")).value == []
