"""What is judged while a cluster runs: after every tick, entry, message and change.

The promises are those of the Raft paper (figure 3) and of section 5 about what is told
to others; whether an entry is durable is read from the disks, not asked of the servers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from cluster.simulation.durability import DurableLog
from nodestate.fsm.state import State
from nodestate.model.event import Event
from nodestate.replication.engine import Engine
from nodestate.replication.entries import Body, Envelope, decode_body
from nodestate.replication.frames import (
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    SnapshotReply,
    VoteReply,
)
from nodestate.replication.journal import Journal
from nodestate.replication.records import Entry
from nodestate.replication.rules import quorum_size

ELECTION_SAFETY: Final = "election safety"
LOG_MATCHING: Final = "log matching"
LEADER_COMPLETENESS: Final = "leader completeness"
STATE_MACHINE_SAFETY: Final = "state machine safety"
COMMIT: Final = "committed only on a majority's disks"
DURABLE: Final = "durable before it is told"
MEMORY: Final = "nothing told is forgotten"
EXACTLY_ONCE: Final = "exactly once"
NO_LOSS: Final = "no acknowledged write lost"
NOT_SENT: Final = "what was not sent is not applied"
LINEARIZABLE: Final = "linearizable"
WATCHERS: Final = "watchers miss nothing"
ENDINGS: Final = "every waiter ends"
PROGRESS: Final = "progress after healing"
NO_SURPRISE: Final = "servers stop for good reasons only"

OP: Final = "op"
"""How a command's `asked_by` starts that names an operation of the lab's."""

INSIDE: Final = frozenset({COMMIT, DURABLE, MEMORY, LOG_MATCHING, LEADER_COMPLETENESS})
"""Judged by looking inside servers; all others can be seen from outside."""


Trace = list[tuple[float, str, str]]
"""What happened when on which server, in words."""


class Violation(msgspec.Struct, frozen=True):
    """A promise that was not kept, and how that was seen."""

    promise: str
    text: str


class Judge:
    """Watches every server of one cluster, over all their starts."""

    def __init__(self, server_ids: Sequence[str]) -> None:
        self.violations: list[Violation] = []
        self.durable = {server_id: DurableLog() for server_id in server_ids}
        self.entries: dict[int, Entry] = {}
        self.bodies: dict[int, Body] = {}
        self.effects: dict[str, int] = {}
        self.leaders: dict[int, str] = {}
        self.counts: dict[str, int] = {}
        self.applied_count = 0
        self.on_leading: Callable[[str], None] = _tell_nobody
        self.has_snapshot: Callable[[str, int], bool] = _has_none
        self._log: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._committed: dict[int, int] = {1: 1}
        self._commit_index = 1
        self._commit_by_term: dict[int, int] = {}
        self._tables: dict[int, tuple[int, ...]] = {}
        self._wiped: dict[str, list[DurableLog]] = {}
        self._told_terms = dict.fromkeys(server_ids, 0)
        self._votes: dict[tuple[str, int], str] = {}

    def blame(self, promise: str, text: str) -> None:
        """Take note of a violation."""
        self.violations.append(Violation(promise, text))

    def trace_into(self, trace: Trace, time_s: Callable[[], float]) -> None:
        """Write down every message, start and entry with its time from here on."""
        on_send, on_entry_begins, on_start = (
            self.on_send,
            self.on_entry_begins,
            self.on_start,
        )

        def traced_send(
            server_id: str, peer_id: str, message: Message, journal: Journal
        ) -> None:
            trace.append((time_s(), server_id, f"to {peer_id}: {message!r}"))
            on_send(server_id, peer_id, message, journal)

        def traced_entry(server_id: str, entry: Entry) -> None:
            trace.append((time_s(), server_id, f"applies {entry!r}"))
            on_entry_begins(server_id, entry)

        def traced_start(server_id: str, journal: Journal) -> None:
            trace.append((time_s(), server_id, "starts"))
            on_start(server_id, journal)

        instance: Any = self
        instance.on_send, instance.on_entry_begins = traced_send, traced_entry
        instance.on_start = traced_start

    def count(self, what: str) -> None:
        """Take note that something worth counting happened."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def forget(self, server_id: str) -> None:
        """Expect nothing any more of a server that has another data directory now."""
        self._wiped.setdefault(server_id, []).append(self.durable[server_id])
        self.durable[server_id] = DurableLog()
        self._told_terms[server_id] = 0
        for voter, term in list(self._votes):
            if voter == server_id:
                del self._votes[voter, term]

    # One server starts

    def on_start(self, server_id: str, journal: Journal) -> None:
        """Compare what a server found on its disk with what it told and what was there."""
        durable = self.durable[server_id]
        term, voted_for = journal.term(), journal.voted_for()
        if max(term, journal.last_term()) < self._told_terms[server_id]:
            told = self._told_terms[server_id]
            self.blame(MEMORY, f"{server_id} is back in term {term}, was in {told}")
        told_vote = self._votes.get((server_id, term), voted_for)
        if told_vote != voted_for:
            self.blame(
                MEMORY, f"{server_id} voted {told_vote} in {term}, has {voted_for}"
            )
        if journal.last_index() < durable.last_index:
            self.blame(
                MEMORY,
                f"{server_id} has {journal.last_index()} entries of"
                f" {durable.last_index} that its disk had",
            )
        self._note_log(server_id, journal)
        self._watch_journal(server_id, journal)

    def _note_log(self, server_id: str, journal: Journal) -> None:
        first = journal.first_index()
        previous_term = journal.term_at(first - 1)
        for index in range(first, journal.last_index() + 1):
            entry = journal.entry(index)
            self._note_entry(server_id, entry, previous_term)
            previous_term = entry.term

    def _watch_journal(self, server_id: str, journal: Journal) -> None:
        append, truncate = journal.append, journal.truncate_from

        def watched_append(entries: Sequence[Entry]) -> None:
            previous_term = journal.last_term()
            append(entries)
            for entry in entries:
                self._note_entry(server_id, entry, previous_term)
                previous_term = entry.term

        def watched_truncate(index: int) -> None:
            if index <= journal.last_index():
                self.count("truncations")
                if self._committed.get(index) == journal.term_at(index):
                    self.blame(LOG_MATCHING, f"{server_id} cuts committed {index}")
            truncate(index)

        instance: Any = journal
        instance.append, instance.truncate_from = watched_append, watched_truncate

    def _note_entry(self, server_id: str, entry: Entry, previous_term: int) -> None:
        mine = (previous_term, entry.body)
        known = self._log.setdefault((entry.index, entry.term), mine)
        if known != mine and entry.index == 1 and self._is_nothing_formed():
            # The founder lost its power with entry 1 not durable, and so told to nobody.
            self._log[entry.index, entry.term] = mine
        elif known != mine:
            self.blame(
                LOG_MATCHING,
                f"{server_id} holds another entry {entry.index} of term {entry.term}",
            )

    def _is_nothing_formed(self) -> bool:
        logs = (log for server_id in self.durable for log in self._logs_of(server_id))
        return all(log.last_index == 0 for log in logs)

    # After each tick

    def on_tick(
        self, server_id: str, engine: Engine, journal: Journal, seen: "Seen"
    ) -> None:
        """Look for a new leader, and at what is committed."""
        is_leader, term = engine.is_leader(), engine.term()
        if is_leader and seen.led_term != term:
            seen.led_term = term
            self._on_leader(server_id, term, journal)
        commit_index = engine.commit_index()
        if commit_index > seen.commit_index:
            seen.commit_index = commit_index
            self._check_commit(server_id, commit_index, journal)

    def _on_leader(self, server_id: str, term: int, journal: Journal) -> None:
        self.count("elections")
        known = self.leaders.setdefault(term, server_id)
        if known != server_id:
            self.blame(
                ELECTION_SAFETY, f"{known} and {server_id} both lead in term {term}"
            )
        earlier = [i for t, i in self._commit_by_term.items() if t < term]
        index = max(earlier, default=1)
        if not _holds(journal, index, self._committed[index]):
            self.blame(
                LEADER_COMPLETENESS,
                f"{server_id} leads in term {term} without committed entry {index}",
            )
        self.on_leading(server_id)

    def watch_commits(self, server_id: str, engine: Engine, journal: Journal) -> None:
        """Look at each commit of a leader, which may be its last deed as such."""
        advance = engine._advance_commit  # noqa: SLF001  the judge looks inside

        def watched_advance() -> None:
            before = engine.commit_index()
            advance()
            if engine.commit_index() > before:
                self._on_leader_commit(server_id, engine, journal)

        instance: Any = engine
        instance._advance_commit = watched_advance  # noqa: SLF001

    def _on_leader_commit(
        self, server_id: str, engine: Engine, journal: Journal
    ) -> None:
        """Hold a leader to it that a majority has the entry, whatever the leader thinks.

        Or had it, on a disk that was emptied while its word was on its way.
        """
        commit_index = engine.commit_index()
        entry_term, term = journal.term_at(commit_index), engine.term()
        voters = engine.configuration().voters()
        count = sum(
            any(log.holds(commit_index, entry_term) for log in self._logs_of(voter))
            for voter in voters
        )
        if count < quorum_size(len(voters)):
            self.blame(
                COMMIT,
                f"{server_id} commits {commit_index} in term {term},"
                f" durable on {count} of {len(voters)}",
            )
        first = max(self._commit_index + 1, journal.first_index())
        for index in range(first, commit_index + 1):
            self._committed.setdefault(index, journal.term_at(index))
        self._commit_index = max(self._commit_index, commit_index)
        self._commit_by_term[term] = commit_index

    def _logs_of(self, server_id: str) -> list[DurableLog]:
        return [self.durable[server_id], *self._wiped.get(server_id, ())]

    def _check_commit(
        self, server_id: str, commit_index: int, journal: Journal
    ) -> None:
        expected = self._committed.get(commit_index)
        if expected is None or not _holds(journal, commit_index, expected):
            self.blame(
                STATE_MACHINE_SAFETY,
                f"{server_id} takes {commit_index} for committed, and it is not",
            )

    # After each entry

    def on_entry_begins(self, server_id: str, entry: Entry) -> None:
        """Compare an entry that is about to be applied with what others applied."""
        self.applied_count += 1
        known = self.entries.setdefault(entry.index, entry)
        if known != entry:
            self.blame(
                STATE_MACHINE_SAFETY, f"{server_id} applies another entry {entry.index}"
            )

    def on_entry(self, server_id: str, index: int, state: State) -> None:
        """Compare the state after an entry with what it led to elsewhere."""
        tables = (*state.indexes.values(), len(state.nodes))
        if self._tables.setdefault(index, tables) != tables:
            self.blame(
                STATE_MACHINE_SAFETY, f"{server_id} is in another state after {index}"
            )

    def on_events(self, index: int, events: Sequence[Event]) -> None:
        """Take note that an entry changed something, and of which operation it was."""
        if not events:
            return
        op = self.op_at(index)
        if op and self.effects.setdefault(op, index) != index:
            self.blame(
                EXACTLY_ONCE,
                f"{op} changed something at {self.effects[op]} and {index}",
            )

    def op_at(self, index: int) -> str:
        """Return the operation that an applied entry belongs to, "" if to none."""
        body = self.body_at(index)
        if isinstance(body, Envelope) and body.command.asked_by.startswith(OP):
            return body.command.asked_by
        return ""

    def body_at(self, index: int) -> Body:
        """Return what an applied entry holds, decoded once for all servers."""
        body = self.bodies.get(index)
        if body is None:
            body = self.bodies[index] = decode_body(self.entries[index].body)
        return body

    # Before each message

    def on_send(
        self, server_id: str, peer_id: str, message: Message, journal: Journal
    ) -> None:
        """Hold a server to it that what it says is durable, and that it votes once."""
        match message:
            case AppendReply(is_success=True):
                self._check_ack(server_id, message.match_index, journal)
            case SnapshotReply(is_installed=True):
                self._check_installed(server_id, message.index, journal)
            case RequestVote(is_pre_vote=False):
                self._check_vote(server_id, message.term, server_id)
            case VoteReply(is_pre_vote=False, is_granted=True):
                self._check_vote(server_id, message.term, peer_id)
            case _:
                pass
        term = _told_term(message)
        if term > self._told_terms[server_id]:
            self._check_term(server_id, term)

    def _check_ack(self, server_id: str, match_index: int, journal: Journal) -> None:
        if match_index < journal.first_index():
            return
        if match_index > journal.last_index():
            self.blame(DURABLE, f"{server_id} acknowledges {match_index}, lacks it")
            return
        term = journal.term_at(match_index)
        if not self.durable[server_id].holds(match_index, term):
            self.blame(
                DURABLE, f"{server_id} acknowledges {match_index} before it is durable"
            )

    def _check_installed(self, server_id: str, index: int, journal: Journal) -> None:
        """Demand the snapshot on disk, unless the log has all of it and knows that.

        What the log has need not be durable then: it is committed without this server.
        """
        if _holds(journal, index, self._committed.get(index, 0)):
            return
        if not self.has_snapshot(server_id, index):
            self.blame(
                DURABLE,
                f"{server_id} says that it has the snapshot {index}, and its disk"
                " has none that can be read",
            )

    def _check_vote(self, server_id: str, term: int, candidate: str) -> None:
        known = self._votes.setdefault((server_id, term), candidate)
        if known != candidate:
            self.blame(
                ELECTION_SAFETY,
                f"{server_id} votes for {known} and for {candidate} in term {term}",
            )
        durable_term, durable_vote = self.durable[server_id].hard_state
        is_durable = durable_term > term or (
            durable_term == term and durable_vote == candidate
        )
        if not is_durable:
            self.blame(
                DURABLE, f"{server_id} votes in term {term} before it is durable"
            )

    def _check_term(self, server_id: str, term: int) -> None:
        self._told_terms[server_id] = term
        durable = self.durable[server_id]
        known = max(durable.hard_state.term, durable.terms.get(durable.last_index, 0))
        if known < term:
            self.blame(DURABLE, f"{server_id} tells term {term} before it is durable")


class Seen:
    """What was seen of one start of a server."""

    __slots__ = ("commit_index", "led_term")

    def __init__(self) -> None:
        self.commit_index = 1
        self.led_term = 0


def _tell_nobody(server_id: str) -> None:
    del server_id


def _has_none(server_id: str, index: int) -> bool:
    del server_id, index
    return False


def _told_term(message: Message) -> int:
    """Return the term that a message shows its sender to be in; 0 if it shows none."""
    match message:
        case AppendReply() | AppendEntries() | SnapshotReply():
            return message.term
        case RequestVote(is_pre_vote=False) | VoteReply(is_pre_vote=False):
            return message.term
        case _:
            return 0


def _holds(journal: Journal, index: int, term: int) -> bool:
    """Say whether a log has that entry, or goes on behind it."""
    if index < journal.first_index() - 1:
        return True
    return index <= journal.last_index() and journal.term_at(index) == term


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return what was counted, in a line."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
