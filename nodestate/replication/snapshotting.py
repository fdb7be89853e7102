"""What a replica does with snapshots: write its own, send them, go on from the leader's.

The parts are `compaction`, `offers`, `installs` and `snapshots`; this says what a snapshot
of this server is made of, and what it means to take another's in its place.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from nodestate.clock import Clock
from nodestate.config import ServerConfig
from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.state import State
from nodestate.ports import LogEnds, Metrics, SavedSnapshot, Spawner
from nodestate.replication.compaction import Capture, Compactor, Limits
from nodestate.replication.configuration import Image, decode_image, encode_image
from nodestate.replication.disarmed import Send
from nodestate.replication.engine import Engine
from nodestate.replication.frames import Formation, SnapshotChunk, SnapshotReply
from nodestate.replication.installs import SnapshotReceiver
from nodestate.replication.journal import Journal
from nodestate.replication.offers import SnapshotSender
from nodestate.replication.records import LogBase
from nodestate.replication.snapshot_format import SnapshotMeta
from nodestate.replication.snapshots import SnapshotInfo, SnapshotStore

NOT_IN_TIME: Final = "the snapshot was not written in time"


class Subject(NamedTuple):
    """The replica that snapshots are of.

    `adopt` makes a state from elsewhere the one that is served, as of an index.
    """

    formation: Formation
    engine: Engine
    state: Callable[[], State]
    adopt: Callable[[State, int], None]


class Snapshotting:
    """One server's snapshots; `attach` before anything else."""

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        config: ServerConfig,
        store: SnapshotStore,
        journal: Journal,
        *,
        send: Send,
        clock: Clock,
        spawner: Spawner,
        metrics: Metrics,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._store = store
        self._journal = journal
        self._sender = SnapshotSender(
            store,
            send=send,
            on_installed=self._on_peer_installed,
            bytes_per_s_max=config.snapshot_bytes_per_second_max,
            clock=clock,
            spawner=spawner,
            metrics=metrics,
            logger=logger,
        )
        self._receiver = SnapshotReceiver(
            store,
            reply=self._reply,
            is_needed=self._is_needed,
            install=self._install,
            term=self._term,
            clock=clock,
            spawner=spawner,
            metrics=metrics,
            logger=logger,
        )
        self._compactor = Compactor(
            Limits(
                config.snapshot_entries,
                config.snapshot_bytes,
                config.snapshot_tail_entries,
            ),
            capture=self._capture,
            oldest_in_use=self._sender.oldest_in_use,
            store=store,
            journal=journal,
            clock=clock,
            spawner=spawner,
            metrics=metrics,
            logger=logger,
        )

    def attach(self, subject: Subject) -> None:
        """Say whose snapshots these are."""
        self._subject = subject

    # What the replica says

    def note_applied(self, entry_bytes: int) -> None:
        """Count an entry that was applied."""
        self._compactor.note_applied(entry_bytes)

    def write_if_due(self) -> None:
        """Begin to write a snapshot if it is time."""
        self._compactor.start_if_due()

    def on_elected(self) -> None:
        """Receive no more: nobody sends to a leader."""
        self._receiver.abandon()

    def on_deposed(self) -> None:
        """Send no more: another leads, or nobody."""
        self._sender.stop()

    def on_disconnected(self, peer_id: str) -> None:
        """Take what was on its way to a peer for lost."""
        self._sender.on_disconnected(peer_id)

    # What operators ask

    async def save(self, *, deadline_s: float) -> SavedSnapshot:
        """Return a snapshot of now; `SnapshotError` if it cannot be written in time."""
        try:
            async with asyncio.timeout(deadline_s):
                info = await self._newest_or_now()
        except TimeoutError as error:
            raise SnapshotError(NOT_IN_TIME) from error
        return SavedSnapshot(
            index=info.index, term=info.term, name=info.name, byte_count=info.byte_count
        )

    async def _newest_or_now(self) -> SnapshotInfo:
        newest = self._store.newest()
        if newest is not None and newest.index == self._subject.engine.applied_index():
            return newest
        return await self._compactor.write_now()

    async def read(self, snapshot: SavedSnapshot, offset: int, length: int) -> bytes:
        """Return a piece; `SnapshotError` if a newer one has taken its place."""
        return await self._store.read_piece(snapshot, offset, length)

    def log_ends(self) -> LogEnds:
        """Return where the log and the newest snapshot of this server end."""
        snapshot = self._store.newest()
        return LogEnds(
            last_index=self._journal.last_index(),
            last_term=self._journal.last_term(),
            snapshot_index=0 if snapshot is None else snapshot.index,
            snapshot_term=0 if snapshot is None else snapshot.term,
        )

    def term_at(self, index: int) -> int:
        """Return the term of an entry, 0 of one that the log does not have (any more)."""
        journal = self._journal
        if not journal.base_index() <= index <= journal.last_index():
            return 0
        return journal.term_at(index)

    # What the engine asks

    def need_snapshot(self, peer_id: str) -> None:
        """Send one to a follower that the log cannot help."""
        self._sender.offer(peer_id, self._subject.engine.term())

    def on_chunk(self, leader_id: str, chunk: SnapshotChunk) -> None:
        """Take a piece of the leader's snapshot."""
        self._receiver.on_chunk(leader_id, chunk)

    def on_snapshot_reply(self, peer_id: str, reply: SnapshotReply) -> None:
        """Take a follower's answer to a piece."""
        self._sender.on_reply(peer_id, reply)

    # What the parts ask

    def _on_peer_installed(self, peer_id: str, index: int) -> None:
        self._subject.engine.on_installed(peer_id, index)

    def _reply(self, peer_id: str, reply: SnapshotReply) -> None:
        self._subject.engine.post(peer_id, reply)

    def _term(self) -> int:
        return self._subject.engine.term()

    def _is_needed(self, index: int) -> bool:
        return index > self._subject.engine.commit_index()

    def _capture(self) -> Capture | None:
        """Return what a snapshot of this moment is written from."""
        engine, state = self._subject.engine, self._subject.state()
        index, newest = engine.applied_index(), self._store.newest()
        if newest is not None and index <= newest.index:
            return None
        if state.is_restoring:
            # What has come of the new state is in the log alone.
            return None
        configuration_index, configuration = engine.configuration_as_of(index)
        engine.forget_configurations_before(self._journal.base_index())
        formation = self._subject.formation
        meta = SnapshotMeta(
            index=index,
            term=self._journal.term_at(index),
            configuration=encode_image(Image(formation, configuration)),
            configuration_index=configuration_index,
            cluster_id=formation.cluster_id,
        )
        return Capture(meta, state.shallow_copy())

    def _install(self, info: SnapshotInfo, state: State) -> None:
        """Go on from a snapshot that came from the leader and is durable here."""
        subject = self._subject
        image = decode_image(info.configuration)
        if image.formation != subject.formation:
            raise JournalError(f"{info.name} is of another cluster: {info.cluster_id}")
        self._journal.reset_to(LogBase(info.index, info.term))
        subject.engine.adopt_snapshot(
            info.index, info.configuration_index, image.configuration
        )
        self._compactor.note_installed()
        subject.adopt(state, info.index)
