"""What the stock package does around the log, put back into our parts.

Files, snapshots, connections, proposals and applying: each function puts one fault back,
for a test that must fail with it (`faults.py`).
"""

import asyncio
import os
import pickle
import struct
from types import SimpleNamespace
from typing import Any

import pysyncobj.journal
import pysyncobj.pickle
import pytest

from cluster.simulation.disk import MemoryFile
from nodestate.errors import FormationError, JournalError, NodestateError, SnapshotError
from nodestate.fsm import requests
from nodestate.fsm.state import State
from nodestate.replication import (
    disk as disks,
    entries,
    formation,
    links,
    records,
    recovery,
    replica as replicas,
)
from nodestate.replication.attempts import Attempt, AttemptBook
from nodestate.replication.compaction import Compactor
from nodestate.replication.disarmed import DisarmedSyncObj
from nodestate.replication.frames import FrameReader
from nodestate.replication.installs import SnapshotReceiver
from nodestate.replication.journal import Journal
from nodestate.replication.offers import SnapshotSender
from nodestate.replication.proposer import LogProposer
from nodestate.replication.records import Kind, LogBase, encode_snapshot_mark
from nodestate.replication.recovery import Recovered
from nodestate.replication.replica import Replica
from nodestate.replication.snapshots import SnapshotStore
from nodestate.replication.transport import Transport
from tests.replication import hostile

# Files


def write_the_log_anew(patch: pytest.MonkeyPatch) -> None:
    """Clear the log, then add what is to be kept, one entry after the other (F4)."""

    async def compact(self: Any, keep_from: int) -> None:
        kept = self.entries_from(keep_from, 1 << 40)
        self._base = LogBase(keep_from - 1, self.term_at(keep_from - 1))
        self._entries.clear()
        self._positions.clear()
        self._buffer_change(Kind.SNAPSHOT, encode_snapshot_mark(self._base))
        for entry in kept:
            self.append([entry])
            await asyncio.sleep(0)

    patch.setattr(Journal, "compact", compact)


def never_sync(patch: pytest.MonkeyPatch) -> None:
    """Leave it to the system when to write (F5)."""

    async def write(
        self: Any, offset: int, data: bytes, *, trailer: bytes = b""
    ) -> None:
        self._write(offset, data)
        await self._disk.delay()
        self._write(offset + len(data), trailer)

    patch.setattr(MemoryFile, "write_and_sync", write)


def ask_for_no_checksum(patch: pytest.MonkeyPatch) -> None:
    """Take any bytes of the right form for a record (F5)."""
    patch.setattr(records, "zlib", SimpleNamespace(crc32=lambda *_: 0))


def take_damage_for_the_end(patch: pytest.MonkeyPatch) -> None:
    """Go on with what can be read: no term, no vote, no entries behind it (F6)."""
    patch.setattr(recovery, "_check_segment", lambda *_: None)


def take_a_lost_log_for_none(patch: pytest.MonkeyPatch) -> None:
    """Begin anew where the log and the vote are gone (F6)."""
    load = formation.load_identity

    def load_any(*arguments: Any, has_log: bool) -> Any:
        try:
            return load(*arguments, has_log=has_log)
        except FormationError:
            return load(*arguments, has_log=not has_log)

    patch.setattr(replicas, "load_identity", load_any)


def count_in_32_bits(patch: pytest.MonkeyPatch) -> None:
    """Have no room for a position beyond 4 Gi (F16)."""
    patch.setattr(records, "_HEADER", struct.Struct("<4sIIBII"))
    patch.setattr(records, "_CHECKED", struct.Struct("<IBII"))


def make_files_without_room(patch: pytest.MonkeyPatch) -> None:
    """Make a file as long as wanted without asking for the room (F16)."""

    def allocate(path: Any, bytes_allocated: int) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        os.truncate(descriptor, bytes_allocated)
        return descriptor

    patch.setattr(disks, "_allocate", allocate)


# Snapshots


def acknowledge_what_failed(patch: pytest.MonkeyPatch) -> None:
    """Say that a snapshot is installed, whatever became of it (F7)."""
    answer = SnapshotReceiver._answer

    def say_yes(
        self: Any, leader_id: str, chunk: Any, count: int, **facts: Any
    ) -> None:
        if facts.get("reason"):
            count, facts = chunk.total_bytes, {"is_installed": True}
        answer(self, leader_id, chunk, count, **facts)

    patch.setattr(SnapshotReceiver, "_answer", say_yes)


def take_received_for_installed(patch: pytest.MonkeyPatch) -> None:
    """Count a snapshot for a follower that has all of its bytes (F7)."""
    judge = SnapshotSender._judge

    def believe(self: Any, sending: Any, reply: Any) -> bool:
        if reply.received_bytes == sending.info.byte_count:
            self._on_installed(sending.peer_id, sending.info.index)
        return judge(self, sending, reply)

    patch.setattr(SnapshotSender, "_judge", believe)


def begin_empty(patch: pytest.MonkeyPatch) -> None:
    """Serve an empty state where the snapshot cannot be read (F8)."""
    load, newest = SnapshotStore.load_now, SnapshotStore.newest

    def load_or_begin(self: Any, info: Any) -> State:
        try:
            return load(self, info)
        except SnapshotError:
            return State()

    def newest_or_none(self: Any) -> Any:
        try:
            return newest(self)
        except SnapshotError:
            return None

    patch.setattr(SnapshotStore, "load_now", load_or_begin)
    patch.setattr(SnapshotStore, "newest", newest_or_none)


def begin_without_what_is_gone(patch: pytest.MonkeyPatch) -> None:
    """Begin with an empty log and state where the log does not begin at its start (F8)."""

    def present(names: Any, _: object) -> list[int]:
        return recovery.present_segments(names)

    def begin_anew(self: Any, snapshot: LogBase | None) -> str:
        self.base = LogBase(0, 0)
        self.entries.clear()
        self.positions.clear()
        return ""

    patch.setattr(recovery, "_segment_numbers", present)
    patch.setattr(Recovered, "settle_base", begin_anew)
    take_a_lost_log_for_none(patch)


def load_dumps_as_stock_does(patch: pytest.MonkeyPatch) -> None:
    """Take any failure to load a dump for success (F7, F8)."""
    patch.delattr(DisarmedSyncObj, "_SyncObj__loadDumpFile")


def try_again_at_once(patch: pytest.MonkeyPatch) -> None:
    """Say nothing of a snapshot that failed, and try again with every entry (F17)."""
    patch.setattr(Compactor, "_put_off", lambda self, error: None)


def name_before_verifying(patch: pytest.MonkeyPatch) -> None:
    """Give a snapshot its name before it was read back (F17)."""

    async def scan(self: Any, read: Any, wanted: Any, use: Any = None) -> Any:
        return wanted

    patch.setattr(SnapshotStore, "_scan", scan)


def shorten_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """Let go of the log when a snapshot is begun (F4)."""
    write = Compactor._write

    async def let_go_and_write(self: Any, captured: Any, *arguments: Any) -> None:
        await self._let_go(captured.meta.index)
        await write(self, captured, *arguments)

    patch.setattr(Compactor, "_write", let_go_and_write)


def keep_no_tail(patch: pytest.MonkeyPatch) -> None:
    """Let go of everything that a snapshot covers (F20)."""

    async def let_go(self: Any, index: int) -> None:
        await self._journal.compact(index + 1)

    patch.setattr(Compactor, "_let_go", let_go)


def install_in_silence(patch: pytest.MonkeyPatch) -> None:
    """Answer nothing while a snapshot is verified and loaded (F20)."""
    on_chunk = SnapshotReceiver.on_chunk

    def hear(self: Any, leader_id: str, chunk: Any) -> None:
        if not self._is_finishing(leader_id, chunk):
            on_chunk(self, leader_id, chunk)

    patch.setattr(SnapshotReceiver, "on_chunk", hear)


# Connections


def arm_pickle(patch: pytest.MonkeyPatch) -> None:
    """Let the stock package read pickles (F10)."""
    for module in (pysyncobj.pickle, pysyncobj.journal):
        if hasattr(module, "loads"):
            patch.setattr(module, "loads", pickle.loads)


def unpickle_what_comes_in(patch: pytest.MonkeyPatch) -> None:
    """Run what a stranger says first, and what is in an entry (F10)."""

    def decode(body: bytes) -> Any:
        return hostile.unpickle(body[1:])

    patch.setattr(entries, "decode_body", decode)
    patch.setattr(FrameReader, "_decode", lambda self, body: hostile.unpickle(body))


def listen_to_old_connections(patch: pytest.MonkeyPatch) -> None:
    """Forget a peer's older connection instead of ending it (F12)."""
    judge = Transport.judge

    def forget_and_judge(self: Any, link: Any, hello: Any) -> Any:
        self._incoming.pop(hello.server_id, None)
        return judge(self, link, hello)

    patch.setattr(Transport, "judge", forget_and_judge)


def buffer_without_end(patch: pytest.MonkeyPatch) -> None:
    """Keep in memory whatever the other side does not take (F20)."""
    patch.setattr(links, "WRITE_BUFFER_BYTES_MAX", 1 << 62)


# Proposals and applying


def wait_on_a_lost_connection(patch: pytest.MonkeyPatch) -> None:
    """Wait on for an answer whose connection is gone (F13)."""
    patch.setattr(AttemptBook, "on_disconnected", lambda self, peer_id: None)


def wait_for_what_was_not_sent(patch: pytest.MonkeyPatch) -> None:
    """Wait for an answer to what could not be sent (F13)."""
    submit = Replica.submit

    def pretend(self: Any, attempt: Attempt, body: bytes) -> bool:
        submit(self, attempt, body)
        return True

    patch.setattr(Replica, "submit", pretend)


def believe_replies_alone(patch: pytest.MonkeyPatch) -> None:
    """Know an own entry only by the place that the leader named (F13)."""
    resolve = AttemptBook.resolve

    def resolve_if_placed(self: Any, origin: Any, resolved: Any) -> None:
        pending = self._pending.get(origin.sequence)
        attempt = None if pending is None else pending.attempt
        if attempt is None or attempt.index > 0:
            resolve(self, origin, resolved)

    patch.setattr(AttemptBook, "resolve", resolve_if_placed)


def apply_repeats(patch: pytest.MonkeyPatch) -> None:
    """Know no request again (F13)."""
    patch.setattr(requests, "decide_request", lambda state, request: None)


def forget_who_waits_at_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """Resolve nobody whose entry came with a snapshot (F13)."""
    patch.setattr(AttemptBook, "on_installed", lambda self, index, find: None)


def take_members_from_anybody(patch: pytest.MonkeyPatch) -> None:
    """Append what a peer proposes, if it is of any kind at all (F22)."""
    patch.setattr(entries, "check_proposed", entries.decode_body)


def fail_with_the_caller(patch: pytest.MonkeyPatch) -> None:
    """Let a caller that has gone break the applying of its entry (F9)."""
    patch.setattr(Attempt, "end", lambda self, ending: self.ending.set_result(ending))


def pass_over_what_fails(patch: pytest.MonkeyPatch) -> None:
    """Go on behind an entry that cannot be applied (F9)."""
    apply = Replica._apply

    def apply_or_pass(self: Any, entry: Any) -> None:
        try:
            apply(self, entry)
        except JournalError:
            return

    patch.setattr(Replica, "_apply", apply_or_pass)


def try_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Log what a tick raises, and tick again (F14)."""
    tick = Replica._tick

    def tick_in_vain(self: Any, engine: Any) -> None:
        try:
            tick(self, engine)
        except NodestateError:
            return

    patch.setattr(Replica, "_tick", tick_in_vain)


def find_out_in_the_log(patch: pytest.MonkeyPatch) -> None:
    """Propose what nobody has tried to decide (F14)."""
    patch.setattr(LogProposer, "_check", lambda self, command: None)
