"""`job status`: the list, and one job with what has become of it."""

import textwrap

import pytest

from tests.scripted_server import Answer
from tests.scripted_work import (
    ALLOC_ID,
    BLOCKED_ID,
    EVAL_ID,
    METRIC,
    WHY,
    allocation,
    evaluation,
    job,
    job_stub,
)

SUMMARY = {
    "JobID": "web",
    "Summary": {
        "cache": {
            "Queued": 1,
            "Starting": 2,
            "Running": 3,
            "Failed": 4,
            "Complete": 5,
            "Lost": 6,
        }
    },
}


@pytest.fixture
def served(scripted):
    scripted.on("/v1/jobs", Answer([job_stub()]))
    scripted.on("/v1/job/web", Answer(job()))
    scripted.on("/v1/job/web/summary", Answer(SUMMARY))
    scripted.on("/v1/job/web/evaluations", Answer([evaluation()]))
    scripted.on("/v1/job/web/allocations", Answer([allocation()]))
    return scripted


async def test_all_jobs_are_listed(served, run):
    ran = await run("job", "status")

    assert ran.out == (
        "ID   Type     Priority  Status   Submit Date\n"
        "web  service  50        running  2023-11-14T22:11:50Z\n"
    )


async def test_there_may_be_none(served, run):
    served.on("/v1/jobs", Answer([]))

    assert (await run("job", "status")).out == "No running jobs\n"


async def test_one_job_is_shown(served, run):
    ran = await run("job", "status", "web")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == textwrap.dedent(
        """\
        ID            = web
        Name          = web
        Submit Date   = 2023-11-14T22:11:50Z
        Type          = service
        Priority      = 50
        Datacenters   = dc1,dc2
        Namespace     = default
        Status        = running
        Periodic      = false
        Parameterized = false

        Summary
        Task Group  Queued  Starting  Running  Failed  Complete  Lost
        cache       1       2         3        4       5         6

        Allocations
        ID        Node ID   Task Group  Version  Desired  Status   Created    Modified
        a1b2c3d4  f7476465  cache       3        run      pending  1m30s ago  1m30s ago
        """
    )


@pytest.mark.parametrize(
    ("word", "id_"), [("-evals", EVAL_ID[:8]), ("-verbose", EVAL_ID)]
)
async def test_its_evaluations_are_shown_if_asked(served, run, word, id_):
    newer = evaluation(ID=BLOCKED_ID, CreateIndex=50, Status="blocked")
    served.on("/v1/job/web/evaluations", Answer([evaluation(), newer]))

    ran = await run("job", "status", word, "web")

    lines = ran.out.partition("\nEvaluations\n")[2].splitlines()
    assert lines[0].split() == [
        "ID",
        "Priority",
        "Triggered",
        "By",
        "Status",
        "Placement",
        "Failures",
    ]
    assert lines[1].split()[3:] == ["blocked", "N/A", "-", "In", "Progress"]
    assert lines[2].split() == [id_, "50", "job-register", "complete", "false"]


async def test_what_waits_for_room_is_shown_with_reasons(served, run):
    groups = {f"g{n}": METRIC for n in range(6)}
    served.on(
        "/v1/job/web/evaluations",
        Answer(
            [
                evaluation(CreateIndex=30, FailedTGAllocs={"old": METRIC}),
                evaluation(FailedTGAllocs=groups),
                evaluation(ID=BLOCKED_ID, Status="blocked", CreateIndex=50),
            ]
        ),
    )

    ran = await run("job", "status", "web")

    text = ran.out.partition("\nPlacement Failure\n")[2].partition("\n\nAllocations")[0]
    lines = text.splitlines()
    assert lines[:6] == [
        'Task Group "g0" (failed to place 2 allocations):',
        *(f"  {line}" for line in WHY),
    ]
    assert '"g5"' not in text
    assert lines[-2:] == [
        "Placement failures truncated. To see remainder run:",
        f"nodestate eval status {EVAL_ID}",
    ]


@pytest.mark.parametrize(
    "evaluations",
    [
        [evaluation(FailedTGAllocs={"cache": METRIC})],
        [evaluation(Status="blocked")],
    ],
    ids=["over", "reasons not known"],
)
async def test_a_failure_that_is_over_is_not_shown(served, run, evaluations):
    served.on("/v1/job/web/evaluations", Answer(evaluations))

    assert "Placement Failure\n" not in (await run("job", "status", "web")).out


async def test_allocations_of_purged_jobs_are_asked_for(served, run):
    await run("job", "status", "-all-allocs", "web")
    await run("job", "status", "web")

    assert served.queries("/v1/job/web/allocations") == [{"all": "true"}, {}]


async def test_short_asks_for_no_more_than_the_job(served, run):
    ran = await run("job", "status", "-short", "web")

    assert ran.out.endswith("Parameterized = false\n")
    assert len(served.asked) == 2


@pytest.mark.parametrize(("words", "text"), [([], "[\n    {"), (["web"], "{\n    ")])
async def test_json_is_the_servers_answer(served, run, words, text):
    ran = await run("job", "status", "-json", *words)

    assert ran.out.startswith(text)
    assert '"SubmitTime": 16999999' in ran.out


async def test_more_than_one_argument_is_refused(served, run):
    ran = await run("job", "status", "a", "b")

    assert ran.err.startswith("This command takes either no arguments or one: <job>\n")
    assert ALLOC_ID not in ran.err
