"""Messages between servers: values to bytes and back, without I/O.

A frame is a big-endian length of four bytes and that many bytes of msgpack. Its length
is judged before anything of it is kept. Fields are written by position, so new ones go
to the end, with a default that means what older servers mean; tags are for ever.
"""

from typing import Annotated, Final, Generic, TypeVar

import msgspec
from msgspec import Meta

from nodestate.errors import FrameError
from nodestate.replication.records import Entry, Natural

PROTOCOL_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 8 << 20
HANDSHAKE_FRAME_BYTES_MAX: Final = 16 << 10
ID_LENGTH_MAX: Final = 255
REASON_LENGTH_MAX: Final = 2048
MEMBERS_MAX: Final = 16
CHUNK_BYTES_MAX: Final = 256 << 10
DIGESTS_MAX: Final = 64
LENGTH_BYTES: Final = 4

Id = Annotated[str, Meta(max_length=ID_LENGTH_MAX)]
Reason = Annotated[str, Meta(max_length=REASON_LENGTH_MAX)]
Members = Annotated[tuple[tuple[Id, Id], ...], Meta(max_length=MEMBERS_MAX)]
Addresses = Annotated[tuple[tuple[Id, Id, Id], ...], Meta(max_length=MEMBERS_MAX)]
Digest = Annotated[bytes, Meta(max_length=64)]
Digests = Annotated[tuple[tuple[Id, Digest], ...], Meta(max_length=DIGESTS_MAX)]


class Formation(msgspec.Struct, frozen=True, array_like=True):
    """How a cluster began: members are (server id, incarnation).

    `addresses` are (server id, peer address, HTTP address); a cluster that was formed
    before they were kept has none, and each server takes them from its settings.
    """

    cluster_id: Id
    members: Members
    addresses: Addresses = ()


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What a server that dials says first; `address` is where its peers reach it."""

    protocol: Natural
    server_id: Id
    incarnation: Id
    formation: Formation | None
    address: Id = ""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer of a server that takes the connection."""

    server_id: Id
    incarnation: Id
    formation: Formation | None


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The answer of one that does not."""

    reason: Reason


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Ask for a vote, or, before that, whether one would be given."""

    term: Natural
    last_index: Natural
    last_term: Natural
    is_pre_vote: bool = False
    is_transfer: bool = False


class VoteReply(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """Give a vote or refuse it."""

    term: Natural
    is_granted: bool
    is_pre_vote: bool = False


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """The leader's entries after (`prev_index`, `prev_term`); none is a heartbeat."""

    term: Natural
    prev_index: Natural
    prev_term: Natural
    commit_index: Natural
    sequence: Natural
    entries: tuple[Entry, ...]


class AppendReply(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """What the follower has, durably; or where its log differs."""

    term: Natural
    sequence: Natural
    is_success: bool
    match_index: Natural
    conflict_index: Natural
    conflict_term: Natural


class Proposal(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False):
    """A command on its way to the leader."""

    proposal_id: Natural
    body: bytes


class ProposalReply(msgspec.Struct, frozen=True, array_like=True, tag=15, gc=False):
    """Where the leader put it in its log; a reason if it did not."""

    proposal_id: Natural
    index: Natural
    term: Natural
    reason: Reason


class Question(msgspec.Struct, frozen=True, array_like=True, tag=16, gc=False):
    """Something that only the leader can answer; `kind` says which part of it."""

    question_id: Natural
    body: bytes
    kind: Natural = 0


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=17, gc=False):
    """The answer; a reason if there is none."""

    question_id: Natural
    body: bytes
    reason: Reason


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=18, gc=False):
    """A piece of the leader's snapshot file; the next one follows the answer to this.

    `index` and `last_term` are those of the entry that the snapshot ends with.
    """

    term: Natural
    sequence: Natural
    index: Natural
    last_term: Natural
    total_bytes: Natural
    offset: Natural
    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES_MAX)]


class SnapshotReply(msgspec.Struct, frozen=True, array_like=True, tag=19, gc=False):
    """How much of the file has been received, and whether it is verified and installed.

    A reason says why it is not, and never will be from these bytes.
    """

    term: Natural
    sequence: Natural
    index: Natural
    received_bytes: Natural
    is_installed: bool
    reason: Reason = ""


class StandNow(msgspec.Struct, frozen=True, array_like=True, tag=20, gc=False):
    """The leader of this term asks a follower to take over."""

    term: Natural


class StateDigest(msgspec.Struct, frozen=True, array_like=True, tag=21, gc=False):
    """What a server's tables are like after entry `index`, by name."""

    index: Natural
    digests: Digests


class DigestVerdict(msgspec.Struct, frozen=True, array_like=True, tag=22, gc=False):
    """What a majority's tables are like after entry `index`; empty if none agrees."""

    index: Natural
    digests: Digests


Message = (
    RequestVote
    | VoteReply
    | AppendEntries
    | AppendReply
    | Proposal
    | ProposalReply
    | Question
    | Answer
    | SnapshotChunk
    | SnapshotReply
    | StandNow
    | StateDigest
    | DigestVerdict
)
HandshakeMessage = Hello | Welcome | Refusal

T = TypeVar("T")

_ENCODER: Final = msgspec.msgpack.Encoder()
_MESSAGES: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_HELLOS: Final = msgspec.msgpack.Decoder(Hello)
_ANSWERS: Final[msgspec.msgpack.Decoder[Welcome | Refusal]] = msgspec.msgpack.Decoder(
    Welcome | Refusal
)


def encode_frame(message: Message | HandshakeMessage) -> bytes:
    """Return the frame of a message; `FrameError` if nobody would take it."""
    body = _ENCODER.encode(message)
    bytes_max = FRAME_BYTES_MAX
    if isinstance(message, HandshakeMessage):
        bytes_max = HANDSHAKE_FRAME_BYTES_MAX
    if len(body) > bytes_max:
        raise FrameError(f"frame of {len(body)} bytes, at most {bytes_max} allowed")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameReader(Generic[T]):
    """Turns what arrives, in pieces of any size, into messages.

    Keeps at most one frame and the piece that was fed last. After `FrameError` it is of
    no more use: nobody knows where the next frame starts.
    """

    __slots__ = ("_bytes_max", "_decoder", "_kept_bytes", "_needed_bytes", "_pieces")

    def __init__(self, decoder: msgspec.msgpack.Decoder[T], bytes_max: int) -> None:
        self._decoder = decoder
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._kept_bytes = 0
        self._needed_bytes = LENGTH_BYTES

    def kept_bytes(self) -> int:
        """Return how much of an unfinished frame is held."""
        return self._kept_bytes

    def feed(self, data: bytes) -> list[T]:
        """Return the messages that `data` completes; `FrameError` for anything else."""
        self._pieces.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes < self._needed_bytes:
            # Pieces are joined only when something can be read: a large frame that
            # trickles in is copied once, not once per piece.
            return []
        buffer = data if len(self._pieces) == 1 else b"".join(self._pieces)
        messages, offset = self._read_frames(buffer)
        rest = buffer[offset:]
        self._pieces = [rest] if rest else []
        self._kept_bytes = len(rest)
        return messages

    def _read_frames(self, buffer: bytes) -> tuple[list[T], int]:
        messages: list[T] = []
        view = memoryview(buffer)
        offset = 0
        while True:
            start = offset + LENGTH_BYTES
            if start > len(buffer):
                self._needed_bytes = LENGTH_BYTES
                return messages, offset
            length = int.from_bytes(view[offset:start], "big")
            if length > self._bytes_max:
                raise FrameError(
                    f"frame of {length} bytes, at most {self._bytes_max} allowed"
                )
            end = start + length
            if end > len(buffer):
                self._needed_bytes = LENGTH_BYTES + length
                return messages, offset
            messages.append(self._decode(view[start:end]))
            offset = end

    def _decode(self, body: memoryview) -> T:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"frame of {len(body)} bytes: {error}") from error


def message_reader() -> FrameReader[Message]:
    """Return a reader of what follows the handshake."""
    return FrameReader(_MESSAGES, FRAME_BYTES_MAX)


def hello_reader() -> FrameReader[Hello]:
    """Return a reader of what a dialling server says first."""
    return FrameReader(_HELLOS, HANDSHAKE_FRAME_BYTES_MAX)


def answer_reader() -> FrameReader[Welcome | Refusal]:
    """Return a reader of what the other side answers to that."""
    return FrameReader(_ANSWERS, HANDSHAKE_FRAME_BYTES_MAX)
