"""Nodes as their agents keep them: registration, heartbeat, events.

An agent proves itself by its node's SecretID. Only the digest goes on from here; the
secret itself is in no command, no answer and no log line.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from nodestate.api.authorization import may_add_nodes
from nodestate.api.bodies import decode_body
from nodestate.api.calls import LEADER_POLL_S, Call, Services, index_line
from nodestate.api.problems import (
    NO_LEADER,
    OUTCOME_UNKNOWN,
    refused,
    too_large,
)
from nodestate.api.replies import Reply
from nodestate.api.shapes import (
    EventsEmitted,
    EventsSent,
    HeartbeatSent,
    NodeRegistered,
    NodeSent,
    NodesRegistered,
    NodeWritten,
    RegistrationSent,
    ServerListed,
)
from nodestate.errors import NoLeaderError, OutcomeUnknownError, RequestError
from nodestate.model.command import (
    ANONYMOUS,
    EmitNodeEvents,
    RegisterNodes,
    Registration,
)
from nodestate.model.computed_class import compute_class
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.node import (
    DEFAULT_POOL,
    ELIGIBLE,
    INELIGIBLE,
    DrainStrategy,
    Node,
    NodeEvent,
    NodeKey,
    NodeStatus,
)
from nodestate.model.node_id import KEY_LENGTH, node_key
from nodestate.model.outcome import Accepted, Refused, RegistrationResult
from nodestate.model.question import (
    Answer,
    Heartbeat,
    HeartbeatAnswer,
    NotAnswered,
    Question,
    StartTimers,
    TimersAnswer,
)
from nodestate.model.timestamp import NANOSECONDS

INVALID_STATUS: Final = "invalid status for node"
MISSING_SECRET: Final = "missing node secret ID for client status update"  # noqa: S105  a text
MALFORMED_SECRET: Final = "SecretID must be a UUID"  # noqa: S105  a text
NO_EVENTS: Final = "no node events given"
FORCED_DEADLINE_NS: Final = -1_000_000_000
"""What an old agent's drain flag without a strategy means."""
TIMERS_S_MAX: Final = 1.0
"""How long a registration, done already, waits to be told its TTL."""
EVENTS_PER_CALL_MAX: Final = 1000

_POOL: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_ALL_POOLS: Final = "all"

# mypy knows no type of which a union is a value.
_ANSWER: Final[msgspec.msgpack.Decoder[Answer]] = msgpack_decoder(Answer)  # type: ignore[arg-type]


# Registration


async def register_nodes(call: Call) -> Reply:
    """Answer `PUT /v1/nodes`: one node, or many of which each is judged on its own."""
    config = call.services.config
    body = await call.body_within("batch_body_bytes_max", config.batch_body_bytes_max)
    sent = decode_body(body, RegistrationSent)
    if sent.nodes is None and len(body) > config.body_bytes_max:
        raise too_large(
            "the length of the body in bytes", "body_bytes_max", config.body_bytes_max
        )
    await call.prepare_write()
    if sent.nodes is None:
        return await _register_one(call, sent.node)
    if sent.node is not None:
        raise RequestError("the body has both Node and Nodes")
    if len(sent.nodes) > config.batch_nodes_max:
        raise too_large(
            "the number of Nodes", "batch_nodes_max", config.batch_nodes_max
        )
    return await _register_many(call, sent.nodes)


async def _register_one(call: Call, sent: NodeSent | None) -> Reply:
    if sent is None:
        raise RequestError("missing node for client registration")
    registration = _registration(sent)
    accepted, (ttl_ns,) = await _propose_registrations(call, (registration,))
    (result,) = accepted.registrations
    if result.refused is not None:
        raise refused(result.refused)
    servers = call.services.servers_listed()
    leader_address = call.services.leader_address()
    written = NodeWritten(
        eval_create_index=accepted.eval_create_index,
        eval_ids=result.eval_ids or None,
        heartbeat_ttl=ttl_ns,
        index=accepted.index,
        leader_rpc_addr=leader_address,
        node_modify_index=result.node_modify_index,
        num_nodes=accepted.node_count,
        servers=servers,
    )
    return call.json(written, headers=index_line(accepted.index))


async def _register_many(call: Call, sent: Sequence[NodeSent]) -> Reply:
    judged = [_judge(node) for node in sent]
    good = tuple(one for one in judged if isinstance(one, Registration))
    accepted = Accepted()
    ttls_ns: tuple[int, ...] = ()
    if good:
        accepted, ttls_ns = await _propose_registrations(call, good)
    results = iter(zip(accepted.registrations, ttls_ns, strict=True))
    servers = call.services.servers_listed()
    leader_address = call.services.leader_address()
    answers = [
        NodeRegistered(id=node.id, error=one)
        if isinstance(one, str)
        else _batch_result(node.id, *next(results), accepted, (leader_address, servers))
        for node, one in zip(sent, judged, strict=True)
    ]
    answer = NodesRegistered(index=accepted.index, results=tuple(answers))
    return call.json(answer, headers=index_line(accepted.index))


def _judge(sent: NodeSent) -> Registration | str:
    """Return the registration, or why it is refused."""
    try:
        return _registration(sent)
    except RequestError as error:
        return str(error)


def _batch_result(
    node_id: str,
    result: RegistrationResult,
    ttl_ns: int,
    accepted: Accepted,
    cluster: tuple[str, tuple[ServerListed, ...]],
) -> NodeRegistered:
    if result.refused is not None:
        return NodeRegistered(id=node_id, error=result.refused.reason)
    leader_address, servers = cluster
    return NodeRegistered(
        id=node_id,
        eval_create_index=accepted.index if result.eval_ids else 0,
        eval_ids=result.eval_ids or None,
        heartbeat_ttl=ttl_ns,
        index=accepted.index,
        leader_rpc_addr=leader_address,
        node_modify_index=result.node_modify_index,
        num_nodes=accepted.node_count,
        servers=servers,
    )


async def _propose_registrations(
    call: Call, registrations: tuple[Registration, ...]
) -> tuple[Accepted, tuple[int, ...]]:
    """Return what was accepted, and a TTL for each, in order."""
    if not await may_add_nodes(call, (one.key for one in registrations)):
        registrations = tuple(
            msgspec.structs.replace(one, is_known=True) for one in registrations
        )
    command = RegisterNodes(
        registrations=registrations,
        at_ns=call.services.clock.now_ns(),
        seed=call.services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    alive = tuple(
        registration.key
        for registration, result in zip(
            registrations, accepted.registrations, strict=True
        )
        if result.refused is None and not result.is_down
    )
    started = iter(await _start_timers(call.services, alive) if alive else ())
    ttls_ns = tuple(
        0 if result.refused is not None or result.is_down else next(started)
        for result in accepted.registrations
    )
    return accepted, ttls_ns


async def _start_timers(
    services: Services, keys: tuple[NodeKey, ...]
) -> tuple[int, ...]:
    """Return the TTLs that the leader gives.

    The nodes are registered already. Without the leader's word they are told the
    shortest TTL: a heartbeat too early does no harm.
    """
    shortest_ns = int(services.config.heartbeat_ttl_s_min * NANOSECONDS)
    try:
        answer = await ask_leader(services, StartTimers(keys), deadline_s=TIMERS_S_MAX)
    except (NoLeaderError, OutcomeUnknownError):
        answer = None
    if not isinstance(answer, TimersAnswer):
        return (shortest_ns,) * len(keys)
    return tuple(ttl_ns or shortest_ns for ttl_ns in answer.ttls_ns)


async def ask_leader(
    services: Services, question: Question, *, deadline_s: float
) -> Answer:
    """Return what the leader says, whichever server that is."""
    encoded = await services.leader_calls.ask_leader(
        MSGPACK.encode(question), deadline_s=deadline_s
    )
    return _ANSWER.decode(encoded)


def _registration(sent: NodeSent) -> Registration:
    """Return the registration, checked in Nomad's order; `RequestError` says what lacks."""
    _check_given(sent)
    status = NodeStatus.INITIALIZING
    if sent.status:
        status = _status(sent.status)
    key = node_key(sent.id)
    if len(key) != KEY_LENGTH:
        raise RequestError(f"node ID must have {KEY_LENGTH} hex digits")
    secret_sha256 = _digest(sent.secret_id)
    node = _node(sent, status)
    node = msgspec.structs.replace(node, computed_class=compute_class(node))
    return Registration(key=key, node=node, secret_sha256=secret_sha256)


def _check_given(sent: NodeSent) -> None:
    for value, what in (
        (sent.id, "node ID"),
        (sent.datacenter, "datacenter"),
        (sent.name, "node name"),
        (sent.attributes, "attributes"),
        (sent.secret_id, "node secret ID"),
    ):
        if not value:
            raise RequestError(f"missing {what} for client registration")
    if sent.node_pool and not _POOL.fullmatch(sent.node_pool):
        raise RequestError(
            "invalid node pool: must be 1 to 128 letters, digits, '-' and '_'"
        )
    if sent.node_pool == _ALL_POOLS:
        raise RequestError('node is not allowed to register in node pool "all"')


def _node(sent: NodeSent, status: NodeStatus) -> Node:
    """Return the record; of a known node the state machine keeps what is not the agent's."""
    strategy = sent.drain_strategy
    if sent.drain and strategy is None:
        strategy = DrainStrategy(deadline=FORCED_DEADLINE_NS)
    is_draining = strategy is not None
    eligibility = sent.scheduling_eligibility or ELIGIBLE
    return Node(
        id=sent.id,
        name=sent.name,
        datacenter=sent.datacenter,
        node_class=sent.node_class,
        node_pool=sent.node_pool or DEFAULT_POOL,
        http_addr=sent.http_addr,
        tls_enabled=sent.tls_enabled,
        attributes=sent.attributes,
        meta=sent.meta,
        links=sent.links,
        drivers=sent.drivers,
        host_volumes=sent.host_volumes,
        resources=sent.resources,
        reserved=sent.reserved,
        node_resources=sent.node_resources,
        reserved_resources=sent.reserved_resources,
        status=status,
        status_description=sent.status_description,
        # What drains is closed, whoever says that it drains.
        scheduling_eligibility=INELIGIBLE if is_draining else eligibility,
        drain=is_draining,
        drain_strategy=strategy,
    )


def _status(word: str) -> NodeStatus:
    try:
        return NodeStatus(word)
    except ValueError:
        raise RequestError(INVALID_STATUS) from None


# Heartbeat


async def heartbeat_node(call: Call) -> Reply:
    """Answer `PUT /v1/node/:id/heartbeat`, on the leader's word."""
    sent = await call.decoded(HeartbeatSent)
    await call.prepare_write()
    call.check_id_given()
    status = _status(sent.status) if sent.status else None
    services = call.services
    question = Heartbeat(
        key=call.node_key(),
        status=status,
        secret_sha256=proof(call, sent.secret_id),
        at_ns=services.clock.now_ns(),
        asked_by=ANONYMOUS,
        seed=services.ids.new_seed(),
    )
    answer = await _ask_until_answered(call, question)
    if isinstance(answer.outcome, Refused):
        raise refused(answer.outcome)
    accepted = answer.outcome
    if accepted.index:
        # What the leader has written is to be read here by whoever wrote it.
        await services.view.wait_until_applied(
            accepted.index, deadline_s=call.remaining_s()
        )
    written = NodeWritten(
        eval_create_index=accepted.eval_create_index,
        eval_ids=accepted.eval_ids or None,
        heartbeat_ttl=answer.ttl_ns,
        index=accepted.index if accepted.node_modify_index else 0,
        leader_rpc_addr=services.leader_address(),
        node_modify_index=accepted.node_modify_index,
        num_nodes=len(services.view.state().nodes),
        servers=services.servers_listed(),
    )
    return call.json(written, headers=index_line(written.index))


async def _ask_until_answered(call: Call, question: Heartbeat) -> HeartbeatAnswer:
    """Ask again as long as nothing can have come of it; a new leader takes a moment."""
    services = call.services
    while True:
        try:
            answer = await ask_leader(services, question, deadline_s=call.remaining_s())
        except NoLeaderError:
            answer = NotAnswered(reason="", may_apply=False)
        match answer:
            case HeartbeatAnswer():
                return answer
            case NotAnswered(may_apply=False):
                if call.is_out_of_time():
                    raise NoLeaderError(NO_LEADER)
                await services.clock.sleep(min(LEADER_POLL_S, call.remaining_s()))
            case _:
                raise OutcomeUnknownError(OUTCOME_UNKNOWN)


# Events


async def emit_events(call: Call) -> Reply:
    """Answer `PUT /v1/node/:id/events`."""
    sent = await call.decoded(EventsSent)
    await call.prepare_write()
    key = call.node_key()
    command = EmitNodeEvents(
        key=key,
        secret_sha256=proof(call, sent.secret_id),
        events=_events(call, sent.node_events),
        at_ns=call.services.clock.now_ns(),
    )
    accepted = await call.propose(command)
    return call.json(
        EventsEmitted(index=accepted.index), headers=index_line(accepted.index)
    )


def _events(call: Call, sent: Sequence[NodeEvent] | None) -> tuple[NodeEvent, ...]:
    if sent is None:
        raise RequestError(NO_EVENTS)
    if not sent:
        raise RequestError(f'{NO_EVENTS} for node "{call.id_text}"')
    if len(sent) > EVENTS_PER_CALL_MAX:
        raise too_large(
            "the number of NodeEvents", "events per call", EVENTS_PER_CALL_MAX
        )
    return tuple(msgspec.structs.replace(event, create_index=0) for event in sent)


# Proof


def proof(call: Call, sent: str) -> bytes:
    """Return the digest of the secret that the request came with."""
    secret = sent or call.token()
    if not secret:
        raise RequestError(MISSING_SECRET)
    return _digest(secret)


def _digest(secret: str) -> bytes:
    try:
        node_key(secret)
    except RequestError:
        # Not the text of that error: it shows a character.
        raise RequestError(MALFORMED_SECRET) from None
    return sha256(secret.encode("utf-8")).digest()
