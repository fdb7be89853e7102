"""What can be written as a policy, a token or a role, and Nomad's texts for the rest."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nodestate.acl.checks import (
    LINKS_MAX,
    check_policy,
    check_role,
    check_token,
    multi_error,
)
from nodestate.errors import RequestError
from nodestate.model.acl import ACLPolicy, ACLRole, ACLToken, PolicyLink, RoleLink

RECORDED = json.loads(
    (Path(__file__).parents[1] / "model" / "recorded_acl.json").read_text()
)


@pytest.mark.parametrize("told", RECORDED["policies"], ids=lambda told: told["Name"])
def test_a_policy_that_a_real_server_took_is_taken(told):
    check_policy(
        ACLPolicy(
            name=told["Name"], description=told["Description"], rules=told["Rules"]
        )
    )


@pytest.mark.parametrize("told", RECORDED["tokens"], ids=lambda told: told["Name"])
def test_a_token_that_a_real_server_took_is_taken(told):
    check_token(
        ACLToken(
            name=told["Name"], type=told["Type"], policies=tuple(told["Policies"] or ())
        )
    )


@pytest.mark.parametrize(
    "told", RECORDED["refused"], ids=lambda told: str(told["Body"])
)
def test_what_a_real_server_refused_is_refused_with_its_words(told):
    body, text = told["Body"], told["Text"]
    # Up to what Go's debug print, or its parser, says.
    leading = re.split(r"&acl|object expected|'bogus': ", text)[0].rstrip("\n")

    with pytest.raises(RequestError) as refused:
        check(body)

    assert str(refused.value).startswith(leading)
    assert leading.count("*") == 1


def check(body: dict[str, Any]) -> None:
    if "Rules" in body:
        check_policy(ACLPolicy(name=body["Name"], rules=body["Rules"]))
        return
    policies = tuple(body.get("Policies", ()))
    check_token(
        ACLToken(
            name=body.get("Name", ""), type=body.get("Type", ""), policies=policies
        )
    )


def problems(error: pytest.ExceptionInfo[RequestError]) -> list[str]:
    head, *lines = str(error.value).splitlines()
    listed = [line.removeprefix("\t* ") for line in lines if line]
    noun = "error" if len(listed) == 1 else "errors"
    assert head.endswith(f" 0 invalid: {len(listed)} {noun} occurred:")
    return listed


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(
        RequestError, match=r"^policy 0 invalid: 3 errors occurred:"
    ) as e:
        check_policy(ACLPolicy(name="a b", description="d" * 257, rules="foo {}"))

    assert problems(e) == [
        "invalid name 'a b'",
        "failed to parse rules: Invalid policy: foo {}",
        "description longer than 256",
    ]


def test_a_list_of_errors_is_written_as_go_writes_it():
    assert multi_error(["a"]) == "1 error occurred:\n\t* a\n\n"
    assert multi_error(["a", "b"]) == "2 errors occurred:\n\t* a\n\t* b\n\n"


@pytest.mark.parametrize(
    "name", ["", "a b", "a_b", "a/b", "é", "a*", "a" * 129, "\ud800"]
)
def test_a_name_that_cannot_be_is_refused(name):
    with pytest.raises(RequestError, match="invalid name '"):
        check_policy(ACLPolicy(name=name))
    with pytest.raises(RequestError, match="invalid name '"):
        check_role(ACLRole(name=name))


@pytest.mark.parametrize("name", ["a", "A-9", "a" * 128, "anonymous", "-"])
def test_a_name_that_can_be_is_taken(name):
    check_policy(ACLPolicy(name=name, description="d" * 256))
    check_role(ACLRole(name=name, policies=(PolicyLink(name="not-there"),)))


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (ACLToken(name="n" * 257, type="client", policies=("p",)), "token name too long"),
        (ACLToken(type="client"), "client token missing policies"),
        (
            ACLToken(type="management", roles=(RoleLink(id="r"),)),
            "management token cannot be associated with policies or roles",
        ),
        (ACLToken(type="Client", policies=("p",)), "token type must be client or management"),
        (
            ACLToken(type="client", policies=("p",) * (LINKS_MAX + 1)),
            "257 policies, at most 256 are allowed",
        ),
        (
            ACLToken(type="client", policies=("p" * 129,)),
            "a name among the policies has more than 128 characters or is not valid Unicode",
        ),
        (
            ACLToken(type="client", roles=(RoleLink(name="\ud800"),)),
            "a name among the roles has more than 128 characters or is not valid Unicode",
        ),
        (
            ACLToken(name="\ud800", type="client", policies=("p",)),
            "token name is not valid Unicode",
        ),
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_is_refused(token, problem):
    with pytest.raises(RequestError, match=r"^token 0 invalid: 1 error") as error:
        check_token(token)

    assert problems(error) == [problem]


def test_what_is_wrong_with_a_tokens_end_is_told_with_the_rest():
    token = ACLToken(type="client")

    with pytest.raises(RequestError) as error:
        check_token(token, "expired already")

    assert problems(error) == [
        "client token missing policies",
        "expired already",
    ]


def test_a_token_may_name_what_does_not_exist():
    check_token(ACLToken(name="n" * 256, type="client", policies=("a_b", "é", "")))
    check_token(ACLToken(type="client", roles=(RoleLink(name="r"),)))
    check_token(ACLToken(type="management"))


def test_a_role_has_a_policy_and_a_bounded_description():
    with pytest.raises(RequestError, match=r"^role 0 invalid: 2 errors") as error:
        check_role(ACLRole(name="r", description="d" * 257))

    assert problems(error) == [
        "description longer than 256",
        "at least one policy should be specified",
    ]


def test_texts_that_cannot_be_kept_are_refused():
    with pytest.raises(RequestError) as error:
        check_policy(ACLPolicy(name="p", description="\ud800", rules="# \ud800"))

    assert problems(error) == [
        "failed to parse rules: they are not valid Unicode",
        "description is not valid Unicode",
    ]
