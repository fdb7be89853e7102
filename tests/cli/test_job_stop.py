"""`job stop`: who is asked, what is sent, and what is said."""

import msgspec
import pytest

from tests.scripted_server import Answer
from tests.scripted_work import EVAL_ID, add_evaluation, evaluation, job_stub

STOPPED = {"EvalID": EVAL_ID, "EvalCreateIndex": 40, "JobModifyIndex": 40, "Index": 40}


@pytest.fixture
def served(scripted):
    scripted.on("/v1/jobs", Answer([job_stub()]))
    scripted.on("/v1/job/web", Answer(STOPPED))
    add_evaluation(scripted, evaluation(TriggeredBy="job-deregister"))
    return scripted


def deletions(served):
    return [each.query for each in served.asked if each.method == "DELETE"]


@pytest.mark.parametrize(
    ("words", "query"), [([], {}), (["-purge"], {"purge": "true"})]
)
async def test_a_job_is_stopped_and_that_followed(served, run, words, query):
    ran = await run("job", "stop", *words, "web")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        '==> Monitoring evaluation "e1b2c3d4"',
        '    Evaluation triggered by job "web"',
        '==> Evaluation "e1b2c3d4" finished with status "complete"',
    ]
    assert deletions(served) == [query]


async def test_it_need_not_be_followed(served, run):
    detached = await run("job", "stop", "-detach", "web")
    as_json = await run("job", "stop", "-json", "web")
    served.on("/v1/job/web", Answer({**STOPPED, "EvalID": ""}))
    gone = await run("job", "stop", "web")

    assert detached.out == f"{EVAL_ID}\n"
    assert msgspec.json.decode(as_json.out)["EvalID"] == EVAL_ID
    assert gone.out == 'Job "web" is gone\n'


@pytest.mark.parametrize(
    ("typed", "text", "count"),
    [
        ("y\n", f"{EVAL_ID}\n", 1),
        ("n\n", "Cancelling job stop\n", 0),
        ("", "Cancelling job stop\n", 0),
        ("yes\n", "For confirmation, an exact 'y' is required.\n", 0),
    ],
)
async def test_a_prefix_is_asked_about(served, run, typed, text, count):
    ran = await run("job", "stop", "-detach", "we", typed=typed)

    assert ran.out == f'Are you sure you want to stop job "web"? [y/N] {text}'
    assert (ran.code, len(deletions(served))) == (0, count)


async def test_yes_is_not_asked(served, run):
    assert (await run("job", "stop", "-yes", "-detach", "w")).out == f"{EVAL_ID}\n"


async def test_errors_are_told_by_what_was_being_done(served, run):
    served.on("/v1/job/web", Answer("No cluster leader", 503))

    ran = await run("job", "stop", "web")

    assert (ran.code, ran.err) == (
        1,
        "Error deregistering job: Unexpected response code: 503 (No cluster leader)\n",
    )
