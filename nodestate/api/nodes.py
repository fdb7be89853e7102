"""Nodes as operators see them: list, read, evaluate, drain, purge, eligibility."""

import json
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from nodestate.api import blocking, parameters
from nodestate.api.cache import Pace, encode_stubs, slices
from nodestate.api.calls import AGENT_PREFIX, Call, index_line, text_reply
from nodestate.api.listing import encode_parts, filter_of, list_body
from nodestate.api.parameters import PLAIN_READ, ReadOptions
from nodestate.api.replies import JSON_TYPE, Body, Reply
from nodestate.api.shapes import (
    DrainSent,
    DrainSpecSent,
    EligibilitySent,
    NodeWritten,
    describe_update,
    prettify,
)
from nodestate.errors import RequestError
from nodestate.fsm.state import NODES, State
from nodestate.model.command import EvaluateNode, PurgeNodes, SetDrain, SetEligibility
from nodestate.model.node import (
    ELIGIBLE,
    INELIGIBLE,
    DrainStrategy,
    Node,
    NodeKey,
)
from nodestate.model.node_id import node_key, node_key_prefix
from nodestate.model.outcome import NODE_NOT_FOUND, Accepted
from nodestate.query.paging import Page, parse_per_page, parse_token, read_page
from nodestate.watch import prefix_key, record_key, table_key

INVALID_ENABLE: Final = "invalid enable value"
NODE_EVENT_SET: Final = "node event must not be set"
FORCED_DEADLINE_NS: Final = -1_000_000_000
"""What the old form of a drain request means."""
WORD_SHOWN_MAX: Final = 64

_BEHIND_HEX_DIGITS: Final = "g"

_LIST_PARAMETERS: Final = frozenset(
    {"prefix", "filter", "per_page", "next_token", "resources", "os", "pretty"}
)


def list_index(state: State) -> int:
    """Return the index of a list; never 0, which would make a waiting client spin."""
    return max(state.table_index(NODES), 1)


# Reading one


async def read_node(call: Call) -> Reply:
    """Answer `GET /v1/node/:id`."""
    options = call.read_options()
    services = call.services
    contact = None
    if options is PLAIN_READ:
        contact = blocking.contact_if_fresh(services)
    if contact is None:
        await blocking.wait_until_fresh(call, options)
    key = call.node_key()
    if options.index:

        def current_index(state: State) -> int:
            node = state.node(key)
            return list_index(state) if node is None else node.modify_index

        watched = record_key(NODES, key)
        await blocking.wait_until_past(call, options, watched, current_index)
    state = services.view.state()
    node = state.node(key)
    if contact is None:
        contact = blocking.contact_lines(services, options)
    if node is None:
        headers = index_line(list_index(state)) + contact
        return text_reply(404, NODE_NOT_FOUND, headers)
    encoded = services.nodes.encoded(key, node)
    body = encoded.body
    if call.is_pretty():
        body = Body(prettify(body.plain))
    return Reply(200, encoded.headers + contact, body)


# Reading all


async def list_nodes(call: Call) -> Reply:
    """Answer `GET /v1/nodes`."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    if _LIST_PARAMETERS.isdisjoint(call.query):
        return await _list_all(call, options)
    return await _list_some(call, options)


async def _list_all(call: Call, options: ReadOptions) -> Reply:
    services = call.services
    if options.index:
        await blocking.wait_until_past(call, options, table_key(NODES), list_index)
    listed = await services.lists.at_least(services.view.state())
    index = index_line(max(listed.index, 1))
    contact = blocking.contact_lines(services, options)
    return Reply(200, JSON_TYPE + index + contact, listed.body)


async def _list_some(call: Call, options: ReadOptions) -> Reply:
    """Answer a list that is made for this request alone, in slices over a copy."""
    query, services = call.query, call.services
    prefix = node_key_prefix(query.get("prefix", ""))
    wanted = filter_of(query.get("filter", ""), Node)
    per_page = parse_per_page(query.get("per_page", ""))
    token = parse_token(query.get("next_token", ""))
    shows_resources = parameters.read_field_flag(query, "resources")
    shows_os = parameters.read_field_flag(query, "os")
    if options.index:
        watched = prefix_key(NODES, prefix) if prefix else table_key(NODES)
        await blocking.wait_until_past(call, options, watched, list_index)
    state = services.view.state()
    headers = index_line(list_index(state)) + blocking.contact_lines(services, options)
    page = await _read_in_slices(
        call,
        state,
        prefix=prefix,
        token=token,
        per_page=per_page,
        matches=wanted.matches if wanted is not None else None,
    )
    if shows_resources or shows_os:
        parts = await encode_stubs(
            page.nodes,
            services.clock,
            shows_resources=shows_resources,
            shows_os=shows_os,
        )
    else:
        parts = await encode_parts(
            services.clock, page.nodes, services.lists.stubs.stub
        )
    if page.next_token:
        token_bytes = page.next_token.encode("ascii")
        headers += b"X-Nomad-NextToken: %b\r\n" % token_bytes
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


async def _read_in_slices(
    call: Call,
    state: State,
    *,
    prefix: str,
    token: str,
    per_page: int,
    matches: Callable[[Node], bool] | None,
) -> Page:
    """Return a page of the state as it is at the call, though others have their turn."""
    first = bisect_left(state.node_keys, max(prefix, token))
    end = bisect_left(state.node_keys, prefix + _BEHIND_HEX_DIGITS)
    keys, nodes = state.node_keys[first:end], state.nodes.copy()
    # One more than the page has: that is where the next one begins.
    wanted_count = per_page + 1 if per_page else 0
    found: list[Node] = []
    pace = Pace(call.services.clock)
    for piece in slices(len(keys)):
        part = State()
        part.node_keys, part.nodes = keys[piece], nodes
        limit = wanted_count - len(found) if wanted_count else 0
        found += read_page(part, per_page=limit, matches=matches).nodes
        if wanted_count and len(found) == wanted_count:
            return Page(found[:-1], next_token=found[-1].id)
        await pace.pause_if_due()
    return Page(found, next_token="")


# Writing


async def evaluate_node(call: Call) -> Reply:
    """Answer `PUT /v1/node/:id/evaluate`; whatever the body says."""
    await call.prepare_write()
    services = call.services
    command = EvaluateNode(
        key=call.node_key(),
        at_ns=services.clock.now_ns(),
        seed=services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    written = NodeWritten(
        eval_create_index=accepted.eval_create_index,
        eval_ids=accepted.eval_ids or None,
        index=accepted.index,
        leader_rpc_addr=services.leader_address(),
        num_nodes=accepted.node_count,
        servers=services.servers_listed(),
    )
    return call.json(written, headers=index_line(accepted.index))


async def purge_node(call: Call) -> Reply:
    """Answer `PUT /v1/node/:id/purge`; whatever the body says."""
    await call.prepare_write()
    command = PurgeNodes(
        keys=(call.node_key(),),
        at_ns=call.services.clock.now_ns(),
        seed=call.services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    written = NodeWritten(
        eval_create_index=accepted.eval_create_index,
        eval_ids=accepted.eval_ids or None,
        index=accepted.index,
        node_modify_index=accepted.node_modify_index,
    )
    return call.json(written, headers=index_line(accepted.index))


async def drain_node(call: Call) -> Reply:
    """Answer `PUT /v1/node/:id/drain`."""
    sent = _drain_by_parameter(call.query.get("enable", ""))
    if sent is None:
        sent = await call.decoded(DrainSent)
    await call.prepare_write()
    key = call.node_key()
    _check_same_node(sent.node_id, key)
    spec = sent.drain_spec
    command = SetDrain(
        key=key,
        strategy=None
        if spec is None
        else DrainStrategy(
            deadline=spec.deadline, ignore_system_jobs=spec.ignore_system_jobs
        ),
        mark_eligible=sent.mark_eligible,
        accessor_id=_accessor_text(call),
        meta=sent.meta,
        at_ns=call.services.clock.now_ns(),
        seed=call.services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    return _updated(call, accepted)


def _accessor_text(call: Call) -> str:
    """Return who drains, as `LastDrain` has it."""
    accessor_id = call.identity().token.accessor_id
    is_agent = accessor_id.startswith(AGENT_PREFIX)
    return accessor_id if is_agent else f"token:{accessor_id}"


def _drain_by_parameter(text: str) -> DrainSent | None:
    """Return what the old parameter asks for, which spares the body; `None` without it."""
    if not text:
        return None
    is_enabled = parameters.parse_boolean(text)
    if is_enabled is None:
        raise RequestError(INVALID_ENABLE)
    if is_enabled:
        return DrainSent(drain_spec=DrainSpecSent(deadline=FORCED_DEADLINE_NS))
    return DrainSent(mark_eligible=True)


async def set_eligibility(call: Call) -> Reply:
    """Answer `PUT /v1/node/:id/eligibility`."""
    sent = await call.decoded(EligibilitySent)
    await call.prepare_write()
    call.check_id_given()
    if sent.node_event is not None:
        raise RequestError(NODE_EVENT_SET)
    if sent.eligibility not in {ELIGIBLE, INELIGIBLE}:
        word = json.dumps(sent.eligibility[:WORD_SHOWN_MAX], ensure_ascii=False)
        raise RequestError(f"invalid scheduling eligibility {word}")
    key = call.node_key()
    _check_same_node(sent.node_id, key)
    command = SetEligibility(
        key=key,
        eligibility=sent.eligibility,
        at_ns=call.services.clock.now_ns(),
        seed=call.services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    return _updated(call, accepted)


def _check_same_node(sent_id: str, key: NodeKey) -> None:
    """Refuse a body that names another node than the path: the path was permitted."""
    if not sent_id:
        return
    try:
        is_same = node_key(sent_id) == key
    except RequestError:
        is_same = False
    if not is_same:
        raise RequestError("NodeID in the body is not the node in the path")


def _updated(call: Call, accepted: Accepted) -> Reply:
    answer = describe_update(accepted)
    return call.json(answer, headers=index_line(accepted.index))
