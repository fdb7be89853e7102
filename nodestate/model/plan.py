"""A plan: what a scheduler wants done about one job, to be checked when it is applied.

Each part is checked against the newest state, node by node; what no longer fits is left
out (`fsm.plans`). So a plan made from an old view, or by a leader that is none any more,
can do no harm.
"""

import msgspec

from nodestate.model.allocation import (
    AllocatedResources,
    AllocMetric,
    RescheduleTracker,
)
from nodestate.model.job import JobKey, JobVersionKey
from nodestate.model.node import NodeKey


class _Part(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What all parts of a plan are."""


class Placement(_Part, frozen=True, kw_only=True):
    """A new allocation. `previous_allocation` is the one whose place it takes."""

    id: str
    name: str
    task_group: str
    node_key: NodeKey
    resources: AllocatedResources
    metrics: AllocMetric | None = None
    previous_allocation: str = ""
    reschedule_tracker: RescheduleTracker | None = None


class InPlaceUpdate(_Part, frozen=True, kw_only=True):
    """An allocation that goes on where it is, as one of the plan's version of the job."""

    id: str
    node_key: NodeKey
    resources: AllocatedResources


class Annotation(_Part, frozen=True, kw_only=True):
    """A failed allocation that is to be replaced later; it keeps its version of the job."""

    id: str
    node_key: NodeKey
    followup_eval_id: str


class Stop(_Part, frozen=True, kw_only=True):
    """An allocation that is to stop, with the text that says why.

    `is_lost` says that its node is down or gone. `only_with` is the id of the placement
    that takes its place, where the one must not happen without the other.
    """

    id: str
    node_key: NodeKey
    description: str
    is_lost: bool = False
    only_with: str = ""


class Plan(_Part, frozen=True, kw_only=True):
    """What an evaluation came to.

    `eval_modify_index` is the evaluation's as the scheduler saw it: it moves when a plan
    is applied or the evaluation is updated, so that of two schedulers at work on the same
    evaluation only the first one's plan counts. `version` is the version of the job that
    placements and updates in place run, `None` where there are none.
    """

    eval_id: str
    eval_modify_index: int
    job_key: JobKey
    version: JobVersionKey | None = None
    snapshot_index: int = 0
    is_all_at_once: bool = False
    stops: tuple[Stop, ...] = ()
    placements: tuple[Placement, ...] = ()
    updates: tuple[InPlaceUpdate, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Say whether it wants nothing done."""
        return not (self.stops or self.placements or self.updates or self.annotations)


class RejectedNode(msgspec.Struct, frozen=True, gc=False):
    """A node that takes nothing of a plan, and why."""

    key: NodeKey
    reason: str


class PlanResult(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True
):
    """What became of a plan.

    `dropped` has the ids of the parts that were not carried out. `refresh_index` is 0 when
    nothing was dropped; else the scheduler has to look again, at a state at least as new.
    """

    rejected: tuple[RejectedNode, ...] = ()
    dropped: tuple[str, ...] = ()
    refresh_index: int = 0
    placed_count: int = 0
    stopped_count: int = 0
    updated_count: int = 0
