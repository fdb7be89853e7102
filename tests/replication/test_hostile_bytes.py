"""Pickles down every path that bytes come in by: k1."""

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import (
    FormationError,
    FrameError,
    JournalError,
    SnapshotError,
)
from nodestate.fsm.pieces import StateLoader
from nodestate.fsm.state import State
from nodestate.replication import entries
from nodestate.replication.configuration import decode_image
from nodestate.replication.formation import IDENTITY_FILE, load_identity
from nodestate.replication.frames import (
    LENGTH_BYTES,
    answer_reader,
    hello_reader,
    message_reader,
)
from nodestate.replication.recovery import recover, segment_name
from nodestate.replication.snapshot_format import SnapshotMeta, snapshot_name
from nodestate.replication.snapshots import SnapshotStore
from tests.fakes import FakeClock, SequentialIds
from tests.replication import hostile


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def read_identity(data: bytes) -> None:
    disk = MemoryDisk()
    disk.put_file(IDENTITY_FILE, data)
    load_identity(disk, "server1", SequentialIds(), has_log=False)


def read_snapshot(data: bytes) -> None:
    disk = MemoryDisk()
    disk.put_file(snapshot_name(5, 1), data)
    SnapshotStore(disk, FakeClock()).newest()


def read_journal(data: bytes) -> None:
    """Read it as the whole of a segment, and as what follows its last record."""
    disk = MemoryDisk()
    disk.put_file(segment_name(1), data.ljust(2048, b"\0"))
    recovered = recover(disk)
    assert not recovered.entries
    raise JournalError("nothing was taken for a record")


PATHS = {
    "message": (FrameError, lambda data: message_reader().feed(framed(data))),
    "hello": (FrameError, lambda data: hello_reader().feed(framed(data))),
    "answer": (FrameError, lambda data: answer_reader().feed(framed(data))),
    "command": (JournalError, lambda data: entries.decode_body(b"\x00" + data)),
    "no-op": (JournalError, lambda data: entries.decode_body(b"\x01" + data)),
    "members": (JournalError, lambda data: entries.decode_body(b"\x02" + data)),
    "change": (JournalError, lambda data: entries.decode_body(b"\x03" + data)),
    "unknown kind": (JournalError, entries.decode_body),
    "proposal": (JournalError, lambda data: entries.check_proposed(b"\x00" + data)),
    "image": (JournalError, decode_image),
    "identity": (FormationError, read_identity),
    "snapshot": (SnapshotError, read_snapshot),
    "piece": (SnapshotError, lambda data: StateLoader().feed(data)),
    "journal": (JournalError, read_journal),
}


@pytest.mark.parametrize("path", PATHS)
def test_no_pickle_is_run_wherever_it_comes_in(path):
    """k1: from peers, from strangers and from the disk."""
    error, read = PATHS[path]
    hostile.SPRUNG.clear()

    for data in hostile.pickles():
        with pytest.raises(error):
            read(data)

    assert hostile.SPRUNG == []
    assert hostile.unpickle(hostile.pickles()[0]) == hostile.SPRUNG.pop()


async def test_no_pickle_that_comes_as_a_snapshot_is_run():
    hostile.SPRUNG.clear()
    store = SnapshotStore(MemoryDisk(), FakeClock())

    for data in hostile.pickles():
        receiving = store.receive(5, 1, len(data))
        await receiving.add(0, data)
        with pytest.raises(SnapshotError, match="not kept"):
            await receiving.finish()
        receiving.abandon()

    assert hostile.SPRUNG == []
    assert store.newest() is None
    assert isinstance(
        await store.write(SnapshotMeta(index=5, term=1, configuration=b"m"), State()),
        SnapshotMeta,
    )
