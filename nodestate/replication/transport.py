"""Connections between servers, over the network it is given.

Every server dials every other, and sends only on what it dialled; so each direction has
one connection, and a message is known to come from whoever introduced itself on it.
What the handshake says is not decided here, and neither is what messages mean.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from nodestate.clock import Clock, IdSource
from nodestate.config import split_address
from nodestate.ports import Listener, Metrics, Network, Spawner
from nodestate.replication.complaints import Complaints
from nodestate.replication.frames import (
    PROTOCOL_VERSION,
    Hello,
    Message,
    Refusal,
    Welcome,
)
from nodestate.replication.links import Incoming, Outgoing

log = structlog.get_logger(__name__)

CONNECT_S_MAX: Final = 2.0
HANDSHAKE_ANSWER_S_MAX: Final = 5.0
BACKOFF_S_MIN: Final = 0.05
BACKOFF_S_MAX: Final = 1.0
PEERS_MAX: Final = 32
HALF_OPEN_MAX: Final = 64
"""Connections that may be waiting for their handshake, from whomever."""


class Handshake(Protocol):
    """Who may be connected: decided by the room's owner of the cluster's identity."""

    def hello(self) -> Hello:
        """Return how this server introduces itself now."""

    def judge_hello(self, hello: Hello) -> Welcome | Refusal:
        """Say whether a server that dialled may send to this one."""

    def judge_welcome(self, welcome: Welcome) -> str:
        """Return "" to send to the server that answered, or why to hang up."""

    def was_refused(self, peer_id: str, reason: str) -> None:
        """Take note that a peer does not want this server."""


class Receiver(Protocol):
    """What the transport delivers to, on the loop."""

    def on_message(self, peer_id: str, message: Message) -> None:
        """Take a message of a peer, in the order sent."""

    def on_connected(self, peer_id: str) -> None:
        """Take note that messages can be sent to the peer."""

    def on_disconnected(self, peer_id: str) -> None:
        """Take note that they cannot any more; some that were sent may be lost."""


class Transport:
    """The connections of this server to its peers."""

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        *,
        server_id: str,
        peers: Mapping[str, tuple[str, int]],
        listen: tuple[str, int],
        network: Network,
        clock: Clock,
        ids: IdSource,
        spawner: Spawner,
        handshake: Handshake,
        receiver: Receiver,
        metrics: Metrics,
    ) -> None:
        self._server_id = server_id
        self._listen = listen
        self._network = network
        self._clock = clock
        self._ids = ids
        self._spawner = spawner
        self._handshake = handshake
        self._receiver = receiver
        self._peers = {
            peer_id: _Peer(peer_id, host, port)
            for peer_id, (host, port) in sorted(peers.items())
            if peer_id != server_id
        }
        self._incoming: dict[str, Incoming] = {}
        self._half_open: set[Incoming] = set()
        self._listener: Listener | None = None
        self._is_closed = False
        self._has_failed = False
        self._declare(metrics)

    async def start(self) -> None:
        """Listen, and dial every peer until closed."""
        host, port = self._listen
        self._listener = await self._network.listen(
            host, port, lambda: Incoming(self, self._clock)
        )
        for peer in self._peers.values():
            self._spawner.spawn(self._dial(peer), name=f"dial {peer.peer_id}")

    def add_peer(self, peer_id: str, host: str, port: int) -> None:
        """Dial a peer from now on, or dial it elsewhere from now on."""
        if peer_id == self._server_id or self._is_closed:
            return
        known = self._peers.get(peer_id)
        if known is None:
            peer = self._peers[peer_id] = _Peer(peer_id, host, port)
            self._spawner.spawn(self._dial(peer), name=f"dial {peer_id}")
        elif (known.host, known.port) != (host, port):
            known.host, known.port = host, port
            self.drop(peer_id)

    def remove_peer(self, peer_id: str) -> None:
        """Hang up on a peer and dial it no more."""
        if peer_id in self._peers:
            self._peers[peer_id].is_gone = True
            self.drop(peer_id)
            del self._peers[peer_id]

    def peer_ids(self) -> list[str]:
        """Return the peers that are dialled."""
        return list(self._peers)

    def port(self) -> int:
        """Return the port that is listened at."""
        assert self._listener is not None
        return self._listener.port()

    async def close(self) -> None:
        """Hang up everywhere and stop dialling."""
        self._is_closed = True
        if self._listener is not None:
            await self._listener.close()
        for half_open in list(self._half_open):
            half_open.end()
        self.drop_all()

    def send(self, peer_id: str, message: Message) -> bool:
        """Send to a peer; `False` if it is not connected or does not keep up.

        `True` does not mean that it arrives. Raises `FrameError`, and sends nothing, if
        the message is too large for a frame.
        """
        link = self._link(peer_id)
        return link is not None and link.send(message)

    def is_connected(self, peer_id: str) -> bool:
        """Say whether messages can be sent to the peer."""
        link = self._link(peer_id)
        return link is not None and link.is_open()

    def _link(self, peer_id: str) -> Outgoing | None:
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.link

    def drop(self, peer_id: str) -> None:
        """Hang up on a peer in both directions, and dial it again at once.

        Its next message comes after a new handshake. `on_disconnected` is called before
        this returns.
        """
        peer = self._peers[peer_id]
        peer.backoff_s = BACKOFF_S_MIN
        peer.wake.set()
        if peer.link is not None:
            peer.link.end("dropped")
        incoming = self._incoming.get(peer_id)
        if incoming is not None:
            incoming.end()

    def drop_all(self) -> None:
        """Do so with every peer."""
        for peer_id in self._peers:
            self.drop(peer_id)

    # What the links ask and tell.

    def take_answer(self, link: Outgoing, answer: Welcome | Refusal) -> bool:
        """Use the link if both sides want it."""
        peer = self._peers[link.peer_id]
        if isinstance(answer, Refusal):
            self._note_failure(peer, f"refused: {answer.reason}")
            self._handshake.was_refused(peer.peer_id, answer.reason)
            return False
        reason = self._handshake.judge_welcome(answer)
        if answer.server_id != peer.peer_id:
            reason = f"it says that it is {answer.server_id!r}"
        if reason:
            self._note_failure(peer, f"unwanted: {reason}")
            return False
        peer.is_up = True
        # Whatever asked for an attempt has what it asked for.
        peer.wake.clear()
        peer.has_failed = False
        peer.backoff_s = BACKOFF_S_MIN
        log.info("peer connected", peer_id=peer.peer_id)
        self._receiver.on_connected(peer.peer_id)
        return True

    def take_end(self, link: Outgoing, reason: str) -> None:
        """Tell the receiver, if it was told of the link before."""
        peer = self._peers[link.peer_id]
        if peer.link is link:
            peer.link = None
        if peer.is_up:
            peer.is_up = False
            log.info("peer disconnected", peer_id=peer.peer_id, reason=reason)
            self._receiver.on_disconnected(peer.peer_id)
        else:
            self._note_failure(peer, reason)

    def admit(self, link: Incoming) -> bool:
        """Keep a place free for those who shake hands."""
        if self._is_closed:
            return False
        if len(self._half_open) >= HALF_OPEN_MAX:
            self.complain(link, f"more than {HALF_OPEN_MAX} connections half open")
            return False
        self._half_open.add(link)
        return True

    def judge(self, link: Incoming, hello: Hello) -> Welcome | Refusal:
        """Ask the handshake about a peer that we know; its older link ends."""
        if hello.protocol != PROTOCOL_VERSION:
            return Refusal(f"protocol {hello.protocol}, expected {PROTOCOL_VERSION}")
        certified = link.peer_name()
        if certified is not None and certified != hello.server_id:
            return Refusal(f"its certificate is that of {certified!r}")
        address = self._address_of(hello)
        if address is None:
            return Refusal(f"{hello.server_id!r} is no server of this cluster")
        answer = self._handshake.judge_hello(hello)
        if isinstance(answer, Welcome):
            self.add_peer(hello.server_id, *address)
            older = self._incoming.pop(hello.server_id, None)
            if older is not None:
                # What it still has in its buffers is older than what comes now.
                older.end()
            self._half_open.discard(link)
            self._incoming[hello.server_id] = link
            self._dial_soon(self._peers[hello.server_id])
        return answer

    def _dial_soon(self, peer: "_Peer") -> None:
        """Wait no longer for a peer that is there: it has just dialled us."""
        if not peer.is_up:
            peer.backoff_s = BACKOFF_S_MIN
            peer.wake.set()

    def _address_of(self, hello: Hello) -> tuple[str, int] | None:
        """Return where to dial a server that dialled, `None` if it cannot be one of ours.

        One that is not known may have been added by entries that this server has still
        to get. Whether its address may be dialled at all is for the handshake to judge.
        """
        known = self._peers.get(hello.server_id)
        if known is not None:
            return known.host, known.port
        if hello.server_id == self._server_id or len(self._peers) >= PEERS_MAX:
            return None
        try:
            return split_address(hello.address)
        except ValueError:
            return None

    def deliver(self, peer_id: str, message: Message) -> None:
        """Pass a message on; a receiver that fails stops the server, not the link."""
        if self._has_failed:
            return
        try:
            self._receiver.on_message(peer_id, message)
        except Exception as error:  # noqa: BLE001  the loop would only log it
            self._has_failed = True
            self._spawner.spawn(_fail(error), name=f"message of {peer_id}")

    def complain(self, link: Incoming, reason: str) -> None:
        """Count what an address does wrong, and log it now and then."""
        self._complaints.note(link.remote_host(), reason)

    def forget(self, link: Incoming) -> None:
        """Take it out of the books."""
        self._half_open.discard(link)
        if self._incoming.get(link.peer_id) is link:
            del self._incoming[link.peer_id]

    def _declare(self, metrics: Metrics) -> None:
        refused_count = metrics.counter(
            "nodestate_replication_connections_refused_total",
            "Connections to the peer listener that were hung up on.",
        )
        self._complaints = Complaints(refused_count.add)
        metrics.gauge(
            "nodestate_replication_peers_connected",
            "Peers that this server can send to.",
            lambda: float(sum(peer.is_up for peer in self._peers.values())),
        )

    async def _dial(self, peer: "_Peer") -> None:
        """Keep one connection to the peer, for as long as this server runs."""
        while not (self._is_closed or peer.is_gone):
            peer.wake.clear()
            await self._connect(peer)
            if not peer.wake.is_set():
                await self._back_off(peer)

    async def _connect(self, peer: "_Peer") -> None:
        """Dial once; return when that connection has ended, or has not come about."""
        link = Outgoing(peer.peer_id, self._handshake.hello, self)
        peer.link = link
        try:
            await self._network.connect(
                peer.host, peer.port, link, deadline_s=CONNECT_S_MAX
            )
        except OSError as error:
            link.end(str(error) or type(error).__name__)
            return
        timer = self._clock.call_later(HANDSHAKE_ANSWER_S_MAX, lambda: _expire(link))
        try:
            await link.ended.wait()
        finally:
            timer.cancel()

    async def _back_off(self, peer: "_Peer") -> None:
        """Wait from half to all of the pause, unless called upon to dial at once."""
        pause_s = peer.backoff_s * (0.5 + self._ids.jitter() / 2)
        peer.backoff_s = min(2 * peer.backoff_s, BACKOFF_S_MAX)
        timer = self._clock.call_later(pause_s, peer.wake.set)
        try:
            await peer.wake.wait()
        finally:
            timer.cancel()

    def _note_failure(self, peer: "_Peer", reason: str) -> None:
        """Log the first of a row of failures."""
        if not peer.has_failed and not self._is_closed:
            peer.has_failed = True
            log.warning("peer not reached", peer_id=peer.peer_id, reason=reason)


class _Peer:
    """What is known of dialling one peer; `wake` asks for the next attempt at once."""

    def __init__(self, peer_id: str, host: str, port: int) -> None:
        self.peer_id = peer_id
        self.host = host
        self.port = port
        self.link: Outgoing | None = None
        self.is_up = False
        self.is_gone = False
        self.has_failed = False
        self.backoff_s = BACKOFF_S_MIN
        self.wake = asyncio.Event()


async def _fail(error: Exception) -> None:
    raise error


def _expire(link: Outgoing) -> None:
    if not link.is_open():
        link.end(f"no answer within {HANDSHAKE_ANSWER_S_MAX} s")
