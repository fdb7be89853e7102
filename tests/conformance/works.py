"""A datacenter of a test's own: a node that runs what its jobs ask for, and its agent."""

import uuid
from collections.abc import Callable
from typing import Any, Final

from tests.conformance.agents import Agent
from tests.real_server import Answer, HttpClient, attempts

PLACED_S: Final = 10.0
ROOM: Final = {
    "Cpu": {"CpuShares": 4000},
    "Memory": {"MemoryMB": 4000},
    "Disk": {"DiskMB": 10_000},
}
DRIVERS: Final = {"raw_exec": {"Detected": True, "Healthy": True}}


class Site:
    """One node, and jobs that run nowhere else."""

    def __init__(self, server: HttpClient) -> None:
        self.server = server
        self.datacenter = f"dc-{uuid.uuid4()}"
        self.agent = Agent(server)
        self.list_path = f"{self.agent.path}/allocations"

    def register(self, **fields: Any) -> Answer:
        """Register the node, with room and a driver for its tasks."""
        return self.agent.register(
            Datacenter=self.datacenter,
            NodeResources=ROOM,
            Drivers=DRIVERS,
            **fields,
        )

    def submit(self, job_type: str = "service", count: int = 1) -> str:
        """Register a job; return its id."""
        job_id = f"{job_type}-{uuid.uuid4()}"
        task = {"Name": "app", "Driver": "raw_exec", "Config": {"command": "x"}}
        group = {"Name": "grp", "Count": count, "Tasks": [task]}
        job = {
            "ID": job_id,
            "Type": job_type,
            "Datacenters": [self.datacenter],
            "TaskGroups": [group],
        }
        answer = self.server.put("/v1/jobs", {"Job": job})
        assert answer.status == 200, answer.text
        return job_id

    def run(self, job_type: str = "service", count: int = 1) -> str:
        """Register a job, and return its id once it runs."""
        job_id = self.submit(job_type, count)
        self.report(*self.placed(job_id, count))
        return job_id

    def placed(self, job_id: str, count: int = 1) -> list[dict[str, Any]]:
        """Return the allocations of a job once so many are on the node."""
        return self.listed_once(job_id, lambda found: len(found) == count)

    def listed_once(
        self, job_id: str, is_it: Callable[[list[dict[str, Any]]], bool]
    ) -> list[dict[str, Any]]:
        """Return the node's allocations of a job once they are as asked for."""
        found: list[dict[str, Any]] = []
        for _ in attempts(PLACED_S):
            listed = self.server.get(self.list_path).json
            found = [one for one in listed if one["JobID"] == job_id]
            if is_it(found):
                return found
        raise AssertionError(f"not within {PLACED_S} s: {found}")

    def report(
        self, *allocations: dict[str, Any], status: str = "running", **fields: Any
    ) -> Answer:
        """Say how allocations do, as the agent."""
        sent = [
            {"ID": one["ID"], "ClientStatus": status, **fields} for one in allocations
        ]
        body = {"SecretID": self.agent.secret, "Alloc": sent}
        answer = self.server.put(self.list_path, body)
        assert answer.status == 200, answer.text
        return answer

    def evaluation(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.get(f"/v1/evaluation/{id_}").json
        return found

    def evaluated(self, answer: Answer) -> list[dict[str, Any]]:
        """Return the evaluations that a write has made, by the type of their jobs."""
        made = [self.evaluation(id_) for id_ in answer.json["EvalIDs"] or ()]
        return sorted(made, key=lambda one: str(one["Type"]))
