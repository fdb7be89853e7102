"""A hand-driven cluster: nothing is delivered, synced or applied unless a test says so."""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from nodestate.replication.configuration import (
    ConfigurationLog,
    initial_configuration,
)
from nodestate.replication.engine import Engine
from nodestate.replication.formation import first_entry
from nodestate.replication.frames import (
    Formation,
    Message,
    SnapshotChunk,
    SnapshotReply,
)
from nodestate.replication.records import Entry, LogBase
from nodestate.replication.surroundings import Surroundings, Timeouts

TIMEOUTS = Timeouts(heartbeat_s=0.1, election_s_min=1.0, election_s_max=2.0)


class MemoryJournal:
    """A journal that is durable up to where a test synced it; a crash loses the rest."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._base = LogBase(0, 0)
        self._term = 0
        self._voted_for: str | None = None
        self._position = 0
        self._durable_position = 0
        self._durable_index = 0
        self._durable: tuple[list[Entry], int, str | None] = ([], 0, None)

    def term(self) -> int:
        return self._term

    def voted_for(self) -> str | None:
        return self._voted_for

    def base_index(self) -> int:
        return self._base.index

    def first_index(self) -> int:
        return self._base.index + 1

    def last_index(self) -> int:
        return self._base.index + len(self._entries)

    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self._base.term

    def entry(self, index: int) -> Entry:
        offset = index - self._base.index - 1
        assert 0 <= offset < len(self._entries), index
        return self._entries[offset]

    def term_at(self, index: int) -> int:
        if index == self._base.index:
            return self._base.term
        return self.entry(index).term

    def entries_from(self, index: int, bytes_max: int) -> tuple[Entry, ...]:
        taken: list[Entry] = []
        for entry in self._entries[index - self._base.index - 1 :]:
            bytes_max -= len(entry.body)
            if taken and bytes_max < 0:
                break
            taken.append(entry)
        return tuple(taken)

    def append(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.last_index() + 1
            self._entries.append(entry)
            self._position += 1

    def truncate_from(self, index: int) -> None:
        assert index > self._base.index
        del self._entries[index - self._base.index - 1 :]
        self._position += 1
        self._durable_index = min(self._durable_index, index - 1)

    def shorten(self, keep_from: int) -> None:
        """Let go of the entries before `keep_from`, as after a snapshot."""
        base = LogBase(keep_from - 1, self.term_at(keep_from - 1))
        del self._entries[: keep_from - 1 - self._base.index]
        self._base = base

    def reset_to(self, base: LogBase) -> None:
        """Begin behind a snapshot, with none of the entries."""
        self._entries.clear()
        self._base = base
        self._position += 1

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        self._term, self._voted_for = term, voted_for
        self._position += 1

    def position(self) -> int:
        return self._position

    def durable_position(self) -> int:
        return self._durable_position

    def durable_index(self) -> int:
        return max(self._durable_index, self._base.index)

    def sync(self) -> None:
        """Make all of it durable."""
        self._durable_position = self._position
        self._durable_index = self.last_index()
        self._durable = (list(self._entries), self._term, self._voted_for)

    def after_crash(self) -> "MemoryJournal":
        """Return what a restart finds."""
        journal = MemoryJournal()
        entries, term, voted_for = self._durable
        journal._base = self._base
        journal.append(entries)
        journal.set_hard_state(term, voted_for)
        journal.sync()
        return journal


class HandClock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def now_ns(self) -> int:
        return int(self.now_s * 1e9)

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the engine does not sleep")

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        raise AssertionError("the engine sets no timers")


class NamedIds:
    """Ids in order, and jitter that differs from server to server."""

    def __init__(self, name: str) -> None:
        self._count = 0
        self._random = random.Random(name)

    def new_id(self) -> str:
        self._count += 1
        return f"id{self._count}"

    def new_seed(self) -> bytes:
        return bytes(16)

    def jitter(self) -> float:
        return self._random.random()


class HandServer:
    """One engine with its journal, and what it applied."""

    def __init__(self, cluster: "HandCluster", name: str, journal: MemoryJournal):
        self.cluster = cluster
        self.name = name
        self.journal = journal
        self.applied: list[Entry] = []
        self.logger = RecordingLogger()
        self.needed_snapshots: list[str] = []
        self.chunks: list[tuple[str, SnapshotChunk]] = []
        self.snapshot_replies: list[tuple[str, SnapshotReply]] = []
        self.engine = Engine(
            name,
            "i" + name,
            ConfigurationLog(1, initial_configuration(cluster.formation)),
            TIMEOUTS,
            Surroundings(
                journal=journal,
                send=self._send,
                is_connected=lambda peer: (name, peer) in cluster.up,
                apply=self._apply,
                wake=lambda: None,
                members_changed=lambda: None,
                installs=self,
                clock=cluster.clock,
                ids=NamedIds(name),
                logger=cast(Any, self.logger),
            ),
        )

    def _send(self, peer: str, message: Message) -> bool:
        if (self.name, peer) not in self.cluster.up:
            return False
        self.cluster.links[self.name, peer].append(message)
        return True

    def _apply(self, entry: Entry) -> None:
        self.applied.append(entry)

    def need_snapshot(self, peer_id: str) -> None:
        self.needed_snapshots.append(peer_id)

    def on_chunk(self, leader_id: str, chunk: SnapshotChunk) -> None:
        self.chunks.append((leader_id, chunk))

    def on_snapshot_reply(self, peer_id: str, reply: SnapshotReply) -> None:
        self.snapshot_replies.append((peer_id, reply))

    def bodies(self) -> list[bytes]:
        """Return what was applied, without entry 1 and the no-ops."""
        return [entry.body for entry in self.applied if entry.body[0] == 0]

    def terms(self) -> list[int]:
        """Return the terms of the log, from entry 1 on."""
        return [
            self.journal.term_at(index)
            for index in range(1, self.journal.last_index() + 1)
        ]

    def tick(self) -> None:
        self.engine.doTick(0)

    def sync(self) -> None:
        """Let the disk catch up."""
        self.journal.sync()
        self.engine.on_durable()

    def step(self) -> None:
        """Tick, sync, and tick again."""
        self.tick()
        self.sync()
        self.tick()

    def propose(self, name: str, size: int = 0) -> int:
        return self.engine.propose(b"\x00" + name.encode() + b"x" * size)[0]

    def match_index(self, peer: str) -> int:
        follower = self.engine.follower(peer)
        assert follower is not None
        return follower[0]


class RecordingLogger:
    """Keeps the names of the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **_: object) -> None:
        self.lines.append(event)

    warning = error = critical = debug = info


class HandCluster:
    """Servers and the links between them; each link keeps its order."""

    def __init__(self, names: str = "ABC") -> None:
        self.names = list(names)
        self.clock = HandClock()
        self.up: set[tuple[str, str]] = set()
        self.links: dict[tuple[str, str], deque[Any]] = defaultdict(deque)
        members = tuple((name, "i" + name) for name in self.names)
        self.formation = formation = Formation("c", members)
        self.servers: dict[str, HandServer] = {}
        for name in self.names:
            journal = MemoryJournal()
            journal.append([first_entry(formation)])
            journal.set_hard_state(1, None)
            journal.sync()
            self.servers[name] = HandServer(self, name, journal)
        for name in self.names:
            for other in self.names:
                if name < other:
                    self.connect(name, other)

    def __getitem__(self, name: str) -> HandServer:
        return self.servers[name]

    def connect(self, name: str, other: str) -> None:
        for pair in ((name, other), (other, name)):
            self.up.add(pair)
            if pair[0] in self.servers:
                self.servers[pair[0]].engine.on_connected(pair[1])

    def disconnect(self, name: str, other: str) -> None:
        for pair in ((name, other), (other, name)):
            self.up.discard(pair)
            self.links[pair].clear()
            if pair[0] in self.servers:
                self.servers[pair[0]].engine.on_disconnected(pair[1])

    def kill(self, name: str) -> None:
        """Kill a server: what it did not sync is gone."""
        for other in self.names:
            if other != name:
                self.disconnect(name, other)
        self.killed = self.servers.pop(name)

    def add(self, name: str) -> HandServer:
        """Start a server that the cluster was not formed with: it knows of it, no more."""
        journal = MemoryJournal()
        journal.append([first_entry(self.formation)])
        journal.sync()
        self.names.append(name)
        return self.restart(name, journal)

    def restart(self, name: str, journal: MemoryJournal) -> HandServer:
        self.servers[name] = HandServer(self, name, journal)
        for other in self.servers:
            if other != name:
                self.connect(name, other)
        return self.servers[name]

    def waiting(self, sender: str, receiver: str) -> list[Any]:
        return list(self.links[sender, receiver])

    def deliver(self, sender: str, receiver: str, count: int | None = None) -> int:
        """Deliver the oldest messages of a link; the receiver acts, and syncs."""
        server = self.servers[receiver]
        link = self.links[sender, receiver]
        delivered = 0
        while link and (count is None or delivered < count):
            server.engine.deliver(sender, link.popleft())
            delivered += 1
        server.step()
        return delivered

    def drop(self, sender: str, receiver: str) -> int:
        """Lose what is on a link, the connection with it."""
        count = len(self.links[sender, receiver])
        self.links[sender, receiver].clear()
        return count

    def beat(self, leader: HandServer) -> None:
        """Let a leader's next heartbeat be due."""
        self.clock.now_s += TIMEOUTS.heartbeat_s
        leader.step()

    def elect(self, name: str) -> HandServer:
        """Let a server win an election, and settle."""
        self.servers[name].engine.campaign_at_once()
        self.settle()
        assert self.servers[name].engine.is_leader()
        return self.servers[name]

    def settle(self, rounds: int = 12) -> None:
        """Let everything run until nothing is on its way any more."""
        for _ in range(rounds):
            for server in self.servers.values():
                if server.engine.is_leader():
                    self.beat(server)
                server.step()
            for sender, receiver in list(self.links):
                if receiver in self.servers:
                    self.deliver(sender, receiver)
