"""The parts of an allocation that a node's changes look at."""

from typing import Final

from nodestate.model.job import JobType
from nodestate.model.node import NodeKey, Record

CLIENT_TERMINAL: Final = frozenset({"complete", "failed", "lost"})
SERVER_TERMINAL: Final = frozenset({"stop", "evict"})


class Allocation(Record, frozen=True, kw_only=True):
    """A task group placed on a node."""

    id: str = ""
    namespace: str = "default"
    job_id: str = ""
    job_type: JobType = JobType.SERVICE
    job_priority: int = 50
    node_key: NodeKey = NodeKey("")
    desired_status: str = "run"
    client_status: str = "pending"
    create_index: int = 0
    modify_index: int = 0

    @property
    def is_client_terminal(self) -> bool:
        """Say whether the agent has reported it over."""
        return self.client_status in CLIENT_TERMINAL

    @property
    def is_finished(self) -> bool:
        """Say whether nothing more can come of it; a batch one ends with its agent."""
        if self.job_type is JobType.BATCH:
            return self.is_client_terminal
        return self.is_client_terminal and self.desired_status in SERVER_TERMINAL
