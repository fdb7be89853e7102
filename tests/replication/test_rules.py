"""Raft's rules, both sides of each."""

import pytest

from nodestate.replication import rules
from nodestate.replication.records import Entry
from nodestate.replication.rules import ConflictHint, LogPosition, Voter, VoteRequest


def log(*terms):
    """Return `term_at` of a log that holds entries of these terms, from index 1 on."""
    return lambda index: (0, *terms)[index]


def entry(index, term):
    return Entry(b"\x01", index, term)


VOTER = Voter(5, None, LogPosition(3, 10), hears_a_leader=False)
REQUEST = VoteRequest("B", 5, LogPosition(3, 10))


@pytest.mark.parametrize(
    ("members", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)]
)
def test_a_quorum_is_more_than_half(members, quorum):
    assert rules.quorum_size(members) == quorum


def test_a_free_vote_goes_to_an_equal_log():
    assert rules.may_grant_vote(REQUEST, VOTER)


def test_a_vote_is_given_again_to_the_same_candidate_only():
    assert rules.may_grant_vote(REQUEST, VOTER._replace(voted_for="B"))
    assert not rules.may_grant_vote(REQUEST, VOTER._replace(voted_for="C"))


@pytest.mark.parametrize("term", [4, 6])
def test_no_vote_in_another_term(term):
    assert not rules.may_grant_vote(REQUEST._replace(term=term), VOTER)


@pytest.mark.parametrize(
    ("end", "is_granted"),
    [
        (LogPosition(3, 9), False),
        (LogPosition(3, 11), True),
        (LogPosition(2, 99), False),
        (LogPosition(4, 1), True),
    ],
)
def test_no_vote_for_a_log_that_may_lack_something(end, is_granted):
    assert rules.may_grant_vote(REQUEST._replace(log_end=end), VOTER) is is_granted


def test_a_pre_vote_is_for_a_later_term_where_no_leader_is_heard():
    request = REQUEST._replace(term=6, is_pre_vote=True)

    assert rules.may_grant_pre_vote(request, VOTER)
    assert rules.may_grant_pre_vote(request, VOTER._replace(voted_for="C"))
    assert not rules.may_grant_pre_vote(request._replace(term=5), VOTER)
    assert not rules.may_grant_pre_vote(request, VOTER._replace(hears_a_leader=True))
    behind = request._replace(log_end=LogPosition(3, 9))
    assert not rules.may_grant_pre_vote(behind, VOTER)


def test_a_request_disturbs_a_leader_unless_it_is_a_transfer():
    hearing = VOTER._replace(hears_a_leader=True)

    assert rules.is_disruptive(REQUEST, hearing)
    assert not rules.is_disruptive(REQUEST._replace(is_transfer=True), hearing)
    assert not rules.is_disruptive(REQUEST, VOTER)


def test_entries_must_follow_each_other_with_terms_that_can_be():
    assert rules.is_well_formed(4, 3, [entry(5, 2), entry(6, 3)])
    assert rules.is_well_formed(4, 3, [])
    assert not rules.is_well_formed(4, 3, [entry(6, 3)])
    assert not rules.is_well_formed(4, 3, [entry(5, 3), entry(7, 3)])
    assert not rules.is_well_formed(4, 3, [entry(5, 3), entry(6, 2)])
    assert not rules.is_well_formed(4, 3, [entry(5, 4)])


def test_a_log_matches_where_it_has_that_entry():
    term_at = log(1, 1, 2)

    def matches(prev_index, prev_term):
        return rules.does_log_match(
            prev_index, prev_term, last_index=3, term_at=term_at
        )

    assert matches(0, 0)
    assert matches(3, 2)
    assert not matches(3, 1)
    assert not matches(4, 2)


def test_matching_entries_are_not_new():
    """An old message may come late: what it brings is there, and more (a1)."""

    def first_new(*entries):
        return rules.first_new_entry(entries, last_index=3, term_at=log(1, 1, 2))

    assert first_new() == 0
    assert first_new(entry(2, 1)) == 1
    assert first_new(entry(2, 1), entry(3, 2)) == 2
    assert first_new(entry(2, 1), entry(3, 3)) == 1
    assert first_new(entry(3, 2), entry(4, 2)) == 1


def test_the_hint_of_a_short_log_is_what_it_lacks_first():
    hint = rules.conflict_hint(9, last_index=3, commit_index=1, term_at=log(1, 1, 2))

    assert hint == ConflictHint(4, 0)


@pytest.mark.parametrize(("commit_index", "from_index"), [(1, 3), (2, 3), (3, 4)])
def test_the_hint_of_a_conflict_is_where_its_term_begins(commit_index, from_index):
    term_at = log(1, 1, 2, 2, 2)

    hint = rules.conflict_hint(
        5, last_index=5, commit_index=commit_index, term_at=term_at
    )

    assert hint == ConflictHint(from_index, 2)


@pytest.mark.parametrize(
    ("hint", "match_index", "expected"),
    [
        (ConflictHint(3, 0), 0, 3),  # the follower's log is short
        (ConflictHint(2, 2), 0, 4),  # our last entry of its term is 3
        (ConflictHint(2, 3), 0, 2),  # we have none of that term: skip it
        (ConflictHint(9, 0), 0, 6),  # never past what was rejected
        (ConflictHint(0, 0), 0, 1),
        (ConflictHint(1, 1), 4, 5),  # never before what is known to match
    ],
)
def test_the_next_probe_goes_back_by_whole_terms(hint, match_index, expected):
    term_at = log(1, 2, 2, 4, 4, 4)

    index = rules.next_probe_index(
        hint, prev_index=6, match_index=match_index, term_at=term_at
    )

    assert index == expected


def test_an_acknowledgement_cannot_be_for_more_than_there_is():
    assert rules.is_ack_within_bounds(0, last_index=7)
    assert rules.is_ack_within_bounds(7, last_index=7)
    assert not rules.is_ack_within_bounds(8, last_index=7)
    assert not rules.is_ack_within_bounds(-1, last_index=7)


@pytest.mark.parametrize(
    ("durable", "index"),
    [([7], 7), ([7, 0], 0), ([9, 5, 0], 5), ([9, 5, 3, 3, 0], 3), ([9, 9, 9, 0], 9)],
)
def test_a_majority_has_the_median(durable, index):
    assert rules.majority_index(durable) == index


def commit(durable, term, *terms, commit_index=1):
    return rules.advanced_commit_index(
        durable, commit_index=commit_index, term=term, term_at=log(*terms)
    )


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting():
    """Raft, figure 8: entry 2 of term 2 is on a majority, and may still be replaced."""
    assert commit([3, 2, 1], 4, 1, 2, 4) == 1
    assert commit([3, 3, 1], 4, 1, 2, 4) == 3


def test_the_commit_index_never_goes_back():
    assert commit([3, 3, 3], 2, 1, 2, 2, 2, commit_index=4) == 4


def test_what_the_leader_has_not_on_disk_does_not_count():
    assert commit([1, 3, 1], 2, 1, 2, 2) == 1
    assert commit([2, 3, 1], 2, 1, 2, 2) == 2


def test_a_follower_commits_only_what_this_message_verified():
    def follow(leader_commit, verified, commit_index):
        return rules.follower_commit_index(
            leader_commit, verified_index=verified, commit_index=commit_index
        )

    assert follow(9, 4, 2) == 4
    assert follow(3, 4, 2) == 3
    assert follow(9, 1, 2) == 2
    assert follow(1, 9, 2) == 2


def test_a_majority_was_heard_when_its_last_member_was():
    assert rules.majority_heard_at_s([10.0]) == 10.0
    assert rules.majority_heard_at_s([10.0, 9.0, 2.0]) == 9.0
    assert rules.majority_heard_at_s([10.0, 9.0, 8.0, 2.0, 1.0]) == 8.0


def test_a_leader_without_a_majority_steps_down():
    assert not rules.has_lost_majority(10.0, [10.0, 9.0, 0.0], timeout_s=1.0)
    assert rules.has_lost_majority(10.1, [10.1, 9.0, 0.0], timeout_s=1.0)
    assert not rules.has_lost_majority(10.0, [10.0], timeout_s=1.0)


# Behind a snapshot


def from_base(base_index, *terms):
    """Return `term_at` of a log that begins behind a snapshot."""

    def term_at(index):
        assert index >= base_index, "the log does not go back so far"
        return terms[index - base_index]

    return term_at


def test_what_a_snapshot_covers_matches():
    """It is committed, and so the same everywhere, whatever its term was."""
    term_at = from_base(5, 3, 3, 4)

    def matches(prev_index, prev_term):
        return rules.does_log_match(
            prev_index, prev_term, last_index=7, term_at=term_at, base_index=5
        )

    assert matches(2, 1)
    assert matches(0, 0)
    assert matches(5, 3)
    assert not matches(5, 2)
    assert not matches(8, 4)


def test_entries_that_a_snapshot_covers_are_passed_over():
    term_at = from_base(5, 3, 3, 4)
    entries = [Entry(b"", index, 3) for index in range(3, 9)]

    position = rules.first_new_entry(
        entries, last_index=7, term_at=term_at, base_index=5
    )

    assert entries[position].index == 7  # where the log has another term
    assert rules.first_new_entry(
        entries[:3], last_index=7, term_at=term_at, base_index=5
    ) == len(entries[:3])


def test_a_probe_never_looks_before_the_base():
    term_at = from_base(5, 3, 3, 4)

    index = rules.next_probe_index(
        ConflictHint(2, 2), prev_index=7, match_index=0, term_at=term_at, base_index=5
    )

    assert index <= 5  # it takes a snapshot


def test_a_round_is_confirmed_by_a_majority():
    assert rules.has_confirmed([7], 7)
    assert not rules.has_confirmed([7, 6, 5], 7)
    assert rules.has_confirmed([7, 8, 5], 7)
    assert not rules.has_confirmed([7, 8, 6, 6], 7)
