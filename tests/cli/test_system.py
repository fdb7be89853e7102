"""`system gc`, `system reconcile summaries`."""

import pytest

from tests.scripted_server import Answer

COMMANDS = [
    (["system", "gc"], "/v1/system/gc", "Error running system garbage-collection"),
    (
        ["system", "reconcile", "summaries"],
        "/v1/system/reconcile/summaries",
        "Error running system summary reconciliation",
    ),
]
pytestmark = pytest.mark.parametrize(("words", "path", "complaint"), COMMANDS)


async def test_it_is_asked_for_and_nothing_is_said(
    scripted, run, words, path, complaint
):
    scripted.on(path, Answer(""))

    ran = await run(*words)

    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert [asked.method for asked in scripted.asked] == ["PUT"]


async def test_what_went_wrong_is_said(scripted, run, words, path, complaint):
    scripted.on(path, Answer("No cluster leader", status=503))

    ran = await run(*words)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(complaint)
    assert "No cluster leader" in ran.err


async def test_arguments_are_refused(scripted, run, words, path, complaint):
    ran = await run(*words, "now")

    assert ran.code != 0
    assert "This command takes no arguments" in ran.err
    assert scripted.asked == []
