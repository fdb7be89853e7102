"""Allocations as they are sent: in full with their job, and as entries of lists.

What the record does not have is derived here: the resources in the forms of before Nomad
0.9, the texts of tasks' histories. Every key is there, whatever its value.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from nodestate.api.shapes import Shape, encode
from nodestate.api.task_messages import with_messages
from nodestate.model.allocation import (
    AllocatedResources,
    Allocation,
    AllocMetric,
    DeploymentStatus,
    DesiredTransition,
    RescheduleTracker,
    TaskState,
)
from nodestate.model.job import Job
from nodestate.model.node import LegacyResources
from nodestate.model.resources import legacy_shared, legacy_sum, legacy_tasks

NO_JOB: Final = msgspec.Raw(b"null")
"""The job of an allocation of which no version is kept any more."""


class AllocationStub(Shape, frozen=True, kw_only=True):
    """An allocation in a list; the last one is there only if asked for."""

    id: str
    eval_id: str
    name: str
    namespace: str
    node_id: str
    node_name: str
    job_id: str
    job_type: str
    job_version: int
    task_group: str
    desired_status: str
    desired_description: str
    client_status: str
    client_description: str
    desired_transition: DesiredTransition
    task_states: dict[str, TaskState] | None
    deployment_status: DeploymentStatus | None
    followup_eval_id: str
    reschedule_tracker: RescheduleTracker | None
    preempted_allocations: tuple[str, ...] | None
    preempted_by_allocation: str
    create_index: int
    modify_index: int
    create_time: int
    modify_time: int
    allocated_resources: AllocatedResources | UnsetType = UNSET


class FullAllocation(Shape, frozen=True, kw_only=True):
    """An allocation in full; `job` is encoded already, in the version that it runs."""

    id: str
    namespace: str
    eval_id: str
    name: str
    node_id: str
    node_name: str
    job_id: str
    job: msgspec.Raw
    task_group: str
    resources: LegacyResources
    shared_resources: LegacyResources
    task_resources: dict[str, LegacyResources]
    allocated_resources: AllocatedResources
    metrics: AllocMetric | None
    desired_status: str
    desired_description: str
    desired_transition: DesiredTransition
    client_status: str
    client_description: str
    task_states: dict[str, TaskState] | None
    previous_allocation: str
    next_allocation: str
    deployment_id: str
    deployment_status: DeploymentStatus | None
    reschedule_tracker: RescheduleTracker | None
    followup_eval_id: str
    preempted_allocations: tuple[str, ...] | None
    preempted_by_allocation: str
    create_index: int
    modify_index: int
    alloc_modify_index: int
    create_time: int
    modify_time: int


class AllocationStopped(Shape, frozen=True, kw_only=True):
    """The answer to stopping one; without an evaluation where it was over already."""

    eval_id: str
    index: int


def encode_job(job: Job | None) -> msgspec.Raw:
    """Return a job's JSON as it stands in its allocations."""
    return NO_JOB if job is None else msgspec.Raw(encode(job))


def encode_allocation(allocation: Allocation, job: msgspec.Raw) -> bytes:
    """Return the full JSON of an allocation."""
    resources = allocation.allocated_resources
    return encode(
        FullAllocation(
            id=allocation.id,
            namespace=allocation.namespace,
            eval_id=allocation.eval_id,
            name=allocation.name,
            node_id=allocation.node_id,
            node_name=allocation.node_name,
            job_id=allocation.job_id,
            job=job,
            task_group=allocation.task_group,
            resources=legacy_sum(resources),
            shared_resources=legacy_shared(resources),
            task_resources=legacy_tasks(resources),
            allocated_resources=resources,
            metrics=allocation.metrics,
            desired_status=allocation.desired_status,
            desired_description=allocation.desired_description,
            desired_transition=allocation.desired_transition,
            client_status=allocation.client_status,
            client_description=allocation.client_description,
            task_states=with_messages(allocation.task_states),
            previous_allocation=allocation.previous_allocation,
            next_allocation=allocation.next_allocation,
            deployment_id=allocation.deployment_id,
            deployment_status=allocation.deployment_status,
            reschedule_tracker=allocation.reschedule_tracker,
            followup_eval_id=allocation.followup_eval_id,
            preempted_allocations=allocation.preempted_allocations,
            preempted_by_allocation=allocation.preempted_by_allocation,
            create_index=allocation.create_index,
            modify_index=allocation.modify_index,
            alloc_modify_index=allocation.alloc_modify_index,
            create_time=allocation.create_time,
            modify_time=allocation.modify_time,
        )
    )


def encode_allocation_stub(
    allocation: Allocation,
    *,
    shows_resources: bool = False,
    shows_task_states: bool = True,
) -> bytes:
    """Return the JSON of an allocation's entry in a list."""
    states = with_messages(allocation.task_states) if shows_task_states else None
    return encode(
        AllocationStub(
            id=allocation.id,
            eval_id=allocation.eval_id,
            name=allocation.name,
            namespace=allocation.namespace,
            node_id=allocation.node_id,
            node_name=allocation.node_name,
            job_id=allocation.job_id,
            job_type=allocation.job_type,
            job_version=allocation.job_version,
            task_group=allocation.task_group,
            desired_status=allocation.desired_status,
            desired_description=allocation.desired_description,
            client_status=allocation.client_status,
            client_description=allocation.client_description,
            desired_transition=allocation.desired_transition,
            task_states=states,
            deployment_status=allocation.deployment_status,
            followup_eval_id=allocation.followup_eval_id,
            reschedule_tracker=allocation.reschedule_tracker,
            preempted_allocations=allocation.preempted_allocations,
            preempted_by_allocation=allocation.preempted_by_allocation,
            create_index=allocation.create_index,
            modify_index=allocation.modify_index,
            create_time=allocation.create_time,
            modify_time=allocation.modify_time,
            allocated_resources=(
                allocation.allocated_resources if shows_resources else UNSET
            ),
        )
    )


def in_order_of_nodes(allocations: Iterable[Allocation]) -> list[Allocation]:
    """Return a node's allocations as Nomad lists them: what is not over comes first."""
    return sorted(allocations, key=lambda one: (one.is_terminal, one.id))
