"""A network in memory, and servers' transports on it, for the tests of this room."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from nodestate.errors import ConfigError
from nodestate.ports import Connection, ConnectionHandler
from nodestate.replication.frames import (
    PROTOCOL_VERSION,
    Hello,
    Message,
    Refusal,
    Welcome,
)

HOST = "127.0.0.1"


class MemoryConnection:
    """One end: bytes reach the other end's handler in a later turn of the loop."""

    def __init__(self, handler: ConnectionHandler) -> None:
        self.handler = handler
        self.other: MemoryConnection | None = None
        self.writes: list[bytes] = []
        self.buffered = 0
        self.is_closed = False
        self.certified_name: str | None = None

    def write(self, data: bytes) -> None:
        if self.is_closed:
            return
        self.writes.append(data)
        if self.other is not None:
            asyncio.get_running_loop().call_soon(self.other.arrive, data)

    def arrive(self, data: bytes) -> None:
        if not self.is_closed:
            self.handler.on_bytes(data)

    def buffered_bytes(self) -> int:
        return self.buffered

    def remote_host(self) -> str:
        return HOST

    def peer_name(self) -> str | None:
        return self.certified_name

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        loop = asyncio.get_running_loop()
        for end in (self, self.other):
            if end is not None and not end.is_closed:
                # The closing end hears nothing more; what it wrote still arrives first.
                if end is self:
                    end.is_closed = True
                    loop.call_soon(end.handler.on_lost)
                else:
                    loop.call_soon(end.lose)

    def lose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.handler.on_lost()


class MemoryListener:
    def __init__(self, network: "MemoryNetwork", port: int) -> None:
        self._network = network
        self._port = port

    def port(self) -> int:
        return self._port

    async def close(self) -> None:
        self._network.accepts.pop(self._port, None)


class MemoryNetwork:
    """Who listens where; `dials` counts attempts by port, also those that fail."""

    def __init__(self) -> None:
        self.accepts: dict[int, Callable[[], ConnectionHandler]] = {}
        self.dials: dict[int, int] = {}
        self.connections: list[MemoryConnection] = []

    async def listen(
        self, host: str, port: int, accept: Callable[[], ConnectionHandler]
    ) -> MemoryListener:
        if port in self.accepts:
            raise ConfigError(f"cannot listen at {host}:{port}")
        self.accepts[port] = accept
        return MemoryListener(self, port)

    async def connect(
        self, host: str, port: int, handler: ConnectionHandler, *, deadline_s: float
    ) -> Connection:
        self.dials[port] = self.dials.get(port, 0) + 1
        await asyncio.sleep(0)
        if port not in self.accepts:
            raise ConnectionRefusedError(f"nobody listens at {port}")
        here = MemoryConnection(handler)
        there = MemoryConnection(self.accepts[port]())
        here.other, there.other = there, here
        self.connections.append(here)
        there.handler.on_made(there)
        handler.on_made(here)
        return here


class Stranger:
    """A connection handler that only records: somebody who is no server of ours."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.received = b""
        self.was_lost = False

    def on_made(self, connection: Connection) -> None:
        self.connection = connection

    def on_bytes(self, data: bytes) -> None:
        self.received += data

    def on_lost(self) -> None:
        self.was_lost = True

    def say(self, data: bytes) -> None:
        assert self.connection is not None
        self.connection.write(data)


class Greeter:
    """A handshake that takes everyone, unless a test says otherwise."""

    def __init__(self, server_id: str) -> None:
        self.server_id = server_id
        self.refusal = ""
        self.dislike = ""
        self.refused: list[tuple[str, str]] = []
        self.hellos: list[Hello] = []

    def hello(self) -> Hello:
        return Hello(PROTOCOL_VERSION, self.server_id, f"{self.server_id}-1", None)

    def judge_hello(self, hello: Hello) -> Welcome | Refusal:
        self.hellos.append(hello)
        if self.refusal:
            return Refusal(self.refusal)
        return Welcome(self.server_id, f"{self.server_id}-1", None)

    def judge_welcome(self, welcome: Welcome) -> str:
        return self.dislike

    def was_refused(self, peer_id: str, reason: str) -> None:
        self.refused.append((peer_id, reason))


class Inbox:
    """A receiver that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []
        self.changes: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.then: Callable[[], None] = lambda: None
        """Called after each thing that was noted."""

    def on_message(self, peer_id: str, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append((peer_id, message))
        self.then()

    def on_connected(self, peer_id: str) -> None:
        self.changes.append(("connected", peer_id))
        self.then()

    def on_disconnected(self, peer_id: str) -> None:
        self.changes.append(("disconnected", peer_id))
        self.then()


class TaskList:
    """A spawner whose tasks a test can look at and end."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        self.tasks.append(asyncio.create_task(coroutine, name=name))

    def errors(self) -> list[BaseException]:
        found = [task.exception() for task in self.tasks if task.done()]
        return [error for error in found if error is not None]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
