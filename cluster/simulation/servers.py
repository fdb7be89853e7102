"""Replicas in one process: started, killed, paused and restarted, each on its own disk."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any, Final

from typing_extensions import override

from cluster.simulation.disk import MemoryDisk
from cluster.simulation.judge import STATE_MACHINE_SAFETY, Judge, Seen
from cluster.simulation.loop import Process, VirtualTimeLoop
from cluster.simulation.network import SimulatedNetwork
from cluster.simulation.surroundings import (
    Delay,
    QuietLogger,
    SeededIds,
    SimulatedClock,
    SimulatedSpawner,
    UnreadMetrics,
)
from nodestate.api.rates import WaiterCounts
from nodestate.config import ServerConfig, ServerEntry
from nodestate.errors import SnapshotError
from nodestate.fsm.state import State
from nodestate.leader.services import LeaderServices
from nodestate.model.event import Event, NodeWritten
from nodestate.model.node import NodeKey
from nodestate.replication.administration import Administration
from nodestate.replication.configuration import ConfigurationLog
from nodestate.replication.engine import Engine
from nodestate.replication.frames import Message
from nodestate.replication.proposer import LogProposer
from nodestate.replication.records import Entry
from nodestate.replication.replica import Replica
from nodestate.replication.snapshots import SnapshotStore
from nodestate.watch import Watch

FIRST_PORT: Final = 4001


class WatchedReplica(Replica):
    """A replica that is judged after each tick and entry, and before each message."""

    judge: Judge
    seen: Seen
    next_index: int

    def watch_with(self, judge: Judge) -> None:
        """Be judged from here on."""
        self.judge = judge
        self.seen = Seen()
        self.on_applied(judge.on_events)

    def started(self) -> None:
        """Be judged by what was found on disk."""
        assert self._journal is not None
        self.next_index = self.applied_index() + 1
        self.seen.commit_index = max(1, self.applied_index())
        self.judge.on_start(self._server_id, self._journal)

    @override
    def _take_part(self, known: ConfigurationLog, *, applied_index: int) -> None:
        send, journal = self.peers.send, self._journal
        assert journal is not None

        def watched_send(peer_id: str, message: Message) -> bool:
            self.judge.on_send(self._server_id, peer_id, message, journal)
            return send(peer_id, message)

        peers: Any = self.peers
        peers.send = watched_send
        super()._take_part(known, applied_index=applied_index)
        assert self.engine is not None
        self.judge.watch_commits(self._server_id, self.engine, journal)

    @override
    def _tick(self, engine: Engine) -> None:
        super()._tick(engine)
        assert self._journal is not None
        self.judge.on_tick(self._server_id, engine, self._journal, self.seen)

    @override
    def _apply(self, entry: Entry) -> None:
        if entry.index != self.next_index:
            self.judge.blame(
                STATE_MACHINE_SAFETY,
                f"{self._server_id} applied {entry.index}, not {self.next_index}",
            )
        self.next_index = entry.index + 1
        self.judge.on_entry_begins(self._server_id, entry)
        super()._apply(entry)
        self.judge.on_entry(self._server_id, entry.index, self._state)

    @override
    def _adopt(self, state: State, index: int) -> None:
        super()._adopt(state, index)
        self.next_index = index + 1
        self.judge.count("snapshots installed")
        self.judge.on_entry(self._server_id, index, state)


class SimulatedServer:
    """One start of a server.

    `services` is as much of the HTTP room's as blocking reads need; `waiting` says, by
    operation, for which key, behind which index and since when one is parked.
    """

    def __init__(
        self, cluster: "SimulatedCluster", name: str, rng: random.Random
    ) -> None:
        config = cluster.configs[name]
        self.config = config
        self.server_id = name
        self.process = Process(cluster.loop, name)
        self.clock = SimulatedClock(offset_ns=cluster.clock_offsets_ns[name])
        self.spawner = SimulatedSpawner(
            self.process, lambda error: cluster.on_failure(self, error)
        )
        self.watch = Watch()
        self.is_running = False
        self.ids = SeededIds(rng)
        metrics = UnreadMetrics()
        logger: Any = QuietLogger()
        self.replica = WatchedReplica(
            config,
            disk=cluster.disks[name],
            network=cluster.network.view(name, self.process),
            clock=self.clock,
            ids=self.ids,
            spawner=self.spawner,
            watch=self.watch,
            metrics=metrics,
            logger=logger,
        )
        self.replica.watch_with(cluster.judge)
        self.replica.on_applied(self._on_applied)
        self.services = SimpleNamespace(
            config=config,
            clock=self.clock,
            ids=self.ids,
            watch=self.watch,
            view=self.replica,
            waiting_count=0,
            waiters=WaiterCounts(config),
            is_stopping=False,
        )
        self.waiting: dict[int, tuple[NodeKey | None, int, float]] = {}
        self._changes: dict[NodeKey | None, list[tuple[int, float]]] = {}
        self.proposer = LogProposer(
            self.replica,
            config=config,
            clock=self.clock,
            ids=self.ids,
            metrics=metrics,
        )
        self.administration = Administration(
            self.replica, config=config, clock=self.clock, logger=logger
        )
        self.leader_services: LeaderServices | None = None
        if cluster.has_work:
            self.leader_services = LeaderServices(
                config=config,
                proposer=self.proposer,
                view=self.replica,
                leadership=self.replica,
                watch=self.watch,
                clock=self.clock,
                ids=self.ids,
                metrics=metrics,
                logger=logger,
            )
            self.replica.answer_with(self.leader_services.answer)

    def _on_applied(self, index: int, events: Sequence[Event]) -> None:
        now_s = self.process.active_s()
        for event in events:
            if isinstance(event, NodeWritten):
                self._changes.setdefault(event.key, []).append((index, now_s))
                self._changes.setdefault(None, []).append((index, now_s))

    def possible_since(self, key: NodeKey | None, index: int, since_s: float) -> float:
        """Return from when on a read of that key, parked `since_s`, had an answer.

        A change that came with a snapshot is not among those that were seen to come.
        """
        for changed_at, at_s in self._changes.get(key, ()):
            if changed_at > index:
                return max(at_s, since_s)
        return self.process.active_s()

    async def start(self) -> None:
        """Start it, in its own process; raises what keeps it from starting."""
        await self.process.spawn(self._start())

    async def _start(self) -> None:
        await self.replica.start()
        self.replica.started()
        self.spawner.spawn(self.administration.run(), name="administration")
        if self.leader_services is not None:
            self.spawner.spawn(self.leader_services.run(), name="leader services")
        self.is_running = True


class SimulatedCluster:
    """The servers of a cluster, their disks, their network, and who judges them.

    `on_failure` is called when a server's task fails, which stops a real server. With
    `has_work` the servers run the leader's services.
    """

    def __init__(
        self,
        seed: int,
        server_count: int,
        settings: Mapping[str, Any],
        *,
        has_work: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.loop = loop
        self.has_work = has_work
        self.rng = _generator(seed)
        self.network = SimulatedNetwork(_generator(self.rng.random()))
        names = [f"server{number + 1}" for number in range(server_count)]
        self.judge = Judge(names)
        entries = tuple(
            ServerEntry(
                name=name,
                peer=f"127.0.0.1:{FIRST_PORT + number}",
                http=f"127.0.0.1:{FIRST_PORT + 1000 + number}",
            )
            for number, name in enumerate(names)
        )
        self.configs = {
            entry.name: ServerConfig(
                name=entry.name, peer=entry.peer, servers=entries, **settings
            )
            for entry in entries
        }
        self.delays = {name: Delay(_generator(self.rng.random())) for name in names}
        self.disks = {name: MemoryDisk(delay=self.delays[name]) for name in names}
        for name, disk in self.disks.items():
            disk.on_sync = self.judge.durable[name].on_sync
        self.judge.has_snapshot = self._has_snapshot
        self.servers: dict[str, SimulatedServer] = {}
        self.clock_offsets_ns = dict.fromkeys(names, 0)
        self.on_failure: Callable[[SimulatedServer, BaseException], None] = _keep_quiet
        # What the lab does must not stop with the server that it does it to.
        self.context = copy_context()
        self._crash_rng = _generator(self.rng.random())

    @property
    def watcher(self) -> Judge:
        """Return the judge."""
        return self.judge

    async def start(self, name: str) -> SimulatedServer:
        """Start a server, for the first time or again."""
        rng = _generator(self.rng.random())
        server = SimulatedServer(self, name, rng)
        self.servers[name] = server
        await server.start()
        return server

    async def kill(self, name: str, *, with_power_loss: bool) -> None:
        """Kill a server; with power loss what it had not synced may be gone."""
        self.kill_now(name, has_power_loss=with_power_loss)

    def kill_now(self, name: str, *, has_power_loss: bool) -> None:
        """Do so between two callbacks."""
        server = self.servers.pop(name)
        server.is_running = False
        server.process.kill()
        self.network.kill(name, has_power_loss=has_power_loss)
        if has_power_loss:
            self.disks[name].crash(self._crash_rng)
        else:
            self.disks[name].kill()

    def wipe(self, name: str) -> None:
        """Empty the disk of a server that is down; nobody may hold it to what it told."""
        disk = self.disks[name]
        for file_name in disk.names():
            disk.remove_file(file_name)
        self.judge.forget(name)
        disk.on_sync = self.judge.durable[name].on_sync

    async def stop(self) -> None:
        """Kill what still runs."""
        for name in list(self.servers):
            await self.kill(name, with_power_loss=False)

    def leader(self) -> SimulatedServer | None:
        """Return the server that is ready to lead, the latest term's if there are two."""
        ready = [s for s in self.servers.values() if s.replica.is_ready_to_lead()]
        return max(ready, key=lambda s: s.replica.status().term, default=None)

    def _has_snapshot(self, name: str, index: int) -> bool:
        """Say whether a disk has a snapshot up to `index` for good that can be loaded."""
        disk = self.disks[name]
        store = SnapshotStore(disk, SimulatedClock())
        try:
            info = store.newest()
            if info is None or info.index < index:
                return False
            store.load_now(info)
        except SnapshotError:
            return False
        return info.name in disk.durable_names()

    def errors(self) -> list[str]:
        """Return what stopped servers that are still here."""
        return [
            f"{name}: {server.spawner.error!r}"
            for name, server in self.servers.items()
            if server.spawner.error is not None
        ]


def _keep_quiet(server: SimulatedServer, error: BaseException) -> None:
    del server, error


def _generator(seed: float) -> random.Random:
    return random.Random(seed)  # noqa: S311  it has to be repeatable
