"""A real cluster as tests see it: its processes, its files, and its answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from cluster.fleet import make_node, node_id, secret_id
from cluster.probe import ask_server, wait_for_leader
from cluster.servers import (
    ServerFiles,
    ServerProcess,
    Setting,
    lay_out,
    stop_all,
)

SERVING_S: Final = 40.0
POLL_S: Final = 0.02
# Elections within a second or so, and journals that take no time to make.
QUICK: Final[Mapping[str, Setting]] = {
    "raft_heartbeat_s": 0.1,
    "election_timeout_s_min": 0.5,
    "election_timeout_s_max": 1.0,
    "segment_bytes": 1 << 20,
    "log_format": "json",
}
# No agent sends heartbeats, and no node goes down while a test takes its time.
LONG_TTL: Final[Mapping[str, Setting]] = {
    "heartbeat_ttl_s_min": 3600.0,
    "failover_heartbeat_ttl_s": 3600.0,
}


class Answer(msgspec.Struct, frozen=True):
    """What a server said."""

    status: int
    body: bytes
    index: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RunningCluster:
    """The servers of one test, and one session to ask them all."""

    def __init__(
        self, directory: Path, *, count: int, settings: Mapping[str, Setting]
    ) -> None:
        self.servers = lay_out(
            directory, count=count, settings={**QUICK, **LONG_TTL, **settings}
        )
        self.processes = {files.name: ServerProcess(files) for files in self.servers}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "RunningCluster":
        """Start all servers and wait until they serve."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=SERVING_S),
        )
        try:
            self.start_all()
            await self.wait_for_leader()
        except BaseException:
            await self.session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up; the fixture stops the servers."""
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    @property
    def running(self) -> list[ServerFiles]:
        return [
            files for files in self.servers if self.processes[files.name].is_running
        ]

    def start_all(self) -> None:
        for process in self.processes.values():
            if not process.is_running:
                process.start()

    def destroy(self) -> None:
        for process in self.processes.values():
            if process.is_running:
                process.thaw()
        stop_all(list(self.processes.values()))

    async def wait_for_leader(
        self, servers: Sequence[ServerFiles] | None = None
    ) -> ServerFiles:
        """Return the leader that these servers, or all of them, agree on."""
        awaited = self.servers if servers is None else servers

        def check() -> None:
            for files in awaited:
                process = self.processes[files.name]
                assert process.is_running, f"has ended:\n{process.log_tail()}"

        return await wait_for_leader(
            self.session, awaited, within_s=SERVING_S, check=check
        )

    async def is_serving(self, files: ServerFiles) -> bool:
        return (await ask_server(self.session, files)).is_serving

    async def get(self, files: ServerFiles, path: str) -> Answer:
        async with self.session.get(files.url + path) as answer:
            body = await answer.read()
            index = int(answer.headers.get("X-Nomad-Index", "0"))
            return Answer(answer.status, body, index)

    async def put(self, files: ServerFiles, path: str, body: object) -> Answer:
        async with self.session.post(files.url + path, json=body) as answer:
            text = await answer.read()
            index = int(answer.headers.get("X-Nomad-Index", "0"))
            return Answer(answer.status, text, index)

    async def register(self, files: ServerFiles, count: int) -> list[str]:
        """Register a fleet in one entry, and return the ids."""
        nodes = [make_node(number) for number in range(count)]
        answer = await self.put(files, "/v1/nodes", {"Nodes": nodes})
        assert answer.status == 200, answer.body
        return [node_id(number) for number in range(count)]

    async def heartbeat(self, files: ServerFiles, number: int) -> Answer:
        body = {"SecretID": secret_id(number), "Status": "ready"}
        return await self.put(files, f"/v1/node/{node_id(number)}/heartbeat", body)

    async def set_eligibility(self, files: ServerFiles, node: str, word: str) -> Answer:
        path = f"/v1/node/{node}/eligibility"
        return await self.put(files, path, {"Eligibility": word})

    async def settle(self) -> None:
        """Bring every running server up to every write acknowledged so far."""
        for files in self.running:
            answer = await self.get(files, "/v1/nodes?consistent&per_page=1")
            assert answer.status == 200, answer.body


async def wait_until(
    condition: Callable[[], bool | Awaitable[bool]], *, within_s: float = SERVING_S
) -> None:
    """Return once the condition holds; fail if it does not in time."""
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(POLL_S)


def log_lines(process: ServerProcess, event: str) -> list[dict[str, Any]]:
    """Return a server's log lines of one kind."""
    lines = [
        json.loads(line)
        for line in process.log_text().splitlines()
        if line.startswith("{")
    ]
    return [line for line in lines if line.get("event") == event]
