"""What only a node's agent could answer is a clean error that tools go on after."""

import pytest

from tests.api.conftest import NODE_ID, UNKNOWN_ID, Api, ApiFactory
from tests.api.guarding import KINDS, guard
from tests.api.working import add_node, schedule, submit

NO_PATH = (404, "No path to node")


@pytest.fixture
async def working(api: Api) -> Api:
    await add_node(api)
    await submit(api)
    schedule(api)
    return api


@pytest.mark.parametrize("what", ["stats", "gc", "metadata"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"?node_id={NODE_ID}", NO_PATH),
        (f"?node_id={NODE_ID.upper()}", NO_PATH),
        (f"?node_id={UNKNOWN_ID}", (404, f'Unknown node "{UNKNOWN_ID}"')),
        ("?node_id=f7", (404, 'Unknown node "f7"')),
        ("", (400, "No local Node and node_id not provided")),
    ],
)
async def test_of_nodes(working, what, query, expected):
    answer = await working.get(f"/v1/client/{what}{query}")

    assert (answer.status, answer.text) == expected
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "allocation/{}/stats"),
        ("GET", "allocation/{}/gc"),
        ("POST", "allocation/{}/restart"),
        ("PUT", "allocation/{}/signal"),
        ("GET", "fs/ls/{}?path=/"),
        ("GET", "fs/logs/{}?task=app&type=stdout"),
    ],
)
async def test_of_allocations(working, method, path):
    (allocation,) = working.replica.state().allocations

    known = await working.ask(method, f"/v1/client/{path.format(allocation)}")
    unknown = await working.ask(method, f"/v1/client/{path.format(UNKNOWN_ID)}")

    assert (known.status, known.text) == NO_PATH
    assert (unknown.status, unknown.text) == (
        404,
        f'Unknown allocation "{UNKNOWN_ID}"',
    )


@pytest.mark.parametrize("path", ["fs/bogus/x", "allocation/x/bogus", "allocation/x"])
async def test_of_nothing_else(working, path):
    answer = await working.get(f"/v1/client/{path}")

    assert (answer.status, answer.text) == (404, f"no such path: /v1/client/{path}")


@pytest.mark.parametrize("path", ["fs/ls", "fs/ls/", "fs/", "allocation/"])
async def test_an_allocation_has_to_be_named(working, path):
    answer = await working.get(f"/v1/client/{path}")

    assert (answer.status, answer.text) == (400, "missing allocation ID")


async def test_what_may_not_be_seen_is_as_if_not_there(make_api: ApiFactory):
    guarded = await guard(await make_api(acl_enabled=True))
    allocation = guarded.allocation_of("web")
    path = f"/v1/client/allocation/{allocation}/stats"
    elsewhere = guarded.may(team='namespace "team" { policy = "read" }')

    assert (await guarded.get(path, KINDS["read"])).text == "No path to node"
    assert (await guarded.get(path, elsewhere)).text == (
        f'Unknown allocation "{allocation}"'
    )
