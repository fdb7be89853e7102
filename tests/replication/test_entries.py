"""What is inside an entry's body."""

import pytest

from nodestate.errors import JournalError, RequestError
from nodestate.model.command import PurgeNodes
from nodestate.model.encoding import MSGPACK
from nodestate.model.node import NodeKey
from nodestate.model.request import IdempotencyKey, Origin, Request
from nodestate.replication import entries
from nodestate.replication.entries import Envelope, Noop
from nodestate.replication.frames import Formation

ORIGIN = Origin("A", "boot", 7)
COMMAND = PurgeNodes(at_ns=1, keys=(NodeKey("n1"),), seed=bytes(16))


def test_a_body_comes_back_as_it_was():
    formation = Formation("c1", (("A", "a1"),))

    body = entries.encode_command(ORIGIN, COMMAND)
    assert body[0] == entries.COMMAND
    assert entries.decode_body(body) == Envelope(ORIGIN, COMMAND)
    assert entries.decode_body(entries.NOOP_BODY) == Noop(None)
    assert entries.decode_body(entries.encode_barrier(ORIGIN)) == Noop(ORIGIN)
    assert entries.decode_body(entries.encode_formation(formation)) == formation


def test_a_body_says_whose_request_it_is():
    key = IdempotencyKey("k", bytes(32))

    body = entries.encode_command(ORIGIN, COMMAND, floor=5, idempotency=key)

    envelope = entries.decode_body(body)
    assert isinstance(envelope, Envelope)
    assert envelope.request() == Request(ORIGIN, 5, key)


def test_an_entry_from_before_requests_were_remembered_is_read():
    body = b"\x00" + MSGPACK.encode([ORIGIN, COMMAND])

    envelope = entries.decode_body(body)

    assert isinstance(envelope, Envelope)
    assert envelope.command == COMMAND
    assert envelope.request() == Request(ORIGIN)


@pytest.mark.parametrize("body", [b"", b"\x03", b"\xff", b"\x00", b"\x02", b"\x01\xc0"])
def test_what_cannot_be_read_is_an_error(body):
    with pytest.raises(JournalError):
        entries.decode_body(body)


def test_a_body_cut_anywhere_is_an_error():
    body = entries.encode_command(ORIGIN, COMMAND)

    for length in range(len(body)):
        with pytest.raises(JournalError):
            entries.decode_body(body[:length])


def test_an_unknown_command_is_an_error():
    body = entries.encode_command(ORIGIN, COMMAND).replace(b"node.purge", b"node.purgf")

    with pytest.raises(JournalError, match="kind 0 cannot be read"):
        entries.decode_body(body)


def test_a_pickle_is_not_run():
    with pytest.raises(JournalError):
        entries.decode_body(b"\x00cos\nsystem\n(S'true'\ntR.")


def test_a_peer_may_propose_commands_and_barriers_only():
    entries.check_proposed(entries.encode_command(ORIGIN, COMMAND))
    entries.check_proposed(entries.encode_barrier(ORIGIN))
    with pytest.raises(RequestError):
        entries.check_proposed(entries.encode_formation(Formation("c", ())))
    with pytest.raises(JournalError):
        entries.check_proposed(b"\x09")
