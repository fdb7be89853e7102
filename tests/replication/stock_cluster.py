"""A hand-driven cluster of the stock package, as it is installed.

For a process of its own: importing our replication changes what PySyncObj reads. Links
keep their order, time stands still until it is moved, and nothing ticks by itself.
"""

import copy
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysyncobj
import pysyncobj.node
import pysyncobj.syncobj
import pysyncobj.transport
from typing_extensions import override

Facts = dict[str, Any]

NEVER_S = 1e9
LEADER = 2
_OUTCOMES = {
    value: name
    for name, value in vars(pysyncobj.FAIL_REASON).items()
    if not name.startswith("_")
}


class HandTime:
    """The time that the stock package sees."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


TIME = HandTime()
pysyncobj.syncobj.monotonicTime = TIME


class Seat(pysyncobj.transport.Transport):  # type: ignore[misc]  # untyped
    """A server's place at the links."""

    def __init__(self, cluster: "StockCluster", name: str) -> None:
        super().__init__(None, None, None)
        self._cluster = cluster
        self._name = name

    @override
    def send(self, node: Any, message: Any) -> bool:
        return self._cluster.send(self._name, node.id, message)

    @override
    def addNode(self, node: Any) -> None:
        """Everyone is known anyway."""

    @override
    def dropNode(self, node: Any) -> None:
        """Whether they are connected is for the test to say."""

    @override
    def destroy(self) -> None:
        """There is nothing to close."""


class StockServer(pysyncobj.SyncObj):  # type: ignore[misc]  # untyped
    """One server: a list of values, each with the index that it was applied under."""

    def __init__(self, cluster: "StockCluster", name: str, conf: Any) -> None:
        self.seat = Seat(cluster, name)
        self.told: list[tuple[str, str]] = []
        self.ends: Callable[[str], None] = lambda value: None
        super().__init__(
            pysyncobj.node.Node(name),
            [pysyncobj.node.Node(one) for one in cluster.names if one != name],
            conf,
            transport=self.seat,
        )
        self.applied: list[tuple[int, str]] = []

    @pysyncobj.replicated  # type: ignore[untyped-decorator]
    def add(self, value: str) -> None:
        """Apply a value; some of them fail."""
        if value == "poison":
            raise ValueError(value)
        self.applied.append((self.raftLastApplied + 1, value))

    def propose(self, value: str, size: int = 0) -> None:
        """Propose a value, and have it noted what the caller is told."""

        def tell(_: object, reason: int) -> None:
            self.told.append((value, _OUTCOMES[reason]))
            self.ends(value)

        self.add(value.ljust(size, "."), callback=tell)

    def values(self) -> list[str]:
        return [value.rstrip(".") for _, value in self.applied]

    def acknowledged(self) -> list[str]:
        return [value for value, outcome in self.told if outcome == "SUCCESS"]

    def get(self, name: str) -> Any:
        """Return a private attribute."""
        return getattr(self, f"_SyncObj__{name}")

    def put(self, name: str, value: Any) -> None:
        setattr(self, f"_SyncObj__{name}", value)

    def of_peer(self, name: str, peer: str) -> int:
        """Return what a leader has noted of a peer."""
        return int({node.id: value for node, value in self.get(name).items()}[peer])

    def log(self) -> list[tuple[int, int]]:
        """Return index and term of each entry."""
        return [entry[1:] for entry in self.get("raftLog")[:]]

    def last_index(self) -> int:
        return int(self.get("raftLog")[-1][1])

    def tick(self) -> None:
        TIME.now_s += 0.0001
        self.doTick(0)

    def beat(self) -> None:
        """Send what is there to send."""
        self.put("newAppendEntriesTime", 0)
        self.tick()

    def stand(self) -> None:
        """Let its patience with the leader end now."""
        self.put("raftElectionDeadline", 0)
        self.tick()

    def compact(self) -> None:
        """Write a dump and shorten the log."""
        self.forceLogCompaction()
        for _ in range(3):
            self.tick()


class StockCluster:
    """Servers and links; with a folder, they have journals, and dumps if wanted."""

    def __init__(
        self,
        names: str = "ABC",
        folder: Path | None = None,
        *,
        has_dumps: bool = False,
        **settings: Any,
    ) -> None:
        self.names = list(names)
        self.links: dict[tuple[str, str], deque[Any]] = defaultdict(deque)
        self.up: set[tuple[str, str]] = set()
        self.servers: dict[str, StockServer] = {}
        self._folder = folder
        self._has_dumps = has_dumps
        self._settings = settings
        for name in self.names:
            self.start(name)

    def __getitem__(self, name: str) -> StockServer:
        return self.servers[name]

    def file(self, name: str, suffix: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}.{suffix}"

    def start(self, name: str) -> StockServer:
        """Start a server, for the first time or again, and connect it."""
        settings = {
            "autoTick": False,
            "raftMinTimeout": NEVER_S,
            "raftMaxTimeout": 2 * NEVER_S,
            "connectionTimeout": 3 * NEVER_S,
            "leaderFallbackTimeout": NEVER_S,
            "logCompactionMinEntries": int(NEVER_S),
            "logCompactionMinTime": NEVER_S,
            "useFork": False,
            **self._settings,
        }
        if self._folder is not None:
            settings["journalFile"] = str(self.file(name, "journal"))
            if self._has_dumps:
                settings["fullDumpFile"] = str(self.file(name, "dump"))
        server = StockServer(self, name, pysyncobj.SyncObjConf(**settings))
        self.servers[name] = server
        for other in self.servers:
            if other != name:
                self.join(name, other)
        return server

    def kill(self, name: str) -> StockServer:
        for other in self.names:
            if other != name:
                self.cut(name, other)
        return self.servers.pop(name)

    def join(self, name: str, other: str) -> None:
        for here, there in ((name, other), (other, name)):
            if (here, there) not in self.up:
                self.up.add((here, there))
                self.servers[here].seat._onNodeConnected(pysyncobj.node.Node(there))

    def cut(self, name: str, other: str) -> None:
        for here, there in ((name, other), (other, name)):
            self.links[here, there].clear()
            if (here, there) in self.up:
                self.up.discard((here, there))
                self.servers[here].seat._onNodeDisconnected(pysyncobj.node.Node(there))

    def isolate(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.cut(name, other)

    def send(self, sender: str, receiver: str, message: Any) -> bool:
        if (sender, receiver) not in self.up:
            return False
        self.links[sender, receiver].append(copy.deepcopy(message))
        return True

    def waiting(self, sender: str, receiver: str) -> list[Any]:
        return list(self.links[sender, receiver])

    def deliver(self, sender: str, receiver: str, count: int | None = None) -> None:
        """Deliver the oldest messages of a link."""
        link = self.links[sender, receiver]
        left = len(link) if count is None else count
        while link and left > 0:
            left -= 1
            self.hand_over(sender, receiver, link.popleft())

    def hand_over(self, sender: str, receiver: str, message: Any) -> None:
        if receiver in self.servers:
            seat = self.servers[receiver].seat
            seat._onMessageReceived(pysyncobj.node.Node(sender), message)

    def drop(self, sender: str, receiver: str) -> None:
        self.links[sender, receiver].clear()

    def settle(self, rounds: int = 6) -> None:
        for _ in range(rounds):
            for server in self.servers.values():
                if server.get("raftState") == LEADER:
                    server.beat()
                else:
                    server.tick()
            for sender, receiver in list(self.links):
                self.deliver(sender, receiver)

    def elect(self, name: str) -> StockServer:
        self.servers[name].stand()
        self.settle(8)
        assert self.servers[name].get("raftState") == LEADER
        return self.servers[name]
