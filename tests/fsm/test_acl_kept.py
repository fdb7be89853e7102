"""Policies, tokens and roles on disk and in what is shown: all of it, and no secret."""

import msgspec
import pytest
from hypothesis import given, strategies as st

from nodestate.errors import SnapshotError
from nodestate.fsm import machine
from nodestate.fsm.acl import written_ids
from nodestate.fsm.pieces import StateLoader, encode_pieces
from nodestate.fsm.snapshot import decode_state, encode_state
from nodestate.fsm.state import (
    State,
)
from nodestate.model.acl import (
    ACLPolicy,
    RoleLink,
)
from nodestate.model.command import Command, TokenWrite
from nodestate.model.encoding import MSGPACK, encode_json
from nodestate.model.event import (
    ACLPolicyUpserted,
)
from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret
from tests.conformance.rows import rows
from tests.fsm.acls import (
    A1,
    A2,
    NODE_READ,
    R1,
    R2,
    acl_commands,
    bootstrap,
    change_token,
    delete_policies,
    delete_roles,
    delete_tokens,
    expire,
    new_token,
    put_policies,
    put_roles,
    put_tokens,
    role,
    secret_of,
    token,
    uuid,
)
from tests.fsm.entries import N1, START_NS, Log, register, registration
from tests.fsm.invariants import Before, as_stored, check


@pytest.fixture
def log() -> Log:
    """A log with a policy, a role and two tokens."""
    return Log(
        put_policies(reader=NODE_READ),
        put_roles(role()),
        put_tokens(new_token(1), new_token(2, is_global=True)),
    )


def story() -> list[Command]:
    """Return every kind of command, as one log has them."""
    log = Log()
    commands = []
    for command in acl_commands(log):
        log.apply(command)
        commands.append(command)
    return commands


def test_every_step_keeps_the_invariants_and_every_replica_has_the_same_bytes():
    one, other = State(), State()
    for index, command in enumerate(story(), 1000):
        machine.check(one, command)
        before = Before(one)
        check(before, one, index, machine.apply(one, index, command))
        (stored,) = as_stored([command])
        machine.apply(other, index, stored)

    assert encode_state(one) == encode_state(other)
    assert one.acl_tokens.keys() == one.acl_secrets.keys()
    assert set(one.accessors_by_secret.values()) == set(one.acl_tokens)


drawn = st.one_of(
    st.builds(
        bootstrap, st.integers(1, 3), reset_index=st.sampled_from((0, 1000, 1001))
    ),
    st.builds(lambda name: put_policies(**{name: NODE_READ}), st.sampled_from("ab")),
    st.builds(delete_policies, st.sampled_from("ab")),
    st.builds(
        lambda number, secret: put_tokens(
            TokenWrite(token(number), Secret(secret_of(secret)))
        ),
        st.integers(1, 3),
        st.integers(1, 3),
    ),
    st.builds(
        change_token,
        st.integers(1, 3),
        roles=st.sampled_from((None, (RoleLink(id=R1),), (RoleLink(name="n"),))),
        expiration_time=st.sampled_from((Timestamp(0), Timestamp(START_NS))),
    ),
    st.builds(lambda number: delete_tokens(uuid(number)), st.integers(1, 3)),
    st.builds(lambda number: expire(uuid(number)), st.integers(1, 3)),
    st.builds(
        lambda number, name, is_new: put_roles(
            role(number, "a", name=name), is_new=is_new
        ),
        st.integers(11, 12),
        st.sampled_from("nm"),
        st.booleans(),
    ),
    st.builds(lambda number: delete_roles(uuid(number)), st.integers(11, 12)),
)


@given(st.lists(drawn, max_size=25))
def test_whatever_is_asked_the_tables_fit_each_other(commands):
    state = State()
    for index, command in enumerate(commands, 1000):
        before = Before(state)
        check(before, state, index, machine.apply(state, index, command))

    loaded = load([piece for piece in encode_pieces(state) if piece])
    for again in (decode_state(encode_state(state)), loaded):
        for name in State.__slots__:
            assert getattr(again, name) == getattr(state, name), name
    assert state.acl_tokens.keys() == state.acl_secrets.keys()
    assert {r.name: r.id for r in state.acl_roles.values()} == state.acl_role_ids
    for accessor_id, secret in state.acl_secrets.items():
        assert state.acl_token_of(secret.reveal()) is state.acl_tokens[accessor_id]


def load(pieces: list[bytes]) -> State:
    loader = StateLoader()
    for piece in pieces:
        loader.feed(piece)
    return loader.finish()


@rows("ACL-9.7")
def test_no_secret_shows_in_an_event_a_command_an_outcome_or_a_listing():
    log = Log()
    shown = []
    for command in acl_commands(log):
        applied = log.apply(command)
        shown += [repr(command), repr(applied), encode_json(command).decode()]
        shown += [encode_json(event).decode() for event in applied.events]
        shown.append(MSGPACK.encode(applied.outcome).decode("latin-1"))
    shown.append(encode_json(log.state.acl_secrets).decode())
    shown.append(encode_json(list(log.state.acl_tokens.values())).decode())

    assert not [text for text in shown if "-5ec2-" in text]
    assert any("<redacted>" in text for text in shown)


def test_a_copy_stays_as_it_was(log):
    copy = log.state.shallow_copy()
    before = encode_state(copy)

    for command in acl_commands(log):
        log.apply(command)

    assert encode_state(copy) == before
    assert copy.acl_token_of(secret_of(1)) == copy.acl_tokens[A1]


def test_a_state_without_these_tables_still_loads():
    """Older servers wrote neither the tables nor their indexes."""
    log = Log(register(registration(N1)))
    head, *rest = [piece for piece in encode_pieces(log.state) if piece]
    told = msgspec.msgpack.decode(head)
    for part in ("counts", "indexes"):
        told[part] = {k: v for k, v in told[part].items() if not k.startswith("acl_")}
    told["fields"] = {k: v for k, v in told["fields"].items() if "ACL" not in k}

    state = load([msgspec.msgpack.encode(told), *rest])

    assert encode_state(state) == encode_state(log.state)


@pytest.mark.parametrize(
    ("table", "records", "reason"),
    [
        (
            "acl_policies",
            [("a", ACLPolicy(name="b"))],
            "'a' in table acl_policies is not",
        ),
        ("acl_tokens", [(A1, token(2))], "in table acl_tokens is not what it says"),
        ("acl_roles", [(R1, role(12))], "in table acl_roles is not what it says"),
        ("acl_roles", [(R1, role(name="n")), (R2, role(12, name="n"))], "'n' is there"),
        ("acl_secrets", [(A1, Secret(secret_of(1)))], f"no token {A1}, but its secret"),
    ],
)
def test_records_that_do_not_fit_each_other_are_no_state(table, records, reason):
    head = next(encode_pieces(State()))

    with pytest.raises(SnapshotError, match=reason):
        load([head, MSGPACK.encode((table, records))])


def test_a_secret_that_two_tokens_have_is_no_state(log):
    state = log.state
    state.acl_secrets[A2] = state.acl_secrets[A1]

    with pytest.raises(SnapshotError, match=f"secret of token {A2} is another's"):
        load([piece for piece in encode_pieces(state) if piece])


def test_a_token_without_a_secret_can_be_deleted(log):
    """No entry makes one, but a restored state may have it."""
    log.state.accessors_by_secret.clear()
    log.state.acl_secrets.clear()

    log.accept(delete_tokens(A1))

    assert log.state.acl_tokens.keys() == {A2}


def test_ids_are_told_of_tokens_and_roles_alone(log):
    was = log.state.acl_policies["reader"]

    assert written_ids([ACLPolicyUpserted(was)]) == ()
