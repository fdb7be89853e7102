"""`acl bootstrap` and `acl token …`."""

import json

import pytest

from tests.scripted_acl import ACCESSOR, ROLE_ID, SECRET, stub, token
from tests.scripted_server import Answer

PATH = f"/v1/acl/token/{ACCESSOR}"
MANAGER = f"""\
Accessor ID  = {ACCESSOR}
Secret ID    = {SECRET}
Name         = Bootstrap Token
Type         = management
Global       = true
Create Time  = 2020-02-03 04:05:06.789 +0000 UTC
Expiry Time  = <none>
Create Index = 52
Modify Index = 53
Policies     = n/a
Roles        = n/a
"""
CLIENT = f"""\
Accessor ID  = {ACCESSOR}
Secret ID    = {SECRET}
Name         = ops
Type         = client
Global       = false
Create Time  = 2020-02-03 04:05:06.789 +0000 UTC
Expiry Time  = 2023-11-14 23:13:20 +0000 UTC
Create Index = 52
Modify Index = 53
Policies     = [reader writer]

Roles
ID                                    Name
{ROLE_ID}  r
"""


def manager() -> dict[str, object]:
    return token(Name="Bootstrap Token", Type="management", Policies=None, Global=True)


async def test_bootstrap_shows_the_token(scripted, run):
    scripted.on("/v1/acl/bootstrap", Answer(manager()))

    ran = await run("acl", "bootstrap")

    assert (ran.code, ran.out, ran.err) == (0, MANAGER, "")


async def test_the_secret_may_come_from_a_file_or_be_piped_in(scripted, run, tmp_path):
    scripted.on("/v1/acl/bootstrap", Answer(manager()))
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")

    await run("acl", "bootstrap", str(path))
    await run("acl", "bootstrap", "-", typed=f"{SECRET}\n")
    missing = await run("acl", "bootstrap", str(tmp_path / "none"))

    assert scripted.bodies("/v1/acl/bootstrap") == [{"BootstrapSecret": SECRET}] * 2
    assert missing.code == 1
    assert missing.err.startswith("Error reading bootstrap token: ")


async def test_what_a_server_says_of_a_second_one_is_shown(scripted, run):
    text = "ACL bootstrap already done (reset index: 10)"
    scripted.on("/v1/acl/bootstrap", Answer(text, status=400))

    ran = await run("acl", "bootstrap")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"Error bootstrapping: Unexpected response code: 400 ({text})\n"


async def test_a_token_is_made_as_the_flags_say(scripted, run):
    scripted.on("/v1/acl/token", Answer(token()))

    ran = await run(
        *("acl", "token", "create", "-name=ops", "-policy=reader", "-policy", "writer"),
        *("-role-id", ROLE_ID, "-role-name=r", "-ttl=8h", "-global"),
    )

    assert ran.code == 0
    assert f"Secret ID    = {SECRET}" in ran.out
    (asked,) = scripted.asked
    assert asked.body == {
        "Name": "ops",
        "Type": "client",
        "Policies": ["reader", "writer"],
        "Roles": [{"ID": ROLE_ID, "Name": ""}, {"ID": "", "Name": "r"}],
        "Global": True,
        "ExpirationTTL": "8h",
        "AccessorID": "",
    }
    assert asked.headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("words", "path"), [(["info", ACCESSOR], PATH), (["self"], "/v1/acl/token/self")]
)
async def test_a_token_is_shown_with_roles_and_end(scripted, run, words, path):
    later = token(
        Policies=["reader", "writer"],
        Roles=[{"ID": ROLE_ID, "Name": "r"}],
        ExpirationTime="2023-11-14T23:13:20Z",
    )
    scripted.on(path, Answer(later))

    ran = await run("acl", "token", *words)
    shown = await run("acl", "token", *words, "-json")

    assert (ran.code, ran.out) == (0, CLIENT)
    assert json.loads(shown.out)["SecretID"] == SECRET


async def test_tokens_are_listed_without_secrets(scripted, run):
    ended = stub(Name="old", ExpirationTime="2023-11-14T22:13:20Z")
    scripted.on("/v1/acl/tokens", Answer([stub(Name="ops\x1b[2J"), ended]))

    ran = await run("acl", "token", "list")
    shown = await run("acl", "token", "list", "-json")

    assert ran.out.splitlines() == [
        "Name     Type    Global  Accessor ID                           Expired",
        f"ops\ufffd[2J  client  false   {ACCESSOR}  false",
        f"old      client  false   {ACCESSOR}  true",
    ]
    assert len(json.loads(shown.out)) == 2


async def test_no_tokens_are_nothing(scripted, run):
    scripted.on("/v1/acl/tokens", Answer([]))

    assert (await run("acl", "token", "list")).out == ""


async def test_an_update_keeps_what_is_not_given(scripted, run):
    known = token(Roles=[{"ID": ROLE_ID, "Name": "r"}], Global=True)
    scripted.on(PATH, Answer(known))

    ran = await run("acl", "token", "update", "-name=new", ACCESSOR)

    assert ran.code == 0
    assert scripted.asked[1].body == {
        "AccessorID": ACCESSOR,
        "Name": "new",
        "Type": "client",
        "Policies": ["reader"],
        "Roles": [{"ID": ROLE_ID, "Name": "r"}],
        "Global": True,
        "ExpirationTTL": "",
    }


async def test_an_update_replaces_what_is_given(scripted, run):
    scripted.on(PATH, Answer(token()))

    await run("acl", "token", "update", "-policy=a", "-role-name=b", ACCESSOR)

    body = scripted.asked[1].body
    assert (body["Policies"], body["Roles"]) == (["a"], [{"ID": "", "Name": "b"}])


async def test_a_token_is_deleted(scripted, run):
    scripted.on(PATH, Answer(""))

    ran = await run("acl", "token", "delete", ACCESSOR)

    assert (ran.code, ran.out) == (0, f"Token {ACCESSOR} successfully deleted\n")
    assert scripted.asked[0].method == "DELETE"


@pytest.mark.parametrize(
    ("words", "path", "complaint"),
    [
        (["create"], "/v1/acl/token", "Error creating token: "),
        (["info", ACCESSOR], PATH, "Error fetching token: "),
        (["self"], "/v1/acl/token/self", "Error fetching self token: "),
        (["list"], "/v1/acl/tokens", "Error listing tokens: "),
        (["update", ACCESSOR], PATH, "Error fetching token: "),
        (["delete", ACCESSOR], PATH, "Error deleting token: "),
    ],
)
async def test_what_went_wrong_is_said(scripted, run, words, path, complaint):
    scripted.on(path, Answer("Permission denied", status=403))

    ran = await run("acl", "token", *words)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{complaint}Unexpected response code: 403 (Permission denied)\n"


@pytest.mark.parametrize(
    "words",
    [
        ["bootstrap", "a", "b"],
        ["token", "create", "a"],
        ["token", "info"],
        ["token", "self", "a"],
        ["token", "list", "a"],
        ["token", "update", "a", "b"],
        ["token", "delete"],
    ],
)
async def test_arguments_have_to_fit(scripted, run, words):
    ran = await run("acl", *words)

    assert ran.code == 1
    assert ran.err.startswith("This command takes ")
    assert scripted.asked == []
