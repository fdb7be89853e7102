"""A network in memory: late, cut and broken as a seed says, and never lying.

As TCP, it loses nothing and reorders nothing within a live connection; connections are
independent of each other.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from nodestate.ports import Connection, ConnectionHandler

DELAY_S_MAX: Final = 0.004


class SimulatedNetwork:
    """All connections of a simulation; each server sees it through its `view`."""

    def __init__(self, rng: random.Random, *, delay_s_max: float = DELAY_S_MAX) -> None:
        self._rng = rng
        self.delay_s_max = delay_s_max
        self._listeners: dict[int, _Listener] = {}
        self._ends: list[_End] = []
        self._cut: set[tuple[str, str]] = set()

    def view(self, server_id: str) -> "NetworkView":
        """Return the network as one start of a server sees it."""
        return NetworkView(self, server_id)

    def cut(self, sender: str, receiver: str) -> None:
        """Hold up everything in one direction until `heal`."""
        self._cut.add((sender, receiver))

    def heal(self) -> None:
        """Let everything through again, what was held up first."""
        self._cut.clear()
        for end in list(self._ends):
            end.flush()

    def break_connections(self, server_id: str, other_id: str) -> None:
        """Break what connects two servers; what is on its way is lost."""
        for end in list(self._ends):
            if {end.owner, end.other} == {server_id, other_id}:
                end.lose()

    def kill(self, server_id: str) -> None:
        """Break all connections of a server; its own side hears nothing any more."""
        for port, listener in list(self._listeners.items()):
            if listener.owner == server_id:
                del self._listeners[port]
        for end in list(self._ends):
            if end.owner == server_id:
                end.is_dead = True
        for end in list(self._ends):
            if end.owner == server_id:
                end.lose()

    def delay_s(self) -> float:
        """Draw how long a piece takes."""
        return self._rng.random() * self.delay_s_max

    def is_cut(self, sender: str, receiver: str) -> bool:
        """Say whether that direction is held up."""
        return (sender, receiver) in self._cut

    def add_listener(self, port: int, listener: "_Listener") -> None:
        """Accept at a port."""
        assert port not in self._listeners, port
        self._listeners[port] = listener

    def remove_listener(self, port: int, listener: "_Listener") -> None:
        """Accept no more, if this is still the one that does."""
        if self._listeners.get(port) is listener:
            del self._listeners[port]

    async def connect(
        self, dialler: str, port: int, handler: ConnectionHandler, deadline_s: float
    ) -> Connection:
        """Make a connection if somebody listens and both directions are open."""
        await asyncio.sleep(self.delay_s())
        listener = self._listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens at {port}")
        owner = listener.owner
        if self.is_cut(dialler, owner) or self.is_cut(owner, dialler):
            await asyncio.sleep(deadline_s)
            raise TimeoutError("no answer")
        near = _End(self, dialler, owner, handler)
        far = _End(self, owner, dialler, listener.accept())
        near.far, far.far = far, near
        self._ends += [near, far]
        far.handler.on_made(far)
        near.handler.on_made(near)
        return near

    def forget(self, end: "_End") -> None:
        """Take an end out of the books."""
        if end in self._ends:
            self._ends.remove(end)


class NetworkView:
    """The network as a server uses it."""

    def __init__(self, network: SimulatedNetwork, server_id: str) -> None:
        self._network = network
        self._server_id = server_id

    async def listen(
        self, host: str, port: int, accept: Callable[[], ConnectionHandler]
    ) -> "_Listener":
        """Accept at a port; the host does not matter."""
        del host
        listener = _Listener(self._network, self._server_id, port, accept)
        self._network.add_listener(port, listener)
        return listener

    async def connect(
        self, host: str, port: int, handler: ConnectionHandler, *, deadline_s: float
    ) -> Connection:
        """Dial a port."""
        del host
        return await self._network.connect(self._server_id, port, handler, deadline_s)


class _Listener:
    def __init__(
        self,
        network: SimulatedNetwork,
        owner: str,
        port: int,
        accept: Callable[[], ConnectionHandler],
    ) -> None:
        self._network = network
        self.owner = owner
        self._port = port
        self.accept = accept

    def port(self) -> int:
        return self._port

    async def close(self) -> None:
        self._network.remove_listener(self._port, self)


class _End:
    """One end of a connection; `far` is the other."""

    far: "_End"

    def __init__(
        self,
        network: SimulatedNetwork,
        owner: str,
        other: str,
        handler: ConnectionHandler,
    ) -> None:
        self._network = network
        self.owner = owner
        self.other = other
        self.handler = handler
        self.is_dead = False  # the process is gone
        self.is_lost = False
        self.is_closing = False
        self.pieces: list[bytes | None] = []  # None is the end
        self._arrives_at_s = 0.0
        self.held: list[bytes | None] = []

    def write(self, data: bytes) -> None:
        if not (self.is_lost or self.is_closing or self.is_dead):
            self._put(data)

    def buffered_bytes(self) -> int:
        return sum(len(piece) for piece in self.held if piece is not None)

    def remote_host(self) -> str:
        return self.other

    def peer_name(self) -> str | None:
        return None

    def close(self) -> None:
        if not self.is_closing:
            self.is_closing = True
            self._put(None)
            asyncio.get_running_loop().call_soon(self.end)

    def abort(self) -> None:
        self.lose()

    def lose(self) -> None:
        """Lose the connection at both ends; what is on its way is gone."""
        for end in (self, self.far):
            end.pieces.clear()
            end.held.clear()
            asyncio.get_running_loop().call_soon(end.end)

    def flush(self) -> None:
        """Send what was held up."""
        held, self.held = self.held, []
        for piece in held:
            self._put(piece)

    def _put(self, piece: bytes | None) -> None:
        if self.held or self._network.is_cut(self.owner, self.other):
            self.held.append(piece)
            return
        loop = asyncio.get_running_loop()
        earliest_s = loop.time() + self._network.delay_s()
        self._arrives_at_s = max(self._arrives_at_s, earliest_s)
        self.pieces.append(piece)
        loop.call_at(self._arrives_at_s, self._arrive)

    def _arrive(self) -> None:
        if not self.pieces:
            return
        piece = self.pieces.pop(0)
        if piece is None:
            self.far.end()
        elif not (self.far.is_lost or self.far.is_dead or self.far.is_closing):
            self.far.handler.on_bytes(piece)

    def end(self) -> None:
        """Be lost, once."""
        if self.is_lost:
            return
        self.is_lost = True
        if not self.is_dead:
            self.handler.on_lost()
        if self.far.is_lost:
            self._network.forget(self)
            self._network.forget(self.far)
