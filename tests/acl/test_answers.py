"""What is sent of policies and tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from nodestate.acl.answers import policy_answer, policy_stub, token_answer, token_stub
from nodestate.fsm.state import State
from nodestate.model.acl import ANONYMOUS_TOKEN, ACLPolicy, RoleLink
from nodestate.model.encoding import encode_json
from nodestate.model.timestamp import Timestamp
from tests.conformance.rows import rows
from tests.fsm.acls import (
    A1,
    NODE_READ,
    R1,
    new_token,
    put_policies,
    put_roles,
    put_tokens,
    role,
    secret_of,
)
from tests.fsm.entries import START_NS, Log

RECORDED = json.loads(
    (Path(__file__).parents[1] / "model" / "recorded_acl.json").read_text()
)


def shown(answer: object) -> Any:
    return json.loads(encode_json(answer))


@pytest.fixture
def state() -> State:
    return Log(
        put_policies(reader=NODE_READ),
        put_roles(role()),
        put_tokens(
            new_token(roles=(RoleLink(id=R1),), expiration_time=Timestamp(START_NS + 1))
        ),
    ).state


@rows("ACL-9.7")
def test_a_list_has_no_secret(state):
    stub = shown(token_stub(state, state.acl_tokens[A1]))

    assert stub == {
        "AccessorID": A1,
        "Name": "token-1",
        "Type": "client",
        "Policies": ["reader"],
        "Roles": [{"ID": R1, "Name": "role-11"}],
        "Global": False,
        "Hash": shown(state.acl_tokens[A1].hash),
        "CreateTime": "2023-11-14T22:13:20.123456789Z",
        "ExpirationTime": "2023-11-14T22:13:20.12345679Z",
        "CreateIndex": 1002,
        "ModifyIndex": 1002,
    }


def test_who_may_have_a_secret_is_sent_it_and_it_is_not_written_down(state):
    answer = token_answer(state, state.acl_tokens[A1])

    assert shown(answer)["SecretID"] == secret_of(1)
    assert shown(answer).keys() - {"SecretID", "ExpirationTTL"} == shown(token_stub(state, state.acl_tokens[A1])).keys()  # fmt: skip
    assert secret_of(1) not in f"{answer} {[answer]!r}"


def test_who_is_anonymous_has_no_secret():
    answer = shown(token_answer(State(), ANONYMOUS_TOKEN))

    assert (answer["AccessorID"], answer["SecretID"]) == ("anonymous", "")
    assert answer["Policies"] == ["anonymous"]


def test_roles_are_shown_as_they_are_called_now(state):
    state.put_acl_role(role(name="new"))

    assert token_stub(state, state.acl_tokens[A1]).roles == (
        RoleLink(id=R1, name="new"),
    )

    state.remove_acl_role(R1)

    assert token_answer(state, state.acl_tokens[A1]).roles is UNSET


def test_what_later_versions_know_of_a_token_is_shown_where_there_is_any():
    state = Log(put_tokens(new_token())).state
    known = state.acl_tokens[A1]

    later = {"Roles", "ExpirationTime", "ExpirationTTL"}
    assert not later & shown(token_stub(state, known)).keys()
    assert not later & shown(token_answer(state, known)).keys()


def test_a_policy_is_shown_as_a_real_server_shows_it():
    told = RECORDED["read"]
    policy = ACLPolicy(
        name=told["Name"],
        description=told["Description"],
        rules=told["Rules"],
        create_index=told["CreateIndex"],
        modify_index=told["ModifyIndex"],
    )

    assert shown(policy_answer(policy)) == {**told, "Hash": ""}
    assert shown(policy_stub(policy)).keys() == told.keys() - {"Rules", "RulesJSON"}


def test_capabilities_are_shown_after_expansion_the_listed_ones_first():
    rules = """
    namespace "a" { policy = "read" capabilities = ["alloc-lifecycle"] }
    namespace "b" {}
    node_pool "p" { policy = "read" }
    plugin { policy = "list" }
    """

    told = shown(policy_answer(ACLPolicy(name="p", rules=rules)))["RulesJSON"]

    assert told["Namespaces"] == [
        {
            "Name": "a",
            "Policy": "read",
            "Capabilities": ["alloc-lifecycle", "list-jobs", "read-job"],
        },
        {"Name": "b", "Policy": "", "Capabilities": None},
    ]
    assert told["NodePools"][0]["Name"] == "p"
    assert told["Plugin"] == {"Policy": "list"}
    assert told["HostVolumes"] is None
    assert told["Raw"] == rules


def test_rules_that_cannot_be_read_are_shown_as_text():
    told = shown(policy_answer(ACLPolicy(name="p", rules="of another version")))

    assert told["RulesJSON"] is None
    assert told["Rules"] == "of another version"
