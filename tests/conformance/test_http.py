"""Section 12.1: what holds for every request."""

import gzip
import json

import pytest

from tests.conformance.agents import HOUR_NS, Agent, registered
from tests.conformance.rows import case, rows
from tests.real_server import Answer, RealServer

NODE_HEADERS = {"x-nomad-index", "x-nomad-knownleader", "x-nomad-lastcontact"}
SHORT_ID = "node lookup failed: index error: UUID must be 36 characters"
WRITES = ("evaluate", "drain", "purge", "eligibility")


@pytest.fixture(scope="module")
def agent(server: RealServer) -> Agent:
    return registered(server)


def nomad_headers(answer: Answer) -> set[str]:
    return {name for name in answer.headers if name.startswith("x-nomad-")}


@rows("H1")
def test_reads_carry_three_headers(server, agent):
    for path in ("/v1/nodes", agent.path, f"{agent.path}/allocations"):
        answer = server.get(path)
        assert answer.status == 200
        assert nomad_headers(answer) == NODE_HEADERS
        assert answer.headers["x-nomad-knownleader"] == "true"
        assert answer.headers["x-nomad-lastcontact"] == "0"


@rows("H2")
def test_writes_carry_the_index_alone(agent):
    answers = [
        agent.register(),
        agent.heartbeat(),
        agent.emit("x"),
        agent.set_eligibility("ineligible"),
        agent.drain(None),
        agent.server.put(f"{agent.path}/evaluate"),
    ]

    assert [nomad_headers(answer) for answer in answers] == [{"x-nomad-index"}] * 6


@rows("H5", "H38")
def test_without_a_leader_a_stale_read_is_answered_at_once(leaderless_server):
    for query in ("stale", "stale=", "stale=true"):
        answer = leaderless_server.get(f"/v1/nodes?{query}")
        assert answer.status == 200
        assert answer.json == []
        assert answer.headers["x-nomad-knownleader"] == "false"
        assert answer.headers["x-nomad-lastcontact"] == "9223372036854"


@rows("H37")
@pytest.mark.parametrize("query", ["", "?stale=false", "?consistent"])
def test_without_a_leader_a_read_is_refused(leaderless_server, query):
    """V5, V27: 503, and when to come again."""
    answer = leaderless_server.get(f"/v1/nodes{query}")

    assert (answer.status, answer.text) == (503, "No cluster leader")
    assert int(answer.headers["retry-after"]) >= 1
    assert nomad_headers(answer) == set()
    assert answer.elapsed_s < 5


@rows("H39")
def test_without_a_leader_a_write_is_refused_and_not_done(leaderless_server):
    agent = Agent(leaderless_server)

    answers = [
        agent.register(),
        agent.heartbeat(),
        agent.emit("x"),
        agent.set_eligibility("ineligible"),
        agent.drain(None),
        agent.purge(),
        leaderless_server.put(f"{agent.path}/evaluate"),
    ]

    for answer in answers:
        assert (answer.status, answer.text) == (503, "No cluster leader")
        assert answer.headers["x-nodestate-outcome"] == "none"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.elapsed_s < 5


@rows("H6")
def test_json_has_no_charset(server, agent):
    assert server.get("/v1/nodes").headers["content-type"] == "application/json"
    assert server.get("/v1/x").headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "is_pretty"),
    [
        case("H7", "pretty", True),
        case("H7", "pretty=", True),
        case("H7", "pretty=1", True),
        case("H7", "pretty=true", True),
        case("H8", "pretty=0", False),
        case("H9", "pretty=false", False),
    ],
)
def test_pretty_is_four_spaces_and_a_final_newline(server, agent, query, is_pretty):
    """V14: false means false."""
    body = server.get(f"{agent.path}?{query}").text

    value = json.loads(body)
    pretty = json.dumps(value, indent=4, ensure_ascii=False) + "\n"
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert body == (pretty if is_pretty else compact)


@rows("H7")
def test_an_empty_list_is_pretty_too(server):
    assert server.get("/v1/nodes?pretty&prefix=00ff00ff00ff").body == b"[]\n"


@rows("H10")
@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/node/short", "/v1/nodes?wait=x"])
def test_a_configured_header_is_on_answers_and_errors(server, path):
    assert server.get(path).headers["foo"] == "bar"


@pytest.mark.parametrize(
    "path",
    [
        case("H11", "/v1/unknown"),
        case("H12", "/v1/unknown/endpoint"),
        case("H13", "/"),
        case("H22", "/v1/node/11111111-2222-3333-4444-555555555555/bogus"),
    ],
)
def test_an_unknown_route_is_named_and_has_no_extras(server, path):
    """V20."""
    answer = server.get(path)

    assert answer.status == 404
    assert path in answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "location" not in answer.headers
    assert "foo" not in answer.headers
    assert nomad_headers(answer) == set()


@rows("H14")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_list_takes_registrations(server, method):
    """V30: what is missing is the body."""
    answer = server.ask(method, "/v1/nodes")

    assert (answer.status, answer.text) == (400, "Request body is empty")


@pytest.mark.parametrize(
    ("method", "tail", "allowed"),
    [
        # V30: nodestate shows what a drain waits for.
        *(
            case("H15", "GET", f"/{word}", {"POST", "PUT"})
            for word in WRITES
            if word != "drain"
        ),
        *(
            case(
                "H15",
                "DELETE",
                f"/{word}",
                {"GET", "HEAD", "POST", "PUT"} if word == "drain" else {"POST", "PUT"},
            )
            for word in WRITES
        ),
        case("H16", "DELETE", "", {"GET", "HEAD"}),
        case("H16", "PUT", "", {"GET", "HEAD"}),
        case("H18", "OPTIONS", "", {"GET", "HEAD"}),
        case("H18", "PROPFIND", "", {"GET", "HEAD"}),
        case("H18", "BREW", "", {"GET", "HEAD"}),
        case("H18", "get", "", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(agent, method, tail, allowed):
    """V19."""
    answer = agent.server.ask(method, agent.path + tail)

    assert (answer.status, answer.text) == (405, "Invalid method")
    assert {*answer.headers["allow"].split(", ")} == allowed
    assert nomad_headers(answer) == set()


@rows("H16", "H18")
@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PATCH"])
def test_a_wrong_method_on_the_list_is_told_the_right_ones(server, method):
    answer = server.ask(method, "/v1/nodes")

    assert (answer.status, answer.text) == (405, "Invalid method")
    assert {*answer.headers["allow"].split(", ")} == {"GET", "HEAD", "POST", "PUT"}


@rows("H17")
def test_head_is_the_get_without_its_body(server, agent):
    """V19."""
    for path in ("/v1/nodes", agent.path, "/v1/node/short"):
        head, get = server.ask("HEAD", path), server.get(path)
        assert (head.status, head.body) == (get.status, b"")
        for headers in (head.headers, get.headers):
            headers.pop("date")
        assert head.headers == get.headers


@rows("H18")
def test_an_origin_changes_nothing(server):
    answer = server.get("/v1/nodes", {"Origin": "http://elsewhere.example"})

    assert answer.status == 200
    assert [name for name in answer.headers if name.startswith("access-control")] == []


@rows("H19")
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_put_and_post_do_the_same(server, method):
    agent = Agent(server)
    requests = [
        ("/v1/nodes", agent.body()),
        (f"{agent.path}/heartbeat", {"SecretID": agent.secret}),
        (f"{agent.path}/eligibility", {"Eligibility": "ineligible"}),
        (f"{agent.path}/drain", {"DrainSpec": None, "MarkEligible": True}),
        (f"{agent.path}/evaluate", None),
        (f"{agent.path}/purge", None),
    ]

    answers = [server.ask(method, path, body) for path, body in requests]

    assert [answer.status for answer in answers] == [200] * 6


@pytest.mark.parametrize(
    "path", [case("H20", "/v1/nodes"), case("H21", "/v1/node/{id}")]
)
def test_one_trailing_slash_is_forgiven(agent, path):
    """V20."""
    path = path.format(id=agent.id)

    with_slash, without = agent.server.get(f"{path}/"), agent.server.get(path)

    assert with_slash.status == 200
    assert (with_slash.body, with_slash.index) == (without.body, without.index)


@rows("H23")
@pytest.mark.parametrize("path", ["/v1/node/", "/v1/node", "/v1/node//drain"])
def test_a_missing_id_is_named(server, path):
    """V20."""
    for method in ("GET", "PUT"):
        if (method, path) == ("GET", "/v1/node//drain"):
            continue
        answer = server.ask(method, path, {"DrainSpec": None})
        assert (answer.status, answer.text) == (400, "missing node ID")


@rows("H24")
@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/node/short"])
def test_gzip_is_used_when_asked_for(server, agent, path):
    answer = server.get(path, {"Accept-Encoding": "gzip"})
    plain = server.get(path)

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(answer.body) == plain.body
    assert answer.status == plain.status


@rows("H25")
@pytest.mark.parametrize("value", ["gzip;q=0", "*", "deflate", ""])
def test_gzip_is_not_used_otherwise(server, value):
    answer = server.get("/v1/nodes", {"Accept-Encoding": value})

    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"
    assert isinstance(answer.json, list)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        case("H26", "wait=60foo&index=1000", "Invalid wait time"),
        case("H27", "wait=60s&index=foo", "Invalid index"),
        case("H28", "wait=bad&index=bad", "Invalid wait time"),
        case("H29", "index=-1", "Invalid index"),
        case("H29", "index=%2B1", "Invalid index"),
        case("H29", "index=1.5", "Invalid index"),
        case("H29", "index=0x10", "Invalid index"),
        case("H29", "index=1e3", "Invalid index"),
        case("H29", "index=18446744073709551616", "Invalid index"),
        case("H30", "wait=10", "Invalid wait time"),
        case("H30", "wait=1d", "Invalid wait time"),
        case("H33", "stale=maybe", None),
        case("H33", "consistent=maybe", None),
        case("H35", "region=foo", "No path to region"),
    ],
)
def test_a_bad_parameter_is_refused_on_every_read(server, agent, query, text):
    """V3, V14."""
    for path in ("/v1/nodes", agent.path, f"{agent.path}/allocations"):
        answer = server.get(f"{path}?{query}")
        assert answer.status == 400
        assert answer.text == text if text else answer.text
        assert nomad_headers(answer) == set()


@pytest.mark.parametrize(
    "query",
    [
        case("H31", "wait="),
        case("H31", "index="),
        case("H31", "wait=0"),
        case("H31", "wait=-5s"),
        case("H31", "index=0&wait=10s"),
        case("H32", "stale"),
        case("H32", "consistent"),
        case("H33", "stale=false"),
        case("H34", "region=global"),
        case("H34", "region="),
        case("H36", "namespace=foo"),
    ],
)
def test_a_good_parameter_is_answered_at_once(server, agent, query):
    answer = server.get(f"{agent.path}?{query}")

    assert (answer.status, answer.body) == (200, server.get(agent.path).body)
    assert answer.elapsed_s < 1


@rows("H35")
def test_a_write_for_another_region_is_refused(agent):
    path = f"{agent.path}/eligibility?region=foo"

    answer = agent.server.put(path, {"Eligibility": "ineligible"})

    assert (answer.status, answer.text) == (400, "No path to region")


@pytest.mark.parametrize(
    ("tail", "body"),
    [
        *(case("H44", tail, "") for tail in ("drain", "eligibility")),
        *(case("H45", tail, "{") for tail in ("drain", "eligibility")),
        case("H45", "eligibility", '{"Eligibility":'),
        case("H45", "eligibility", '{"Eligibility":"eligible"'),
        case("H48", "drain", '{"DrainSpec":{"Deadline":"1h"}}'),
        case("H48", "drain", '{"DrainSpec":{"Deadline":1.5}}'),
        case("H48", "drain", '{"DrainSpec":{"Deadline":1e9}}'),
        case("H48", "drain", '{"DrainSpec":{"Deadline":9223372036854775808}}'),
        case("H48", "drain", '{"MarkEligible":1}'),
        case("H48", "drain", "[]"),
        case("H48", "drain", "garbage"),
        case("H48", "drain", "\ufeff{}"),
        case("H48", "drain", '{"DrainSpec":null,}'),
        case("H48", "drain", "{'DrainSpec':null}"),
        case("H48", "drain", '{"DrainSpec":{"Deadline":NaN}}'),
        case("H48", "eligibility", "5"),
        case("H48", "eligibility", '{"Eligibility":5}'),
    ],
)
def test_a_malformed_body_changes_nothing(agent, tail, body):
    """V21."""
    before = agent.read()

    answer = agent.server.put(f"{agent.path}/{tail}", body)

    assert answer.status == 400
    assert answer.text == "Request body is empty" if not body else len(answer.text) > 10
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert nomad_headers(answer) == set()
    assert agent.read() == before


@rows("H44")
def test_no_body_at_all_is_said_to_be_missing(agent):
    answer = agent.server.put(f"{agent.path}/drain")

    assert (answer.status, answer.text) == (400, "Request body is empty")


@pytest.mark.parametrize(
    "body",
    [
        case("H46", '{"Eligibility":"ineligible"} trailing }'),
        case("H46", '{"Eligibility":"ineligible"}{"Eligibility":"eligible"}'),
        case("H47", '{"ELIGIBILITY":"ineligible","Extra":[1,{"a":2}]}'),
        case("H47", '{"Eligibility":"eligible","eligibility":"ineligible"}'),
        case("H47", ' \n\t{"eligibility" : "ineligible"}'),
    ],
)
def test_the_body_is_read_as_leniently_as_nomad_reads_it(server, body):
    agent = registered(server)

    answer = server.put(f"{agent.path}/eligibility", body)

    assert answer.status == 200
    assert agent.read()["SchedulingEligibility"] == "ineligible"


@rows("H47")
def test_keys_of_a_drain_may_be_in_any_case(server):
    agent = registered(server)

    server.put(f"{agent.path}/drain", {"drainspec": {"deadline": HOUR_NS}})

    assert agent.settled()["LastDrain"] is not None


@rows("H49")
def test_names_are_written_as_they_are(server):
    agent = registered(server, Name="<>&é/\u2028")

    body = server.get(agent.path).text

    assert "<>&é/" in body
    assert "\\u2028" in body
