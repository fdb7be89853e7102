"""What a handler is given: one request, and the services that answer it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from multidict import istr
from structlog.typing import FilteringBoundLogger

from nodestate.acl.permissions import MANAGEMENT, NOTHING
from nodestate.acl.policies import Capability
from nodestate.acl.resolve import (
    NOT_FOUND,
    Identity,
    Resolver,
    Unresolved,
    nodes_with_secret,
)
from nodestate.api import bodies, idempotency, parameters, problems
from nodestate.api.cache import ListCache, NodeCache
from nodestate.api.connections import Connection
from nodestate.api.kept import RecordCache
from nodestate.api.needs import OF_AGENTS, Agents, Need
from nodestate.api.parameters import NO_QUERY, Query, ReadOptions
from nodestate.api.problems import (
    MISSING_NODE_ID,
    NO_LEADER,
    Problem,
    ProblemError,
    refused,
    too_many,
)
from nodestate.api.rates import WaiterCounts
from nodestate.api.replies import JSON_TYPE, TEXT_TYPE, Body, Reply
from nodestate.api.shapes import ServerListed, encode, list_servers, prettify
from nodestate.api.work_cache import WorkCache
from nodestate.clock import Clock, IdSource
from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, PermissionDeniedError, RequestError
from nodestate.fsm.permits import permit_of
from nodestate.fsm.state import State
from nodestate.model.acl import (
    ACLS_DISABLED_TOKEN,
    ANONYMOUS_TOKEN,
    CLIENT,
    ACLToken,
)
from nodestate.model.command import ANONYMOUS, Command, Permit
from nodestate.model.job import JobKey
from nodestate.model.node import NodeKey
from nodestate.model.node_id import node_key
from nodestate.model.outcome import Accepted, Outcome, RefusalCode, Refused
from nodestate.model.request import IdempotencyKey
from nodestate.ports import (
    ClusterAdmin,
    LeaderCalls,
    Leadership,
    Proposer,
    SnapshotUpload,
    StateView,
)
from nodestate.telemetry import MetricsRegistry
from nodestate.watch import Watch

LEADER_POLL_S: Final = 0.05
"""How often a request that needs a leader looks whether there is one."""
DEADLINE_S_MIN: Final = 0.001
NODE_KEYS_KEPT_MAX: Final = 20_000
"""Ids whose keys are remembered: parsing one costs as much as all else about a path."""

_READS: Final = frozenset({"GET", "HEAD"})
X_NOMAD_TOKEN: Final = istr("X-Nomad-Token")
AUTHORIZATION: Final = istr("Authorization")

WITHOUT_ACLS: Final = Identity(ACLS_DISABLED_TOKEN, MANAGEMENT)
UNASKED: Final = Identity(ANONYMOUS_TOKEN, NOTHING)
"""Who asks for what is open to everybody: no token was looked at."""
AGENT_PREFIX: Final = "client:"
"""Before a node's id, who asks where its SecretID did in place of a token."""

T = TypeVar("T", bound=msgspec.Struct)


class Dependencies(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that this room uses; `server.py` puts it together.

    `is_in_dispute` says whether no majority of servers has the same state;
    `receive_snapshot` begins one that a client sends.
    """

    config: ServerConfig
    proposer: Proposer
    view: StateView
    leadership: Leadership
    leader_calls: LeaderCalls
    admin: ClusterAdmin
    is_in_dispute: Callable[[], bool]
    receive_snapshot: Callable[[], SnapshotUpload]
    watch: Watch
    clock: Clock
    ids: IdSource
    metrics: MetricsRegistry
    logger: FilteringBoundLogger


class Services:
    """What all requests share: the dependencies, the caches, and who is under way."""

    def __init__(self, dependencies: Dependencies) -> None:
        self.config = dependencies.config
        self.proposer = dependencies.proposer
        self.view = dependencies.view
        self.leadership = dependencies.leadership
        self.leader_calls = dependencies.leader_calls
        self.admin = dependencies.admin
        self.is_in_dispute = dependencies.is_in_dispute
        self.receive_snapshot = dependencies.receive_snapshot
        self.watch = dependencies.watch
        self.clock = dependencies.clock
        self.ids = dependencies.ids
        self.metrics = dependencies.metrics
        self.logger = dependencies.logger
        self.bare_read = parameters.bare_read(dependencies.config)
        self.resolver = Resolver()
        self.unasked = UNASKED if dependencies.config.acl_enabled else WITHOUT_ACLS
        self.nodes = NodeCache()
        self.lists = ListCache(dependencies.clock)
        self.work = WorkCache(dependencies.clock)
        self.jobs: RecordCache[JobKey] = RecordCache()
        self.job_stubs: RecordCache[JobKey] = RecordCache()
        self.job_stubs_of_all: RecordCache[JobKey] = RecordCache()
        self.waiters = WaiterCounts(dependencies.config)
        self.waiting_count = 0
        self.writing_count = 0
        self.snapshot_count = 0
        self.dry_run_count = 0
        self.restore_count = 0
        self.is_stopping = False

    def stop(self) -> None:
        """Answer whoever waits with what there is: the server is about to end."""
        self.is_stopping = True
        self.watch.wake_all()

    def leader_address(self) -> str:
        """Return where the leader's peers reach it, nothing if none is known."""
        leader_id = self.leadership.status().leader_id
        for server in self.leadership.servers():
            if server.server_id == leader_id:
                return server.peer_address
        return ""

    def servers_listed(self) -> tuple[ServerListed, ...]:
        """Return the servers as agents are told of them."""
        return list_servers(self.leadership.servers(), self.config.datacenter)


class Call:
    """One request on its way; `id_text` is the id in the path, as written.

    `is_replayed` is set when the outcome is that of an earlier request with its key.
    """

    __slots__ = (
        "_checks",
        "_content",
        "_identity",
        "_key",
        "_need",
        "_permit",
        "id_text",
        "is_replayed",
        "query",
        "request",
        "services",
        "started_at_s",
    )

    def __init__(
        self,
        services: Services,
        request: web.BaseRequest,
        id_text: str,
        query_text: str,
        started_at_s: float,
    ) -> None:
        self.services = services
        self.request = request
        self.id_text = id_text
        self.query: Query = (
            parameters.parse_query(query_text) if query_text else NO_QUERY
        )
        self.started_at_s = started_at_s
        self.is_replayed = False
        self._checks: tuple[Callable[[Call], None], ...] = ()
        self._content = b""
        self._identity = services.unasked
        self._key = ""
        self._need: Need | None = None
        self._permit: Permit | None = None

    # What was asked

    def read_options(self) -> ReadOptions:
        """Judge the parameters that every read has, in Nomad's order."""
        if not self.query:
            return self.services.bare_read
        config = self.services.config
        options = parameters.parse_read_options(self.query, config)
        self.is_pretty()
        parameters.check_region(self.query, config)
        return options

    def is_pretty(self) -> bool:
        """Say whether the answer is for people."""
        return bool(self.query) and parameters.read_flag(self.query, "pretty")

    async def body(self) -> bytes:
        """Return the body of a request that changes one node."""
        limit = self.services.config.body_bytes_max
        return await self.body_within("body_bytes_max", limit)

    async def body_within(self, setting: str, limit: int) -> bytes:
        """Return the body, of at most `limit` bytes."""
        self._content = await bodies.read_body(
            self.request, setting=setting, limit=limit
        )
        return self._content

    def stand_for(self, digest: bytes) -> None:
        """Take this for the body, which is not held, where requests are told apart."""
        self._content = digest

    async def decoded(self, kind: type[T]) -> T:
        """Return the body as a shape."""
        return bodies.decode_body(await self.body(), kind)

    def token(self) -> str:
        """Return the token that the request came with, nothing if it has none."""
        headers = self.request.headers
        token = headers.get(X_NOMAD_TOKEN, "").strip()
        if token:
            return token
        scheme, _, bearer = headers.get(AUTHORIZATION, "").strip().partition(" ")
        return bearer.strip() if scheme.lower() == "bearer" else ""

    # Who asks

    def identity(self) -> Identity:
        """Return who asks, and what they may do, as of when it was permitted.

        Without ACLs that is everything. An agent that shows its node's SecretID has no
        token: what stands for it is called `client:` and the node's id.
        """
        return self._identity

    def asked_by(self) -> str:
        """Return who asks, as commands have it."""
        accessor_id = self._identity.token.accessor_id
        return ANONYMOUS if self._identity is WITHOUT_ACLS else accessor_id

    def may(self, capability: Capability, namespace: str) -> bool:
        """Say whether the caller may do this in a namespace."""
        return self._identity.permissions.allows_namespace(namespace, capability)

    def sees(self, capability: Capability) -> Callable[[str], bool] | None:
        """Return which namespaces a list may show, `None` for all of them."""
        if self._identity.permissions.is_management:
            return None
        return lambda namespace: self.may(capability, namespace)

    def permit(self, need: Need) -> None:
        """Refuse the request unless its caller meets the need, by the state as it is now."""
        state = self.services.view.state()
        identity = self._identify(state, need)
        accessor_id = identity.token.accessor_id
        self._need = need
        self._identity = identity
        is_read = self.request.method in _READS
        is_free = is_read or self.is_agents_change()
        self._permit = None if is_free else permit_of(state, accessor_id)

    def is_agents_change(self) -> bool:
        """Say whether an agent changes something by its node's SecretID alone."""
        is_agent = self._identity.token.accessor_id.startswith(AGENT_PREFIX)
        return is_agent and self.request.method not in _READS

    def permit_if(self, check: Callable[["Call"], None]) -> None:
        """Refuse what a check raises an error for: what only a record or the body can tell.

        It is made whenever the request is permitted again, or what was taken away there
        would be permitted by the need alone.
        """
        check(self)
        self._checks += (check,)

    def permit_again(self) -> None:
        """Do the same once the state is known to be newer, with the checks so far."""
        if self._need is None:
            return
        self.permit(self._need)
        for check in self._checks:
            check(self)

    def _identify(self, state: State, need: Need) -> Identity:
        services, secret = self.services, self.token()
        found = services.resolver.resolve(state, secret, services.clock.now_ns())
        if isinstance(found, Unresolved):
            agent = self._agent(state, secret, need) if found is NOT_FOUND else None
            if agent is None:
                raise ProblemError(Problem(403, found.text))
            return agent
        assert need.is_met is not None, "what is open is not asked for"
        if not need.is_met(found.permissions, self.query):
            raise PermissionDeniedError(need.name)
        return found

    def _agent(self, state: State, secret: str, need: Need) -> Identity | None:
        """Return whose node's SecretID this is, if that does here."""
        if need.agents is Agents.NONE:
            return None
        keys = nodes_with_secret(state, secret)
        if need.agents is Agents.OWN:
            keys = [key for key in keys if self._names(key)]
        if not keys:
            return None
        accessor_id = f"{AGENT_PREFIX}{state.nodes[keys[0]].id}"
        return Identity(ACLToken(accessor_id=accessor_id, type=CLIENT), OF_AGENTS)

    def _names(self, key: NodeKey) -> bool:
        """Say whether the path names this node."""
        try:
            return self.node_key() == key
        except RequestError:
            return False

    def has_certificate(self) -> bool:
        """Say whether the client has shown a certificate that the server trusts."""
        transport = self.request.transport
        return transport is not None and bool(transport.get_extra_info("peercert"))

    # What it is about

    def check_id_given(self) -> None:
        """Refuse a path that lacks the id."""
        if not self.id_text:
            raise RequestError(MISSING_NODE_ID)

    def node_key(self) -> NodeKey:
        """Return the key of the node that the path names."""
        return _known_node_key(self.id_text)

    def connection(self) -> Connection:
        """Return the connection that the request came by."""
        protocol = self.request.protocol
        assert isinstance(protocol, Connection)
        return protocol

    # Time

    def remaining_s(self) -> float:
        """Return how long the request may still take; never nothing."""
        elapsed_s = self.services.clock.monotonic_s() - self.started_at_s
        return max(self.services.config.propose_timeout_s - elapsed_s, DEADLINE_S_MIN)

    def restart_clock(self) -> None:
        """Give what follows as much time as a request of its own has."""
        self.started_at_s = self.services.clock.monotonic_s()

    def is_out_of_time(self) -> bool:
        """Say whether a request that needs the leader has waited long enough."""
        return self.remaining_s() <= DEADLINE_S_MIN

    # Writing

    async def prepare_write(self) -> None:
        """Judge what every write must pass before its own checks: key, region, leader."""
        self._key = idempotency.read_key(self.request.headers)
        if self.query:
            parameters.check_region(self.query, self.services.config)
            self.is_pretty()
        if self.services.leadership.status().leader_id is None:
            await self.wait_for_leader()

    async def wait_for_leader(self) -> None:
        """Return once a leader is known; `NoLeaderError` if that takes too long."""
        services = self.services
        while services.leadership.status().leader_id is None:
            if self.is_out_of_time():
                raise NoLeaderError(NO_LEADER)
            await services.clock.sleep(min(LEADER_POLL_S, self.remaining_s()))

    async def propose(self, command: Command) -> Accepted:
        """Return what was accepted; a refusal is a `ProblemError`.

        What was permitted by a token or a policy that has changed meanwhile is looked at
        again, and proposed again if it is still permitted.
        """
        services = self.services
        limit = services.config.proposals_max
        if services.writing_count >= limit:
            raise too_many("writes under way", "proposals_max", limit)
        services.writing_count += 1
        try:
            outcome = await self._propose_signed(command)
            while _is_outdated(outcome) and not self.is_out_of_time():
                self.permit_again()
                outcome = await self._propose_signed(command)
        finally:
            services.writing_count -= 1
        self.is_replayed = outcome.is_replayed
        if isinstance(outcome, Refused):
            raise refused(outcome)
        return outcome

    async def _propose_signed(self, command: Command) -> Outcome:
        if self._need is not None:
            command = msgspec.structs.replace(
                command, asked_by=self.asked_by(), permit=self._permit
            )
        return await self.services.proposer.propose(
            command, deadline_s=self.remaining_s(), idempotency=self._idempotency()
        )

    def _idempotency(self) -> IdempotencyKey | None:
        """Return the caller's key, and what it stands for; a body not read is no part."""
        if not self._key:
            return None
        fingerprint = idempotency.fingerprint(
            self.request.raw_path.partition("?")[0],
            self.query,
            token=self.token(),
            content=self._content,
        )
        return IdempotencyKey(self._key, fingerprint)

    # Answering

    def json(self, value: object, *, headers: bytes = b"", status: int = 200) -> Reply:
        """Return an answer in JSON that is not kept."""
        return self.encoded(encode(value), headers=headers, status=status)

    def encoded(
        self, encoded: bytes, *, headers: bytes = b"", status: int = 200
    ) -> Reply:
        """Return an answer of JSON that is encoded already."""
        if self.is_pretty():
            encoded = prettify(encoded)
        return Reply(status, JSON_TYPE + headers, Body(encoded))


def _is_outdated(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.code is RefusalCode.OUTDATED_PERMIT


@lru_cache(maxsize=NODE_KEYS_KEPT_MAX)
def _known_node_key(text: str) -> NodeKey:
    if not text:
        raise RequestError(MISSING_NODE_ID)
    return node_key(text)


def index_line(index: int) -> bytes:
    """Return the header that says of which index an answer is."""
    return b"X-Nomad-Index: %d\r\n" % index


def text_reply(status: int, text: str, headers: bytes = b"") -> Reply:
    """Return an answer in plain text."""
    return Reply(status, TEXT_TYPE + headers, Body(text.encode("utf-8", "replace")))


def problem_reply(problem: problems.Problem, *, is_write: bool) -> Reply:
    """Return the answer to what went wrong."""
    headers = problem.headers
    if is_write:
        headers += b"X-Nodestate-Outcome: %b\r\n" % problem.outcome
    reply = text_reply(problem.status, problem.text, headers)
    reply.closes = problem.closes
    return reply
