"""What holds of work after every entry, and what holds once all is at rest.

The numbers are those of the invariants in section 8.4 of the specification of scheduling.
What an entry may do is looked at from outside: whoever plans, whoever leads.
"""

from collections import Counter

from nodestate.fsm.capacity import room_left
from nodestate.fsm.state import State
from nodestate.model.allocation import Allocation
from nodestate.model.command import Command, CompleteDrains, MarkAllocations
from nodestate.model.job import Job, JobType
from nodestate.model.node import NodeStatus


class Before:
    """What there was before an entry."""

    def __init__(self, state: State) -> None:
        self.allocations = dict(state.allocations)
        self.nodes = dict(state.nodes)
        self.indexes = dict(state.indexes)

    def check(self, state: State, command: Command) -> None:
        """Hold the state after the entry to what there was before."""
        for table, index in self.indexes.items():
            assert state.indexes[table] >= index, "5"
        for id_, one in state.allocations.items():
            old = self.allocations.get(id_)
            if old is None:
                self._check_new(one)
            else:
                check_change(old, one)
            assert one.create_index <= one.alloc_modify_index, "5"
            assert one.alloc_modify_index <= one.modify_index, "5"
        for node in state.nodes.values():
            assert node.drain == (node.drain_strategy is not None), "6"
            assert not (node.drain and node.scheduling_eligibility == "eligible"), "6"
        if isinstance(command, MarkAllocations) and command.is_paced:
            check_pace(state, command)
        if isinstance(command, CompleteDrains):
            self._check_ended_drains(state, command)
        check_room(state)
        check_counts(state)
        check_links(state)

    def _check_new(self, one: Allocation) -> None:
        home = self.nodes[one.node_key]
        assert home.status is NodeStatus.READY, "1"
        assert home.scheduling_eligibility == "eligible", "1"

    def _check_ended_drains(self, state: State, command: CompleteDrains) -> None:
        """9: what was to move is gone, or told to go because the time was over."""
        for drain in command.drains:
            old, node = self.nodes.get(drain.key), state.node(drain.key)
            if old is None or old.drain_strategy is None:
                continue
            if node is None or node.is_draining:
                continue
            strategy = old.drain_strategy
            is_cut_short = drain.deadline_reached or strategy.deadline < 0
            for one in state.allocations_on(drain.key):
                is_ignored = one.job_type is JobType.SYSTEM
                is_told = is_cut_short and one.is_migrating
                assert (
                    one.is_terminal
                    or is_told
                    or (is_ignored and strategy.ignore_system_jobs)
                ), "9"


def check_change(old: Allocation, one: Allocation) -> None:
    """5 and 12: indexes never fall, and what is stopped or over stays so."""
    assert one.create_index == old.create_index, "5"
    assert one.modify_index >= old.modify_index, "5"
    assert one.is_server_terminal or not old.is_server_terminal, "12"
    assert one.is_client_terminal or not old.is_client_terminal, "12"


def check_room(state: State) -> None:
    """2: what may run on a node fits on it, ports too."""
    for key, node in state.nodes.items():
        running = [one for one in state.allocations_on(key) if not one.is_terminal]
        assert room_left(node, running).shortfall() is None, "2"


def check_counts(state: State) -> None:
    """3: of no group runs more than is wanted, once its job has been looked at."""
    for key, job in state.jobs.items():
        waits = any(one.status == "pending" for one in state.evaluations_of(key))
        if waits or job.type is JobType.SYSTEM:
            continue
        running = Counter(
            one.task_group for one in state.allocations_of(key) if not one.is_terminal
        )
        for group in job.task_groups:
            wanted = 0 if job.stop else group.count
            assert running[group.name] <= wanted, "3"


def check_pace(state: State, command: MarkAllocations) -> None:
    """8: a drain takes no group below Count - MaxParallel."""
    for key, job in state.jobs.items():
        allocations = state.allocations_of(key)
        if not {one.id for one in allocations} & set(command.ids):
            continue
        for group in job.task_groups:
            settled = [
                one
                for one in allocations
                if one.task_group == group.name
                and not one.is_terminal
                and not one.is_migrating
                and one.deployment_status
            ]
            assert group.migrate is not None
            assert len(settled) >= group.count - group.migrate.max_parallel, "8"


def check_links(state: State) -> None:
    """7: of each two that follow each other both know, as long as both are there."""
    successors = Counter(
        one.previous_allocation
        for one in state.allocations.values()
        if one.previous_allocation
    )
    assert max(successors.values(), default=0) <= 1, "7"
    for one in state.allocations.values():
        successor = state.allocations.get(one.next_allocation)
        assert successor is None or successor.previous_allocation == one.id, "7"
        former = state.allocations.get(one.previous_allocation)
        assert former is None or former.next_allocation == one.id, "7"


def check_rest(state: State) -> None:
    """3 and 4: what holds once every evaluation is over."""
    for key, job in state.jobs.items():
        _check_job_at_rest(state, job)
        for status in ("pending", "blocked"):
            found = [one for one in state.evaluations_of(key) if one.status == status]
            assert job.type is JobType.SYSTEM or len(found) <= 1, "4"
    for node_key, node in state.nodes.items():
        if node.status is NodeStatus.DOWN:
            on_it = state.allocations_on(node_key)
            left = [one for one in on_it if not one.is_terminal]
            assert not left, "nothing runs where nothing can"


def _check_job_at_rest(state: State, job: Job) -> None:
    live = [one for one in state.allocations_of(job.key) if not one.is_terminal]
    places = Counter((one.name, one.node_key) for one in live)
    assert max(places.values(), default=0) <= 1, "nothing runs twice"
    if job.stop:
        assert not live
    elif job.type is not JobType.SYSTEM:
        assert len({one.name for one in live}) == len(live)
