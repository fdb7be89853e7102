"""Policies, tokens and roles in the state: who may have which, and what is written."""

from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.fsm.state import (
    ACL_BOOTSTRAP,
    ACL_POLICIES,
    ACL_ROLES,
    ACL_TOKENS,
    BOOTSTRAP_KEY,
    NODES,
)
from nodestate.model.acl import (
    ACLBootstrap,
    ACLPolicy,
    ACLToken,
    PolicyLink,
    RoleLink,
    policy_hash,
    role_hash,
    token_hash,
)
from nodestate.model.command import TokenWrite
from nodestate.model.event import (
    ACLBootstrapped,
    ACLPolicyDeleted,
    ACLPolicyUpserted,
    ACLRoleUpserted,
    ACLTokenDeleted,
    ACLTokenUpserted,
)
from nodestate.model.outcome import ACL_SECRET_IN_USE, Accepted, RefusalCode, Refused
from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret
from tests.conformance.rows import rows
from tests.fsm.acls import (
    A1,
    A2,
    A3,
    NODE_READ,
    NODE_WRITE,
    R1,
    R2,
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
from tests.fsm.entries import START_NS, Log


@pytest.fixture
def log() -> Log:
    """A log with a policy, a role and two tokens."""
    return Log(
        put_policies(reader=NODE_READ),
        put_roles(role()),
        put_tokens(new_token(1), new_token(2, is_global=True)),
    )


# Policies


def test_a_policy_is_written_with_its_hash_and_its_indexes():
    log = Log()

    applied = log.apply(put_policies(reader=NODE_READ))

    written = log.state.acl_policies["reader"]
    sent = ACLPolicy(name="reader", rules=NODE_READ)
    assert written == replace(
        sent,
        hash=policy_hash(sent),
        create_index=log.index,
        modify_index=log.index,
    )
    assert applied.events == (ACLPolicyUpserted(written),)
    assert applied.outcome == Accepted(index=log.index)
    assert log.state.table_index(ACL_POLICIES) == log.index


def test_a_policy_that_is_replaced_keeps_when_it_was_created(log):
    created = log.state.acl_policies["reader"].create_index

    log.accept(put_policies(reader=NODE_WRITE))

    written = log.state.acl_policies["reader"]
    assert (written.create_index, written.modify_index) == (created, log.index)
    assert written.rules == NODE_WRITE


def test_a_policy_that_is_deleted_leaves_its_name_with_tokens(log):
    was = log.state.acl_policies["reader"]

    applied = log.apply(delete_policies("reader", "reader"))

    assert applied.events == (ACLPolicyDeleted("reader", was),)
    assert log.state.acl_policies == {}
    assert log.state.acl_tokens[A1].policies == ("reader",)


def test_a_policy_that_is_not_there_can_be_deleted_and_raises_the_index(log):
    applied = log.apply(delete_policies("never"))

    assert applied.events == (ACLPolicyDeleted("never", None),)
    assert log.state.table_index(ACL_POLICIES) == log.index
    assert ("acl_policies", "never") in applied.keys


def test_each_table_has_an_index_of_its_own(log):
    nodes, tokens = log.state.table_index(NODES), log.state.table_index(ACL_TOKENS)

    log.accept(put_policies(writer=NODE_WRITE))

    assert log.state.table_index(NODES) == nodes
    assert log.state.table_index(ACL_TOKENS) == tokens
    assert log.state.table_index(ACL_ROLES) == tokens - 1


# Tokens


def test_a_token_is_written_and_found_by_its_secret():
    log = Log()
    write = new_token()

    applied = log.apply(put_tokens(write))

    written = log.state.acl_token_of(secret_of(1))
    assert written == replace(
        write.token,
        hash=token_hash(write.token),
        create_index=log.index,
        modify_index=log.index,
    )
    assert applied.events == (ACLTokenUpserted(written, write.secret),)
    assert applied.outcome == Accepted(index=log.index, written_ids=(A1,))
    assert log.state.acl_secrets == {A1: Secret(secret_of(1))}


def test_a_token_that_changes_keeps_what_only_the_server_says(log):
    was = log.state.acl_tokens[A1]
    secret = log.state.acl_secrets[A1]

    outcome = log.accept(
        change_token(
            name="other", policies=("a", "b"), create_time=Timestamp(5), create_index=7
        )
    )

    now = log.state.acl_tokens[A1]
    changed = replace(was, name="other", policies=("a", "b"), modify_index=log.index)
    assert now == replace(changed, hash=token_hash(changed))
    assert now.hash != was.hash
    assert log.state.acl_secrets[A1] is secret
    assert log.state.acl_token_of(secret_of(1)) is now
    assert outcome.written_ids == (A1,)


def test_nothing_is_none():
    log = Log()

    log.accept(put_tokens(new_token(policies=(), roles=())))

    assert log.state.acl_tokens[A1].policies is None
    assert log.state.acl_tokens[A1].roles is None


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (change_token(9), RefusalCode.NOT_FOUND, f"cannot find token {uuid(9)}"),
        (
            change_token(is_global=True),
            RefusalCode.INVALID,
            f"cannot toggle global mode of {A1}",
        ),
        (
            change_token(2),
            RefusalCode.INVALID,
            f"cannot toggle global mode of {A2}",
        ),
        (
            change_token(expiration_ttl="1h0m0s"),
            RefusalCode.INVALID,
            "cannot update expiration TTL",
        ),
        (
            change_token(expiration_time=Timestamp(START_NS)),
            RefusalCode.INVALID,
            "cannot update expiration time",
        ),
        (
            change_token(roles=(RoleLink(name="nobody"),)),
            RefusalCode.INVALID,
            "cannot find role nobody",
        ),
        (
            put_tokens(new_token(3, roles=(RoleLink(id=R2, name="role-11"),))),
            RefusalCode.INVALID,
            f"cannot find role {R2}",
        ),
        (
            put_tokens(new_token(1)),
            RefusalCode.CONFLICT,
            f"token {A1} already exists",
        ),
        (
            put_tokens(TokenWrite(token(3), Secret(secret_of(1)))),
            RefusalCode.CONFLICT,
            ACL_SECRET_IN_USE,
        ),
        (
            put_tokens(new_token(3), TokenWrite(token(4), Secret(secret_of(3)))),
            RefusalCode.INVALID,
            f"token {uuid(4)}, or its secret, is there twice",
        ),
        (
            put_tokens(new_token(3), new_token(3)),
            RefusalCode.INVALID,
            f"token {A3}, or its secret, is there twice",
        ),
        (
            put_tokens(new_token(3), TokenWrite(token(9))),
            RefusalCode.NOT_FOUND,
            f"cannot find token {uuid(9)}",
        ),
        (
            delete_tokens(A1, uuid(8), uuid(9)),
            RefusalCode.INVALID,
            f"Cannot delete nonexistent tokens: {uuid(8)}, {uuid(9)}",
        ),
        (delete_tokens(A1.upper().replace("1", "F")), RefusalCode.INVALID, None),
    ],
)
def test_a_token_that_cannot_be_is_refused_and_so_are_those_with_it(
    log, command, code, reason
):
    refused = log.refuse(command)

    assert refused.code is code
    assert reason is None or refused.reason == reason


def test_two_tokens_may_change_at_once(log):
    log.accept(
        put_tokens(TokenWrite(token(1)), TokenWrite(token(2, is_global=True, name="b")))
    )

    assert log.state.acl_tokens[A2].name == "b"


def test_a_token_links_to_roles_by_id_or_by_name_each_once(log):
    links = (RoleLink(name="role-11"), RoleLink(id=R1), RoleLink(id=R1, name="wrong"))

    log.accept(change_token(roles=links))

    assert log.state.acl_tokens[A1].roles == (RoleLink(id=R1, name="role-11"),)


def test_what_a_token_was_told_of_its_end_may_be_said_again(log):
    ends: dict[str, Any] = {
        "expiration_time": Timestamp(START_NS + 9),
        "expiration_ttl": "9ns",
    }
    log.accept(put_tokens(new_token(3, **ends)))

    log.accept(change_token(3, name="b", **ends))
    log.accept(change_token(3, name="c"))

    assert log.state.acl_tokens[A3].expiration_ttl == "9ns"
    assert log.state.acl_tokens[A3].expiration_time.ns == START_NS + 9


def test_a_token_that_is_deleted_is_found_no_more(log):
    was = log.state.acl_tokens[A1]

    applied = log.apply(delete_tokens(A1, A1))

    assert applied.events == (ACLTokenDeleted(was),)
    assert log.state.acl_token_of(secret_of(1)) is None
    assert A1 not in log.state.acl_secrets
    assert log.state.acl_token_of(secret_of(2)) is not None


def test_the_time_of_the_command_says_which_tokens_are_over(log):
    ends = Timestamp(START_NS + 10)
    log.accept(put_tokens(new_token(3, expiration_time=ends)))

    assert log.accept(expire(A1, A3, uuid(9), at_ns=START_NS + 9)).index == 0
    log.accept(expire(A1, A3, A3, at_ns=START_NS + 10))

    assert log.state.acl_tokens.keys() == {A1, A2}
    assert log.state.acl_token_of(secret_of(3)) is None


# Bootstrap


def test_the_first_token_may_do_everything():
    log = Log()

    applied = log.apply(bootstrap())

    made = log.state.acl_tokens[uuid(100)]
    sent = ACLToken(
        accessor_id=uuid(100),
        name="Bootstrap Token",
        type="management",
        is_global=True,
        create_time=Timestamp(START_NS),
        create_index=log.index,
        modify_index=log.index,
    )
    assert made == replace(sent, hash=token_hash(sent))
    assert log.state.acl_bootstrap == {
        BOOTSTRAP_KEY: ACLBootstrap(
            accessor_id=uuid(100), create_index=log.index, modify_index=log.index
        )
    }
    assert applied.outcome == Accepted(index=log.index, written_ids=(uuid(100),))
    assert isinstance(applied.events[1], ACLBootstrapped)
    assert log.state.table_index(ACL_BOOTSTRAP) == log.index


@rows("ACL-9.1")
def test_of_two_who_bootstrap_at_once_one_gets_a_token():
    log = Log(bootstrap(1))
    first = log.index

    refused = log.refuse(bootstrap(2))

    assert refused == Refused(
        RefusalCode.INVALID, f"ACL bootstrap already done (reset index: {first})"
    )
    assert log.state.acl_tokens.keys() == {A1}


def test_a_reset_names_the_index_of_the_last_bootstrap():
    log = Log(bootstrap(1))
    first = log.index

    wrong = log.refuse(bootstrap(2, reset_index=first + 1))
    log.accept(bootstrap(2, reset_index=first))
    again = log.refuse(bootstrap(3, reset_index=first))

    assert wrong == Refused(
        RefusalCode.INVALID,
        f"Invalid bootstrap reset index (specified {first + 1}, reset index: {first})",
    )
    assert again.reason == (
        f"Invalid bootstrap reset index (specified {first}, reset index: {first + 2})"
    )
    assert log.state.acl_tokens.keys() == {A1, A2}
    assert log.state.acl_bootstrap[BOOTSTRAP_KEY].create_index == first


def test_a_reset_where_nothing_was_bootstrapped_is_a_bootstrap():
    log = Log()

    log.accept(bootstrap(reset_index=7))

    assert log.state.acl_tokens.keys() == {uuid(100)}


def test_a_secret_that_is_in_use_bootstraps_nothing(log):
    command = replace(bootstrap(), secret=Secret(secret_of(1)))

    assert log.refuse(command).reason == ACL_SECRET_IN_USE


# Roles


def test_a_role_is_written_with_its_hash_and_its_indexes(log):
    sent = role(12, "reader", "reader", description="d")

    applied = log.apply(put_roles(sent))

    unique = replace(
        sent,
        policies=(PolicyLink(name="reader"),),
        create_index=log.index,
        modify_index=log.index,
    )
    written = replace(unique, hash=role_hash(unique))
    assert log.state.acl_roles[R2] == written
    assert log.state.acl_role_named("role-12") == written
    assert applied.events == (ACLRoleUpserted(written),)
    assert applied.outcome == Accepted(index=log.index, written_ids=(R2,))


def test_a_role_that_changes_its_name_is_found_by_the_new_one(log):
    created = log.state.acl_roles[R1].create_index

    log.accept(put_roles(role(name="new"), is_new=False))
    log.accept(put_roles(role(12, name="role-11")))

    assert log.state.acl_role_named("new").id == R1
    assert log.state.acl_role_named("role-11").id == R2
    assert log.state.acl_roles[R1].create_index == created


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (
            put_roles(role(12), is_new=False),
            RefusalCode.INVALID,
            f"cannot find role {R2}",
        ),
        (put_roles(role(11)), RefusalCode.CONFLICT, f"role {R1} already exists"),
        (
            put_roles(role(12, name="role-11")),
            RefusalCode.INVALID,
            "role with name role-11 already exists",
        ),
        (
            put_roles(role(12, "reader", "none")),
            RefusalCode.INVALID,
            "cannot find policy none",
        ),
        (
            put_roles(role(12, name="x"), role(13, name="x")),
            RefusalCode.INVALID,
            f"role {uuid(13)}, or its name, is there twice",
        ),
        (delete_roles(R1, R2), RefusalCode.NOT_FOUND, "ACL role not found"),
    ],
)
def test_a_role_that_cannot_be_is_refused(log, command, code, reason):
    assert log.refuse(command) == Refused(code, reason)


def test_a_role_that_is_deleted_leaves_its_links(log):
    log.accept(change_token(roles=(RoleLink(id=R1),)))

    log.accept(delete_roles(R1, R1))

    assert log.state.acl_role_named("role-11") is None
    assert log.state.acl_tokens[A1].roles == (RoleLink(id=R1, name="role-11"),)
