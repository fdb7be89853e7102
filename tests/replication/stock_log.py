"""What the stock package does with the log and with votes, put back into our engine.

Each function puts one fault back, for a test that must fail with it (`faults.py`).
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nodestate.replication import journal as journals, rules
from nodestate.replication.configuration import Configuration
from nodestate.replication.elections import Elections
from nodestate.replication.engine import Engine
from nodestate.replication.followers import Followers
from nodestate.replication.frames import AppendEntries, AppendReply, SnapshotReply
from nodestate.replication.outbox import Outbox
from nodestate.replication.progress import Progress
from nodestate.replication.rules import ConflictHint

CHUNK_BYTES = 65536


def after(kind: type, name: str, more: Callable[..., None]) -> Callable[..., Any]:
    """Return the method of that name with something done after it."""
    ours = getattr(kind, name)

    def method(self: Any, *arguments: Any) -> Any:
        result = ours(self, *arguments)
        more(self, *arguments)
        return result

    return method


# Entries and acknowledgements


def cut_what_matches(patch: pytest.MonkeyPatch) -> None:
    """Delete whatever is behind the place of a message, the same or not (F1)."""

    def store(self: Any, message: AppendEntries) -> None:
        first = message.prev_index + 1
        if message.entries:
            if first <= self._journal.last_index():
                self._journal.truncate_from(first)
            self._journal.append(message.entries)

    patch.setattr(Engine, "_store", store)


def send_again_what_is_on_its_way(patch: pytest.MonkeyPatch) -> None:
    """Go back with every acknowledgement to what follows it (F1)."""

    def turn_back(self: Any, match_index: int) -> None:
        self.next_index = match_index + 1

    patch.setattr(Progress, "on_match", after(Progress, "on_match", turn_back))


def commit_own_tail_on_a_chunk(patch: pytest.MonkeyPatch) -> None:
    """Commit up to the end of the own log when a piece of a snapshot comes (F2)."""

    def commit(self: Any, _: object, message: Any) -> None:
        _commit(self, message.index)

    patch.setattr(
        Engine, "_on_snapshot_chunk", after(Engine, "_on_snapshot_chunk", commit)
    )


def commit_own_tail_on_a_sign_of_life(patch: pytest.MonkeyPatch) -> None:
    """Do so with what a leader sends while there is no snapshot yet (F2)."""

    def commit(self: Any, _: object, message: AppendEntries) -> None:
        if message.prev_index == 0:
            _commit(self, message.commit_index)

    patch.setattr(
        Engine, "_on_append_entries", after(Engine, "_on_append_entries", commit)
    )


def _commit(engine: Any, leader_commit_index: int) -> None:
    known = min(leader_commit_index, engine._journal.last_index())
    engine._SyncObj__raftCommitIndex = max(engine.commit_index(), known)


def count_acknowledgements_of_any_term(patch: pytest.MonkeyPatch) -> None:
    """Count what was said to whoever led then (F3)."""

    def take(self: Any, peer_id: str, message: AppendReply) -> None:
        self._followers.on_reply(peer_id, message, self._clock.monotonic_s())

    patch.setattr(Engine, "_on_append_reply", take)


def step_forward_again(patch: pytest.MonkeyPatch) -> None:
    """Send on while the place is looked for, and let each answer set it anew (F15).

    Whoever lacks what later messages follow answers with the end of its own log.
    """

    def may_send(self: Any, last_index: int) -> bool:
        return bool(not self.is_installing and self.next_index <= last_index)

    def on_sent(self: Any, _: int, *, last_sent_index: int, **__: int) -> None:
        self.next_index = last_sent_index + 1

    def on_rejection(self: Any, _: int, hint: ConflictHint, *__: object) -> None:
        self.next_index = hint.from_index

    def step_back_by_one(prev_index: int, *, last_index: int, **_: Any) -> ConflictHint:
        return ConflictHint(min(prev_index, last_index + 1), 0)

    patch.setattr(Progress, "may_send", may_send)
    patch.setattr(Progress, "on_sent", on_sent)
    patch.setattr(Progress, "on_rejection", on_rejection)
    patch.setattr(Progress, "lacks_commit", lambda self, commit_index: False)
    patch.setattr(rules, "conflict_hint", step_back_by_one)


def cut_entries_into_chunks(patch: pytest.MonkeyPatch) -> None:
    """Send an entry in pieces, the last one found by the length before encoding (F21)."""
    deliver = Engine.deliver

    def deliver_in_chunks(self: Any, peer_id: str, message: Any) -> None:
        entries = message.entries if isinstance(message, AppendEntries) else ()
        for entry in entries:
            encoded, received = msgspec.msgpack.encode(entry), b""
            for start in range(0, len(encoded), CHUNK_BYTES):
                received += encoded[start : start + CHUNK_BYTES]
                if start + CHUNK_BYTES >= len(entry.body) > CHUNK_BYTES:
                    msgspec.msgpack.decode(received)
                    received = b""
        deliver(self, peer_id, message)

    patch.setattr(Engine, "deliver", deliver_in_chunks)


# The disk


def acknowledge_at_once(patch: pytest.MonkeyPatch) -> None:
    """Promise what is in memory (F5, F6)."""

    def post(self: Any, peer_id: str, message: Any, *, position: int) -> None:
        self._send(peer_id, message)

    patch.setattr(Outbox, "post", post)


def count_what_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """Let a leader count its own log as it is in memory (F5)."""

    def advance(self: Any) -> None:
        held = self._of_voters(
            self._journal.last_index(), lambda progress: progress.match_index
        )
        _commit(self, rules.majority_index([int(index) for index in held]))

    patch.setattr(Engine, "_advance_commit", advance)


def forget_the_vote(patch: pytest.MonkeyPatch) -> None:
    """Start with no vote given in the term, as with an empty file of it (F6)."""

    def forget(self: Any) -> None:
        self._SyncObj__votedForNodeId = None

    patch.setattr(
        Elections, "_load_hard_state", after(Elections, "_load_hard_state", forget)
    )


def keep_the_commit_index(patch: pytest.MonkeyPatch) -> None:
    """Believe at the start what was written of it before, whatever the log has (F19)."""
    kept: dict[str, int] = {}

    def keep(self: Any, *_: object) -> None:
        kept[self._server_id] = self.commit_index()

    def believe(self: Any) -> None:
        _commit(self, 0)
        commit_index = kept.get(self._server_id, 1)
        self._SyncObj__raftCommitIndex = max(self.commit_index(), commit_index)

    def apply(self: Any) -> None:
        last_index = min(self.commit_index(), self._journal.last_index())
        for index in range(self.applied_index() + 1, last_index + 1):
            self._apply(self._journal.entry(index))
            self._SyncObj__raftLastApplied = index

    patch.setattr(
        Engine, "_on_append_entries", after(Engine, "_on_append_entries", keep)
    )
    patch.setattr(Engine, "_SyncObj__applyLogEntries", apply)
    patch.setattr(
        Engine, "_read_configurations", after(Engine, "_read_configurations", believe)
    )


def clear_a_log_that_is_longer(patch: pytest.MonkeyPatch) -> None:
    """Throw the log away where it does not begin with the snapshot's end (F4)."""
    patch.setattr(journals.Journal, "_holds", lambda self, entry: False)


def apply_twice_behind_the_unknown(patch: pytest.MonkeyPatch) -> None:
    """Pass over what is not known, without counting it (F9)."""

    def apply(self: Any) -> None:
        for index in range(self.applied_index() + 1, self.commit_index() + 1):
            entry = self._journal.entry(index)
            if entry.body[0] > 3:
                continue
            self._apply(entry)
            self._SyncObj__raftLastApplied += 1

    patch.setattr(Engine, "_SyncObj__applyLogEntries", apply)


# Leading


def call_every_leader_ready(patch: pytest.MonkeyPatch) -> None:
    """Ask for no entry of the own term (F11)."""
    patch.setattr(Engine, "is_ready_to_lead", Engine.is_leader)
    patch.setattr(Engine, "is_caught_up", lambda self: True)


def lead_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Lead on for half a minute without hearing from anyone (F11)."""

    def has_lost(now_s: float, heard_at_s: Any, *, timeout_s: float) -> bool:
        return now_s - rules.majority_heard_at_s(heard_at_s) > 30.0

    patch.setattr(rules, "has_lost_majority", has_lost)


def read_without_asking(patch: pytest.MonkeyPatch) -> None:
    """Confirm every read without a word of the others (F11)."""
    patch.setattr(rules, "has_confirmed", lambda sequences, sequence: True)


def count_votes_by_number(patch: pytest.MonkeyPatch) -> None:
    """Add one for each vote that comes, whoever gave it (F12)."""

    def take(self: Any, peer_id: str, message: Any) -> None:
        self._votes.add(f"{peer_id}, vote {len(self._votes)}")
        self._count_votes()

    def has_majority(self: Any, votes: set[str]) -> bool:
        voters = self.configuration().voters()
        return len(votes) >= rules.quorum_size(len(voters))

    patch.setattr(Elections, "_on_vote_reply", take)
    patch.setattr(Elections, "_has_majority", has_majority)


def believe_every_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    """Take any number for what a follower has (F12)."""

    def take(self: Any, peer_id: str, reply: AppendReply, now_s: float) -> bool:
        progress = self.get(peer_id)
        progress.on_answer(reply.sequence, now_s)
        if reply.is_success:
            progress.on_match(reply.match_index)
        else:
            hint = ConflictHint(reply.conflict_index, reply.conflict_term)
            progress.on_rejection(reply.sequence, hint, self._journal.term_at)
        return True

    patch.setattr(Followers, "on_reply", take)


def stand_without_asking(patch: pytest.MonkeyPatch) -> None:
    """Begin a term as soon as no leader was heard of for a while (F18)."""
    patch.setattr(Elections, "_stand", lambda self: self._campaign(is_transfer=False))


def hear_every_candidate(patch: pytest.MonkeyPatch) -> None:
    """Follow any higher term, though a leader is well (F18)."""
    patch.setattr(rules, "is_disruptive", lambda request, voter: False)


def tell_old_leaders_nothing(patch: pytest.MonkeyPatch) -> None:
    """Drop a message of an old term without an answer (F18)."""
    ours = Engine._on_append_entries

    def hear(self: Any, leader: Any, message: AppendEntries) -> None:
        if message.term >= self.term():
            ours(self, leader, message)

    patch.setattr(Engine, "_on_append_entries", hear)


def take_who_installs_for_dead(patch: pytest.MonkeyPatch) -> None:
    """Hear nothing from a follower while it takes a snapshot (F20)."""

    def take(self: Any, peer_id: str, message: SnapshotReply) -> None:
        self._installs.on_snapshot_reply(peer_id, message)

    patch.setattr(Engine, "_on_snapshot_reply", take)


def send_without_bounds(patch: pytest.MonkeyPatch) -> None:
    """Send all there is, whatever is still on its way (F20)."""

    def may_send(self: Any, last_index: int) -> bool:
        return bool(self.next_index <= last_index)

    patch.setattr(Progress, "may_send", may_send)


# Members


def count_whoever_is_added(patch: pytest.MonkeyPatch) -> None:
    """Have no learners: a member counts from the moment that it is one (F22)."""
    patch.setattr(Configuration, "voters", Configuration.ids)


def ignore_changes_in_the_log(patch: pytest.MonkeyPatch) -> None:
    """Start with the members that were committed (F22)."""
    patch.setattr(Engine, "_read_configurations", lambda self: None)


def remember_what_was_cut(patch: pytest.MonkeyPatch) -> None:
    """Keep members whose entry another leader has cut (F22)."""
    store = Engine._store

    def keep(self: Any, message: AppendEntries) -> None:
        with pytest.MonkeyPatch.context() as within:
            kind = type(self._configurations)
            within.setattr(kind, "truncate_from", lambda self, index: False)
            store(self, message)

    patch.setattr(Engine, "_store", keep)


def never_resign(patch: pytest.MonkeyPatch) -> None:
    """Let a leader lead on that is a member no more (F22)."""
    patch.setattr(Engine, "_resign", lambda self: None)
