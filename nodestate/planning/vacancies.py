"""Since when there may be more room: what evaluations that wait for room want to know.

Room comes with a node that is ready, and with an allocation whose agent has reported it
over. Both say so in their records, so that nobody has to have seen it happen.
"""

from typing import NamedTuple

from nodestate.fsm.state import State
from nodestate.model.allocation import COMPLETE, FAILED
from nodestate.model.node import NodeKey
from nodestate.planning.reconcile import Steps
from nodestate.planning.selection import is_ready

STEP_RECORDS = 1024
"""How many records are looked at in one step."""


class Vacancies(NamedTuple):
    """The index since which there has been no more room: anywhere, and by node's id.

    It may be higher than that: other changes of the same record count as well.
    """

    newest_index: int
    by_node_id: dict[str, int]


def find_vacancies(state: State, after_index: int) -> Steps[Vacancies]:
    """Return where room may have come about by later entries than `after_index`.

    Reads the state as it is in each step; what changes meanwhile may be found or not.
    """
    by_key: dict[NodeKey, int] = {}
    for count, (key, node) in enumerate(list(state.nodes.items())):
        if count % STEP_RECORDS == 0:
            yield
        if node.modify_index > after_index and is_ready(node):
            by_key[key] = node.modify_index
    for count, allocation in enumerate(list(state.allocations.values())):
        if count % STEP_RECORDS == 0:
            yield
        if allocation.modify_index <= after_index:
            continue
        if allocation.client_status in {COMPLETE, FAILED}:
            known = by_key.get(allocation.node_key, 0)
            by_key[allocation.node_key] = max(known, allocation.modify_index)
    by_node_id: dict[str, int] = {}
    for key, index in by_key.items():
        node_now = state.node(key)
        if node_now is not None and is_ready(node_now):
            by_node_id[node_now.id] = index
    return Vacancies(max(by_node_id.values(), default=0), by_node_id)
