"""A write with a key: asked again it is answered again, and does nothing more."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from nodestate.api.idempotency import INVALID_KEY, fingerprint, read_key
from nodestate.api.routes import ROUTES, WRITES
from nodestate.errors import OutcomeUnknownError, RequestError
from nodestate.fsm.requests import KEY_AGE_NS
from nodestate.fsm.state import EVALUATIONS
from nodestate.model.outcome import KEY_REUSED
from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    OTHER_ID,
    SECRET,
    UNKNOWN_ID,
    node_body,
)
from tests.api.working import add_node, job_body, schedule, submit

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
REPLAYED = "idempotency-replayed"
LINES = [{"Message": "line", "Subsystem": "Driver"}]

# A path and a body for each route whose write goes through the log as a command.
LOGGED = {
    "nodes.register": ("/v1/nodes", {"Node": node_body()}),
    "node.evaluate": (f"{NODE_PATH}/evaluate", None),
    "node.drain": (f"{NODE_PATH}/drain", {"DrainSpec": {"Deadline": 10**12}}),
    "node.purge": (f"{NODE_PATH}/purge", None),
    "node.eligibility": (f"{NODE_PATH}/eligibility", {"Eligibility": "ineligible"}),
    "node.events": (f"{NODE_PATH}/events", {"SecretID": SECRET, "NodeEvents": LINES}),
}
# And those that need a job, and work of it that runs on the node.
OF_WORK: dict[str, tuple[str, dict[str, Any] | None]] = {
    "jobs.register": ("/v1/jobs", {"Job": job_body(Priority=60)}),
    "job.register": ("/v1/job/web", {"Job": job_body(Priority=60)}),
    "job.evaluate": ("/v1/job/web/evaluate", None),
    "allocation.stop": ("/v1/allocation/:id/stop", None),
    "node.report_allocations": (f"{NODE_PATH}/allocations", None),
}
BATCH = {"Nodes": [node_body(), node_body(OTHER_ID), node_body("no-id")]}
# They read, ask the leader, change servers, or refuse whatever is sent.
NOT_LOGGED = {
    "agent.force_leave",
    "agent.join",
    "agent.set_servers",
    "client.allocation_write",
    "deployment.write",
    "job.plan",
    "job.validate",
    "jobs.parse",
    "namespace.create",
    "namespace.write",
    "node.heartbeat",
    "node_pool.write",
    "node_pools.write",
    "operator.add_peer",
    "operator.set_scheduler",
    "operator.transfer_leadership",
    "search",
    "search.fuzzy",
}
# test_restores.py and test_acl_*.py
ELSEWHERE = {
    "acl.bootstrap",
    "acl.policy_write",
    "acl.role_create",
    "acl.role_update",
    "acl.token_create",
    "acl.token_update",
    "operator.restore_snapshot",
}


def headers_of(*pairs):
    return CIMultiDictProxy(CIMultiDict(pairs))


# Keys


@pytest.mark.parametrize("key", ["k", "!" * 255, '"a-b_c.d~"', "1:2;3=4,5"])
def test_a_key_is_visible_ascii(key):
    assert read_key(headers_of(("idempotency-key", key))) == key


def test_a_request_may_have_none():
    assert read_key(headers_of(("X-Request-Id", "k"))) == ""


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "a\tb", "schlüssel", "a\x7f"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(RequestError) as refused:
        read_key(headers_of(("Idempotency-Key", key)))

    assert str(refused.value) == INVALID_KEY


def test_two_keys_are_none():
    with pytest.raises(RequestError):
        read_key(headers_of(("Idempotency-Key", "a"), ("Idempotency-Key", "b")))


# Fingerprints


def printed(path="/v1/nodes", query=None, token="", content=b"{}"):
    return fingerprint(path, query or {}, token=token, content=content)


def test_how_the_answer_is_to_look_makes_no_other_request():
    query = {"enable": "true", "namespace": "a"}
    shown = {"pretty": "", "region": "global", "wait": "1s", "index": "7"}

    assert printed("/v1/nodes/", {**shown, **query}) == printed("/v1/nodes", query)
    assert printed(query=dict(reversed(query.items()))) == printed(query=query)
    assert len(printed()) == 32


def test_everything_else_makes_another_request():
    prints = [
        printed(),
        printed("/v1/node"),
        printed(query={"enable": "true"}),
        printed(query={"enable": "false"}),
        printed(token=SECRET),
        printed(content=b"{} "),
        printed(content=b""),
    ]

    assert len(set(prints)) == len(prints)


texts = st.text(max_size=3)
parts = st.tuples(
    texts, st.dictionaries(texts, texts, max_size=2), texts, st.binary(max_size=3)
)


@given(parts, parts)
def test_two_requests_never_look_alike(one, other):
    """What belongs to one part is never taken for the next one's."""
    prints = [
        printed(path, query, token, content)
        for path, query, token, content in (one, other)
    ]

    one, other = ((path.removesuffix("/"), *rest) for path, *rest in (one, other))
    assert (prints[0] == prints[1]) == (one == other)


def test_bytes_that_are_no_text_have_a_fingerprint():
    assert printed("/v1/node/\udcff", {"enable": "\udcff"}) != printed("/v1/node/")


# Over HTTP


def test_every_route_that_writes_is_tried_here_or_needs_no_key():
    names = {route.name for route in ROUTES if route.methods is WRITES}

    assert names == LOGGED.keys() | OF_WORK.keys() | NOT_LOGGED | ELSEWHERE


@pytest.mark.parametrize("name", LOGGED)
async def test_asking_again_gets_the_first_answer_and_does_nothing(api, name):
    path, body = LOGGED[name]
    await api.register()

    first = await api.ask("PUT", path, body, KEY)
    before = await api.get("/v1/nodes"), await api.get(NODE_PATH)
    again = await api.ask("POST", f"{path}/?pretty", body, KEY)

    assert first.status == 200
    assert REPLAYED not in first.headers
    assert (again.status, again.json, again.index) == (200, first.json, first.index)
    assert again.headers[REPLAYED] == "true"
    assert (await api.get("/v1/nodes")).body == before[0].body
    assert (await api.get(NODE_PATH)).body == before[1].body


@pytest.mark.parametrize("name", LOGGED)
async def test_another_request_under_the_key_is_refused(api, name):
    path, body = LOGGED[name]
    await api.register()
    await api.ask("PUT", path, body, KEY)

    other = await api.ask("PUT", path.replace(NODE_ID, OTHER_ID), _other(body), KEY)

    assert (other.status, other.text) == (422, KEY_REUSED)
    assert other.headers["x-nodestate-outcome"] == "none"
    assert REPLAYED not in other.headers


@pytest.mark.parametrize("name", OF_WORK)
async def test_work_that_is_asked_for_again_is_done_once(api, name):
    await add_node(api)
    await submit(api)
    schedule(api)
    (id_,) = api.replica.state().allocations
    path, body = OF_WORK[name]
    path = path.replace(":id", id_)
    if name == "node.report_allocations":
        reported = [{"ID": id_, "ClientStatus": "running"}]
        body = {"SecretID": SECRET, "Alloc": reported}

    first = await api.ask("PUT", path, body, KEY)
    index = api.replica.state().table_index(EVALUATIONS)
    again = await api.ask("POST", path, body, KEY)
    other = await api.ask("PUT", f"{path}?namespace=default", body, KEY)

    assert first.status == 200
    assert REPLAYED not in first.headers
    assert (again.status, again.json, again.index) == (200, first.json, first.index)
    assert again.headers[REPLAYED] == "true"
    assert api.replica.state().table_index(EVALUATIONS) == index
    assert (other.status, other.text) == (422, KEY_REUSED)


def _other(body):
    """Return a body that says something else, of the same kind."""
    if body is None or "Node" not in body:
        return body
    return {"Node": node_body(OTHER_ID)}


async def test_a_batch_gets_each_of_its_answers_again(api):
    first = await api.ask("PUT", "/v1/nodes", BATCH, KEY)
    await api.put(f"/v1/node/{OTHER_ID}/purge")
    again = await api.ask("PUT", "/v1/nodes", BATCH, KEY)

    assert first.status == 200
    assert again.json["Results"] == first.json["Results"]
    assert [bool(result["Error"]) for result in again.json["Results"]] == [
        False,
        False,
        True,
    ]
    assert again.headers[REPLAYED] == "true"
    assert (await api.get(f"/v1/node/{OTHER_ID}")).status == 404


async def test_a_refusal_is_answered_again_too(api):
    path = f"/v1/node/{UNKNOWN_ID}/evaluate"

    first = await api.ask("PUT", path, None, KEY)
    await api.register(UNKNOWN_ID)
    again = await api.ask("PUT", path, None, KEY)

    assert (first.status, again.status) == (404, 404)
    assert again.text == first.text
    assert again.headers[REPLAYED] == "true"
    assert again.headers["x-nodestate-outcome"] == "none"


async def test_the_proof_in_a_header_is_part_of_the_request(api):
    await api.register()
    path, body = f"{NODE_PATH}/events", {"NodeEvents": LINES}
    await api.ask("PUT", path, body, {**KEY, "X-Nomad-Token": SECRET})

    other = {**KEY, "X-Nomad-Token": SECRET.replace("1", "2")}

    assert (await api.ask("PUT", path, body, other)).status == 422


async def test_what_never_got_into_the_log_leaves_the_key_free(api):
    await api.register()
    path = f"{NODE_PATH}/eligibility"

    refused = await api.ask("PUT", path, {"Eligibility": "elsewhere"}, KEY)
    accepted = await api.ask("PUT", path, {"Eligibility": "ineligible"}, KEY)

    assert (refused.status, accepted.status) == (400, 200)
    assert REPLAYED not in accepted.headers


async def test_a_key_is_forgotten_in_the_logs_time(api):
    await api.register()
    path, body = LOGGED["node.events"]
    await api.ask("PUT", path, body, KEY)

    api.clock.pause(KEY_AGE_NS / 1e9)
    assert REPLAYED in (await api.ask("PUT", path, body, KEY)).headers
    api.clock.pause(1)
    assert REPLAYED not in (await api.ask("PUT", path, body, KEY)).headers


async def test_whoever_heard_nothing_may_ask_again(api):
    await api.register()
    path, body = LOGGED["node.drain"]
    api.proposer.errors.append(OutcomeUnknownError("x"))

    unknown = await api.ask("PUT", path, body, KEY)
    again = await api.ask("PUT", path, body, KEY)

    assert (unknown.status, again.status) == (504, 200)
    assert "Idempotency-Key" in unknown.text


@pytest.mark.parametrize("name", [*LOGGED, "node.heartbeat"])
async def test_a_key_that_is_none_is_named(api, name):
    path, body = LOGGED.get(name, (f"{NODE_PATH}/heartbeat", {"SecretID": SECRET}))
    await api.register()

    answer = await api.ask("PUT", path, body, {"Idempotency-Key": "a b"})

    assert (answer.status, answer.text) == (400, INVALID_KEY)


async def test_a_key_means_nothing_on_a_heartbeat(api):
    await api.register()
    body = {"SecretID": SECRET}

    answers = [
        await api.ask("PUT", f"{NODE_PATH}/heartbeat", sent, KEY)
        for sent in (body, {**body, "Status": "ready"})
    ]

    assert [answer.status for answer in answers] == [200, 200]
    assert all(REPLAYED not in answer.headers for answer in answers)


async def test_a_write_without_a_key_is_a_new_one_each_time(api):
    await api.register()
    path, body = LOGGED["node.events"]

    for _ in range(2):
        assert REPLAYED not in (await api.ask("PUT", path, body)).headers

    assert len((await api.read())["Events"]) == 3
