"""Roles over HTTP: made, listed, read, changed, deleted, and by whom."""

from typing import Any

import pytest

from nodestate.fsm.state import ACL_ROLES
from tests.api.aclworld import Acls, bootstrapped
from tests.api.conftest import Api

UNKNOWN = "11111111-2222-3333-4444-555555555555"
ROLE = "/v1/acl/role"


@pytest.fixture
async def acls(guarded: Api) -> Acls:
    acls = await bootstrapped(guarded)
    for name in ("p", "q"):
        await acls.policy(name)
    return acls


def table_index(acls: Acls) -> int:
    return acls.api.replica.state().table_index(ACL_ROLES)


def body(**fields: Any) -> dict[str, Any]:
    return {"Name": "r", "Policies": [{"Name": "p"}], **fields}


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_new_role_is_answered_in_full(acls: Acls, method):
    answer = await acls.ask(method, ROLE, body(Description="d"))

    role = answer.json
    assert answer.status == 200
    assert role.keys() == {
        *("ID", "Name", "Description", "Policies", "Hash"),
        *("CreateIndex", "ModifyIndex"),
    }
    assert (role["Name"], role["Description"]) == ("r", "d")
    assert role["Policies"] == [{"Name": "p"}]
    assert answer.index == role["CreateIndex"] == role["ModifyIndex"]
    assert answer.index == table_index(acls)
    assert acls.api.proposer.commands[-1].asked_by == acls.accessor


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({"Policies": None}, "role 0 invalid: 1 error occurred:\n\t* at least one"),
        ({"Name": "a b"}, "role 0 invalid: 1 error occurred:\n\t* invalid name 'a b'"),
        ({"Policies": [{"Name": "none"}]}, "cannot find policy none"),
        ({"Name": "taken"}, "role with name taken already exists"),
        ({"ID": UNKNOWN}, f"cannot find role {UNKNOWN}"),
        ({"ID": "x"}, "invalid ACL role ID"),
        ({"Policies": ["p"]}, "request body at Policies[0]: found a text"),
    ],
)
async def test_what_cannot_be_a_role_is_refused(acls: Acls, sent, text):
    await acls.role("taken", "p")

    answer = await acls.put(ROLE, body(**sent))

    assert (answer.status, answer.text[: len(text)]) == (400, text)
    assert len(acls.api.replica.state().acl_roles) == 1


async def test_a_role_is_changed_whole(acls: Acls):
    role = await acls.role("r", "p")
    sent = body(ID=role["ID"], Name="s", Policies=[{"Name": "q"}])

    answer = await acls.put(f"{ROLE}/{role['ID']}", sent)

    changed = answer.json
    assert (changed["Name"], changed["Policies"]) == ("s", [{"Name": "q"}])
    assert changed["CreateIndex"] == role["CreateIndex"]
    assert changed["ModifyIndex"] == answer.index == table_index(acls)
    assert (await acls.get(f"{ROLE}/name/r")).status == 404
    assert (await acls.get(f"{ROLE}/name/s")).json == changed


async def test_body_and_path_are_of_one_role(acls: Acls):
    role = await acls.role("r", "p")

    for sent in ({}, {"ID": UNKNOWN}):
        answer = await acls.put(f"{ROLE}/{role['ID']}", body(**sent))
        assert (answer.status, answer.text) == (
            400,
            "ACL role ID does not match request path",
        )


async def test_a_role_is_deleted_once(acls: Acls):
    role = await acls.role("r", "p")

    gone = await acls.delete(f"{ROLE}/{role['ID']}")
    again = await acls.delete(f"{ROLE}/{role['ID']}")

    assert (gone.status, gone.body) == (200, b"")
    assert (again.status, again.text) == (404, "ACL role not found")
    assert (await acls.delete(f"{ROLE}/x")).status == 400


async def test_who_sees_which_roles(acls: Acls):
    own, other = await acls.role("own", "p"), await acls.role("other", "q")
    secret = (await acls.token(Roles=[{"Name": "own"}]))["SecretID"]

    async def names(secret: str) -> set[str]:
        return {one["Name"] for one in (await acls.get("/v1/acl/roles", secret)).json}

    assert await names(acls.secret) == {"own", "other"}
    assert await names(secret) == {"own"}
    assert await names("") == set()
    for path in (f"{ROLE}/{own['ID'].upper()}", f"{ROLE}/name/own"):
        assert (await acls.get(path, secret)).json == own
    for id_ in (other["ID"], "name/other", UNKNOWN, "name/none"):
        answer = await acls.get(f"{ROLE}/{id_}", secret)
        assert (answer.status, answer.text) == (403, "Permission denied")
    for id_ in (UNKNOWN, "name/none", "x"):
        answer = await acls.get(f"{ROLE}/{id_}")
        assert (answer.status, answer.text) == (404, "ACL role not found")
        assert answer.index == table_index(acls)


async def test_the_list_is_by_id_and_takes_a_prefix(acls: Acls):
    roles = [await acls.role(name, "p") for name in ("a", "b", "c")]
    ids = sorted(role["ID"] for role in roles)

    answer = await acls.get("/v1/acl/roles")
    one = await acls.get(f"/v1/acl/roles?prefix={ids[1].upper()}")

    assert [role["ID"] for role in answer.json] == ids
    assert answer.json[0] in roles
    assert [role["ID"] for role in one.json] == [ids[1]]


@pytest.mark.parametrize("path", ["roles", "role/{}", "role/name/r"])
async def test_reads_wait_for_a_change(acls: Acls, path):
    role = await acls.role("r", "p")
    target = f"/v1/acl/{path.format(role['ID'])}?index={table_index(acls)}"

    async def write() -> None:
        await acls.token("p")
        assert acls.api.gauge("nodestate_api_waiters") == 1
        await acls.put(f"{ROLE}/{role['ID']}", body(ID=role["ID"], Description="new"))

    answer = await acls.api.read_during(target, write, {"X-Nomad-Token": acls.secret})

    assert '"Description":"new"' in answer.text
    assert answer.index == table_index(acls)


async def test_a_key_gives_the_same_role(acls: Acls):
    first = await acls.put(ROLE, body(), Idempotency_Key="k")
    again = await acls.put(ROLE, body(), Idempotency_Key="k")
    await acls.delete(f"{ROLE}/{first.json['ID']}")
    gone = await acls.put(ROLE, body(), Idempotency_Key="k")

    assert again.body == first.body
    assert (gone.status, gone.text) == (404, "ACL role not found")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", ROLE, 405, "Invalid method"),
        ("PUT", "/v1/acl/roles", 405, "Invalid method"),
        ("PUT", f"{ROLE}/name/r", 405, "Invalid method"),
        ("GET", f"{ROLE}/", 400, "missing ACL role ID"),
        ("GET", f"{ROLE}/name/", 400, "missing ACL role name"),
        ("GET", f"{ROLE}/a/b", 404, "no such path: /v1/acl/role/a/b"),
    ],
)
async def test_wrong_methods_and_paths(acls: Acls, method, path, status, text):
    answer = await acls.ask(method, path, body())

    assert (answer.status, answer.text) == (status, text)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", ROLE), ("PUT", f"{ROLE}/{UNKNOWN}"), ("DELETE", f"{ROLE}/{UNKNOWN}")],
)
async def test_only_managers_write(acls: Acls, method, path):
    for secret in ("", (await acls.token("p"))["SecretID"]):
        answer = await acls.ask(method, path, "{", secret)
        assert (answer.status, answer.text) == (403, "Permission denied")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/acl/roles"),
        ("GET", f"{ROLE}/{UNKNOWN}"),
        ("GET", f"{ROLE}/name/r"),
        ("PUT", ROLE),
        ("PUT", f"{ROLE}/{UNKNOWN}"),
        ("DELETE", f"{ROLE}/{UNKNOWN}"),
    ],
)
async def test_without_acls_there_are_none(api: Api, method, path):
    answer = await api.ask(method, path, body())

    assert (answer.status, answer.text) == (400, "ACL support disabled")
