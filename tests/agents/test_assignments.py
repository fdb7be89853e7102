import msgspec
import pytest

from nodestate.agents.assignments import Report
from nodestate.model.allocation import DeploymentStatus, TaskState
from nodestate.model.encoding import encode_json
from nodestate.model.timestamp import Timestamp
from tests.agents.assigned import SECOND, allocation_json, assigned


def test_tasks_are_those_of_the_group():
    assert assigned(tasks=("b", "a")).task_names == ("b", "a")


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"AllocatedResources": {"Tasks": {"x": {"Cpu": {}}, "w": {}}}}, ("w", "x")),
        ({"TaskStates": {"y": {"State": "running"}}}, ("y",)),
        ({}, ("task",)),
    ],
)
def test_tasks_of_a_forgotten_job_are_told_from_what_is_left_of_it(fields, names):
    assert assigned(Job=None, **fields).task_names == names


def test_a_forgotten_job_restarts_nothing_and_has_no_health():
    orphan = assigned(Job=None)

    assert orphan.restart_policy.attempts == 0
    assert orphan.health_ns is None


@pytest.mark.parametrize(
    ("fields", "is_wanted"),
    [
        ({}, True),
        ({"DesiredStatus": "stop"}, False),
        ({"DesiredStatus": "evict"}, False),
        ({"ClientStatus": "lost"}, False),
    ],
)
def test_what_is_stopped_or_lost_is_not_wanted(fields, is_wanted):
    assert assigned(**fields).is_wanted is is_wanted


def test_health_is_by_the_migrate_block_or_that_of_the_deployment():
    update = {
        "HealthCheck": "task_states",
        "MinHealthyTime": 3 * SECOND,
        "HealthyDeadline": 60 * SECOND,
    }
    group = {"Update": update}

    assert assigned(group=group).health_ns == (10 * SECOND, 300 * SECOND)
    deployed = assigned(group=group, DeploymentID="d")
    assert deployed.health_ns == (3 * SECOND, 60 * SECOND)


@pytest.mark.parametrize("kind", ["batch", "system"])
def test_only_services_are_judged(kind):
    assert assigned(kind).health_ns is None


def test_health_that_is_set_by_hand_is_left_alone():
    assert assigned(group={"Migrate": {"HealthCheck": "manual"}}).health_ns is None


def test_a_group_without_a_migrate_block_has_the_usual_times():
    assert assigned(group={"Migrate": None}).health_ns == (10 * SECOND, 300 * SECOND)


def test_a_report_has_nomads_names():
    report = Report(
        id="a",
        node_id="n",
        client_status="running",
        client_description="Tasks are running",
        task_states={"web": TaskState(state="running", started_at=Timestamp(SECOND))},
        deployment_status=DeploymentStatus(healthy=True, timestamp=Timestamp(SECOND)),
    )

    sent = msgspec.json.decode(encode_json(report))

    assert sent.keys() == {
        "ID",
        "NodeID",
        "ClientStatus",
        "ClientDescription",
        "TaskStates",
        "DeploymentStatus",
    }
    assert sent["TaskStates"]["web"]["StartedAt"] == "1970-01-01T00:00:01Z"
    assert sent["DeploymentStatus"]["Healthy"] is True


def test_what_an_agent_does_not_use_is_skipped():
    assert assigned(Metrics={"Scores": {"x": 1.5}}, Unheard={"Of": []}).id
    assert allocation_json()["Job"]["TaskGroups"]
