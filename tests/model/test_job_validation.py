"""What is wrong with jobs, in the words that clients know (JB4, JB17)."""

from typing import Any

import pytest

from nodestate.model.job_defaults import complete_job
from nodestate.model.job_validation import (
    CORE,
    DISPATCHED,
    PARAMETERIZED,
    PAYLOAD,
    PERIODIC,
    job_faults,
    listed,
    refuse_submission,
)

S = 1_000_000_000
TASK: dict[str, Any] = {"Name": "t", "Driver": "exec"}
GROUP: dict[str, Any] = {"Name": "g", "Tasks": [TASK]}
JOB: dict[str, Any] = {"ID": "web", "Datacenters": ["dc1"], "TaskGroups": [GROUP]}
STATIC = {"Label": "a", "Value": 80}


def faults_of(sent: dict[str, Any]) -> str:
    return job_faults(complete_job(sent))


def of_job(**fields: Any) -> str:
    return faults_of({**JOB, **fields})


def of_group(*, job: dict[str, Any] | None = None, **fields: Any) -> str:
    return faults_of({**JOB, **(job or {}), "TaskGroups": [{**GROUP, **fields}]})


def of_task(**fields: Any) -> str:
    return of_group(Tasks=[{**TASK, **fields}])


def in_group(*faults: str) -> str:
    return listed([f"Task group g validation failed: {listed(faults)}"])


def in_task(*faults: str, name: str = "t") -> str:
    return in_group(f"Task {name} validation failed: {listed(faults)}")


@pytest.mark.parametrize("kind", ["service", "batch", "system"])
def test_a_small_job_is_valid(kind):
    assert of_job(Type=kind) == ""


def test_faults_are_listed_as_nomad_lists_them():
    assert listed(["a"]) == "1 error occurred:\n\t* a\n\n"
    assert listed(["a", "b"]) == "2 errors occurred:\n\t* a\n\t* b\n\n"
    assert in_group("x").endswith("\t* x\n\n\n\n")


@pytest.mark.row("JB4")
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"ID": ""}, "Missing job ID"),
        ({"ID": "x y"}, "Job ID contains a space"),
        ({"ID": "x\0y"}, "Job ID contains a null character"),
        ({"Type": "bogus"}, 'Invalid job type: "bogus"'),
        ({"Priority": 101}, "Job priority must be between [1, 100]"),
        ({"Priority": 0}, "Job priority must be between [1, 100]"),
        ({"Priority": -1}, "Job priority must be between [1, 100]"),
        ({"Datacenters": []}, "Missing job datacenters"),
        ({"Datacenters": ["dc1", ""]}, "Job datacenter must be non-empty string"),
        ({"TaskGroups": []}, "Missing job task groups"),
    ],
)
def test_a_job(fields, fault):
    assert f"\t* {fault}\n" in of_job(**{"Name": "n", **fields})


def test_a_job_without_a_name_has_no_id_either():
    assert of_job(ID="").startswith("2 errors occurred:\n\t* Missing job ID\n\t* Missing job name\n")  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "fault"),
    [
        ([{**GROUP, "Name": ""}], "Job task group 1 missing name"),
        ([GROUP, GROUP], "Job task group 2 redefines 'g' from group 1"),
    ],
)
def test_names_of_groups(groups, fault):
    assert of_job(TaskGroups=groups) == listed([fault])


def test_a_system_job_is_once_on_each_node():
    text = of_group(job={"Type": "system"}, Count=2)

    assert text == listed(
        [
            "Job task group g has count 2. Count cannot exceed 1 with system scheduler",
        ]
    )


def test_all_groups_together_are_limited():
    most = [{**GROUP, "Count": 49_999}, {**GROUP, "Name": "h", "Count": 1}]
    more = [most[0], {**most[1], "Count": 2}]

    assert of_job(TaskGroups=most) == ""
    assert of_job(TaskGroups=more) == listed(
        ["total count was greater than job_max_count: 50001 > 50000"]
    )


AFFINITY = {"LTarget": "a", "RTarget": "b", "Operand": "="}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Affinities": [AFFINITY]}, "System jobs may not have an affinity stanza"),
        ({"Spreads": [{"Attribute": "a"}]}, "System jobs may not have a spread stanza"),
    ],
)
def test_a_system_job_prefers_nothing(fields, fault):
    assert of_job(Type="system", **fields) == listed([fault])
    assert of_group(job={"Type": "system"}, **fields) == in_group(fault)


def test_a_system_job_is_not_rescheduled():
    policy = {"Attempts": 1, "Interval": 60 * S, "Delay": 5 * S}

    text = of_group(job={"Type": "system"}, ReschedulePolicy=policy)

    assert text == in_group("System jobs should not have a reschedule policy")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Count": -1}, "Task group count can't be negative"),
        ({"Tasks": []}, "Missing tasks for task group"),
        ({"EphemeralDisk": {"SizeMB": 9}, "Tasks": [{**TASK, "LogConfig": {"MaxFiles": 0}}]},
         "minimum DiskMB value is 10; got 9"),
        ({"Tasks": [{**TASK, "Leader": True}, {**TASK, "Name": "u", "Leader": True}]},
         "Only one task may be marked as leader"),
        ({"Tasks": [TASK, TASK]}, "Task 2 redefines 't' from task 1"),
        ({"Volumes": {"v": {"Type": "csi", "Source": "s"}}},
         "Volume v has unrecognised type csi"),
        ({"Volumes": {"v": {"Type": "host"}}}, "Volume v has an empty source"),
        ({"RestartPolicy": {"Mode": "maybe"}}, 'Unsupported restart mode: "maybe"'),
        ({"RestartPolicy": {"Mode": "delay", "Attempts": 0}},
         'Restart policy "delay" with 0 attempts is ambiguous'),
        ({"RestartPolicy": {"Interval": S, "Attempts": 0}},
         "Interval can not be less than 5s (got 1s)"),
        ({"RestartPolicy": {"Interval": 20 * S}},
         "Restart policy can't restart the TaskGroup 2 times in an interval of 20s "
         "with a delay of 15s"),
    ],
)  # fmt: skip
def test_a_group(fields, fault):
    assert of_group(**fields) == in_group(fault)


@pytest.mark.row("JB17")
@pytest.mark.parametrize("kind", ["batch", "system"])
@pytest.mark.parametrize("block", ["Update", "Migrate"])
def test_only_services_move_and_update(kind, block):
    text = of_group(job={"Type": kind}, **{block: {"MaxParallel": 1}})

    assert text == in_group(f'Job type "{kind}" does not allow {block.lower()} block')


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"MaxParallel": -1}, "MaxParallel must be >= 0 but found -1"),
        ({"HealthCheck": ""}, "Missing HealthCheck"),
        ({"HealthCheck": "manual"}, 'Invalid HealthCheck: "manual"'),
        ({"MinHealthyTime": -S}, "MinHealthyTime is -1s and must be >= 0"),
        ({"HealthyDeadline": -S}, "HealthyDeadline is -1s and must be >= 0"),
        (
            {"MinHealthyTime": 300 * S},
            "MinHealthyTime must be less than HealthyDeadline",
        ),
    ],
)
def test_migration(fields, fault):
    assert of_group(Migrate=fields) == in_group(fault)


LIMITED = {
    "Attempts": 2,
    "Interval": 60 * S,
    "Delay": 5 * S,
    "DelayFunction": "constant",
    "Unlimited": False,
}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Unlimited": True}, "Reschedule Policy with Attempts = 2, Interval = 1m0s, and Unlimited = true is ambiguous"),
        ({"DelayFunction": "x"}, 'Invalid delay function "x", must be one of ["constant" "exponential" "fibonacci"]'),
        ({"Delay": S}, "Delay cannot be less than 5s (got 1s)"),
        ({"DelayFunction": "exponential", "MaxDelay": S}, "Max Delay cannot be less than Delay 5s (got 1s)"),
        ({"Interval": 14 * S}, "Interval cannot be less than 15s (got 14s)"),
        ({"Attempts": 13}, 'Reschedule Policy can\'t have 13 attempts in an interval of 1m0s and initial delay 5s for the "constant" delay function'),
        ({"DelayFunction": "exponential", "MaxDelay": 10 * S, "Attempts": 7},
         'Reschedule Policy can\'t have 7 attempts in an interval of 1m0s and initial delay 5s for the "exponential" delay function'),
        ({"DelayFunction": "exponential", "MaxDelay": 3600 * S, "Attempts": 4},
         'Reschedule Policy can\'t have 4 attempts in an interval of 1m0s and initial delay 5s for the "exponential" delay function'),
        ({"DelayFunction": "fibonacci", "MaxDelay": 600 * S, "Attempts": 6},
         'Reschedule Policy can\'t have 6 attempts in an interval of 1m0s and initial delay 5s for the "fibonacci" delay function'),
    ],
)  # fmt: skip
def test_rescheduling(fields, fault):
    assert of_group(ReschedulePolicy={**LIMITED, **fields}) == in_group(fault)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Attempts": 12},
        {"DelayFunction": "fibonacci", "MaxDelay": 600 * S, "Attempts": 4},
        {"Attempts": 0, "Delay": 0, "Interval": 0},
        {"DelayFunction": "exponential", "MaxDelay": 10 * S, "Attempts": 6},
        {"DelayFunction": "exponential", "MaxDelay": 3600 * S, "Attempts": 3},
    ],
)
def test_rescheduling_that_is_possible(fields):
    assert of_group(ReschedulePolicy={**LIMITED, **fields}) == ""


@pytest.mark.parametrize("function", ["constant", "exponential", "fibonacci"])
def test_any_number_of_attempts_is_counted_at_once(function):
    policy = {
        **LIMITED,
        "DelayFunction": function,
        "Attempts": 2**62,
        "Interval": 2**62,
        "MaxDelay": 5 * S,
    }

    assert "can't have 4611686018427387904 attempts" in of_group(
        ReschedulePolicy=policy
    )


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Name": "a/b"}, "Task name cannot include slashes"),
        ({"Driver": ""}, "Missing task driver"),
        ({"Resources": {"CPU": 19}}, "minimum CPU value is 20; got 19"),
        ({"Resources": {"MemoryMB": 9}}, "minimum MemoryMB value is 10; got 9"),
        ({"Resources": {"Networks": [{"MBits": 0}]}}, "minimum MBits value is 1; got 0"),
        ({"Resources": {"DiskMB": 1}},
         "Task can't ask for disk resources, they have to be specified at the task group level."),
        ({"LogConfig": {"MaxFiles": 30}},
         "log storage (300 MB) must be less than requested disk capacity (300 MB)"),
        ({"Constraints": [{"Operand": "distinct_hosts"}]},
         "Constraint 1 has disallowed Operand at task level: distinct_hosts"),
    ],
)  # fmt: skip
def test_a_task(fields, fault):
    assert of_task(**fields) == in_task(fault, name=fields.get("Name", "t"))


def test_a_task_without_a_name():
    assert of_task(Name="") == in_group(
        "Task 1 missing name",
        f"Task  validation failed: {listed(['Missing task name'])}",
    )


@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        ({"LTarget": "a"}, "Missing constraint operand"),
        ({"LTarget": "a", "Operand": "="}, 'Operator "=" requires an RTarget'),
        ({"RTarget": "a", "Operand": "="}, "No LTarget provided but is required by constraint"),
        ({"LTarget": "a", "Operand": "~"}, 'Unknown constraint type "~"'),
        ({"Operand": "is_set"}, "No LTarget provided but is required by constraint"),
    ],
)  # fmt: skip
def test_a_constraint(constraint, why):
    fault = f"Constraint 1 validation failed: {listed([why])}"

    assert of_job(Constraints=[constraint]) == listed([fault])
    assert of_group(Constraints=[constraint]) == in_group(fault)
    assert of_task(Constraints=[constraint]) == in_task(fault)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "Distinct Property must have an allowed count of 1 or greater: 0 < 1"),
        *(
            (
                text,
                f'Failed to convert RTarget "{text}" to uint64: strconv.ParseUint: '
                f'parsing "{text}": {reason}',
            )
            for text, reason in (
                ("two", "invalid syntax"),
                ("-1", "invalid syntax"),
                ("\u0663", "invalid syntax"),
                (str(2**64), "value out of range"),
                ("9" * 5000, "value out of range"),
            )
        ),
    ],
)
def test_how_many_may_share_a_property(text, why):
    constraint = {"LTarget": "a", "Operand": "distinct_property", "RTarget": text}
    fault = f"Constraint 1 validation failed: {listed([why])}"

    assert of_job(Constraints=[constraint]) == listed([fault])
    assert of_group(Constraints=[constraint]) == in_group(fault)


@pytest.mark.parametrize(
    "constraint",
    [
        {"Operand": "distinct_hosts"},
        {"LTarget": "a", "Operand": "distinct_property"},
        {"LTarget": "a", "Operand": "distinct_property", "RTarget": "3"},
        {"LTarget": "a", "Operand": "distinct_property", "RTarget": str(2**64 - 1)},
        {"LTarget": "a", "Operand": "distinct_property", "RTarget": "0" * 5000 + "1"},
        {"LTarget": "a", "Operand": "is_not_set"},
        {"LTarget": "a", "RTarget": "b", "Operand": "set_contains_any"},
    ],
)
def test_a_constraint_that_is_one(constraint):
    assert of_job(Constraints=[constraint]) == ""


def test_ports_are_each_ones_own():
    second = {"Resources": {"Networks": [{"DynamicPorts": [{"Label": "a"}]}]}}
    third = {"Resources": {"Networks": [{"ReservedPorts": [{**STATIC, "Label": "b"}]}]}}

    text = of_group(
        Networks=[{"ReservedPorts": [STATIC]}],
        Tasks=[{**TASK, **second}, {**TASK, "Name": "u", **third}],
    )

    assert text == in_group(
        "Port label a already in use by taskgroup network:a",
        "Static port 80 already reserved by taskgroup network:a",
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"Type": "_core"}, CORE),
        ({"Dispatched": True}, DISPATCHED),
        ({"Payload": "eA=="}, PAYLOAD),
        ({"Periodic": {"Spec": "@daily"}}, PERIODIC),
        ({"ParameterizedJob": {"Payload": "required"}}, PARAMETERIZED),
    ],
)
def test_what_nobody_may_submit(fields, reason):
    assert refuse_submission(complete_job({**JOB, **fields})) == reason
