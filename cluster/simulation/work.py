"""Work in a simulation: agents, operators, and the demand that all of it comes to rest."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final

from cluster.simulation.agents import Fleet
from cluster.simulation.judge import OP, Violation
from cluster.simulation.orders import order_of
from cluster.simulation.schedule import (
    Enlist,
    FailTask,
    Hush,
    OrderStep,
    Perish,
    WorkStep,
)
from cluster.simulation.servers import SimulatedCluster
from cluster.simulation.settled import unfinished
from cluster.simulation.work_judge import DRAINS, WorkJudge, left_behind
from cluster.simulation.workload import Workload
from nodestate.errors import NodestateError
from nodestate.model.node import NodeKey
from nodestate.model.request import IdempotencyKey

REST: Final = "work comes to rest"
QUIET: Final = "a quiet cluster writes nothing"

DEADLINE_S: Final = 1.5
SPARES: Final = ("spare1", "spare2")
SPARE_CPU: Final = 50_000
REST_S_MAX: Final = 450.0
"""Long enough for an evaluation that was given up, and is looked at again later."""
LOOK_S: Final = 0.5
BREATH_S: Final = 2.0


class Work:
    """What a schedule asks for beyond nodes, and what becomes of it."""

    def __init__(
        self, cluster: SimulatedCluster, workload: Workload, *, quiet_s: float
    ) -> None:
        self.fleet = Fleet(cluster, workload)
        self.judge = WorkJudge()
        self._quiet_s = quiet_s
        self._cluster = cluster
        self._workload = workload
        self._orders: list[asyncio.Task[None]] = []

    def take(self, step: WorkStep) -> None:
        """Let it be asked for, or happen to an agent."""
        if isinstance(step, Enlist | Hush | Perish | FailTask):
            self.fleet.take(step)
            return
        loop, context = self._cluster.loop, self._cluster.context.copy()
        self._orders.append(loop.create_task(self._order(step), context=context))

    async def _order(self, step: OrderStep) -> None:
        server = self._workload.find(step.server)
        if server is None:
            return
        kind = step.__struct_config__.tag
        command = order_of(step, at_ns=server.clock.now_ns())
        op = f"{OP}{step.op}"
        proposing = server.proposer.propose(
            command,
            deadline_s=DEADLINE_S,
            idempotency=IdempotencyKey(op, op.encode()),
        )
        try:
            await self._workload.ask_once(op, server, proposing)
        except NodestateError:
            self._cluster.judge.count(f"{kind} in vain")
        else:
            self._cluster.judge.count(f"{kind} done")

    def is_served(self, key: NodeKey) -> bool:
        """Say whether a node has an agent that lives."""
        agent = self.fleet.agents.get(key)
        return agent is not None and not agent.is_gone

    # The end

    async def come_to_rest(self) -> None:
        """Give the work room, wait until it is done, and demand that then all is quiet."""
        self.fleet.calm_down()
        for name in SPARES:
            self.fleet.enlist(NodeKey(name), SPARE_CPU)
        loop = self._cluster.loop
        began_s = loop.time()
        rested = 0
        while rested < BREATH_S / LOOK_S:
            await asyncio.sleep(LOOK_S)
            left = self._left()
            rested = 0 if left else rested + 1
            if left and loop.time() > began_s + REST_S_MAX:
                self._cluster.judge.blame(REST, "; ".join(left[:5]))
                return
        await self._stay_quiet()

    def _left(self) -> list[str]:
        leader = self._cluster.leader()
        if leader is None:
            return ["no leader"]
        missing = [
            name
            for name in SPARES
            if leader.replica.state().node(NodeKey(name)) is None
        ]
        return [*missing, *unfinished(leader.replica.state(), self.is_served)]

    async def _stay_quiet(self) -> None:
        written = self._last_index()
        term = self._term()
        await asyncio.sleep(self._quiet_s)
        if self._last_index() != written and self._term() == term:
            judge = self._cluster.judge
            commands = Counter(
                type(getattr(judge.body_at(index), "command", None)).__name__
                for index in judge.entries
                if index > written
            )
            judge.blame(QUIET, f"behind {written} came {dict(commands)}")

    def _last_index(self) -> int:
        return max(self._cluster.judge.entries, default=0)

    def _term(self) -> int:
        leader = self._cluster.leader()
        return 0 if leader is None else leader.replica.status().term

    async def finish(self) -> None:
        """Return when every agent and order has ended."""
        await self.fleet.finish()
        for order in self._orders:
            await order

    def violations(self) -> Iterator[Violation]:
        """Yield what was wrong, once the log has been applied again for the judge."""
        yield from self.judge.violations
        leader = self._cluster.leader()
        if leader is None:
            return
        state = leader.replica.state()
        for text in left_behind(state, self.judge.drained, self.is_served):
            yield Violation(DRAINS, text)
