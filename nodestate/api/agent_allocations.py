"""What agents report of the allocations on their nodes.

An agent may say how its allocations do, and nothing else: whatever more it sends of one is
passed over, and so are allocations that are not its node's, or not known any more.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from nodestate.api.agent import proof
from nodestate.api.bodies import decode_body
from nodestate.api.calls import Call, index_line
from nodestate.api.problems import refused, too_large
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.errors import RequestError
from nodestate.model.allocation import (
    CLIENT_STATUSES,
    LOST,
    TASK_EVENTS_MAX,
    DeploymentStatus,
    ReportedAllocation,
    TaskState,
)
from nodestate.model.command import AgentReport, ReportAllocations

NO_ALLOCATIONS: Final = "must update at least one allocation"
EVALUATIONS_SET: Final = "evals field must not be set"
ALLOCATIONS_PER_REPORT_MAX: Final = 1000
TASKS_PER_ALLOCATION_MAX: Final = 256
SHOWN_MAX: Final = 64

_REPORTABLE: Final = tuple(status for status in CLIENT_STATUSES if status != LOST)


class AllocationSent(Shape, frozen=True, kw_only=True):
    """One allocation of a report, as far as an agent may speak of it."""

    id: str = ""
    client_status: str = ""
    client_description: str = ""
    task_states: dict[str, TaskState] | None = None
    deployment_status: DeploymentStatus | None = None


class ReportSent(Shape, frozen=True, kw_only=True):
    """The body of a report."""

    secret_id: str = ""
    alloc: list[AllocationSent] | None = None
    evals: Any = None


class AllocationsReported(Shape, frozen=True, kw_only=True):
    """The answer to a report: 0 if there was nothing new in it."""

    index: int


async def report_allocations(call: Call) -> Reply:
    """Answer `PUT /v1/node/:id/allocations`."""
    sent = decode_body(await call.body(), ReportSent)
    await call.prepare_write()
    report = AgentReport(
        key=call.node_key(),
        secret_sha256=proof(call, sent.secret_id),
        allocations=_reported(sent),
    )
    command = ReportAllocations(
        reports=(report,),
        at_ns=call.services.clock.now_ns(),
        seed=call.services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    for refusal in accepted.refused_reports:
        raise refused(refusal.refused)
    answer = AllocationsReported(index=accepted.index)
    return call.json(answer, headers=index_line(accepted.index))


def _reported(sent: ReportSent) -> tuple[ReportedAllocation, ...]:
    if sent.evals:
        raise RequestError(EVALUATIONS_SET)
    if not sent.alloc:
        raise RequestError(NO_ALLOCATIONS)
    if len(sent.alloc) > ALLOCATIONS_PER_REPORT_MAX:
        raise too_large(
            "the number of Alloc", "allocations per report", ALLOCATIONS_PER_REPORT_MAX
        )
    return tuple(_reported_allocation(one) for one in sent.alloc)


def _reported_allocation(sent: AllocationSent) -> ReportedAllocation:
    """Return what is said of an allocation."""
    if not sent.id:
        raise RequestError("missing allocation ID")
    if sent.client_status not in _REPORTABLE:
        raise RequestError(
            f"invalid client status {_shown(sent.client_status)} of allocation "
            f"{_shown(sent.id)}: expected one of {', '.join(_REPORTABLE)}"
        )
    states = sent.task_states
    if states is not None and len(states) > TASKS_PER_ALLOCATION_MAX:
        raise too_large(
            "the number of TaskStates", "tasks per allocation", TASKS_PER_ALLOCATION_MAX
        )
    return ReportedAllocation(
        id=sent.id.lower(),
        client_status=sent.client_status,
        client_description=sent.client_description,
        task_states=None
        if states is None
        else {name: _bounded(state) for name, state in states.items()},
        deployment_status=sent.deployment_status,
    )


def _bounded(state: TaskState) -> TaskState:
    """Return a state with as much of its history as is kept: the rest is not logged."""
    events: Sequence[Any] | None = state.events
    if events is None:
        return state
    return replace(state, events=tuple(events[-TASK_EVENTS_MAX:]))


def _shown(text: str) -> str:
    return json.dumps(text[:SHOWN_MAX], ensure_ascii=False)
