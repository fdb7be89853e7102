"""From what a person typed to one job."""

import pytest

from tests.scripted_server import Answer
from tests.scripted_work import job, job_stub

SUMMARY = {"JobID": "web", "Summary": {}}


@pytest.fixture
def served(scripted):
    scripted.on("/v1/jobs", Answer([job_stub(ID="web2", Stop=True), job_stub()]))
    for id_ in ("web", "web2"):
        scripted.on(f"/v1/job/{id_}", Answer(job(ID=id_)))
    return scripted


async def test_an_exact_id_wins_over_longer_ones(served, run):
    ran = await run("job", "status", "-short", " web ")

    assert ran.out.startswith("ID            = web\n")
    assert served.queries("/v1/jobs") == [{"prefix": "web"}]


async def test_a_prefix_is_enough(served, run):
    served.on("/v1/jobs", Answer([job_stub(ID="web2")]))

    ran = await run("job", "status", "-short", "we")

    assert ran.out.startswith("ID            = web2\n")


async def test_many_matches_are_listed(served, run):
    ran = await run("job", "status", "we")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Prefix matched multiple jobs\n\n"
        "ID    Type     Priority  Status             Submit Date\n"
        "web   service  50        running            2023-11-14T22:11:50Z\n"
        "web2  service  50        running (stopped)  2023-11-14T22:11:50Z\n"
    )


async def test_none_may_match(served, run):
    served.on("/v1/jobs", Answer([]))

    ran = await run("job", "status", "we")

    assert (ran.code, ran.err) == (1, 'No job(s) with prefix or id "we" found\n')


async def test_an_id_may_have_slashes(served, run):
    served.on("/v1/jobs", Answer([job_stub(ID="a/b c")]))
    served.on("/v1/job/a/b c", Answer(job(ID="a/b c")))

    ran = await run("job", "status", "-short", "a/b c")

    assert ran.out.startswith("ID            = a/b c\n")


@pytest.mark.parametrize("words", [["eval"], ["stop", "a", "b"]])
async def test_one_argument_is_needed(served, run, words):
    ran = await run("job", *words)

    assert ran.code == 1
    assert ran.err.startswith("This command takes one argument: <job>\n")
