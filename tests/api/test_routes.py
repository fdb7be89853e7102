"""The table of routes, and where paths lead."""

import pytest

from nodestate.api.calls import Call
from nodestate.api.needs import (
    MANAGEMENT,
    OPEN,
    OPERATOR_READ,
    OPERATOR_SNAPSHOT_SAVE,
    OPERATOR_WRITE,
    Need,
)
from nodestate.api.replies import Reply
from nodestate.api.routes import READS, ROUTES, WRITES, Route, RouteTable

TABLE = RouteTable()


def leads_to(path: str, method: str = "GET") -> tuple[str | None, str]:
    place = TABLE.find(path)
    route = None if place.resource is None else place.resource.by_method.get(method)
    return (None if route is None else route.name), place.id_text


@pytest.mark.parametrize(
    ("path", "name", "id_text"),
    [
        ("/v1/nodes", "nodes.list", ""),
        ("/v1/nodes/", "nodes.list", ""),
        ("/v1/node/abc", "node.read", "abc"),
        ("/v1/node/abc/", "node.read", "abc"),
        ("/v1/node/allocations", "node.read", "allocations"),
        ("/v1/node/abc/allocations", "node.allocations", "abc"),
        ("/v1/node/abc/allocations/", "node.allocations", "abc"),
        ("/v1/node//allocations", "node.allocations", ""),
        ("/v1/node/abc/drain", "node.read_drain", "abc"),
        ("/v1/allocations", "allocations.list", ""),
        ("/v1/allocation/abc", "allocation.read", "abc"),
        ("/v1/evaluations", "evaluations.list", ""),
        ("/v1/evaluation/abc", "evaluation.read", "abc"),
        ("/v1/evaluation/abc/allocations", "evaluation.allocations", "abc"),
        ("/v1/status/leader/", "status.leader", ""),
        ("/v1/node/pools", "node_pools.list", ""),
        ("/v1/node/pool/gpu", "node_pool.read", "gpu"),
        ("/v1/node/pool/gpu/nodes", "node_pool.nodes", "gpu"),
        ("/v1/deployment/allocations/abc", "deployment.read", "allocations/abc"),
        ("/v1/client/fs/ls/abc", "client.fs", "ls/abc"),
        ("/v1/client/allocation/abc/stats", "client.allocation_read", "abc/stats"),
    ],
)
def test_paths_lead_to_their_routes(path, name, id_text):
    assert leads_to(path) == (name, id_text)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v1/nodes//",
        "/v1/nodesx",
        "/v1/node/a/b",
        "/v1/node/a/drain/b",
        "/v1/node/a//",
        "/v1/node/a//drain",
        "/v1/node///",
        "v1/nodes",
    ],
)
def test_other_paths_lead_nowhere(path):
    place = TABLE.find(path)

    assert (place.resource, place.missing) == (None, "")


async def answer(call: Call) -> Reply:
    raise AssertionError("only the way to it is looked at")


LONG = RouteTable(
    (
        Route(READS, "/v1/job/*id", "read", answer, OPEN),
        Route(WRITES, "/v1/job/*id", "write", answer, OPEN),
        Route(READS, "/v1/job/*id/summary", "summary", answer, OPEN),
        Route(READS, "/v1/acl/token/:id", "token", answer, OPEN),
        Route(READS, "/v1/acl/token/self", "self", answer, OPEN),
    )
)


@pytest.mark.parametrize(
    ("path", "name", "id_text"),
    [
        ("/v1/job/web", "read", "web"),
        ("/v1/job/web/", "read", "web"),
        ("/v1/job/team/web", "read", "team/web"),
        ("/v1/job/team//web", "read", "team//web"),
        ("/v1/job/summary", "read", "summary"),
        ("/v1/job/web/other", "read", "web/other"),
        ("/v1/job/web/summary", "summary", "web"),
        ("/v1/job/web/summary/", "summary", "web"),
        ("/v1/job/team/web/summary", "summary", "team/web"),
        ("/v1/job/web/summary/summary", "summary", "web/summary"),
        ("/v1/acl/token/self", "self", ""),
        ("/v1/acl/token/self/", "self", ""),
        ("/v1/acl/token/selfish", "token", "selfish"),
    ],
)
def test_long_ids_end_where_a_known_tail_begins(path, name, id_text):
    place = LONG.find(path)

    assert place.resource is not None
    assert place.resource.by_method["GET"].name == name
    assert place.id_text == id_text


@pytest.mark.parametrize(
    "path", ["/v1/job", "/v1/job/", "/v1/job//", "/v1/job//summary"]
)
def test_a_path_without_its_long_id_lacks_just_that(path):
    place = LONG.find(path)

    assert (place.resource, place.missing) == (None, "missing job ID")


@pytest.mark.parametrize("path", ["/v1/node", "/v1/node/"])
def test_a_path_without_its_id_lacks_just_that(path):
    place = TABLE.find(path)

    assert (place.resource, place.missing) == (None, "missing node ID")


def test_every_route_has_a_name_of_its_own_and_is_found():
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        for method in route.methods:
            assert (
                leads_to(route.path.replace(":id", "x").replace("*id", "x/y"), method)[
                    0
                ]
                == route.name
            )


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_says_who_may_use_it(route):
    assert isinstance(route.need, Need)
    assert route.is_write is (route.methods is not READS)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_what_concerns_the_cluster_takes_an_operator(route):
    if route.path.startswith("/v1/operator/"):
        assert route.need in {
            MANAGEMENT,
            OPERATOR_READ,
            OPERATOR_SNAPSHOT_SAVE,
            OPERATOR_WRITE,
        }


def test_what_is_allowed_is_sorted():
    resource = TABLE.find("/v1/nodes").resource

    assert resource is not None
    assert resource.allowed == b"GET, HEAD, POST, PUT"
