"""One schedule played: steps as they come, then a calm, then the verdict."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from cluster.simulation import checkers, loop, schedule as steps
from cluster.simulation.judge import (
    NO_SURPRISE,
    PROGRESS,
    STATE_MACHINE_SAFETY,
    Trace,
    Violation,
)
from cluster.simulation.schedule import Schedule, Step
from cluster.simulation.servers import SimulatedCluster, SimulatedServer
from cluster.simulation.surroundings import Delay
from cluster.simulation.work import Work
from cluster.simulation.workload import Workload, registration as _registration
from nodestate.errors import (
    CorruptRecordError,
    FormationError,
    JournalError,
    NodestateError,
    SnapshotError,
)
from nodestate.fsm.snapshot import encode_state
from nodestate.model.command import Command
from nodestate.model.node import NodeKey
from nodestate.replication import offers

DEADLINE_S: Final = 1.5
SETTLE_S_MAX: Final = 20.0
LOOK_S: Final = 0.05
KILL_CALLBACKS_MAX: Final = 40
BYTES_LEFT: Final = 100
EIO: Final = 5
SETTINGS: Final = {
    "election_timeout_s_min": 0.5,
    "election_timeout_s_max": 1.0,
    "segment_bytes": 1 << 16,
}


class Verdict(msgspec.Struct, frozen=True):
    """What became of one schedule; `violations` is empty if all promises were kept.

    `counts` says what happened in it.
    """

    seed: int
    violations: tuple[Violation, ...]
    counts: dict[str, int]
    entry_count: int
    callback_count: int


class Storm:
    """A cluster, its clients, and what a schedule does to them."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.cluster = SimulatedCluster(
            schedule.seed,
            schedule.server_count,
            schedule.settings,
            has_work=schedule.has_work,
        )
        self._judge = self.cluster.judge
        self._rng = self.cluster.rng
        self.cluster.network.delay_s_max = schedule.delay_ms_max / 1000
        offset_ms = schedule.clock_offset_ms_max
        for name, delay in self.cluster.delays.items():
            delay.s_max = schedule.sync_ms_max / 1000
            self.cluster.clock_offsets_ns[name] = (
                self._rng.randint(-offset_ms, offset_ms) * 1_000_000
            )
        self.workload = Workload(self.cluster, deadline_s=DEADLINE_S)
        self.work = Work(self.cluster, self.workload, quiet_s=schedule.quiet_ms / 1000)
        self.cluster.on_failure = self._on_failure
        self._judge.on_leading = self._on_leading
        self._armed: dict[str, bool] = {}  # who dies on leading, and how
        self._harmed: set[str] = set()
        self._is_calm = False
        self._refused: set[str] = set()

    async def play(self) -> Verdict:
        """Live it through and judge it."""
        await self._start_all()
        for step in self._schedule.steps:
            await self._sleep_until(step.at_ms / 1000)
            await self._take(step)
        await self._sleep_until(self._schedule.duration_ms / 1000)
        await self._calm_down()
        if self._schedule.has_work and not self._judge.violations:
            await self.work.come_to_rest()
        await self.work.finish()
        await self.workload.finish()
        self._judge_states()
        return self._verdict()

    async def _sleep_until(self, at_s: float) -> None:
        remaining_s = at_s - self.cluster.loop.time()
        if remaining_s > 0:
            await asyncio.sleep(remaining_s)

    # Steps

    async def _take(self, step: Step) -> None:
        if isinstance(step, steps.WorkStep):
            self.work.take(step)
            return
        match step:
            case steps.Write() | steps.Read() | steps.Follow():
                self.workload.start(step)
            case steps.Transfer() | steps.SaveSnapshot() | steps.Remove() | steps.Add():
                self.workload.start(step)
            case steps.Wipe():
                self._wipe(step.server)
            case steps.Heal():
                self.cluster.network.heal()
            case steps.Start():
                await self._start_all()
            case steps.PowerOff():
                self._power_off()
            case steps.Cut() | steps.Slow() | steps.Break() | steps.Linger():
                self._harm_link(step)
                self._judge.count(f"fault {_name(step)}")
            case _:
                await self._harm_server(step)

    def _harm_link(
        self, step: steps.Cut | steps.Slow | steps.Break | steps.Linger
    ) -> None:
        network, one, other = self.cluster.network, step.server, step.other
        match step:
            case steps.Cut():
                network.cut(one, other)
                if step.is_both_ways:
                    network.cut(other, one)
            case steps.Slow():
                network.slow(one, other, step.by_ms / 1000)
            case steps.Break():
                network.break_connections(one, other)
            case steps.Linger():
                network.linger(one, other, step.lag_ms / 1000)

    async def _harm_server(self, step: Any) -> None:
        server = self.workload.find(step.server)
        if server is None:
            return
        self._judge.count(f"fault {_name(step)}")
        name = server.server_id
        match step:
            case steps.Kill():
                self._kill_after(step.callbacks, server, step.has_power_loss)
            case steps.KillWhen():
                self._arm(server, step)
            case steps.Pause():
                self._pause(server, step.for_ms / 1000)
            case steps.JumpClock():
                self._jump_clock(server, step.by_ms * 1_000_000)
            case steps.Isolate():
                self._isolate(name, is_one_way=step.is_one_way)
            case steps.FlipBit():
                await self._flip_bit(server, step.place)
            case _:
                self._harm_disk(name, step)

    def _harm_disk(
        self, name: str, step: steps.SlowDisk | steps.FailDisk | steps.FillDisk
    ) -> None:
        disk = self.cluster.disks[name]
        match step:
            case steps.SlowDisk():
                self.cluster.delays[name].extra_s = step.by_ms / 1000
            case steps.FailDisk():
                self._harmed.add(name)
                disk.failing[step.action] = EIO
            case steps.FillDisk():
                self._harmed.add(name)
                disk.bytes_free = BYTES_LEFT

    def _kill(self, server: SimulatedServer, *, has_power_loss: bool) -> None:
        if self._is_calm:
            # What was armed before and comes due only now.
            return
        if self.cluster.servers.get(server.server_id) is server:
            self.cluster.kill_now(server.server_id, has_power_loss=has_power_loss)

    def _kill_after(
        self, callback_count: int, server: SimulatedServer, has_power_loss: bool
    ) -> None:
        self.cluster.loop.call_after(
            callback_count, lambda: self._kill(server, has_power_loss=has_power_loss)
        )

    def _power_off(self) -> None:
        self._judge.count("fault power_off")
        for server in list(self.cluster.servers.values()):
            self._kill(server, has_power_loss=True)

    def _arm(self, server: SimulatedServer, step: steps.KillWhen) -> None:
        if step.moment == steps.LEADING:
            self._armed[server.server_id] = step.has_power_loss
            return
        delay = self.cluster.delays[server.server_id]
        disk = self.cluster.disks[server.server_id]

        def kill_within(wait_s: float) -> None:
            if step.moment == steps.SNAPSHOTTING and disk.staged_bytes == 0:
                return
            delay.on_wait = None
            self.cluster.loop.call_later(
                wait_s * self._rng.random(),
                lambda: self._kill(server, has_power_loss=step.has_power_loss),
                context=self.cluster.context,
            )

        delay.on_wait = kill_within

    def _on_leading(self, server_id: str) -> None:
        has_power_loss = self._armed.pop(server_id, None)
        if has_power_loss is not None:
            count = self._rng.randrange(KILL_CALLBACKS_MAX)
            self._kill_after(count, self.cluster.servers[server_id], has_power_loss)

    def _pause(self, server: SimulatedServer, for_s: float) -> None:
        server.process.pause()
        self.cluster.loop.call_later(
            for_s, server.process.resume, context=self.cluster.context
        )

    def _jump_clock(self, server: SimulatedServer, by_ns: int) -> None:
        server.clock.offset_ns += by_ns
        self.cluster.clock_offsets_ns[server.server_id] += by_ns

    def _isolate(self, name: str, *, is_one_way: bool) -> None:
        for other in self.cluster.configs:
            if other != name:
                self.cluster.network.cut(name, other)
                if not is_one_way:
                    self.cluster.network.cut(other, name)

    def _wipe(self, name: str) -> None:
        if not self._is_dispensable(name):
            return
        self._judge.count("fault wipe")
        self._drop(name)
        self.cluster.wipe(name)
        # Whatever was wrong with what was on it is so no more.
        self._refused.discard(name)

    def _is_dispensable(self, name: str) -> bool:
        """Say whether others have heard of the cluster, which it may have formed alone."""
        logs = self._judge.durable.items()
        return any(log.last_index for other, log in logs if other != name)

    async def _flip_bit(self, server: SimulatedServer, place: int) -> None:
        """Let a bit rot; the judge compares what the server then has with what it had."""
        name = server.server_id
        if not self._is_dispensable(name):
            return
        disk = self.cluster.disks[name]
        self._kill(server, has_power_loss=False)
        names = [one for one in disk.names() if disk.used_bytes(one) > 0]
        if not names:
            return
        rotten = names[place % len(names)]
        disk.flip_bit(rotten, place // len(names) % (8 * disk.used_bytes(rotten)))
        try:
            await self._start(name)
        except (CorruptRecordError, FormationError, SnapshotError):
            self._refused.add(name)
            self._drop(name)
            self._judge.count("damaged disks refused")
        else:
            self._judge.count("damaged disks harmless")

    # Servers that start, and that stop by themselves

    async def _start_all(self) -> None:
        for name in self.cluster.configs:
            if name not in self.cluster.servers and name not in self._refused:
                await self._start(name)

    async def _start(self, name: str) -> None:
        disk = self.cluster.disks[name]
        disk.failing.clear()
        disk.bytes_free = None
        self._harmed.discard(name)
        await self.cluster.start(name)

    def _drop(self, name: str) -> None:
        if name in self.cluster.servers:
            self._kill(self.cluster.servers[name], has_power_loss=False)

    def _on_failure(self, server: SimulatedServer, error: BaseException) -> None:
        name = server.server_id
        if isinstance(error, JournalError) and name in self._harmed:
            self._judge.count("servers stopped by disks")
        else:
            self._judge.blame(NO_SURPRISE, f"{name} stopped: {error!r}")
        self.cluster.loop.call_soon(
            lambda: self._drop_start(server), context=self.cluster.context
        )

    def _drop_start(self, server: SimulatedServer) -> None:
        if self.cluster.servers.get(server.server_id) is server:
            self.cluster.kill_now(server.server_id, has_power_loss=False)

    # The calm after it

    async def _calm_down(self) -> None:
        """Take every fault away, and demand that the cluster goes on."""
        self.cluster.network.heal()
        for delay in self._delays():
            delay.on_wait, delay.extra_s = None, 0.0
        for server in list(self.cluster.servers.values()):
            server.process.resume()
            if server.server_id in self._harmed:
                # Its disk fails still, if nothing has come to it since.
                self._kill(server, has_power_loss=False)
        self._is_calm = True
        await self._start_all()
        # What was begun on a slow disk takes as long as it takes.
        await self._sleep_until(max(d.busy_until_s for d in self._delays()))
        if not await self._comes_true(lambda: self.cluster.leader() is not None):
            self._judge.blame(PROGRESS, "no leader after healing")
            return
        await self._become_level()
        await self._write_everywhere()
        await self._become_level()

    def _delays(self) -> Iterable[Delay]:
        return self.cluster.delays.values()

    async def _become_level(self) -> None:
        if not await self._comes_true(self._is_level):
            self._judge.blame(PROGRESS, "a member does not catch up")

    def _members(self) -> list[str]:
        """Return who has to be able to go on: those that are up and not removed."""
        leader = self.cluster.leader()
        assert leader is not None
        engine = leader.replica.engine
        assert engine is not None
        return [
            name
            for name in engine.configuration().ids()
            if name in self.cluster.servers
        ]

    async def _write_everywhere(self) -> None:
        writes = []
        for number, name in enumerate(self._members()):
            writing = (
                self._commit_at_last(name)
                if self._schedule.has_work
                else self._write_at_last(2000 + number, name)
            )
            writes.append(asyncio.create_task(writing))
        for write in writes:
            await write

    async def _write_at_last(self, op: int, name: str) -> None:
        step = steps.Write(at_ms=0, op=op, server=name, verb="register", node="n0")
        server = self.cluster.servers[name]
        command = registration(NodeKey(step.node), asked_by=f"op{step.op}")
        call = await self.workload.write(command, step, server)
        if call.outcome is None:
            self._judge.blame(
                PROGRESS, f"no progress on {step.server} after healing: {call.status}"
            )

    async def _commit_at_last(self, name: str) -> None:
        """Write nothing that there is work to be done about."""
        server = self.cluster.servers[name]
        proposing = server.proposer.barrier(deadline_s=DEADLINE_S)
        try:
            await self.workload.ask_once("barrier", server, proposing)
        except NodestateError as error:
            self._judge.blame(PROGRESS, f"no progress on {name} after healing: {error}")

    async def _comes_true(self, condition: Callable[[], bool]) -> bool:
        give_up_at_s = self.cluster.loop.time() + SETTLE_S_MAX
        while not condition():
            if self.cluster.loop.time() > give_up_at_s:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def _is_level(self) -> bool:
        if self.cluster.leader() is None:
            return False
        replicas = [self.cluster.servers[name].replica for name in self._members()]
        indexes = {replica.applied_index() for replica in replicas}
        return len(indexes) == 1 and all(one.is_caught_up() for one in replicas)

    # Judging

    def _judge_states(self) -> None:
        """Compare every state with what the log makes, and every answer with that."""
        judge = self._judge
        for error in self.cluster.loop.errors:
            judge.blame(NO_SURPRISE, f"a callback raised {error!r}")
        bodies = {index: judge.body_at(index) for index in judge.entries}
        observer = self.work.judge if self._schedule.has_work else None
        reference = checkers.Reference(bodies, observer)
        expected = encode_state(reference.state)
        last_index = max(judge.entries, default=0)
        for name, server in sorted(self.cluster.servers.items()):
            replica = server.replica
            is_level = replica.applied_index() == last_index
            if is_level and encode_state(replica.state()) != expected:
                judge.blame(
                    STATE_MACHINE_SAFETY, f"{name} is not in the state of its log"
                )
        history = self.workload.history
        judge.violations += checkers.judge_history(history, reference)
        violations, undecided_count = checkers.judge_orders(history)
        judge.violations += violations
        judge.counts["searches undecided"] = undecided_count
        judge.violations += self.work.violations()
        judge.counts.update(self.work.judge.counts)

    def _verdict(self) -> Verdict:
        judge = self._judge
        unique = dict.fromkeys(judge.violations)
        return Verdict(
            seed=self._schedule.seed,
            violations=tuple(unique),
            counts=dict(sorted(judge.counts.items())),
            entry_count=len(judge.entries),
            callback_count=self.cluster.loop.callback_count,
        )


def _name(step: Step) -> str:
    return str(step.__struct_config__.tag)


def play(schedule: Schedule, trace: Trace | None = None) -> Verdict:
    """Play a schedule in virtual time; every message and entry goes into `trace`."""
    with _chunks_of(schedule.chunk_bytes):
        return loop.run(_play(schedule, trace))


@contextmanager
def _chunks_of(byte_count: int) -> Iterator[None]:
    """Send snapshots in pieces that are small enough for there to be several."""
    module: Any = offers
    usual = module.CHUNK_BYTES_MAX
    module.CHUNK_BYTES_MAX = byte_count
    try:
        yield
    finally:
        module.CHUNK_BYTES_MAX = usual


async def _play(schedule: Schedule, trace: Trace | None) -> Verdict:
    storm = Storm(schedule)
    if trace is not None:
        storm.cluster.judge.trace_into(trace, storm.cluster.loop.time)
    return await storm.play()


def registration(key: NodeKey, *, asked_by: str = "anonymous") -> Command:
    """Return a command that registers a node of that id."""
    return _registration(key, at_ns=loop.START_NS, asked_by=asked_by)
