"""Permits: what was allowed a moment ago may not be so where it is applied."""

from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.fsm import machine, permits
from nodestate.fsm.machine import Applied
from nodestate.fsm.state import State
from nodestate.model.acl import MANAGEMENT
from nodestate.model.command import ANONYMOUS, Command, Permit, Registration
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.outcome import Accepted
from nodestate.model.request import IdempotencyKey, Origin, Request
from tests.fsm.acls import (
    A1,
    A2,
    NODE_READ,
    NODE_WRITE,
    change_token,
    delete_policies,
    delete_tokens,
    new_token,
    put_policies,
    put_roles,
    put_tokens,
    role,
)
from tests.fsm.entries import drain, register, registration

KEY = IdempotencyKey("key", b"f" * 32)


class Replica:
    """A state with a node, two tokens and their policy; each entry is a request."""

    def __init__(self) -> None:
        self.state = State()
        self.index = 10
        self.apply(register())
        self.apply(put_policies(reader=NODE_WRITE))
        self.apply(
            put_tokens(new_token(1), new_token(2, type=MANAGEMENT, policies=None))
        )

    def apply(self, command: Any, key: IdempotencyKey | None = None) -> Applied:
        self.index += 1
        sequence = self.index - 10
        request = Request(Origin("server1", "boot", sequence), sequence, key)
        return machine.apply(self.state, self.index, command, request)

    def permitted(self, accessor_id: str) -> Any:
        permit = permits.permit_of(self.state, accessor_id)
        return replace(drain(), asked_by=accessor_id, permit=permit)


@pytest.fixture
def replica() -> Replica:
    return Replica()


@pytest.mark.parametrize("accessor_id", [A1, A2, ANONYMOUS, "client:somewhere"])
def test_what_is_permitted_is_done(replica, accessor_id):
    outcome = replica.apply(replica.permitted(accessor_id)).outcome

    assert isinstance(outcome, Accepted)
    assert outcome.index == replica.index


@pytest.mark.parametrize(
    ("accessor_id", "change", "is_refused"),
    [
        (A1, delete_tokens(A1), True),
        (A1, change_token(1, policies=("other",)), True),
        (A1, put_policies(reader=NODE_READ), True),
        (A1, delete_policies("reader"), True),
        (A1, put_roles(role()), True),
        (A1, delete_tokens(A2), False),
        (A1, put_tokens(new_token(3)), False),
        (A2, delete_tokens(A2), True),
        (A2, change_token(2, type=MANAGEMENT, name="other", policies=None), True),
        (A2, put_policies(reader=NODE_READ), False),
        (A2, put_roles(role()), False),
        (A2, delete_tokens(A1), False),
        (ANONYMOUS, put_policies(anonymous=NODE_READ), True),
        (ANONYMOUS, delete_tokens(A1), False),
        (A1, register(), False),
    ],
)
def test_what_is_not_so_any_more_permits_nothing(
    replica, accessor_id, change, is_refused
):
    command = replica.permitted(accessor_id)
    assert isinstance(replica.apply(change).outcome, Accepted)

    applied = replica.apply(command)

    assert (applied.outcome is permits.OUTDATED) is is_refused
    assert bool(applied.events) is not is_refused


def test_what_nobody_had_to_permit_is_done_whatever_changes(replica):
    replica.apply(put_policies(anonymous=NODE_READ))

    assert replica.apply(drain()).events


def test_a_refused_permit_leaves_the_key_to_the_request_that_follows(replica):
    command = replica.permitted(A1)
    replica.apply(put_policies(other=NODE_READ))
    assert replica.apply(command, KEY).outcome is permits.OUTDATED

    again = replica.apply(replica.permitted(A1), KEY)

    assert isinstance(again.outcome, Accepted)
    assert not again.outcome.is_replayed


def test_what_a_key_was_told_is_for_who_is_still_permitted(replica):
    command = replica.permitted(A1)
    assert isinstance(replica.apply(command, KEY).outcome, Accepted)
    replica.apply(delete_tokens(A1))

    assert replica.apply(command, KEY).outcome is permits.OUTDATED


def test_commands_from_before_permits_are_read_as_without_one():
    decoder = msgpack_decoder(Command)  # type: ignore[arg-type, var-annotated]
    old, new = drain(), replace(drain(), permit=Permit(3, 4))

    assert b"permit" not in MSGPACK.encode(old)
    assert decoder.decode(MSGPACK.encode(old)) == old
    assert decoder.decode(MSGPACK.encode(new)) == new


def test_a_node_that_must_be_known_is_not_added():
    state = State()
    known = replace(registration(), is_known=True)

    def result(index: int, one: Registration) -> Any:
        outcome = machine.apply(state, index, register(one)).outcome
        assert isinstance(outcome, Accepted)
        return outcome.registrations[0].refused

    refused = result(11, known)
    assert (refused.code, refused.reason) == ("forbidden", "Permission denied")
    assert not state.nodes
    assert result(12, registration()) is None
    assert result(13, known) is None
