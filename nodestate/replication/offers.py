"""The leader's snapshot on its way to followers that the log cannot help any more.

One chunk at a time: the next one follows the answer to the last, which says how much the
follower has, so that either side may start again in the middle.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog

from nodestate.clock import Clock
from nodestate.errors import JournalError, NodestateError, SnapshotError
from nodestate.ports import Metrics, Spawner
from nodestate.replication.disarmed import Send
from nodestate.replication.frames import CHUNK_BYTES_MAX, SnapshotChunk, SnapshotReply
from nodestate.replication.snapshots import SnapshotInfo

REPLY_S_MAX: Final = 5.0
"""After that long without an answer the same chunk is sent again."""
ATTEMPTS_MAX: Final = 5
"""After so many chunks in a row without an answer a peer is left alone for a while."""
POLL_S: Final = 1.0
"""How often a peer that has all of the file is asked whether it is installed."""
PAUSE_S_MIN: Final = 0.001
"""Shorter pauses between chunks are saved up until they make one."""
SENDING_S_MAX: Final = 3600.0
"""After that long, what is being sent is too old to be of much use."""
BACKOFF_S_MIN: Final = 1.0
BACKOFF_S_MAX: Final = 60.0


class SentStore(Protocol):
    """Where a leader's snapshots are read from, as `snapshots.SnapshotStore` does it."""

    def newest(self) -> SnapshotInfo | None:
        """Return the newest one."""

    async def read_piece(self, info: SnapshotInfo, offset: int, length: int) -> bytes:
        """Return a part of its file."""


class _InVainError(NodestateError):
    """A peer does not answer, or says why it cannot take the snapshot."""


class _Backoff(NamedTuple):
    backoff_s: float
    not_before_s: float


class _Sending:
    """One snapshot on its way to one peer, and what the peer said last."""

    def __init__(
        self, peer_id: str, term: int, *, deadline_s: float, info: SnapshotInfo
    ) -> None:
        self.peer_id = peer_id
        self.term = term
        self.deadline_s = deadline_s
        self.next_at_s = 0.0
        self.silent_count = 0
        self.is_over = False
        self.woken = asyncio.Event()
        self.begin(info, 0)

    def begin(self, info: SnapshotInfo, sequence: int) -> None:
        """Begin with a file; answers to chunks up to `sequence` are not about it."""
        self.info = info
        self.offset = 0
        self.sequence = self.sequence_before = self.answered_sequence = sequence
        self.reply: SnapshotReply | None = None

    def is_sent(self) -> bool:
        """Say whether the peer has all of the file."""
        return self.offset == self.info.byte_count

    def is_about(self, reply: SnapshotReply) -> bool:
        """Say whether this answers a chunk of the file.

        What is said for good counts even if it answers an earlier chunk: to verify a
        file may take longer than we waited.
        """
        if reply.index != self.info.index:
            return False
        if reply.is_installed or reply.reason:
            return self.sequence_before < reply.sequence <= self.sequence
        return self.answered_sequence < reply.sequence == self.sequence

    def take_reply(self) -> SnapshotReply | None:
        """Return the answer, once."""
        reply, self.reply = self.reply, None
        if reply is not None:
            self.answered_sequence = reply.sequence
        return reply


class SnapshotSender:
    """The leader's side: at most one snapshot on its way to each peer.

    A peer that does not take it is left alone for a while, longer each time; whoever
    wants it to catch up offers again.
    """

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        store: SentStore,
        *,
        send: Send,
        on_installed: Callable[[str, int], None],
        bytes_per_s_max: int,
        clock: Clock,
        spawner: Spawner,
        metrics: Metrics,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        """`on_installed` is called with a peer and the entry that its snapshot ends with.

        `bytes_per_s_max` bounds what goes to one peer.
        """
        assert bytes_per_s_max > 0
        self._store = store
        self._send = send
        self._on_installed = on_installed
        self._bytes_per_s_max = bytes_per_s_max
        self._clock = clock
        self._spawner = spawner
        self._logger = logger
        self._sequence = 0
        self._sendings: dict[str, _Sending] = {}
        self._backoffs: dict[str, _Backoff] = {}
        self._declare(metrics)

    def offer(self, peer_id: str, term: int) -> None:
        """Begin to send the newest snapshot, unless that is under way or was in vain."""
        sending = self._sendings.get(peer_id)
        if sending is not None and sending.term == term:
            return
        now_s = self._clock.monotonic_s()
        backoff = self._backoffs.get(peer_id)
        if backoff is not None and now_s < backoff.not_before_s:
            return
        newest = self._store.newest()
        if newest is None:
            return
        self._end(peer_id)
        sending = _Sending(peer_id, term, deadline_s=now_s + SENDING_S_MAX, info=newest)
        sending.begin(newest, self._sequence)
        self._sendings[peer_id] = sending
        self._spawner.spawn(self._run(sending), name="snapshot to peer")

    def oldest_in_use(self) -> int | None:
        """Return the index of the oldest snapshot that is on its way, `None` if none is."""
        return min((s.info.index for s in self._sendings.values()), default=None)

    def on_reply(self, peer_id: str, reply: SnapshotReply) -> None:
        """Take a peer's answer, of a term that is not newer than ours."""
        sending = self._sendings.get(peer_id)
        if sending is not None and sending.is_about(reply):
            sending.reply = reply
            sending.woken.set()

    def on_disconnected(self, peer_id: str) -> None:
        """Stop sending to a peer; when it is back it may be offered one at once."""
        self._backoffs.pop(peer_id, None)
        self._end(peer_id)

    def stop(self) -> None:
        """Stop sending to anyone: this server leads no more."""
        self._backoffs.clear()
        for peer_id in tuple(self._sendings):
            self._end(peer_id)

    def _end(self, peer_id: str) -> None:
        sending = self._sendings.pop(peer_id, None)
        if sending is not None:
            sending.is_over = True
            sending.woken.set()

    async def _run(self, sending: _Sending) -> None:
        self._logger.info(
            "snapshot offered", peer=sending.peer_id, index=sending.info.index
        )
        try:
            while not await self._step(sending):
                pass
        except (_InVainError, JournalError, SnapshotError) as error:
            if not sending.is_over:
                self._put_off(sending.peer_id, error)
        finally:
            if self._sendings.get(sending.peer_id) is sending:
                del self._sendings[sending.peer_id]

    async def _step(self, sending: _Sending) -> bool:
        """Send a chunk and take the answer to it; say whether that was all."""
        data = await self._read(sending)
        if data is None:
            return False
        await self._pause(sending, self._pause_s(sending))
        if sending.reply is None and not sending.is_over:
            self._post(sending, data)
            await self._pause(sending, REPLY_S_MAX)
        reply = sending.take_reply()
        if sending.is_over:
            return True
        if self._clock.monotonic_s() >= sending.deadline_s:
            raise _InVainError(f"not installed within {SENDING_S_MAX:.0f} s")
        if reply is None:
            sending.silent_count += 1
            if sending.silent_count >= ATTEMPTS_MAX:
                raise _InVainError("no answer")
            return False
        sending.silent_count = 0
        return self._judge(sending, reply)

    async def _read(self, sending: _Sending) -> bytes | None:
        """Return the next chunk, `None` if the file is gone and a newer one takes its place.

        No more bytes are left once the peer has them all.
        """
        info, offset = sending.info, sending.offset
        length = min(CHUNK_BYTES_MAX, info.byte_count - offset)
        if length == 0:
            return b""
        try:
            data = await self._store.read_piece(info, offset, length)
        except (JournalError, SnapshotError):
            newest = self._store.newest()
            if newest is None or newest.name == info.name:
                raise
            sending.begin(newest, self._sequence)
            return None
        if len(data) != length:
            raise SnapshotError(f"{info.name} ends before byte {offset + length}")
        return data

    def _pause_s(self, sending: _Sending) -> float:
        """Return how long to wait before the next chunk."""
        if sending.is_sent():
            # It verifies and installs: there is no hurry.
            return POLL_S
        pause_s = sending.next_at_s - self._clock.monotonic_s()
        return pause_s if pause_s >= PAUSE_S_MIN else 0.0

    async def _pause(self, sending: _Sending, seconds: float) -> None:
        """Return after that long, or as soon as there is an answer or nothing to do."""
        if seconds <= 0 or sending.reply is not None or sending.is_over:
            return
        sending.woken.clear()
        timer = self._clock.call_later(seconds, sending.woken.set)
        try:
            await sending.woken.wait()
        finally:
            timer.cancel()

    def _post(self, sending: _Sending, data: bytes) -> None:
        self._sequence += 1
        sending.sequence = self._sequence
        chunk = SnapshotChunk(
            sending.term,
            sending.sequence,
            sending.info.index,
            sending.info.term,
            sending.info.byte_count,
            sending.offset,
            data,
        )
        earliest_s = max(self._clock.monotonic_s(), sending.next_at_s)
        sending.next_at_s = earliest_s + len(data) / self._bytes_per_s_max
        if self._send(sending.peer_id, chunk):
            self._sent_bytes.add(len(data))

    def _judge(self, sending: _Sending, reply: SnapshotReply) -> bool:
        """Go on from where the peer is; say whether it has installed the snapshot."""
        if reply.reason:
            raise _InVainError(reply.reason)
        if reply.is_installed:
            self._backoffs.pop(sending.peer_id, None)
            self._sent.add()
            self._logger.info(
                "snapshot installed by peer", peer=sending.peer_id, index=reply.index
            )
            self._on_installed(sending.peer_id, sending.info.index)
            return True
        if reply.received_bytes > sending.info.byte_count:
            raise _InVainError(
                f"{reply.received_bytes} bytes received of {sending.info.byte_count}"
            )
        # Not always what was sent: either side may have started again since.
        sending.offset = reply.received_bytes
        return False

    def _put_off(self, peer_id: str, error: Exception) -> None:
        before = self._backoffs.get(peer_id)
        backoff_s = BACKOFF_S_MIN
        if before is not None:
            backoff_s = min(2 * before.backoff_s, BACKOFF_S_MAX)
        not_before_s = self._clock.monotonic_s() + backoff_s
        self._backoffs[peer_id] = _Backoff(backoff_s, not_before_s)
        self._failed.add()
        self._logger.warning(
            "snapshot not installed by peer",
            peer=peer_id,
            reason=str(error),
            retry_s=backoff_s,
        )

    def _declare(self, metrics: Metrics) -> None:
        self._sent = metrics.counter(
            "nodestate_replication_snapshots_sent_total",
            "Snapshots that a peer has installed.",
        )
        self._failed = metrics.counter(
            "nodestate_replication_snapshot_send_failures_total",
            "Snapshots that a peer did not install.",
        )
        self._sent_bytes = metrics.counter(
            "nodestate_replication_snapshot_sent_bytes_total",
            "Bytes of snapshots sent to peers.",
        )
