"""What a service or batch job wants, compared with what there is of it.

Each group is to have as many allocations as it counts, each under a name of its own with
the lowest free number.
"""

from typing import Final, NamedTuple

from nodestate.model.allocation import (
    COMPLETE,
    FAILED,
    MIGRATING,
    RESCHEDULED,
    UPDATING,
    Allocation,
)
from nodestate.model.job import Job, JobType, TaskGroup
from nodestate.model.plan import Stop
from nodestate.planning.reconcile import (
    STEP_RECORDS,
    Follower,
    InPlace,
    Reconciled,
    Steps,
    Subject,
    Versions,
    Wanted,
    in_order,
    lost_stop,
    stop,
    stop_all,
    sweep_lost,
)
from nodestate.planning.rescheduling import due_at_ns, may_reschedule

SOON_NS: Final = 1_000_000_000
"""What is due within this time is done now."""
WINDOW_NS: Final = 5_000_000_000
"""What is due within this time of the first shares an evaluation with it."""


class _Later(NamedTuple):
    due_at_ns: int
    allocation: Allocation


class _Sets:
    """The allocations of a group, by what is to become of them.

    `kept` are those that count, failed ones among them that are not replaced now. `ended`
    is batch work that was told to stop, and had ended well.
    """

    __slots__ = ("ended", "kept", "later", "lost", "migrating", "now")

    def __init__(self) -> None:
        self.kept: list[Allocation] = []
        self.ended: list[Allocation] = []
        self.migrating: list[Allocation] = []
        self.lost: list[Allocation] = []
        self.now: list[Allocation] = []
        self.later: list[_Later] = []

    def keep_ended(self) -> None:
        """Count what has ended, each name once: it may have been placed again since."""
        names = {one.name for one in (*self.kept, *self.migrating, *self.now)}
        for allocation in self.ended:
            if allocation.name not in names:
                names.add(allocation.name)
                self.kept.append(allocation)

    def taken(self) -> set[int]:
        """Return the numbers of names that are in use."""
        return {
            allocation.index for allocation in (*self.kept, *self.migrating, *self.now)
        }


def reconcile_generic(subject: Subject) -> Steps[Reconciled]:
    """Return what is to change so that the job has what it wants."""
    found = Reconciled(stops=(yield from sweep_lost(subject)))
    job = subject.job
    if job is None or job.stop:
        stop_all(subject, in_order(subject.allocations), found)
        return found
    groups: dict[str, list[Allocation]] = {group.name: [] for group in job.task_groups}
    unwanted: list[Allocation] = []
    for allocation in in_order(subject.allocations):
        groups.get(allocation.task_group, unwanted).append(allocation)
    stop_all(subject, unwanted, found)
    versions = Versions(job, subject.view)
    later: list[_Later] = []
    for group in job.task_groups:
        sets = yield from _classify(subject, job, group, groups[group.name])
        _stop_lost(sets, found, group)
        _stop_surplus(subject, sets, found, group)
        yield from _update(sets, found, group, versions)
        _place(subject, sets, found, group, job)
        later += sets.later
    found.followers = _followers(later)
    return found


def _classify(
    subject: Subject, job: Job, group: TaskGroup, allocations: list[Allocation]
) -> Steps[_Sets]:
    sets = _Sets()
    for count, allocation in enumerate(allocations):
        if count % STEP_RECORDS == 0:
            yield
        if allocation.is_terminal:
            _classify_over(subject, job, group, allocation, sets)
        elif allocation.is_migrating:
            sets.migrating.append(allocation)
        elif subject.is_gone(allocation.node_key):
            sets.lost.append(allocation)
        else:
            sets.kept.append(allocation)
    sets.keep_ended()
    return sets


def _classify_over(
    subject: Subject, job: Job, group: TaskGroup, allocation: Allocation, sets: _Sets
) -> None:
    """Keep what is over and still counts: finished batch work, failures to live with."""
    is_batch = job.type is JobType.BATCH
    if allocation.next_allocation or (is_batch and _is_history(allocation, job)):
        return
    if allocation.is_server_terminal:
        if is_batch and allocation.is_successful:
            sets.ended.append(allocation)
    elif allocation.client_status == COMPLETE:
        # A service must not end: it is placed again.
        if is_batch:
            sets.kept.append(allocation)
    elif allocation.client_status == FAILED:
        _classify_failed(subject, group, allocation, sets)


def _is_history(allocation: Allocation, job: Job) -> bool:
    return (
        allocation.job_create_index != job.create_index
        or allocation.job_version < job.version
    )


def _classify_failed(
    subject: Subject, group: TaskGroup, allocation: Allocation, sets: _Sets
) -> None:
    policy = group.reschedule_policy
    if allocation.desired_transition.force_reschedule:
        sets.now.append(allocation)
        return
    if policy is None or not may_reschedule(allocation, policy):
        sets.kept.append(allocation)
        return
    due = due_at_ns(allocation, policy)
    is_asked_for = allocation.followup_eval_id == subject.evaluation.id
    if is_asked_for or due <= subject.now_ns + SOON_NS:
        sets.now.append(allocation)
        return
    sets.kept.append(allocation)
    if not allocation.followup_eval_id:
        sets.later.append(_Later(due, allocation))


def _stop_lost(sets: _Sets, found: Reconciled, group: TaskGroup) -> None:
    found.stops += [lost_stop(allocation) for allocation in sets.lost]
    found.changes_of(group.name).stopped += len(sets.lost)


def _stop_surplus(
    subject: Subject, sets: _Sets, found: Reconciled, group: TaskGroup
) -> None:
    """Stop what there is too much of: what would move first, then the highest numbers.

    One that failed is not replaced if there would be too many then.
    """
    surplus = max(0, len(sets.kept) + len(sets.migrating) - group.count)
    stopped = _highest(sets.migrating)[:surplus]
    running = [one for one in sets.kept if not one.is_terminal]
    stopped += _highest(running)[: surplus - len(stopped)]
    # What is over cannot be stopped; it must not be replaced either.
    over = [one for one in sets.kept if one.is_terminal]
    dropped = _highest(over)[: surplus - len(stopped)]
    room = group.count - (len(sets.kept) + len(sets.migrating))
    stopped += _highest(sets.now)[: max(0, len(sets.now) - max(0, room))]
    ids = {allocation.id for allocation in (*stopped, *dropped)}
    sets.kept = [one for one in sets.kept if one.id not in ids]
    sets.migrating = [one for one in sets.migrating if one.id not in ids]
    sets.now = [one for one in sets.now if one.id not in ids]
    sets.later = [one for one in sets.later if one.allocation.id not in ids]
    found.stops += [_end(subject, allocation) for allocation in stopped]
    found.changes_of(group.name).stopped += len(stopped)


def _end(subject: Subject, allocation: Allocation) -> Stop:
    """Return the stop of one that nothing replaces; a marked one's node may be gone."""
    is_lost = not allocation.is_terminal and subject.is_gone(allocation.node_key)
    return lost_stop(allocation) if is_lost else stop(allocation)


def _highest(allocations: list[Allocation]) -> list[Allocation]:
    """Return them by number, the highest first; what shares a name with one comes last."""
    seen: set[str] = set()
    first: list[Allocation] = []
    again: list[Allocation] = []
    for allocation in sorted(
        allocations, key=lambda one: (one.index, one.create_index, one.id), reverse=True
    ):
        (again if allocation.name in seen else first).append(allocation)
        seen.add(allocation.name)
    return first + again


def _update(
    sets: _Sets, found: Reconciled, group: TaskGroup, versions: Versions
) -> Steps[None]:
    """Bring what is kept to the newest version of the job."""
    changes = found.changes_of(group.name)
    replaced: set[str] = set()
    for count, allocation in enumerate(sets.kept):
        if count % STEP_RECORDS == 0:
            yield
        if versions.is_current(allocation):
            changes.ignored += 1
            continue
        wanted = Wanted(
            allocation.name, group, allocation, stop_text=UPDATING, is_update=True
        )
        if versions.needs_replacement(allocation):
            found.replacements.append(wanted)
            replaced.add(allocation.id)
            changes.updated += 1
        elif allocation.is_terminal:
            changes.ignored += 1
        else:
            found.updates.append(InPlace(allocation, group, wanted))
            changes.updated_in_place += 1
    sets.later = [one for one in sets.later if one.allocation.id not in replaced]


def _place(
    subject: Subject, sets: _Sets, found: Reconciled, group: TaskGroup, job: Job
) -> None:
    """Replace what failed, fill up what is missing, move what is marked."""
    changes = found.changes_of(group.name)
    for failed in sorted(sets.now, key=_by_number):
        found.placements.append(
            Wanted(
                failed.name,
                group,
                failed,
                stop_text=RESCHEDULED,
                is_rescheduling=True,
            )
        )
    missing = max(0, group.count - len(sets.kept) - len(sets.migrating) - len(sets.now))
    found.placements += _missing(sets, group, job, missing)
    changes.placed += len(sets.now) + missing
    for marked in sorted(sets.migrating, key=_by_number):
        is_gone = subject.is_gone(marked.node_key)
        found.stops.append(
            lost_stop(marked, MIGRATING) if is_gone else stop(marked, MIGRATING)
        )
        found.placements.append(Wanted(marked.name, group, marked))
    changes.migrated += len(sets.migrating)


def _missing(sets: _Sets, group: TaskGroup, job: Job, missing: int) -> list[Wanted]:
    """Return as many as are missing: first those that take a lost one's place."""
    taken = sets.taken()
    wanted: list[Wanted] = []
    for lost in sorted(sets.lost, key=_by_number):
        is_free = 0 <= lost.index < group.count and lost.index not in taken
        if is_free and len(wanted) < missing:
            taken.add(lost.index)
            wanted.append(Wanted(lost.name, group, lost))
    number = 0
    while len(wanted) < missing:
        if number not in taken:
            wanted.append(Wanted(f"{job.id}.{group.name}[{number}]", group))
        number += 1
    return wanted


def _by_number(allocation: Allocation) -> tuple[int, int, str]:
    return allocation.index, allocation.create_index, allocation.id


def _followers(later: list[_Later]) -> list[Follower]:
    """Gather what is to be replaced later: what is due together has one evaluation."""
    windows: list[tuple[int, list[Allocation]]] = []
    for due, allocation in sorted(
        later, key=lambda one: (one.due_at_ns, one.allocation.id)
    ):
        if not windows or due - windows[-1][0] >= WINDOW_NS:
            windows.append((due, []))
        windows[-1][1].append(allocation)
    return [Follower(due, tuple(allocations)) for due, allocations in windows]
