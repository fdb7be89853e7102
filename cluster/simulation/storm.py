"""A random life of a cluster, drawn from one seed, and whether it kept its promises."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import msgspec

from cluster.simulation import loop
from cluster.simulation.servers import SimulatedCluster, SimulatedServer
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.model.command import Command, RegisterNodes, Registration
from nodestate.model.node import Node, NodeKey, NodeStatus
from nodestate.replication.entries import Envelope, decode_body

CLIENT_COUNT: Final = 6
PROPOSE_S: Final = 3.0
SETTLE_S_MAX: Final = 40.0
SETTINGS: Final = {
    "election_timeout_s_min": 0.5,
    "election_timeout_s_max": 1.0,
    "segment_bytes": 1 << 16,
}


class Verdict(msgspec.Struct, frozen=True):
    """What became of one storm; `violations` is empty if all promises were kept."""

    seed: int
    violations: tuple[str, ...]
    acknowledged_count: int
    unknown_count: int
    refused_count: int
    term: int
    entry_count: int


class Storm:
    """Clients that propose, faults that come and go, and then a calm to judge in."""

    def __init__(self, seed: int, server_count: int, duration_s: float) -> None:
        self.cluster = SimulatedCluster(seed, server_count, SETTINGS)
        self._seed = seed
        self._duration_s = duration_s
        self._rng: random.Random = self.cluster.rng
        self._is_over = False
        self._command_count = 0
        self._acknowledged: list[NodeKey] = []
        self._unknown: list[NodeKey] = []
        self._refused: list[NodeKey] = []
        self._violations: list[str] = []

    async def play(self) -> Verdict:
        """Live it through and judge it."""
        for name in self.cluster.configs:
            await self.cluster.start(name)
        clients = [
            asyncio.create_task(self._propose_on_and_on()) for _ in range(CLIENT_COUNT)
        ]
        faults = asyncio.create_task(self._harm_on_and_on())
        await asyncio.sleep(self._duration_s)
        self._is_over = True
        faults.cancel()
        await asyncio.wait([faults, *clients])
        for task in clients:
            task.result()
        await self._calm_down()
        self._judge()
        status = [server.replica.status() for server in self.cluster.servers.values()]
        await self.cluster.stop()
        return Verdict(
            seed=self._seed,
            violations=(*self._violations, *self.cluster.watcher.violations),
            acknowledged_count=len(self._acknowledged),
            unknown_count=len(self._unknown),
            refused_count=len(self._refused),
            term=max(one.term for one in status),
            entry_count=max(one.applied_index for one in status),
        )

    # Clients

    async def _propose_on_and_on(self) -> None:
        while not self._is_over:
            await asyncio.sleep(self._rng.random() * 0.1)
            servers = [s for s in self.cluster.servers.values() if s.is_running]
            if servers:
                await self._propose(self._rng.choice(servers))

    async def _propose(self, server: SimulatedServer) -> None:
        self._command_count += 1
        key = NodeKey(f"n{self._command_count}")
        proposing = asyncio.create_task(
            server.proposer.propose(registration(key), deadline_s=PROPOSE_S)
        )
        # A client of a killed server waits no longer than one of a silent server.
        await asyncio.wait([proposing], timeout=PROPOSE_S + 0.1)
        if not proposing.done():
            if not server.clock.is_dead:
                self._violations.append(f"proposal {key} has no ending")
            proposing.cancel()
            self._unknown.append(key)
            return
        try:
            proposing.result()
        except NoLeaderError:
            self._refused.append(key)
        except OutcomeUnknownError:
            self._unknown.append(key)
        else:
            self._acknowledged.append(key)

    # Faults

    async def _harm_on_and_on(self) -> None:
        harms = (self._kill, self._start, self._cut, self._heal, self._break)
        while True:
            await asyncio.sleep(self._rng.random() * 1.2)
            await self._rng.choice(harms)()

    async def _kill(self) -> None:
        running = sorted(self.cluster.servers)
        if running:
            name = self._rng.choice(running)
            await self.cluster.kill(name, with_power_loss=self._rng.random() < 0.5)

    async def _start(self) -> None:
        for name in self.cluster.configs:
            if name not in self.cluster.servers:
                await self.cluster.start(name)

    async def _cut(self) -> None:
        sender, receiver = self._rng.sample(sorted(self.cluster.configs), 2)
        self.cluster.network.cut(sender, receiver)
        if self._rng.random() < 0.5:
            self.cluster.network.cut(receiver, sender)

    async def _heal(self) -> None:
        self.cluster.network.heal()

    async def _break(self) -> None:
        one, other = self._rng.sample(sorted(self.cluster.configs), 2)
        self.cluster.network.break_connections(one, other)

    # Judging

    async def _calm_down(self) -> None:
        await self._heal()
        await self._start()
        if not await self._comes_true(lambda: self.cluster.leader() is not None):
            self._violations.append("no leader after healing")
            return
        for name, server in sorted(self.cluster.servers.items()):
            count = len(self._acknowledged)
            await self._propose(server)
            if len(self._acknowledged) == count:
                self._violations.append(f"no progress on {name} after healing")
        if not await self._comes_true(self._is_level):
            self._violations.append("the replicas do not agree on what is applied")

    async def _comes_true(self, condition: Callable[[], bool]) -> bool:
        waited_s = 0.0
        while not condition():
            if waited_s > SETTLE_S_MAX:
                return False
            await asyncio.sleep(0.1)
            waited_s += 0.1
        return True

    def _is_level(self) -> bool:
        replicas = [server.replica for server in self.cluster.servers.values()]
        indexes = {replica.applied_index() for replica in replicas}
        return len(indexes) == 1 and all(one.is_caught_up() for one in replicas)

    def _judge(self) -> None:
        self._violations += self.cluster.errors()
        for name, server in sorted(self.cluster.servers.items()):
            state = server.replica.state()
            lost = [key for key in self._acknowledged if state.node(key) is None]
            if lost:
                self._violations.append(f"{name} lost acknowledged {lost[:5]}")
            ghosts = [key for key in self._refused if state.node(key) is not None]
            if ghosts:
                self._violations.append(f"{name} has {ghosts[:5]}, told not sent")
        self._judge_entries()

    def _judge_entries(self) -> None:
        seen: dict[object, int] = {}
        for index, entry in sorted(self.cluster.watcher.entries.items()):
            body = decode_body(entry.body)
            if isinstance(body, Envelope):
                origin = (body.origin.boot_id, body.origin.sequence)
                if origin in seen:
                    self._violations.append(f"{index} repeats {seen[origin]}")
                seen[origin] = index


def play(seed: int, *, server_count: int = 3, duration_s: float = 20.0) -> Verdict:
    """Play one storm in virtual time."""
    return loop.run(_play(seed, server_count, duration_s))


async def _play(seed: int, server_count: int, duration_s: float) -> Verdict:
    return await Storm(seed, server_count, duration_s).play()


def registration(key: NodeKey) -> Command:
    """Return a command that registers a node of that id."""
    node = Node(id=key, name=key, datacenter="dc1", status=NodeStatus.READY)
    return RegisterNodes(
        at_ns=loop.START_NS,
        registrations=(Registration(key, node, bytes(32)),),
        seed=bytes(16),
    )
