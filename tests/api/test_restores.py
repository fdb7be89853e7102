"""Restoring a snapshot: all of it, or nothing."""

import asyncio
import base64
import errno
import hashlib

import pytest

from nodestate.api import bodies, restores
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.pieces import encode_pieces
from nodestate.fsm.state import State
from nodestate.model.command import (
    AbandonRestore,
    AddRestorePiece,
    BeginRestore,
    FinishRestore,
    Restoring,
)
from nodestate.replication.snapshot_format import SnapshotEncoder, SnapshotMeta
from tests.api.conftest import OTHER_ID, Answer, Api, read_answer

SNAPSHOT = "/v1/operator/snapshot"


def file_of(pieces: list[bytes]) -> bytes:
    encoder = SnapshotEncoder()
    opening = encoder.opening(SnapshotMeta(index=70, term=3))
    frames = [encoder.frame([piece]) for piece in pieces]
    return b"".join([opening, *frames, encoder.footer()])


def snapshot_of(state: State) -> bytes:
    return file_of([piece for piece in encode_pieces(state.shallow_copy()) if piece])


def digest_of(content: bytes) -> str:
    return f"sha-256={base64.b64encode(hashlib.sha256(content).digest()).decode()}"


@pytest.fixture
async def saved(api: Api) -> bytes:
    """A snapshot with one node; since then another one has come."""
    await api.register()
    content = snapshot_of(api.replica.state())
    await api.register(OTHER_ID)
    return content


def steps(api: Api) -> list[Restoring]:
    """Return the entries of restores."""
    return [one for one in api.proposer.commands if isinstance(one, Restoring)]


async def restore(api: Api, content: bytes, query: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await api.ask("PUT", SNAPSHOT + query, content, named)


async def node_count(api: Api) -> int:
    return len((await api.get("/v1/nodes")).json)


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_snapshot_takes_the_place_of_the_state(api: Api, saved, method):
    before = await node_count(api)
    headers = {"Digest": digest_of(saved)}

    answer = await api.ask(method, SNAPSHOT, saved, headers)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.index == api.replica.applied_index()
    assert (before, await node_count(api)) == (2, 1)
    kinds = [type(command) for command in steps(api)]
    pieces = len(kinds) - 2
    assert kinds == [BeginRestore, *[AddRestorePiece] * pieces, FinishRestore]
    assert api.disk.staged_bytes == 0


async def test_who_waits_for_the_list_sees_the_other_state(api: Api, saved):
    index = (await api.get("/v1/nodes")).index

    answer = await api.read_during(
        f"/v1/nodes?index={index}", lambda: restore(api, saved)
    )

    assert len(answer.json) == 1


@pytest.mark.parametrize(
    ("spoil", "headers", "part"),
    [
        (lambda content: b"", {}, "it ends too early, at byte 0"),
        (lambda content: content[:-1], {}, "it ends too early"),
        (lambda content: content + b"x", {}, "it goes on behind its end"),
        (lambda content: b"x" * 1000, {}, "does not begin as a snapshot does"),
        (lambda content: content, {"Digest": digest_of(b"x")}, restores.WRONG_DIGEST),
        (lambda content: content, {"Digest": "md5=x"}, restores.MALFORMED_DIGEST),
        (lambda content: content, {"Digest": "sha-256=!"}, restores.MALFORMED_DIGEST),
    ],
)
async def test_what_is_no_snapshot_enters_no_log(api: Api, saved, spoil, headers, part):
    answer = await restore(api, spoil(saved), **headers)

    assert answer.status == 400
    assert part in answer.text
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert steps(api) == []
    assert api.disk.staged_bytes == 0


async def test_a_body_over_the_limit_is_refused(api: Api, saved, monkeypatch):
    monkeypatch.setattr(restores, "UPLOAD_BYTES_MAX", len(saved) - 1)

    answer = await restore(api, saved)

    assert answer.status == 413
    assert "UPLOAD_BYTES_MAX" in answer.text
    assert steps(api) == []


async def test_pieces_that_are_no_state_change_nothing(api: Api):
    """Right in every checksum, and refused by the state machine: then it is forgotten."""
    await api.register()
    pieces = [piece for piece in encode_pieces(api.replica.state()) if piece]

    answer = await restore(api, file_of(pieces[:1]))

    assert answer.status == 400
    assert await node_count(api) == 1
    assert api.replica.state().restore is None


async def test_a_full_disk_is_said_and_changes_nothing(api: Api, saved):
    api.disk.bytes_free = 10

    full = await restore(api, saved)
    api.disk.bytes_free = None
    api.disk.failing["read"] = errno.EIO
    unreadable = await restore(api, saved)

    assert (full.status, unreadable.status) == (500, 500)
    assert full.text.startswith("not restored: ")
    assert await node_count(api) == 2
    assert api.replica.state().restore is None


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NoLeaderError("x"), "No cluster leader"),
        (OutcomeUnknownError("x"), restores.NOT_RESTORED),
    ],
)
async def test_an_entry_that_is_lost_before_the_last_changes_nothing(
    api: Api, saved, step, error, text
):
    fail_at(api, step, error)

    answer = await restore(api, saved)

    assert (answer.status, answer.text) == (503, text)
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert await node_count(api) == 2
    assert isinstance(steps(api)[-1], AbandonRestore)
    assert api.replica.state().restore is None


async def test_a_last_entry_that_is_lost_may_still_be_applied(api: Api, saved):
    pieces = sum(1 for piece in encode_pieces(api.replica.state()) if piece)
    fail_at(api, pieces + 1, OutcomeUnknownError("x"))

    answer = await restore(api, saved)

    assert (answer.status, answer.text) == (504, restores.FINISH_UNKNOWN)
    assert answer.headers["x-nodestate-outcome"] == "unknown"
    assert not isinstance(steps(api)[-1], AbandonRestore)


def fail_at(api: Api, step: int, error: Exception) -> None:
    """Have the proposal of that number fail once."""
    propose = api.proposer.propose
    count = 0

    async def failing(command, **how):
        nonlocal count
        count += 1
        if count == step + 1:
            raise error
        return await propose(command, **how)

    api.proposer.propose = failing  # type: ignore[method-assign]


async def begin_another(api: Api) -> None:
    command = BeginRestore(
        restore_id="another", byte_count=1, sha256=b"s" * 32, at_ns=1
    )
    await api.proposer.propose(command, deadline_s=1.0)


async def test_a_second_restore_is_refused_unless_the_first_is_given_up(
    api: Api, saved
):
    await begin_another(api)

    refused = await restore(api, saved)
    assert (refused.status, refused.text) == (409, "another restore is under way")
    assert api.replica.state().restore is not None
    forced = await restore(api, saved, "?force")

    assert forced.status == 200
    assert await node_count(api) == 1


async def test_one_server_takes_one_at_a_time(api: Api, saved):
    api.proposer.gate.clear()
    first = asyncio.create_task(restore(api, saved))
    await api.until(lambda: api.disk.staged_bytes > 0)

    second = await restore(api, saved)
    api.proposer.gate.set()

    assert second.status == 429
    assert "RESTORES_MAX" in second.text
    assert (await first).status == 200
    assert (await restore(api, saved)).status == 200


async def test_the_same_restore_again_does_not_undo_what_came_since(api: Api, saved):
    first = await restore(api, saved, Idempotency_Key="k")
    await api.register(OTHER_ID)

    again = await restore(api, saved, Idempotency_Key="k")
    other = await restore(api, snapshot_of(api.replica.state()), Idempotency_Key="k")

    assert (again.status, again.index) == (200, first.index)
    assert again.headers["idempotency-replayed"] == "true"
    assert await node_count(api) == 2
    assert other.status == 422
    assert api.replica.state().restore is None


async def test_a_long_restore_has_the_time_of_a_request_for_each_entry(api: Api, saved):
    deadlines = []
    propose = api.proposer.propose

    async def slow(command, *, deadline_s, **how):
        deadlines.append(deadline_s)
        await api.clock.sleep(3.0)
        return await propose(command, deadline_s=deadline_s, **how)

    api.proposer.propose = slow  # type: ignore[method-assign]
    restoring = asyncio.create_task(restore(api, saved))
    await api.until(lambda: len(deadlines) == 1)

    await api.pass_time(restoring, 60)

    assert (await restoring).status == 200
    assert set(deadlines) == {4.0}


async def send_chunk(writer: asyncio.StreamWriter, piece: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    await writer.drain()


HEAD = (
    f"PUT {SNAPSHOT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
).encode()


async def test_a_body_that_comes_in_chunks_is_taken(api: Api, saved):
    async with api.connected() as (reader, writer):
        writer.write(HEAD)
        for start in range(0, len(saved), 100):
            await send_chunk(writer, saved[start : start + 100])
        writer.write(b"0\r\n\r\n")

        assert (await read_answer(reader)).status == 200


async def test_a_body_that_does_not_say_how_long_it_is_has_its_limit(
    api: Api, saved, monkeypatch
):
    monkeypatch.setattr(restores, "UPLOAD_BYTES_MAX", len(saved) - 1)
    async with api.connected() as (reader, writer):
        writer.write(HEAD)
        await send_chunk(writer, saved)

        assert (await read_answer(reader)).status == 413
    assert api.disk.staged_bytes == 0


async def test_a_body_that_stops_coming_is_given_up(api: Api, saved, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_S_MAX", 0.05)
    async with api.connected() as (reader, writer):
        writer.write(HEAD)
        await send_chunk(writer, saved[:100])

        assert (await read_answer(reader)).status == 408
    assert api.disk.staged_bytes == 0
    assert (await restore(api, saved)).status == 200


async def test_a_body_that_is_encoded_is_refused(api: Api, saved):
    assert (await restore(api, saved, Content_Encoding="gzip")).status == 415
