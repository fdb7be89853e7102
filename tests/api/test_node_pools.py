"""Node pools are there as long as a node is in them."""

import pytest

from tests.api.conftest import NODE_ID, OTHER_ID, Api, ApiFactory
from tests.api.guarding import guard
from tests.api.working import submit

LIST = "/v1/node/pools"
ONE = "/v1/node/pool"


async def ids(api: Api, path: str) -> list[str]:
    answer = await api.get(path)
    assert answer.status == 200, answer.text
    return [one["ID"] for one in answer.json]


@pytest.fixture
async def pooled(api: Api) -> Api:
    """Two nodes, one of them in a pool of its own."""
    await api.register(NODE_ID, NodePool="gpu")
    await api.register(OTHER_ID)
    return api


async def test_two_are_always_there(api):
    answer = await api.get(LIST)

    assert answer.json[0] == {
        "CreateIndex": 1,
        "Description": "Node pool with all nodes in the cluster.",
        "Meta": None,
        "ModifyIndex": 1,
        "Name": "all",
        "SchedulerConfiguration": None,
    }
    assert [one["Name"] for one in answer.json] == ["all", "default"]
    assert answer.index == 1


async def test_one_comes_with_its_first_node_and_goes_with_its_last(pooled):
    answer = await pooled.get(f"{ONE}/gpu")

    assert answer.json["CreateIndex"] == (await pooled.read())["CreateIndex"]
    listed = (await pooled.get(f"{LIST}?prefix=g")).json
    assert listed == [answer.json]
    await pooled.put(f"/v1/node/{NODE_ID}/purge")

    gone = await pooled.get(f"{ONE}/gpu")
    assert (gone.status, gone.text) == (404, "node pool not found")
    assert gone.index > answer.index


@pytest.mark.parametrize(
    ("pool", "expected"),
    [("all", [OTHER_ID, NODE_ID]), ("default", [OTHER_ID]), ("gpu", [NODE_ID])],
)
async def test_the_nodes_of_a_pool(pooled, pool, expected):
    assert await ids(pooled, f"{ONE}/{pool}/nodes") == expected


async def test_the_list_of_a_pool_is_cut_and_filtered_like_any(pooled):
    path = f"{ONE}/gpu/nodes"

    assert await ids(pooled, f"{path}?prefix=f7") == [NODE_ID]
    assert await ids(pooled, f"{path}?prefix=12") == []
    assert await ids(pooled, f'{path}?filter=Name == "alpha"'.replace(" ", "%20")) == [
        NODE_ID
    ]
    assert await ids(pooled, f'{path}?filter=Name == "beta"'.replace(" ", "%20")) == []


@pytest.mark.parametrize(
    "expression", ['Name == "alpha") or (Name == "alpha"', "Name =="]
)
async def test_a_filter_cannot_reach_out_of_its_pool(pooled, expression):
    query = expression.replace(" ", "%20")

    answer = await pooled.get(f"{ONE}/gpu/nodes?filter={query}")

    assert answer.status == 400


async def test_jobs_may_run_anywhere_and_are_in_the_pool_of_all(pooled):
    await submit(pooled)

    assert await ids(pooled, f"{ONE}/all/jobs") == ["web"]
    assert await ids(pooled, f"{ONE}/gpu/jobs") == []
    assert (await pooled.get(f"{ONE}/gpu/jobs")).index > 1


@pytest.mark.parametrize("tail", ["", "/nodes", "/jobs"])
async def test_what_is_not_there_has_nothing_in_it(pooled, tail):
    answer = await pooled.get(f"{ONE}/nowhere{tail}")

    assert (answer.status, answer.text) == (404, "node pool not found")


async def test_a_reader_waits_for_the_next_one(api):
    index = (await api.get(LIST)).index

    answer = await api.read_during(
        f"{LIST}?index={index}&wait=30s", lambda: api.register(NodePool="gpu")
    )

    assert [one["Name"] for one in answer.json] == ["all", "default", "gpu"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", LIST), ("POST", f"{ONE}/gpu"), ("DELETE", f"{ONE}/gpu")],
)
async def test_none_is_written(api, method, path):
    answer = await api.ask(method, path, {"Name": "gpu"})

    assert answer.status == 501
    assert "as soon as a node registers with it" in answer.text


async def test_a_path_without_a_name_says_so(api):
    for path in (ONE, f"{ONE}/", f"{ONE}//nodes"):
        answer = await api.get(path)
        assert answer.status in {400, 404}
    assert (await api.get(f"{ONE}/")).text == "missing node pool name"


async def test_everybody_sees_the_pools_that_they_may_read(make_api: ApiFactory):
    guarded = await guard(await make_api(acl_enabled=True))
    nodes = 'node { policy = "read" }'
    secret = guarded.may(mine=f'{nodes}\nnode_pool "def*" {{ policy = "read" }}')

    listed = await guarded.get(LIST, secret)

    assert [one["Name"] for one in listed.json] == ["default"]
    assert (await guarded.get(f"{ONE}/default/nodes", secret)).status == 200
    assert (await guarded.get(f"{ONE}/all", secret)).status == 403
    assert (await guarded.get(f"{ONE}/all/nodes", secret)).status == 403
