"""`eval status` and `eval list`."""

import textwrap

import pytest

from tests.scripted_server import NODE_ID, Answer
from tests.scripted_work import (
    BLOCKED_ID,
    EVAL_ID,
    METRIC,
    WHY,
    allocation,
    evaluation,
)


@pytest.fixture
def served(scripted):
    scripted.on("/v1/evaluations", Answer([evaluation()]))
    scripted.on(f"/v1/evaluation/{EVAL_ID}", Answer(evaluation()))
    scripted.on(f"/v1/evaluation/{EVAL_ID}/allocations", Answer([]))
    return scripted


async def test_one_is_shown(served, run):
    served.on(f"/v1/evaluation/{EVAL_ID}/allocations", Answer([allocation()]))

    ran = await run("eval", "status", "e1b2c")

    assert (ran.code, ran.err) == (0, "")
    assert served.queries("/v1/evaluations") == [{"prefix": "e1b2"}]
    assert ran.out == textwrap.dedent(
        """\
        ID                 = e1b2c3d4
        Create Time        = 1m30s ago
        Modify Time        = 1m30s ago
        Status             = complete
        Status Description = complete
        Type               = service
        TriggeredBy        = job-register
        Job ID             = web
        Namespace          = default
        Priority           = 50
        Placement Failures = false

        Placed Allocations
        ID        Node ID   Task Group  Version  Desired  Status   Created    Modified
        a1b2c3d4  f7476465  cache       3        run      pending  1m30s ago  1m30s ago
        """
    )


async def test_failures_are_shown_and_links_if_verbose(served, run):
    served.on(
        f"/v1/evaluation/{EVAL_ID}",
        Answer(
            evaluation(
                FailedTGAllocs={"cache": METRIC}, BlockedEval=BLOCKED_ID, NodeID=NODE_ID
            )
        ),
    )

    ran = await run("eval", "status", "-verbose", EVAL_ID)

    lines = ran.out.splitlines()
    assert f"Node ID            = {NODE_ID}" in lines
    assert "Placement Failures = true" in lines
    assert f"Blocked Eval       = {BLOCKED_ID}" in lines
    assert lines[lines.index("Failed Placements") + 1 :] == [
        'Task Group "cache" (failed to place 2 allocations):',
        *(f"  {line}" for line in WHY),
        "",
        f'Evaluation "{BLOCKED_ID}" waiting for additional capacity to place remainder',
    ]


@pytest.mark.parametrize("status", ["pending", "blocked"])
async def test_one_that_is_not_over_has_no_failures_yet(served, run, status):
    served.on(f"/v1/evaluation/{EVAL_ID}", Answer(evaluation(Status=status)))

    ran = await run("eval", "status", EVAL_ID)

    assert "Placement Failures = N/A - In Progress\n" in ran.out


async def test_json_is_the_servers_answer(served, run):
    ran = await run("eval", "status", "-json", EVAL_ID)

    assert ran.out.startswith(f'{{\n    "ID": "{EVAL_ID}"')


async def test_prefixes_that_do_not_fit(served, run):
    short = await run("eval", "status", "e")
    served.on("/v1/evaluations", Answer([]))
    none = await run("eval", "status", "e1b2")
    served.on("/v1/evaluations", Answer([evaluation(), evaluation(ID=BLOCKED_ID)]))
    many = await run("eval", "status", "e1b2")

    assert short.err == "Identifier must contain at least two characters.\n"
    assert none.err == 'No evaluation(s) with prefix or id "e1b2" found\n'
    assert many.err.startswith("Prefix matched multiple evaluations\n\nID        Prior")
    assert (short.code, none.code, many.code) == (1, 1, 1)


async def test_all_are_listed_newest_first(served, run):
    blocked = evaluation(ID=BLOCKED_ID, Status="blocked", CreateIndex=50)
    served.on("/v1/evaluations", Answer([evaluation(NodeID=NODE_ID), blocked]))

    ran = await run("eval", "list")

    lines = [line.split("  ") for line in ran.out.splitlines()]
    assert [cell.strip() for cell in lines[1] if cell] == [
        "e1b2c3d4", "50", "job-register", "web", "default", "<none>", "blocked",
        "N/A - In Progress",
    ]  # fmt: skip
    assert [cell.strip() for cell in lines[2] if cell] == [
        "e1b2c3d4", "50", "job-register", "web", "default", "f7476465", "complete",
        "false",
    ]  # fmt: skip


async def test_the_server_finds_some_and_pages(served, run):
    token = {"X-Nomad-NextToken": BLOCKED_ID}
    served.on("/v1/evaluations", Answer([evaluation()], headers=token))
    words = ["-job", "web", "-status", "complete", "-filter", "Priority > 1"]

    ran = await run("eval", "list", "-verbose", *words, "-per-page", "1")
    await run("eval", "list", "-page-token", BLOCKED_ID)

    assert served.queries("/v1/evaluations") == [
        {"job": "web", "status": "complete", "filter": "Priority > 1", "per_page": "1"},
        {"next_token": BLOCKED_ID},
    ]
    assert ran.out.splitlines()[-1] == (
        "nodestate eval list -verbose -job 'web' -status complete "
        f"-filter 'Priority > 1' -per-page 1 -page-token {BLOCKED_ID}"
    )


async def test_none_may_be_found(served, run):
    served.on("/v1/evaluations", Answer([]))

    assert (await run("eval", "list")).out == "No evals found\n"


async def test_the_list_takes_no_argument_and_has_json(served, run):
    assert (await run("eval", "list", "x")).code == 1
    assert (await run("eval", "list", "-json")).out.startswith("[\n    {")
