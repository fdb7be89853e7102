"""From an evaluation and a state to a plan: one look at one job.

What the job wants is compared with what there is (`generic`, `system`), and a node is
chosen for what is to be placed (`selection`). The same state, index and evaluation give
the same plan, ids and ports included.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec.structs import replace

from nodestate.fsm.state import State
from nodestate.model.allocation import FAILED, UPDATING, Allocation, AllocMetric
from nodestate.model.evaluation import Evaluation, Trigger
from nodestate.model.job import Job, JobType, version_key
from nodestate.model.node import NodeKey
from nodestate.model.plan import Annotation, InPlaceUpdate, Placement, Plan, Stop
from nodestate.model.timestamp import Timestamp
from nodestate.planning.chance import Chance
from nodestate.planning.generic import reconcile_generic
from nodestate.planning.reconcile import (
    Changes,
    Reconciled,
    Steps,
    Subject,
    Wanted,
    stop,
)
from nodestate.planning.rescheduling import events_of, tracker_after
from nodestate.planning.search import Choice, Selected
from nodestate.planning.selection import ReadyNodes, Selection
from nodestate.planning.system import reconcile_system

PLACEMENTS_MAX: Final = 256
"""How many placements, and how many updates in place, one plan has."""
STOPS_MAX: Final = 1024
"""How many stops of what nothing replaces one plan has: an entry holds up all servers while it is applied."""

DELAYED: Final = "created for delayed rescheduling"

_VERSION_4: Final = 0x4000
_VARIANT: Final = 0x8000


class Look(NamedTuple):
    """What is looked at: a job, as an evaluation asks, in a state that stays as it is.

    `job` is what is wanted; in a dry run that is not what the state has. `attempt` counts
    the looks that the evaluation has had. With `is_whole` the plan has all there is to do;
    else a long one is cut, and the rest is for another look. `ready` remembers nodes from
    one look to the next.
    """

    state: State
    snapshot_index: int
    evaluation: Evaluation
    job: Job | None
    now_ns: int
    attempt: int = 0
    is_whole: bool = False
    ready: ReadyNodes | None = None

    def subject(self) -> Subject:
        """Return what reconcilers want to know."""
        return Subject(
            evaluation=self.evaluation,
            job=self.job,
            allocations=tuple(self.state.allocations_of(self.evaluation.job_key)),
            view=self.state,
            now_ns=self.now_ns,
        )


@dataclass(kw_only=True, slots=True)
class Draft:
    """A plan, and what it leaves open.

    `queued` is how many of each group are wanted now, the plan's own placements among
    them; `failed` says why some found no node, by group, and `full_keys` on which nodes a
    system job did not fit. `followers` are the evaluations that the plan counts on.
    `is_cut` says that there is more to do than the plan has.
    """

    plan: Plan
    followers: tuple[Evaluation, ...] = ()
    queued: dict[str, int] = field(default_factory=dict)
    failed: dict[str, AllocMetric] = field(default_factory=dict)
    full_keys: tuple[NodeKey, ...] = ()
    changes: dict[str, Changes] = field(default_factory=dict)
    is_cut: bool = False

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to propose."""
        return self.plan.is_empty and not self.followers


class Ids:
    """New ids that follow from a seed, in the usual form of a random UUID."""

    def __init__(self, *seed: str | int) -> None:
        self._chance = Chance(*seed)

    def new_id(self) -> str:
        """Return the next one."""
        high, middle, low, lowest = (self._chance.below(2**32) for _ in range(4))
        version = middle & 0x0FFF | _VERSION_4
        variant = low >> 16 & 0x3FFF | _VARIANT
        return (
            f"{high:08x}-{middle >> 16:04x}-{version:04x}"
            f"-{variant:04x}-{low & 0xFFFF:04x}{lowest:08x}"
        )


def ids_of(look: Look) -> Ids:
    """Return the ids of what a look makes: another look makes others."""
    evaluation = look.evaluation
    return Ids(
        "ids",
        evaluation.id,
        evaluation.modify_index,
        look.snapshot_index,
        look.attempt,
        look.now_ns,
    )


def draft_plan(look: Look) -> Steps[Draft]:
    """Return the plan that gives the job what it wants, as far as there is room."""
    drafting = _Drafting(look)
    job = look.job
    if job is None or job.stop:
        found = yield from reconcile_generic(look.subject())
        drafting.take_stops(found)
    else:
        found = yield from drafting.fill(job)
    drafting.follow(found)
    return drafting.draft(found)


class _Drafting:
    """A plan in the making."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._ids = ids_of(look)
        self.stops: list[Stop] = []
        self._placements: list[Placement] = []
        self._updates: list[InPlaceUpdate] = []
        self._annotations: list[Annotation] = []
        self._followers: list[Evaluation] = []
        self._failed: dict[str, AllocMetric] = {}
        self._full_keys: dict[NodeKey, None] = {}
        self._queued: dict[str, int] = {}
        self._is_cut = False
        job = look.job
        self._is_whole = look.is_whole or (job is not None and job.all_at_once)

    def take_stops(self, found: Reconciled) -> None:
        """Take down what is to stop.

        Where that is more than one plan has, those go first that nothing replaces.
        """
        self.stops += found.stops
        if self._is_whole:
            return
        replaced = {
            one.previous.id
            for one in (*found.replacements, *found.placements)
            if one.previous is not None
        }
        alone = [one for one in found.stops if one.id not in replaced]
        if len(alone) > STOPS_MAX:
            self._is_cut = True
            self.stops = alone[:STOPS_MAX]

    def fill(self, job: Job) -> Steps[Reconciled]:
        """Say what is to stop, to change and to be placed where."""
        look = self._look
        seed = (look.evaluation.id, look.snapshot_index, look.attempt)
        selection = Selection(look.state, job, seed=seed, ready=look.ready)
        yield from selection.prepare()
        if job.type is JobType.SYSTEM:
            found = yield from reconcile_system(look.subject(), selection.ready_keys)
        else:
            found = yield from reconcile_generic(look.subject())
        self.take_stops(found)
        for one in self.stops:
            selection.stop(look.state.allocations[one.id])
        yield from self._update(selection, found)
        queued = found.queued()
        self._queued = {group.name: queued[group.name] for group in job.task_groups}
        if not self._is_cut:
            yield from self._place_all(
                selection, [*found.replacements, *found.placements]
            )
        return found

    def _place_all(self, selection: Selection, wanted: list[Wanted]) -> Steps[None]:
        for number, one in enumerate(wanted):
            if len(self._placements) >= PLACEMENTS_MAX and not self._is_whole:
                self._cut(wanted[number:])
                return
            yield
            yield from self._place(selection, one)

    def _cut(self, rest: list[Wanted]) -> None:
        """Leave the rest for another look, and what it replaces as it is until then."""
        self._is_cut = True
        left = {one.previous.id for one in rest if one.previous is not None}
        self.stops = [one for one in self.stops if one.id not in left]

    def _update(self, selection: Selection, found: Reconciled) -> Steps[None]:
        """Update in place what still fits; the rest has to be replaced."""
        for update in found.updates:
            if len(self._updates) >= PLACEMENTS_MAX and not self._is_whole:
                self._is_cut = True
                return
            yield
            allocation = update.allocation
            resources = selection.update(allocation, update.group)
            if resources is not None:
                self._updates.append(
                    InPlaceUpdate(
                        id=allocation.id,
                        node_key=allocation.node_key,
                        resources=resources,
                    )
                )
                continue
            found.replacements.append(update.instead)
            changes = found.changes_of(update.group.name)
            changes.updated_in_place -= 1
            changes.updated += 1

    def _place(self, selection: Selection, wanted: Wanted) -> Steps[None]:
        previous = wanted.previous
        failed = self._failed.get(wanted.group.name)
        if failed is not None and wanted.node_key is None:
            self._coalesce(wanted, failed)
            return
        if wanted.is_update and previous is not None:
            selection.stop(previous)
        choice = yield from _choose(selection, wanted)
        if choice.selected is not None:
            self._add(wanted, choice.selected, choice.metrics)
            return
        if wanted.node_key is not None and choice.is_filtered:
            self._filter(wanted)
            return
        if wanted.is_update and previous is not None:
            selection.keep(previous)
        if wanted.node_key is not None:
            self._full_keys[wanted.node_key] = None
        if failed is not None:
            self._coalesce(wanted, failed)
        else:
            self._failed[wanted.group.name] = choice.metrics

    def _coalesce(self, wanted: Wanted, failed: AllocMetric) -> None:
        self._failed[wanted.group.name] = replace(
            failed, coalesced_failures=failed.coalesced_failures + 1
        )

    def _filter(self, wanted: Wanted) -> None:
        """Leave out a node on which a system job is not to run, and leave it if it does."""
        self._queued[wanted.group.name] -= 1
        if wanted.is_update and wanted.previous is not None:
            self.stops.append(stop(wanted.previous, UPDATING))

    def _add(self, wanted: Wanted, selected: Selected, metrics: AllocMetric) -> None:
        look, previous = self._look, wanted.previous
        tracker = None
        if wanted.is_rescheduling and previous is not None:
            tracker = tracker_after(
                previous, wanted.group.reschedule_policy, look.now_ns
            )
        placement = Placement(
            id=self._ids.new_id(),
            name=wanted.name,
            task_group=wanted.group.name,
            node_key=selected.key,
            resources=selected.resources,
            metrics=metrics,
            previous_allocation="" if previous is None else previous.id,
            reschedule_tracker=tracker,
        )
        self._placements.append(placement)
        if wanted.stop_text and previous is not None:
            alone = stop(previous, wanted.stop_text)
            self.stops.append(replace(alone, only_with=placement.id))

    def follow(self, found: Reconciled) -> None:
        """Have what failed looked at again once it is due."""
        for follower in found.followers:
            evaluation = self._follower(follower.due_at_ns)
            self._followers.append(evaluation)
            self._annotations += [
                Annotation(
                    id=allocation.id,
                    node_key=allocation.node_key,
                    followup_eval_id=evaluation.id,
                )
                for allocation in follower.allocations
            ]

    def _follower(self, due_at_ns: int) -> Evaluation:
        look = self._look
        return child_of(
            look.evaluation,
            self._ids.new_id(),
            Trigger.ALLOC_FAILURE,
            status_description=DELAYED,
            wait_until=Timestamp(due_at_ns),
            create_time=look.now_ns,
        )

    def draft(self, found: Reconciled) -> Draft:
        """Return what it has come to."""
        look, job = self._look, self._look.job
        is_run = bool(self._placements or self._updates)
        plan = Plan(
            eval_id=look.evaluation.id,
            eval_modify_index=look.evaluation.modify_index,
            job_key=look.evaluation.job_key,
            version=version_key(job) if job is not None and is_run else None,
            snapshot_index=look.snapshot_index,
            is_all_at_once=job is not None and job.all_at_once,
            stops=tuple(self.stops),
            placements=tuple(self._placements),
            updates=tuple(self._updates),
            annotations=tuple(self._annotations),
        )
        queued = self._queued
        if job is not None and job.stop:
            queued = {group.name: 0 for group in job.task_groups}
        return Draft(
            plan=plan,
            followers=tuple(self._followers),
            queued=queued,
            failed=self._failed,
            full_keys=tuple(self._full_keys),
            changes=found.changes,
            is_cut=self._is_cut,
        )


def _choose(selection: Selection, wanted: Wanted) -> Steps[Choice]:
    if wanted.node_key is not None:
        return selection.choose_on(wanted.group, wanted.node_key)
    previous = wanted.previous
    preferred = None
    penalised: frozenset[NodeKey] = frozenset()
    if previous is not None:
        if wanted.group.ephemeral_disk.sticky:
            preferred = previous.node_key
        if previous.client_status == FAILED:
            penalised = failed_on(previous)
    return (
        yield from selection.choose(
            wanted.group, penalised=penalised, preferred=preferred
        )
    )


def failed_on(allocation: Allocation) -> frozenset[NodeKey]:
    """Return the nodes on which it, or what it replaces, has failed."""
    earlier = {
        NodeKey(event.prev_node_id.replace("-", "").lower())
        for event in events_of(allocation)
    }
    return frozenset({allocation.node_key, *earlier})


def child_of(
    evaluation: Evaluation, id_: str, trigger: Trigger, **fields: object
) -> Evaluation:
    """Return a new evaluation of the same job, that follows from this one."""
    child = Evaluation(
        id=id_,
        namespace=evaluation.namespace,
        priority=evaluation.priority,
        type=evaluation.type,
        triggered_by=trigger,
        job_id=evaluation.job_id,
        job_modify_index=evaluation.job_modify_index,
        previous_eval=evaluation.id,
    )
    return replace(child, **fields)
