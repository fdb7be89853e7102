"""Job files: both shapes, and what is said of what is none."""

import pytest

from nodestate.cli.job_files import JOB_FILE_BYTES_MAX
from tests.scripted_server import Answer


@pytest.mark.parametrize("text", ['{"ID": "web"}', '{"Job": {"ID": "web"}}'])
async def test_the_job_may_stand_alone_or_under_its_key(run, tmp_path, text):
    path = tmp_path / "job.json"
    path.write_text(text)

    ran = await run("job", "run", "-output", str(path))

    assert ran.out == '{\n    "Job": {\n        "ID": "web"\n    }\n}\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "a job is a JSON object, alone or as the key Job of one"),
        ('{"Job": 1}', "a job is a JSON object, alone or as the key Job of one"),
        ("{}", "the job has no ID"),
        ('{"Job": {"ID": 7}}', "the job has no ID"),
        ("{", "it is no JSON: Input data was truncated"),
        (
            'job "web" {}',
            "it is no JSON: JSON is malformed: invalid character (byte 0)\n"
            "Job files in HCL are not read here. "
            "'nomad job run -output' turns one into JSON",
        ),
        ("x" * (JOB_FILE_BYTES_MAX + 1), "it is larger than 1048576 bytes"),
    ],
)
@pytest.mark.parametrize("is_piped", [True, False])
async def test_what_is_no_job_is_said(run, tmp_path, text, reason, is_piped):
    path = tmp_path / "job.json"
    path.write_text(text)
    named = "-" if is_piped else str(path)

    ran = await run("job", "run", named, typed=text)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"Error getting job struct: {named}: {reason}\n"


async def test_a_file_that_is_not_there_is_named(run, tmp_path):
    ran = await run("job", "run", str(tmp_path / "none.json"))

    assert ran.err.endswith("none.json: No such file or directory\n")


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ('{"ID": "web"}', {"namespace": "flag"}),
        (
            '{"ID": "web", "Namespace": "own", "Region": "r1"}',
            {"namespace": "own", "region": "r1"},
        ),
        ('{"ID": "web", "Namespace": "", "Region": 7}', {"namespace": "flag"}),
    ],
)
async def test_the_jobs_own_namespace_wins(scripted, run, text, query):
    scripted.on("/v1/jobs", Answer({"EvalID": ""}))

    await run("job", "run", "-namespace", "flag", "-", typed=text)

    assert scripted.queries("/v1/jobs") == [query]
