"""Test doubles for what `server.py` hands to a room: time, ids, and a log of one.

They keep the promises of `clock.py` and `ports.py` without a network, a disk or real
time. `FakeReplica` holds a state and applies through the real state machine;
`FakeProposer` is its door.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nodestate.errors import NoLeaderError, RequestError
from nodestate.fsm import machine
from nodestate.fsm.state import State
from nodestate.model.command import Command
from nodestate.model.outcome import Outcome
from nodestate.model.request import IdempotencyKey, Origin, Request
from nodestate.ports import (
    LeadershipStatus,
    LogEnds,
    Member,
    MemberHealth,
    Membership,
    Role,
    SavedSnapshot,
    ServerAddress,
)
from nodestate.watch import Watch

START_NS: Final = 1_700_000_000_000_000_000
SETTLE_ROUNDS: Final = 20
"""Turns of the loop after which whatever could run without time passing has run."""


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(SETTLE_ROUNDS):
        await asyncio.sleep(0)


class FakeTimer:
    """A callback that the fake clock will run, unless it is called off."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeClock:
    """Time that passes when a test says so.

    `step` lets time pass as it does for a process that runs: each timer at its time.
    `pause` lets it pass as for one that is stopped: nothing runs meanwhile, and what
    came due runs late, with the next `step`.
    """

    def __init__(self, now_ns: int = START_NS) -> None:
        self._elapsed_ns = 0
        self._now_ns = now_ns
        self._timers: list[tuple[int, int, FakeTimer]] = []
        self._timer_count = 0

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_s(self) -> float:
        return self._elapsed_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        timer = self.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        self._timer_count += 1
        due_ns = self._elapsed_ns + max(round(seconds * 1e9), 0)
        heapq.heappush(self._timers, (due_ns, self._timer_count, timer))
        return timer

    async def step(self, seconds: float) -> None:
        """Let that much time pass, and everything run that it makes run."""
        await settle()
        until_ns = self._elapsed_ns + round(seconds * 1e9)
        while self._timers and self._timers[0][0] <= until_ns:
            due_ns, _, timer = heapq.heappop(self._timers)
            self._pass(due_ns - self._elapsed_ns)
            if not timer.is_cancelled:
                timer.callback()
                await settle()
        self._pass(until_ns - self._elapsed_ns)
        await settle()

    def pause(self, seconds: float) -> None:
        """Let time pass while nothing runs: SIGSTOP."""
        self._pass(round(seconds * 1e9))

    def set_back(self, seconds: float) -> None:
        """Move the wall clock alone, as a correction of the machine's time does."""
        self._now_ns -= round(seconds * 1e9)

    def suspend(self, seconds: float) -> None:
        """Let wall time pass while the monotonic clock stands: a laptop asleep."""
        self._now_ns += round(seconds * 1e9)

    def _pass(self, duration_ns: int) -> None:
        if duration_ns > 0:
            self._elapsed_ns += duration_ns
            self._now_ns += duration_ns


class SequentialIds:
    """Ids, seeds and jitter in a fixed order; `jitter_value` is what every jitter is."""

    def __init__(self, jitter_value: float = 0.5) -> None:
        self._count = 0
        self.jitter_value = jitter_value

    def new_id(self) -> str:
        self._count += 1
        return f"00000000-0000-4000-8000-{self._count:012x}"

    def new_seed(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(16, "big")

    def jitter(self) -> float:
        return self.jitter_value


class FakeLeadership:
    """Leadership that a test gives and takes."""

    def __init__(self, *, is_leader: bool = True, term: int = 1) -> None:
        self.server_id = "server1"
        self.leader_id: str | None = "server1" if is_leader else None
        self.term = term
        self.is_ready = is_leader
        self.last_contact_s: float | None = 0.0 if is_leader else None
        self.addresses: Sequence[ServerAddress] = (
            ServerAddress("server1", "127.0.0.1:4647", "127.0.0.1:4646"),
        )
        self.applied_index: Callable[[], int] = lambda: 0
        self._callbacks: list[Callable[[], None]] = []

    def status(self) -> LeadershipStatus:
        is_leader = self.leader_id == self.server_id
        return LeadershipStatus(
            server_id=self.server_id,
            role=Role.LEADER if is_leader else Role.FOLLOWER,
            term=self.term,
            leader_id=self.leader_id,
            last_contact_s=self.last_contact_s,
            commit_index=self.applied_index(),
            applied_index=self.applied_index(),
        )

    def servers(self) -> Sequence[ServerAddress]:
        return self.addresses

    def is_ready_to_lead(self) -> bool:
        return self.is_ready and self.leader_id == self.server_id

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def gain(self, *, is_ready: bool = True) -> None:
        """Win an election, in the next term."""
        self._become(leader_id=self.server_id, term=self.term + 1, is_ready=is_ready)

    def make_ready(self) -> None:
        """Have the first entry of the own term applied."""
        self._become(leader_id=self.leader_id, term=self.term, is_ready=True)

    def lose(self, leader_id: str | None = "server2") -> None:
        """Be followed by another leader, or by none."""
        self._become(leader_id=leader_id, term=self.term + 1, is_ready=False)

    def _become(self, *, leader_id: str | None, term: int, is_ready: bool) -> None:
        self.leader_id = leader_id
        self.term = term
        self.is_ready = is_ready
        self.last_contact_s = None if leader_id is None else 0.0
        for callback in self._callbacks:
            callback()


class FakeReplica:
    """A server's replica without a log: a state, the last index, and who waits.

    `read_errors` are raised by the next linearizable reads, one each. While `read_gate`
    is clear they wait for it. `linearizable_deadlines_s` has an entry for each of them.
    """

    def __init__(self, watch: Watch | None = None, first_index: int = 10) -> None:
        self.watch = watch or Watch()
        self.leadership: FakeLeadership | None = None
        self.caught_up = True
        self.read_errors: list[Exception] = []
        self.read_gate = asyncio.Event()
        self.read_gate.set()
        self.linearizable_deadlines_s: list[float] = []
        self._state = State()
        self._index = first_index - 1

    def state(self) -> State:
        return self._state

    def applied_index(self) -> int:
        return self._index

    def is_caught_up(self) -> bool:
        return self.caught_up

    async def wait_until_applied(self, index: int, *, deadline_s: float) -> bool:
        return self._index >= index

    async def wait_until_linearizable(self, *, deadline_s: float) -> int:
        assert deadline_s > 0
        self.linearizable_deadlines_s.append(deadline_s)
        await self.read_gate.wait()
        if self.read_errors:
            raise self.read_errors.pop(0)
        if self.leadership is not None and self.leadership.leader_id is None:
            raise NoLeaderError("No cluster leader")
        return self._index

    def apply(self, command: Command, request: Request | None = None) -> Outcome:
        """Apply as the next entry, and wake whoever waits for what it touched."""
        self._index += 1
        applied = machine.apply(self._state, self._index, command, request)
        self.watch.wake(applied.keys)
        return applied.outcome


class FakeProposer:
    """A proposer whose every proposal is applied at once, unless a test says otherwise.

    `errors` are raised by the next proposals, one each, nothing applied. While `gate` is
    clear proposals wait for it. `commands` are those that got into the log, each with its
    caller's key in `keys`.
    """

    def __init__(
        self, replica: FakeReplica, leadership: FakeLeadership | None = None
    ) -> None:
        self.replica = replica
        self.leadership = leadership or FakeLeadership()
        self.leadership.applied_index = replica.applied_index
        replica.leadership = self.leadership
        self.commands: list[Command] = []
        self.errors: list[Exception] = []
        self.keys: list[IdempotencyKey | None] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def propose(
        self,
        command: Command,
        *,
        deadline_s: float,
        idempotency: IdempotencyKey | None = None,
    ) -> Outcome:
        assert deadline_s > 0
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.leadership.leader_id is None:
            raise NoLeaderError("No cluster leader")
        sequence = len(self.commands) + 1
        origin = Origin("server1", "fake", sequence)
        request = Request(origin, sequence, idempotency)
        outcome = self.replica.apply(command, request)
        self.commands.append(command)
        self.keys.append(idempotency)
        return outcome

    async def propose_as_leader(
        self, command: Command, *, term: int, deadline_s: float
    ) -> Outcome:
        await self.gate.wait()
        status = self.leadership.status()
        if not status.is_leader or status.term != term:
            raise NoLeaderError("this server no longer leads")
        return await self.propose(command, deadline_s=deadline_s)

    async def barrier(self, *, deadline_s: float) -> int:
        if self.errors:
            raise self.errors.pop(0)
        if self.leadership.leader_id is None:
            raise NoLeaderError("No cluster leader")
        return self.replica.applied_index()


class FakeLeaderCalls:
    """Questions to a leader that is this very process."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self._answer: Callable[[bytes], Awaitable[bytes]] | None = None

    async def ask_leader(self, question: bytes, *, deadline_s: float) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        if self._answer is None:
            raise NoLeaderError("No cluster leader")
        return await self._answer(question)

    def answer_with(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._answer = answer


class FakeAdmin:
    """A cluster whose members are those of the fake leadership; changes are done at once.

    `learners` are ids without a vote, `unhealthy` of servers that do not do well. `errors` are raised by the next calls, one each,
    nothing done. A snapshot is `snapshot_bytes`; `read_errors` are raised while it is
    read. While `gate` is clear, saving one waits for it.
    """

    def __init__(self, replica: FakeReplica, leadership: FakeLeadership) -> None:
        self.replica = replica
        self.leadership = leadership
        self.index = 1
        self.learners: set[str] = set()
        self.unhealthy: set[str] = set()
        self.in_dispute = False
        self.errors: list[Exception] = []
        self.read_errors: list[Exception] = []
        self.snapshot_bytes = b""
        self.gate = asyncio.Event()
        self.gate.set()

    def membership(self) -> Membership:
        leader_id = self.leadership.leader_id
        return Membership(
            index=self.index,
            members=tuple(
                Member(
                    server_id=server.server_id,
                    incarnation="",
                    peer_address=server.peer_address,
                    http_address=server.http_address,
                    is_voter=server.server_id not in self.learners,
                    is_leader=server.server_id == leader_id,
                )
                for server in self.leadership.addresses
            ),
        )

    def log_ends(self) -> LogEnds:
        return LogEnds(
            last_index=self.replica.applied_index(), last_term=self.leadership.term
        )

    async def health(self, *, deadline_s: float) -> tuple[MemberHealth, ...]:
        self._check(deadline_s)
        return tuple(
            MemberHealth(
                server_id=member.server_id,
                peer_address=member.peer_address,
                is_leader=member.is_leader,
                is_voter=member.is_voter,
                last_index=self.replica.applied_index(),
                last_term=self.leadership.term,
                contact_s=0.0 if member.is_leader else 0.05,
                is_healthy=member.server_id not in self.unhealthy,
                since_ns=START_NS,
            )
            for member in self.membership().members
        )

    async def add_server(self, server: ServerAddress, *, deadline_s: float) -> int:
        self._check(deadline_s)
        others = self._without(server.server_id)
        if len(others) == len(self.leadership.addresses):
            self.learners.add(server.server_id)
        servers = sorted([*others, server], key=lambda one: one.server_id)
        return self._change(servers)

    async def remove_server(self, server_id: str, *, deadline_s: float) -> int:
        self._check(deadline_s)
        others = self._without(server_id)
        if len(others) == len(self.leadership.addresses):
            raise RequestError(f"{server_id} is not a member")
        self.learners.discard(server_id)
        return self._change(others)

    async def transfer_leadership(
        self, server_id: str | None, *, deadline_s: float
    ) -> str:
        self._check(deadline_s)
        leader_id = self.leadership.leader_id
        voters = [one.server_id for one in self.membership().members if one.is_voter]
        others = [voter for voter in voters if voter != leader_id]
        chosen = server_id or next(iter(others), None)
        if chosen not in voters:
            raise RequestError(f"{chosen} has no vote")
        self.leadership.lose(chosen)
        return chosen

    async def save_snapshot(self, *, deadline_s: float) -> SavedSnapshot:
        await self.gate.wait()
        self._check(deadline_s)
        index = self.replica.applied_index()
        return SavedSnapshot(
            index=index,
            term=self.leadership.term,
            name=f"{index}.snapshot",
            byte_count=len(self.snapshot_bytes),
        )

    async def read_snapshot(
        self, snapshot: SavedSnapshot, offset: int, length: int
    ) -> bytes:
        if self.read_errors:
            raise self.read_errors.pop(0)
        return self.snapshot_bytes[offset : offset + length]

    def _check(self, deadline_s: float) -> None:
        assert deadline_s > 0
        if self.errors:
            raise self.errors.pop(0)
        if self.leadership.leader_id is None:
            raise NoLeaderError("No cluster leader")

    def _without(self, server_id: str) -> list[ServerAddress]:
        servers = self.leadership.addresses
        return [server for server in servers if server.server_id != server_id]

    def _change(self, servers: Sequence[ServerAddress]) -> int:
        self.leadership.addresses = servers
        self.index += 1
        return self.index


class FakeCounter:
    """Counts by label."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}

    def add(self, amount: float = 1.0, label: str = "") -> None:
        self.counts[label] = self.counts.get(label, 0.0) + amount


class FakeTiming:
    """Keeps every duration, by label."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def observe(self, seconds: float, label: str = "") -> None:
        self.seconds.setdefault(label, []).append(seconds)


class FakeMetrics:
    """Keeps what is declared, to be looked at by name."""

    def __init__(self) -> None:
        self.counters: dict[str, FakeCounter] = {}
        self.timings: dict[str, FakeTiming] = {}
        self.gauges: dict[str, Callable[[], float]] = {}

    def counter(self, name: str, description: str, label: str = "") -> FakeCounter:
        assert name.endswith("_total"), name
        assert name not in self.counters, name
        return self.counters.setdefault(name, FakeCounter())

    def timing(self, name: str, description: str, label: str = "") -> FakeTiming:
        assert name.endswith("_seconds"), name
        assert name not in self.timings, name
        return self.timings.setdefault(name, FakeTiming())

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        assert name not in self.gauges, name
        self.gauges[name] = read

    def count(self, name: str, label: str = "") -> float:
        """Return a counter's value."""
        return self.counters[name].counts.get(label, 0.0)
