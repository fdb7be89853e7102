"""Garbage: what is over and of no more use, removed a batch at a time.

The leader says what is old enough; whether it is of use to anybody is looked at here,
again, since the leader saw the state earlier.
"""

from typing import Final

from nodestate.fsm.state import State
from nodestate.model.allocation import COMPLETE, Allocation
from nodestate.model.command import CollectGarbage, SeenJob, SeenNode
from nodestate.model.event import (
    AllocationRemoved,
    EvaluationRemoved,
    Event,
    JobPurged,
    NodePurged,
)
from nodestate.model.job import Job, JobKey, JobStatus, JobType
from nodestate.model.node import NodeStatus

_NOBODY: Final = frozenset[JobKey]()


def decide_collect_garbage(
    state: State, command: CollectGarbage, _: int
) -> list[Event]:
    """Remove jobs, then what is left of them and of others, then nodes."""
    jobs = [
        state.jobs[seen.key]
        for seen in dict.fromkeys(command.jobs)
        if is_seen_job_over(state, seen)
    ]
    job_keys = frozenset(job.key for job in jobs)
    allocations = [
        state.allocations[id_]
        for id_ in dict.fromkeys(command.allocation_ids)
        if is_allocation_spent(state, id_, job_keys)
    ]
    removed = frozenset(allocation.id for allocation in allocations)
    evaluations = [
        state.evaluations[id_]
        for id_ in dict.fromkeys(command.evaluation_ids)
        if is_evaluation_spent(state, id_, removed)
    ]
    node_keys = [
        seen.key
        for seen in dict.fromkeys(command.nodes)
        if is_seen_node_gone(state, seen)
    ]
    return [
        *(JobPurged(job) for job in jobs),
        *(AllocationRemoved(allocation) for allocation in allocations),
        *(EvaluationRemoved(evaluation) for evaluation in evaluations),
        *(NodePurged(key, state.nodes[key]) for key in node_keys),
    ]


def is_job_over(state: State, job: Job) -> bool:
    """Say whether nothing will ever come of a job: batch jobs end, others are stopped."""
    work = state.work_of(job.key)
    return (
        job.status is JobStatus.DEAD
        and (job.stop or job.type is JobType.BATCH)
        and not work.live_allocations
        and not work.open_evaluations
    )


def is_seen_job_over(state: State, seen: SeenJob) -> bool:
    """Say whether it is still the job that was seen, and over."""
    job = state.job(seen.key)
    return (
        job is not None
        and job.modify_index == seen.modify_index
        and is_job_over(state, job)
    )


def is_allocation_spent(
    state: State, id_: str, removed_jobs: frozenset[JobKey] = _NOBODY
) -> bool:
    """Say whether nobody needs the allocation any more.

    What a batch job has finished is kept for as long as the job is: else it would run
    again. A failed allocation that was not replaced keeps its place, too.
    """
    allocation = state.allocations.get(id_)
    if allocation is None or not _is_off_its_node(state, allocation):
        return False
    key = allocation.job_key
    job = None if key in removed_jobs else state.job(key)
    if job is None or job.create_index != allocation.job_create_index:
        return True
    if allocation.job_type is JobType.BATCH:
        return False
    return (
        allocation.is_server_terminal
        or allocation.client_status == COMPLETE
        or bool(allocation.next_allocation)
    )


def _is_off_its_node(state: State, allocation: Allocation) -> bool:
    """Say whether its agent has ended it, or has been told to and is not there."""
    if allocation.is_client_terminal:
        return True
    node = state.node(allocation.node_key)
    is_silent = node is None or node.status is NodeStatus.DOWN
    return allocation.is_server_terminal and is_silent


def is_evaluation_spent(
    state: State, id_: str, removed_allocations: frozenset[str] = frozenset()
) -> bool:
    """Say whether an evaluation is over, and no allocation that stays is its work."""
    evaluation = state.evaluations.get(id_)
    if evaluation is None or not evaluation.is_terminal:
        return False
    return all(
        allocation_id in removed_allocations
        for allocation_id in state.allocations_by_evaluation.group(id_)
    )


def is_seen_node_gone(state: State, seen: SeenNode) -> bool:
    """Say whether it is the node that was seen, down, with nothing live on it."""
    node = state.node(seen.key)
    return (
        node is not None
        and node.modify_index == seen.modify_index
        and node.status is NodeStatus.DOWN
        and all(item.is_terminal for item in state.allocations_on(seen.key))
    )
