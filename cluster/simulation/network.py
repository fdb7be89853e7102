"""A network in memory: late, cut and broken as a seed says, and never lying.

As TCP, it loses nothing and reorders nothing within a live connection; connections are
independent of each other, and an old one may still deliver while a new one is up. What
arrives runs in its receiver's process: it waits while that is paused, as in a socket's
buffer, and what a killed process had sent still arrives.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Final

from cluster.simulation.loop import Process
from nodestate.ports import Connection, ConnectionHandler

DELAY_S_MAX: Final = 0.004
POWER_LOSS_NOTICED_S_MAX: Final = 0.3
"""A peer that lost its power says nothing: this is when the silence is found out."""

Piece = tuple[float, bytes | None]
"""When it arrives, and what; `None` is the end."""


class SimulatedNetwork:
    """All connections of a simulation; each server sees it through its `view`."""

    def __init__(self, rng: random.Random, *, delay_s_max: float = DELAY_S_MAX) -> None:
        self._seed = rng.getrandbits(64)
        self._rngs: dict[tuple[str, str], random.Random] = {}
        self.delay_s_max = delay_s_max
        self._listeners: dict[int, _Listener] = {}
        self._owners: dict[int, str] = {}
        self._ends: dict[_End, None] = {}
        self._cut: dict[tuple[str, str], None] = {}
        self._extra_s: dict[tuple[str, str], float] = {}
        self._dialling: list[asyncio.Future[None]] = []

    def view(self, server_id: str, process: Process | None = None) -> "NetworkView":
        """Return the network as one start of a server sees it."""
        context = None if process is None else process.context
        return NetworkView(self, server_id, context)

    # Faults

    def cut(self, sender: str, receiver: str) -> None:
        """Hold up everything in one direction until `heal`."""
        self._cut[sender, receiver] = None

    def slow(self, sender: str, receiver: str, extra_s: float) -> None:
        """Let everything in one direction take longer until `heal`."""
        self._extra_s[sender, receiver] = extra_s

    def heal(self) -> None:
        """Let everything through again, what was held up first."""
        self._cut.clear()
        self._extra_s.clear()
        for end in list(self._ends):
            end.flush()
        dialling, self._dialling = self._dialling, []
        for future in dialling:
            if not future.done():
                future.set_result(None)

    def break_connections(self, server_id: str, other_id: str) -> None:
        """Break what connects two servers; what is on its way is lost."""
        for end in list(self._ends):
            if {end.owner, end.other} == {server_id, other_id}:
                end.lose()

    def linger(self, server_id: str, other_id: str, lag_s: float) -> None:
        """Break what one server dialled; the other hears the rest later, and then the end."""
        for end in list(self._ends):
            if end.is_dialler and (end.owner, end.other) == (server_id, other_id):
                end.linger(lag_s)

    def kill(self, server_id: str, *, has_power_loss: bool = False) -> None:
        """End a server's side of all its connections; it hears nothing any more."""
        for port, listener in list(self._listeners.items()):
            if listener.owner == server_id:
                del self._listeners[port]
        for end in list(self._ends):
            if end.owner == server_id:
                end.die(has_power_loss=has_power_loss)

    # What ends and views ask for

    def rng(self, sender: str, receiver: str) -> random.Random:
        """Return what decides about one direction."""
        pair = (sender, receiver)
        if pair not in self._rngs:
            seed = f"{self._seed}/{sender}/{receiver}"
            self._rngs[pair] = random.Random(seed)  # noqa: S311  it has to be repeatable
        return self._rngs[pair]

    def delay_s(self, sender: str, receiver: str) -> float:
        """Draw how long a piece takes."""
        delay_s = self.rng(sender, receiver).random() * self.delay_s_max
        return delay_s + self._extra_s.get((sender, receiver), 0.0)

    def is_cut(self, sender: str, receiver: str) -> bool:
        """Say whether that direction is held up."""
        return (sender, receiver) in self._cut

    def add_listener(self, port: int, listener: "_Listener") -> None:
        """Accept at a port."""
        assert port not in self._listeners, port
        self._listeners[port] = listener
        self._owners[port] = listener.owner

    def remove_listener(self, port: int, listener: "_Listener") -> None:
        """Accept no more, if this is still the one that does."""
        if self._listeners.get(port) is listener:
            del self._listeners[port]

    async def connect(
        self,
        view: "NetworkView",
        port: int,
        handler: ConnectionHandler,
        deadline_s: float,
    ) -> Connection:
        """Make a connection once both directions are open, if somebody listens then."""
        dialler, owner = view.server_id, self._owners.get(port, "")
        give_up_at_s = asyncio.get_running_loop().time() + deadline_s
        await asyncio.sleep(self.delay_s(dialler, owner))
        while self.is_cut(dialler, owner) or self.is_cut(owner, dialler):
            await self._wait_for_heal(give_up_at_s)
        listener = self._listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens at {port}")
        near = _End(self, dialler, owner, view.context)
        far = _End(self, owner, dialler, listener.context)
        near.far, far.far = far, near
        near.handler, near.is_dialler = handler, True
        self._ends[near] = self._ends[far] = None
        # The other side's system accepts, its process hears of it when it gets to it.
        asyncio.get_running_loop().call_soon(
            far.open, listener, context=listener.context
        )
        handler.on_made(near)
        return near

    async def _wait_for_heal(self, give_up_at_s: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= give_up_at_s:
            raise TimeoutError("no answer")
        healed = loop.create_future()
        self._dialling.append(healed)
        timer = loop.call_at(give_up_at_s, _finish, healed)
        try:
            await healed
        finally:
            timer.cancel()

    def forget(self, end: "_End") -> None:
        """Take an end out of the books."""
        self._ends.pop(end, None)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class NetworkView:
    """The network as a server uses it."""

    def __init__(
        self, network: SimulatedNetwork, server_id: str, context: Context | None
    ) -> None:
        self._network = network
        self.server_id = server_id
        self.context = context

    async def listen(
        self, host: str, port: int, accept: Callable[[], ConnectionHandler]
    ) -> "_Listener":
        """Accept at a port; the host does not matter."""
        del host
        listener = _Listener(self._network, self, port, accept)
        self._network.add_listener(port, listener)
        return listener

    async def connect(
        self, host: str, port: int, handler: ConnectionHandler, *, deadline_s: float
    ) -> Connection:
        """Dial a port."""
        del host
        return await self._network.connect(self, port, handler, deadline_s)


class _Listener:
    def __init__(
        self,
        network: SimulatedNetwork,
        view: NetworkView,
        port: int,
        accept: Callable[[], ConnectionHandler],
    ) -> None:
        self._network = network
        self.owner = view.server_id
        self.context = view.context
        self._port = port
        self.accept = accept

    def port(self) -> int:
        return self._port

    async def close(self) -> None:
        self._network.remove_listener(self._port, self)


class _End:
    """One end of a connection; `far` is the other. Its handler runs in its `context`."""

    far: "_End"

    def __init__(
        self,
        network: SimulatedNetwork,
        owner: str,
        other: str,
        context: Context | None,
    ) -> None:
        self._network = network
        self.owner = owner
        self.other = other
        self.context = context
        self.handler: ConnectionHandler | None = None
        self.is_dialler = False
        self.is_dead = False  # the process is gone
        self.is_lost = False
        self.is_closing = False
        self._pieces: deque[Piece] = deque()
        self._held: deque[bytes | None] = deque()
        self._arrives_at_s = 0.0

    # What its owner does with it

    def open(self, listener: _Listener) -> None:
        """Be accepted."""
        if not self.is_lost:
            self.handler = listener.accept()
            self.handler.on_made(self)

    def write(self, data: bytes) -> None:
        if not (self.is_lost or self.is_closing or self.is_dead):
            self._put(data)

    def buffered_bytes(self) -> int:
        return sum(len(piece) for piece in self._held if piece is not None)

    def remote_host(self) -> str:
        return self.other

    def peer_name(self) -> str | None:
        return None

    def close(self) -> None:
        if not self.is_closing:
            self.is_closing = True
            self._put(None)
            self._end_soon()

    def abort(self) -> None:
        self.lose()

    # What happens to it

    def lose(self) -> None:
        """Lose the connection at both ends; what is on its way is gone."""
        for end in (self, self.far):
            end.drop()
            end._end_soon()  # noqa: SLF001  the other of the two

    def drop(self) -> None:
        """Lose what is on its way from here."""
        self._pieces.clear()
        self._held.clear()

    def linger(self, lag_s: float) -> None:
        """Be lost here, and let what is on its way arrive late."""
        now_s = asyncio.get_running_loop().time()
        late = [(max(at_s, now_s + lag_s), piece) for at_s, piece in self._pieces]
        late.append((max(self._arrives_at_s, now_s + lag_s), None))
        self._pieces.clear()
        for at_s, piece in late:
            self._schedule(at_s, piece)
        self._end_soon()

    def die(self, *, has_power_loss: bool) -> None:
        """Lose the process. What it wrote still arrives, unless the power went, too."""
        if self.is_dead:
            return
        self.is_dead = True
        if not has_power_loss:
            self._put(None)
            return
        rng = self._network.rng(self.owner, self.other)
        if rng.random() < 0.5:
            self.drop()
        noticed_s = rng.random() * POWER_LOSS_NOTICED_S_MAX
        now_s = asyncio.get_running_loop().time()
        self._schedule(max(self._arrives_at_s, now_s + noticed_s), None)

    def flush(self) -> None:
        """Send what was held up."""
        held, self._held = self._held, deque()
        for piece in held:
            self._put(piece)

    def _put(self, piece: bytes | None) -> None:
        if self._held or self._network.is_cut(self.owner, self.other):
            self._held.append(piece)
            return
        now_s = asyncio.get_running_loop().time()
        earliest_s = now_s + self._network.delay_s(self.owner, self.other)
        self._schedule(max(self._arrives_at_s, earliest_s), piece)

    def _schedule(self, at_s: float, piece: bytes | None) -> None:
        self._arrives_at_s = at_s
        self._pieces.append((at_s, piece))
        loop = asyncio.get_running_loop()
        loop.call_at(at_s, self._arrive, context=self.far.context)

    def _arrive(self) -> None:
        """Let the next piece reach the other end; runs in that one's process."""
        loop = asyncio.get_running_loop()
        if not self._pieces or self._pieces[0][0] > loop.time():
            return
        _, piece = self._pieces.popleft()
        far = self.far
        if piece is None:
            far.end()
        elif not (far.is_lost or far.is_closing):
            assert far.handler is not None, "opened before anything can arrive"
            far.handler.on_bytes(piece)

    def _end_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.end, context=self.context)

    def end(self) -> None:
        """Be lost, once."""
        if self.is_lost:
            return
        self.is_lost = True
        if self.handler is not None:
            self.handler.on_lost()
        if self.far.is_lost or self.far.is_dead:
            self._network.forget(self)
            self._network.forget(self.far)
