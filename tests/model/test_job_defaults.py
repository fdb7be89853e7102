"""What a job becomes when its author left things out (JB16)."""

import json
from pathlib import Path
from typing import Any

import pytest

from nodestate.errors import RequestError
from nodestate.model.encoding import encode_json
from nodestate.model.job import (
    Affinity,
    EphemeralDisk,
    Job,
    JobType,
    LogConfig,
    MigrateStrategy,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    Spread,
    UpdateStrategy,
    VolumeRequest,
)
from nodestate.model.job_defaults import complete_job
from nodestate.model.node import NetworkResource

S = 1_000_000_000
MINIMAL: dict[str, Any] = {
    "ID": "web",
    "Datacenters": ["dc1"],
    "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", "Driver": "exec"}]}],
}


def complete(*, group: dict[str, Any] | None = None, **fields: Any) -> Job:
    groups = [{**MINIMAL["TaskGroups"][0], **(group or {})}]
    return complete_job({**MINIMAL, "TaskGroups": groups, **fields})


def group_of(job: Job) -> Any:
    return job.task_groups[0]


def test_a_job_says_no_more_than_it_must():
    job = complete()

    assert (job.name, job.namespace, job.region) == ("web", "default", "global")
    assert (job.type, job.priority) == (JobType.SERVICE, 50)
    assert group_of(job).count == 1
    assert group_of(job).ephemeral_disk == EphemeralDisk(size_mb=300)
    task = group_of(job).tasks[0]
    assert task.resources == Resources(cpu=100, memory_mb=300)
    assert task.log_config == LogConfig(max_files=10, max_file_size_mb=10)
    assert task.kill_timeout == 5 * S


@pytest.mark.parametrize(
    ("kind", "attempts", "interval"),
    [("service", 2, 1800 * S), ("batch", 3, 86_400 * S), ("system", 2, 1800 * S)],
)
def test_restarts_by_type(kind, attempts, interval):
    policy = group_of(complete(Type=kind)).restart_policy

    assert policy == RestartPolicy(
        attempts=attempts, interval=interval, delay=15 * S, mode="fail"
    )


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        (
            "service",
            ReschedulePolicy(
                delay=30 * S,
                delay_function="exponential",
                max_delay=3600 * S,
                unlimited=True,
            ),
        ),
        (
            "batch",
            ReschedulePolicy(
                attempts=1, interval=86_400 * S, delay=5 * S, delay_function="constant"
            ),
        ),
        ("system", None),
        ("bogus", None),
    ],
)
def test_rescheduling_by_type(kind, policy):
    assert group_of(complete(Type=kind)).reschedule_policy == policy


@pytest.mark.row("JB16")
def test_a_service_is_moved_and_updated_one_at_a_time():
    job = complete()

    assert group_of(job).migrate == MigrateStrategy(
        max_parallel=1,
        health_check="checks",
        min_healthy_time=10 * S,
        healthy_deadline=300 * S,
    )
    assert group_of(job).update == UpdateStrategy(
        stagger=30 * S,
        max_parallel=1,
        health_check="checks",
        min_healthy_time=10 * S,
        healthy_deadline=300 * S,
        progress_deadline=600 * S,
    )
    assert job.update == UpdateStrategy(stagger=30 * S, max_parallel=1)


@pytest.mark.parametrize("kind", ["batch", "system"])
def test_others_have_neither(kind):
    job = complete(Type=kind)

    assert (group_of(job).migrate, group_of(job).update) == (None, None)
    assert job.update == UpdateStrategy()


def test_an_explicit_zero_stays():
    job = complete(
        Priority=0,
        group={
            "Count": 0,
            "Migrate": {"MinHealthyTime": 0, "MaxParallel": None},
            "EphemeralDisk": {"SizeMB": 0},
        },
    )

    assert job.priority == 0
    assert group_of(job).count == 0
    assert group_of(job).migrate.min_healthy_time == 0
    assert group_of(job).migrate.max_parallel == 1
    assert group_of(job).ephemeral_disk.size_mb == 0


def test_a_groups_own_word_wins_field_by_field():
    job = complete(
        Migrate={"MaxParallel": 3, "MinHealthyTime": 5},
        Reschedule={"Delay": 7, "MaxDelay": 9},
        Update={"MaxParallel": 4, "Canary": 1},
        group={
            "Migrate": {"MaxParallel": 2},
            "ReschedulePolicy": {"Delay": 8},
            "Update": {"Canary": 2},
        },
    )

    group = group_of(job)
    assert (group.migrate.max_parallel, group.migrate.min_healthy_time) == (2, 5)
    assert group.migrate.healthy_deadline == 300 * S
    assert (group.reschedule_policy.delay, group.reschedule_policy.max_delay) == (8, 9)
    assert (group.update.max_parallel, group.update.canary) == (4, 2)
    assert job.update == UpdateStrategy(stagger=30 * S, max_parallel=4)


def test_an_update_of_zeros_asks_for_nothing():
    zeros = {"Stagger": 0, "MaxParallel": 0, "Canary": 0}

    job = complete(Update=zeros)

    assert (job.update, group_of(job).update) == (UpdateStrategy(), None)


def test_what_others_may_not_have_is_kept_to_be_complained_of():
    job = complete(
        Type="batch", Migrate={"MaxParallel": 1}, group={"Update": {"Canary": 1}}
    )

    assert group_of(job).migrate is not None
    assert group_of(job).update is not None


def test_preferences_have_a_weight():
    job = complete(
        Affinities=[{"LTarget": "a", "RTarget": "b", "Operand": "="}],
        Spreads=[{"Attribute": "c", "SpreadTarget": []}],
    )

    assert job.affinities == (Affinity(l_target="a", r_target="b", operand="="),)
    assert job.spreads == (Spread(attribute="c", weight=50),)


def test_networks_have_a_bandwidth():
    task = {
        "Name": "t",
        "Resources": {"Networks": [{"DynamicPorts": [{"Label": "http"}]}]},
    }

    job = complete(group={"Networks": [{"Mode": "host", "MBits": 0}], "Tasks": [task]})

    assert group_of(job).networks == [NetworkResource(mode="host")]
    assert group_of(job).tasks[0].resources.networks[0].mbits == 10
    assert group_of(job).tasks[0].resources.cpu == 100


def test_volumes_are_by_name_whatever_the_name():
    volumes = {"Name": {"Type": "host", "Source": "s", "ReadOnly": None}}

    job = complete(group={"Volumes": volumes})

    assert group_of(job).volumes == {"Name": VolumeRequest(type="host", source="s")}


def test_what_is_opaque_stays_as_it_is():
    config: dict[str, Any] = {"args": [], "x": None, "y": {"z": 1.5}}
    task = {"Name": "t", "Driver": "exec", "Config": config, "Env": {}}

    job = complete(group={"Tasks": [task]})

    assert group_of(job).tasks[0].config == config
    assert group_of(job).tasks[0].env is None


def test_what_the_servers_say_is_theirs():
    job = complete(
        Status="running", Version=7, Stable=True, SubmitTime=5, CreateIndex=5, JobModifyIndex="x"
    )  # fmt: skip

    assert job == complete()


def test_a_namespace_of_the_request_is_the_jobs():
    assert complete_job(MINIMAL, namespace="prod").namespace == "prod"
    named = {**MINIMAL, "Namespace": "own"}
    assert complete_job(named, namespace="prod").namespace == "own"


def test_unknown_fields_are_passed_over():
    assert complete(NodePool="x", group={"Consul": {}}) == complete()


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"Priority": "high"}, "Job.Priority"),
        ({"TaskGroups": {"Name": "g"}}, "Job.TaskGroups"),
        ({"TaskGroups": [5]}, "Job.TaskGroups[0]"),
        ({"TaskGroups": [{"Count": 1.5}]}, "Job.TaskGroups[0].Count"),
        ({"TaskGroups": [{"Migrate": 5}]}, "Job.TaskGroups[0].Migrate"),
        ({"TaskGroups": [{"Tasks": [{"Resources": []}]}]}, "Job.TaskGroups[0].Tasks[0].Resources"),
        ({"Datacenters": [5]}, "Job.Datacenters[0]"),
        ({"Type": 5}, "Job.Type"),
        ({"Priority": 2**70}, "Job"),
        ({"Periodic": {"x": 2**70}}, "Job"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(fields, where):
    with pytest.raises(RequestError) as caught:
        complete_job({**MINIMAL, **fields})

    assert where in str(caught.value)


@pytest.mark.parametrize("kind", ["service", "batch", "system"])
def test_a_whole_job_is_not_made_more_whole(kind):
    job = complete(Type=kind)

    assert complete_job(json.loads(encode_json(job))) == job


RECORDED = Path(__file__).parent / "recorded_job.json"
OURS = {"Status", "Version", "SubmitTime", "CreateIndex", "ModifyIndex", "JobModifyIndex"}  # fmt: skip


def test_a_recorded_job_becomes_what_the_recorded_server_made_of_it():
    recorded = json.loads(RECORDED.read_text())

    made = json.loads(encode_json(complete_job(recorded["sent"])))

    assert made.keys() == recorded["shown"].keys()
    assert {name: made[name] for name in made.keys() - OURS} == {
        name: recorded["shown"][name] for name in made.keys() - OURS
    }
