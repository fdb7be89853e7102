"""The bytes of a snapshot file: whole, cut, damaged, and written by others."""

import struct
from zlib import crc32

import msgspec
import pytest
import zstandard
from hypothesis import given, strategies as st

from nodestate.errors import SnapshotError
from nodestate.replication import snapshot_format
from nodestate.replication.snapshot_format import (
    OPENING_BYTES_MAX,
    SnapshotEncoder,
    SnapshotMeta,
    SnapshotScanner,
    decode_frame,
    decode_opening,
    encode_opening,
    parse_name,
    snapshot_name,
)

META = SnapshotMeta(index=7, term=3, configuration=b"members", configuration_index=2, cluster_id="c")  # fmt: skip
FRAMES = [[b"head", b"x" * 100], [], [b"tail"]]


def written(frames: list[list[bytes]] = FRAMES) -> bytes:
    encoder = SnapshotEncoder()
    parts = [encoder.opening(META), *map(encoder.frame, frames), encoder.footer()]
    content = b"".join(parts)
    assert encoder.byte_count == len(content)
    return content


def scan(content: bytes, size: int = 1 << 20) -> tuple[SnapshotMeta, list[list[bytes]]]:
    scanner = SnapshotScanner()
    payloads = []
    for offset in range(0, len(content), size):
        payloads += scanner.feed(content[offset : offset + size])
    return scanner.finish(), [decode_frame(payload) for payload in payloads]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_a_file_is_read_as_it_was_written_in_slices_of_any_size(size):
    assert scan(written(), size) == (META, FRAMES)


@given(st.lists(st.lists(st.binary(max_size=50), max_size=3), max_size=4))
def test_whatever_is_written_is_read(frames):
    assert scan(written(frames)) == (META, frames)


def test_the_header_is_read_alone():
    assert decode_opening(written()[:OPENING_BYTES_MAX]) == META
    assert decode_opening(encode_opening(META)) == META


def test_a_file_cut_anywhere_is_not_one():
    content = written()

    for length in range(len(content)):
        with pytest.raises(SnapshotError, match=f"ends too early, at byte {length}"):
            scan(content[:length])


def test_a_header_cut_anywhere_is_not_one():
    opening = encode_opening(META)

    for length in range(len(opening)):
        with pytest.raises(SnapshotError, match=f"ends at byte {length}, in its"):
            decode_opening(opening[:length])


def test_a_flipped_bit_anywhere_is_found():
    content = written()

    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SnapshotError):
            scan(bytes(damaged))


def test_damage_is_named_before_the_end_is_there():
    opening = encode_opening(META)
    damaged = bytearray(written()[:-50])
    damaged[len(opening) + 10] ^= 1

    with pytest.raises(
        SnapshotError, match=f"the frame at byte {len(opening)} has check"
    ):
        SnapshotScanner().feed(bytes(damaged))


def test_more_than_the_whole_file_is_refused():
    with pytest.raises(SnapshotError, match="goes on behind its end"):
        scan(written() + b"\0")
    scanner = SnapshotScanner()
    scanner.feed(written())
    with pytest.raises(SnapshotError, match="goes on behind its end"):
        scanner.feed(b"\0")


def test_frames_in_another_order_are_found():
    encoder = SnapshotEncoder()
    opening, first, second, footer = encoder.opening(META), encoder.frame([b"1"]), encoder.frame([b"2"]), encoder.footer()  # fmt: skip

    with pytest.raises(SnapshotError, match="SHA-256"):
        scan(opening + second + first + footer)
    with pytest.raises(SnapshotError, match=r"1 frames and \d+ bytes, expected 2"):
        scan(opening + first + footer)


def test_something_else_is_no_snapshot():
    with pytest.raises(SnapshotError, match="does not begin as a snapshot does"):
        scan(b"PK\x03\x04" + bytes(100))


def test_a_newer_format_is_refused(monkeypatch):
    monkeypatch.setattr(snapshot_format, "FORMAT", 2)
    content = written()
    monkeypatch.undo()

    with pytest.raises(
        SnapshotError, match="newer version of nodestate: it has format 2"
    ):
        scan(content)
    with pytest.raises(
        SnapshotError, match="newer version of nodestate: it has format 2"
    ):
        decode_opening(content)  # fmt: skip


def opening_with(header: bytes) -> bytes:
    return struct.pack("<8sIII", b"nodesnap", 1, len(header), crc32(header)) + header


@pytest.mark.parametrize(
    "header", [b"", b"\xc1", msgspec.msgpack.encode({"index": "x"})]
)
def test_a_header_that_makes_no_sense_is_refused(header):
    with pytest.raises(SnapshotError, match="its header cannot be read"):
        decode_opening(opening_with(header))


@pytest.mark.parametrize(("version", "length"), [(0, 1), (1, 2 << 20)])
def test_a_preamble_that_makes_no_sense_is_refused(version, length):
    with pytest.raises(SnapshotError, match=f"format {version} with a header of"):
        decode_opening(struct.pack("<8sIII", b"nodesnap", version, length, 0))


def test_a_frame_of_no_sensible_length_is_refused_at_once():
    with pytest.raises(SnapshotError, match="a frame of 4294967295 bytes"):
        scan(encode_opening(META) + struct.pack("<II", 0xFFFFFFFF, 0))


def test_a_frame_that_unfolds_to_too_much_is_refused(monkeypatch):
    payload = zstandard.ZstdCompressor().compress(bytes(1000))
    monkeypatch.setattr(snapshot_format, "FRAME_BYTES_MAX", 999)

    with pytest.raises(SnapshotError, match="unfolds to 1000 bytes"):
        decode_frame(payload)


@pytest.mark.parametrize("payload", [b"", b"junk", zstandard.ZstdCompressor().compress(b"\xc1")])  # fmt: skip
def test_a_frame_that_makes_no_sense_is_refused(payload):
    with pytest.raises(SnapshotError, match="a frame"):
        decode_frame(payload)


def test_names_sort_as_indexes_do():
    assert snapshot_name(12, 3) == "snapshot-00000000000000000012-3.snap"
    assert parse_name(snapshot_name(12, 3)) == (12, 3)
    assert snapshot_name(99, 9) < snapshot_name(100, 1)


@pytest.mark.parametrize("name", ["snapshot-12-3.snap", "journal-00000001.log", snapshot_name(1, 1) + ".1.tmp"])  # fmt: skip
def test_other_names_are_no_snapshots(name):
    assert parse_name(name) is None
