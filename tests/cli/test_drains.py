"""`node drain`: what is sent, what is said, and which flags go together."""

import pytest

from tests.scripted_server import NODE_ID, OTHER_ID, Answer, node

DRAIN = f"/v1/node/{NODE_ID}/drain"
NODE = f"/v1/node/{NODE_ID}"
HELP = "For additional help try 'nodestate node drain -help'"


@pytest.fixture
def served(scripted):
    scripted.add_nodes(node())
    scripted.on(DRAIN, Answer({"Index": 50, "NodeModifyIndex": 50, "EvalIDs": None}))
    return scripted


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        ([], {"Deadline": 3_600_000_000_000, "IgnoreSystemJobs": False}),
        (["-deadline", "30m"], {"Deadline": 1_800 * 10**9, "IgnoreSystemJobs": False}),
        (["-force"], {"Deadline": -1_000_000_000, "IgnoreSystemJobs": False}),
        (["-no-deadline"], {"Deadline": 0, "IgnoreSystemJobs": False}),
        (
            ["--ignore-system=true", "--deadline=1s"],
            {"Deadline": 10**9, "IgnoreSystemJobs": True},
        ),
    ],
)
async def test_flags_become_the_strategy(served, run, words, spec):
    ran = await run("node", "drain", "-enable", "-detach", *words, NODE_ID)

    assert ran.out == f'Node "{NODE_ID}" drain strategy set\n'
    assert (ran.code, ran.err) == (0, "")
    assert served.bodies(DRAIN) == [
        {"DrainSpec": spec, "MarkEligible": True, "Meta": {}}
    ]


@pytest.mark.parametrize(("words", "mark"), [([], True), (["-keep-ineligible"], False)])
async def test_a_drain_is_stopped(served, run, words, mark):
    ran = await run("node", "drain", "-disable", *words, NODE_ID)

    assert ran.out == f'Node "{NODE_ID}" drain strategy unset\n'
    assert served.bodies(DRAIN) == [
        {"DrainSpec": None, "MarkEligible": mark, "Meta": {}}
    ]


async def test_a_message_and_more_are_kept_with_the_drain(served, run):
    words = ["-m", "new disks", "-meta", "ticket=7", "-meta=who"]
    await run("node", "drain", "-enable", "-detach", *words, NODE_ID)

    assert served.bodies(DRAIN)[0]["Meta"] == {
        "message": "new disks",
        "ticket": "7",
        "who": "",
    }


async def test_the_end_of_a_drain_keeps_what_its_start_said(served, run):
    last = {"Status": "draining", "Meta": {"message": "new disks"}}
    served.on(NODE, Answer(node(LastDrain=last)))

    await run("node", "drain", "-disable", "-m", "never mind", NODE_ID)

    assert served.bodies(DRAIN)[0]["Meta"] == {
        "message": "new disks",
        "cancel_message": "never mind",
    }


async def test_json_is_the_servers_answer(served, run):
    ran = await run("node", "drain", "-enable", "-json", NODE_ID)

    assert '\n    "NodeModifyIndex": 50,\n' in ran.out
    assert len(served.asked) == 3


@pytest.mark.parametrize(
    ("typed", "code", "text", "writes"),
    [
        ("y\n", 0, f'Node "{NODE_ID}" drain strategy set\n', 1),
        ("n\n", 0, "Canceling drain toggle\n", 0),
        ("No\n", 0, "Canceling drain toggle\n", 0),
        ("", 0, "Canceling drain toggle\n", 0),
        ("yes\n", 0, "For confirmation, an exact 'y' is required.\n", 0),
        (
            "what\n",
            1,
            "No confirmation detected. For confirmation, an exact 'y' is required.\n",
            0,
        ),
    ],
)
async def test_a_prefix_is_asked_about(served, run, typed, code, text, writes):
    ran = await run("node", "drain", "-enable", "-detach", "f7476465", typed=typed)

    assert ran.out == (
        f'Are you sure you want to enable drain mode for node "{NODE_ID}"? [y/N] {text}'
    )
    assert (ran.code, len(served.bodies(DRAIN))) == (code, writes)


async def test_yes_is_not_asked(served, run):
    ran = await run("node", "drain", "-disable", "-yes", "f7476465")

    assert ran.out == f'Node "{NODE_ID}" drain strategy unset\n'


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            [NODE_ID],
            "Either the '-enable' or '-disable' flag must be set, "
            f"unless using '-monitor'\n{HELP}",
        ),
        (
            ["-enable", "-disable", NODE_ID],
            "Either the '-enable' or '-disable' flag must be set, "
            f"unless using '-monitor'\n{HELP}",
        ),
        (
            ["-monitor", "-enable", NODE_ID],
            "The -monitor flag cannot be used with the '-enable' or '-disable' "
            f"flags\n{HELP}",
        ),
        (
            ["-plan", "-disable", NODE_ID],
            "The -plan flag cannot be used with the '-monitor' or '-disable' "
            f"flags\n{HELP}",
        ),
        (
            ["-plan", "-monitor", NODE_ID],
            "The -plan flag cannot be used with the '-monitor' or '-disable' "
            f"flags\n{HELP}",
        ),
        (
            ["-enable"],
            f"Node ID must be specified if -self isn't being used\n{HELP}",
        ),
        (
            ["-enable", "-self", NODE_ID],
            f"Node ID must be specified if -self isn't being used\n{HELP}",
        ),
        (
            ["-disable", "-force", NODE_ID],
            f"-disable can't be combined with flags configuring drain strategy\n{HELP}",
        ),
        (
            ["-disable", "-ignore-system", NODE_ID],
            f"-disable can't be combined with flags configuring drain strategy\n{HELP}",
        ),
        (
            ["-enable", "-deadline", "1h", "-force", NODE_ID],
            f"-deadline can't be combined with -force or -no-deadline\n{HELP}",
        ),
        (
            ["-enable", "-force", "-no-deadline", NODE_ID],
            f"-force and -no-deadline are mutually exclusive\n{HELP}",
        ),
        (
            ["-enable", "-deadline", "5", NODE_ID],
            'Failed to parse deadline "5": time: missing unit in duration "5"',
        ),
        (
            ["-enable", "-deadline", "-5s", NODE_ID],
            "A positive drain duration must be given",
        ),
        (
            ["-enable", "-deadline", "0s", NODE_ID],
            "A positive drain duration must be given",
        ),
    ],
)
async def test_flags_that_do_not_fit_are_refused(served, run, words, text):
    ran = await run("node", "drain", *words)

    assert (ran.code, ran.out, ran.err) == (1, "", f"{text}\n")
    assert served.asked == []


async def test_errors_are_told_by_what_was_being_done(served, run):
    served.on(DRAIN, Answer("No cluster leader", 503))
    refused = await run("node", "drain", "-enable", NODE_ID)
    served.on("/v1/nodes", Answer([]))
    absent = await run("node", "drain", "-enable", NODE_ID)
    served.on("/v1/nodes", Answer("no", 500))
    failed = await run("node", "drain", "-enable", NODE_ID)

    assert (refused.code, absent.code, failed.code) == (1, 1, 1)
    assert refused.err == (
        "Error updating drain specification: "
        "Unexpected response code: 503 (No cluster leader)\n"
    )
    assert absent.err == f'No node(s) with prefix or id "{NODE_ID}" found\n'
    assert (
        failed.err == "Error toggling drain mode: Unexpected response code: 500 (no)\n"
    )


async def test_an_unknown_outcome_has_an_exit_code_of_its_own(served, run):
    unknown = {"X-Nodestate-Outcome": "unknown"}
    served.on(DRAIN, Answer("outcome unknown: ask again", 504, headers=unknown))

    ran = await run("node", "drain", "-enable", NODE_ID)

    assert ran.code == 3
    assert "504 (outcome unknown: ask again)" in ran.err


async def test_many_matches_are_listed_with_full_ids(served, run):
    served.add_nodes(node(), node(ID=OTHER_ID, CreateIndex=8))

    ran = await run("node", "drain", "-enable", "f7")

    assert ran.code == 1
    assert ran.err.startswith("Prefix matched multiple nodes\n\nID       ")
    assert NODE_ID in ran.err
    assert OTHER_ID in ran.err
