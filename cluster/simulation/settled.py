"""What is still to be done of work, by a state and by which agents live."""

from collections.abc import Callable, Iterator

from nodestate.fsm.state import State
from nodestate.model.allocation import RUNNING, Allocation
from nodestate.model.job import Job, JobKey, JobType, TaskGroup
from nodestate.model.node import ELIGIBLE, Node, NodeKey, NodeStatus

IsServed = Callable[[NodeKey], bool]
"""Whether a node's agent lives."""


def unfinished(state: State, is_served: IsServed) -> Iterator[str]:
    """Yield what keeps a cluster from being at rest where there is room for all work."""
    yield from _open_nodes(state, is_served)
    yield from _open_evaluations(state)
    for allocation in state.allocations.values():
        if is_served(allocation.node_key) and _is_under_way(state, allocation):
            yield f"{allocation.name} on {allocation.node_key} is under way"
    for key, job in state.jobs.items():
        if not job.stop:
            yield from _missing(state, key, job)


def _open_nodes(state: State, is_served: IsServed) -> Iterator[str]:
    for key, node in state.nodes.items():
        if node.drain_strategy is not None:
            yield f"{key} drains"
        expected = NodeStatus.READY if is_served(key) else NodeStatus.DOWN
        if node.status is not expected:
            yield f"{key} is {node.status}, not {expected}"


def _open_evaluations(state: State) -> Iterator[str]:
    """System jobs may wait for nodes that are full; for all others there is room."""
    for one in state.evaluations.values():
        is_waiting = one.is_blocked and one.type is JobType.SYSTEM
        if not (one.is_terminal or is_waiting):
            yield f"evaluation {one.id} of {one.job_id} is {one.status}"


def _is_under_way(state: State, allocation: Allocation) -> bool:
    """Say whether an agent, or the leader, has something to do about it."""
    if allocation.is_client_terminal:
        return False
    job = state.job(allocation.job_key)
    is_wanted = job is not None and not job.stop
    is_on = not allocation.is_server_terminal and not allocation.is_migrating
    if allocation.job_type is JobType.BATCH:
        return True
    return not (is_wanted and is_on and allocation.client_status == RUNNING)


def _missing(state: State, key: JobKey, job: Job) -> Iterator[str]:
    live = [one for one in state.allocations_of(key) if not one.is_terminal]
    for group in job.task_groups:
        mine = [one for one in live if one.task_group == group.name]
        match job.type:
            case JobType.SERVICE:
                healthy = sum(one.is_healthy for one in mine)
                if not len(mine) == healthy == group.count:
                    yield f"{key[1]} has {healthy} of {group.count}, {len(mine)} live"
            case JobType.BATCH:
                yield from _undone(state, key, job, group)
            case JobType.SYSTEM:
                yield from _absent(state, key, group, mine)


def _undone(state: State, key: JobKey, job: Job, group: TaskGroup) -> Iterator[str]:
    """Say so if of fewer names than are wanted an allocation has ended well."""
    done = {
        one.index
        for one in state.allocations_of(key)
        if one.task_group == group.name
        and one.job_create_index == job.create_index
        and one.is_client_terminal
        and one.is_successful
    }
    if len(done) < group.count:
        yield f"{key[1]} has done {sorted(done)} of {group.count}"


def _absent(
    state: State, key: JobKey, group: TaskGroup, live: list[Allocation]
) -> Iterator[str]:
    """Yield the nodes that a system job is not on, and should be."""
    for node_key, node in state.nodes.items():
        count = sum(one.node_key == node_key for one in live)
        if count > 1 or (not count and _takes(state, node_key, node, group)):
            yield f"{key[1]} is {count} times on {node_key}"


def _takes(state: State, key: NodeKey, node: Node, group: TaskGroup) -> bool:
    if node.status is not NodeStatus.READY or node.drain_strategy is not None:
        return False
    if node.scheduling_eligibility != ELIGIBLE or node.node_resources is None:
        return False
    wanted = sum(task.resources.cpu for task in group.tasks)
    used = sum(
        task.cpu.cpu_shares
        for one in state.allocations_on(key)
        if not one.is_client_terminal
        for task in one.allocated_resources.tasks.values()
    )
    return used + wanted <= node.node_resources.cpu.cpu_shares
