"""The parts of a job that a node's changes look at."""

from enum import StrEnum
from typing import NewType

from nodestate.model.node import Record

JobKey = NewType("JobKey", tuple[str, str])
"""Namespace and id."""


class JobType(StrEnum):
    """How a job is scheduled."""

    SERVICE = "service"
    BATCH = "batch"
    SYSTEM = "system"


class Job(Record, frozen=True, kw_only=True):
    """What is to run."""

    id: str = ""
    namespace: str = "default"
    type: JobType = JobType.SERVICE
    priority: int = 50
    datacenters: tuple[str, ...] = ()
    stop: bool = False
    create_index: int = 0
    modify_index: int = 0

    def is_wanted_on(self, datacenter: str) -> bool:
        """Say whether it is a system job that a node of the datacenter has to run."""
        is_running_system_job = self.type is JobType.SYSTEM and not self.stop
        return is_running_system_job and datacenter in self.datacenters
