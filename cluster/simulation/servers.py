"""Replicas in one process: started, killed and restarted, each on a disk of its own."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import structlog
from typing_extensions import override

from cluster.simulation.disk import MemoryDisk
from cluster.simulation.loop import START_NS
from cluster.simulation.network import SimulatedNetwork
from nodestate.clock import Timer
from nodestate.config import ServerConfig, ServerEntry
from nodestate.replication.proposer import LogProposer
from nodestate.replication.records import Entry
from nodestate.replication.replica import Replica
from nodestate.watch import Watch

FIRST_PORT: Final = 4001
SYNC_S_MAX: Final = 0.003


class SimulatedClock:
    """The loop's virtual time, for one start of a server; nothing runs after its death."""

    def __init__(self) -> None:
        self.is_dead = False

    def now_ns(self) -> int:
        """Return the wall clock: all servers agree."""
        return START_NS + round(self.monotonic_s() * 1e9)

    def monotonic_s(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Ask the loop."""
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds, self._run, callback)

    def _run(self, callback: Callable[[], None]) -> None:
        if not self.is_dead:
            callback()


class SeededIds:
    """Ids and jitter from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def new_id(self) -> str:
        """Return an id that looks like a UUID."""
        digits = f"{self._rng.getrandbits(128):032x}"
        return "-".join(
            (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        )

    def new_seed(self) -> bytes:
        """Return 16 bytes."""
        return self._rng.randbytes(16)

    def jitter(self) -> float:
        """Return a number from 0 to 1."""
        return self._rng.random()


class SimulatedSpawner:
    """Starts a server's tasks; the first error out of one is kept."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run it."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def cancel_all(self) -> None:
        """End them all."""
        for task in list(self._tasks):
            task.cancel()

    async def wait(self) -> None:
        """Return once all have ended."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
            await asyncio.sleep(0)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.error = self.error or task.exception()


class _NoMeasure:
    def add(self, amount: float = 1.0, label: str = "") -> None:
        pass

    def observe(self, seconds: float, label: str = "") -> None:
        pass


class UnreadMetrics:
    """Metrics that nobody reads."""

    def counter(self, name: str, description: str, label: str = "") -> _NoMeasure:
        """Return a counter that forgets."""
        del name, description, label
        return _NoMeasure()

    def timing(self, name: str, description: str, label: str = "") -> _NoMeasure:
        """Return a timing that forgets."""
        del name, description, label
        return _NoMeasure()

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Do nothing."""


class SimulatedServer:
    """One start of a server."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        disk: MemoryDisk,
        network: SimulatedNetwork,
        rng: random.Random,
        watcher: "EntryWatcher",
    ) -> None:
        self.config = config
        self.server_id = config.name
        self.clock = SimulatedClock()
        self.spawner = SimulatedSpawner()
        self.watch = Watch()
        self.is_running = False
        ids = SeededIds(rng)
        metrics = UnreadMetrics()
        logger = structlog.get_logger().bind(server_id=config.name)
        self.replica = _WatchedReplica(
            config,
            disk=disk,
            network=network.view(config.name),
            clock=self.clock,
            ids=ids,
            spawner=self.spawner,
            watch=self.watch,
            metrics=metrics,
            logger=logger,
        )
        self.replica.watch_entries(watcher, config.name)
        self.proposer = LogProposer(
            self.replica, config=config, clock=self.clock, ids=ids, metrics=metrics
        )

    async def start(self) -> None:
        """Start it."""
        await self.replica.start()
        self.is_running = True


class EntryWatcher:
    """Judges every entry that any server applies: the same one everywhere, in order."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.leaders: dict[int, str] = {}
        self.violations: list[str] = []
        self.applied_count = 0

    def on_entry(self, server_id: str, entry: Entry) -> None:
        """Compare an applied entry with what others applied."""
        self.applied_count += 1
        known = self.entries.setdefault(entry.index, entry)
        if known != entry:
            self.violations.append(f"{server_id} applied another entry {entry.index}")

    def on_leader(self, server_id: str, term: int) -> None:
        """Compare a leader with those known of its term."""
        known = self.leaders.setdefault(term, server_id)
        if known != server_id:
            self.violations.append(f"{known} and {server_id} both lead in term {term}")


class _WatchedReplica(Replica):
    """A replica whose applied entries and leaderships are looked at."""

    def watch_entries(self, watcher: EntryWatcher, server_id: str) -> None:
        self._watcher = watcher
        self._watched_id = server_id
        self._next_index = 1
        self.on_change(self._look)

    def _look(self) -> None:
        status = self.status()
        if status.is_leader:
            self._watcher.on_leader(self._watched_id, status.term)

    @override
    def _apply(self, entry: Entry) -> None:
        if entry.index != self._next_index:
            self._watcher.violations.append(
                f"{self._watched_id} applied {entry.index}, not {self._next_index}"
            )
        self._next_index = entry.index + 1
        self._watcher.on_entry(self._watched_id, entry)
        super()._apply(entry)


class SimulatedCluster:
    """The servers of a cluster, their disks and their network."""

    def __init__(
        self, seed: int, server_count: int, settings: Mapping[str, Any]
    ) -> None:
        self.rng = _generator(seed)
        self.network = SimulatedNetwork(_generator(self.rng.random()))
        self.watcher = EntryWatcher()
        names = [f"server{number + 1}" for number in range(server_count)]
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
        disk_rng = _generator(self.rng.random())
        self.disks = {name: MemoryDisk(delay=_delay(disk_rng)) for name in names}
        self.servers: dict[str, SimulatedServer] = {}
        self._crash_rng = _generator(self.rng.random())

    async def start(self, name: str) -> SimulatedServer:
        """Start a server, for the first time or again."""
        server = SimulatedServer(
            self.configs[name],
            disk=self.disks[name],
            network=self.network,
            rng=_generator(self.rng.random()),
            watcher=self.watcher,
        )
        self.servers[name] = server
        await server.start()
        return server

    async def kill(self, name: str, *, with_power_loss: bool) -> None:
        """Kill a server; with power loss what it had not synced may be gone."""
        server = self.servers.pop(name)
        server.is_running = False
        server.clock.is_dead = True
        self.network.kill(name)
        if with_power_loss:
            self.disks[name].crash(self._crash_rng)
        else:
            self.disks[name].kill()
        server.spawner.cancel_all()
        await server.spawner.wait()

    async def stop(self) -> None:
        """Kill what still runs."""
        for name in list(self.servers):
            await self.kill(name, with_power_loss=False)

    def leader(self) -> SimulatedServer | None:
        """Return the server that is ready to lead, the latest term's if there are two."""
        ready = [s for s in self.servers.values() if s.replica.is_ready_to_lead()]
        return max(ready, key=lambda s: s.replica.status().term, default=None)

    def errors(self) -> list[str]:
        """Return what stopped servers."""
        return [
            f"{name}: {server.spawner.error!r}"
            for name, server in self.servers.items()
            if server.spawner.error is not None
        ]


def _delay(rng: random.Random) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await asyncio.sleep(rng.random() * SYNC_S_MAX)

    return wait


def _generator(seed: float) -> random.Random:
    return random.Random(seed)  # noqa: S311  it has to be repeatable
