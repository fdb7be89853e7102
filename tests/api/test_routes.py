"""The table of routes, and where paths lead."""

import pytest

from nodestate.api.routes import (
    MANAGEMENT,
    NODE_READ,
    NODE_SECRET,
    NODE_WRITE,
    OPEN,
    OPERATOR_SNAPSHOT_SAVE,
    READS,
    ROUTES,
    RouteTable,
)

TABLE = RouteTable()


def leads_to(path: str, method: str = "GET") -> tuple[str | None, str]:
    place = TABLE.find(path)
    route = None if place.resource is None else place.resource.by_method.get(method)
    return (None if route is None else route.name), place.node_text


@pytest.mark.parametrize(
    ("path", "name", "node_text"),
    [
        ("/v1/nodes", "nodes.list", ""),
        ("/v1/nodes/", "nodes.list", ""),
        ("/v1/node/abc", "node.read", "abc"),
        ("/v1/node/abc/", "node.read", "abc"),
        ("/v1/node/allocations", "node.read", "allocations"),
        ("/v1/node/abc/allocations", "node.allocations", "abc"),
        ("/v1/node/abc/allocations/", "node.allocations", "abc"),
        ("/v1/node//allocations", "node.allocations", ""),
        ("/v1/status/leader/", "status.leader", ""),
    ],
)
def test_paths_lead_to_their_routes(path, name, node_text):
    assert leads_to(path) == (name, node_text)


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

    assert (place.resource, place.lacks_id) == (None, False)


@pytest.mark.parametrize("path", ["/v1/node", "/v1/node/"])
def test_a_path_without_its_id_lacks_just_that(path):
    assert TABLE.find(path).lacks_id


def test_every_route_has_a_name_of_its_own_and_is_found():
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        for method in route.methods:
            assert leads_to(route.path.replace(":id", "x"), method)[0] == route.name


def test_every_route_says_who_may_use_it():
    for route in ROUTES:
        assert route.is_write is (route.methods is not READS)
        writing = {NODE_WRITE, NODE_SECRET, MANAGEMENT}
        reading = {NODE_READ, OPEN, MANAGEMENT, OPERATOR_SNAPSHOT_SAVE}
        assert route.permission in (writing if route.is_write else reading)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_what_concerns_the_cluster_takes_an_operator(route):
    if route.path.startswith("/v1/operator/"):
        assert route.permission in {MANAGEMENT, OPERATOR_SNAPSHOT_SAVE}


def test_what_is_allowed_is_sorted():
    resource = TABLE.find("/v1/nodes").resource

    assert resource is not None
    assert resource.allowed == b"GET, HEAD, POST, PUT"
