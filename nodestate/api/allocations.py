"""Allocations: all of them, one, those of a node or of an evaluation; and stopping one."""

from collections.abc import Callable
from functools import partial
from typing import Final

from nodestate.acl.policies import ALLOC_LIFECYCLE, READ_JOB
from nodestate.api import blocking, parameters
from nodestate.api.allocation_shapes import (
    AllocationStopped,
    encode_allocation_stub,
    in_order_of_nodes,
)
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.listing import encode_parts, filter_of, list_body
from nodestate.api.parameters import ALL_NAMESPACES, ReadOptions
from nodestate.api.problems import Problem, ProblemError
from nodestate.api.replies import JSON_TYPE, Body, Reply
from nodestate.api.shapes import prettify
from nodestate.api.table_lists import Selection
from nodestate.errors import PermissionDeniedError
from nodestate.fsm.keys import evaluation_allocations_key, node_allocations_key
from nodestate.fsm.state import ALLOCATIONS, State
from nodestate.model.allocation import Allocation
from nodestate.model.command import MarkAllocations
from nodestate.model.node import NodeKey
from nodestate.model.node_id import ALLOCATION, EVALUATION, record_id, record_id_prefix
from nodestate.model.outcome import ALLOCATION_NOT_FOUND
from nodestate.query.paging import parse_per_page, parse_record_token
from nodestate.watch import prefix_key, record_key, table_key

PLAIN_LIST: Final = frozenset({"namespace", "index", "wait", "stale", "consistent"})
"""The parameters of a list that leave its entries, and how they are written, alone."""


def allocations_index(state: State) -> int:
    """Return the index of the table; never 0, which would make a waiting client spin."""
    return max(state.table_index(ALLOCATIONS), 1)


# Reading one


async def read_allocation(call: Call) -> Reply:
    """Answer `GET /v1/allocation/:id`."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    id_ = record_id(call.id_text, ALLOCATION)
    services = call.services

    def find(state: State) -> Allocation | None:
        known = state.allocations.get(id_)
        is_seen = known is not None and call.may(READ_JOB, known.namespace)
        return known if is_seen else None

    if options.index:

        def current_index(state: State) -> int:
            known = find(state)
            return allocations_index(state) if known is None else known.modify_index

        # Nobody learns from being woken that there is something not to be seen.
        state = services.view.state()
        is_hidden = id_ in state.allocations and find(state) is None
        watched = record_key(ALLOCATIONS, "" if is_hidden else id_)
        await blocking.wait_until_past(call, options, watched, current_index)
    state = services.view.state()
    allocation = find(state)
    contact = blocking.contact_lines(services, options)
    if allocation is None:
        return _not_found(state, contact)
    body = services.work.full_allocation(state, allocation)
    if call.is_pretty():
        body = Body(prettify(body.plain))
    headers = index_line(allocation.modify_index) + contact
    return Reply(200, JSON_TYPE + headers, body)


def _not_found(state: State, contact: bytes) -> Reply:
    """Return the answer for one that is not there, or that the caller may not see."""
    headers = index_line(allocations_index(state)) + contact
    return text_reply(404, ALLOCATION_NOT_FOUND, headers)


# Reading many


def is_whole(call: Call, namespace: str) -> bool:
    """Say whether a list of work leaves nothing out because of who asks.

    Of a single namespace it was permitted already.
    """
    return namespace != ALL_NAMESPACES or call.sees(READ_JOB) is None


async def list_allocations(call: Call) -> Reply:
    """Answer `GET /v1/allocations`."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    query, services = call.query, call.services
    namespace = parameters.read_namespace(query, may_be_all=True)
    if query.keys() <= PLAIN_LIST and is_whole(call, namespace):
        if options.index:
            watched = table_key(ALLOCATIONS)
            await blocking.wait_until_past(call, options, watched, allocations_index)
        state = services.view.state()
        listed = await services.work.allocations.whole(state, namespace)
        headers = index_line(max(listed.index, 1))
        headers += blocking.contact_lines(services, options)
        return Reply(200, JSON_TYPE + headers, listed.body)
    return await _list_some(call, options, namespace)


async def _list_some(call: Call, options: ReadOptions, namespace: str) -> Reply:
    query, services = call.query, call.services
    wanted = filter_of(query.get("filter", ""), Allocation)
    selection = Selection(
        namespace,
        prefix=record_id_prefix(query.get("prefix", ""), ALLOCATION),
        token=parse_record_token(query.get("next_token", "")),
        per_page=parse_per_page(query.get("per_page", "")),
        is_wanted=None if wanted is None else wanted.matches,
        sees=call.sees(READ_JOB),
    )
    encode = _entry_encoder(call)
    if options.index:
        prefix = selection.prefix
        watched = prefix_key(ALLOCATIONS, prefix) if prefix else table_key(ALLOCATIONS)
        await blocking.wait_until_past(call, options, watched, allocations_index)
    state, lists = services.view.state(), services.work.allocations
    index, page = await lists.page(state, selection)
    headers = index_line(max(index, 1)) + blocking.contact_lines(services, options)
    if page.next_token:
        token = page.next_token.encode("ascii")
        headers += b"X-Nomad-NextToken: %b\r\n" % token
    if encode is None:
        parts = await lists.parts(page.records)
    else:
        parts = await encode_parts(services.clock, page.records, encode)
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


def _entry_encoder(call: Call) -> Callable[[Allocation], bytes] | None:
    """Return how to encode entries that show more or less than usual, else `None`."""
    query = call.query
    shows_resources = parameters.read_word_flag(query, "resources")
    shows_task_states = not query.get("task_states") or parameters.read_word_flag(
        query, "task_states"
    )
    if shows_task_states and not shows_resources:
        return None
    return partial(
        encode_allocation_stub,
        shows_resources=shows_resources,
        shows_task_states=shows_task_states,
    )


async def list_evaluation_allocations(call: Call) -> Reply:
    """Answer `GET /v1/evaluation/:id/allocations`; of one that is not known there are none."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    id_ = record_id(call.id_text, EVALUATION)
    services = call.services
    if options.index:
        watched = evaluation_allocations_key(id_)
        await blocking.wait_until_past(call, options, watched, allocations_index)
    state = services.view.state()
    headers = index_line(allocations_index(state))
    headers += blocking.contact_lines(services, options)
    evaluation = state.evaluations.get(id_)
    if evaluation is not None and not call.may(READ_JOB, evaluation.namespace):
        raise PermissionDeniedError(READ_JOB)
    seen = [
        one for one in state.allocations_from(id_) if call.may(READ_JOB, one.namespace)
    ]
    parts = await services.work.allocations.parts(seen)
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


# Those of a node


class _NodeIndex:
    """The index of a node's allocations, for as long as one read waits.

    It is that of the latest change to one of them. Where there are none, or fewer than
    before, what is gone cannot say when it went, and it is the table's.
    """

    def __init__(self, key: NodeKey) -> None:
        self._key = key
        self._count_max = 0

    def __call__(self, state: State) -> int:
        ids = state.allocations_by_node.group(self._key)
        count = state.allocations_by_node.count(self._key)
        self._count_max = max(self._count_max, count)
        if not count or count < self._count_max:
            return allocations_index(state)
        return max(state.allocations[id_].modify_index for id_ in ids)


async def list_node_allocations(call: Call) -> Reply:
    """Answer `GET /v1/node/:id/allocations`; a node that is not known may have some.

    Those that the caller may not see are left out, and count for the index all the same.
    """
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    key = call.node_key()
    services = call.services
    current_index = _NodeIndex(key)
    if options.index:
        watched = node_allocations_key(key)
        await blocking.wait_until_past(call, options, watched, current_index)
    state = services.view.state()
    headers = index_line(current_index(state))
    headers += blocking.contact_lines(services, options)
    allocations = in_order_of_nodes(
        one for one in state.allocations_on(key) if call.may(READ_JOB, one.namespace)
    )
    parts = [services.work.full_allocation(state, one).plain for one in allocations]
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


# Stopping one


async def stop_allocation(call: Call) -> Reply:
    """Answer `PUT /v1/allocation/:id/stop`; whatever the body says."""
    await call.prepare_write()
    id_ = record_id(call.id_text, ALLOCATION)
    await _permit_stop(call, id_)
    command = MarkAllocations(
        ids=(id_,),
        at_ns=call.services.clock.now_ns(),
        seed=call.services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    eval_id = accepted.eval_ids[0] if accepted.eval_ids else ""
    answer = AllocationStopped(eval_id=eval_id, index=accepted.index)
    return call.json(answer, headers=index_line(accepted.index))


async def _permit_stop(call: Call, id_: str) -> None:
    """Refuse it unless the caller may do so in the allocation's namespace.

    What is not known here may be elsewhere, and nobody has permitted it yet.
    """
    services = call.services
    is_manager = call.identity().permissions.is_management
    if not is_manager and id_ not in services.view.state().allocations:
        await blocking.wait_until_linearizable(services, deadline_s=call.remaining_s())
    call.permit_if(lambda asking: _check_may_stop(asking, id_))


def _check_may_stop(call: Call, id_: str) -> None:
    """Refuse it unless the caller may do so in the allocation's namespace.

    One that may not be read either is as if it were not there.
    """
    if call.identity().permissions.is_management:
        return
    allocation = call.services.view.state().allocations.get(id_)
    if allocation is not None and call.may(ALLOC_LIFECYCLE, allocation.namespace):
        return
    if allocation is not None and call.may(READ_JOB, allocation.namespace):
        raise PermissionDeniedError(ALLOC_LIFECYCLE)
    raise ProblemError(Problem(404, ALLOCATION_NOT_FOUND))
