"""The replica: owns log, state and watch; ticks; applies; never decides.

Until the cluster has formed there is no engine: no elections, no votes, no entries. All
of it runs on the loop. What cannot be gone on from (a failed disk, an entry that cannot
be applied, a cluster that this server may not be part of) is raised out of `run`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from nodestate.clock import Clock, IdSource, Timer
from nodestate.config import ServerConfig
from nodestate.errors import (
    JournalError,
    NodestateError,
    NoLeaderError,
    RequestError,
)
from nodestate.fsm import machine, requests
from nodestate.fsm.digest import Digester
from nodestate.fsm.state import State
from nodestate.model.event import Event
from nodestate.model.request import Origin
from nodestate.ports import (
    Disk,
    LeadershipStatus,
    Metrics,
    Network,
    Role,
    ServerAddress,
    Spawner,
)
from nodestate.replication import entries
from nodestate.replication.agreement import Agreement, Electorate
from nodestate.replication.attempts import Attempt, AttemptBook, Resolved
from nodestate.replication.configuration import (
    ConfigurationLog,
    decode_image,
    initial_configuration,
)
from nodestate.replication.engine import NO_LEADER, Engine
from nodestate.replication.entries import Envelope, Noop
from nodestate.replication.formation import (
    Membership,
    first_entry,
    load_identity,
    read_first_entry,
    record_cluster,
)
from nodestate.replication.frames import (
    Answer,
    AppendReply,
    DigestVerdict,
    Formation,
    Message,
    Proposal,
    ProposalReply,
    Question,
    SnapshotReply,
    StateDigest,
    VoteReply,
)
from nodestate.replication.journal import Journal
from nodestate.replication.peers import Peers
from nodestate.replication.questions import SERVICES, Questions
from nodestate.replication.reads import Reads
from nodestate.replication.records import Entry, LogBase
from nodestate.replication.snapshots import SnapshotInfo, SnapshotStore, release
from nodestate.replication.snapshotting import Snapshotting, Subject
from nodestate.replication.standing import Standing
from nodestate.replication.surroundings import Surroundings, Timeouts
from nodestate.replication.waiters import AppliedWaiters, ChangeWaiters
from nodestate.watch import Watch, WatchKey

TICKS_PER_HEARTBEAT: Final = 4


AppliedCallback = Callable[[int, Sequence[Event]], None]
_COUNTED: Final = (AppendReply, VoteReply, SnapshotReply, StateDigest)
"""Messages that count for something, and so only if they are a member's."""


class Replica:
    """One server's part in the cluster, and its copy of the state."""

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        config: ServerConfig,
        *,
        disk: Disk,
        network: Network,
        clock: Clock,
        ids: IdSource,
        spawner: Spawner,
        watch: Watch,
        metrics: Metrics,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._config = config
        self._disk = disk
        self._network = network
        self._clock = clock
        self._ids = ids
        self._spawner = spawner
        self._watch = watch
        self._metrics = metrics
        self._logger = logger
        self._server_id = config.name
        self._state = State()
        self._journal: Journal | None = None
        self._forming: Formation | None = None
        self.engine: Engine | None = None
        self.peers = Peers(
            config,
            network=network,
            clock=clock,
            ids=ids,
            spawner=spawner,
            receiver=self,
            form=self._write_first_entry,
            metrics=metrics,
            logger=logger,
        )
        self.attempts = AttemptBook(self._server_id, ids.new_id())
        self.questions = Questions(send=self.peers.send, clock=clock, spawner=spawner)
        self._reads = Reads(self, clock=clock, spawner=spawner)
        self._applied_waiters = AppliedWaiters(clock)
        self._change_waiters = ChangeWaiters(clock)
        self._touched: dict[WatchKey, None] = {}
        self._on_change: list[Callable[[], None]] = []
        self._on_applied: list[AppliedCallback] = []
        self._standing = Standing(config.name, clock)
        self._last_view: tuple[Role, int, str | None, bool] | None = None
        self._is_caught_up = False
        self._woken = asyncio.Event()
        self._timer: Timer | None = None
        self._failure: NodestateError | None = None
        self._declare(metrics)

    # Life

    async def start(self) -> None:
        """Recover state and log, and begin to take part or to form a cluster."""
        self._disk.lock()
        self._store = SnapshotStore(self._disk, self._clock)
        snapshot = self._store.newest()
        self._journal = Journal.open(
            self._disk,
            snapshot=None
            if snapshot is None
            else LogBase(snapshot.index, snapshot.term),
            segment_bytes=self._config.segment_bytes,
            clock=self._clock,
            metrics=self._metrics,
        )
        self._begin_from(snapshot, self._journal)
        self._spawner.spawn(self._journal.run(self._on_durable), name="journal")
        self._spawner.spawn(self.run(), name="replica")
        await self.peers.start(self._membership)

    def _begin_from(self, snapshot: SnapshotInfo | None, journal: Journal) -> None:
        """Find out which cluster this is, if any, and go on from the snapshot."""
        has_log = journal.last_index() > 0
        own = load_identity(self._disk, self._server_id, self._ids, has_log=has_log)
        servers = self.peers.servers
        if snapshot is not None:
            self._state = self._store.load_now(snapshot)
            image = decode_image(snapshot.configuration)
            self._membership = Membership(own, servers, image.formation)
            known = ConfigurationLog(snapshot.configuration_index, image.configuration)
            self._take_part(known, applied_index=snapshot.index)
            return
        formation = read_first_entry(journal.entry(1)) if has_log else None
        self._membership = Membership(own, servers, formation)
        if formation is not None:
            self._take_part(self._founders(formation), applied_index=0)

    @staticmethod
    def _founders(formation: Formation) -> ConfigurationLog:
        return ConfigurationLog(1, initial_configuration(formation))

    async def stop(self) -> None:
        """Let go of peers and files; what was promised is on disk already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.peers.close()
        if self._journal is not None:
            self._journal.close()

    async def run(self) -> None:
        """Tick whenever there is something to do, and now and then."""
        self._set_timer()
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._failure is not None:
                raise self._failure
            if self.engine is not None:
                self._tick(self.engine)
            # One turn for everyone else, however much is to be applied.
            await asyncio.sleep(0)

    def _set_timer(self) -> None:
        self._woken.set()
        interval_s = self._config.raft_heartbeat_s / TICKS_PER_HEARTBEAT
        self._timer = self._clock.call_later(interval_s, self._set_timer)

    def _fail(self, error: NodestateError) -> None:
        self._failure = self._failure or error
        self._woken.set()

    def _tick(self, engine: Engine) -> None:
        applied_before = engine.applied_index()
        engine.doTick()
        self._standing.forget()
        if engine.applied_index() > applied_before:
            self._tell_applied(engine)
            self.snapshots.write_if_due()
        if not self._is_caught_up:
            # A server that went on from a snapshot may have nothing left to apply.
            self._is_caught_up = engine.is_caught_up()
        self._note_changes(engine)

    def _tell_applied(self, engine: Engine) -> None:
        self._watch.wake(self._touched)
        self._touched.clear()
        self._applied_waiters.wake(engine.applied_index())

    def _note_changes(self, engine: Engine) -> None:
        status = self.status()
        view = (status.role, status.term, status.leader_id, self.is_ready_to_lead())
        before, self._last_view = self._last_view, view
        if view == before:
            return
        if engine.is_leader():
            self.snapshots.on_elected()
        else:
            self.snapshots.on_deposed()
        if before is None or before[2] != status.leader_id:
            self._leader_changes.add()
            self._logger.info(
                "leader changed", leader=status.leader_id, term=status.term
            )
            self.attempts.on_leader_changed(status.leader_id)
        self._change_waiters.wake()
        for callback in self._on_change:
            callback()

    def _on_durable(self) -> None:
        assert self._journal is not None
        if self.engine is not None:
            self.engine.on_durable()
        elif self._forming is not None and self._journal.durable_index() > 0:
            self._become_member(self._forming)

    # Applying

    def _apply(self, entry: Entry) -> None:
        """Apply one committed entry; whatever goes wrong stops the server."""
        is_applied = False
        try:
            body = entries.decode_body(entry.body)
            if isinstance(body, Envelope):
                self._apply_command(entry.index, body)
            elif isinstance(body, Noop) and body.origin is not None:
                self.attempts.resolve(body.origin, Resolved(entry.index, None))
            self.attempts.on_applied(entry.index, entry.term)
            self.snapshots.note_applied(len(entry.body))
            if entry.index % self._config.digest_entries == 0 and self._is_caught_up:
                self._agreement.on_applied_index(entry.index, self._state)
            is_applied = True
        finally:
            if not is_applied:
                self._logger.critical(
                    "entry could not be applied", index=entry.index, term=entry.term
                )

    def _apply_command(self, index: int, envelope: Envelope) -> None:
        started_s = self._clock.monotonic_s()
        applied = machine.apply(
            self._state, index, envelope.command, envelope.request()
        )
        self._apply_timing.observe(self._clock.monotonic_s() - started_s)
        self._touched.update(dict.fromkeys(applied.keys))
        if applied.events:
            for callback in self._on_applied:
                callback(index, applied.events)
        self.attempts.resolve(envelope.origin, Resolved(index, applied.outcome))

    def on_applied(self, callback: AppliedCallback) -> None:
        """Call back with the index and events of each entry that had any.

        What a snapshot brings to a server that was far behind is not told.
        """
        self._on_applied.append(callback)

    def _adopt(self, state: State, index: int) -> None:
        """Serve a state that came as a snapshot: much of the log was skipped here."""
        assert self.engine is not None
        # A read may be under way over the old one: what is let go of is a copy.
        old = self._state.shallow_copy()
        self._state = state
        self._spawner.spawn(release(old, self._clock), name="release old state")
        self._standing.forget()
        self.attempts.on_installed(index, self._find_remembered)
        self._touched.clear()
        self._watch.wake_all()
        self._tell_applied(self.engine)

    def _find_remembered(self, origin: Origin) -> Resolved | None:
        remembered = requests.find_remembered(self._state, origin)
        if remembered is None:
            return None
        return Resolved(remembered.index, remembered.outcome)

    # What the proposer is built on

    def submit(self, attempt: Attempt, body: bytes) -> bool:
        """Append here if this server leads, else send to the leader; say if either was.

        Raises RequestError if the body is too large.
        """
        engine = self.engine
        if engine is None:
            return False
        if engine.is_transferring():
            return False
        if engine.is_leader():
            return self._append(engine, attempt, body)
        leader_id = engine.leader_id()
        if leader_id is None:
            return False
        if len(body) > entries.BODY_BYTES_MAX:
            raise RequestError(f"entry of {len(body)} bytes is too large")
        attempt.peer_id = leader_id
        return self.peers.send(leader_id, Proposal(attempt.attempt_id, body))

    def append_as_leader(self, attempt: Attempt, body: bytes, *, term: int) -> None:
        """Append here if this server leads in `term`, else NoLeaderError."""
        engine = self.engine
        if engine is None or not engine.is_leader() or engine.term() != term:
            raise NoLeaderError(NO_LEADER)
        if not self._append(engine, attempt, body):
            raise NoLeaderError(NO_LEADER)

    def _append(self, engine: Engine, attempt: Attempt, body: bytes) -> bool:
        """Append here; not if the disk has failed, which is about to stop this server."""
        try:
            self.attempts.place(attempt, *engine.propose(body))
        except JournalError:
            return False
        return True

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when leadership has changed, or the time is over."""
        await self._change_waiters.wait(timeout_s)

    def _on_proposal(self, peer_id: str, proposal: Proposal) -> None:
        index, term, reason = 0, 0, NO_LEADER
        if self.engine is not None:
            try:
                entries.check_proposed(proposal.body)
                index, term = self.engine.propose(proposal.body)
                reason = ""
            except (JournalError, NoLeaderError, RequestError) as error:
                reason = str(error)
        reply = ProposalReply(proposal.proposal_id, index, term, reason[:1000])
        self.peers.send(peer_id, reply)

    def _on_proposal_reply(self, peer_id: str, reply: ProposalReply) -> None:
        applied_term: int | None = None
        journal = self._journal
        if journal is not None and 0 < reply.index <= self.applied_index():
            is_kept = reply.index >= journal.base_index()
            applied_term = journal.term_at(reply.index) if is_kept else 0
        self.attempts.on_reply(peer_id, reply, applied_term=applied_term)

    # What `StateView` promises

    def state(self) -> State:
        """Return the state as of the last applied entry; treat it as read-only."""
        return self._state

    def applied_index(self) -> int:
        """Return the index of the last applied entry."""
        return self.engine.applied_index() if self.engine is not None else 0

    def is_caught_up(self) -> bool:
        """Say whether, since it started, this replica has applied all that was committed."""
        return self._is_caught_up

    async def wait_until_applied(self, index: int, *, deadline_s: float) -> bool:
        """Return whether entry `index` was applied here within `deadline_s` seconds."""
        if index <= self.applied_index():
            return True
        return await self._applied_waiters.wait(index, deadline_s)

    async def wait_until_linearizable(self, *, deadline_s: float) -> int:
        """Return once this replica shows every write acknowledged before the call."""
        return await self._reads.wait_until_fresh(deadline_s=deadline_s)

    # What `Leadership` promises

    def status(self) -> LeadershipStatus:
        """Return how things stand now: as of the last tick, and of this very moment."""
        return self._standing.status(self.engine)

    def servers(self) -> Sequence[ServerAddress]:
        """Return the servers of the cluster, sorted by id, as far as they are known."""
        return self.peers.servers

    def is_ready_to_lead(self) -> bool:
        """Say whether this server leads and has applied an entry of its own term."""
        return self.engine is not None and self.engine.is_ready_to_lead()

    def is_in_dispute(self) -> bool:
        """Say whether no majority of servers has the same state."""
        return self.engine is not None and self._agreement.is_in_dispute()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back on the loop whenever role, term, leader or readiness changed."""
        self._on_change.append(callback)

    # What `LeaderCalls` promises

    async def ask_leader(self, question: bytes, *, deadline_s: float) -> bytes:
        """Return the leader's answer; locally if this server leads."""
        return await self.ask_leader_of(SERVICES, question, deadline_s=deadline_s)

    async def ask_leader_of(
        self, kind: int, question: bytes, *, deadline_s: float
    ) -> bytes:
        """Do the same with one of the leader's other parts."""
        engine, questions = self.engine, self.questions
        if engine is None:
            raise NoLeaderError(NO_LEADER)
        if engine.is_leader():
            return await questions.answer_here(
                question, deadline_s=deadline_s, kind=kind
            )
        leader_id = engine.leader_id()
        if leader_id is None:
            raise NoLeaderError(NO_LEADER)
        return await questions.ask(
            leader_id, question, deadline_s=deadline_s, kind=kind
        )

    def answer_with(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Use `answer` for questions that reach this server while it leads."""
        self.questions.answer_with(answer)

    # What the transport says

    def on_message(self, peer_id: str, message: Message) -> None:
        """Take a message from a peer; what counts, only from a member."""
        if isinstance(message, _COUNTED) and not self.peers.is_members_word(peer_id):
            return
        match message:
            case Proposal():
                self._on_proposal(peer_id, message)
            case ProposalReply():
                self._on_proposal_reply(peer_id, message)
            case Question():
                is_leader = self.engine is not None and self.engine.is_leader()
                self.questions.on_question(peer_id, message, is_leader=is_leader)
            case Answer():
                self.questions.on_answer(peer_id, message)
            case StateDigest():
                self._agreement.on_digest(peer_id, message)
            case DigestVerdict():
                if self.engine is not None and peer_id == self.engine.leader_id():
                    self._agreement.on_verdict(message)
            case _:
                if self.engine is not None:
                    self.engine.deliver(peer_id, message)

    def on_connected(self, peer_id: str) -> None:
        """Begin to send to a peer."""
        self.peers.on_connected(peer_id)
        self._change_waiters.wake()
        if self.engine is not None:
            self.engine.on_connected(peer_id)

    def on_disconnected(self, peer_id: str) -> None:
        """Take what was on its way for lost."""
        self.peers.on_disconnected(peer_id)
        self.questions.on_disconnected(peer_id)
        self.attempts.on_disconnected(peer_id)
        if self.engine is not None:
            self.snapshots.on_disconnected(peer_id)
            self._agreement.on_disconnected(peer_id)
            self.engine.on_disconnected(peer_id)

    # Forming

    def _write_first_entry(self, formation: Formation) -> None:
        """Begin to belong to a cluster; it counts, and is told, once it is durable."""
        assert self._journal is not None
        if self._forming is None:
            self._forming = formation
            self._journal.append((first_entry(formation),))

    def _become_member(self, formation: Formation) -> None:
        self._membership.adopt(formation)
        own = self._membership.own
        is_founder = (own.server_id, own.incarnation) in formation.members
        event = "cluster formed" if is_founder else "cluster found"
        self._logger.info(event, cluster_id=formation.cluster_id)
        self._take_part(self._founders(formation), applied_index=0)
        # The others hear of it when they are dialled.
        self.peers.greet_again()

    def _take_part(self, known: ConfigurationLog, *, applied_index: int) -> None:
        """Build what belongs to a cluster: snapshots, engine, agreement."""
        assert self._journal is not None
        formation = self._membership.formation
        assert formation is not None
        own = record_cluster(self._disk, self._membership.own, formation.cluster_id)
        config, send = self._config, self.peers.send
        clock, spawner = self._clock, self._spawner
        metrics, logger = self._metrics, self._logger
        self.snapshots = Snapshotting(
            config,
            self._store,
            self._journal,
            send=send,
            clock=clock,
            spawner=spawner,
            metrics=metrics,
            logger=logger,
        )
        engine = Engine(
            own.server_id,
            own.incarnation,
            known,
            Timeouts(
                config.raft_heartbeat_s,
                config.election_timeout_s_min,
                config.election_timeout_s_max,
            ),
            Surroundings(
                journal=self._journal,
                send=send,
                is_connected=self.peers.is_connected,
                apply=self._apply,
                wake=self._woken.set,
                members_changed=self._on_members_changed,
                installs=self.snapshots,
                clock=clock,
                ids=self._ids,
                logger=logger,
            ),
            applied_index=applied_index,
        )
        self.snapshots.attach(
            Subject(formation, engine, lambda: self._state, self._adopt)
        )
        self._agreement = Agreement(
            Electorate(
                own.server_id,
                engine.leader_id,
                lambda: engine.configuration().voters(),
                lambda: engine.configuration().ids(),
            ),
            digest_steps=Digester().steps,
            send=send,
            disagree=self._fail,
            clock=clock,
            spawner=spawner,
            metrics=metrics,
            logger=logger,
        )
        self.engine = engine
        self._standing.forget()
        self.peers.take_part(engine, self.is_caught_up)
        if not engine.has_vote():
            logger.warning(
                "no vote in the cluster",
                cluster_id=formation.cluster_id,
                advice="a member with an empty directory is taken in by itself; any"
                " other server has to be added by an operator",
            )
        self._woken.set()

    def _on_members_changed(self) -> None:
        if self.engine is not None:
            self.peers.on_members_changed()
            self._change_waiters.wake()

    def _declare(self, metrics: Metrics) -> None:
        self._apply_timing = metrics.timing(
            "nodestate_replication_apply_seconds",
            "Time to apply one entry to the state.",
        )
        self._leader_changes = metrics.counter(
            "nodestate_replication_leader_changes_total",
            "How often another leader, or none, was known.",
        )
        for name, description, read in (
            ("has_leader", "1 if a leader is known.", self._has_leader),
            ("is_leader", "1 if this server leads.", lambda: self.status().is_leader),
            ("term", "The current term.", lambda: self.status().term),
            ("commit_index", "The commit index.", lambda: self.status().commit_index),
            ("applied_index", "The applied index.", self.applied_index),
            ("entry_count", "Entries in the log.", self._entry_count),
        ):
            metrics.gauge(f"nodestate_replication_{name}", description, read)

    def _has_leader(self) -> float:
        return float(self.status().leader_id is not None)

    def _entry_count(self) -> float:
        if self._journal is None or self._journal.last_index() == 0:
            return 0.0
        return float(self._journal.last_index() + 1 - self._journal.first_index())
