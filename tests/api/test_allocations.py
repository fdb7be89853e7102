"""The allocations of a node: the rows A that are possible without any."""

import pytest

from nodestate.fsm.state import ALLOCATIONS
from tests.api.conftest import NODE_PATH, UNKNOWN_ID, Api
from tests.conformance.rows import case, rows


@rows("A4")
async def test_the_list_is_empty_and_never_at_index_0(api: Api):
    await api.register()

    answer = await api.get(f"{NODE_PATH}/allocations")

    assert (answer.status, answer.body, answer.index) == (200, b"[]", 1)


@rows("A1")
async def test_its_index_is_the_tables(api: Api):
    api.replica.state().indexes[ALLOCATIONS] = 100

    answer = await api.get(f"/v1/node/{UNKNOWN_ID}/allocations")

    assert (answer.status, answer.body, answer.index) == (200, b"[]", 100)


@rows("V18")
@pytest.mark.parametrize(
    "node_id", [case("A2", "foobarbaz"), case("A3", "nope"), case("A6", "1")]
)
async def test_a_malformed_id_is_refused(api: Api, node_id):
    answer = await api.get(f"/v1/node/{node_id}/allocations")

    assert answer.status == 400
    assert answer.text == "node lookup failed: index error: UUID must be 36 characters"


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_nothing_is_written_there(api: Api, method):
    answer = await api.ask(method, f"{NODE_PATH}/allocations", "{}")

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
