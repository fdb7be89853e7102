"""Section 12.2: the list of nodes."""

import uuid
from urllib.parse import quote

import pytest

from tests.conformance.agents import HOUR_NS, Agent, registered
from tests.conformance.rows import case, rows
from tests.real_server import RealServer


@pytest.fixture
def shared() -> str:
    """Return eight hex digits that no other test's nodes begin with."""
    return uuid.uuid4().hex[:8]


def id_under(prefix: str) -> str:
    """Return a new id that starts with up to eight given digits."""
    return prefix + str(uuid.uuid4())[len(prefix) :]


def ids(server: RealServer, prefix: str, parameters: str = "") -> list[str]:
    answer = server.get(f"/v1/nodes?prefix={prefix}{parameters}")
    assert answer.status == 200, answer.text
    return [stub["ID"] for stub in answer.json]


def refiltered(server: RealServer, prefix: str, expression: str) -> list[str]:
    return ids(server, prefix, f"&filter={quote(expression)}")


@rows("L1", "R7", "A4")
def test_a_fresh_cluster_is_empty_and_never_at_index_0(empty_server):
    """V10."""
    nodes = empty_server.get("/v1/nodes")
    node = empty_server.get(f"/v1/node/{uuid.uuid4()}")
    allocations = empty_server.get(f"/v1/node/{uuid.uuid4()}/allocations")

    assert (nodes.status, nodes.body, nodes.index >= 1) == (200, b"[]", True)
    assert (node.status, node.text, node.index >= 1) == (404, "node not found", True)
    assert (allocations.status, allocations.body, allocations.index) == (200, b"[]", 1)


@rows("L2", "L12")
def test_the_list_has_every_node_by_the_bytes_of_its_id(empty_server):
    for node_id in ("ffffffff", "0000000a", "99999999"):
        registered(empty_server, id_under(node_id))
    # Letters of either case are one digit: this one is between the second and third.
    registered(empty_server, id_under("AAAAAAAA"))

    listed = [node["ID"][:8] for node in empty_server.get("/v1/nodes").json]

    assert listed == ["0000000a", "99999999", "AAAAAAAA", "ffffffff"]


@rows("L3")
def test_a_prefix_finds_exactly_the_nodes_under_it(server, shared):
    under = sorted(registered(server, id_under(shared)).id for _ in range(2))
    for _ in range(3):
        registered(server)

    assert ids(server, shared) == under


@rows("L4", "L11")
def test_a_prefix_list_has_the_index_of_the_table(server, shared):
    agent = registered(server, id_under(shared))
    index = registered(server).read()["ModifyIndex"]

    for prefix in (shared[:4], shared, "00ff00ff00ff00"):
        assert server.get(f"/v1/nodes?prefix={prefix}").index == index
    assert agent.id in ids(server, shared[:4])
    assert ids(server, "00ff00ff00ff00") == []


@rows("L5")
def test_a_longer_prefix_finds_fewer(server, shared):
    first = registered(server, id_under(f"{shared}-11")).id
    second = registered(server, id_under(f"{shared}-22")).id

    assert ids(server, shared) == [first, second]
    assert ids(server, f"{shared}-11") == [first]


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        case("L6", "123", "Input (without hyphens) must be even length"),
        case("L6", "1234567-", "Input (without hyphens) must be even length"),
        case("L7", "zz", "Invalid UUID: encoding/hex: invalid byte: U+007A 'z'"),
        case("L7", "%C3%A9", "Invalid UUID: encoding/hex: invalid byte: U+00C3 'Ã'"),
        case("L8", "1" * 37, "Invalid UUID length. UUID have 36 characters; got 37"),
        case("L9", "------", 'UUID should have maximum of 4 "-"; got 6'),
    ],
)
def test_a_malformed_prefix_is_refused(server, prefix, text):
    """V2."""
    answer = server.get(f"/v1/nodes?prefix={prefix}")

    assert answer.status == 400
    assert answer.text == f"node lookup failed: index error: {text}"


@rows("L10")
def test_hyphens_and_case_do_not_matter(server, shared):
    node_id = registered(server, id_under(shared)).id
    digits = node_id.replace("-", "")

    for prefix in (
        shared.upper(),
        f"{shared[:4]}-{shared[4:]}",
        f"{shared}-",
        node_id,
        digits,
        node_id.upper(),
        f"{digits[:10]}-{digits[10:14]}",
    ):
        assert ids(server, prefix) == [node_id]


@pytest.mark.parametrize("prefix", [case("L10", ""), case("L10", "----")])
def test_an_empty_prefix_is_every_node(server, prefix):
    node_id = registered(server).id

    assert node_id in ids(server, prefix)


@pytest.mark.parametrize(
    ("http_addr", "address"),
    [
        case("L13", "127.0.0.1:4646", "127.0.0.1"),
        case("L13", "[::1]:4646", "::1"),
        case("L13", "noport", ""),
        case("L13", "", ""),
    ],
)
def test_the_address_is_the_host_of_the_http_address(server, http_addr, address):
    assert registered(server, HTTPAddr=http_addr).stub()["Address"] == address


@rows("L14", "L16")
def test_a_stub_shows_version_and_drivers(server):
    agent = registered(
        server,
        Attributes={"nomad.version": "1.2.3"},
        Drivers={"docker": {"Detected": True, "Healthy": True}},
    )

    stub = agent.stub()

    assert stub["Version"] == "1.2.3"
    assert stub["Drivers"]["docker"] == {
        "Attributes": None,
        "Detected": True,
        "HealthDescription": "",
        "Healthy": True,
        "UpdateTime": None,
    }


@rows("L15")
def test_a_draining_node_shows_that_it_drains(server):
    """An empty node has drained as soon as it began; its own waiter sees the start."""
    agent = registered(server)

    index = agent.drain({"Deadline": HOUR_NS}).index

    shown = [event["Message"] for event in agent.settled()["Events"]]
    assert shown[-2:] == ["Node drain strategy set", "Node drain complete"]
    assert agent.stub()["Drain"] is False
    assert agent.stub()["ModifyIndex"] > index


@pytest.fixture
def six(server: RealServer, shared: str) -> list[Agent]:
    """Register six nodes under one prefix, half of them in another state each way."""
    return [
        registered(
            server,
            id_under(f"{shared}-{number:02}"),
            Datacenter="dc3" if number % 2 else "dc1",
            Status="down" if number < 3 else "ready",
            Meta={"foo": "bar"} if number == 4 else None,
        )
        for number in range(6)
    ]


@rows("L17")
def test_pages_follow_their_tokens(server, shared, six):
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        path = f"/v1/nodes?prefix={shared}&per_page=2&next_token={token}"
        answer = server.get(path)
        pages.append([stub["ID"] for stub in answer.json])
        token = answer.headers.get("x-nomad-nexttoken", "")

    every = [agent.id for agent in six]
    assert pages == [every[0:2], every[2:4], every[4:6]]


@rows("L18")
def test_a_filter_looks_at_the_record(server, shared, six):
    found = refiltered(server, shared, 'Datacenter == "dc3"')

    assert found == [six[number].id for number in (1, 3, 5)]


@rows("L19")
def test_a_page_is_full_of_matches(server, shared, six):
    expression = quote('Status != "ready"')

    answer = server.get(
        f"/v1/nodes?prefix={shared}&filter={expression}&per_page=2&next_token="
    )

    assert [stub["ID"] for stub in answer.json] == [six[0].id, six[1].id]
    assert answer.headers["x-nomad-nexttoken"] == six[2].id


@rows("L20")
def test_a_filter_looks_into_maps(server, shared, six):
    assert refiltered(server, shared, 'Meta["foo"] == "bar"') == [six[4].id]


@rows("L18")
@pytest.mark.parametrize("expression", ["Bogus ==", "Bogus == 1", "("])
def test_a_filter_that_cannot_be_read_is_refused(server, expression):
    answer = server.get(f"/v1/nodes?filter={quote(expression)}")

    assert answer.status == 400
    assert "filter" in answer.text


@rows("L17")
@pytest.mark.parametrize("value", ["x", "-1", "1.5", "99999999999"])
def test_a_page_size_that_is_none_is_refused(server, value):
    answer = server.get(f"/v1/nodes?per_page={value}")

    assert answer.status == 400
    assert "per_page" in answer.text


@rows("L21", "L22")
@pytest.mark.parametrize("word", ["1", "t", "T", "true", "True", "TRUE"])
def test_stubs_show_more_when_asked(server, word):
    agent = registered(server, Attributes={"os.name": "debian", "kernel.name": "linux"})

    assert agent.stub(f"&os={word}")["Attributes"] == {"os.name": "debian"}
    stub = agent.stub(f"&resources={word}")
    assert {"NodeResources", "ReservedResources"} <= stub.keys()
    assert "Attributes" not in stub


@rows("L21", "L22")
@pytest.mark.parametrize("word", ["0", "f", "F", "false", "False", "FALSE", ""])
def test_stubs_are_short_otherwise(server, word):
    stub = registered(server).stub(f"&os={word}&resources={word}")

    assert not {"Attributes", "NodeResources", "ReservedResources"} & stub.keys()


@rows("L21", "L22")
@pytest.mark.parametrize("name", ["os", "resources"])
def test_a_flag_that_is_no_boolean_is_refused(server, name):
    answer = server.get(f"/v1/nodes?{name}=maybe")

    assert answer.status == 400
    assert name in answer.text


@rows("L21")
def test_an_unknown_system_has_an_empty_name(server):
    assert registered(server).stub("&os=true")["Attributes"] == {"os.name": ""}
