"""A fleet of simulated nodes in this process.

    async with AgentFleet(clients, FleetSpec(node_count=20), clock=..., ids=...) as fleet:
        fleet.lose(3)
        ...
        fleet.bring_back()

The clients are opened and closed by the fleet, which takes as many connections as there
are nodes, and a few more: every node holds one to watch with.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from nodestate.agents.agent import NodeAgent, Tally
from nodestate.agents.fates import Behaviour, draw
from nodestate.agents.identities import FleetSpec, identities
from nodestate.agents.servers import Servers
from nodestate.answers import Registered
from nodestate.client import Client
from nodestate.clock import Clock, IdSource
from nodestate.errors import NodestateError, ResponseError
from nodestate.model.allocation import CLIENT_STATUSES
from nodestate.model.node import NodeStatus, Record

REGISTRATIONS_PER_CALL_MAX: Final = 500
GOODBYES_AT_ONCE_MAX: Final = 16
CONNECTIONS_SPARE: Final = 64
"""What a client needs for everything but the watches."""

_DEFAULT_BEHAVIOUR: Final = Behaviour()


def connections_needed(spec: FleetSpec) -> int:
    """Return how many connections a client has open at most."""
    return spec.node_count + CONNECTIONS_SPARE


class FleetCounts(Record, frozen=True, kw_only=True):
    """How a fleet does: nodes and allocations now, all else since it began."""

    nodes_up: int
    nodes_silent: int
    nodes_refused: int
    allocations: dict[str, int]
    heartbeats: int
    heartbeats_late: int
    reads: int
    reports: int
    allocations_reported: int
    errors: int
    last_error: str


class AgentFleet:
    """Many nodes; use it as an asynchronous context."""

    def __init__(
        self,
        clients: Sequence[Client],
        spec: FleetSpec,
        behaviour: Behaviour = _DEFAULT_BEHAVIOUR,
        *,
        clock: Clock,
        ids: IdSource,
        latency_s: float = 0.0,
    ) -> None:
        self.spec = spec
        self._clients = clients
        self._tally = Tally()
        self._servers = Servers(clients, clock=clock, ids=ids, latency_s=latency_s)
        self._refused_count = 0
        self._opened = AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._loss_count = 0
        self.agents = tuple(
            NodeAgent(
                identity,
                self._servers,
                behaviour,
                spec.seed,
                self._tally,
                clock=clock,
                ids=ids,
            )
            for identity in identities(spec)
        )

    async def __aenter__(self) -> Self:
        """Register all nodes and start them; `NodestateError` if none is accepted."""
        try:
            for client in self._clients:
                client.connections_max = max(
                    client.connections_max, connections_needed(self.spec)
                )
                await self._opened.enter_async_context(client)
            accepted = await self._register(NodeStatus.READY)
            # Not entered before: it would have to be left with the error of the above.
            self._tasks = await self._opened.enter_async_context(asyncio.TaskGroup())
        except BaseException:
            await self._opened.aclose()
            raise
        for agent in accepted:
            self._running[agent.node_id] = self._tasks.create_task(agent.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop all nodes at once; the servers are told nothing."""
        self._stop()
        try:
            return await self._opened.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            if group.exceptions == (error,):
                return None  # no node's: it goes on as it was raised
            raise

    def counts(self) -> FleetCounts:
        """Return how the fleet does."""
        silent_count = sum(agent.is_silent for agent in self.agents)
        statuses = Counter(
            machine.client_status
            for agent in self.agents
            for machine in agent.machines.values()
        )
        tally, servers = self._tally, self._servers
        return FleetCounts(
            nodes_up=len(self.agents) - silent_count - self._refused_count,
            nodes_silent=silent_count,
            nodes_refused=self._refused_count,
            allocations={status: statuses[status] for status in CLIENT_STATUSES},
            heartbeats=tally.heartbeat_count,
            heartbeats_late=tally.late_heartbeat_count,
            reads=tally.read_count,
            reports=tally.report_count,
            allocations_reported=tally.reported_allocation_count,
            errors=servers.error_count,
            last_error=servers.last_error,
        )

    def lose(self, count: int) -> list[NodeAgent]:
        """Have that many nodes fall silent, and return them; the seed says which."""
        self._loss_count += 1
        turn = str(self._loss_count)
        heard = [
            agent
            for agent in self.agents
            if agent.node_id in self._running and not agent.is_silent
        ]
        heard.sort(key=lambda agent: draw(self.spec.seed, "lose", turn, agent.node_id))
        lost = heard[:count]
        for agent in lost:
            agent.fall_silent()
        return lost

    def bring_back(self, agents: Sequence[NodeAgent] | None = None) -> int:
        """Have these nodes be heard again, or all; return how many that were not."""
        silent = [agent for agent in agents or self.agents if agent.is_silent]
        for agent in silent:
            agent.come_back()
        return len(silent)

    def set_latency(self, latency_s: float) -> None:
        """Hold every request up by about so long from now on."""
        self._servers.latency_s = latency_s

    async def leave(self) -> None:
        """Stop all nodes and mark them down, as agents that are shut down do."""
        self._stop()
        await self._register(NodeStatus.DOWN)

    async def purge(self) -> int:
        """Stop all nodes and remove them; return how many were there to be removed."""
        self._stop()
        places = asyncio.Semaphore(GOODBYES_AT_ONCE_MAX)

        async def purge_one(agent: NodeAgent) -> bool:
            async with places:
                return await self._purge(agent)

        return sum(await asyncio.gather(*map(purge_one, self.agents)))

    async def _purge(self, agent: NodeAgent) -> bool:
        identity = agent.identity
        try:
            await self._servers.ask(
                identity.number, lambda client: client.purge(identity.node_id)
            )
        except ResponseError as error:
            if error.status != 404:
                self._servers.note(error)
            return False
        except NodestateError:
            return False
        return True

    async def _register(self, status: NodeStatus) -> list[NodeAgent]:
        """Register all nodes, many in one call; return those that were accepted."""
        accepted: list[NodeAgent] = []
        refusal: ResponseError | None = None
        for first in range(0, len(self.agents), REGISTRATIONS_PER_CALL_MAX):
            batch = self.agents[first : first + REGISTRATIONS_PER_CALL_MAX]
            results = await self._register_batch(first, batch, status)
            for agent, result in zip(batch, results, strict=True):
                if result.error:
                    refusal = ResponseError(400, f"{result.id}: {result.error}")
                    self._servers.note(refusal)
                else:
                    agent.registered(result)
                    accepted.append(agent)
        self._refused_count = len(self.agents) - len(accepted)
        if refusal is not None and not accepted:
            raise refusal
        return accepted

    async def _register_batch(
        self, number: int, batch: Sequence[NodeAgent], status: NodeStatus
    ) -> Sequence[Registered]:
        nodes = [agent.identity.registration(status) for agent in batch]
        answer = await self._servers.ask(
            number // REGISTRATIONS_PER_CALL_MAX,
            lambda client: client.register_batch(nodes),
        )
        return answer.results

    def _stop(self) -> None:
        for task in self._running.values():
            task.cancel()
        self._running.clear()
