"""From secrets to who asks: in every state of the token, and remembered no longer than true."""

from hashlib import sha256

import pytest
from msgspec.structs import replace

from nodestate.acl import resolve
from nodestate.acl.permissions import MANAGEMENT, NOTHING
from nodestate.acl.policies import READ_JOB, Policy, parse_policy
from nodestate.acl.resolve import (
    EXPIRED,
    NOT_FOUND,
    Identity,
    Resolver,
    Unresolved,
    nodes_with_secret,
    policy_names,
)
from nodestate.fsm.snapshot import decode_state, encode_state
from nodestate.fsm.state import State
from nodestate.model.acl import ANONYMOUS_TOKEN, ACLPolicy, RoleLink
from nodestate.model.command import TokenWrite
from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret
from tests.conformance.rows import rows
from tests.fsm.acls import (
    A1,
    NODE_DENY,
    NODE_READ,
    NODE_WRITE,
    R1,
    bootstrap,
    change_token,
    delete_policies,
    delete_roles,
    delete_tokens,
    new_token,
    put_policies,
    put_roles,
    put_tokens,
    role,
    secret_of,
    token,
    uuid,
)
from tests.fsm.entries import (
    N1,
    N2,
    N3,
    OTHER_SECRET,
    SECRET,
    START_NS,
    Log,
    purge,
    register,
    registration,
)

NOW_NS = START_NS


@pytest.fixture
def log() -> Log:
    return Log(put_policies(reader=NODE_READ), put_tokens(new_token()))


def resolved(state: State, secret: str = secret_of(1), resolver=None) -> Identity:
    found = (resolver or Resolver()).resolve(state, secret, NOW_NS)
    assert isinstance(found, Identity), found
    return found


def test_a_token_has_what_its_policies_grant(log):
    identity = resolved(log.state)

    assert identity.token is log.state.acl_tokens[A1]
    assert identity.permissions.allows_node_read
    assert not identity.permissions.allows_node_write


def test_a_secret_is_the_same_in_either_case(log):
    assert resolved(log.state, secret_of(1).upper()).token.accessor_id == A1


@pytest.mark.parametrize(
    "secret",
    [
        secret_of(2),
        pytest.param(A1, id="ACL-9.8"),
        "bogus",
        secret_of(1)[:-1],
        f" {secret_of(1)[1:]}",
        "\udcff" * 36,
        "anonymous",
    ],
)
def test_what_is_no_secret_is_not_found(log, secret):
    """A malformed one as little as an unknown one: who probes learns nothing (V7)."""
    assert Resolver().resolve(log.state, secret, NOW_NS) is NOT_FOUND
    assert NOT_FOUND.text == "ACL token not found"


@rows("ACL-9.5")
def test_a_deleted_token_is_refused_at_once(log):
    resolver = Resolver()
    resolved(log.state, resolver=resolver)

    log.accept(delete_tokens(A1))

    assert resolver.resolve(log.state, secret_of(1), NOW_NS) is NOT_FOUND


def test_a_token_ends_without_an_entry():
    end = Timestamp(NOW_NS + 10)
    log = Log(
        put_policies(reader=NODE_READ), put_tokens(new_token(expiration_time=end))
    )
    resolver = Resolver()

    assert isinstance(resolver.resolve(log.state, secret_of(1), NOW_NS + 9), Identity)
    assert resolver.resolve(log.state, secret_of(1), NOW_NS + 10) is EXPIRED
    assert EXPIRED.text == "Permission denied"


def test_management_may_do_everything_whatever_policies_say():
    log = Log(bootstrap(1))

    assert resolved(log.state).permissions is MANAGEMENT


def test_who_has_no_token_has_what_the_anonymous_policy_grants(log):
    resolver = Resolver()
    assert resolved(log.state, "", resolver) == (ANONYMOUS_TOKEN, NOTHING)

    log.accept(put_policies(anonymous=NODE_READ))
    assert resolved(log.state, "", resolver).permissions.allows_node_read

    log.accept(delete_policies("anonymous"))
    assert resolved(log.state, "", resolver).permissions is NOTHING


def test_the_anonymous_policy_is_for_nobody_else(log):
    log.accept(put_policies(anonymous=NODE_WRITE))

    assert not resolved(log.state).permissions.allows_node_write


def test_a_policy_that_is_not_there_is_passed_over():
    log = Log(put_tokens(new_token(policies=("nothing",))))

    assert resolved(log.state).permissions is NOTHING


@rows("ACL-9.6")
def test_a_policy_that_changes_holds_at_once(log):
    resolver = Resolver()
    log.accept(put_policies(reader=NODE_WRITE))
    assert resolved(log.state, resolver=resolver).permissions.allows_node_write

    log.accept(put_policies(reader=NODE_READ))

    assert not resolved(log.state, resolver=resolver).permissions.allows_node_write


def test_a_token_that_changes_holds_at_once(log):
    log.accept(put_policies(denied=NODE_DENY))
    resolver = Resolver()
    assert resolved(log.state, resolver=resolver).permissions.allows_node_read

    log.accept(change_token(policies=("denied", "reader")))

    assert not resolved(log.state, resolver=resolver).permissions.allows_node_read


def test_roles_add_their_policies_for_as_long_as_they_are_there():
    log = Log(
        put_policies(reader=NODE_READ, writer=NODE_WRITE, denied=NODE_DENY),
        put_roles(role(11, "writer")),
        put_tokens(new_token(roles=(RoleLink(id=R1),))),
    )
    resolver = Resolver()
    assert resolved(log.state, resolver=resolver).permissions.allows_node_write
    assert policy_names(log.state, log.state.acl_tokens[A1]) == ["reader", "writer"]

    log.accept(put_roles(role(11, "writer", "denied"), is_new=False))
    assert not resolved(log.state, resolver=resolver).permissions.allows_node_read

    log.accept(delete_roles(R1))
    assert resolved(log.state, resolver=resolver).permissions.allows_node_read
    assert not resolved(log.state, resolver=resolver).permissions.allows_node_write


def test_a_policy_that_cannot_be_read_may_have_been_a_deny(log):
    log.accept(change_token(policies=("reader", "newer")))
    log.accept(put_policies(newer='node { policy = "deny" when = "always" }'))

    found = Resolver().resolve(log.state, secret_of(1), NOW_NS)

    assert isinstance(found, Unresolved)
    assert found.text == "Permission denied"
    assert found.reason.startswith(
        "policy 'newer' cannot be used: Invalid or duplicate"
    )


def test_what_was_worked_out_is_kept_while_it_holds(log, monkeypatch):
    read: list[str] = []

    def parse(rules: str) -> Policy:
        read.append(rules)
        return parse_policy(rules)

    monkeypatch.setattr(resolve, "parse_policy", parse)
    log.accept(put_tokens(new_token(2)))
    resolver = Resolver()

    first = resolved(log.state, resolver=resolver)
    assert resolved(log.state, resolver=resolver) is first
    resolved(log.state, secret_of(2), resolver)
    log.accept(put_policies(other=NODE_WRITE))
    again = resolved(log.state, resolver=resolver)

    assert again is not first
    assert read == [NODE_READ]


def test_another_state_is_another_answer(log):
    """As after a restore, or a snapshot from the leader."""
    resolver = Resolver()
    resolved(log.state, resolver=resolver)
    other = decode_state(encode_state(log.state))
    other.acl_policies["reader"] = ACLPolicy(name="reader", rules=NODE_WRITE)
    other.acl_tokens[A1] = replace(other.acl_tokens[A1], name="other")

    identity = resolved(other, resolver=resolver)

    assert identity.token.name == "other"
    assert identity.permissions.allows_node_write


def test_what_is_kept_has_a_bound(monkeypatch):
    monkeypatch.setattr(resolve, "TOKENS_KEPT_MAX", 4)
    monkeypatch.setattr(resolve, "POLICIES_KEPT_MAX", 4)
    log = Log(*(put_policies(**{f"p{number}": NODE_READ}) for number in range(10)))
    resolver = Resolver()

    for number in range(10):
        log.accept(put_tokens(new_token(number, policies=(f"p{number}",))))
        assert resolved(
            log.state, secret_of(number), resolver
        ).permissions.allows_node_read

    assert len(resolver._known) <= 4
    assert len(resolver._policies) <= 4


def test_no_secret_is_kept(log):
    resolver = Resolver()
    resolved(log.state, resolver=resolver)

    assert "-5ec2-" not in repr(vars(resolver))
    assert resolver._known.keys() == {uuid(1)}


def test_an_agent_is_found_by_its_nodes_secret():
    one, other = "11111111-2222-4333-8444-555555555555", "another"
    digest = sha256(one.encode()).digest()
    log = Log(
        register(
            registration(N2, secret=digest),
            registration(N1, secret=digest),
            registration(N3, secret=sha256(other.encode()).digest()),
        )
    )

    assert nodes_with_secret(log.state, one) == [N1, N2]
    assert nodes_with_secret(log.state, other) == [N3]
    assert nodes_with_secret(log.state, "") == []
    assert nodes_with_secret(log.state, "\udcff") == []

    log.accept(purge(N1))

    assert nodes_with_secret(log.state, one) == [N2]


def test_a_node_that_comes_back_with_another_secret_has_only_that():
    log = Log(register(), purge(), register(registration(N1, secret=OTHER_SECRET)))

    assert log.state.nodes_with_secret(SECRET) == []
    assert log.state.nodes_with_secret(OTHER_SECRET) == [N1]


def test_a_glob_counts_for_tokens_as_well(log):
    log.accept(put_policies(reader='namespace "*" { policy = "read" }'))

    assert resolved(log.state).permissions.allows_namespace("default", READ_JOB)


def test_an_accessor_that_gets_another_secret_is_not_found_by_the_one_it_had(log):
    resolver = Resolver()
    resolved(log.state, resolver=resolver)
    log.accept(delete_tokens(A1))
    log.accept(put_tokens(TokenWrite(token(1), Secret(secret_of(7)))))

    assert resolver.resolve(log.state, secret_of(1), NOW_NS) is NOT_FOUND
    assert resolved(log.state, secret_of(7), resolver).token.accessor_id == A1


def test_of_what_finds_no_token_nothing_is_kept(log):
    resolver = Resolver()
    for number in range(100, 110):
        resolver.resolve(log.state, secret_of(number), NOW_NS)

    assert resolver._accessors == {}
