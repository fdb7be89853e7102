"""Policies over HTTP: written, listed, read, deleted, and by whom."""

import json
from pathlib import Path

import pytest

from nodestate.fsm.state import ACL_POLICIES
from tests.api.aclworld import NODE_READ, UNKNOWN_SECRET, Acls, bootstrapped
from tests.api.conftest import Api
from tests.conformance.rows import rows

RECORDED = json.loads(
    (Path(__file__).parents[1] / "model" / "recorded_acl.json").read_text()
)
READ_HEADERS = {"x-nomad-index", "x-nomad-knownleader", "x-nomad-lastcontact"}


@pytest.fixture
async def acls(guarded: Api) -> Acls:
    return await bootstrapped(guarded)


def table_index(acls: Acls) -> int:
    return acls.api.replica.state().table_index(ACL_POLICIES)


async def names_for(acls: Acls, secret: str) -> list[str]:
    answer = await acls.get("/v1/acl/policies", secret)
    assert answer.status == 200
    return [policy["Name"] for policy in answer.json]


# Written


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_policy_is_written_and_the_answer_is_only_an_index(acls: Acls, method):
    body = {"Name": "p", "Description": "d", "Rules": NODE_READ, "RulesJSON": {"a": 1}}

    answer = await acls.ask(method, "/v1/acl/policy/p", body)

    assert (answer.status, answer.body) == (200, b"")
    assert "content-type" not in answer.headers
    assert answer.nomad_headers() == {"x-nomad-index"}
    policy = acls.api.replica.state().acl_policies["p"]
    assert (policy.description, policy.rules) == ("d", NODE_READ)
    assert policy.modify_index == answer.index == table_index(acls)


async def test_a_policy_is_replaced_whole(acls: Acls):
    first = await acls.policy("p", Description="d")
    second = await acls.policy("p", rules="")

    read = (await acls.get("/v1/acl/policy/p")).json

    assert (read["CreateIndex"], read["ModifyIndex"]) == (first.index, second.index)
    assert (read["Description"], read["Rules"]) == ("", "")


async def test_every_write_says_who_made_it(acls: Acls):
    await acls.policy("p")
    await acls.delete("/v1/acl/policy/p")

    assert {one.asked_by for one in acls.api.proposer.commands[-2:]} == {acls.accessor}


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("p", {"Name": "q"}, "ACL policy name does not match request path"),
        ("p", {"Rules": ""}, "ACL policy name does not match request path"),
        ("p", None, "Request body is empty"),
        ("p", "{", "request body at character 2: found the end"),
        ("p", {"Name": 7}, "request body at Name: found a whole number"),
        ("p", {"Name": "p", "Rules": "{"}, "policy 0 invalid: 1 error occurred:\n\t* "),
        ("a%20b", {"Name": "a b"}, "policy 0 invalid: 1 error occurred:\n\t* invalid name 'a b'\n\n"),
        ("p", {"Name": "p", "Description": "d" * 257}, "policy 0 invalid: 1 error occurred:\n\t* description longer than 256\n\n"),
        ("p", {"Name": "p", "JobACL": {"Namespace": "a"}}, "JobACL is not supported"),
    ],
)  # fmt: skip
async def test_what_cannot_be_a_policy_is_refused(acls: Acls, name, body, text):
    written = acls.api.replica.applied_index()

    answer = await acls.put(f"/v1/acl/policy/{name}", body)

    assert answer.status == 400
    assert answer.text.startswith(text)
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert acls.api.replica.applied_index() == written


async def test_a_policy_for_no_job_is_one_for_tokens(acls: Acls):
    body = {"Name": "p", "JobACL": None}

    assert (await acls.put("/v1/acl/policy/p", body)).status == 200


@rows("ACL-9.10")
async def test_rules_may_be_empty_and_unknown_ones_are_refused(acls: Acls):
    empty = await acls.put("/v1/acl/policy/x", {"Name": "x", "Rules": ""})
    foo = await acls.put("/v1/acl/policy/x", {"Name": "x", "Rules": "foo {}"})

    assert empty.status == 200
    assert (foo.status, foo.text[:16]) == (400, "policy 0 invalid")


async def test_a_policy_is_deleted_whether_it_is_there_or_not(acls: Acls):
    await acls.policy("p")

    for name in ("p", "p", "none"):
        answer = await acls.delete(f"/v1/acl/policy/{name}")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.index == table_index(acls)

    assert not acls.api.replica.state().acl_policies


async def test_a_name_that_no_policy_has_is_not_deleted(acls: Acls):
    for name in ("a%20b", "%ff", "a" * 129):
        answer = await acls.delete(f"/v1/acl/policy/{name}")
        assert (answer.status, answer.text[:12]) == (400, "invalid name")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/acl/policy/", "/v1/acl/policy"])
async def test_a_name_is_needed(acls: Acls, method, path):
    answer = await acls.ask(method, path)

    assert (answer.status, answer.text) == (400, "Missing Policy Name")


# Read


async def test_a_policy_is_read_with_what_was_understood(acls: Acls):
    told = RECORDED["read"]
    body = {key: told[key] for key in ("Name", "Description", "Rules")}
    written = await acls.put(f"/v1/acl/policy/{told['Name']}", body)

    answer = await acls.get(f"/v1/acl/policy/{told['Name']}")

    index = {"CreateIndex": written.index, "ModifyIndex": written.index}
    assert answer.json == told | index
    assert answer.index == written.index
    assert answer.nomad_headers() == READ_HEADERS


async def test_a_policy_that_is_not_there_is_404_with_the_tables_index(acls: Acls):
    await acls.policy("p")

    answer = await acls.get("/v1/acl/policy/none")

    assert (answer.status, answer.text) == (404, "ACL policy not found")
    assert answer.index == table_index(acls)
    assert answer.nomad_headers() == READ_HEADERS


async def test_who_has_a_policy_may_read_it_and_learns_of_no_other(acls: Acls):
    await acls.policy("own")
    await acls.policy("other")
    secret = (await acls.token("own", "missing"))["SecretID"]

    statuses = {
        name: (await acls.get(f"/v1/acl/policy/{name}", secret)).status
        for name in ("own", "other", "missing", "none", "anonymous")
    }

    assert statuses == {
        "own": 200,
        "other": 403,
        # It is the caller's, as far as that goes.
        "missing": 404,
        "none": 403,
        "anonymous": 404,
    }
    assert (await acls.get("/v1/acl/policy/other", "")).text == "Permission denied"


async def test_policies_of_a_role_are_the_tokens(acls: Acls):
    await acls.policy("own")
    role = await acls.role("r", "own")
    secret = (await acls.token(Roles=[{"ID": role["ID"]}]))["SecretID"]

    assert await names_for(acls, secret) == ["own"]
    assert (await acls.get("/v1/acl/policy/own", secret)).status == 200
    own = await acls.get("/v1/acl/policy/self", secret)
    assert [policy["Name"] for policy in own.json] == ["own"]


async def test_the_list_has_stubs_by_name(acls: Acls):
    for name in ("b", "a", "c"):
        await acls.policy(name, Description=name)

    answer = await acls.get("/v1/acl/policies")
    prefixed = await acls.get("/v1/acl/policies?prefix=b")

    assert [policy["Name"] for policy in answer.json] == ["a", "b", "c"]
    assert answer.json[0].keys() == {
        *("Name", "Description", "Hash", "CreateIndex", "ModifyIndex")
    }
    assert answer.index == table_index(acls)
    assert [policy["Name"] for policy in prefixed.json] == ["b"]
    pretty = await acls.get("/v1/acl/policies?pretty")
    assert pretty.body.startswith(b"[\n    {\n")


async def test_who_sees_which_policies(acls: Acls):
    for name in ("a", "b"):
        await acls.policy(name)
    secret = (await acls.token("a", "missing"))["SecretID"]

    assert await names_for(acls, acls.secret) == ["a", "b"]
    assert await names_for(acls, secret) == ["a"]
    assert await names_for(acls, "") == []

    await acls.policy("anonymous", "")

    assert await names_for(acls, "") == ["anonymous"]
    assert await names_for(acls, secret) == ["a"]


async def test_the_list_of_none_is_never_at_index_0(guarded: Api):
    answer = await guarded.get("/v1/acl/policies")

    assert (answer.status, answer.body, answer.index) == (200, b"[]", 1)
    assert answer.nomad_headers() == READ_HEADERS


# Waiting


async def test_a_list_waits_for_any_write_of_a_policy(acls: Acls):
    await acls.policy("a")
    headers = {"X-Nomad-Token": acls.secret}
    path = f"/v1/acl/policies?index={table_index(acls)}"

    async def write() -> None:
        await acls.token("a")  # another table
        assert acls.api.gauge("nodestate_api_waiters") == 1
        await acls.policy("b")

    answer = await acls.api.read_during(path, write, headers)

    assert [policy["Name"] for policy in answer.json] == ["a", "b"]
    assert answer.index == table_index(acls)


async def test_a_policy_waits_for_its_own_write(acls: Acls):
    first = await acls.policy("a")
    path = f"/v1/acl/policy/a?index={first.index}"

    async def write() -> None:
        await acls.policy("b")
        assert acls.api.gauge("nodestate_api_waiters") == 1
        await acls.policy("a", Description="new")

    answer = await acls.api.read_during(path, write, {"X-Nomad-Token": acls.secret})

    assert answer.json["Description"] == "new"


async def test_a_policy_that_was_taken_away_meanwhile_is_not_shown(acls: Acls):
    await acls.policy("a")
    token = await acls.token("a")
    path = f"/v1/acl/policy/a?index={table_index(acls)}"

    async def write() -> None:
        accessor = token["AccessorID"]
        body = {"AccessorID": accessor, "Type": "client", "Policies": ["b"]}
        assert (await acls.put(f"/v1/acl/token/{accessor}", body)).status == 200
        await acls.policy("a", Description="not for all")

    headers = {"X-Nomad-Token": token["SecretID"]}
    answer = await acls.api.read_during(path, write, headers)

    assert (answer.status, answer.text) == (403, "Permission denied")


# Without


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/acl/policies"),
        ("GET", "/v1/acl/policy/p"),
        ("PUT", "/v1/acl/policy/p"),
        ("DELETE", "/v1/acl/policy/p"),
    ],
)
async def test_without_acls_there_are_none(api: Api, method, path):
    headers = {"X-Nomad-Token": "nonsense"}

    answer = await api.ask(method, path, {"Name": "p"}, headers)

    assert (answer.status, answer.text) == (400, "ACL support disabled")


@pytest.mark.parametrize(
    ("who", "text"),
    [
        ("nobody", "Permission denied"),
        ("client", "Permission denied"),
        ("unknown", "ACL token not found"),
        ("malformed", "ACL token not found"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_only_managers_write(acls: Acls, method, who, text):
    client = await acls.token("a")
    secrets = {
        "nobody": "",
        "client": client["SecretID"],
        "unknown": UNKNOWN_SECRET,
        "malformed": "bogus",
    }
    written = acls.api.replica.applied_index()

    # Whatever is wrong with it: who may not ask is told nothing of that.
    answer = await acls.ask(method, "/v1/acl/policy/p", "{", secrets[who])

    assert (answer.status, answer.text) == (403, text)
    assert acls.api.replica.applied_index() == written
