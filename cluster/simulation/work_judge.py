"""What is judged of work: each entry of the log, looked at between two states.

The log is applied once more by itself, and what the leader's services had written is held
to what was promised of drains, placements and allocations. This knows nothing of how
they plan: it only counts what there was before an entry and what there is after it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from cluster.simulation.checkers import Replayed
from cluster.simulation.judge import Violation
from nodestate.fsm.state import State
from nodestate.model.allocation import Allocation
from nodestate.model.command import (
    CompleteDrains,
    MarkAllocations,
    SetDrain,
    SetEligibility,
)
from nodestate.model.event import (
    AllocationMarked,
    AllocationPlaced,
    AllocationReported,
    AllocationUpdated,
    Event,
    NodeDrainUpdated,
    NodePurged,
)
from nodestate.model.job import JobKey, JobType
from nodestate.model.node import ELIGIBLE, DrainStrategy, Node, NodeKey, NodeStatus

DRAINS: Final = "drains end when the work is gone"
PACING: Final = "drains move no more than they may"
PLACEMENT: Final = "work is placed where it may be"
ONCE: Final = "work is placed once"
FINALITY: Final = "what has ended stays so"

_Changed = AllocationPlaced | AllocationUpdated | AllocationMarked | AllocationReported
GroupKey = tuple[JobKey, str]


class WorkJudge:
    """Looks at every entry; `drained` has the nodes whose last drain was completed.

    Of each it says whether system jobs were to be left alone, for as long as the node is
    closed.
    """

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.drained: dict[NodeKey, bool] = {}
        self.counts: Counter[str] = Counter()

    def observe(self, replayed: Replayed) -> None:
        """Look at one entry."""
        changes = [one for one in replayed.events if isinstance(one, _Changed)]
        for check in (_judge_placements, _judge_names, _judge_finality):
            self._note(replayed, check(replayed, changes))
        if isinstance(replayed.command, MarkAllocations) and replayed.command.is_drain:
            self._note(replayed, _judge_marks(replayed, changes))
        if isinstance(replayed.command, CompleteDrains):
            self._note(replayed, _judge_completions(replayed))
        for event in replayed.events:
            self.counts[f"event {event.__struct_config__.tag}"] += 1
            self._follow_drains(replayed, event)

    def _note(self, replayed: Replayed, found: Iterator[tuple[str, str]]) -> None:
        for promise, text in found:
            self.violations.append(Violation(promise, f"{replayed.at_index}: {text}"))

    def _follow_drains(self, replayed: Replayed, event: Event) -> None:
        match event:
            case NodeDrainUpdated():
                known = replayed.before.node(event.key)
                if known is None or known.drain_strategy is None:
                    pass
                elif isinstance(replayed.command, CompleteDrains):
                    ignores = known.drain_strategy.ignore_system_jobs
                    self.drained[event.key] = ignores
                    self.counts["drains completed"] += 1
                if isinstance(replayed.command, SetDrain):
                    self.drained.pop(event.key, None)
            case NodePurged():
                self.drained.pop(event.key, None)
            case _:
                if isinstance(replayed.command, SetEligibility):
                    self.drained.pop(replayed.command.key, None)


# Placements


def _judge_placements(
    replayed: Replayed, changes: list[_Changed]
) -> Iterator[tuple[str, str]]:
    before, after = replayed.before, replayed.after
    touched: dict[NodeKey, None] = {}
    for event in changes:
        if not isinstance(event, AllocationPlaced):
            continue
        placed = event.allocation
        touched[placed.node_key] = None
        reason = _why_not(before.node(placed.node_key))
        if reason:
            yield PLACEMENT, f"{placed.name} is placed on {placed.node_key}, {reason}"
        previous = before.allocations.get(placed.previous_allocation)
        if previous is not None and previous.next_allocation:
            yield ONCE, f"{placed.name} is a second successor of {previous.id}"
    for key in touched:
        node = after.node(key)
        used = sum(
            _cpu(one) for one in after.allocations_on(key) if not one.is_terminal
        )
        room = 0 if node is None or node.node_resources is None else _room(node)
        if used > room:
            yield PLACEMENT, f"{key} has room for {room} and {used} on it"


def _why_not(node: Node | None) -> str:
    """Return why nothing may be placed on a node, "" if it may."""
    if node is None:
        return "which is not there"
    if node.drain_strategy is not None:
        return "which drains"
    if node.status is not NodeStatus.READY:
        return f"which is {node.status}"
    return "" if node.scheduling_eligibility == ELIGIBLE else "which is closed"


def _room(node: Node) -> int:
    assert node.node_resources is not None
    return node.node_resources.cpu.cpu_shares


def _cpu(allocation: Allocation) -> int:
    tasks = allocation.allocated_resources.tasks.values()
    return sum(task.cpu.cpu_shares for task in tasks)


def _judge_names(
    replayed: Replayed, changes: list[_Changed]
) -> Iterator[tuple[str, str]]:
    """Demand that what was placed has its name, or of a system job its node, alone."""
    for event in changes:
        if not isinstance(event, AllocationPlaced):
            continue
        placed = event.allocation
        alike = [
            one.id
            for one in replayed.after.allocations_of(placed.job_key)
            if not one.is_terminal and _is_alike(one, placed)
        ]
        if len(alike) > 1:
            yield ONCE, f"{placed.name} is there {len(alike)} times"


def _is_alike(one: Allocation, other: Allocation) -> bool:
    is_same_job = one.job_create_index == other.job_create_index
    if one.job_type is JobType.SYSTEM:
        return is_same_job and one.node_key == other.node_key
    return is_same_job and one.name == other.name


def _judge_finality(
    replayed: Replayed, changes: list[_Changed]
) -> Iterator[tuple[str, str]]:
    for event in changes:
        after = event.allocation
        before = replayed.before.allocations.get(after.id)
        if before is None:
            continue
        if before.is_server_terminal and not after.is_server_terminal:
            yield FINALITY, f"{after.name} was told to stop and is wanted again"
        if before.is_client_terminal and not after.is_client_terminal:
            yield FINALITY, f"{after.name} was over and is {after.client_status}"


# Drains


def _judge_marks(
    replayed: Replayed, changes: list[_Changed]
) -> Iterator[tuple[str, str]]:
    before, at_ns = replayed.before, replayed.command.at_ns
    paced: dict[GroupKey, None] = {}
    for event in changes:
        marked = event.allocation
        node = before.node(marked.node_key)
        strategy = None if node is None else node.drain_strategy
        if strategy is None:
            yield PACING, f"{marked.name} moves, and {marked.node_key} does not drain"
        elif marked.job_type is JobType.SYSTEM:
            if strategy.ignore_system_jobs:
                yield PACING, f"{marked.name} moves, and was to be left alone"
            if _unfinished(before, marked.node_key) and not is_forced(strategy, at_ns):
                yield PACING, f"{marked.name} moves before all others"
        elif not is_forced(strategy, at_ns):
            paced[marked.job_key, marked.task_group] = None
    for key, name in paced:
        job = before.job(key)
        group = None if job is None else job.group(name)
        if group is None or group.migrate is None:
            yield PACING, f"{key[1]} moves, and nothing says how many at once"
            continue
        stay = sum(
            one.task_group == name and _is_up(one)
            for one in replayed.after.allocations_of(key)
        )
        if stay < group.count - group.migrate.max_parallel:
            yield (
                PACING,
                f"{key[1]} is left with {stay} of {group.count},"
                f" {group.migrate.max_parallel} may move",
            )


def _is_up(allocation: Allocation) -> bool:
    """Say whether it runs, stays, and is known to be well."""
    return (
        not allocation.is_terminal
        and not allocation.is_migrating
        and allocation.is_healthy
    )


def is_forced(strategy: DrainStrategy, at_ns: int) -> bool:
    """Say whether a drain need not wait for anything any more."""
    if strategy.deadline < 0:
        return True
    return 0 < strategy.force_deadline.ns <= at_ns


def _unfinished(state: State, key: NodeKey) -> list[Allocation]:
    """Return what holds a node's drain up."""
    return [
        one
        for one in state.allocations_on(key)
        if one.job_type is not JobType.SYSTEM and not one.is_client_terminal
    ]


def _judge_completions(replayed: Replayed) -> Iterator[tuple[str, str]]:
    before = replayed.before
    for event in replayed.events:
        if not isinstance(event, NodeDrainUpdated):
            continue
        node = before.node(event.key)
        strategy = None if node is None else node.drain_strategy
        if strategy is None:
            yield DRAINS, f"the drain of {event.key} ends, and there was none"
            continue
        held_up_by = _unfinished(before, event.key)
        if held_up_by and not is_forced(strategy, replayed.command.at_ns):
            names = ", ".join(one.name for one in held_up_by)
            yield DRAINS, f"the drain of {event.key} ends before {names}"
        details = (event.node.events[-1].details or {}) if event.node.events else {}
        says_forced = "deadline_reached" in details
        # Quick agents may have reported since that all is over: it was cut short.
        may_say = is_forced(strategy, replayed.command.at_ns)
        if (held_up_by and not says_forced) or (says_forced and not may_say):
            yield DRAINS, f"the drain of {event.key} ends, and says {details}"
        for one in before.allocations_on(event.key):
            is_ignored = one.job_type is JobType.SYSTEM and strategy.ignore_system_jobs
            if not (one.is_terminal or one.is_migrating or is_ignored):
                yield DRAINS, f"the drain of {event.key} ends, and {one.name} stays"


def left_behind(
    state: State, drained: dict[NodeKey, bool], is_served: Callable[[NodeKey], bool]
) -> Iterator[str]:
    """Yield what is still on nodes whose drain is over, though their agents live."""
    for key, ignores_system in drained.items():
        if not is_served(key):
            continue
        for one in state.allocations_on(key):
            is_ignored = one.job_type is JobType.SYSTEM and ignores_system
            if not (one.is_client_terminal or is_ignored):
                yield f"{one.name} is still on {key}, whose drain is over"
