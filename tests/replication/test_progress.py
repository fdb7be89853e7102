"""What a leader knows of one follower's log, and when it sends."""

from nodestate.replication.progress import (
    GATHERED_ENTRIES_MIN,
    IN_FLIGHT_BYTES_MAX,
    IN_FLIGHT_MESSAGES_MAX,
    SMALL_BYTES,
    Progress,
)
from nodestate.replication.rules import ConflictHint


def term_at(index):
    return 1 if index else 0


def sent(progress, sequence, last=0, byte_count=0):
    progress.on_sent(
        sequence, last_sent_index=last, commit_index=0, byte_count=byte_count
    )


def replicating():
    progress = Progress(last_index=4, now_s=0.0)
    sent(progress, 1)
    progress.on_answer(1, 0.0)
    progress.on_match(4)
    return progress


def test_one_probe_is_out_at_a_time():
    progress = Progress(last_index=4, now_s=0.0)
    assert progress.may_send(9)

    sent(progress, 1)

    assert not progress.may_send(9)
    assert progress.next_index == 5


def test_after_a_match_batches_follow_each_other_without_waiting():
    progress = replicating()
    assert not progress.may_send(4)
    assert progress.may_send(9)

    sent(progress, 2, last=7, byte_count=10)
    assert progress.next_index == 8
    sent(progress, 3, last=9, byte_count=10)
    assert not progress.may_send(9)


def test_an_early_acknowledgement_does_not_turn_back():
    progress = replicating()
    sent(progress, 2, last=7, byte_count=10)
    sent(progress, 3, last=9, byte_count=10)

    progress.on_match(7)

    assert progress.match_index == 7
    assert progress.next_index == 10


def test_what_is_on_its_way_is_bounded_in_bytes():
    progress = replicating()
    sent(progress, 2, last=7, byte_count=IN_FLIGHT_BYTES_MAX)
    assert not progress.may_send(9)

    progress.on_answer(2, 0.0)
    assert progress.may_send(9)


def test_a_few_small_entries_wait_for_what_is_on_its_way():
    progress = replicating()
    first = progress.next_index
    assert progress.may_send(first)
    sent(progress, 2, last=first, byte_count=SMALL_BYTES - 1)

    assert not progress.may_send(first + GATHERED_ENTRIES_MIN - 1)
    assert progress.may_send(first + GATHERED_ENTRIES_MIN)

    progress.on_answer(2, 0.0)
    assert progress.may_send(first + 1)


def test_large_entries_do_not_wait_for_each_other():
    progress = replicating()
    first = progress.next_index
    sent(progress, 2, last=first, byte_count=SMALL_BYTES)

    assert progress.may_send(first + 1)


def test_what_is_on_its_way_is_bounded_in_messages():
    progress = replicating()
    for number in range(IN_FLIGHT_MESSAGES_MAX):
        assert progress.may_send(999)
        sent(progress, 2 + number, last=5 + number, byte_count=1)

    assert not progress.may_send(999)


def test_a_rejection_counts_for_the_probe_that_is_out():
    progress = Progress(last_index=9, now_s=0.0)
    sent(progress, 5)
    progress.on_rejection(4, ConflictHint(2, 0), term_at)
    assert progress.next_index == 10

    sent(progress, 6)  # a heartbeat at the same place
    progress.on_rejection(5, ConflictHint(6, 0), term_at)
    assert progress.next_index == 6
    progress.on_rejection(6, ConflictHint(3, 0), term_at)  # of the old place
    assert progress.next_index == 6
    assert progress.may_send(9)


def test_after_a_lost_connection_it_begins_at_what_is_known_to_match():
    progress = replicating()
    sent(progress, 2, last=7, byte_count=10)

    progress.probe()

    assert progress.is_probing
    assert progress.next_index == 5
    assert progress.may_send(9)


def test_a_probe_that_never_matched_stays_where_it_is():
    progress = Progress(last_index=9, now_s=0.0)
    sent(progress, 1)

    progress.probe()

    assert progress.next_index == 10
    assert progress.may_send(9)


def test_a_follower_hears_of_a_commit_once():
    progress = replicating()
    assert progress.lacks_commit(4)

    progress.on_sent(2, last_sent_index=4, commit_index=4, byte_count=0)

    assert not progress.lacks_commit(4)
    assert progress.lacks_commit(5)
