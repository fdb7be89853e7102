"""`acl role …`."""

import json

import pytest

from tests.scripted_acl import ROLE_ID, role
from tests.scripted_server import Answer

PATH = f"/v1/acl/role/{ROLE_ID}"
SHOWN = f"""\
ID           = {ROLE_ID}
Name         = r
Description  = d
Policies     = reader,writer
Create Index = 9
Modify Index = 10
"""


async def test_a_role_is_made_as_the_flags_say(scripted, run):
    scripted.on("/v1/acl/role", Answer(role()))

    ran = await run(
        *("acl", "role", "create", "-name=r", "-description=d"),
        *("-policy=reader", "-policy=writer", "-policy=reader"),
    )

    assert (ran.code, ran.out) == (0, SHOWN)
    (asked,) = scripted.asked
    assert asked.body == {
        "ID": "",
        "Name": "r",
        "Description": "d",
        "Policies": [{"Name": "reader"}, {"Name": "writer"}],
    }
    assert asked.headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("words", "path"),
    [([ROLE_ID], PATH), (["-by-name", "r"], "/v1/acl/role/name/r")],
)
async def test_a_role_is_shown(scripted, run, words, path):
    scripted.on(path, Answer(role()))

    ran = await run("acl", "role", "info", *words)
    shown = await run("acl", "role", "info", "-json", *words)

    assert (ran.code, ran.out) == (0, SHOWN)
    assert json.loads(shown.out)["ID"] == ROLE_ID


async def test_roles_are_listed(scripted, run):
    scripted.on("/v1/acl/roles", Answer([role()]), Answer([role()]), Answer([]))

    ran = await run("acl", "role", "list")
    shown = await run("acl", "role", "list", "-json")
    none = await run("acl", "role", "list")

    assert ran.out.splitlines() == [
        "ID                                    Name  Description  Policies",
        f"{ROLE_ID}  r     d            reader,writer",
    ]
    assert len(json.loads(shown.out)) == 1
    assert none.out == "No ACL roles found\n"


async def test_an_update_adds_policies_unless_it_is_told_not_to(scripted, run):
    scripted.on(PATH, Answer(role()))

    await run("acl", "role", "update", "-policy=new", ROLE_ID)
    merged = scripted.asked[-1].body
    await run("acl", "role", "update", "-no-merge", "-name=s", "-policy=new", ROLE_ID)
    replaced = scripted.asked[-1].body

    assert merged == {
        "ID": ROLE_ID,
        "Name": "r",
        "Description": "d",
        "Policies": [{"Name": "reader"}, {"Name": "writer"}, {"Name": "new"}],
    }
    assert replaced == {
        "ID": ROLE_ID,
        "Name": "s",
        "Description": "",
        "Policies": [{"Name": "new"}],
    }
    assert [asked.method for asked in scripted.asked] == ["GET", "POST", "POST"]


async def test_a_role_is_deleted(scripted, run):
    scripted.on(PATH, Answer(""))

    ran = await run("acl", "role", "delete", ROLE_ID)

    assert (ran.code, ran.out) == (0, f"ACL role {ROLE_ID} successfully deleted\n")


@pytest.mark.parametrize(
    ("words", "path", "complaint"),
    [
        (
            ["create", "-name=r", "-policy=p"],
            "/v1/acl/role",
            "Error creating ACL role: ",
        ),
        (["list"], "/v1/acl/roles", "Error listing ACL roles: "),
        (["info", ROLE_ID], PATH, "Error reading ACL role: "),
        (["update", "-name=s", ROLE_ID], PATH, "Error reading ACL role: "),
        (
            ["update", "-no-merge", "-name=s", "-policy=p", ROLE_ID],
            PATH,
            "Error updating ACL role: ",
        ),
        (["delete", ROLE_ID], PATH, "Error deleting ACL role: "),
    ],
)
async def test_what_went_wrong_is_said(scripted, run, words, path, complaint):
    scripted.on(path, Answer("Permission denied", status=403))

    ran = await run("acl", "role", *words)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{complaint}Unexpected response code: 403 (Permission denied)\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["create", "-policy=p"], "ACL role name must be specified"),
        (["create", "-name=r"], "At least one policy name must be specified"),
        (["update", ROLE_ID], "Please provide at least one flag"),
        (["update", "-no-merge", "-policy=p", ROLE_ID], "ACL role name must be"),
        (["update", "-no-merge", "-name=r", ROLE_ID], "At least one policy name"),
        (["create", "a"], "This command takes no arguments"),
        (["info"], "This command takes one argument: <role id>"),
        (["list", "a"], "This command takes no arguments"),
        (["delete"], "This command takes one argument: <role id>"),
    ],
)
async def test_flags_and_arguments_have_to_fit(scripted, run, words, complaint):
    ran = await run("acl", "role", *words)

    assert ran.code == 1
    assert ran.err.startswith(complaint)
    assert scripted.asked == []
