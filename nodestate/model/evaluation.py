"""The record of a scheduler being asked to look at a job."""

from nodestate.model.job import JobType
from nodestate.model.node import Record


class Evaluation(Record, frozen=True, kw_only=True):
    """One request to look at a job; a node's change makes one per job it concerns."""

    id: str = ""
    namespace: str = "default"
    priority: int = 50
    type: JobType = JobType.SERVICE
    triggered_by: str = "node-update"
    job_id: str = ""
    node_id: str = ""
    node_modify_index: int = 0
    status: str = "pending"
    create_time: int = 0
    modify_time: int = 0
    create_index: int = 0
    modify_index: int = 0
