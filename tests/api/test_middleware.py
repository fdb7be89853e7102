"""What holds for every request: the rows H of the checklist, as changed on purpose."""

import asyncio
import gzip
import json

import pytest

from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    SECRET,
    UNKNOWN_ID,
    Api,
    node_body,
    read_answer,
    request_bytes,
)
from tests.conformance.rows import case, rows

NODE_HEADERS = {"x-nomad-index", "x-nomad-knownleader", "x-nomad-lastcontact"}
WRITES = ("evaluate", "drain", "purge", "eligibility", "heartbeat", "events")
READS = ("/v1/nodes", NODE_PATH, f"{NODE_PATH}/allocations")


@pytest.mark.parametrize("path", [case("H1", path) for path in READS])
async def test_reads_carry_three_headers(api: Api, path: str):
    await api.register()

    answer = await api.get(path)

    assert answer.status == 200
    assert answer.nomad_headers() == NODE_HEADERS
    assert answer.headers["x-nomad-knownleader"] == "true"
    assert answer.headers["x-nomad-lastcontact"] == "0"


@rows("H2")
async def test_writes_carry_the_index_alone(api: Api):
    await api.register()
    secret = {"SecretID": SECRET}

    answers = [
        await api.register(),
        await api.put(f"{NODE_PATH}/eligibility", {"Eligibility": "ineligible"}),
        await api.put(f"{NODE_PATH}/drain", {"DrainSpec": None}),
        await api.put(f"{NODE_PATH}/evaluate"),
        await api.put(f"{NODE_PATH}/heartbeat", secret),
        await api.put(f"{NODE_PATH}/events", {**secret, "NodeEvents": [{}]}),
        await api.put(f"{NODE_PATH}/purge"),
    ]

    assert [answer.status for answer in answers] == [200] * 7
    assert [answer.nomad_headers() for answer in answers] == [{"x-nomad-index"}] * 7
    assert all(answer.index == answer.json["Index"] for answer in answers)


@pytest.mark.parametrize(
    ("contact_s", "shown"),
    [
        case("H4", 0.123456, "123"),
        case("H4", 0.0, "0"),
        case("H38", None, "9223372036854"),
    ],
)
async def test_the_last_contact_is_in_whole_milliseconds(api: Api, contact_s, shown):
    api.leadership.lose()
    api.leadership.last_contact_s = contact_s

    answer = await api.get("/v1/nodes?stale")

    assert answer.headers["x-nomad-lastcontact"] == shown


@rows("H5", "H38")
async def test_an_unknown_leader_is_said_to_be(api: Api):
    api.leadership.lose(None)

    answer = await api.get("/v1/nodes?stale")

    assert (answer.status, answer.body) == (200, b"[]")
    assert answer.headers["x-nomad-knownleader"] == "false"


@rows("H6")
async def test_types_are_exact(api: Api):
    assert (await api.get("/v1/nodes")).headers["content-type"] == "application/json"
    text = (await api.get("/v1/x")).headers["content-type"]
    assert text == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "is_pretty"),
    [
        case("H7", "pretty", True),
        case("H7", "pretty=1", True),
        case("H7", "pretty=", True),
        case("H8", "pretty=0", False),
        case("H9", "pretty=false", False),
    ],
)
@pytest.mark.parametrize("path", ["/v1/nodes", NODE_PATH, "/v1/status/peers"])
async def test_pretty_is_four_spaces_and_a_final_newline(
    api: Api, path, query, is_pretty
):
    await api.register()

    body = (await api.get(f"{path}?{query}")).text

    pretty = json.dumps(json.loads(body), indent=4, ensure_ascii=False) + "\n"
    compact = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False)
    assert body == (pretty if is_pretty else compact)


@rows("H7")
async def test_an_empty_list_is_pretty_too(api: Api):
    assert (await api.get("/v1/nodes?pretty")).body == b"[]\n"


@pytest.mark.parametrize(
    "path",
    [case("H10", path) for path in ("/v1/nodes", "/v1/node/x", "/v1/nodes?wait=x")],
)
async def test_configured_headers_are_on_every_answer(make_api, path):
    api = await make_api(http_response_headers={"foo": "bar"})

    assert (await api.get(path)).headers["foo"] == "bar"
    assert (await api.ask("DELETE", "/v1/nodes")).headers["foo"] == "bar"


@pytest.mark.parametrize(
    "path",
    [
        case("H11", "/v1/unknown"),
        case("H12", "/v1/unknown/endpoint"),
        case("H13", "/"),
        case("H22", f"{NODE_PATH}/bogus"),
        case("H22", f"{NODE_PATH}/drain/x"),
        case("V20", "/v1/nodes//"),
        case("V20", "//v1/nodes"),
        case("V20", "/v1"),
    ],
)
async def test_an_unknown_route_is_named_and_has_no_extras(make_api, path):
    api = await make_api(http_response_headers={"foo": "bar"})

    answer = await api.get(path)

    assert (answer.status, answer.text) == (404, f"no such path: {path}")
    assert "foo" not in answer.headers
    assert answer.nomad_headers() == set()


@rows("H14")
async def test_a_registration_needs_a_body(api: Api):
    for method in ("PUT", "POST"):
        answer = await api.ask(method, "/v1/nodes")
        assert (answer.status, answer.text) == (400, "Request body is empty")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *(
            case("H15", "GET", f"{NODE_PATH}/{word}", "POST, PUT")
            for word in WRITES
            if word != "drain"  # of which nodestate shows what it waits for
        ),
        case("H16", "DELETE", NODE_PATH, "GET, HEAD"),
        case("H16", "PUT", NODE_PATH, "GET, HEAD"),
        case("H18", "OPTIONS", "/v1/nodes", "GET, HEAD, POST, PUT"),
        case("H18", "PATCH", "/v1/nodes", "GET, HEAD, POST, PUT"),
        case("H18", "BREW", "/v1/nodes?x=y", "GET, HEAD, POST, PUT"),
        case("H18", "get", NODE_PATH, "GET, HEAD"),
        case("V19", "POST", "/v1/status/leader", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(api: Api, method, path, allowed):
    answer = await api.ask(method, path, "{}")

    assert (answer.status, answer.text) == (405, "Invalid method")
    assert answer.headers["allow"] == allowed
    assert answer.nomad_headers() == set()


@pytest.mark.parametrize("path", [case("H17", path) for path in (*READS, "/v1/node/x")])
async def test_head_is_the_get_without_its_body(api: Api, path):
    await api.register()

    head, get = await api.ask("HEAD", path), await api.get(path)

    assert (head.status, head.headers) == (get.status, get.headers)
    assert int(head.headers["content-length"]) == len(get.body) > 0


@rows("H17")
async def test_a_head_leaves_nothing_behind_on_the_connection(api: Api):
    async with api.connected() as (reader, writer):
        writer.write(
            request_bytes("HEAD", "/v1/nodes") + request_bytes("GET", "/v1/nodes")
        )
        await read_answer(reader, is_head=True)
        assert (await read_answer(reader)).body == b"[]"


@rows("H18")
async def test_an_origin_changes_nothing(api: Api):
    answer = await api.get("/v1/nodes", {"Origin": "http://elsewhere.example"})

    assert answer.status == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "path",
    [
        case("H20", "/v1/nodes"),
        case("H21", NODE_PATH),
        case("V20", f"{NODE_PATH}/allocations"),
    ],
)
async def test_one_trailing_slash_is_forgiven(api: Api, path):
    await api.register()

    with_slash, without = await api.get(f"{path}/"), await api.get(path)

    assert (with_slash.status, with_slash.body) == (200, without.body)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        case("H23", "GET", "/v1/node/"),
        case("H23", "PUT", "/v1/node"),
        case("H23", "PUT", "/v1/node//drain"),
        case("H23", "PUT", "/v1/node//eligibility"),
        case("H23", "PUT", "/v1/node//purge"),
        case("H23", "PUT", "/v1/node//evaluate"),
        case("H23", "PUT", "/v1/node//heartbeat"),
        case("H23", "GET", "/v1/node//allocations"),
    ],
)
async def test_a_missing_id_is_named(api: Api, method, path):
    answer = await api.ask(method, path, "{}")

    assert (answer.status, answer.text) == (400, "missing node ID")


@pytest.mark.parametrize("path", [case("H24", path) for path in ("/v1/nodes", "/v1/x")])
async def test_gzip_is_used_when_it_is_named(api: Api, path):
    answer = await api.get(path, {"Accept-Encoding": "deflate, gzip;q=0.5"})
    plain = await api.get(path)

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(answer.body) == plain.body


@pytest.mark.parametrize(
    "value",
    [case("H25", value) for value in ("gzip;q=0", "gzip; q=0.0", "*", "br", "x")],
)
async def test_gzip_is_not_used_otherwise(api: Api, value):
    answer = await api.get("/v1/nodes", {"Accept-Encoding": value})

    assert "content-encoding" not in answer.headers
    assert answer.body == b"[]"


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
        case("H29", "index=18446744073709551616", "Invalid index"),
        case("H30", "wait=10", "Invalid wait time"),
        case("H30", "wait=1d", "Invalid wait time"),
        case("H35", "region=foo", "No path to region"),
    ],
)
@pytest.mark.parametrize("path", READS)
async def test_a_bad_parameter_is_refused_on_every_read(api: Api, path, query, text):
    answer = await api.get(f"{path}?{query}")

    assert (answer.status, answer.text) == (400, text)
    assert answer.nomad_headers() == set()


@pytest.mark.parametrize(
    "name", [case("V14", "stale"), case("V14", "consistent"), case("V14", "pretty")]
)
async def test_a_flag_that_is_no_boolean_is_refused(api: Api, name):
    answer = await api.get(f"/v1/nodes?{name}=maybe")

    assert answer.status == 400
    assert (
        answer.text == f"Expect `true` or `false` for `{name}` query string parameter"
    )


@pytest.mark.parametrize(
    "query",
    [
        case("H31", "wait="),
        case("H31", "index="),
        case("H31", "wait=0"),
        case("H31", "wait=-5s"),
        case("H32", "stale"),
        case("H32", "consistent"),
        case("H33", "stale=false"),
        case("H34", "region=global"),
        case("H34", "region="),
        case("H36", "namespace=foo"),
        case("H29", "index=000"),
        case("Q1", "prefix=%zz"),
        case("Q2", "index=0&index=foo"),
    ],
)
async def test_a_good_parameter_is_answered_at_once(api: Api, query):
    assert (await api.get(f"/v1/nodes?{query}")).status == 200


@rows("H35")
async def test_a_write_for_another_region_is_refused(api: Api):
    await api.register()

    answer = await api.put(
        f"{NODE_PATH}/eligibility?region=foo", {"Eligibility": "ineligible"}
    )

    assert (answer.status, answer.text) == (400, "No path to region")
    assert (await api.read())["SchedulingEligibility"] == "eligible"


@pytest.mark.parametrize(
    "query", [case("H37", ""), case("H37", "?stale=false"), case("H37", "?consistent")]
)
async def test_without_a_leader_a_read_is_refused_in_the_end(api: Api, query):
    api.leadership.lose(None)
    reading = asyncio.create_task(api.get(f"/v1/nodes{query}"))
    if query != "?consistent":
        await api.until(lambda: api.clock.timer_count() > 0)
    await api.pass_time(reading, 3.9)
    assert reading.done() is (query == "?consistent")
    await api.pass_time(reading, 0.3)

    answer = await reading

    assert (answer.status, answer.text) == (503, "No cluster leader")
    assert answer.headers["retry-after"] == "1"
    assert answer.nomad_headers() == set()
    assert "x-nodestate-outcome" not in answer.headers


@rows("V27")
async def test_a_read_waits_for_a_leader_that_comes(api: Api):
    api.leadership.lose(None)
    reading = asyncio.create_task(api.get("/v1/nodes"))
    await api.until(lambda: api.clock.timer_count() > 0)

    api.leadership.gain()
    await api.pass_time(reading, 1)

    assert (await reading).status == 200


@pytest.mark.parametrize(
    ("contact_s", "is_caught_up", "status"),
    [
        case("V27", 4.9, True, 200),
        case("V27", 5.1, True, 503),
        case("V27", 0.0, False, 503),
    ],
)
async def test_a_read_is_as_old_as_the_setting_allows(
    api: Api, contact_s, is_caught_up, status
):
    api.leadership.lose(None)
    api.leadership.last_contact_s = contact_s
    api.replica.caught_up = is_caught_up
    reading = asyncio.create_task(api.get("/v1/nodes"))
    if status == 503:
        await api.until(lambda: api.clock.timer_count() > 0)
        await api.pass_time(reading, 5)

    assert (await reading).status == status


@pytest.mark.parametrize("tail", [case("H39", tail) for tail in WRITES])
async def test_without_a_leader_a_write_is_refused_and_not_done(api: Api, tail):
    await api.register()
    before = await api.get(f"{NODE_PATH}?stale")
    api.leadership.lose(None)
    body = {
        "SecretID": SECRET,
        "NodeEvents": [{}],
        "Eligibility": "ineligible",
        "DrainSpec": {},
    }

    writing = asyncio.create_task(api.put(f"{NODE_PATH}/{tail}", body))
    await api.until(lambda: api.clock.timer_count() > 0)
    await api.pass_time(writing, 5)

    answer = await writing
    assert (answer.status, answer.text) == (503, "No cluster leader")
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert answer.headers["retry-after"] == "1"
    assert (await api.get(f"{NODE_PATH}?stale")).body == before.body


@pytest.mark.parametrize("tail", [case("H44", "drain"), case("H44", "eligibility")])
@pytest.mark.parametrize("body", [None, "", " \n"])
async def test_an_empty_body_is_said_to_be_empty(api: Api, tail, body):
    answer = await api.put(f"{NODE_PATH}/{tail}", body)

    assert (answer.status, answer.text) == (400, "Request body is empty")
    assert answer.headers["x-nodestate-outcome"] == "none"


@pytest.mark.parametrize(
    ("tail", "body"),
    [
        case("H45", "drain", "{"),
        case("H45", "eligibility", '{"Eligibility":'),
        case("H48", "drain", '{"DrainSpec":{"Deadline":"1h"}}'),
        case("H48", "drain", '{"DrainSpec":{"Deadline":1.5}}'),
        case("H48", "drain", '{"DrainSpec":{"Deadline":1e9}}'),
        case("H48", "drain", "[]"),
        case("H48", "eligibility", "5"),
        case("H48", "eligibility", '{"Eligibility":5}'),
        case("H48", "drain", "[" * 100_000),
        case("H48", "drain", '{"DrainSpec":{"Deadline":' + "9" * 5000 + "}}"),
    ],
)
async def test_a_malformed_body_changes_nothing(api: Api, tail, body):
    await api.register()
    before = await api.get(NODE_PATH)

    answer = await api.put(f"{NODE_PATH}/{tail}", body)

    assert answer.status == 400
    assert answer.text.startswith("request body")
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert (await api.get(NODE_PATH)).body == before.body


@pytest.mark.parametrize(
    "body",
    [
        case("H46", '{"Eligibility":"ineligible"} trailing }'),
        case("H47", '{"ELIGIBILITY":"ineligible","Extra":[1]}'),
        case("H47", '{"Eligibility":"eligible","eligibility":"ineligible"}'),
    ],
)
async def test_a_body_is_read_as_leniently_as_nomad_reads_it(api: Api, body):
    await api.register()

    assert (await api.put(f"{NODE_PATH}/eligibility", body)).status == 200
    assert (await api.read())["SchedulingEligibility"] == "ineligible"


@rows("H49")
async def test_names_are_written_as_they_are(api: Api):
    await api.register(Name="<>&é/\u2028")

    body = (await api.get(NODE_PATH)).text

    assert '"<>&é/\\u2028"' in body


async def test_the_order_in_which_a_request_is_judged(api: Api):
    """Spec 1.5: a broken body before a bad id, a bad word before an unknown node."""
    bad_id = await api.put("/v1/node/short/eligibility", "{")
    bad_word = await api.put(f"/v1/node/{UNKNOWN_ID}/eligibility", {"Eligibility": "x"})
    event = {"NodeEvent": {}, "Eligibility": "x"}
    with_event = await api.put(f"/v1/node/{UNKNOWN_ID}/eligibility", event)
    bad_index = await api.get("/v1/node/short?index=x")

    assert bad_id.text.startswith("request body")
    assert bad_word.text == 'invalid scheduling eligibility "x"'
    assert with_event.text == "node event must not be set"
    assert bad_index.text == "Invalid index"


async def test_a_defect_is_logged_and_shows_nothing_of_itself(api: Api):
    await api.register()
    api.proposer.errors.append(ZeroDivisionError("inside"))

    answer = await api.put(f"{NODE_PATH}/evaluate", "secret body")

    assert (answer.status, answer.text) == (500, "internal error")
    assert answer.headers["x-nodestate-outcome"] == "unknown"
    (line,) = [line for line in api.logs if line["level"] == "error"]
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert "secret body" not in str(line)


async def test_a_request_id_comes_back_and_is_logged(make_api):
    api = await make_api(log_level="debug")

    answer = await api.get("/v1/nodes", {"X-Request-Id": "abc-1"})

    assert answer.headers["x-request-id"] == "abc-1"
    assert api.logs[-1]["request_id"] == "abc-1"
    assert "x-request-id" not in (await api.get("/v1/nodes")).headers
    assert api.logs[-1]["request_id"]


async def test_requests_are_measured_by_route_and_status(api: Api):
    await api.get("/v1/nodes")
    await api.get(f"/v1/node/{UNKNOWN_ID}")
    await api.get("/v1/bogus")

    text = (await api.get("/v1/metrics?format=prometheus")).text

    assert 'nodestate_api_answers_total{status="404"} 2' in text
    assert 'nodestate_api_request_seconds_count{route="nodes.list"} 1' in text
    assert 'nodestate_api_request_seconds_count{route="none"} 1' in text
    assert NODE_ID not in text


async def test_whole_addresses_and_escapes_lead_to_the_same_place(api: Api):
    await api.register()
    body = (await api.get(NODE_PATH)).body

    for target in (
        f"http://nodestate{NODE_PATH}",
        NODE_PATH.replace("node", "n%6fde"),
        f"{NODE_PATH}?",
        f"{NODE_PATH}#x",
    ):
        assert (await api.get(target)).body == body


async def test_a_batch_body_has_a_limit_of_its_own(make_api):
    api = await make_api(body_bytes_max=2000, batch_body_bytes_max=4000)
    nodes = [node_body(Name="x" * 2500)]

    single = await api.put("/v1/nodes", {"Node": nodes[0]})
    batch = await api.put("/v1/nodes", {"Nodes": nodes})
    too_large = await api.put("/v1/nodes", {"Nodes": [node_body(Name="x" * 5000)]})

    assert (single.status, batch.status, too_large.status) == (413, 200, 413)
    assert "body_bytes_max" in single.text
    assert "batch_body_bytes_max" in too_large.text
