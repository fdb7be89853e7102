"""Clients that write to a cluster and write down what they asked and were told.

A writer speaks to one server and owns the nodes that it writes to, so what a node must
look like in the end follows from its own record alone. No node is written to more often
than it keeps events: its history in the end shows every write that was ever accepted.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from cluster.fleet import make_node, node_id
from cluster.servers import ServerFiles

# Nomad keeps ten events of a node; its registration is the first of them.
WRITES_PER_NODE: Final = 9
ASK_S: Final = 8.0
RETRY_S: Final = 0.02


class Write(msgspec.Struct, kw_only=True):
    """One write: `index` is set once it is acknowledged.

    Without an index it is `unknown` whether it happened, unless the server said that it
    did not.
    """

    node_id: str
    eligibility: str
    index: int | None = None
    is_unknown: bool = True


class Record:
    """All that the clients of one run have seen."""

    def __init__(self) -> None:
        self.writes: dict[str, list[Write]] = {}
        self.acknowledged_count = 0
        self.went_back: list[str] = []

    def begin(self, node: str, eligibility: str) -> Write:
        """Take a write into the record before it is sent."""
        write = Write(node_id=node, eligibility=eligibility)
        self.writes.setdefault(node, []).append(write)
        return write

    def acknowledge(self, write: Write, index: int) -> None:
        """Take note that a server vouched for it."""
        write.index = index
        write.is_unknown = False
        self.acknowledged_count += 1


class Writer:
    """One client of one server: it registers nodes and flips their eligibility in turn."""

    def __init__(
        self, record: Record, files: ServerFiles, numbers: Iterator[int]
    ) -> None:
        self._record = record
        self._files = files
        self._numbers = numbers
        self._last_index = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Write until told to stop; a server that is down is tried again."""
        timeout = aiohttp.ClientTimeout(total=ASK_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not stop.is_set():
                await self._write_one_node(session, next(self._numbers), stop)

    async def _write_one_node(
        self, session: aiohttp.ClientSession, number: int, stop: asyncio.Event
    ) -> None:
        """Register a node, then close and open it; give it up if that is in doubt."""
        node = node_id(number)
        registered = await self._write(
            session, node, "eligible", "/v1/nodes", {"Node": make_node(number)}
        )
        words = itertools.cycle(("ineligible", "eligible"))
        for word in itertools.islice(words, WRITES_PER_NODE - 1):
            if not registered or stop.is_set():
                return
            path = f"/v1/node/{node}/eligibility"
            await self._write(session, node, word, path, {"Eligibility": word})

    async def _write(
        self,
        session: aiohttp.ClientSession,
        node: str,
        word: str,
        path: str,
        body: dict[str, Any],
    ) -> bool:
        """Send one write once, and say whether it was acknowledged."""
        write = self._record.begin(node, word)
        try:
            # A POST, because aiohttp sends a PUT again by itself when a connection that
            # was kept is found closed, and a record of what was sent must be true.
            async with session.post(self._files.url + path, json=body) as answer:
                text = await answer.text()
                if answer.status == 200:
                    self._take(write, int(answer.headers["X-Nomad-Index"]))
                    return True
                write.is_unknown = answer.headers["X-Nodestate-Outcome"] != "none"
                assert answer.status in {503, 504}, f"{path}: {answer.status} {text}"
        except aiohttp.ClientConnectorError:
            write.is_unknown = False
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(RETRY_S)
        return False

    def _take(self, write: Write, index: int) -> None:
        # An index of 0 says that nothing had to be changed: a write in doubt before
        # this one has happened after all, and wanted the same.
        if index == 0:
            write.is_unknown = False
            return
        self._record.acknowledge(write, index)
        if index <= self._last_index:
            self._record.went_back.append(
                f"{self._files.name}: a write at {index} after one at {self._last_index}"
            )
        self._last_index = index


class Reader:
    """One client that reads the list's index of one server, over and over."""

    def __init__(self, record: Record, files: ServerFiles) -> None:
        self._record = record
        self._files = files
        self._last_index = 0
        self.answer_count = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Read until told to stop, and take note of an index that is lower than before."""
        url = f"{self._files.url}/v1/nodes?per_page=1"
        timeout = aiohttp.ClientTimeout(total=ASK_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not stop.is_set():
                try:
                    async with session.get(url) as answer:
                        await answer.read()
                        if answer.status == 200:
                            self._take(int(answer.headers["X-Nomad-Index"]))
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(RETRY_S)

    def _take(self, index: int) -> None:
        self.answer_count += 1
        if index < self._last_index:
            self._record.went_back.append(
                f"{self._files.name}: read {index} after {self._last_index}"
            )
        self._last_index = index


class Workload:
    """Writers and readers on every server, started and stopped together."""

    def __init__(self, servers: Sequence[ServerFiles], *, writers_each: int) -> None:
        self.record = Record()
        self._stop = asyncio.Event()
        numbers = itertools.count()
        self._writers = [
            Writer(self.record, files, numbers)
            for files in servers
            for _ in range(writers_each)
        ]
        self._readers = [Reader(self.record, files) for files in servers]

    async def run(self) -> None:
        """Run all clients until `stop`; an answer that is against the rules is raised."""
        async with asyncio.TaskGroup() as group:
            clients: Sequence[Writer | Reader] = (*self._writers, *self._readers)
            for client in clients:
                group.create_task(client.run(self._stop))

    def stop(self) -> None:
        """Let every client finish the request it is at, and no more."""
        self._stop.set()


class SeenNode(msgspec.Struct, frozen=True):
    """What a server shows of a node in the end."""

    modify_index: int
    eligibility: str
    event_indexes: Sequence[int]


def find_losses(
    record: Record, find_node: Callable[[str], SeenNode | None]
) -> list[str]:
    """Say in words which acknowledged writes the server does not show, and what it invents."""
    complaints: list[str] = []
    for node, writes in record.writes.items():
        complaints += _check_node(node, writes, find_node(node))
    return complaints


def _check_node(
    node: str, writes: Sequence[Write], seen: SeenNode | None
) -> Iterator[str]:
    acknowledged = [write for write in writes if write.index is not None]
    if seen is None:
        if acknowledged:
            yield f"{node}: gone, though written at {acknowledged[-1].index}"
        return
    for write in acknowledged:
        if write.index not in seen.event_indexes:
            yield f"{node}: no trace of the write at {write.index}"
    if seen.modify_index not in seen.event_indexes:
        yield f"{node}: modified at {seen.modify_index}, which no event tells of"
    last = acknowledged[-1] if acknowledged else None
    if last is not None and last.index == seen.modify_index:
        possible = {last.eligibility}
    else:
        possible = {write.eligibility for write in writes if write.is_unknown}
    if seen.eligibility not in possible:
        yield f"{node}: {seen.eligibility}, which nobody may have asked for"
    unknown_count = sum(write.is_unknown for write in writes)
    if len(seen.event_indexes) > len(acknowledged) + unknown_count:
        yield f"{node}: more writes than were asked for"
