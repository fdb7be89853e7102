"""The consensus engine: the log's half of PySyncObj's subclass.

PySyncObj keeps role, term, vote, leader, commit and applied index, and what is on the
way between it and our journal and peers. Its handlers, its tick and its send and
apply loops are replaced by the rules of `rules.py`: this class carries values between
those, the journal and the wire, and F1 to F22 name the faults of the stock package.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from typing_extensions import override

from nodestate.errors import JournalError, NoLeaderError, RequestError
from nodestate.replication import entries, rules
from nodestate.replication.configuration import (
    Configuration,
    ConfigurationLog,
    check_change,
)
from nodestate.replication.disarmed import FIRST_COMMIT_INDEX, EngineMessage
from nodestate.replication.elections import Elections
from nodestate.replication.followers import Followers
from nodestate.replication.frames import (
    AppendEntries,
    AppendReply,
    RequestVote,
    SnapshotChunk,
    SnapshotReply,
    StandNow,
    VoteReply,
)
from nodestate.replication.records import Entry
from nodestate.replication.rules import ConflictHint
from nodestate.replication.surroundings import Surroundings, Timeouts

NO_LEADER: Final = "No cluster leader"
APPLY_ENTRIES_MAX: Final = 256
APPLY_S_MAX: Final = 0.005
_APPLIED_PER_LOOK_AT_THE_CLOCK: Final = 16


class _Transfer(NamedTuple):
    """Leadership on its way to a follower, until when."""

    peer_id: str
    give_up_at_s: float
    is_asked: bool = False


class _Read(NamedTuple):
    """A round that confirms leadership: what is shared by all reads that wait for it."""

    commit_index: int
    sequence: int
    done: Callable[[int | None], None]


class _SyncObj(Elections):
    """PySyncObj with its faults put right; the name makes `self.__x` the base's own `__x`.

    It runs only in `_onTick`, on the loop: what arrives is kept until then.
    """

    # Set by the base's constructor.
    __raftCurrentTerm: int
    __raftCommitIndex: int
    __raftLastApplied: int
    __newAppendEntriesTime: float
    __noopIDx: int

    def __init__(
        self,
        server_id: str,
        incarnation: str,
        configurations: ConfigurationLog,
        timeouts: Timeouts,
        surroundings: Surroundings,
        *,
        applied_index: int = 0,
    ) -> None:
        self._apply = surroundings.apply
        self._members_changed = surroundings.members_changed
        self._installs = surroundings.installs
        self._followers = Followers(
            surroundings.journal,
            surroundings.send,
            surroundings.is_connected,
            surroundings.installs.need_snapshot,
        )
        self._inbox: deque[tuple[str, EngineMessage]] = deque()
        self._contact_commit_index: int | None = None
        self._transfer: _Transfer | None = None
        self._read: _Read | None = None
        self._is_round_due = False
        super().__init__(server_id, incarnation, configurations, timeouts, surroundings)
        assert self._journal.last_index() >= FIRST_COMMIT_INDEX, "no first entry"
        self.__raftCommitIndex = max(FIRST_COMMIT_INDEX, applied_index)
        self.__raftLastApplied = applied_index
        self._read_configurations()

    def _read_configurations(self) -> None:
        """Take into effect what the log says of the members."""
        first = max(self.configuration_index(), self._journal.base_index()) + 1
        for index in range(first, self._journal.last_index() + 1):
            self._note_configuration(self._journal.entry(index))

    def _note_configuration(self, entry: Entry) -> bool:
        if entry.body[:1] != entries.CONFIGURATION_MARK:
            return False
        body = entries.decode_body(entry.body)
        assert isinstance(body, Configuration)
        self._configurations.append(entry.index, body)
        return True

    # What the replica asks and says

    def commit_index(self) -> int:
        """Return the highest index known to be committed."""
        return self.__raftCommitIndex

    def applied_index(self) -> int:
        """Return the index of the last applied entry."""
        return self.__raftLastApplied

    def is_ready_to_lead(self) -> bool:
        """Say whether it leads and has applied an entry of its own term (F11)."""
        return self.is_leader() and self.__raftLastApplied >= self.__noopIDx

    def is_caught_up(self) -> bool:
        """Say whether all is applied that was committed when a leader was first heard.

        A leader knows what is committed only once an entry of its own term is: an
        applied entry of that term is the sign (F11).
        """
        applied = self.__raftLastApplied
        if self._contact_commit_index is None or applied < self._contact_commit_index:
            return False
        return self._journal.term_at(applied) == self.__raftCurrentTerm

    def last_contact_s(self) -> float | None:
        """Return how long ago the leader, or for a leader a majority, was heard of."""
        now = self._clock.monotonic_s()
        if self.is_leader():
            silence = now - rules.majority_heard_at_s(self._voters_heard_at_s(now))
            return silence if silence > 2 * self._timeouts.heartbeat_s else 0.0
        if self._leader_heard_at_s is None:
            return None
        return now - self._leader_heard_at_s

    def follower(self, peer_id: str) -> tuple[int, float] | None:
        """Return what a follower has durably and how long ago it answered, on the leader."""
        progress = self._followers.get(peer_id)
        if progress is None:
            return None
        return progress.match_index, self._clock.monotonic_s() - progress.heard_at_s

    def propose(self, body: bytes) -> tuple[int, int]:
        """Append a body to the log and return its index and term.

        Raises NoLeaderError if this server does not lead or is handing over, and
        RequestError if the body is too large; then nothing was appended.
        """
        if not self.is_leader() or self._transfer is not None:
            raise NoLeaderError(NO_LEADER)
        if len(body) > entries.BODY_BYTES_MAX:
            raise RequestError(
                f"entry of {len(body)} bytes, limit is {entries.BODY_BYTES_MAX}"
            )
        return self._append(body)

    def _append(self, body: bytes) -> tuple[int, int]:
        index, term = self._journal.last_index() + 1, self.__raftCurrentTerm
        self._journal.append((Entry(body, index, term),))
        self._wake()
        return index, term

    def propose_members(self, configuration: Configuration) -> tuple[int, int]:
        """Append who the members are from here on; it is in effect at once (F22).

        Raises NoLeaderError unless this server leads and has an entry of its own term
        committed, and RequestError if another change is under way or this is none that
        can be made in one step.
        """
        if not self.is_ready_to_lead() or self._transfer is not None:
            raise NoLeaderError(NO_LEADER)
        if self.configuration_index() > self.__raftCommitIndex:
            raise RequestError("another change of the members is under way")
        check_change(self.configuration(), configuration)
        index, term = self._append(entries.encode_configuration(configuration))
        self._configurations.append(index, configuration)
        self._serve_members(are_leaving_kept=True)
        self._members_changed()
        return index, term

    def begin_read(self, done: Callable[[int | None], None]) -> None:
        """Call `done` with an index once it is sure that this server still leads.

        Whatever was acknowledged before the call is at or below that index. `done` is
        given `None` if leadership cannot be confirmed. One round at a time.
        """
        assert self._read is None, "one round at a time"
        if not self.is_ready_to_lead():
            done(None)
            return
        sequence = self._followers.next_sequence()
        self._read = _Read(self.__raftCommitIndex, sequence, done)
        self._is_round_due = True
        self._wake()

    def begin_transfer(self, peer_id: str) -> None:
        """Hand leadership to a voter: bring it level, then have it stand.

        Nothing is proposed meanwhile. Ends by itself, one way or the other, within the
        longest election timeout. Raises NoLeaderError or RequestError.
        """
        if not self.is_leader():
            raise NoLeaderError(NO_LEADER)
        if peer_id == self._server_id or peer_id not in self.configuration().voters():
            raise RequestError(f"{peer_id!r} is no other server with a vote")
        give_up_at_s = self._clock.monotonic_s() + self._timeouts.election_s_max
        self._transfer = _Transfer(peer_id, give_up_at_s)
        self._logger.info("leadership transfer begun", to=peer_id, term=self.term())
        self._wake()

    def is_transferring(self) -> bool:
        """Say whether leadership is being handed over."""
        return self._transfer is not None

    def best_successor(self) -> str | None:
        """Return the voter that was heard of lately and has most of the log, if any."""
        now = self._clock.monotonic_s()
        found: tuple[int, str] | None = None
        for peer_id in self.configuration().voters():
            progress = self._followers.get(peer_id)
            if progress is None or progress.is_installing:
                continue
            if now - progress.heard_at_s > self._timeouts.election_s_min:
                continue
            if found is None or progress.match_index > found[0]:
                found = progress.match_index, peer_id
        return None if found is None else found[1]

    def adopt_snapshot(
        self, index: int, configuration_index: int, configuration: Configuration
    ) -> None:
        """Go on from a snapshot that is durable here, with the log reset to it."""
        assert index > self.__raftLastApplied, (index, self.__raftLastApplied)
        self.__raftLastApplied = index
        self.__raftCommitIndex = max(self.__raftCommitIndex, index)
        self._configurations = ConfigurationLog(configuration_index, configuration)
        self._read_configurations()
        self._members_changed()
        self._wake()

    def on_installed(self, peer_id: str, index: int) -> None:
        """Go on with a follower behind the snapshot that it has installed."""
        progress = self._followers.get(peer_id)
        if progress is not None and index <= self._journal.last_index():
            progress.on_installed(index)
            self._wake()

    def configuration_as_of(self, index: int) -> tuple[int, Configuration]:
        """Return who the members were after entry `index`, and which entry said so."""
        return self._configurations.as_of(index)

    def forget_configurations_before(self, index: int) -> None:
        """Keep no configuration that was superseded before entry `index`."""
        self._configurations.drop_before(index)

    def deliver(self, peer_id: str, message: EngineMessage) -> None:
        """Keep a peer's message for the next tick."""
        self._inbox.append((peer_id, message))
        self._wake()

    def post(self, peer_id: str, message: SnapshotReply) -> None:
        """Send what shows our term, once that is durable."""
        self._post(peer_id, message)

    def on_connected(self, _: str) -> None:
        """Look soon whether there is something to send."""
        self._wake()

    def on_disconnected(self, peer_id: str) -> None:
        """Take what was on its way to a peer for lost."""
        progress = self._followers.get(peer_id)
        if progress is not None:
            progress.probe()
        self._wake()

    def on_durable(self) -> None:
        """Let go what waited for the disk, and count it."""
        self._outbox.release()
        self._wake()

    # The tick

    @override
    def _onTick(self, timeToWait: float = 0.0) -> None:
        """Do all that is due (F3, F9, F11, F13, F18: the stock tick has the rules inline)."""
        del timeToWait
        while self._inbox:
            self._transport.receive(*self._inbox.popleft())
        if self.is_leader():
            self._lead()
        else:
            self._count_votes()
            self._stand_if_due()
        self.__applyLogEntries()

    def _lead(self) -> None:
        now = self._clock.monotonic_s()
        timeout_s = self._timeouts.election_s_min
        if rules.has_lost_majority(
            now, self._voters_heard_at_s(now), timeout_s=timeout_s
        ):
            self._logger.warning("majority lost", term=self.term())
            self._follow(self.__raftCurrentTerm, None)
            return
        self._advance_commit()
        if not self.is_leader():
            return
        self.__sendAppendEntries()
        self._settle_read()
        self._hand_over(now)

    def _of_voters(self, own: float, others: Callable[[Any], float]) -> list[float]:
        """Return a value of each voter: ours if we are one, and what others gave us."""
        values: list[float] = []
        for voter in self.configuration().voters():
            if voter == self._server_id:
                values.append(own)
            else:
                progress = self._followers.get(voter)
                values.append(others(progress) if progress is not None else 0)
        return values

    def _voters_heard_at_s(self, now: float) -> list[float]:
        return self._of_voters(now, lambda progress: progress.heard_at_s)

    def _advance_commit(self) -> None:
        """Count what is durable, here as elsewhere; only our own term's entries (F3)."""
        durable = self._of_voters(
            self._journal.durable_index(), lambda progress: progress.match_index
        )
        before = self.__raftCommitIndex
        self.__raftCommitIndex = rules.advanced_commit_index(
            [int(index) for index in durable],
            commit_index=before,
            term=self.__raftCurrentTerm,
            term_at=self._journal.term_at,
        )
        if before < self.configuration_index() <= self.__raftCommitIndex:
            self._serve_members(are_leaving_kept=False)
            if not self.has_vote():
                self._resign()

    def _serve_members(self, *, are_leaving_kept: bool) -> None:
        """Replicate to whom the latest configuration names.

        Those that it leaves out are to hear of it, so they go once it is committed.
        """
        incarnations = {
            member.server_id: member.incarnation
            for member in self.configuration().members
            if member.server_id != self._server_id
        }
        if are_leaving_kept:
            _, before = self._configurations.as_of(self.configuration_index() - 1)
            for member in before.members:
                if member.server_id != self._server_id:
                    incarnations.setdefault(member.server_id, member.incarnation)
        self._followers.set_members(incarnations, self._clock.monotonic_s())

    def _resign(self) -> None:
        """Step down, since we are a member no more; have the best of the others stand."""
        successor = self.best_successor()
        term = self.__raftCurrentTerm
        self._logger.info("leader removed from the cluster", successor=successor)
        # The last message that tells of the commit goes first.
        self.__sendAppendEntries()
        if successor is not None:
            self._post(successor, StandNow(term))
        self._follow(term, None)

    def _settle_read(self) -> None:
        """End the round of reads once a majority has confirmed that we lead."""
        read = self._read
        if read is None:
            return
        acked = self._of_voters(read.sequence, lambda progress: progress.acked_sequence)
        if rules.has_confirmed([int(one) for one in acked], read.sequence):
            self._read = None
            read.done(read.commit_index)

    def _hand_over(self, now: float) -> None:
        """Have the successor stand once it has all of the log."""
        transfer = self._transfer
        if transfer is None:
            return
        if now >= transfer.give_up_at_s:
            self._transfer = None
            self._logger.warning("leadership transfer failed", to=transfer.peer_id)
            return
        progress = self._followers.get(transfer.peer_id)
        is_level = (
            progress is not None and progress.match_index >= self._journal.last_index()
        )
        if is_level and not transfer.is_asked:
            self._transfer = transfer._replace(is_asked=True)
            self._post(transfer.peer_id, StandNow(self.__raftCurrentTerm))

    @override
    def __applyLogEntries(self) -> None:
        """Apply a slice of what is committed; an error stops the server (F9, F13, F14)."""
        applied, commit = self.__raftLastApplied, self.__raftCommitIndex
        if applied == commit:
            return
        give_up_at_s = self._clock.monotonic_s() + APPLY_S_MAX
        for index in range(applied + 1, min(commit, applied + APPLY_ENTRIES_MAX) + 1):
            self._apply(self._journal.entry(index))
            self.__raftLastApplied = index
            is_time_to_look = index % _APPLIED_PER_LOOK_AT_THE_CLOCK == 0
            if is_time_to_look and self._clock.monotonic_s() > give_up_at_s:
                break
        if self.__raftLastApplied < commit:
            self._wake()

    # Becoming leader, and ceasing to be

    @override
    def _on_elected(self) -> None:
        """Probe everyone, and open the term with an entry of its own (F1, F11)."""
        self._followers.clear()
        self._serve_members(are_leaving_kept=True)
        self._transfer = None
        self.__noopIDx, _ = self._append(entries.NOOP_BODY)
        if self._contact_commit_index is None:
            self._contact_commit_index = self.__noopIDx
        self.__newAppendEntriesTime = self._clock.monotonic_s()
        self._logger.info("leadership gained", term=self.term(), index=self.__noopIDx)
        self._lead()

    @override
    def _on_deposed(self) -> None:
        # Readers are told how old the answers are: from here on, as old as that.
        now = self._clock.monotonic_s()
        self._leader_heard_at_s = rules.majority_heard_at_s(
            self._voters_heard_at_s(now)
        )
        self._followers.clear()
        self._transfer = None
        read, self._read = self._read, None
        if read is not None:
            read.done(None)

    # Messages

    @override
    def __onMessageReceived(self, node: Any, message: EngineMessage) -> None:
        """Act on a typed message; every reply has its term (F1, F2, F3, F12)."""
        match message:
            case AppendEntries():
                self._on_append_entries(node, message)
            case AppendReply():
                self._on_append_reply(node.id, message)
            case RequestVote():
                self._on_request_vote(node.id, message)
            case VoteReply():
                self._on_vote_reply(node.id, message)
            case SnapshotChunk():
                self._on_snapshot_chunk(node, message)
            case SnapshotReply():
                self._on_snapshot_reply(node.id, message)
            case StandNow():
                self._on_stand_now(node.id, message)

    def _on_append_entries(self, leader: Any, message: AppendEntries) -> None:
        if message.term < self.__raftCurrentTerm:
            # Whoever still leads an old term has to be told (F18).
            self._reply(leader.id, message, verified_index=None)
            return
        if not rules.is_well_formed(message.prev_index, message.term, message.entries):
            self._logger.error("message from leader malformed", peer=leader.id)
            return
        self._check_only_leader(leader.id, message.term)
        self._obey(leader, message.term)
        if self._contact_commit_index is None:
            self._contact_commit_index = message.commit_index
        if self._is_rejected(leader.id, message):
            return
        self._store(message)
        verified_index = message.prev_index + len(message.entries)
        self.__raftCommitIndex = rules.follower_commit_index(
            message.commit_index,
            verified_index=verified_index,
            commit_index=self.__raftCommitIndex,
        )
        self._reply(leader.id, message, verified_index=verified_index)

    def _check_only_leader(self, leader_id: str, term: int) -> None:
        if self.is_leader() and term == self.__raftCurrentTerm:
            raise JournalError(f"{leader_id} leads in term {term}, as we do")

    def _is_rejected(self, leader_id: str, message: AppendEntries) -> bool:
        """Say no, with a hint, if the log lacks what the entries are to follow (F15)."""
        journal = self._journal
        last_index = journal.last_index()
        if rules.does_log_match(
            message.prev_index,
            message.prev_term,
            last_index=last_index,
            term_at=journal.term_at,
            base_index=journal.base_index(),
        ):
            return False
        hint = rules.conflict_hint(
            message.prev_index,
            last_index=last_index,
            commit_index=self.__raftCommitIndex,
            term_at=journal.term_at,
        )
        self._reply(leader_id, message, verified_index=None, hint=hint)
        return True

    def _store(self, message: AppendEntries) -> None:
        """Append what is new; cut only at a real conflict, never what is committed (F1)."""
        last_index = self._journal.last_index()
        position = rules.first_new_entry(
            message.entries,
            last_index=last_index,
            term_at=self._journal.term_at,
            base_index=self._journal.base_index(),
        )
        new_entries = message.entries[position:]
        if not new_entries:
            return
        first = new_entries[0].index
        is_changed = False
        if first <= last_index:
            if first <= self.__raftCommitIndex:
                raise JournalError(
                    f"a leader in term {message.term} holds another entry {first},"
                    f" which is committed here (up to {self.__raftCommitIndex})"
                )
            self._journal.truncate_from(first)
            is_changed = self._configurations.truncate_from(first)
        self._journal.append(new_entries)
        for entry in new_entries:
            is_changed |= self._note_configuration(entry)
        if is_changed:
            self._members_changed()

    def _reply(
        self,
        leader_id: str,
        message: AppendEntries,
        *,
        verified_index: int | None,
        hint: ConflictHint = ConflictHint(0, 0),  # noqa: B008  immutable
    ) -> None:
        """Answer with our term and the message's number; what it holds is durable (F3, F5)."""
        position = self._journal_view.hard_state_position
        if (
            verified_index is not None
            and self._journal.durable_index() < verified_index
        ):
            position = self._journal.position()
        reply = AppendReply(
            self.__raftCurrentTerm,
            message.sequence,
            verified_index is not None,
            verified_index or 0,
            hint.from_index,
            hint.term,
        )
        self._outbox.post(leader_id, reply, position=position)

    def _on_append_reply(self, peer_id: str, message: AppendReply) -> None:
        if message.term > self.__raftCurrentTerm:
            self._follow(message.term, None)
            return
        if message.term < self.__raftCurrentTerm:
            return
        now = self._clock.monotonic_s()
        if not self._followers.on_reply(peer_id, message, now):
            self._logger.error("acknowledgement out of bounds", peer=peer_id)

    def _on_snapshot_chunk(self, leader: Any, message: SnapshotChunk) -> None:
        """Pass a piece on, if it is this term's leader's; it moves no index (F2)."""
        if message.term < self.__raftCurrentTerm:
            reply = SnapshotReply(
                self.__raftCurrentTerm, message.sequence, message.index, 0, False
            )
            self._post(leader.id, reply)
            return
        self._check_only_leader(leader.id, message.term)
        self._obey(leader, message.term)
        self._installs.on_chunk(leader.id, message)

    def _on_snapshot_reply(self, peer_id: str, message: SnapshotReply) -> None:
        """Whoever installs a snapshot is alive (F20); what it has is judged elsewhere."""
        if message.term > self.__raftCurrentTerm:
            self._follow(message.term, None)
            return
        progress = self._followers.get(peer_id)
        if progress is None or message.term < self.__raftCurrentTerm:
            return
        progress.heard_at_s = self._clock.monotonic_s()
        self._installs.on_snapshot_reply(peer_id, message)

    # Sending

    @override
    def __sendAppendEntries(self) -> None:
        """Send what each follower lacks, never twice, never waiting (F1, F15, F20, F21)."""
        now = self._clock.monotonic_s()
        is_heartbeat_due = now >= self.__newAppendEntriesTime
        if is_heartbeat_due:
            self.__newAppendEntriesTime = now + self._timeouts.heartbeat_s
        is_round, self._is_round_due = self._is_round_due, False
        self._followers.send(
            self.__raftCurrentTerm,
            self.__raftCommitIndex,
            is_heartbeat_due=is_heartbeat_due,
            is_round=is_round,
        )


Engine = _SyncObj
