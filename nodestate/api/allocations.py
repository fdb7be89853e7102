"""A node's allocations. Nothing places any yet: the list is there, and empty."""

from nodestate.api import blocking
from nodestate.api.calls import Call, index_line
from nodestate.api.replies import Reply
from nodestate.fsm.state import ALLOCATIONS, State
from nodestate.watch import table_key


def allocations_index(state: State) -> int:
    """Return the index of the table; never 0, which would make a waiting client spin."""
    return max(state.table_index(ALLOCATIONS), 1)


async def list_node_allocations(call: Call) -> Reply:
    """Answer `GET /v1/node/:id/allocations`; a node that is not known has none either."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    call.node_key()
    services = call.services
    if options.index:
        await blocking.wait_until_past(
            call, options, table_key(ALLOCATIONS), allocations_index
        )
    headers = index_line(allocations_index(services.view.state()))
    return call.encoded(
        b"[]", headers=headers + blocking.contact_lines(services, options)
    )
