"""The consensus engine: PySyncObj's subclass, and which fault each override answers.

PySyncObj keeps role, term, vote, leader, commit and applied index, and what is on the
way between it and our journal and peers. Its handlers, its tick and its send and
apply loops are replaced by the rules of `rules.py`: this class carries values between
those, the journal and the wire, and F1 to F22 name the faults of the stock package.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from nodestate.errors import JournalError, NoLeaderError, RequestError
from nodestate.ports import Role
from nodestate.replication import entries, rules
from nodestate.replication.disarmed import (
    FIRST_COMMIT_INDEX,
    DisarmedSyncObj,
    EngineMessage,
    JournalView,
    PeerTransport,
)
from nodestate.replication.frames import (
    AppendEntries,
    AppendReply,
    RequestVote,
    VoteReply,
)
from nodestate.replication.outbox import Outbox
from nodestate.replication.progress import Progress
from nodestate.replication.records import Entry
from nodestate.replication.rules import ConflictHint, LogPosition, Voter, VoteRequest
from nodestate.replication.surroundings import Surroundings, Timeouts

NO_LEADER: Final = "No cluster leader"
APPLY_ENTRIES_MAX: Final = 256
APPLY_S_MAX: Final = 0.005
_APPLIED_PER_LOOK_AT_THE_CLOCK: Final = 16

_FOLLOWER: Final = 0
_CANDIDATE: Final = 1
_LEADER: Final = 2
_ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)


class _SyncObj(DisarmedSyncObj):
    """PySyncObj with its faults put right; the name makes `self.__x` the base's own `__x`.

    It runs only in `_onTick`, on the loop: what arrives is kept until then. Names with
    one underscore are ours, with two they are PySyncObj's. There are no properties: the
    base's constructor reads every attribute before the object is ready.
    """

    # Set by the base's constructor.
    __raftState: int
    __raftCurrentTerm: int
    __votedForNodeId: str | None
    __raftLeader: Any
    __raftElectionDeadline: float
    __raftCommitIndex: int
    __raftLastApplied: int
    __newAppendEntriesTime: float
    __noopIDx: int

    def __init__(
        self,
        server_id: str,
        peer_ids: Sequence[str],
        timeouts: Timeouts,
        surroundings: Surroundings,
    ) -> None:
        self._server_id = server_id
        self._peer_ids = tuple(sorted(peer_ids))
        self._timeouts = timeouts
        self._clock = surroundings.clock
        self._ids = surroundings.ids
        self._journal = surroundings.journal
        self._apply = surroundings.apply
        self._wake = surroundings.wake
        self._is_connected = surroundings.is_connected
        self._logger = surroundings.logger
        self._journal_view = JournalView(surroundings.journal)
        self._transport = PeerTransport(surroundings.send, self._peer_ids)
        self._send = surroundings.send
        self._outbox = Outbox(surroundings.journal, surroundings.send)
        self._inbox: deque[tuple[str, EngineMessage]] = deque()
        self._progress: dict[str, Progress] = {}
        self._sequence = 0
        self._votes: set[str] = set()
        self._own_vote_position = 0
        self._pre_votes: set[str] | None = None
        self._leader_heard_at_s: float | None = None
        self._contact_commit_index: int | None = None
        super().__init__(server_id, self._transport, self._journal_view)
        self._load()

    def _load(self) -> None:
        """Take term, vote and log from the journal instead of the base's own."""
        journal = self._journal
        assert journal.last_index() >= FIRST_COMMIT_INDEX, "no first entry"
        self.__raftCurrentTerm = max(journal.term(), journal.last_term())
        is_vote_current = journal.term() == self.__raftCurrentTerm
        self.__votedForNodeId = journal.voted_for() if is_vote_current else None
        self.__raftCommitIndex = FIRST_COMMIT_INDEX
        self.__raftLastApplied = 0
        # What was read from disk may have been written a moment before a crash.
        self._journal_view.hard_state_position = journal.position()
        self._put_off_election()
        if not self._peer_ids:
            # There is nobody whose leader could be disturbed.
            self.__raftElectionDeadline = self._clock.monotonic_s()

    # What the replica asks and says

    def role(self) -> Role:
        """Return what this server is at the moment."""
        return _ROLES[self.__raftState]

    def term(self) -> int:
        """Return the current term."""
        return self.__raftCurrentTerm

    def leader_id(self) -> str | None:
        """Return who leads, as far as this server knows."""
        leader = self.__raftLeader
        return None if leader is None else str(leader.id)

    def commit_index(self) -> int:
        """Return the highest index known to be committed."""
        return self.__raftCommitIndex

    def applied_index(self) -> int:
        """Return the index of the last applied entry."""
        return self.__raftLastApplied

    def is_leader(self) -> bool:
        """Say whether this server leads."""
        return self.__raftState == _LEADER

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
            silence = now - rules.majority_heard_at_s(now, self._heard_at_s())
            return silence if silence > 2 * self._timeouts.heartbeat_s else 0.0
        if self._leader_heard_at_s is None:
            return None
        return now - self._leader_heard_at_s

    def propose(self, body: bytes) -> tuple[int, int]:
        """Append a body to the log and return its index and term.

        Raises NoLeaderError if this server does not lead, RequestError if the body
        is too large; then nothing was appended.
        """
        if not self.is_leader():
            raise NoLeaderError(NO_LEADER)
        if len(body) > entries.BODY_BYTES_MAX:
            raise RequestError(
                f"entry of {len(body)} bytes, limit is {entries.BODY_BYTES_MAX}"
            )
        index, term = self._journal.last_index() + 1, self.__raftCurrentTerm
        self._journal.append((Entry(body, index, term),))
        self._wake()
        return index, term

    def deliver(self, peer_id: str, message: EngineMessage) -> None:
        """Keep a peer's message for the next tick."""
        self._inbox.append((peer_id, message))
        self._wake()

    def on_connected(self, _: str) -> None:
        """Look soon whether there is something to send."""
        self._wake()

    def on_disconnected(self, peer_id: str) -> None:
        """Take what was on its way to a peer for lost."""
        progress = self._progress.get(peer_id)
        if progress is not None:
            progress.probe()
        self._wake()

    def on_durable(self) -> None:
        """Let go what waited for the disk, and count it."""
        self._outbox.release()
        self._wake()

    def campaign_at_once(self) -> None:
        """Stand for election though a leader is well: it has asked for that."""
        if not self.is_leader():
            self._campaign(is_transfer=True)

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
            if self._clock.monotonic_s() >= self.__raftElectionDeadline:
                self._stand()
        self.__applyLogEntries()

    def _lead(self) -> None:
        now = self._clock.monotonic_s()
        timeout_s = self._timeouts.election_s_min
        if rules.has_lost_majority(now, self._heard_at_s(), timeout_s=timeout_s):
            self._logger.warning("majority lost", term=self.term())
            self._follow(self.__raftCurrentTerm, None)
            return
        self._advance_commit()
        self.__sendAppendEntries()

    def _heard_at_s(self) -> list[float]:
        return [progress.heard_at_s for progress in self._progress.values()]

    def _advance_commit(self) -> None:
        """Count what is durable, here as elsewhere; only our own term's entries (F3)."""
        durable = [progress.match_index for progress in self._progress.values()]
        durable.append(self._journal.durable_index())
        self.__raftCommitIndex = rules.advanced_commit_index(
            durable,
            commit_index=self.__raftCommitIndex,
            term=self.__raftCurrentTerm,
            term_at=self._journal.term_at,
        )

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

    # Elections

    def _log_end(self) -> LogPosition:
        return LogPosition(self._journal.last_term(), self._journal.last_index())

    @override
    def __generateRaftTimeout(self) -> float:
        """Draw from the configured range, with the jitter that we were given."""
        low, high = self._timeouts.election_s_min, self._timeouts.election_s_max
        return low + (high - low) * self._ids.jitter()

    def _put_off_election(self) -> None:
        now = self._clock.monotonic_s()
        self.__raftElectionDeadline = now + self.__generateRaftTimeout()

    def _stand(self) -> None:
        """Ask whether an election could be won, before disturbing anyone (F18)."""
        self._put_off_election()
        self.__raftLeader = None
        if self.__raftState == _CANDIDATE:
            self.__setState(_FOLLOWER)
        self._pre_votes = {self._server_id}
        self._ask_for_votes(
            self.__raftCurrentTerm + 1, is_pre_vote=True, is_transfer=False
        )
        self._count_pre_votes()

    def _campaign(self, *, is_transfer: bool) -> None:
        """Become a candidate; the own vote counts, and is known, once it is durable."""
        self._put_off_election()
        self._pre_votes = None
        self.__raftLeader = None
        self.__setState(_CANDIDATE)
        self.__setCurrentTerm(self.__raftCurrentTerm + 1, self._server_id)
        self._votes = set()
        self._own_vote_position = self._journal.position()
        self._ask_for_votes(
            self.__raftCurrentTerm, is_pre_vote=False, is_transfer=is_transfer
        )
        self._wake()

    def _ask_for_votes(
        self, term: int, *, is_pre_vote: bool, is_transfer: bool
    ) -> None:
        end = self._log_end()
        request = RequestVote(term, end.last_index, end.term, is_pre_vote, is_transfer)
        for peer_id in self._peer_ids:
            self._post(peer_id, request)

    def _post(self, peer_id: str, message: EngineMessage) -> None:
        """Send what shows the term or the vote, once those are durable (F6)."""
        position = self._journal_view.hard_state_position
        self._outbox.post(peer_id, message, position=position)

    def _has_majority(self, votes: set[str]) -> bool:
        return len(votes) >= rules.quorum_size(len(self._peer_ids) + 1)

    def _count_votes(self) -> None:
        """Become leader by a majority of members, each counted once (F12)."""
        if self.__raftState != _CANDIDATE:
            return
        if self._journal.durable_position() >= self._own_vote_position:
            self._votes.add(self._server_id)
        if self._has_majority(self._votes):
            self.__onBecomeLeader()
            self._lead()

    def _count_pre_votes(self) -> None:
        if self._pre_votes is not None and self._has_majority(self._pre_votes):
            self._campaign(is_transfer=False)

    @override
    def __onBecomeLeader(self) -> None:
        """Probe everyone, and open the term with an entry of its own (F1, F11)."""
        now = self._clock.monotonic_s()
        last_index = self._journal.last_index()
        self.__setState(_LEADER)
        self.__raftLeader = self.__selfNode
        self._progress = {
            peer_id: Progress(last_index=last_index, now_s=now)
            for peer_id in self._peer_ids
        }
        self.__noopIDx, _ = self.propose(entries.NOOP_BODY)
        if self._contact_commit_index is None:
            self._contact_commit_index = self.__noopIDx
        self.__newAppendEntriesTime = now
        self._logger.info("leadership gained", term=self.term(), index=self.__noopIDx)

    @override
    def __setState(self, newState: int) -> None:
        """Change role; proposals that are open are resolved by the log, not here (F13)."""
        if self.__raftState == _LEADER:
            self._progress = {}
            self._put_off_election()
            self._logger.info("leadership lost", term=self.term())
        self.__raftState = newState

    def _follow(self, term: int, leader: Any) -> None:
        """Follow in a term, which may be new; `leader` is a Node, or None if unknown."""
        if self.is_leader():
            # Readers are told how old the answers are: from here on, as old as that.
            now = self._clock.monotonic_s()
            self._leader_heard_at_s = rules.majority_heard_at_s(now, self._heard_at_s())
        if self.__raftState != _FOLLOWER:
            self.__setState(_FOLLOWER)
        if term > self.__raftCurrentTerm:
            self.__setCurrentTerm(term, None)
        self._pre_votes = None
        self.__raftLeader = leader

    # Messages

    @override
    def __onMessageReceived(self, node: Any, message: EngineMessage) -> None:
        """Act on a typed message of a member; every reply has its term (F1, F2, F3, F12)."""
        match message:
            case AppendEntries():
                self._on_append_entries(node, message)
            case AppendReply():
                self._on_append_reply(node.id, message)
            case RequestVote():
                self._on_request_vote(node.id, message)
            case VoteReply():
                self._on_vote_reply(node.id, message)

    def _hears_a_leader(self) -> bool:
        if self.is_leader():
            return True
        if self.__raftLeader is None or self._leader_heard_at_s is None:
            return False
        silence_s = self._clock.monotonic_s() - self._leader_heard_at_s
        return silence_s < self._timeouts.election_s_min

    def _on_request_vote(self, peer_id: str, message: RequestVote) -> None:
        request = VoteRequest(
            peer_id,
            message.term,
            LogPosition(message.last_term, message.last_index),
            message.is_pre_vote,
            message.is_transfer,
        )
        voter = self._as_voter()
        if request.is_pre_vote:
            is_granted = rules.may_grant_pre_vote(request, voter)
            term = request.term if is_granted else voter.term
            self._post(peer_id, VoteReply(term, is_granted, is_pre_vote=True))
            return
        if request.term > voter.term:
            if rules.is_disruptive(request, voter):
                return
            self._follow(request.term, None)
            voter = self._as_voter()
        is_granted = rules.may_grant_vote(request, voter)
        if is_granted:
            self.__setCurrentTerm(voter.term, peer_id)
            self._put_off_election()
        self._post(peer_id, VoteReply(voter.term, is_granted))

    def _as_voter(self) -> Voter:
        return Voter(
            self.__raftCurrentTerm,
            self.__votedForNodeId,
            self._log_end(),
            self._hears_a_leader(),
        )

    def _on_vote_reply(self, peer_id: str, message: VoteReply) -> None:
        term = self.__raftCurrentTerm
        if message.is_pre_vote and message.is_granted:
            if self._pre_votes is not None and message.term == term + 1:
                self._pre_votes.add(peer_id)
                self._count_pre_votes()
            return
        if message.term > term:
            self._follow(message.term, None)
            return
        is_candidate = self.__raftState == _CANDIDATE
        if message.is_granted and message.term == term and is_candidate:
            self._votes.add(peer_id)
            self._count_votes()

    def _on_append_entries(self, leader: Any, message: AppendEntries) -> None:
        if message.term < self.__raftCurrentTerm:
            # Whoever still leads an old term has to be told (F18).
            self._reply(leader.id, message, verified_index=None)
            return
        if not rules.is_well_formed(message.prev_index, message.term, message.entries):
            self._logger.error("message from leader malformed", peer=leader.id)
            return
        if self.is_leader() and message.term == self.__raftCurrentTerm:
            raise JournalError(f"{leader.id} leads in term {message.term}, as we do")
        self._follow(message.term, leader)
        self._leader_heard_at_s = self._clock.monotonic_s()
        self._put_off_election()
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

    def _is_rejected(self, leader_id: str, message: AppendEntries) -> bool:
        """Say no, with a hint, if the log lacks what the entries are to follow (F15)."""
        journal = self._journal
        last_index = journal.last_index()
        if rules.does_log_match(
            message.prev_index,
            message.prev_term,
            last_index=last_index,
            term_at=journal.term_at,
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
            message.entries, last_index=last_index, term_at=self._journal.term_at
        )
        new_entries = message.entries[position:]
        if not new_entries:
            return
        first = new_entries[0].index
        if first <= last_index:
            if first <= self.__raftCommitIndex:
                raise JournalError(
                    f"a leader in term {message.term} holds another entry {first},"
                    f" which is committed here (up to {self.__raftCommitIndex})"
                )
            self._journal.truncate_from(first)
        self._journal.append(new_entries)

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
        progress = self._progress.get(peer_id)
        if progress is None or message.term < self.__raftCurrentTerm:
            return
        last_index = self._journal.last_index()
        if message.sequence > self._sequence or not rules.is_ack_within_bounds(
            message.match_index, last_index=last_index
        ):
            self._logger.error("acknowledgement out of bounds", peer=peer_id)
            return
        progress.on_answer(message.sequence, self._clock.monotonic_s())
        if message.is_success:
            progress.on_match(message.match_index)
        else:
            hint = ConflictHint(message.conflict_index, message.conflict_term)
            progress.on_rejection(message.sequence, hint, self._journal.term_at)

    # Sending

    @override
    def __sendAppendEntries(self) -> None:
        """Send what each follower lacks, never twice, never waiting (F1, F15, F20, F21)."""
        now = self._clock.monotonic_s()
        is_heartbeat_due = now >= self.__newAppendEntriesTime
        if is_heartbeat_due:
            self.__newAppendEntriesTime = now + self._timeouts.heartbeat_s
        for peer_id, progress in self._progress.items():
            if self._is_connected(peer_id):
                self._serve(peer_id, progress, is_heartbeat_due=is_heartbeat_due)

    def _serve(
        self, peer_id: str, progress: Progress, *, is_heartbeat_due: bool
    ) -> None:
        last_index = self._journal.last_index()
        is_due = is_heartbeat_due or progress.lacks_commit(self.__raftCommitIndex)
        while is_due or progress.may_send(last_index):
            if not self._send_entries(peer_id, progress):
                return
            is_due = False

    def _send_entries(self, peer_id: str, progress: Progress) -> bool:
        first, last_index = progress.next_index, self._journal.last_index()
        batch: tuple[Entry, ...] = ()
        if first <= last_index and progress.may_send(last_index):
            batch = self._journal.entries_from(first, progress.batch_bytes_max())
        self._sequence += 1
        commit_index = self.__raftCommitIndex
        message = AppendEntries(
            self.__raftCurrentTerm,
            first - 1,
            self._journal.term_at(first - 1),
            commit_index,
            self._sequence,
            batch,
        )
        if not self._send(peer_id, message):
            return False
        progress.on_sent(
            self._sequence,
            last_sent_index=first - 1 + len(batch),
            commit_index=commit_index,
            byte_count=sum(len(entry.body) for entry in batch),
        )
        return True


Engine = _SyncObj
