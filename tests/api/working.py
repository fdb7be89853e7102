"""Jobs over HTTP, with a scheduler that runs whenever a test says so."""

import hashlib
from collections.abc import Generator
from typing import Any, TypeVar

from nodestate.model.allocation import ReportedAllocation
from nodestate.model.command import (
    SERVER,
    AgentReport,
    ApplyPlan,
    ReportAllocations,
    UpdateEvaluations,
)
from nodestate.model.evaluation import EVAL_PENDING, Evaluation
from nodestate.model.outcome import Accepted
from nodestate.planning.scheduling import Scheduling
from tests.api.conftest import NODE_ID, SECRET, Answer, Api
from tests.fakes import settle

T = TypeVar("T")

ROOM = {
    "Cpu": {"CpuShares": 4000},
    "Memory": {"MemoryMB": 4000},
    "Disk": {"DiskMB": 10_000},
}
DRIVERS = {"raw_exec": {"Detected": True, "Healthy": True}}


def job_body(id_: str = "web", **fields: Any) -> dict[str, Any]:
    """Return a job as its author sends it; `None` leaves a field out."""
    job = {
        "ID": id_,
        "Datacenters": ["dc1"],
        "TaskGroups": [group_body()],
        **fields,
    }
    return {key: value for key, value in job.items() if value is not None}


def group_body(**fields: Any) -> dict[str, Any]:
    task = {"Name": "app", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"}}
    return {"Name": "grp", "Tasks": [task], **fields}


async def submit(api: Api, id_: str = "web", **fields: Any) -> Answer:
    """Register a job, which is expected to go well."""
    answer = await api.put("/v1/jobs", {"Job": job_body(id_, **fields)})
    assert answer.status == 200, answer.text
    return answer


async def add_node(api: Api, node_id: str = NODE_ID) -> None:
    """Register a node on which jobs can run."""
    await api.register(node_id, NodeResources=ROOM, Drivers=DRIVERS)


def evaluations(api: Api, job_id: str = "web") -> list[Evaluation]:
    """Return a job's evaluations, the newest last."""
    found = api.replica.state().evaluations.values()
    mine = [one for one in found if one.job_id == job_id]
    return sorted(mine, key=lambda one: one.create_index)


def schedule(api: Api) -> None:
    """Look at all evaluations that are due, as the leader does."""
    while True:
        found = api.replica.state().evaluations.values()
        pending = [one for one in found if one.status == EVAL_PENDING]
        if not pending:
            return
        _look_at(api, min(pending, key=lambda one: one.create_index))


def _look_at(api: Api, evaluation: Evaluation) -> None:
    replica, now_ns = api.replica, api.clock.now_ns()
    scheduling = Scheduling(evaluation)
    while scheduling.is_open:
        view = replica.state().shallow_copy()
        command = run(scheduling.look(view, replica.applied_index(), now_ns))
        if command is not None:
            scheduling.take(_carry_out(api, command))
    ending = scheduling.end(replica.state(), now_ns)
    replica.apply(
        UpdateEvaluations(at_ns=now_ns, asked_by=SERVER, changes=ending.changes)
    )


def _carry_out(api: Api, command: ApplyPlan) -> Any:
    outcome = api.replica.apply(command)
    assert isinstance(outcome, Accepted), outcome
    return outcome.plan


def run(work: Generator[None, None, T]) -> T:
    """Do all steps of a piece of work at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def report(api: Api, status: str) -> None:
    """Have the agent report all allocations that are not over as being in a state."""
    state = api.replica.state()
    reports = tuple(
        AgentReport(
            one.node_key,
            hashlib.sha256(SECRET.encode()).digest(),
            (ReportedAllocation(id=one.id, client_status=status),),
        )
        for one in state.allocations.values()
        if not one.is_client_terminal
    )
    command = ReportAllocations(
        at_ns=api.clock.now_ns(), reports=reports, seed=api.ids.new_seed()
    )
    outcome = api.replica.apply(command)
    assert isinstance(outcome, Accepted), outcome
    assert not outcome.refused_reports


async def still_waits(api: Api) -> None:
    """Let whoever was woken have its turn: the one reader waits all the same."""
    await settle()
    assert api.gauge("nodestate_api_waiters") == 1
