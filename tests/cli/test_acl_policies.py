"""`acl policy …`."""

import json

import pytest

from tests.scripted_acl import policy
from tests.scripted_server import Answer

PATH = "/v1/acl/policy/reader"


async def test_a_policy_is_applied_from_a_file_or_a_pipe(scripted, run, tmp_path):
    scripted.on(PATH, Answer(""))
    path = tmp_path / "reader.hcl"
    path.write_text("rules")

    applied = ("acl", "policy", "apply", "-description=d", "reader")
    ran = await run(*applied, str(path))
    await run(*applied, "-", typed="rules")

    assert (ran.code, ran.out) == (0, 'Successfully wrote "reader" ACL policy!\n')
    body = {"Name": "reader", "Description": "d", "Rules": "rules"}
    assert scripted.bodies(PATH) == [body, body]


async def test_a_file_that_cannot_be_read_is_named(scripted, run, tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff")

    for name in ("none", "bytes", "."):
        ran = await run("acl", "policy", "apply", "reader", str(tmp_path / name))
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("Failed to read file: ")
    assert scripted.asked == []


async def test_policies_are_listed(scripted, run):
    scripted.on(
        "/v1/acl/policies", Answer([policy(), policy(Name="b", Description="")])
    )

    ran = await run("acl", "policy", "list")
    shown = await run("acl", "policy", "list", "-json")

    assert ran.out.splitlines() == [
        "Name    Description",
        "reader  May read nodes",
        "b       <none>",
    ]
    assert len(json.loads(shown.out)) == 2


async def test_no_policies_are_said_to_be_none(scripted, run):
    scripted.on("/v1/acl/policies", Answer([]))

    assert (await run("acl", "policy", "list")).out == "No policies found\n"


async def test_a_policy_is_shown_with_its_rules(scripted, run):
    scripted.on(PATH, Answer(policy(Rules='node {\n  policy = "read"\n}\x1b[2J')))

    ran = await run("acl", "policy", "info", "reader")
    shown = await run("acl", "policy", "info", "-json", "reader")

    assert ran.out == (
        "Name        = reader\n"
        "Description = May read nodes\n"
        "CreateIndex = 7\n"
        "ModifyIndex = 8\n"
        "\nRules\n"
        '\nnode {\n  policy = "read"\n}\ufffd[2J\n'
    )
    assert json.loads(shown.out)["Name"] == "reader"


async def test_a_policy_is_deleted(scripted, run):
    scripted.on(PATH, Answer(""))

    ran = await run("acl", "policy", "delete", "reader")

    assert (ran.code, ran.out) == (0, "Successfully deleted reader policy!\n")
    assert scripted.asked[0].method == "DELETE"


@pytest.mark.parametrize(
    ("words", "path", "complaint"),
    [
        (["apply", "reader", "-"], PATH, "Error writing ACL policy: "),
        (["list"], "/v1/acl/policies", "Error listing ACL policies: "),
        (["info", "reader"], PATH, "Error fetching info on ACL policy: "),
        (["delete", "reader"], PATH, "Error deleting ACL policy: "),
    ],
)
async def test_what_went_wrong_is_said(scripted, run, words, path, complaint):
    scripted.on(path, Answer("Permission denied", status=403))

    ran = await run("acl", "policy", *words, typed="rules")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{complaint}Unexpected response code: 403 (Permission denied)\n"


@pytest.mark.parametrize(
    "words", [["apply", "a"], ["list", "a"], ["info"], ["delete", "a", "b"]]
)
async def test_arguments_have_to_fit(scripted, run, words):
    ran = await run("acl", "policy", *words)

    assert ran.code == 1
    assert ran.err.startswith("This command takes ")
    assert scripted.asked == []
