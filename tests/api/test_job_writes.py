"""Changing jobs: registration, stop, purge, evaluation, and what is wrong with a job."""

from typing import Any

import pytest

from nodestate.model.command import EvaluateJob, RegisterJob
from tests.api.conftest import Api
from tests.api.working import (
    add_node,
    evaluations,
    group_body,
    job_body,
    report,
    schedule,
    submit,
)

WRITTEN = {
    "EvalCreateIndex", "EvalID", "Index", "JobModifyIndex", "KnownLeader", "LastContact",
}  # fmt: skip


async def refused(api: Api, body: object, path: str = "/v1/jobs") -> str:
    """Return the text with which a registration is refused; nothing has changed."""
    before = len(api.proposer.commands)
    answer = await api.put(path, body)
    assert answer.status == 400, (answer.status, answer.text)
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(api.proposer.commands) == before
    return answer.text


# Registration


@pytest.mark.row("JB1")
@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/job/web"])
async def test_a_job_is_registered_with_an_evaluation(api: Api, method, path):
    body = {"Job": job_body(Type="batch", Priority=70)}
    answer = await api.ask(method, path, body)

    written = answer.json
    assert answer.status == 200
    assert written.keys() == WRITTEN | {"Warnings"}
    assert answer.index == written["Index"] == written["JobModifyIndex"] == 10
    assert written["EvalCreateIndex"] == written["Index"]
    (evaluation,) = evaluations(api)
    assert (evaluation.id, evaluation.status) == (written["EvalID"], "pending")
    assert (evaluation.triggered_by, evaluation.type) == ("job-register", "batch")
    assert (evaluation.priority, evaluation.job_modify_index) == (70, 10)


@pytest.mark.row("JB2")
async def test_a_job_that_wants_something_else_is_a_new_version(api: Api):
    first = await submit(api)
    second = await submit(api, Priority=60)

    job = (await api.get("/v1/job/web")).json
    assert (job["Version"], job["CreateIndex"]) == (1, first.index)
    assert job["JobModifyIndex"] == second.json["JobModifyIndex"] == second.index


@pytest.mark.row("JB3")
async def test_the_same_job_is_looked_at_again(api: Api):
    first = await submit(api)
    again = await submit(api)

    assert again.json["JobModifyIndex"] == first.json["JobModifyIndex"]
    assert again.json["EvalID"] != first.json["EvalID"]
    assert again.index == again.json["EvalCreateIndex"] == first.index + 1
    assert (await api.get("/v1/job/web")).json["Version"] == 0


async def test_a_job_that_is_read_may_be_sent_back_as_it_is(api: Api):
    first = await submit(api)
    read = (await api.get("/v1/job/web")).json

    again = await api.put(
        "/v1/job/web", {"Job": {**read, "Stable": True, "Version": 9}}
    )

    assert again.json["JobModifyIndex"] == first.index


@pytest.mark.row("JB4")
@pytest.mark.parametrize("priority", [101, -1])
async def test_a_priority_out_of_range_is_refused(api: Api, priority):
    text = await refused(api, {"Job": job_body(Priority=priority)})

    assert text == ("1 error occurred:\n\t* Job priority must be between [1, 100]\n\n")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Job must be specified"),
        ({"Job": None}, "Job must be specified"),
        ({"Job": {}}, "Job ID hasn't been provided"),
        ({"Job": {"ID": None}}, "Job ID hasn't been provided"),
        ({"Job": []}, "request body at Job: expected an object"),
        ("", "Request body is empty"),
        ("{", "request body at character 2: found the end, expected a key in double"),
        (
            {"Job": {"ID": "x"}},
            "2 errors occurred:\n\t* Missing job datacenters\n\t* Missing job task groups\n\n",
        ),
        (
            {"Job": job_body("x y", TaskGroups=[])},
            "2 errors occurred:\n\t* Job ID contains a space\n\t* Missing job task groups\n\n",
        ),
        (
            {
                "Job": job_body(
                    Type="bogus", TaskGroups=[group_body(Count=-1, Tasks=[])]
                )
            },
            '2 errors occurred:\n\t* Invalid job type: "bogus"\n\t* Task group grp '
            "validation failed: 3 errors occurred:\n\t* Task group count can't be "
            "negative\n\t* Missing tasks for task group\n\t* Task Group grp should have "
            "a reschedule policy\n\n\n\n",
        ),
        ({"Job": job_body(Type="_core")}, "job type cannot be core"),
        (
            {"Job": job_body(Dispatched=True)},
            "job can't be submitted with 'Dispatched' set",
        ),
        (
            {"Job": job_body(Payload="eA==")},
            "job can't be submitted with a payload, only dispatched",
        ),
        ({"Job": job_body(Region="mars")}, "No path to region"),
        (
            {"Job": job_body(Namespace="team")},
            'mismatched request namespace in request: "default", "team"',
        ),
        ({"Job": job_body(Priority="high")}, "Expected `int`, got `str`"),
        ({"Job": job_body(Priority=2**64)}, "Job: a number is out of range"),
    ],
)
async def test_what_is_no_job_is_refused(api: Api, body, text):
    assert text in await refused(api, body)


@pytest.mark.row("JB17")
@pytest.mark.parametrize("kind", ["batch", "system"])
async def test_only_services_may_say_how_they_move(api: Api, kind):
    groups = [group_body(Migrate={"MaxParallel": 1})]
    text = await refused(api, {"Job": job_body(Type=kind, TaskGroups=groups)})

    assert f'Job type "{kind}" does not allow migrate block' in text


@pytest.mark.row("JB16")
async def test_a_service_that_does_not_say_how_it_moves_is_told(api: Api):
    await submit(api)

    (group,) = (await api.get("/v1/job/web")).json["TaskGroups"]
    assert group["Migrate"] == {
        "MaxParallel": 1,
        "HealthCheck": "checks",
        "MinHealthyTime": 10_000_000_000,
        "HealthyDeadline": 300_000_000_000,
    }


async def test_the_path_and_the_body_are_of_one_job(api: Api):
    text = await refused(api, {"Job": job_body()}, "/v1/job/other")

    assert text == "Job ID does not match name"


async def test_a_job_of_another_namespace_says_so_twice(api: Api):
    for body in (job_body(Namespace="team"), job_body("other")):
        answer = await api.put("/v1/jobs?namespace=team", {"Job": body})
        assert answer.status == 200, answer.text

    listed = (await api.get("/v1/jobs?namespace=team")).json
    assert [stub["ID"] for stub in listed] == ["other", "web"]
    text = await refused(
        api, {"Job": job_body(Namespace="default")}, "/v1/jobs?namespace=team"
    )
    assert text == 'mismatched request namespace in request: "team", "default"'


async def test_the_region_is_ours_if_a_job_names_none(make_api):
    api = await make_api(region="mars")
    await submit(api)

    assert (await api.get("/v1/job/web")).json["Region"] == "mars"
    text = await refused(api, {"Job": job_body(Region="global")})
    assert text == "No path to region"
    assert await refused(api, {}, "/v1/jobs?region=venus") == "No path to region"


async def test_keys_are_taken_in_any_case_as_in_all_bodies(api: Api):
    job = {
        "id": "web",
        "datacenters": ["dc1"],
        "TASKGROUPS": [
            {
                "name": "grp",
                "count": 3,
                "tasks": [{"name": "app", "driver": "raw_exec", "config": {"a": 1}}],
                "volumes": {"data": {"type": "host", "source": "d"}},
            }
        ],
        "migrate": {"maxparallel": 2},
        "priority": 1,
        "Priority": 60,
    }
    answer = await api.put("/v1/jobs", {"job": job})
    assert answer.status == 200, answer.text

    read = (await api.get("/v1/job/web")).json
    (group,) = read["TaskGroups"]
    assert (read["Priority"], group["Count"]) == (60, 3)
    assert group["Migrate"]["MaxParallel"] == 2
    assert group["Tasks"][0]["Config"] == {"a": 1}
    assert group["Volumes"]["data"]["Source"] == "d"


async def test_tokens_for_others_never_enter_the_log(api: Api):
    await submit(api, VaultToken="secret", ConsulToken="secret")

    (command,) = api.proposer.commands
    assert isinstance(command, RegisterJob)
    assert (command.job.vault_token, command.job.consul_token) == ("", "")


# Only if it is still as it was


@pytest.mark.row("JB5")
@pytest.mark.parametrize(
    ("job_id", "index", "text"),
    [
        ("web", 0, "Enforcing job modify index 0: job already exists"),
        (
            "web",
            7,
            "Enforcing job modify index 7: job exists with conflicting job modify "
            "index: 10",
        ),
        ("other", 7, "Enforcing job modify index 7: job does not exist"),
    ],
)
async def test_a_job_that_is_not_as_it_was_stays_as_it_is(
    api: Api, job_id, index, text
):
    await submit(api)
    before = work_of(api)
    body = {
        "Job": job_body(job_id, Priority=60),
        "EnforceIndex": True,
        "JobModifyIndex": index,
    }
    answer = await api.put("/v1/jobs", body)

    assert (answer.status, answer.text) == (409, text)
    assert work_of(api) == before


def work_of(api: Api) -> dict[str, Any]:
    """Return the jobs and evaluations that there are."""
    state = api.replica.state()
    return {"jobs": dict(state.jobs), "evaluations": dict(state.evaluations)}


async def test_a_job_that_is_as_it_was_is_changed(api: Api):
    body = {"Job": job_body(), "EnforceIndex": True, "JobModifyIndex": 0}
    first = await api.put("/v1/jobs", body)
    body = {"Job": job_body(Priority=60), "EnforceIndex": True, "JobModifyIndex": 10}
    second = await api.put("/v1/jobs", body)

    assert (first.status, second.status) == (200, 200)
    assert (await api.get("/v1/job/web")).json["Priority"] == 60


@pytest.mark.row("JB6")
async def test_a_job_keeps_its_type(api: Api):
    await submit(api)
    answer = await api.put("/v1/jobs", {"Job": job_body(Type="batch")})

    text = 'cannot update job from type "service" to "batch"'
    assert (answer.status, answer.text) == (400, text)


async def test_the_same_key_registers_once(api: Api):
    headers = {"Idempotency-Key": "once"}
    body = {"Job": job_body()}
    first = await api.ask("PUT", "/v1/jobs", body, headers)
    again = await api.ask("PUT", "/v1/jobs", body, headers)
    other = await api.ask("PUT", "/v1/jobs", {"Job": job_body(Priority=1)}, headers)

    assert (again.status, again.body) == (200, first.body)
    assert other.status == 422
    assert len(evaluations(api)) == 1


async def test_a_body_has_its_limit(make_api):
    api = await make_api(body_bytes_max=2000)
    answer = await api.put("/v1/jobs", {"Job": job_body(Meta={"a": "b" * 2000})})

    assert answer.status == 413
    assert "body_bytes_max" in answer.text


# Stopping


@pytest.mark.row("JB7")
async def test_a_job_that_is_stopped_is_still_there(api: Api):
    await submit(api, Type="batch", Priority=70)
    answer = await api.ask("DELETE", "/v1/job/web")

    written = answer.json
    assert (answer.status, written.keys()) == (200, WRITTEN)
    assert answer.index == written["Index"] == written["JobModifyIndex"] == 11
    job = (await api.get("/v1/job/web")).json
    assert (job["Stop"], job["Version"]) == (True, 1)
    evaluation = evaluations(api)[-1]
    assert evaluation.id == written["EvalID"]
    assert (evaluation.triggered_by, evaluation.type) == ("job-deregister", "batch")
    assert evaluation.job_modify_index == 11


@pytest.mark.row("JB9")
@pytest.mark.parametrize("query", ["", "?purge=true"])
async def test_a_job_that_is_unknown_is_gone_already(api: Api, query):
    answer = await api.ask("DELETE", f"/v1/job/none{query}")

    assert answer.status == 200
    assert answer.json == {
        "EvalCreateIndex": 0,
        "EvalID": "",
        "Index": 0,
        "JobModifyIndex": 0,
        "KnownLeader": False,
        "LastContact": 0,
    }
    assert not api.replica.state().evaluations


@pytest.mark.row("JB8")
async def test_a_job_that_is_purged_is_gone(api: Api):
    await submit(api)
    answer = await api.ask("DELETE", "/v1/job/web?purge=true")

    assert answer.json["JobModifyIndex"] == answer.index == 11
    assert (await api.get("/v1/job/web")).status == 404
    assert (await api.get("/v1/job/web/summary")).status == 404
    assert evaluations(api)[-1].triggered_by == "job-deregister"


async def test_a_flag_that_is_no_word_stops_nothing(api: Api):
    await submit(api)
    answer = await api.ask("DELETE", "/v1/job/web?purge=maybe")

    assert answer.status == 400
    assert answer.text.startswith(
        'Failed to parse value of "purge" (maybe) as a bool: '
    )
    assert (await api.get("/v1/job/web")).json["Stop"] is False


# Evaluating


@pytest.mark.parametrize(
    "body", [None, {"JobID": "web"}, {"JobID": "web", "EvalOptions": {}}]
)
async def test_a_job_is_looked_at_again_when_asked(api: Api, body):
    await submit(api)
    answer = await api.put("/v1/job/web/evaluate", body)

    written = answer.json
    assert (answer.status, written.keys()) == (200, WRITTEN | {"Warnings"})
    assert (written["Index"], written["JobModifyIndex"]) == (11, 10)
    evaluation = evaluations(api)[-1]
    assert (evaluation.id, evaluation.triggered_by) == (
        written["EvalID"],
        "job-register",
    )


@pytest.mark.row("JB15")
async def test_what_failed_is_replaced_whatever_its_policy_says(api: Api):
    await add_node(api)
    never = {"Attempts": 0, "Interval": 86_400_000_000_000, "Unlimited": False}
    await submit(api, TaskGroups=[group_body(ReschedulePolicy=never)])
    schedule(api)
    report(api, "failed")
    schedule(api)
    (failed,) = (await api.get("/v1/job/web/allocations")).json

    await api.put("/v1/job/web/evaluate")
    schedule(api)
    assert len((await api.get("/v1/job/web/allocations")).json) == 1

    options = {"ForceReschedule": True}
    await api.put("/v1/job/web/evaluate", {"JobID": "web", "EvalOptions": options})
    schedule(api)

    listed = (await api.get("/v1/job/web/allocations")).json
    by_id = {one["ID"]: one for one in listed}
    assert len(by_id) == 2
    assert by_id[failed["ID"]]["DesiredTransition"]["ForceReschedule"] is True
    assert {one["ClientStatus"] for one in listed} == {"failed", "pending"}


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("none", None, 404, "job not found"),
        ("web", {}, 400, "Job ID must be specified"),
        ("web", {"JobID": "other"}, 400, "JobID not same as job name"),
        ("web", {"JobID": 1}, 400, "request body at JobID: found a whole number"),
    ],
)
async def test_what_can_not_be_evaluated(api: Api, path, body, status, text):
    await submit(api)
    answer = await api.put(f"/v1/job/{path}/evaluate", body)

    assert answer.status == status
    assert text in answer.text
    assert len(evaluations(api)) == 1


async def test_the_namespace_of_a_write_is_that_of_its_parameter(api: Api):
    await submit(api)
    for method, path in (("PUT", "/v1/job/web/evaluate"), ("DELETE", "/v1/job/web")):
        answer = await api.ask(method, f"{path}?namespace=team")
        assert answer.status == (404 if method == "PUT" else 200)
        assert (await api.ask(method, f"{path}?namespace=*")).status == 400

    assert (await api.get("/v1/job/web")).json["Stop"] is False
    assert not isinstance(api.proposer.commands[0], EvaluateJob)


# Checking


async def test_what_is_wrong_with_a_job_is_an_answer_and_no_error(api: Api):
    answer = await api.put("/v1/validate/job", {"Job": {"ID": "x"}})

    faults = ["Missing job datacenters", "Missing job task groups"]
    assert answer.status == 200
    assert answer.json == {
        "DriverConfigValidated": True,
        "Error": "2 errors occurred:\n\t* " + "\n\t* ".join(faults) + "\n\n",
        "ValidationErrors": faults,
        "Warnings": "",
    }


async def test_a_job_with_nothing_wrong_is_left_alone(api: Api):
    answer = await api.put("/v1/validate/job", {"Job": job_body()})

    assert (answer.json["Error"], answer.json["ValidationErrors"]) == ("", None)
    assert not api.proposer.commands


async def test_a_job_that_nobody_may_submit_is_wrong_too(api: Api):
    answer = await api.put("/v1/validate/job", {"Job": job_body(Type="_core")})

    assert answer.json["Error"] == "job type cannot be core"
    assert answer.json["ValidationErrors"] == ["job type cannot be core"]


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("", {}, "Job must be specified"),
        ("?region=mars", {"Job": job_body()}, "No path to region"),
        ("?namespace=a%20b", {"Job": job_body()}, "invalid namespace"),
    ],
)
async def test_what_is_no_job_can_not_be_checked(api: Api, path, body, text):
    answer = await api.put(f"/v1/validate/job{path}", body)

    assert answer.status == 400
    assert text in answer.text


async def test_hcl_is_not_parsed_and_says_what_to_send(api: Api):
    answer = await api.put("/v1/jobs/parse", {"JobHCL": "job {}"})

    assert answer.status == 501
    assert "as JSON" in answer.text
    assert (await api.get("/v1/jobs/parse")).status == 405
