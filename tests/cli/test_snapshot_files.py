"""Snapshot files that are read without a server."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from nodestate.cli.snapshot_files import read_snapshot_file
from nodestate.errors import SnapshotError
from nodestate.fsm.pieces import encode_pieces
from nodestate.fsm.snapshot import encode_state
from nodestate.fsm.state import State
from nodestate.replication.configuration import (
    Configuration,
    Image,
    MemberEntry,
    encode_image,
)
from nodestate.replication.frames import Formation
from nodestate.replication.snapshot_format import SnapshotEncoder, SnapshotMeta
from tests.fsm.states import full_state

MEMBERS = (
    MemberEntry("server1", "a", "10.0.0.1:4647", "10.0.0.1:4646", is_voter=True),
    MemberEntry("server2", "b", "10.0.0.2:4647", "10.0.0.2:4646", is_voter=False),
)
IMAGE = Image(Formation("cluster", (("server1", "a"),)), Configuration(MEMBERS))
META = SnapshotMeta(
    index=70,
    term=3,
    configuration=encode_image(IMAGE),
    configuration_index=2,
    cluster_id="cluster",
)


def snapshot_bytes(state: State, meta: SnapshotMeta = META) -> bytes:
    return file_bytes([piece for piece in encode_pieces(state) if piece], meta)


def file_bytes(pieces: list[bytes], meta: SnapshotMeta = META) -> bytes:
    encoder = SnapshotEncoder()
    opening = encoder.opening(meta)
    frames = [encoder.frame([piece]) for piece in pieces]
    return b"".join([opening, *frames, encoder.footer()])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "backup.snap"
    path.write_bytes(snapshot_bytes(full_state()))
    return path


def test_what_is_in_a_file_is_counted_and_can_be_had(path):
    found = read_snapshot_file(path)

    assert found.meta == META
    assert found.name == "snapshot-00000000000000000070-3.snap"
    assert found.byte_count == path.stat().st_size
    assert found.members() == MEMBERS
    assert encode_state(found.state) == encode_state(full_state())
    names = [name for name, _, _ in found.records()]
    for table in found.tables:
        assert table.count == names.count(table.name) > 0
        assert table.bytes > 0


def test_an_empty_state_is_one_too(tmp_path):
    path = tmp_path / "empty.snap"
    path.write_bytes(snapshot_bytes(State(), replace(META, configuration=b"")))

    found = read_snapshot_file(path)

    assert found.members() == ()
    assert list(found.records()) == []
    assert {(table.count, table.bytes) for table in found.tables} == {(0, 0)}


def test_a_damaged_file_is_refused_wherever_the_damage_is(path):
    content = path.read_bytes()
    for position in range(0, len(content), 97):
        spoilt = bytearray(content)
        spoilt[position] ^= 1
        path.write_bytes(spoilt)
        with pytest.raises(SnapshotError):
            read_snapshot_file(path)


def test_a_file_that_lacks_its_end_is_refused(path):
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(SnapshotError, match="ends too early"):
        read_snapshot_file(path)


def test_records_that_no_server_would_take_are_refused(tmp_path):
    """Right checksums are not enough: what is in it has to be a state."""
    path = tmp_path / "part.snap"
    path.write_bytes(file_bytes(list(encode_pieces(full_state()))[:3]))

    with pytest.raises(SnapshotError, match="records"):
        read_snapshot_file(path)
