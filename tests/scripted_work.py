"""Jobs, evaluations and allocations as a server sends them, and where it serves them."""

from typing import Any

from tests.scripted_server import NODE_ID, Answer, ScriptedServer

EVAL_ID = "e1b2c3d4-0000-4000-8000-000000000001"
BLOCKED_ID = "e1b2c3d4-0000-4000-8000-000000000002"
ALLOC_ID = "a1b2c3d4-0000-4000-8000-000000000001"
NEW_ALLOC_ID = "a1b2c3d4-0000-4000-8000-000000000002"
AT_NS = 1_700_000_000_000_000_000 - 90_000_000_000
METRIC: dict[str, Any] = {
    "NodesEvaluated": 5,
    "NodesFiltered": 2,
    "NodesAvailable": {"dc1": 5, "dc2": 0},
    "ClassFiltered": {"large": 1},
    "ConstraintFiltered": {"${attr.kernel.name} = linux": 2},
    "NodesExhausted": 3,
    "ClassExhausted": None,
    "DimensionExhausted": {"memory": 3},
    "QuotaExhausted": None,
    "Scores": None,
    "ScoreMetaData": None,
    "AllocationTime": 120_000,
    "CoalescedFailures": 1,
}
WHY = [
    '* No nodes are available in datacenter "dc2"',
    '* Class "large": 1 nodes excluded by filter',
    '* Constraint "${attr.kernel.name} = linux": 2 nodes excluded by filter',
    "* Resources exhausted on 3 nodes",
    '* Dimension "memory" exhausted on 3 nodes',
]


def job_stub(**fields: Any) -> dict[str, Any]:
    return {
        "ID": "web",
        "Name": "web",
        "Type": "service",
        "Priority": 50,
        "Periodic": False,
        "ParameterizedJob": False,
        "Stop": False,
        "Status": "running",
        "JobSummary": None,
        "JobModifyIndex": 30,
        "SubmitTime": AT_NS,
        **fields,
    }


def job(**fields: Any) -> dict[str, Any]:
    return {
        "ID": "web",
        "Name": "web",
        "Namespace": "default",
        "Type": "service",
        "Priority": 50,
        "Datacenters": ["dc1", "dc2"],
        "TaskGroups": [{"Name": "cache", "Count": 2, "Tasks": []}],
        "Periodic": None,
        "ParameterizedJob": None,
        "Stop": False,
        "Status": "running",
        "SubmitTime": AT_NS,
        **fields,
    }


def evaluation(**fields: Any) -> dict[str, Any]:
    return {
        "ID": EVAL_ID,
        "Namespace": "default",
        "Priority": 50,
        "Type": "service",
        "TriggeredBy": "job-register",
        "JobID": "web",
        "NodeID": "",
        "Status": "complete",
        "StatusDescription": "",
        "Wait": 0,
        "WaitUntil": None,
        "NextEval": "",
        "PreviousEval": "",
        "BlockedEval": "",
        "FailedTGAllocs": None,
        "CreateIndex": 40,
        "ModifyIndex": 42,
        "CreateTime": AT_NS,
        "ModifyTime": AT_NS + 1,
        **fields,
    }


def allocation(**fields: Any) -> dict[str, Any]:
    """Return an allocation as the lists have it."""
    return {
        "ID": ALLOC_ID,
        "EvalID": EVAL_ID,
        "Name": "web.cache[0]",
        "NodeID": NODE_ID,
        "NodeName": "web1",
        "JobID": "web",
        "JobType": "service",
        "JobVersion": 3,
        "TaskGroup": "cache",
        "DesiredStatus": "run",
        "DesiredDescription": "",
        "DesiredTransition": {"Migrate": None},
        "ClientStatus": "pending",
        "ClientDescription": "",
        "TaskStates": None,
        "CreateIndex": 41,
        "ModifyIndex": 41,
        "CreateTime": AT_NS,
        "ModifyTime": AT_NS,
        **fields,
    }


def full_allocation(**fields: Any) -> dict[str, Any]:
    return {
        **allocation(),
        "Job": {"Type": "service", "Version": 3},
        "Resources": {"CPU": 500, "MemoryMB": 256, "DiskMB": 300},
        "TaskResources": {
            "redis": {
                "CPU": 500,
                "MemoryMB": 256,
                "Networks": [
                    {
                        "IP": "10.0.0.5",
                        "ReservedPorts": [{"Label": "admin", "Value": 80}],
                        "DynamicPorts": [{"Label": "db", "Value": 20_001}],
                    }
                ],
            }
        },
        "TaskStates": {
            "redis": {
                "State": "running",
                "Failed": False,
                "Restarts": 1,
                "LastRestart": "2023-11-14T22:12:00Z",
                "StartedAt": "2023-11-14T22:11:00Z",
                "FinishedAt": None,
                "Events": [
                    {
                        "Type": "Received",
                        "Time": AT_NS,
                        "DisplayMessage": "Task received by client",
                    },
                    {"Type": "Started", "Time": AT_NS + 10**9, "Message": "up"},
                ],
            }
        },
        "DeploymentStatus": {"Healthy": True},
        "Metrics": {
            **METRIC,
            "ScoreMetaData": [
                {
                    "NodeID": NODE_ID,
                    "Scores": {"binpack": 0.5, "job-anti-affinity": -0.25},
                    "NormScore": 0.125,
                }
            ],
        },
        **fields,
    }


def add_evaluation(
    scripted: ScriptedServer, *evaluations: dict[str, Any], **answers: Any
) -> None:
    """Serve an evaluation as it is at each look, and its allocations."""
    id_ = evaluations[0]["ID"]
    scripted.on(
        f"/v1/evaluation/{id_}",
        *(Answer(each, index=40 + n) for n, each in enumerate(evaluations)),
    )
    looks = answers.get("allocations", [[]])
    scripted.on(f"/v1/evaluation/{id_}/allocations", *(Answer(look) for look in looks))


def group_drain(**fields: Any) -> dict[str, Any]:
    """Return how a group on a draining node does."""
    return {
        "Namespace": "default",
        "JobID": "web",
        "TaskGroup": "cache",
        "JobType": "service",
        "Moving": [],
        "Next": [],
        "Waiting": [],
        "WaitsFor": "max_parallel",
        "Wanted": 4,
        "MaxParallel": 2,
        "Settled": 3,
        "Finished": 0,
        **fields,
    }


def drain_view(*groups: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return what a drain does, or would do."""
    return {
        "Draining": True,
        "Done": False,
        "Deadline": "2023-11-14T23:13:20Z",
        "IgnoreSystemJobs": False,
        "Groups": list(groups),
        **fields,
    }
