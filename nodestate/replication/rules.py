"""Raft's rules as pure functions over small values.

Nothing here knows a socket, a file, a clock or a library: the engine gathers the facts,
asks, and carries out the answer. Sections are those of the Raft paper.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from nodestate.replication.records import Entry

TermAt = Callable[[int], int]


class LogPosition(NamedTuple):
    """The end of a log; compared by term first, as voters do (section 5.4.1)."""

    term: int
    last_index: int


class Voter(NamedTuple):
    """What a server knows when it is asked for its vote."""

    term: int
    voted_for: str | None
    log_end: LogPosition
    hears_a_leader: bool


class VoteRequest(NamedTuple):
    """What a candidate claims, and what kind of vote it asks for."""

    candidate_id: str
    term: int
    log_end: LogPosition
    is_pre_vote: bool = False
    is_transfer: bool = False


def quorum_size(member_count: int) -> int:
    """Return how many members are a majority."""
    return member_count // 2 + 1


def is_disruptive(request: VoteRequest, voter: Voter) -> bool:
    """Say whether a vote request is to be passed over because a leader is well.

    Without this, a server that was cut off deposes a healthy leader when it returns
    (section 6). A transfer is the leader's own wish and passes.
    """
    return voter.hears_a_leader and not request.is_transfer


def may_grant_vote(request: VoteRequest, voter: Voter) -> bool:
    """Say whether a voter, already in the request's term, gives its vote (5.2, 5.4.1).

    The same candidate may be told again: its first answer may have been lost.
    """
    if request.term != voter.term:
        return False
    if voter.voted_for not in (None, request.candidate_id):
        return False
    return request.log_end >= voter.log_end


def may_grant_pre_vote(request: VoteRequest, voter: Voter) -> bool:
    """Say whether a voter would vote if asked in earnest; this changes nothing (9.6)."""
    if voter.hears_a_leader:
        return False
    return request.term > voter.term and request.log_end >= voter.log_end


def is_well_formed(prev_index: int, term: int, entries: Sequence[Entry]) -> bool:
    """Say whether entries follow each other, with terms a leader of `term` can have."""
    index, newest_term = prev_index, 0
    for entry in entries:
        index += 1
        if entry.index != index:
            return False
        if not newest_term <= entry.term <= term:
            return False
        newest_term = entry.term
    return prev_index >= 0


def does_log_match(
    prev_index: int,
    prev_term: int,
    *,
    last_index: int,
    term_at: TermAt,
    base_index: int = 0,
) -> bool:
    """Say whether the log holds the entry that the new ones are to follow (5.3).

    What is before the base is in a snapshot: committed, and so the same everywhere.
    """
    if prev_index < base_index:
        return True
    return prev_index <= last_index and term_at(prev_index) == prev_term


def first_new_entry(
    entries: Sequence[Entry], *, last_index: int, term_at: TermAt, base_index: int = 0
) -> int:
    """Return the position of the first entry that the log lacks or holds differently.

    What matches before it is never cut: it may be acknowledged already, and the message
    an old one.
    """
    for position, entry in enumerate(entries):
        if entry.index < base_index:
            continue
        if entry.index > last_index:
            return position
        if term_at(entry.index) != entry.term:
            return position
    return len(entries)


class ConflictHint(NamedTuple):
    """Where a follower's log parts from the leader's, as the follower sees it.

    `term` is 0 if its log is simply too short; then `from_index` is the first it lacks.
    Otherwise `from_index` is the first entry it has of the conflicting term.
    """

    from_index: int
    term: int


def conflict_hint(
    prev_index: int, *, last_index: int, commit_index: int, term_at: TermAt
) -> ConflictHint:
    """Return what helps the leader to skip a whole conflicting term (5.3)."""
    if prev_index > last_index:
        return ConflictHint(last_index + 1, 0)
    term = term_at(prev_index)
    index = prev_index
    # What is committed matches every leader's log: no need to look further down.
    while index - 1 > commit_index and term_at(index - 1) == term:
        index -= 1
    return ConflictHint(index, term)


def next_probe_index(
    hint: ConflictHint,
    *,
    prev_index: int,
    match_index: int,
    term_at: TermAt,
    base_index: int = 0,
) -> int:
    """Return the next index to try after `prev_index` was rejected.

    Always after what is known to match and never past the rejected one, so that
    every rejection brings the leader nearer, whatever the follower says. An answer up
    to `base_index` means that the leader's log does not go back far enough.
    """
    index = hint.from_index
    if hint.term > 0:
        own = prev_index
        lowest = max(match_index, base_index)
        while own > lowest and term_at(own) > hint.term:
            own -= 1
        if own > lowest and term_at(own) == hint.term:
            index = own + 1
    return max(match_index + 1, min(index, prev_index))


def is_ack_within_bounds(match_index: int, *, last_index: int) -> bool:
    """Say whether a follower can hold what it claims: never more than the leader's log."""
    return 0 <= match_index <= last_index


def majority_index(durable_indexes: Collection[int]) -> int:
    """Return the highest index that a majority of all members has durably."""
    ordered = sorted(durable_indexes, reverse=True)
    return ordered[quorum_size(len(ordered)) - 1]


def advanced_commit_index(
    durable_indexes: Collection[int], *, commit_index: int, term: int, term_at: TermAt
) -> int:
    """Return the leader's commit index now.

    Only an entry of the leader's own term is committed by counting; older ones are
    committed with it (5.4.2 and figure 8).
    """
    index = majority_index(durable_indexes)
    if index <= commit_index or term_at(index) != term:
        return commit_index
    return index


def follower_commit_index(
    leader_commit_index: int, *, verified_index: int, commit_index: int
) -> int:
    """Return a follower's commit index after a message.

    Nothing beyond what this very message verified: the rest of the log may differ.
    """
    return max(commit_index, min(leader_commit_index, verified_index))


def majority_heard_at_s(heard_at_s: Collection[float]) -> float:
    """Return since when no majority of all voters was heard of, this server included."""
    ordered = sorted(heard_at_s, reverse=True)
    return ordered[quorum_size(len(ordered)) - 1]


def has_lost_majority(
    now_s: float, heard_at_s: Collection[float], *, timeout_s: float
) -> bool:
    """Say whether a leader must step down: no majority answered within `timeout_s`."""
    return now_s - majority_heard_at_s(heard_at_s) > timeout_s


def has_confirmed(acked_sequences: Collection[int], sequence: int) -> bool:
    """Say whether a majority answered message `sequence` of this term, or a later one.

    Whoever led then still led when the message was sent: a read that waited for this
    has missed nothing that was committed before (6.4).
    """
    ordered = sorted(acked_sequences, reverse=True)
    return ordered[quorum_size(len(ordered)) - 1] >= sequence
