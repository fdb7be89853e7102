"""The client: what it sends, what it makes of an answer, and of none."""

import asyncio
import base64
import hashlib
import socket

import pytest

from nodestate.answers import DrainSpec, ServerHealth
from nodestate.client import Client, Query
from nodestate.client_tls import client_context
from nodestate.config import ServerConfig
from nodestate.errors import (
    ConfigError,
    OutcomeUnknownError,
    ResponseError,
    UnreachableError,
)
from nodestate.model.node import NodeStatus
from nodestate.model.timestamp import Timestamp
from nodestate.tls import http_context
from tests.authorities import make_authority, server_pair, write_authority, write_pair
from tests.scripted_server import NODE_ID, Answer, node, scripted_server


@pytest.fixture
async def scripted():
    async with scripted_server() as script:
        yield script


@pytest.fixture
async def client(scripted):
    async with Client(scripted.address, token="secret") as client:
        yield client


async def test_a_read_returns_the_record_and_how_fresh_it_is(scripted, client):
    freshness = {"X-Nomad-KnownLeader": "true", "X-Nomad-LastContact": "12"}
    scripted.on(f"/v1/node/{NODE_ID}", Answer(node(), index=77, headers=freshness))

    read = await client.node(NODE_ID)

    assert (read.index, read.known_leader, read.last_contact_ms) == (77, True, 12)
    assert read.value.status is NodeStatus.READY
    assert read.value.drivers is not None
    assert read.value.drivers["exec"].update_time == Timestamp(
        1_699_999_200_500_000_000
    )
    assert read.value.drivers["docker"].update_time == Timestamp(0)
    assert read.body.startswith(b'{"ID":')


async def test_a_list_has_its_options_and_its_next_page(scripted, client):
    scripted.on("/v1/nodes", Answer([node()], headers={"X-Nomad-NextToken": "abc"}))

    read = await client.nodes(prefix="f7", filter='Status == "ready"', per_page="1")

    assert [stub.id for stub in read.value] == [NODE_ID]
    assert read.next_token == "abc"
    assert scripted.queries("/v1/nodes") == [
        {"prefix": "f7", "filter": 'Status == "ready"', "per_page": "1"}
    ]


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        (Query(), {}),
        (Query(index=5), {"index": "5"}),
        (Query(index=5, wait_s=0.25), {"index": "5", "wait": "250ms"}),
        (Query(stale=True), {"stale": "true"}),
        (Query(consistent=True), {"consistent": "true"}),
    ],
)
async def test_a_query_says_how_to_answer(scripted, client, query, sent):
    scripted.on(f"/v1/node/{NODE_ID}/allocations", Answer([]))

    await client.allocations(NODE_ID, query)

    assert scripted.queries(f"/v1/node/{NODE_ID}/allocations") == [sent]


async def test_an_agent_reads_and_reports_with_its_nodes_secret(scripted):
    path = f"/v1/node/{NODE_ID}/allocations"
    scripted.on(path, Answer([{"ID": "a"}], index=7), Answer({"Index": 8}))
    async with Client(scripted.address, token="t0") as client:
        read = await client.assigned(NODE_ID, "s3cret", dict[str, str], Query(index=3))
        written = await client.report(NODE_ID, "s3cret", [{"ID": "a"}])

    assert (read.value, read.index, written.index) == ([{"ID": "a"}], 7, 8)
    pulled, pushed = scripted.asked
    assert pulled.headers["X-Nomad-Token"] == "s3cret"
    assert pulled.query == {"index": "3"}
    assert pushed.body == {"SecretID": "s3cret", "Alloc": [{"ID": "a"}]}


async def test_token_region_and_namespace_go_with_every_request(scripted):
    scripted.on("/v1/status/peers", Answer(["127.0.0.1:4647"]))
    async with Client(
        scripted.address, token="t0", region="eu", namespace="dev"
    ) as client:
        assert await client.peers() == ["127.0.0.1:4647"]

    asked = scripted.asked[0]
    assert asked.headers["X-Nomad-Token"] == "t0"
    assert asked.query == {"region": "eu", "namespace": "dev"}


async def test_without_a_token_no_header_is_sent(scripted):
    scripted.on("/v1/status/peers", Answer([]))
    async with Client(scripted.address) as client:
        await client.peers()

    assert "X-Nomad-Token" not in scripted.asked[0].headers


@pytest.mark.parametrize(
    ("act", "path", "body"),
    [
        (
            lambda c: c.drain(NODE_ID, DrainSpec(deadline=5), meta={"message": "m"}),
            f"/v1/node/{NODE_ID}/drain",
            {
                "DrainSpec": {"Deadline": 5, "IgnoreSystemJobs": False},
                "MarkEligible": False,
                "Meta": {"message": "m"},
            },
        ),
        (
            lambda c: c.drain(NODE_ID, None, mark_eligible=True),
            f"/v1/node/{NODE_ID}/drain",
            {"DrainSpec": None, "MarkEligible": True, "Meta": None},
        ),
        (
            lambda c: c.set_eligibility(NODE_ID, "ineligible"),
            f"/v1/node/{NODE_ID}/eligibility",
            {"Eligibility": "ineligible"},
        ),
        (lambda c: c.evaluate(NODE_ID), f"/v1/node/{NODE_ID}/evaluate", {}),
        (lambda c: c.purge(NODE_ID), f"/v1/node/{NODE_ID}/purge", {}),
        (
            lambda c: c.register({"ID": NODE_ID, "SecretID": "s"}),
            "/v1/nodes",
            {"Node": {"ID": NODE_ID, "SecretID": "s"}},
        ),
        (
            lambda c: c.heartbeat(NODE_ID, "s", "ready"),
            f"/v1/node/{NODE_ID}/heartbeat",
            {"SecretID": "s", "Status": "ready"},
        ),
        (
            lambda c: c.heartbeat(NODE_ID, "s"),
            f"/v1/node/{NODE_ID}/heartbeat",
            {"SecretID": "s"},
        ),
        (
            lambda c: c.emit_events(NODE_ID, "s", [{"Message": "hi"}]),
            f"/v1/node/{NODE_ID}/events",
            {"SecretID": "s", "NodeEvents": [{"Message": "hi"}]},
        ),
    ],
)
async def test_a_write_sends_what_the_api_wants(scripted, client, act, path, body):
    scripted.on(path, Answer({"Index": 9, "NodeModifyIndex": 9, "EvalIDs": None}))

    written = await act(client)

    assert (written.index, written.node_modify_index, written.eval_ids) == (9, 9, None)
    assert scripted.bodies(path) == [body]


@pytest.mark.parametrize(
    "act",
    [
        lambda c, **key: c.drain(NODE_ID, None, **key),
        lambda c, **key: c.set_eligibility(NODE_ID, "eligible", **key),
        lambda c, **key: c.evaluate(NODE_ID, **key),
        lambda c, **key: c.purge(NODE_ID, **key),
        lambda c, **key: c.register({"ID": NODE_ID}, **key),
        lambda c, **key: c.register_batch([{"ID": NODE_ID}], **key),
        lambda c, **key: c.emit_events(NODE_ID, "s", [], **key),
    ],
)
async def test_a_write_may_have_a_key_to_ask_again_with(scripted, client, act):
    for path in ("", "/drain", "/eligibility", "/evaluate", "/purge", "/events"):
        scripted.on(f"/v1/node/{NODE_ID}{path}", Answer())
    scripted.on("/v1/nodes", Answer())

    await act(client, idempotency_key="k1")
    await act(client)

    keys = [asked.headers.get("Idempotency-Key") for asked in scripted.asked]
    assert keys == ["k1", None]


async def test_a_batch_is_answered_node_by_node(scripted, client):
    results = [{"ID": "a", "Error": "", "Index": 4}, {"ID": "b", "Error": "no"}]
    scripted.on("/v1/nodes", Answer({"Index": 4, "Results": results}))

    batch = await client.register_batch([{"ID": "a"}, {"ID": "b"}])

    assert scripted.bodies("/v1/nodes") == [{"Nodes": [{"ID": "a"}, {"ID": "b"}]}]
    assert [(each.id, each.error) for each in batch.results] == [("a", ""), ("b", "no")]


async def test_an_error_has_status_text_and_outcome(scripted, client):
    outcome = {"X-Nodestate-Outcome": "unknown"}
    scripted.on("/v1/nodes", Answer("outcome unknown: x", 504, headers=outcome))

    with pytest.raises(ResponseError) as caught:
        await client.register({})

    error = caught.value
    assert (error.status, error.text, error.outcome) == (
        504,
        "outcome unknown: x",
        "unknown",
    )
    assert str(error) == "Unexpected response code: 504 (outcome unknown: x)"


async def test_a_redirect_is_an_error_and_not_followed(scripted, client):
    to = {"Location": f"{scripted.address}/v1/status/peers"}
    scripted.on("/v1/nodes", Answer("", 307, headers=to))

    with pytest.raises(ResponseError, match="307"):
        await client.nodes()

    assert len(scripted.asked) == 1


async def test_a_body_that_does_not_fit_is_an_error(scripted, client):
    scripted.on("/v1/status/peers", Answer({"not": "a list"}))

    with pytest.raises(ResponseError, match="unexpected body: Expected `array`"):
        await client.peers()


@pytest.mark.parametrize("status", [200, 500])
async def test_bad_health_is_an_answer(scripted, client, status):
    health = {"server": {"ok": status == 200, "message": "no leader"}}
    scripted.on("/v1/agent/health", Answer(health, status))

    assert await client.health() == ServerHealth(status == 200, "no leader")


async def test_health_of_a_server_without_it_is_an_error(client):
    with pytest.raises(ResponseError, match="404"):
        await client.health()


async def test_members_and_metrics(scripted, client):
    members = [{"Name": "s1.global", "Addr": "127.0.0.1", "Tags": {"port": "4647"}}]
    scripted.on("/v1/agent/members", Answer({"ServerDC": "dc1", "Members": members}))
    scripted.on("/v1/agent/self", Answer({"stats": {}}))
    scripted.on("/v1/metrics", Answer({"Gauges": []}), Answer("a 1\n"))

    listed = (await client.members()).value
    assert listed.server_dc == "dc1"
    assert listed.members is not None
    assert listed.members[0].tags == {"port": "4647"}
    assert await client.agent() == {"stats": {}}
    assert await client.metrics() == {"Gauges": []}
    assert await client.metrics_text() == "a 1\n"


async def test_a_node_id_cannot_leave_its_place_in_the_path(scripted, client):
    for node_id in ("../status/peers", "a/b", "a?b", "..", "é"):
        with pytest.raises(ResponseError, match="404"):
            await client.node(node_id)

    assert [asked.query for asked in scripted.asked] == [{}] * 5
    assert all(asked.path.startswith("/v1/node/") for asked in scripted.asked)


async def test_without_a_server_nothing_was_sent():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(UnreachableError, match="no connection to http://127"):
                await client.purge(NODE_ID)


@pytest.fixture
async def hanging_up():
    """Serve nothing: end each connection once a request has come."""
    asked = []

    async def hang_up(reader, writer):
        asked.append((await reader.readline()).split()[0])
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    server.close()
    await server.wait_closed()


async def test_a_write_without_an_answer_is_unknown_and_sent_once(hanging_up):
    address, asked = hanging_up
    async with Client(address) as client:
        with pytest.raises(OutcomeUnknownError, match="it may have happened"):
            await client.purge(NODE_ID)

    assert asked == [b"POST"]


async def test_a_read_without_an_answer_is_unreachable(hanging_up):
    address, _ = hanging_up
    async with Client(address) as client:
        with pytest.raises(UnreachableError, match="GET http://127"):
            await client.peers()


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("http://127.0.0.1:4646", "http://127.0.0.1:4646"),
        ("https://nodes.example/", "https://nodes.example"),
        ("http://[::1]:4646/v1", "http://[::1]:4646"),
        ("10.0.0.1:4646", "http://10.0.0.1:4646"),
    ],
)
def test_an_address_is_scheme_host_and_port(address, base):
    assert Client(address).address == base


@pytest.mark.parametrize(
    "address", ["", "ftp://x", "http://", "http://x:port", "http://x:65536", "http://["]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="address"):
        Client(address)


async def test_a_closed_client_says_so():
    with pytest.raises(RuntimeError, match="asynchronous context"):
        await Client().peers()


# Operators

PEER = "/v1/operator/raft/peer"
SNAPSHOT = "/v1/operator/snapshot"


async def test_a_removal_whose_answer_is_lost_may_have_happened(hanging_up):
    address, asked = hanging_up
    async with Client(address) as client:
        with pytest.raises(OutcomeUnknownError, match="it may have happened"):
            await client.remove_peer(server_id="server3")

    assert set(asked) == {b"DELETE"}


async def test_a_snapshot_that_breaks_off_is_none(hanging_up):
    address, _ = hanging_up
    async with Client(address) as client:
        with pytest.raises(UnreachableError, match="GET http://127"):
            await client.save_snapshot(lambda piece: None)


async def test_a_snapshot_arrives_in_pieces_and_is_checked(scripted, client):
    content = bytes(1_000_000)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    wrong, right = {"Digest": digest}, {"Digest": f"sha-256={digest}"}
    scripted.on(SNAPSHOT, Answer(content, headers=wrong))
    pieces: list[bytes] = []

    with pytest.raises(ResponseError, match="not what the server says"):
        await client.save_snapshot(pieces.append)

    assert b"".join(pieces) == content
    assert len(pieces) > 1
    scripted.on(SNAPSHOT, Answer(content, index=7, headers=right))

    sent = await client.save_snapshot(lambda piece: None, stale=True)

    assert (sent.index, sent.byte_count) == (7, len(content))
    assert sent.sha256 == hashlib.sha256(content).hexdigest()
    assert scripted.queries(SNAPSHOT) == [{}, {"stale": "true"}]


async def test_a_server_is_asked_over_tls_and_must_be_who_it_should(tmp_path):
    authority = make_authority()
    certificate, key = write_pair(tmp_path, "http", server_pair(authority))
    settings = ServerConfig(http_tls_cert=certificate, http_tls_key=key)
    trusting = client_context(ca_cert=write_authority(tmp_path, authority))
    async with scripted_server(http_context(settings)) as script:
        script.on("/v1/status/leader", Answer(b'"10.0.0.1:4647"'))
        for name in ("", "localhost"):
            async with Client(
                script.address, tls=trusting, tls_server_name=name
            ) as client:
                assert await client.leader() == "10.0.0.1:4647"

        async with Client(
            script.address, tls=trusting, tls_server_name="other"
        ) as client:
            with pytest.raises(UnreachableError, match=r"TLS: Hostname mismatch"):
                await client.leader()
        async with Client(script.address) as client:
            with pytest.raises(
                UnreachableError, match="TLS: unable to get local issuer"
            ):
                await client.evaluate(NODE_ID)


async def test_tls_with_a_server_that_has_none_is_an_error_in_words(scripted):
    address = scripted.address.replace("http", "https")
    async with Client(address, tls=client_context(skip_verify=True)) as client:
        with pytest.raises(UnreachableError, match="TLS: wrong version number"):
            await client.purge(NODE_ID)


async def test_a_snapshot_is_sent_with_its_digest(scripted, client, tmp_path):
    content = bytes(range(256)) * 3000
    path = tmp_path / "backup.snap"
    path.write_bytes(content)
    scripted.on(SNAPSHOT, Answer(b"", index=99))

    index = await client.restore_snapshot(path)
    await client.restore_snapshot(path, force=True, idempotency_key="k")

    assert index == 99
    first, second = scripted.asked
    assert (first.method, first.body, first.query) == ("POST", content, {})
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert first.headers["Digest"] == f"sha-256={digest}"
    assert "Idempotency-Key" not in first.headers
    assert second.query == {"force": "true"}
    assert second.headers["Idempotency-Key"] == "k"


async def test_a_restore_that_fails_says_whether_it_may_still_happen(
    scripted, client, tmp_path
):
    path = tmp_path / "backup.snap"
    path.write_bytes(b"x")
    headers = {"X-Nodestate-Outcome": "unknown"}
    scripted.on(SNAPSHOT, Answer("outcome unknown", 504, headers=headers))

    with pytest.raises(ResponseError) as raised:
        await client.restore_snapshot(path)

    assert raised.value.outcome == "unknown"
