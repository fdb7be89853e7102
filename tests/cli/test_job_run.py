"""`job run` and `job eval`: what is sent, and what is said before the monitor."""

import msgspec
import pytest

from tests.scripted_server import Answer
from tests.scripted_work import EVAL_ID, add_evaluation, evaluation, job_stub

JOB = {"ID": "web", "Datacenters": ["dc1"]}
REGISTERED = {
    "EvalID": EVAL_ID,
    "EvalCreateIndex": 40,
    "JobModifyIndex": 40,
    "Warnings": "",
    "Index": 40,
}
FOLLOWED = [
    '==> Monitoring evaluation "e1b2c3d4"',
    '    Evaluation triggered by job "web"',
    '==> Evaluation "e1b2c3d4" finished with status "complete"',
]


@pytest.fixture
def served(scripted):
    scripted.on("/v1/jobs", Answer(REGISTERED))
    scripted.on("/v1/job/web/evaluate", Answer(REGISTERED))
    add_evaluation(scripted, evaluation())
    return scripted


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "web.json"
    path.write_bytes(msgspec.json.encode({"Job": JOB}))
    return str(path)


async def test_a_job_is_registered_and_followed(served, run, path):
    ran = await run("job", "run", path)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == FOLLOWED
    assert served.bodies("/v1/jobs") == [{"Job": JOB}]


async def test_a_job_may_be_piped_in(served, run):
    ran = await run("job", "run", "-detach", "-", typed='{"ID": "db"}')

    assert ran.out == f"Job registration successful\nEvaluation ID: {EVAL_ID}\n"
    assert served.bodies("/v1/jobs") == [{"Job": {"ID": "db"}}]


@pytest.mark.parametrize("index", [0, 7])
async def test_an_index_is_enforced(served, run, path, index):
    await run("job", "run", "-detach", "-check-index", str(index), path)

    assert served.bodies("/v1/jobs") == [
        {"Job": JOB, "EnforceIndex": True, "JobModifyIndex": index}
    ]


async def test_an_index_that_has_moved_is_said_plainly(served, run, path):
    text = (
        "Enforcing job modify index 7: job exists with conflicting job modify index: 9"
    )
    served.on("/v1/jobs", Answer(text, 409))

    ran = await run("job", "run", "-check-index", "7", path)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"{text}\nJob not updated\n"


async def test_an_index_below_zero_is_refused(served, run, path):
    ran = await run("job", "run", "-check-index", "-1", path)

    assert (ran.code, served.asked) == (1, [])
    assert ran.err == "Error parsing check-index value: it is below 0\n"


async def test_output_sends_nothing(served, run, path):
    ran = await run("job", "run", "-output", path)

    assert msgspec.json.decode(ran.out) == {"Job": JOB}
    assert served.asked == []


async def test_warnings_come_first(served, run, path):
    served.on("/v1/jobs", Answer({**REGISTERED, "Warnings": "beware"}))

    ran = await run("job", "run", path)

    assert ran.out.splitlines() == ["", "Job Warnings:", "beware", "", *FOLLOWED]


async def test_json_is_the_servers_answer(served, run, path):
    ran = await run("job", "run", "-json", path)

    assert msgspec.json.decode(ran.out)["EvalID"] == EVAL_ID


async def test_there_may_be_nothing_to_follow(served, run, path):
    served.on("/v1/jobs", Answer({**REGISTERED, "EvalID": ""}))

    ran = await run("job", "run", path)

    assert (ran.code, ran.out) == (0, "Job registration successful\n")


async def test_errors_are_told_by_what_was_being_done(served, run, path):
    served.on("/v1/jobs", Answer("No cluster leader", 503))
    failed = await run("job", "run", path)
    served.on("/v1/jobs", Answer("1 error occurred:\n\t* Missing tasks\n\n", 400))
    faulty = await run("job", "run", path)

    assert (failed.code, faulty.code) == (1, 1)
    assert failed.err == (
        "Error submitting job: Unexpected response code: 503 (No cluster leader)\n"
    )
    assert faulty.err == (
        "Error submitting job: 1 error occurred:\n\t* Missing tasks\n"
    )


async def test_an_unknown_outcome_has_an_exit_code_of_its_own(served, run, path):
    unknown = {"X-Nodestate-Outcome": "unknown"}
    served.on("/v1/jobs", Answer("outcome unknown", 504, headers=unknown))

    assert (await run("job", "run", path)).code == 3


@pytest.mark.parametrize(
    ("words", "forced"), [([], False), (["-force-reschedule"], True)]
)
async def test_a_job_is_evaluated(served, run, words, forced):
    served.on("/v1/jobs", Answer([job_stub()]))

    ran = await run("job", "eval", *words, "we")

    assert ran.out.splitlines() == FOLLOWED
    assert served.bodies("/v1/job/web/evaluate") == [
        {"JobID": "web", "EvalOptions": {"ForceReschedule": forced}}
    ]


@pytest.mark.parametrize(
    ("word", "text"),
    [("-detach", f'Created eval ID: "{EVAL_ID}"\n'), ("-json", '{\n    "Index": 40,')],
)
async def test_an_evaluation_need_not_be_followed(served, run, word, text):
    served.on("/v1/jobs", Answer([job_stub()]))

    assert (await run("job", "eval", word, "web")).out.startswith(text)
