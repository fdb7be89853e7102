"""Allocations as a node reads them."""

from typing import Any

import msgspec

from nodestate.agents.assignments import Assignment
from nodestate.model.encoding import from_json_value

SECOND = 1_000_000_000
NODE_ID = "f7476465-4d6e-c0de-26d0-e383c49be941"
ALLOCATION_ID = "11111111-2222-4333-8444-555555555555"


def allocation_json(
    kind: str = "service",
    tasks: tuple[str, ...] = ("web",),
    group: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return an allocation as a server sends it; `fields` are Nomad's."""
    described = {
        "Name": "grp",
        "Tasks": [{"Name": name, "Driver": "exec"} for name in tasks],
        "RestartPolicy": {
            "Attempts": 2,
            "Interval": 600 * SECOND,
            "Delay": 15 * SECOND,
            "Mode": "fail",
        },
        "Migrate": {
            "MaxParallel": 1,
            "HealthCheck": "checks",
            "MinHealthyTime": 10 * SECOND,
            "HealthyDeadline": 300 * SECOND,
        },
        **(group or {}),
    }
    return {
        "ID": ALLOCATION_ID,
        "NodeID": NODE_ID,
        "JobID": "job",
        "TaskGroup": "grp",
        "Job": {"ID": "job", "Type": kind, "TaskGroups": [described]},
        "DesiredStatus": "run",
        "ClientStatus": "pending",
        "TaskStates": None,
        **fields,
    }


def assigned(*args: Any, **fields: Any) -> Assignment:
    """Return the same as a node decodes it."""
    sent = msgspec.json.encode(allocation_json(*args, **fields))
    return msgspec.json.decode(sent, type=Assignment, dec_hook=from_json_value)
