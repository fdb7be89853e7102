"""`job plan` and `job validate`: what is said, and the exit codes that scripts read."""

from pathlib import Path

import msgspec
import pytest

from tests.scripted_server import Answer
from tests.scripted_work import METRIC, WHY

JOB = {
    "ID": "web",
    "Datacenters": ["dc1"],
    "TaskGroups": [{"Name": "cache", "Tasks": [{"Name": "redis", "Driver": "exec"}]}],
}
EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.json"))
NOTHING = {"Ignore": 3, "Place": 0, "Stop": 0}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "web.json"
    path.write_bytes(msgspec.json.encode(JOB))
    return str(path)


def plan(index=7, **fields):
    updates = fields.pop("updates", NOTHING)
    return Answer(
        {
            "Annotations": {"DesiredTGUpdates": {"cache": updates}},
            "FailedTGAllocs": None,
            "JobModifyIndex": index,
            "Warnings": "",
            **fields,
        }
    )


async def test_nothing_to_do_is_0(scripted, run, path):
    scripted.on("/v1/job/web/plan", plan())

    ran = await run("job", "plan", path)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[:8] == [
        'Job: "web"',
        'Task Group: "cache" (3 ignore)',
        "",
        "Scheduler dry-run:",
        "- All tasks successfully allocated.",
        "",
        "Job Modify Index: 7",
        "To submit the job with version verification run:",
    ]
    assert f"nodestate job run -check-index 7 {path}" in ran.out.splitlines()
    assert scripted.bodies("/v1/job/web/plan") == [{"Job": JOB, "Diff": True}]


@pytest.mark.parametrize(
    "kind", ["Place", "Stop", "Migrate", "DestructiveUpdate", "Canary"]
)
async def test_changes_are_1(scripted, run, path, kind):
    scripted.on("/v1/job/web/plan", plan(updates={kind: 1}))

    assert (await run("job", "plan", path)).code == 1


async def test_a_change_in_place_is_0(scripted, run, path):
    scripted.on("/v1/job/web/plan", plan(updates={"InPlaceUpdate": 1}))

    ran = await run("job", "plan", path)

    assert ran.code == 0
    assert 'Task Group: "cache" (1 in-place update)' in ran.out


async def test_a_new_job_and_what_has_no_place(scripted, run, path):
    failed = {"cache": METRIC}
    scripted.on(
        "/v1/job/web/plan",
        plan(
            0,
            updates={"Place": 2},
            FailedTGAllocs=failed,
            Warnings="beware",
            Diff={
                "Type": "Added",
                "ID": "web",
                "TaskGroups": [
                    {"Type": "Added", "Name": "cache", "Updates": {"create": 2}}
                ],
            },
        ),
    )

    ran = await run("job", "plan", path)

    assert ran.out.splitlines()[:14] == [
        '+ Job: "web"',
        '+ Task Group: "cache" (2 create)',
        "",
        "Scheduler dry-run:",
        "- WARNING: Failed to place all allocations.",
        '  Task Group "cache" (failed to place 2 allocations):',
        *(f"    {line}" for line in WHY),
        "",
        "Job Warnings:",
        "beware",
    ]


async def test_json_is_the_servers_answer(scripted, run, path):
    scripted.on("/v1/job/web/plan", plan())

    ran = await run("job", "plan", "-json", path)

    assert msgspec.json.decode(ran.out)["JobModifyIndex"] == 7


@pytest.mark.parametrize("words", [["none.json"], ["a", "b"], []])
async def test_errors_are_255(scripted, run, words):
    assert (await run("job", "plan", *words)).code == 255


async def test_an_error_of_the_server_is_255(scripted, run, path):
    scripted.on("/v1/job/web/plan", Answer("no", 500))

    ran = await run("job", "plan", path)

    assert (ran.code, ran.out) == (255, "")
    assert ran.err == "Error during plan: Unexpected response code: 500 (no)\n"


async def test_a_job_is_checked_without_a_server(scripted, run, path):
    ran = await run("job", "validate", path)

    assert (ran.code, ran.out) == (0, "Job validation successful\n")
    assert scripted.asked == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"Datacenters": []},
            "Job validation errors:\n1 error occurred:\n\t* Missing job datacenters\n",
        ),
        (
            {"Periodic": {}},
            "Job validation errors:\nperiodic jobs are not supported\n",
        ),
        ({"Type": 7}, "Job validation errors:\nJob.Type: expected a text\n"),
    ],
)
async def test_all_that_is_wrong_is_said(run, fields, text):
    ran = await run(
        "job", "validate", "-", typed=msgspec.json.encode({**JOB, **fields}).decode()
    )

    assert (ran.code, ran.out, ran.err) == (1, "", text)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_the_examples_are_sound(run, example):
    assert (await run("job", "validate", str(example))).code == 0
