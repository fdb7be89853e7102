"""What is inside an entry's body: a kind, and what belongs to it.

The first byte is the kind, with PySyncObj's numbers. What does not decode is never
skipped: every server would have to skip it alike, and one that cannot read an entry
cannot know that.
"""

from typing import Final

import msgspec

from nodestate.errors import JournalError, RequestError
from nodestate.model.command import Command
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.request import IdempotencyKey, Origin, Request
from nodestate.replication.configuration import Configuration
from nodestate.replication.frames import Formation

COMMAND: Final = 0
NOOP: Final = 1
FORMATION: Final = 2
CONFIGURATION: Final = 3

# A frame holds 8 MiB; the rest is room for the message around one entry.
BODY_BYTES_MAX: Final = (8 << 20) - (64 << 10)

NOOP_BODY: Final = bytes([NOOP])
CONFIGURATION_MARK: Final = bytes([CONFIGURATION])


class Envelope(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A command and whose request it is."""

    origin: Origin
    command: Command
    floor: int = 0
    idempotency: IdempotencyKey | None = None

    def request(self) -> Request:
        """Return what the state machine remembers the outcome under."""
        return Request(self.origin, self.floor, self.idempotency)


class Noop(msgspec.Struct, frozen=True, gc=False):
    """An entry that changes nothing; one that a proposer waits for has an origin."""

    origin: Origin | None


Body = Envelope | Noop | Formation | Configuration

_origin_decoder: Final = msgpack_decoder(Origin)
_envelope_decoder: Final = msgpack_decoder(Envelope)
_formation_decoder: Final = msgpack_decoder(Formation)
_configuration_decoder: Final = msgpack_decoder(Configuration)


def encode_command(
    origin: Origin,
    command: Command,
    *,
    floor: int = 0,
    idempotency: IdempotencyKey | None = None,
) -> bytes:
    """Return the body of an entry that carries a command."""
    envelope = Envelope(origin, command, floor, idempotency)
    return b"\x00" + MSGPACK.encode(envelope)


def encode_barrier(origin: Origin) -> bytes:
    """Return the body of an entry that changes nothing and is waited for."""
    return NOOP_BODY + MSGPACK.encode(origin)


def encode_formation(formation: Formation) -> bytes:
    """Return the body of the first entry."""
    return bytes([FORMATION]) + MSGPACK.encode(formation)


def encode_configuration(configuration: Configuration) -> bytes:
    """Return the body of an entry that says who the members are from there on."""
    return bytes([CONFIGURATION]) + MSGPACK.encode(configuration)


def decode_body(body: bytes) -> Body:
    """Return what a body holds; raises JournalError if that cannot be known."""
    if not body:
        raise JournalError("entry without a kind")
    kind, payload = body[0], memoryview(body)[1:]
    try:
        if kind == COMMAND:
            return _envelope_decoder.decode(payload)
        if kind == NOOP:
            return Noop(_origin_decoder.decode(payload) if payload else None)
        if kind == FORMATION:
            return _formation_decoder.decode(payload)
        if kind == CONFIGURATION:
            return _configuration_decoder.decode(payload)
    except (msgspec.MsgspecError, NotImplementedError, ValueError) as error:
        raise JournalError(f"entry of kind {kind} cannot be read: {error}") from error
    raise JournalError(f"entry of unknown kind {kind}")


def check_proposed(body: bytes) -> None:
    """Raise unless a peer may propose this.

    Here it can be turned down; in the log, what cannot be read would stop every server.
    """
    if isinstance(decode_body(body), Formation | Configuration):
        raise RequestError("who the members are cannot be proposed by a member")
