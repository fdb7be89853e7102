"""`node eligibility`, `node evaluate`, `node purge`."""

import pytest

from tests.scripted_server import NODE_ID, Answer, node

ELIGIBILITY = f"/v1/node/{NODE_ID}/eligibility"
EVALUATE = f"/v1/node/{NODE_ID}/evaluate"
PURGE = f"/v1/node/{NODE_ID}/purge"


@pytest.fixture
def served(scripted):
    scripted.add_nodes(node())
    for path in (ELIGIBILITY, EVALUATE, PURGE):
        scripted.on(path, Answer({"Index": 9, "NodeModifyIndex": 9, "EvalIDs": None}))
    return scripted


@pytest.mark.parametrize(
    ("flag", "word"), [("-enable", "eligible"), ("--disable", "ineligible")]
)
async def test_eligibility_is_set(served, run, flag, word):
    ran = await run("node", "eligibility", flag, "f7476465")

    assert ran.out == (
        f'Node "{NODE_ID}" scheduling eligibility set: {word} for scheduling\n'
    )
    assert (ran.code, ran.err) == (0, "")
    assert served.bodies(ELIGIBILITY) == [{"Eligibility": word}]


async def test_eligibility_of_the_agents_own_node(served, run):
    served.on("/v1/agent/self", Answer({"stats": {"client": {"node_id": NODE_ID}}}))

    ran = await run("node", "eligibility", "-disable", "-self")

    assert ran.code == 0
    assert served.bodies(ELIGIBILITY) == [{"Eligibility": "ineligible"}]


async def test_a_refusal_is_quoted(served, run):
    text = "can not set node's scheduling eligibility to eligible while it is draining"
    served.on(ELIGIBILITY, Answer(text, 409))

    ran = await run("node", "eligibility", "-enable", NODE_ID)

    assert ran.code == 1
    assert ran.err == (
        "Error updating scheduling eligibility: "
        f"Unexpected response code: 409 ({text})\n"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([NODE_ID], "Either the '-enable' or '-disable' flag must be set"),
        (
            ["-enable", "-disable", NODE_ID],
            "Either the '-enable' or '-disable' flag must be set",
        ),
        (["-enable"], "Node ID must be specified if -self isn't being used"),
        (["-enable", "a", "b"], "Node ID must be specified if -self isn't being used"),
    ],
)
async def test_eligibility_needs_a_way_and_a_node(served, run, words, text):
    ran = await run("node", "eligibility", *words)

    assert (ran.code, served.asked) == (1, [])
    assert ran.err == (
        f"{text}\nFor additional help try 'nodestate node eligibility -help'\n"
    )


async def test_evaluation_without_and_with_evaluations(served, run):
    nothing = await run("node", "evaluate", NODE_ID)
    served.on(EVALUATE, Answer({"Index": 9, "EvalIDs": ["e1", "e2"]}))
    some = await run("node", "evaluate", NODE_ID)

    assert nothing.out == (
        f'Node "{NODE_ID}" evaluated\nNothing on it needs an evaluation\n'
    )
    assert some.out == (
        f'Node "{NODE_ID}" evaluated\nCreated eval ID: "e1"\nCreated eval ID: "e2"\n'
    )


async def test_a_purge_asks_first(served, run):
    ran = await run("node", "purge", "f7476465", typed="n\n")

    assert ran.code == 0
    assert ran.out == (
        f'Are you sure you want to purge node "{NODE_ID}"? [y/N] Canceling purge\n'
    )
    assert served.bodies(PURGE) == []


@pytest.mark.parametrize("words", [["-yes", "f7476465"], [NODE_ID]])
async def test_a_purge(served, run, words):
    ran = await run("node", "purge", *words)

    assert (ran.code, ran.out) == (0, f'Node "{NODE_ID}" purged\n')
    assert len(served.bodies(PURGE)) == 1


@pytest.mark.parametrize("command", ["evaluate", "purge"])
async def test_the_others_need_one_node(served, run, command):
    ran = await run("node", command)

    assert ran.code == 1
    assert ran.err == (
        "This command takes one argument: <node>\n"
        f"For additional help try 'nodestate node {command} -help'\n"
    )


@pytest.mark.parametrize("words", [["eligibility", "-enable"], ["evaluate"], ["purge"]])
async def test_json_is_the_servers_answer(served, run, words):
    ran = await run("node", *words, "-json", NODE_ID)

    assert ran.out.startswith('{\n    "Index": 9,\n    "NodeModifyIndex": 9,\n')
