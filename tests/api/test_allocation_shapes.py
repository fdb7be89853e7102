"""Allocations as they are sent: every key there, the old forms derived, the job whole."""

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from nodestate.api.allocation_shapes import (
    NO_JOB,
    encode_allocation,
    encode_allocation_stub,
    encode_job,
    in_order_of_nodes,
)
from nodestate.model.allocation import (
    COMPLETE,
    STOP,
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
    Allocation,
    RescheduleEvent,
    RescheduleTracker,
    TaskEvent,
    TaskState,
)
from nodestate.model.job import Job, JobType
from nodestate.model.node import (
    CpuResources,
    MemoryResources,
    NetworkResource,
    NodeKey,
    Port,
)

STUB_KEYS = [
    "ID",
    "EvalID",
    "Name",
    "Namespace",
    "NodeID",
    "NodeName",
    "JobID",
    "JobType",
    "JobVersion",
    "TaskGroup",
    "DesiredStatus",
    "DesiredDescription",
    "ClientStatus",
    "ClientDescription",
    "DesiredTransition",
    "TaskStates",
    "DeploymentStatus",
    "FollowupEvalID",
    "RescheduleTracker",
    "PreemptedAllocations",
    "PreemptedByAllocation",
    "CreateIndex",
    "ModifyIndex",
    "CreateTime",
    "ModifyTime",
]
FULL_KEYS = [
    "AllocModifyIndex",
    "AllocatedResources",
    "ClientDescription",
    "ClientStatus",
    "CreateIndex",
    "CreateTime",
    "DeploymentID",
    "DeploymentStatus",
    "DesiredDescription",
    "DesiredStatus",
    "DesiredTransition",
    "EvalID",
    "FollowupEvalID",
    "ID",
    "Job",
    "JobID",
    "Metrics",
    "ModifyIndex",
    "ModifyTime",
    "Name",
    "Namespace",
    "NextAllocation",
    "NodeID",
    "NodeName",
    "PreemptedAllocations",
    "PreemptedByAllocation",
    "PreviousAllocation",
    "RescheduleTracker",
    "Resources",
    "SharedResources",
    "TaskGroup",
    "TaskResources",
    "TaskStates",
]
STARTED = {"web": TaskState(state="running", events=(TaskEvent(type="Started"),))}


def network(label: str) -> NetworkResource:
    return NetworkResource(ip="10.0.0.1", reserved_ports=[Port(label=label, value=80)])


def allocation(**fields: Any) -> Allocation:
    known = Allocation(
        id="a1",
        job_id="web",
        job_type=JobType.BATCH,
        job_priority=70,
        job_version=3,
        job_create_index=5,
        node_key=NodeKey("0" * 32),
        task_group="grp",
        modify_index=12,
        alloc_modify_index=11,
    )
    return replace(known, **fields)


def full(one: Allocation, job: Job | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(encode_allocation(one, encode_job(job)))
    return shown


def test_the_full_one_has_every_key_and_no_other():
    shown = full(allocation())

    assert sorted(shown) == FULL_KEYS
    assert (shown["ModifyIndex"], shown["AllocModifyIndex"]) == (12, 11)
    assert shown["DesiredTransition"] == {
        "Migrate": None,
        "Reschedule": None,
        "ForceReschedule": None,
    }
    assert (shown["DeploymentID"], shown["Metrics"], shown["Job"]) == ("", None, None)


def test_its_job_is_the_version_that_it_runs_in_full():
    job = Job(id="web", version=3, type=JobType.BATCH)

    shown = full(allocation(), job)["Job"]

    assert (shown["ID"], shown["Version"], shown["Type"]) == ("web", 3, "batch")
    assert shown["Periodic"] is None


def test_a_job_of_which_nothing_is_kept_is_null():
    assert encode_job(None) is NO_JOB


def test_the_old_forms_of_its_resources_agree_with_the_new_one():
    task = AllocatedTask(
        cpu=CpuResources(cpu_shares=100),
        memory=MemoryResources(memory_mb=64),
        networks=[network("http")],
    )
    shared = AllocatedShared(disk_mb=300, networks=[network("db")])
    resources = AllocatedResources(tasks={"b": task, "a": task}, shared=shared)

    shown = full(allocation(allocated_resources=resources))

    assert shown["AllocatedResources"]["Tasks"]["a"] == {
        "Cpu": {"CpuShares": 100},
        "Memory": {"MemoryMB": 64},
        "Networks": shown["TaskResources"]["a"]["Networks"],
        "Devices": None,
    }
    assert (shown["Resources"]["CPU"], shown["Resources"]["MemoryMB"]) == (200, 128)
    assert shown["Resources"]["DiskMB"] == 300
    labels = [
        one["ReservedPorts"][0]["Label"] for one in shown["Resources"]["Networks"]
    ]
    assert labels == ["db", "http", "http"]
    assert shown["SharedResources"] == {
        "CPU": 0,
        "MemoryMB": 0,
        "DiskMB": 300,
        "IOPS": 0,
        "Networks": shown["AllocatedResources"]["Shared"]["Networks"],
        "Devices": None,
    }
    assert shown["TaskResources"]["b"]["CPU"] == 100


def test_an_entry_of_a_list_has_every_key_of_one_and_no_other():
    shown = json.loads(encode_allocation_stub(allocation()))

    assert sorted(shown) == sorted(STUB_KEYS)
    assert (shown["JobType"], shown["JobVersion"]) == ("batch", 3)


def test_a_history_of_replacements_is_shown_in_both():
    events = (RescheduleEvent(reschedule_time=5, prev_alloc_id="a0", delay=30),)
    one = allocation(reschedule_tracker=RescheduleTracker(events=events))
    expected = {
        "Events": [
            {"RescheduleTime": 5, "PrevAllocID": "a0", "PrevNodeID": "", "Delay": 30}
        ]
    }

    assert full(one)["RescheduleTracker"] == expected
    assert json.loads(encode_allocation_stub(one))["RescheduleTracker"] == expected


@pytest.mark.parametrize(
    "encode", [full, lambda one: json.loads(encode_allocation_stub(one))]
)
def test_each_line_of_its_history_has_a_text(encode):
    event = encode(allocation(task_states=STARTED))["TaskStates"]["web"]["Events"][0]

    assert event["DisplayMessage"] == "Task started by client"
    assert len(event) == 24


def test_a_list_shows_more_or_less_if_asked():
    resources = AllocatedResources(shared=AllocatedShared(disk_mb=300))
    one = allocation(task_states=STARTED, allocated_resources=resources)

    more = json.loads(encode_allocation_stub(one, shows_resources=True))
    less = json.loads(encode_allocation_stub(one, shows_task_states=False))

    assert more["AllocatedResources"]["Shared"]["DiskMB"] == 300
    assert less["TaskStates"] is None
    assert "AllocatedResources" not in less


@pytest.mark.row("AL17")
def test_what_is_over_comes_behind_what_is_not():
    over = allocation(id="a", client_status=COMPLETE)
    stopped = allocation(id="b", desired_status=STOP)
    first, second = allocation(id="c"), allocation(id="d")

    ordered = in_order_of_nodes([second, stopped, first, over])

    assert ordered == [first, second, over, stopped]


def test_what_javascript_takes_for_a_line_break_is_escaped_in_a_job_too():
    raw = encode_job(Job(id="web", meta={"note": "a\u2028b"}))

    assert rb"a\u2028b" in bytes(raw)
    assert msgspec.json.decode(raw)["Meta"] == {"note": "a\u2028b"}
