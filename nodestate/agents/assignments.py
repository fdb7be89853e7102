"""An allocation as its node reads it, and what the node reports of it.

Only what an agent acts on is decoded; the rest of a full allocation is skipped.
"""

from typing import Final

import msgspec

from nodestate.model.allocation import (
    LOST,
    PENDING,
    RUN,
    SERVER_TERMINAL,
    DeploymentStatus,
    TaskState,
)
from nodestate.model.job import MigrateStrategy, RestartPolicy, UpdateStrategy
from nodestate.model.node import Record

_UNNAMED_TASK: Final = "task"
_SECOND_NS: Final = 1_000_000_000
_NO_RESTART: Final = RestartPolicy(mode="fail")
_HEALTH: Final = (10 * _SECOND_NS, 300 * _SECOND_NS)


class AssignedTask(Record, frozen=True, kw_only=True):
    """A task of the group."""

    name: str = ""


class AssignedGroup(Record, frozen=True, kw_only=True):
    """The group that is run: its tasks, and what an agent does when they fail."""

    name: str = ""
    tasks: tuple[AssignedTask, ...] | None = None
    restart_policy: RestartPolicy | None = None
    migrate: MigrateStrategy | None = None
    update: UpdateStrategy | None = None


class AssignedJob(Record, frozen=True, kw_only=True):
    """The job that the allocation is of, in the version that it runs."""

    type: str = "service"
    task_groups: tuple[AssignedGroup, ...] | None = None


class AssignedResources(Record, frozen=True, kw_only=True):
    """What it has been given; only the names of the tasks matter."""

    tasks: dict[str, msgspec.Raw] | None = None


class Assignment(Record, frozen=True, kw_only=True):
    """An allocation of the node."""

    id: str
    namespace: str = "default"
    name: str = ""
    node_id: str = ""
    job_id: str = ""
    job: AssignedJob | None = None
    task_group: str = ""
    allocated_resources: AssignedResources | None = None
    desired_status: str = RUN
    client_status: str = PENDING
    task_states: dict[str, TaskState] | None = None
    deployment_id: str = ""
    deployment_status: DeploymentStatus | None = None
    create_time: int = 0

    @property
    def is_wanted(self) -> bool:
        """Say whether the servers want it to run; one that is given up must stop."""
        is_stopped = self.desired_status in SERVER_TERMINAL
        return not is_stopped and self.client_status != LOST

    @property
    def is_batch(self) -> bool:
        """Say whether its tasks are to end by themselves."""
        return self.job is not None and self.job.type == "batch"

    @property
    def group(self) -> AssignedGroup | None:
        """Return the group; `None` where its job is not known any more."""
        groups = (self.job.task_groups if self.job else None) or ()
        return next((one for one in groups if one.name == self.task_group), None)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Return the names of its tasks, at least one."""
        group = self.group
        if group is not None and group.tasks:
            return tuple(task.name for task in group.tasks)
        resources = self.allocated_resources
        known = self.task_states or (resources.tasks if resources else None)
        return tuple(sorted(known)) if known else (_UNNAMED_TASK,)

    @property
    def restart_policy(self) -> RestartPolicy:
        """Return when a failed task is started again."""
        group = self.group
        return (group.restart_policy if group else None) or _NO_RESTART

    @property
    def health_ns(self) -> tuple[int, int] | None:
        """Return after how long running it is healthy, and by when it must be.

        `None` if its agent does not judge that: only services are looked at, and not
        those whose health is set by hand.
        """
        group = self.group
        if self.job is None or self.job.type != "service" or group is None:
            return None
        strategy = group.update if self.deployment_id else group.migrate
        if strategy is None:
            return _HEALTH
        if strategy.health_check == "manual":
            return None
        return strategy.min_healthy_time, strategy.healthy_deadline


class Report(Record, frozen=True, kw_only=True):
    """What a node says of one of its allocations, as it is sent."""

    id: str
    node_id: str
    client_status: str
    client_description: str
    task_states: dict[str, TaskState]
    deployment_status: DeploymentStatus | None = None
