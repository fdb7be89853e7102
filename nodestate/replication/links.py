"""The two kinds of connection between servers: dialled to send, accepted to listen.

A link carries one handshake and then messages in one direction. Whatever it cannot
make sense of ends it, and changes nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from nodestate.clock import Clock, Timer
from nodestate.errors import FrameError
from nodestate.ports import Connection
from nodestate.replication.frames import (
    Hello,
    Message,
    Refusal,
    Welcome,
    answer_reader,
    encode_frame,
    hello_reader,
    message_reader,
)

HANDSHAKE_S_MAX: Final = 3.0
WRITE_BUFFER_BYTES_MAX: Final = 32 << 20
"""Four of the largest frames: beyond that the other side is not keeping up."""


class OutgoingOwner(Protocol):
    """What an outgoing link tells whoever dialled it."""

    def take_answer(self, link: "Outgoing", answer: Welcome | Refusal) -> bool:
        """Say whether the link may be used."""

    def take_end(self, link: "Outgoing", reason: str) -> None:
        """Take note that the link has ended; once."""


class IncomingOwner(Protocol):
    """What an incoming link asks whoever accepted it."""

    def admit(self, link: "Incoming") -> bool:
        """Say whether there is room for one more handshake."""

    def judge(self, link: "Incoming", hello: Hello) -> Welcome | Refusal:
        """Say whether the peer may speak; then its older link has ended."""

    def deliver(self, peer_id: str, message: Message) -> None:
        """Take a message; must not raise."""

    def complain(self, link: "Incoming", reason: str) -> None:
        """Take note of what the other side did wrong."""

    def forget(self, link: "Incoming") -> None:
        """Take note that the link has ended; once, and only if it was admitted."""


class Outgoing:
    """A connection that this server dialled: handshake, then sending."""

    def __init__(
        self, peer_id: str, hello: Callable[[], Hello], owner: OutgoingOwner
    ) -> None:
        self.peer_id = peer_id
        self.ended = asyncio.Event()
        self._hello = hello
        self._owner = owner
        self._connection: Connection | None = None
        self._reader = answer_reader()
        self._is_open = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def is_open(self) -> bool:
        """Say whether messages can be sent."""
        return self._is_open

    def send(self, message: Message) -> bool:
        """Send with whatever else is sent in this turn of the loop; `False` if full."""
        connection = self._connection
        if not self._is_open or connection is None:
            return False
        if connection.buffered_bytes() + self._waiting_bytes > WRITE_BUFFER_BYTES_MAX:
            return False
        frame = encode_frame(message)
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        return True

    def end(self, reason: str) -> None:
        """Hang up, and tell the owner the first time."""
        if self.ended.is_set():
            return
        self._is_open = False
        self._waiting.clear()
        self.ended.set()
        if self._connection is not None:
            self._connection.abort()
        self._owner.take_end(self, reason)

    def on_made(self, connection: Connection) -> None:
        """Introduce this server."""
        self._connection = connection
        if self.ended.is_set():
            connection.abort()
            return
        certified = connection.peer_name()
        if certified is not None and certified != self.peer_id:
            self.end(f"its certificate is that of {certified!r}")
            return
        connection.write(encode_frame(self._hello()))

    def on_bytes(self, data: bytes) -> None:
        """Read the one answer there is."""
        if self.ended.is_set():
            return
        if self._is_open:
            self.end("sent something after its answer")
            return
        try:
            answers = self._reader.feed(data)
        except FrameError as error:
            self.end(str(error))
            return
        if not answers:
            return
        if len(answers) > 1 or self._reader.kept_bytes() > 0:
            self.end("sent something after its answer")
            return
        self._is_open = True
        if not self._owner.take_answer(self, answers[0]):
            self.end("was not accepted")

    def on_lost(self) -> None:
        """Take note of the other side's end of it."""
        self.end("connection lost")

    def _flush(self) -> None:
        if self._connection is not None and self._waiting:
            frames = self._waiting
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            self._waiting = []
            self._waiting_bytes = 0
            self._connection.write(data)


class Incoming:
    """A connection that was accepted: handshake within a time, then listening."""

    def __init__(self, owner: IncomingOwner, clock: Clock) -> None:
        self.peer_id = ""
        self._owner = owner
        self._clock = clock
        self._connection: Connection | None = None
        self._timer: Timer | None = None
        self._hellos = hello_reader()
        self._messages = message_reader()
        self._has_ended = False

    def remote_host(self) -> str:
        """Return where it comes from."""
        return self._connection.remote_host() if self._connection else "unknown"

    def peer_name(self) -> str | None:
        """Return the server that its certificate names; `None` without TLS."""
        return self._connection.peer_name() if self._connection else None

    def end(self) -> None:
        """Hang up; nothing more is delivered, not even what has already arrived."""
        if self._has_ended:
            return
        if self._connection is not None:
            self._connection.abort()
        self._finish()

    def on_made(self, connection: Connection) -> None:
        """Wait for the other side to introduce itself, if there is room for it."""
        self._connection = connection
        if not self._owner.admit(self):
            self._has_ended = True
            connection.abort()
            return
        self._timer = self._clock.call_later(HANDSHAKE_S_MAX, self._expire)

    def on_bytes(self, data: bytes) -> None:
        """Read what arrived; bytes that are no frame end the link."""
        if self._has_ended:
            return
        try:
            if self.peer_id:
                self._deliver(self._messages.feed(data))
            else:
                self._greet(self._hellos.feed(data))
        except FrameError as error:
            self._reject(str(error))

    def on_lost(self) -> None:
        """Take note of the other side's end of it."""
        self.end()

    def _deliver(self, messages: list[Message]) -> None:
        for message in messages:
            # A message may be what ends this link.
            if self._has_ended:
                return
            self._owner.deliver(self.peer_id, message)

    def _greet(self, hellos: list[Hello]) -> None:
        if not hellos:
            return
        if len(hellos) > 1 or self._hellos.kept_bytes() > 0:
            raise FrameError("messages before the handshake was answered")
        self._stop_timer()
        hello = hellos[0]
        answer = self._owner.judge(self, hello)
        assert self._connection is not None
        self._connection.write(encode_frame(answer))
        if isinstance(answer, Refusal):
            self._owner.complain(self, answer.reason)
            # Not aborted: the reason should still arrive.
            self._connection.close()
            self._finish()
            return
        self.peer_id = hello.server_id

    def _expire(self) -> None:
        self._reject(f"no handshake within {HANDSHAKE_S_MAX} s")

    def _reject(self, reason: str) -> None:
        self._owner.complain(self, reason)
        self.end()

    def _finish(self) -> None:
        self._has_ended = True
        self._stop_timer()
        self._owner.forget(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
