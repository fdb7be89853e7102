"""Which drains are over."""

from typing import Final

from nodestate.fsm.state import State
from nodestate.model.command import SERVER, CompletedDrain, CompleteDrains
from nodestate.model.job import JobType
from nodestate.model.node import NodeKey

DRAINS_PER_COMMAND_MAX: Final = 512


def plan_drain_completions(state: State, now_ns: int) -> tuple[CompleteDrains, ...]:
    """Return the commands that end every drain with nothing left to move.

    Service and batch allocations count until their agent has reported them over; system
    ones do not hold a drain up. A deadline that has passed makes no difference to a node
    with nothing on it: its drain is complete, not cut short.
    """
    over = [
        CompletedDrain(key, node.modify_index)
        for key, node in state.draining_nodes()
        if not _has_work_to_move(state, key)
    ]
    return tuple(
        CompleteDrains(
            at_ns=now_ns,
            asked_by=SERVER,
            drains=tuple(over[start : start + DRAINS_PER_COMMAND_MAX]),
        )
        for start in range(0, len(over), DRAINS_PER_COMMAND_MAX)
    )


def _has_work_to_move(state: State, key: NodeKey) -> bool:
    return any(
        allocation.job_type is not JobType.SYSTEM and not allocation.is_client_terminal
        for allocation in state.allocations_on(key)
    )
