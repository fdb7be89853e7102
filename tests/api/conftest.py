"""A server's HTTP side on a free port, over the fakes: no log, no disk, no real time."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from cluster.simulation.disk import MemoryDisk
from nodestate.api.app import Dependencies, build_server
from nodestate.api.connections import ConnectionServer
from nodestate.config import ServerConfig
from nodestate.model.command import UpdateNodeStatus
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import Accepted
from nodestate.model.question import (
    Answer as LeaderAnswer,
    CollectedAnswer,
    CollectNow,
    Heartbeat,
    HeartbeatAnswer,
    Question,
    ReadResetFile,
    ResetFileAnswer,
    StartTimers,
    TimersAnswer,
)
from nodestate.replication.uploads import DiskUpload
from nodestate.telemetry import MetricsRegistry
from tests.fakes import (
    FakeAdmin,
    FakeClock,
    FakeLeaderCalls,
    FakeLeadership,
    FakeProposer,
    FakeReplica,
    SequentialIds,
    settle,
)

NODE_ID = "f7476465-4d6e-c0de-26d0-e383c49be941"
OTHER_ID = "12345678-aaaa-bbbb-cccc-0123456789ab"
UNKNOWN_ID = "11111111-2222-3333-4444-555555555555"
SECRET = "6f8d9c11-0000-4000-8000-000000000001"
NODE_PATH = f"/v1/node/{NODE_ID}"
TTL_NS = 12_000_000_000
QUESTION = msgpack_decoder(Question)  # type: ignore[arg-type, var-annotated]


@dataclass(frozen=True)
class Answer:
    """What came back: header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def index(self) -> int:
        return int(self.headers["x-nomad-index"])

    def nomad_headers(self) -> set[str]:
        return {name for name in self.headers if name.startswith("x-nomad-")}


def request_bytes(
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    version: str = "1.1",
) -> bytes:
    """Return a request as it goes over the wire; text as it stands, objects as JSON."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost"]
    lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
    content = b""
    if body is not None:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        content = text if isinstance(text, bytes) else text.encode()
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


async def read_answer(reader: asyncio.StreamReader, *, is_head: bool = False) -> Answer:
    """Read one answer, and no byte more."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.rstrip("\r\n").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    headers = {name.lower(): text for name, text in headers.items()}
    length = 0 if is_head else int(headers.get("content-length", "0"))
    return Answer(
        int(status_line.split(" ")[1]), headers, await reader.readexactly(length)
    )


class CountingClock(FakeClock):
    """Says how often somebody asked to be woken."""

    def timer_count(self) -> int:
        return self._timer_count


@dataclass
class Api:
    """The HTTP side and everything that it was handed."""

    replica: FakeReplica
    leadership: FakeLeadership
    proposer: FakeProposer
    leader_calls: FakeLeaderCalls
    admin: FakeAdmin
    disk: MemoryDisk
    clock: CountingClock
    ids: SequentialIds
    metrics: MetricsRegistry
    logs: list[Mapping[str, Any]]
    server: ConnectionServer
    port: int
    questions: list[Any] = field(default_factory=list)
    reset_index: int = 0
    """What is in the leader's reset file."""

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        async with self.connected() as (reader, writer):
            writer.write(request_bytes(method, path, body, headers))
            return await read_answer(reader, is_head=method == "HEAD")

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("GET", path, headers=headers)

    async def put(self, path: str, body: object = None) -> Answer:
        return await self.ask("PUT", path, body)

    @asynccontextmanager
    async def connected(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=1 << 26
        )
        try:
            yield reader, writer
        finally:
            writer.close()

    async def register(self, node_id: str = NODE_ID, **fields: Any) -> Answer:
        answer = await self.put("/v1/nodes", {"Node": node_body(node_id, **fields)})
        assert answer.status == 200, answer.text
        return answer

    async def read(self, node_id: str = NODE_ID) -> dict[str, Any]:
        node: dict[str, Any] = (await self.get(f"/v1/node/{node_id}")).json
        return node

    def gauge(self, name: str) -> float:
        gauges = self.metrics.summary(self.clock.now_ns()).gauges
        return next(gauge.value for gauge in gauges if gauge.name == name)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Let the loop run until something has come true."""
        async with asyncio.timeout(10):
            while not is_true():
                await settle()

    async def until_waiting(self, count: int = 1) -> None:
        """Let the loop run until so many readers wait."""
        await self.until(lambda: self.gauge("nodestate_api_waiters") == count)

    async def read_during(
        self,
        path: str,
        write: Callable[[], Awaitable[object]],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return what a blocking read answers while which a write is made."""
        reading = asyncio.create_task(self.get(path, headers))
        await self.until_waiting()
        await write()
        return await reading

    async def read_while_time_passes(self, path: str, seconds: float) -> Answer:
        """Return what a request answers that needs time to pass."""
        timers_before = self.clock.timer_count()
        reading = asyncio.create_task(self.get(path))
        await self.until(lambda: self.clock.timer_count() > timers_before)
        await self.pass_time(reading, seconds)
        return await reading

    async def pass_time(self, task: asyncio.Task[Any], seconds: float) -> None:
        """Step through that much time, or until the task is done."""
        for _ in range(int(seconds / 0.05) + 1):
            if task.done():
                return
            await self.clock.step(0.05)


def node_body(node_id: str = NODE_ID, **fields: Any) -> dict[str, Any]:
    """Return a node as an agent sends it; `None` leaves a field out."""
    node = {
        "ID": node_id,
        "SecretID": SECRET,
        "Datacenter": "dc1",
        "Name": "alpha",
        "Attributes": {"kernel.name": "linux"},
        "Status": "ready",
        **fields,
    }
    return {key: value for key, value in node.items() if value is not None}


@pytest.fixture(autouse=True)
def row() -> None:
    """Take what `rows` says, which is there to be read in the test's id."""


ApiFactory = Callable[..., Awaitable[Api]]


@asynccontextmanager
async def running_api(**settings: Any) -> AsyncIterator[Api]:
    """Serve over the fakes on a free port, as the leader, from an empty state."""
    replica, leadership = FakeReplica(), FakeLeadership()
    proposer, leader_calls = FakeProposer(replica, leadership), FakeLeaderCalls()
    admin, disk = FakeAdmin(replica, leadership), MemoryDisk()
    clock, ids, metrics = CountingClock(), SequentialIds(), MetricsRegistry()
    logs: list[Mapping[str, Any]] = []
    server = build_server(
        Dependencies(
            config=ServerConfig(**settings),
            proposer=proposer,
            view=replica,
            leadership=leadership,
            leader_calls=leader_calls,
            admin=admin,
            is_in_dispute=lambda: admin.in_dispute,
            receive_snapshot=lambda: DiskUpload(disk),
            watch=replica.watch,
            clock=clock,
            ids=ids,
            metrics=metrics,
            logger=logger_into(logs),
        )
    )
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(server, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    api = Api(
        replica,
        leadership,
        proposer,
        leader_calls,
        admin,
        disk,
        clock,
        ids,
        metrics,
        logs,
        server,
        port,
    )
    leader_calls.answer_with(lambda asked: answer_as_leader(api, asked))
    try:
        yield api
    finally:
        listener.close()
        await server.shutdown(timeout=1)


@pytest.fixture
async def make_api() -> AsyncIterator[ApiFactory]:
    """Return how to start an API with settings of one's own."""
    async with AsyncExitStack() as stack:
        yield lambda **settings: stack.enter_async_context(running_api(**settings))


@pytest.fixture
async def api(make_api: ApiFactory) -> Api:
    """An API over an empty state, on the leader."""
    return await make_api()


@pytest.fixture
async def guarded(make_api: ApiFactory) -> Api:
    """An API over an empty state where ACLs are on."""
    return await make_api(acl_enabled=True)


def logger_into(logs: list[Mapping[str, Any]]) -> Any:
    """Return a logger that keeps its lines."""

    def keep(_: object, __: str, event: Any) -> Any:
        logs.append(dict(event))
        raise structlog.DropEvent

    return structlog.wrap_logger(
        None,
        processors=[structlog.processors.add_log_level, keep],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        context_class=dict,
    )


async def answer_as_leader(api: Api, asked: bytes) -> bytes:
    """Answer as the heartbeat service does, with one TTL for all."""
    question = QUESTION.decode(asked)
    api.questions.append(question)
    answer: LeaderAnswer
    match question:
        case StartTimers(keys):
            answer = TimersAnswer((TTL_NS,) * len(keys))
        case Heartbeat():
            answer = heartbeat_answer(api, question)
        case CollectNow():
            answer = CollectedAnswer(is_whole=True)
        case ReadResetFile():
            answer = ResetFileAnswer(api.reset_index)
        case _:
            raise AssertionError(question)
    return MSGPACK.encode(answer)


def heartbeat_answer(api: Api, asked: Heartbeat) -> HeartbeatAnswer:
    node = api.replica.state().node(asked.key)
    kept = NodeStatus.READY if node is None else node.status
    command = UpdateNodeStatus(
        key=asked.key,
        status=asked.status or kept,
        secret_sha256=asked.secret_sha256,
        at_ns=asked.at_ns,
        seed=asked.seed,
    )
    outcome = api.replica.apply(command)
    is_alive = command.status is not NodeStatus.DOWN
    is_accepted = isinstance(outcome, Accepted)
    return HeartbeatAnswer(outcome, TTL_NS if is_accepted and is_alive else 0)
