"""Who leads: terms, votes and roles, on PySyncObj's bookkeeping.

The lower half of the engine. F1 to F22 name the faults of the stock package that an
override answers; the rules themselves are in `rules.py`.
"""

from collections.abc import Iterable
from typing import Any, Final

from typing_extensions import override

from nodestate.ports import Role
from nodestate.replication import rules
from nodestate.replication.configuration import Configuration, ConfigurationLog
from nodestate.replication.disarmed import (
    DisarmedSyncObj,
    EngineMessage,
    JournalView,
    PeerTransport,
)
from nodestate.replication.frames import RequestVote, StandNow, VoteReply
from nodestate.replication.outbox import Outbox
from nodestate.replication.rules import LogPosition, Voter, VoteRequest
from nodestate.replication.surroundings import Surroundings, Timeouts

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2
_ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)


class _SyncObj(DisarmedSyncObj):
    """A server's part in elections; the name makes `self.__x` the base's own `__x`.

    Names with one underscore are ours, with two they are PySyncObj's. There are no
    properties: the base's constructor reads every attribute before the object is ready.
    """

    # Set by the base's constructor.
    __raftState: int
    __raftCurrentTerm: int
    __votedForNodeId: str | None
    __raftLeader: Any
    __raftElectionDeadline: float

    def __init__(
        self,
        server_id: str,
        incarnation: str,
        configurations: ConfigurationLog,
        timeouts: Timeouts,
        surroundings: Surroundings,
    ) -> None:
        self._server_id = server_id
        self._incarnation = incarnation
        self._configurations = configurations
        self._timeouts = timeouts
        self._clock = surroundings.clock
        self._ids = surroundings.ids
        self._journal = surroundings.journal
        self._wake = surroundings.wake
        self._logger = surroundings.logger
        self._journal_view = JournalView(surroundings.journal)
        self._transport = PeerTransport(surroundings.send, self._peer_ids())
        self._outbox = Outbox(surroundings.journal, surroundings.send)
        self._votes: set[str] = set()
        self._own_vote_position = 0
        self._pre_votes: set[str] | None = None
        self._leader_heard_at_s: float | None = None
        super().__init__(server_id, self._transport, self._journal_view)
        self._load_hard_state()

    def _load_hard_state(self) -> None:
        """Take term and vote from the journal instead of the base's own."""
        journal = self._journal
        self.__raftCurrentTerm = max(journal.term(), journal.last_term())
        is_vote_current = journal.term() == self.__raftCurrentTerm
        self.__votedForNodeId = journal.voted_for() if is_vote_current else None
        # What was read from disk may have been written a moment before a crash.
        self._journal_view.hard_state_position = journal.position()
        self._put_off_election()
        if self.configuration().voters() == (self._server_id,):
            # There is nobody whose leader could be disturbed.
            self.__raftElectionDeadline = self._clock.monotonic_s()

    # What there is to know

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

    def is_leader(self) -> bool:
        """Say whether this server leads."""
        return self.__raftState == LEADER

    def configuration(self) -> Configuration:
        """Return the members in effect: those of the last such entry in the log."""
        return self._configurations.latest()

    def configuration_index(self) -> int:
        """Return the index of that entry."""
        return self._configurations.latest_index()

    def has_vote(self) -> bool:
        """Say whether this server, with this data directory, votes and counts."""
        return self.configuration().has_vote(self._server_id, self._incarnation)

    def campaign_at_once(self) -> None:
        """Stand for election though a leader is well: it has asked for that."""
        if not self.is_leader():
            self._campaign(is_transfer=True)

    # For the upper half

    def _on_elected(self) -> None:
        raise NotImplementedError

    def _on_deposed(self) -> None:
        raise NotImplementedError

    def _peer_ids(self) -> tuple[str, ...]:
        return tuple(
            one for one in self.configuration().ids() if one != self._server_id
        )

    def _log_end(self) -> LogPosition:
        return LogPosition(self._journal.last_term(), self._journal.last_index())

    def _post(self, peer_id: str, message: EngineMessage) -> None:
        """Send what shows the term or the vote, once those are durable (F6)."""
        position = self._journal_view.hard_state_position
        self._outbox.post(peer_id, message, position=position)

    # Elections

    @override
    def __generateRaftTimeout(self) -> float:
        """Draw from the configured range, with the jitter that we were given."""
        low, high = self._timeouts.election_s_min, self._timeouts.election_s_max
        return low + (high - low) * self._ids.jitter()

    def _put_off_election(self) -> None:
        now = self._clock.monotonic_s()
        self.__raftElectionDeadline = now + self.__generateRaftTimeout()

    def _stand_if_due(self) -> None:
        if self._clock.monotonic_s() >= self.__raftElectionDeadline:
            self._stand()

    def _stand(self) -> None:
        """Ask whether an election could be won, before disturbing anyone (F18)."""
        self._put_off_election()
        self.__raftLeader = None
        if self.__raftState == CANDIDATE:
            self.__setState(FOLLOWER)
        if not self.has_vote():
            return
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
        self.__setState(CANDIDATE)
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
        for peer_id in self.configuration().voters():
            if peer_id != self._server_id:
                self._post(peer_id, request)

    def _has_majority(self, votes: Iterable[str]) -> bool:
        """Say whether these are a majority of those that vote, each counted once (F12)."""
        voters = set(self.configuration().voters())
        return len(voters.intersection(votes)) >= rules.quorum_size(len(voters))

    def _count_votes(self) -> None:
        """Become leader by a majority of the voters."""
        if self.__raftState != CANDIDATE:
            return
        if self._journal.durable_position() >= self._own_vote_position:
            self._votes.add(self._server_id)
        if self._has_majority(self._votes):
            self.__onBecomeLeader()

    def _count_pre_votes(self) -> None:
        if self._pre_votes is not None and self._has_majority(self._pre_votes):
            self._campaign(is_transfer=False)

    @override
    def __onBecomeLeader(self) -> None:
        """Lead, with the log's half of it (F1, F11)."""
        self.__setState(LEADER)
        self.__raftLeader = self.__selfNode
        self._on_elected()

    @override
    def __setState(self, newState: int) -> None:
        """Change role; proposals that are open are resolved by the log, not here (F13)."""
        was_leader = self.__raftState == LEADER
        self.__raftState = newState
        if was_leader and newState != LEADER:
            self._put_off_election()
            self._on_deposed()
            self._logger.info("leadership lost", term=self.term())

    def _follow(self, term: int, leader: Any) -> None:
        """Follow in a term, which may be new; `leader` is a Node, or None if unknown."""
        if self.__raftState != FOLLOWER:
            self.__setState(FOLLOWER)
        if term > self.__raftCurrentTerm:
            self.__setCurrentTerm(term, None)
        self._pre_votes = None
        self.__raftLeader = leader

    def _obey(self, leader: Any, term: int) -> None:
        """Follow a leader that has just been heard of."""
        self._follow(term, leader)
        self._leader_heard_at_s = self._clock.monotonic_s()
        self._put_off_election()

    # Messages

    def _hears_a_leader(self) -> bool:
        if self.is_leader():
            return True
        if self.__raftLeader is None or self._leader_heard_at_s is None:
            return False
        silence_s = self._clock.monotonic_s() - self._leader_heard_at_s
        return silence_s < self._timeouts.election_s_min

    def _on_request_vote(self, peer_id: str, message: RequestVote) -> None:
        """Answer a candidate, whoever it is: whose vote counts is for it to know."""
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
        is_candidate = self.__raftState == CANDIDATE
        if message.is_granted and message.term == term and is_candidate:
            self._votes.add(peer_id)
            self._count_votes()

    def _on_stand_now(self, peer_id: str, message: StandNow) -> None:
        """Take over from the leader of this term, which has asked for it."""
        is_leaders_word = message.term == self.term() and peer_id == self.leader_id()
        if is_leaders_word and self.has_vote():
            self._logger.info("asked to take over", leader=peer_id, term=self.term())
            self.campaign_at_once()


Elections = _SyncObj
