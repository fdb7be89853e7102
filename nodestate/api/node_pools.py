"""Node pools: `all`, `default`, and those that nodes have registered with.

A node's agent says in which pool it is, and the pool is there as long as a node is in it.
Jobs are not bound to pools: they may run on every node, and so belong to `all`.
"""

import json
from typing import Final

from nodestate.acl.policies import POOL_READ
from nodestate.api import blocking, job_listing, nodes
from nodestate.api.cache import Pace, slices
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.listing import filter_of
from nodestate.api.parameters import ReadOptions
from nodestate.api.problems import Problem, ProblemError
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.clock import Clock
from nodestate.errors import PermissionDeniedError
from nodestate.fsm.state import NODES, State
from nodestate.model.node import DEFAULT_POOL, Node
from nodestate.watch import table_key

ALL_POOLS: Final = "all"
FIRST_INDEX: Final = 1
"""At which the cluster was formed, and the pools with it that are always there."""
DESCRIPTIONS: Final = {
    ALL_POOLS: "Node pool with all nodes in the cluster.",
    DEFAULT_POOL: "Default node pool.",
}
NO_JOB: Final = "ID is empty"
"""A filter that holds for none."""
POOL_NOT_FOUND: Final = "node pool not found"
CANNOT_WRITE: Final = (
    "node pools are not written: one is there as soon as a node registers with it, and "
    "gone with the last node in it"
)


class NodePool(Shape, frozen=True, kw_only=True):
    """A pool, in the shape of Nomad's. Its indexes are those of its first node."""

    create_index: int
    description: str = ""
    meta: None = None
    modify_index: int
    name: str
    scheduler_configuration: None = None


async def pools_of(state: State, clock: Clock) -> dict[str, int]:
    """Return the pools that there are, sorted, and since which index."""
    found: dict[str, int] = {}
    records = list(state.nodes.values())
    pace = Pace(clock)
    for piece in slices(len(records)):
        for node in records[piece]:
            known = found.get(node.node_pool)
            if known is None or node.create_index < known:
                found[node.node_pool] = node.create_index
        await pace.pause_if_due()
    found |= dict.fromkeys(DESCRIPTIONS, FIRST_INDEX)
    return dict(sorted(found.items()))


async def list_pools(call: Call) -> Reply:
    """Answer `GET /v1/node/pools`: those that the caller may read."""
    options = await _begin(call)
    prefix = call.query.get("prefix", "")
    permissions = call.identity().permissions
    state = call.services.view.state()
    headers = _headers(call, options, state)
    listed = [
        _describe(name, index)
        for name, index in (await pools_of(state, call.services.clock)).items()
        if name.startswith(prefix) and permissions.allows_node_pool(name, POOL_READ)
    ]
    return call.json(listed, headers=headers)


async def read_pool(call: Call) -> Reply:
    """Answer `GET /v1/node/pool/:name`."""
    _check_may_read(call)
    options = await _begin(call)
    state = call.services.view.state()
    headers = _headers(call, options, state)
    index = (await pools_of(state, call.services.clock)).get(call.id_text)
    if index is None:
        return text_reply(404, POOL_NOT_FOUND, headers)
    return call.json(_describe(call.id_text, index), headers=headers)


async def list_pool_nodes(call: Call) -> Reply:
    """Answer `GET /v1/node/pool/:name/nodes`: the list of nodes, of this pool alone."""
    await _check_there(call)
    if call.id_text != ALL_POOLS:
        # What is no expression by itself must not become one between the brackets.
        filter_of(call.query.get("filter", ""), Node)
        wanted = f"NodePool == {json.dumps(call.id_text)}"
        asked = call.query.get("filter", "")
        both = f"({asked}) and {wanted}" if asked else wanted
        call.query = {**call.query, "filter": both}
    return await nodes.list_nodes(call)


async def list_pool_jobs(call: Call) -> Reply:
    """Answer `GET /v1/node/pool/:name/jobs`: all jobs are in the pool of all nodes."""
    await _check_there(call)
    if call.id_text != ALL_POOLS:
        call.query = {**call.query, "filter": NO_JOB}
    return await job_listing.list_jobs(call)


async def refuse_write(_: Call) -> Reply:
    """Answer every write of a pool."""
    raise ProblemError(Problem(501, CANNOT_WRITE))


def _check_may_read(call: Call) -> None:
    if not call.identity().permissions.allows_node_pool(call.id_text, POOL_READ):
        raise PermissionDeniedError(f"node pool:{POOL_READ}")


async def _check_there(call: Call) -> None:
    """Refuse to list what is in a pool that is not there."""
    _check_may_read(call)
    await blocking.wait_until_fresh(call, call.read_options())
    services = call.services
    if call.id_text not in await pools_of(services.view.state(), services.clock):
        raise ProblemError(Problem(404, POOL_NOT_FOUND))


async def _begin(call: Call) -> ReadOptions:
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    if options.index:
        await blocking.wait_until_past(
            call, options, table_key(NODES), nodes.list_index
        )
    return options


def _headers(call: Call, options: ReadOptions, state: State) -> bytes:
    headers = index_line(nodes.list_index(state))
    return headers + blocking.contact_lines(call.services, options)


def _describe(name: str, index: int) -> NodePool:
    return NodePool(
        name=name,
        description=DESCRIPTIONS.get(name, ""),
        create_index=index,
        modify_index=index,
    )
