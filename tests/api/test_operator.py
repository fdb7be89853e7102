"""The cluster's own affairs: members, leader, snapshots."""

import asyncio
import base64
import contextlib
import hashlib

import pytest

from nodestate.api import operator, replies
from nodestate.errors import (
    NoLeaderError,
    OutcomeUnknownError,
    RequestError,
    SnapshotError,
)
from nodestate.ports import ServerAddress
from tests.api.conftest import Answer, Api, request_bytes

CONFIGURATION = "/v1/operator/raft/configuration"
PEER = "/v1/operator/raft/peer"
TRANSFER = "/v1/operator/raft/transfer-leadership"
SNAPSHOT = "/v1/operator/snapshot"
ADDED = f"{PEER}?id=server4&address=10.0.0.4:4647&http=10.0.0.4:4646"


@pytest.fixture
async def three(api: Api) -> Api:
    """Three servers of which this one leads, and a fourth without a vote."""
    api.leadership.addresses = (
        ServerAddress("server1", "10.0.0.1:4647", "10.0.0.1:4646"),
        ServerAddress("server2", "10.0.0.2:4647", "10.0.0.2:4646"),
        ServerAddress("server3", "[::1]:5647", "[::1]:5646"),
    )
    api.admin.index = 7
    return api


def ids(api: Api) -> list[str]:
    return [server.server_id for server in api.leadership.addresses]


async def delete(api: Api, query: str) -> Answer:
    return await api.ask("DELETE", f"{PEER}?{query}")


# Members


async def test_the_configuration_lists_the_members_as_nomad_does(three: Api):
    three.admin.learners.add("server3")

    answer = await three.get(CONFIGURATION)

    assert answer.status == 200
    assert answer.json == {
        "Index": 7,
        "Servers": [
            {
                "Address": "10.0.0.1:4647",
                "ID": "server1",
                "Leader": True,
                "Node": "server1.global",
                "RaftProtocol": "3",
                "Voter": True,
            },
            {
                "Address": "10.0.0.2:4647",
                "ID": "server2",
                "Leader": False,
                "Node": "server2.global",
                "RaftProtocol": "3",
                "Voter": True,
            },
            {
                "Address": "[::1]:5647",
                "ID": "server3",
                "Leader": False,
                "Node": "server3.global",
                "RaftProtocol": "3",
                "Voter": False,
            },
        ],
    }
    assert answer.nomad_headers() == set()


async def test_without_a_leader_the_configuration_must_be_asked_for_stale(three: Api):
    three.leadership.lose(None)

    refused, stale = (
        await three.get(CONFIGURATION),
        await three.get(f"{CONFIGURATION}?stale"),
    )

    assert (refused.status, refused.text) == (503, "No cluster leader")
    assert [server["Leader"] for server in stale.json["Servers"]] == [False] * 3


@pytest.mark.parametrize("query", ["id=server2", "address=10.0.0.2:4647"])
async def test_a_peer_is_removed_by_id_or_address(three: Api, query):
    answer = await delete(three, query)

    assert (answer.status, answer.body) == (200, b"")
    assert "content-type" not in answer.headers
    assert answer.nomad_headers() == set()
    assert ids(three) == ["server1", "server3"]


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, operator.NO_PEER_NAMED),
        ("id=", 400, operator.NO_PEER_NAMED),
        ("id=server2&address=10.0.0.2:4647", 400, operator.TWO_PEERS_NAMED),
        ("id=x", 404, 'id "x" was not found in the Raft configuration'),
        ("address=x:1", 404, 'address "x:1" was not found in the Raft configuration'),
        ("id=10.0.0.2:4647", 404, None),
        ("id=server2&region=elsewhere", 400, "No path to region"),
    ],
)
async def test_a_peer_must_be_named_once_and_be_one(three: Api, query, status, text):
    answer = await delete(three, query)

    assert answer.status == status
    assert text is None or answer.text == text
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert len(ids(three)) == 3


async def test_whoever_is_asked_knows_a_member_that_was_just_added(three: Api):
    """A server that lags behind waits until it has what the leader had."""
    three.leadership.lose("server2")
    three.replica.read_gate.clear()
    removing = asyncio.create_task(delete(three, "id=server4"))
    await three.until(lambda: len(three.replica.linearizable_deadlines_s) == 1)

    await three.put(ADDED)
    three.replica.read_gate.set()

    assert (await removing).status == 200
    assert ids(three) == ["server1", "server2", "server3"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_peer_is_added_without_a_vote(three: Api, method):
    answer = await three.ask(method, ADDED)

    assert (answer.status, answer.json) == (200, {"Index": 8})
    added = (await three.get(CONFIGURATION)).json["Servers"][3]
    assert (added["ID"], added["Address"]) == ("server4", "10.0.0.4:4647")
    assert not added["Voter"]
    assert three.leadership.addresses[3].http_address == "10.0.0.4:4646"


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("", "Must specify ?id"),
        ("id=a&address=h:1", "no http"),
        ("id=a&http=h:1", "no address"),
        ("address=h:1&http=h:2", "no id"),
        ("id=a/b&address=h:1&http=h:2", 'id "a/b": must be 1 to 63 letters'),
        ("id=a&address=h&http=h:2", 'address "h": must be host:port'),
        ("id=a&address=h:1&http=::1:2", 'http "::1:2": must be host:port'),
        ("id=a&address=h:0&http=h:2", 'address "h:0": port 0 cannot be reached'),
        ("id=a&address=h:65536&http=h:2", 'address "h:65536": the port must be'),
    ],
)
async def test_an_added_peer_needs_a_name_and_two_addresses(three: Api, query, part):
    answer = await three.put(f"{PEER}?{query}")

    assert answer.status == 400
    assert part in answer.text
    assert len(ids(three)) == 3


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RequestError("one at a time"), (400, "one at a time", "none")),
        (OutcomeUnknownError("x"), (504, operator.CHANGE_UNKNOWN, "unknown")),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", f"{PEER}?id=server2"), ("PUT", ADDED), ("PUT", TRANSFER)],
)
async def test_what_became_of_a_change_is_said(
    three: Api, method, path, error, expected
):
    three.admin.errors.append(error)

    answer = await three.ask(method, path)

    outcome = answer.headers["x-nodestate-outcome"]
    assert (answer.status, answer.text, outcome) == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", f"{PEER}?id=server2"), ("PUT", ADDED), ("PUT", TRANSFER)],
)
async def test_a_change_that_was_not_made_is_tried_again(three: Api, method, path):
    """A new leader takes a moment until it may change the members."""
    three.admin.errors += [NoLeaderError("x"), NoLeaderError("x")]
    asking = asyncio.create_task(three.ask(method, path))
    await three.until(lambda: three.clock.timer_count() > 0)

    await three.pass_time(asking, 1)

    assert (await asking).status == 200


async def test_a_change_without_a_leader_ends(three: Api):
    three.admin.errors += [NoLeaderError("x")] * 1000
    asking = asyncio.create_task(delete(three, "id=server2"))
    await three.until(lambda: three.clock.timer_count() > 0)
    await three.pass_time(asking, 3.9)
    assert not asking.done()
    await three.pass_time(asking, 0.2)

    answer = await asking
    assert (answer.status, answer.text) == (503, "No cluster leader")
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert len(ids(three)) == 3


async def test_other_methods_of_a_peer_are_named(three: Api):
    answer = await three.get(PEER)

    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, POST, PUT")


# Leadership

SERVER1 = {"Address": "10.0.0.1:4647", "ID": "server1"}
SERVER2 = {"Address": "10.0.0.2:4647", "ID": "server2"}
SERVER3 = {"Address": "[::1]:5647", "ID": "server3"}


@pytest.mark.parametrize(
    ("query", "leader"),
    [
        ("?id=server3", SERVER3),
        ("?address=[::1]:5647", SERVER3),
        ("?id=server2", SERVER2),
        ("", SERVER2),
    ],
)
async def test_leadership_goes_to_whom_it_is_given(three: Api, query, leader):
    answer = await three.put(f"{TRANSFER}{query}")

    assert answer.status == 200
    assert answer.json == {"Err": None, "From": SERVER1, "Noop": False, "To": leader}
    assert three.leadership.leader_id == leader["ID"]


async def test_giving_leadership_to_the_leader_changes_nothing(three: Api):
    term = three.leadership.term

    answer = await three.put(f"{TRANSFER}?id=server1")

    assert answer.json == {"Err": None, "From": SERVER1, "Noop": True, "To": SERVER1}
    assert three.leadership.term == term


@pytest.mark.parametrize(
    ("query", "status"),
    [("?id=x", 404), ("?id=server1&address=10.0.0.1:4647", 400), ("?id=server3", 400)],
)
async def test_leadership_goes_to_one_voter_only(three: Api, query, status):
    three.admin.learners.add("server3")

    assert (await three.put(f"{TRANSFER}{query}")).status == status
    assert three.leadership.leader_id == "server1"


# Snapshots

SLICE = replies.WRITE_SLICE_BYTES


def digest_of(content: bytes) -> str:
    return f"sha-256={base64.b64encode(hashlib.sha256(content).digest()).decode()}"


@pytest.mark.parametrize("length", [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE + 7])
async def test_a_snapshot_is_sent_whole_with_its_digest(api: Api, length):
    index = (await api.register()).index
    content = api.admin.snapshot_bytes = bytes(i % 251 for i in range(length))

    answer = await api.get(SNAPSHOT, {"Accept-Encoding": "gzip"})

    assert answer.status == 200
    assert answer.body == content
    assert answer.headers["digest"] == digest_of(content)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "content-encoding" not in answer.headers
    assert answer.index == index
    assert answer.headers["x-nomad-knownleader"] == "true"
    assert answer.headers["x-nomad-lastcontact"] == "0"


async def test_a_snapshot_is_the_last_answer_of_its_connection(api: Api):
    content = api.admin.snapshot_bytes = b"x" * (SLICE + 1)
    received = []
    for method in ("HEAD", "GET"):
        async with api.connected() as (reader, writer):
            writer.write(request_bytes(method, SNAPSHOT))
            received.append(await reader.read())

    assert b"\r\nConnection: close\r\n" in received[0]
    assert received[1] == received[0] + content


async def test_a_snapshot_of_a_server_without_a_leader_must_be_asked_for_stale(
    api: Api,
):
    api.admin.snapshot_bytes = b"x"
    api.leadership.lose("server2")
    api.leadership.last_contact_s = 9.0
    api.replica.read_errors.append(NoLeaderError("x"))

    refused, stale = await api.get(SNAPSHOT), await api.get(f"{SNAPSHOT}?stale")

    assert refused.status == 503
    assert (stale.status, stale.body) == (200, b"x")
    assert stale.headers["x-nomad-lastcontact"] == "9000"


async def test_one_snapshot_is_made_at_a_time(api: Api):
    api.admin.gate.clear()
    making = asyncio.create_task(api.get(SNAPSHOT))
    await api.until(lambda: len(api.replica.linearizable_deadlines_s) == 1)

    refused = await api.get(SNAPSHOT)

    assert refused.status == 429
    assert "SNAPSHOTS_MAX" in refused.text
    api.admin.gate.set()
    assert (await making).status == 200
    assert (await api.get(SNAPSHOT)).status == 200


@pytest.mark.parametrize("when", ["errors", "read_errors"])
async def test_a_snapshot_that_cannot_be_made_says_why(api: Api, when):
    api.admin.snapshot_bytes = b"x"
    getattr(api.admin, when).append(SnapshotError("the disk is full"))

    refused = await api.get(SNAPSHOT)

    assert (refused.status, refused.text) == (500, "snapshot failed: the disk is full")
    assert (await api.get(SNAPSHOT)).status == 200


async def test_a_snapshot_that_is_shorter_than_it_was_is_an_error(api: Api):
    api.admin.snapshot_bytes = b"x" * (SLICE + 1)
    read_snapshot = api.admin.read_snapshot

    async def read_shortened(*where):
        piece = await read_snapshot(*where)
        api.admin.snapshot_bytes = b"x" * SLICE
        return piece

    api.admin.read_snapshot = read_shortened  # type: ignore[method-assign]

    assert (await api.get(SNAPSHOT)).text.endswith(f"ends at byte {SLICE}")


async def test_a_snapshot_that_breaks_off_ends_the_connection(api: Api):
    """The head promised more, so whoever reads it sees that it is not all."""
    content = api.admin.snapshot_bytes = b"x" * (2 * SLICE)
    reads = 0
    read_snapshot = api.admin.read_snapshot

    async def read_once_more(*where):
        nonlocal reads
        reads += 1
        if reads == 4:
            raise SnapshotError("it is gone")
        return await read_snapshot(*where)

    api.admin.read_snapshot = read_once_more  # type: ignore[method-assign]
    async with api.connected() as (reader, writer):
        writer.write(request_bytes("GET", SNAPSHOT))
        head = await reader.readuntil(b"\r\n\r\n")
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                received += piece

    # Nothing that could be taken for the rest of it, such as an error in words.
    assert received == content[: len(received)]
    assert len(received) < len(content)

    assert f"Content-Length: {len(content)}".encode() in head
    assert [line["event"] for line in api.logs] == ["snapshot not sent"]
    assert (await api.get("/v1/regions")).status == 200
