"""Snapshot files: bytes to pieces of a state and back, without I/O.

A file is a preamble, a header, frames, and a footer:

    magic, format, length of the header, its CRC-32, the header
    length of the frame, its CRC-32, the frame: pieces of the state, compressed together
    ... more frames ...
    zero instead of a length, number of frames, length of the file, SHA-256 of all before

The header can be read alone. Nothing else of a file may be relied on before its footer
has been seen to fit: `SnapshotScanner` takes the file in any slices, and says so.
"""

import hashlib
import re
import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import msgspec
import zstandard

from nodestate.errors import SnapshotError
from nodestate.model.encoding import MSGPACK, msgpack_decoder

FORMAT: Final = 1
FRAME_BYTES_MAX: Final = 256 << 20
"""The most that one frame may take up, compressed and not."""
HEADER_BYTES_MAX: Final = 1 << 20

_MAGIC: Final = b"nodesnap"
_PREAMBLE: Final = struct.Struct("<8sIII")
_FRAME: Final = struct.Struct("<II")
_END: Final = struct.Struct("<IQQ")
_SHA_BYTES: Final = hashlib.sha256().digest_size
_FOOTER_BYTES: Final = _END.size + _SHA_BYTES
_NAME: Final = re.compile(r"snapshot-(\d{20})-(\d+)\.snap", re.ASCII)
# The smallest that compresses well: it is written while requests wait for the processor.
_LEVEL: Final = 1

PREAMBLE_BYTES: Final = _PREAMBLE.size
OPENING_BYTES_MAX: Final = PREAMBLE_BYTES + HEADER_BYTES_MAX
"""As much of a file as has its whole header."""

NEWER: Final = "it was written by a newer version of nodestate"


class SnapshotMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Where a snapshot ends, and what else of the log it stands for.

    `configuration` says who the members were after entry `configuration_index`; what it
    looks like is not known here.
    """

    index: int
    term: int
    configuration: bytes = b""
    configuration_index: int = 0
    cluster_id: str = ""


_META: Final = msgpack_decoder(SnapshotMeta)
_PIECES: Final = msgpack_decoder(list[bytes])


def snapshot_name(index: int, term: int) -> str:
    """Return the name of the file; names sort as indexes do."""
    return f"snapshot-{index:020d}-{term}.snap"


def parse_name(name: str) -> tuple[int, int] | None:
    """Return the index and the term in a file's name, `None` if it is no snapshot's."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def encode_opening(meta: SnapshotMeta) -> bytes:
    """Return the preamble and the header."""
    header = MSGPACK.encode(meta)
    assert len(header) <= HEADER_BYTES_MAX
    return _PREAMBLE.pack(_MAGIC, FORMAT, len(header), crc32(header)) + header


def decode_opening(content: bytes) -> SnapshotMeta:
    """Return what the header says, from `OPENING_BYTES_MAX` of a file or all of it."""
    if len(content) < PREAMBLE_BYTES:
        raise SnapshotError(f"it ends at byte {len(content)}, in its preamble")
    length = _check_preamble(content)
    header = content[PREAMBLE_BYTES : PREAMBLE_BYTES + length]
    if len(header) < length:
        raise SnapshotError(f"it ends at byte {len(content)}, in its header")
    return _decode_header(header, content)


class SnapshotEncoder:
    """Makes the bytes of one file, in order; each method may run on another thread.

    `byte_count` is how many it has made.
    """

    def __init__(self) -> None:
        self.byte_count = 0
        self._sha256 = hashlib.sha256()
        self._frame_count = 0
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)

    def opening(self, meta: SnapshotMeta) -> bytes:
        """Return the beginning of the file."""
        return self._counted(encode_opening(meta))

    def frame(self, pieces: Sequence[bytes]) -> bytes:
        """Return the next frame."""
        payload = self._compressor.compress(MSGPACK.encode(pieces))
        self._frame_count += 1
        return self._counted(_FRAME.pack(len(payload), crc32(payload)) + payload)

    def footer(self) -> bytes:
        """Return the end of the file."""
        total = self.byte_count + _FOOTER_BYTES
        end = self._counted(_END.pack(0, self._frame_count, total))
        self.byte_count = total
        return end + self._sha256.digest()

    def _counted(self, data: bytes) -> bytes:
        self._sha256.update(data)
        self.byte_count += len(data)
        return data


class SnapshotScanner:
    """Takes a file in slices of any size, and checks every byte of it.

    After a `SnapshotError`, which says where it is in the file, nothing of it is of use.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._sha256 = hashlib.sha256()
        self._position = 0
        self._frame_count = 0
        self._meta: SnapshotMeta | None = None
        self._is_over = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads of the frames that are whole with this, for `decode_frame`."""
        self._buffer += data
        if self._meta is None and not self._take_opening():
            return []
        payloads: list[bytes] = []
        if not self._is_over:
            while (payload := self._take_frame()) is not None:
                payloads.append(payload)
        if self._is_over and self._buffer:
            raise SnapshotError(f"it goes on behind its end, at byte {self._position}")
        return payloads

    def finish(self) -> SnapshotMeta:
        """Return the header, now that the file has been seen to be whole."""
        if self._meta is None or not self._is_over:
            end = self._position + len(self._buffer)
            raise SnapshotError(f"it ends too early, at byte {end}")
        return self._meta

    def _take_opening(self) -> bool:
        if len(self._buffer) < PREAMBLE_BYTES:
            return False
        length = _check_preamble(self._buffer)
        if len(self._buffer) < PREAMBLE_BYTES + length:
            return False
        opening = self._take(PREAMBLE_BYTES + length)
        self._meta = _decode_header(opening[PREAMBLE_BYTES:], opening)
        return True

    def _take_frame(self) -> bytes | None:
        """Return a frame's payload, `None` if there is none yet or the end is reached."""
        if len(self._buffer) < _FRAME.size:
            return None
        length, checksum = _FRAME.unpack_from(self._buffer)
        if length == 0:
            self._take_footer()
            return None
        if length > FRAME_BYTES_MAX:
            raise SnapshotError(f"a frame of {length} bytes at byte {self._position}")
        if len(self._buffer) < _FRAME.size + length:
            return None
        position = self._position
        payload = self._take(_FRAME.size + length)[_FRAME.size :]
        _check_sum(payload, checksum, f"the frame at byte {position}")
        self._frame_count += 1
        return payload

    def _take_footer(self) -> None:
        if len(self._buffer) < _FOOTER_BYTES:
            return
        _, frame_count, byte_count = _END.unpack(self._take(_END.size))
        expected = self._sha256.digest()
        found = self._take(_SHA_BYTES)
        if (frame_count, byte_count) != (self._frame_count, self._position):
            raise SnapshotError(
                f"it has {self._frame_count} frames and {self._position} bytes,"
                f" expected {frame_count} and {byte_count}"
            )
        if found != expected:
            raise SnapshotError(
                f"its SHA-256 is {expected.hex()}, expected {found.hex()}"
            )
        self._is_over = True

    def _take(self, length: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        self._sha256.update(data)
        self._position += length
        return data


def decode_frame(payload: bytes) -> list[bytes]:
    """Return the pieces of the state that a frame holds."""
    try:
        length = zstandard.frame_content_size(payload)
        if not 0 <= length <= FRAME_BYTES_MAX:
            raise SnapshotError(f"a frame that unfolds to {length} bytes")
        return _PIECES.decode(zstandard.ZstdDecompressor().decompress(payload))
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise SnapshotError(f"a frame cannot be read: {error}") from error


def _check_preamble(content: bytes | bytearray) -> int:
    """Return the length of the header."""
    magic, version, length, _ = _PREAMBLE.unpack_from(content)
    if magic != _MAGIC:
        raise SnapshotError("it does not begin as a snapshot does")
    if version > FORMAT:
        raise SnapshotError(f"{NEWER}: it has format {version}, known is {FORMAT}")
    if version < 1 or length > HEADER_BYTES_MAX:
        raise SnapshotError(f"format {version} with a header of {length} bytes")
    return int(length)


def _decode_header(header: bytes, opening: bytes) -> SnapshotMeta:
    *_, checksum = _PREAMBLE.unpack_from(opening)
    _check_sum(header, checksum, "its header")
    try:
        return _META.decode(header)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SnapshotError(f"its header cannot be read: {error}") from error


def _check_sum(content: bytes, expected: int, what: str) -> None:
    found = crc32(content)
    if found != expected:
        raise SnapshotError(f"{what} has checksum {found:08x}, expected {expected:08x}")
