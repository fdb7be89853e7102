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
from nodestate.config import ServerConfig, split_address
from nodestate.errors import (
    ConfigError,
    FormationError,
    JournalError,
    NodestateError,
    NoLeaderError,
    RequestError,
)
from nodestate.fsm import machine
from nodestate.fsm.state import State
from nodestate.model.event import Event
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
from nodestate.replication.attempts import Attempt, AttemptBook, Resolved
from nodestate.replication.engine import NO_LEADER, Engine
from nodestate.replication.entries import Envelope, Noop
from nodestate.replication.formation import (
    NOT_FORMED,
    Claim,
    Membership,
    first_entry,
    load_identity,
    read_first_entry,
)
from nodestate.replication.frames import (
    PROTOCOL_VERSION,
    Answer,
    Formation,
    Hello,
    Message,
    Proposal,
    ProposalReply,
    Question,
    Refusal,
    Welcome,
)
from nodestate.replication.journal import Journal
from nodestate.replication.questions import Questions
from nodestate.replication.records import Entry
from nodestate.replication.surroundings import Surroundings, Timeouts
from nodestate.replication.transport import Transport
from nodestate.replication.waiters import AppliedWaiters, ChangeWaiters
from nodestate.watch import Watch, WatchKey

TICKS_PER_HEARTBEAT: Final = 4
STATUS_S_MAX: Final = 0.01
"""How long what was found out about leadership between two ticks is good for."""

AppliedCallback = Callable[[int, Sequence[Event]], None]


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
        self._servers = _servers_of(config)
        self._journal: Journal | None = None
        self._membership: Membership | None = None
        self._forming: Formation | None = None
        self._transport: Transport | None = None
        self._engine: Engine | None = None
        self.attempts = AttemptBook(self._server_id, ids.new_id())
        self._questions = Questions(send=self._send, clock=clock, spawner=spawner)
        self._applied_waiters = AppliedWaiters(clock)
        self._change_waiters = ChangeWaiters(clock)
        self._touched: dict[WatchKey, None] = {}
        self._on_change: list[Callable[[], None]] = []
        self._on_applied: list[AppliedCallback] = []
        self._status: LeadershipStatus | None = None
        self._status_until_s = 0.0
        self._last_view: tuple[Role, int, str | None, bool] | None = None
        self._is_caught_up = False
        self._last_refusals: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._timer: Timer | None = None
        self._failure: NodestateError | None = None
        self._declare(metrics)

    # Life

    async def start(self) -> None:
        """Recover the log, and begin to take part or to form a cluster."""
        self._journal = Journal.open(
            self._disk,
            segment_bytes=self._config.segment_bytes,
            clock=self._clock,
            metrics=self._metrics,
        )
        has_log = self._journal.last_index() > 0
        identity = load_identity(
            self._disk, self._server_id, self._ids, has_log=has_log
        )
        formation = read_first_entry(self._journal.entry(1)) if has_log else None
        server_ids = [server.server_id for server in self._servers]
        self._membership = Membership(identity, server_ids, formation)
        if formation is not None:
            self._take_part(formation)
        self._spawner.spawn(self._journal.run(self._on_durable), name="journal")
        self._spawner.spawn(self.run(), name="replica")
        self._form_if_due()
        if len(self._servers) > 1:
            self._transport = self._new_transport()
            await self._transport.start()

    def _new_transport(self) -> Transport:
        return Transport(
            server_id=self._server_id,
            peers={
                server.server_id: split_address(server.peer_address)
                for server in self._servers
                if server.server_id != self._server_id
            },
            listen=split_address(self._config.peer),
            network=self._network,
            clock=self._clock,
            ids=self._ids,
            spawner=self._spawner,
            handshake=self,
            receiver=self,
            metrics=self._metrics,
        )

    async def stop(self) -> None:
        """Let go of peers and files; what was promised is on disk already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            await self._transport.close()
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
            if self._engine is not None:
                self._tick(self._engine)
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
        self._status = None
        if engine.applied_index() > applied_before:
            self._watch.wake(self._touched)
            self._touched.clear()
            self._applied_waiters.wake(engine.applied_index())
            if not self._is_caught_up:
                self._is_caught_up = engine.is_caught_up()
        self._note_changes()

    def _note_changes(self) -> None:
        status = self.status()
        view = (status.role, status.term, status.leader_id, self.is_ready_to_lead())
        before, self._last_view = self._last_view, view
        if view == before:
            return
        if before is None or before[2] != status.leader_id:
            self._leader_changes.add()
            self._logger.info(
                "leader changed", leader=status.leader_id, term=status.term
            )
        self._change_waiters.wake()
        for callback in self._on_change:
            callback()

    def _on_durable(self) -> None:
        assert self._journal is not None
        if self._engine is not None:
            self._engine.on_durable()
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
            is_applied = True
        finally:
            if not is_applied:
                self._logger.critical(
                    "entry could not be applied", index=entry.index, term=entry.term
                )

    def _apply_command(self, index: int, envelope: Envelope) -> None:
        started_s = self._clock.monotonic_s()
        applied = machine.apply(self._state, index, envelope.command)
        self._apply_timing.observe(self._clock.monotonic_s() - started_s)
        self._touched.update(dict.fromkeys(applied.keys))
        if applied.events:
            for callback in self._on_applied:
                callback(index, applied.events)
        self.attempts.resolve(envelope.origin, Resolved(index, applied.outcome))

    def on_applied(self, callback: AppliedCallback) -> None:
        """Call back with the index and events of each entry that had any."""
        self._on_applied.append(callback)

    # What the proposer is built on

    def submit(self, attempt: Attempt, body: bytes) -> bool:
        """Append here if this server leads, else send to the leader; say if either was.

        Raises RequestError if the body is too large.
        """
        engine = self._engine
        if engine is None:
            return False
        if engine.is_leader():
            self.attempts.place(attempt, *engine.propose(body))
            return True
        leader_id = engine.leader_id()
        if leader_id is None:
            return False
        if len(body) > entries.BODY_BYTES_MAX:
            raise RequestError(f"entry of {len(body)} bytes is too large")
        attempt.peer_id = leader_id
        return self._send(leader_id, Proposal(attempt.attempt_id, body))

    def append_as_leader(self, attempt: Attempt, body: bytes, *, term: int) -> None:
        """Append here if this server leads in `term`, else NoLeaderError."""
        engine = self._engine
        if engine is None or not engine.is_leader() or engine.term() != term:
            raise NoLeaderError(NO_LEADER)
        self.attempts.place(attempt, *engine.propose(body))

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when leadership has changed, or the time is over."""
        await self._change_waiters.wait(timeout_s)

    def _on_proposal(self, peer_id: str, proposal: Proposal) -> None:
        index, term, reason = 0, 0, NO_LEADER
        if self._engine is not None:
            try:
                entries.check_proposed(proposal.body)
                index, term = self._engine.propose(proposal.body)
                reason = ""
            except (JournalError, NoLeaderError, RequestError) as error:
                reason = str(error)
        reply = ProposalReply(proposal.proposal_id, index, term, reason[:1000])
        self._send(peer_id, reply)

    def _on_proposal_reply(self, peer_id: str, reply: ProposalReply) -> None:
        applied_term = None
        if self._journal is not None and 0 < reply.index <= self.applied_index():
            applied_term = self._journal.term_at(reply.index)
        self.attempts.on_reply(peer_id, reply, applied_term=applied_term)

    # What `StateView` promises

    def state(self) -> State:
        """Return the state as of the last applied entry; treat it as read-only."""
        return self._state

    def applied_index(self) -> int:
        """Return the index of the last applied entry."""
        return self._engine.applied_index() if self._engine is not None else 0

    def is_caught_up(self) -> bool:
        """Say whether, since it started, this replica has applied all that was committed."""
        return self._is_caught_up

    async def wait_until_applied(self, index: int, *, deadline_s: float) -> bool:
        """Return whether entry `index` was applied here within `deadline_s` seconds."""
        if index <= self.applied_index():
            return True
        return await self._applied_waiters.wait(index, deadline_s)

    # What `Leadership` promises

    def status(self) -> LeadershipStatus:
        """Return how things stand now: as of the last tick, and of this very moment.

        Only a tick changes role, term and leader, and every read asks: so what was
        found is kept for a moment, in which no contact can grow old.
        """
        now_s = self._clock.monotonic_s()
        if self._status is None or now_s >= self._status_until_s:
            self._status = self._fresh_status()
            self._status_until_s = now_s + STATUS_S_MAX
        return self._status

    def _fresh_status(self) -> LeadershipStatus:
        engine = self._engine
        if engine is None:
            return LeadershipStatus(
                server_id=self._server_id,
                role=Role.FOLLOWER,
                term=0,
                leader_id=None,
                last_contact_s=None,
                commit_index=0,
                applied_index=0,
            )
        return LeadershipStatus(
            server_id=self._server_id,
            role=engine.role(),
            term=engine.term(),
            leader_id=engine.leader_id(),
            last_contact_s=engine.last_contact_s(),
            commit_index=engine.commit_index(),
            applied_index=engine.applied_index(),
        )

    def servers(self) -> Sequence[ServerAddress]:
        """Return the servers of the cluster, this one too, sorted by id."""
        return self._servers

    def is_ready_to_lead(self) -> bool:
        """Say whether this server leads and has applied an entry of its own term."""
        return self._engine is not None and self._engine.is_ready_to_lead()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back on the loop whenever role, term, leader or readiness changed."""
        self._on_change.append(callback)

    # What `LeaderCalls` promises

    async def ask_leader(self, question: bytes, *, deadline_s: float) -> bytes:
        """Return the leader's answer; locally if this server leads."""
        engine = self._engine
        if engine is None:
            raise NoLeaderError(NO_LEADER)
        if engine.is_leader():
            return await self._questions.answer_here(question, deadline_s=deadline_s)
        leader_id = engine.leader_id()
        if leader_id is None:
            raise NoLeaderError(NO_LEADER)
        return await self._questions.ask(leader_id, question, deadline_s=deadline_s)

    def answer_with(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Use `answer` for questions that reach this server while it leads."""
        self._questions.answer_with(answer)

    # What the transport asks and says

    def hello(self) -> Hello:
        """Return what to say when dialling."""
        return Hello(PROTOCOL_VERSION, *self._claim())

    def judge_hello(self, hello: Hello) -> Welcome | Refusal:
        """Return the answer to a server that dials."""
        if hello.protocol != PROTOCOL_VERSION:
            return Refusal(
                f"protocol {hello.protocol}, this server speaks {PROTOCOL_VERSION}"
            )
        reason = self._judge(Claim(hello.server_id, hello.incarnation, hello.formation))
        if reason:
            return Refusal(reason)
        return Welcome(*self._claim())

    def judge_welcome(self, welcome: Welcome) -> str:
        """Return "" or why to hang up on the server that was dialled."""
        return self._judge(
            Claim(welcome.server_id, welcome.incarnation, welcome.formation)
        )

    def was_refused(self, peer_id: str, reason: str) -> None:
        """Say so once; waiting for the others to start is no trouble."""
        if self._last_refusals.get(peer_id) == reason:
            return
        self._last_refusals[peer_id] = reason
        log = self._logger.debug if reason == NOT_FORMED else self._logger.warning
        log("connection refused by peer", peer=peer_id, reason=reason)

    def on_message(self, peer_id: str, message: Message) -> None:
        """Take a message from a peer."""
        match message:
            case Proposal():
                self._on_proposal(peer_id, message)
            case ProposalReply():
                self._on_proposal_reply(peer_id, message)
            case Question():
                is_leader = self._engine is not None and self._engine.is_leader()
                self._questions.on_question(peer_id, message, is_leader=is_leader)
            case Answer():
                self._questions.on_answer(peer_id, message)
            case _:
                if self._engine is not None:
                    self._engine.deliver(peer_id, message)

    def on_connected(self, peer_id: str) -> None:
        """Begin to send to a peer."""
        self._last_refusals.pop(peer_id, None)
        self._change_waiters.wake()
        if self._engine is not None:
            self._engine.on_connected(peer_id)

    def on_disconnected(self, peer_id: str) -> None:
        """Take what was on its way for lost."""
        self._questions.on_disconnected(peer_id)
        if self._engine is not None:
            self._engine.on_disconnected(peer_id)

    def _send(self, peer_id: str, message: Message) -> bool:
        return self._transport is not None and self._transport.send(peer_id, message)

    def _is_connected(self, peer_id: str) -> bool:
        return self._transport is not None and self._transport.is_connected(peer_id)

    # Forming

    def _claim(self) -> Claim:
        assert self._membership is not None
        own = self._membership.own
        return Claim(own.server_id, own.incarnation, self._membership.formation)

    def _judge(self, claim: Claim) -> str:
        assert self._membership is not None
        try:
            reason = self._membership.judge(claim)
        except FormationError as error:
            self._fail(error)
            return str(error)
        if self._membership.formation is None:
            if claim.formation is None:
                self._form_if_due()
            elif not reason:
                self._write_first_entry(claim.formation)
        elif reason:
            self._logger.error("peer refused", peer=claim.server_id, reason=reason)
        return reason

    def _form_if_due(self) -> None:
        assert self._membership is not None
        formation = self._membership.new_formation(self._ids.new_id())
        if formation is not None:
            self._write_first_entry(formation)

    def _write_first_entry(self, formation: Formation) -> None:
        """Begin to become a member; it counts, and is told, once it is durable."""
        assert self._journal is not None
        if self._forming is None:
            self._forming = formation
            self._journal.append((first_entry(formation),))

    def _become_member(self, formation: Formation) -> None:
        assert self._membership is not None
        self._membership.adopt(formation)
        self._logger.info("cluster formed", cluster_id=formation.cluster_id)
        self._take_part(formation)
        # The others hear of it when they are dialled.
        for server in self._servers:
            peer_id = server.server_id
            if self._transport is not None and peer_id != self._server_id:
                self._transport.drop(peer_id)

    def _take_part(self, formation: Formation) -> None:
        assert self._journal is not None
        config = self._config
        self._status = None
        self._engine = Engine(
            self._server_id,
            [name for name, _ in formation.members if name != self._server_id],
            Timeouts(
                config.raft_heartbeat_s,
                config.election_timeout_s_min,
                config.election_timeout_s_max,
            ),
            Surroundings(
                journal=self._journal,
                send=self._send,
                is_connected=self._is_connected,
                apply=self._apply,
                wake=self._woken.set,
                clock=self._clock,
                ids=self._ids,
                logger=self._logger,
            ),
        )
        self._woken.set()

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


def _servers_of(config: ServerConfig) -> tuple[ServerAddress, ...]:
    """Return all servers of the configuration, sorted by id; this one is among them."""
    servers = {
        server.name: ServerAddress(server.name, server.peer, server.http)
        for server in config.servers
    }
    if not servers:
        servers[config.name] = ServerAddress(config.name, config.peer, config.http)
    if config.name not in servers:
        raise ConfigError(
            f"name: {config.name!r} is not among servers: {', '.join(sorted(servers))}"
        )
    return tuple(servers[name] for name in sorted(servers))
