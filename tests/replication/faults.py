"""The faults F1 to F22 of the stock package, and the tests that show our answer to each.

A test is evidence only if it fails with the fault: so each comes with a function that
puts the stock package's behaviour back into ours, and `test_faults.py` sees it fail.
That the package does behave so is shown on the package itself (`STOCK`).
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from nodestate.errors import CorruptRecordError, OutcomeUnknownError
from tests.replication import stock_log as log, stock_parts as parts


class Evidence(NamedTuple):
    """A test, "module::function", and what makes it fail as the stock package would.

    `ends_with` are errors, beside a failed assertion, that count as that failure.
    """

    test: str
    stock: Callable[[pytest.MonkeyPatch], None]
    ends_with: tuple[type[BaseException], ...] = ()


_JOURNAL: Final = "test_journal"
_LOG: Final = "test_schedules_log"
_VOTES: Final = "test_schedules_votes"
_MEMBERS: Final = "test_schedules_members"
_OTHERS: Final = "test_schedules_faults"

FAULTS: Final[dict[str, tuple[Evidence, ...]]] = {
    "F1": (
        Evidence(
            f"{_LOG}::test_pipelined_batches_are_sent_once_and_never_cut",
            log.send_again_what_is_on_its_way,
        ),
        Evidence(
            f"{_VOTES}::test_entries_that_came_late_over_an_old_connection_cut_nothing",
            log.cut_what_matches,
        ),
    ),
    "F2": (
        Evidence(
            f"{_OTHERS}::test_an_old_leader_that_needs_a_snapshot_commits_nothing_of_its_own",
            log.commit_own_tail_on_a_sign_of_life,
        ),
        Evidence(
            f"{_MEMBERS}::test_a_snapshot_message_moves_no_index",
            log.commit_own_tail_on_a_chunk,
        ),
    ),
    "F3": (
        Evidence(
            f"{_LOG}::test_an_acknowledgement_of_an_earlier_term_counts_for_nothing",
            log.count_acknowledgements_of_any_term,
        ),
    ),
    "F4": (
        Evidence(
            f"{_OTHERS}::test_a_kill_anywhere_in_a_compaction_loses_nothing",
            parts.write_the_log_anew,
        ),
        Evidence(
            f"{_OTHERS}::test_a_kill_between_a_snapshot_and_the_shortened_log_loses_nothing",
            log.clear_a_log_that_is_longer,
        ),
        Evidence(
            "test_compaction::test_the_log_lets_go_only_once_the_snapshot_is_durable",
            parts.shorten_before_it_is_durable,
        ),
    ),
    "F5": (
        Evidence(
            f"{_VOTES}::test_nothing_is_acknowledged_before_it_is_durable",
            log.acknowledge_at_once,
        ),
        Evidence(
            f"{_VOTES}::test_a_leader_does_not_count_what_it_has_not_synced",
            log.count_what_is_not_synced,
        ),
        Evidence(
            f"{_JOURNAL}::test_power_loss_never_takes_what_was_durable",
            parts.never_sync,
            (CorruptRecordError,),
        ),
        Evidence(
            "test_recovery::test_no_flipped_bit_ever_loses_or_changes_what_was_durable",
            parts.ask_for_no_checksum,
        ),
    ),
    "F6": (
        Evidence(f"{_VOTES}::test_a_vote_survives_a_crash", log.forget_the_vote),
        Evidence(
            f"{_VOTES}::test_term_and_vote_are_durable_before_they_are_told",
            log.acknowledge_at_once,
        ),
        Evidence(
            f"{_OTHERS}::test_a_vote_that_cannot_be_read_stops_the_start",
            parts.take_damage_for_the_end,
        ),
        Evidence(
            "test_replica::test_a_directory_that_lost_its_log_but_not_its_identity_does_not_start",
            parts.take_a_lost_log_for_none,
        ),
    ),
    "F7": (
        Evidence(
            "test_installs::test_a_file_that_cannot_be_loaded_is_not_installed",
            parts.acknowledge_what_failed,
        ),
        Evidence(
            "test_offers::test_all_received_is_not_installed",
            parts.take_received_for_installed,
        ),
    ),
    "F8": (
        Evidence(
            f"{_OTHERS}::test_a_server_whose_snapshot_is_damaged_does_not_start",
            parts.begin_empty,
        ),
        Evidence(
            f"{_OTHERS}::test_a_server_whose_snapshot_is_gone_does_not_start",
            parts.begin_without_what_is_gone,
        ),
        Evidence(
            "test_disarmed::test_what_must_never_run_raises",
            parts.load_dumps_as_stock_does,
        ),
    ),
    "F9": (
        Evidence(
            f"{_OTHERS}::test_an_entry_is_applied_once_though_its_caller_goes_at_that_moment",
            parts.fail_with_the_caller,
        ),
        Evidence(
            f"{_OTHERS}::test_each_entry_is_applied_once_under_its_own_index",
            log.apply_twice_behind_the_unknown,
        ),
    ),
    "F10": (
        Evidence("test_disarmed::test_pickle_is_poisoned", parts.arm_pickle),
        Evidence(
            "test_hostile_bytes::test_no_pickle_is_run_wherever_it_comes_in",
            parts.unpickle_what_comes_in,
        ),
    ),
    "F11": (
        Evidence(
            f"{_VOTES}::test_a_new_leader_is_not_ready_before_its_own_entry_is_applied",
            log.call_every_leader_ready,
        ),
        Evidence(
            f"{_VOTES}::test_a_leader_without_a_majority_steps_down",
            log.lead_for_ever,
        ),
        Evidence(
            f"{_MEMBERS}::test_a_leader_that_is_cut_off_confirms_no_read",
            log.read_without_asking,
        ),
    ),
    "F12": (
        Evidence(
            f"{_VOTES}::test_one_vote_delivered_twice_elects_nobody",
            log.count_votes_by_number,
        ),
        Evidence(
            f"{_VOTES}::test_a_vote_of_a_stranger_counts_for_nothing",
            log.count_votes_by_number,
        ),
        Evidence(
            f"{_VOTES}::test_a_forged_answer_moves_nothing_out_of_bounds",
            log.believe_every_acknowledgement,
        ),
        Evidence(
            "test_transport::test_a_new_connection_silences_the_old_one_of_the_same_peer",
            parts.listen_to_old_connections,
        ),
    ),
    "F13": (
        Evidence(
            "test_proposer::test_a_connection_that_breaks_after_the_request_leaves_nobody_waiting",
            parts.wait_on_a_lost_connection,
            (OutcomeUnknownError,),
        ),
        Evidence(
            "test_proposer::test_a_reply_that_is_lost_does_not_matter_if_the_entry_comes",
            parts.believe_replies_alone,
            (OutcomeUnknownError,),
        ),
        Evidence(
            f"{_OTHERS}::test_a_proposal_that_could_not_be_sent_is_not_waited_for",
            parts.wait_for_what_was_not_sent,
            (OutcomeUnknownError,),
        ),
        Evidence(
            "test_proposer::test_what_is_in_the_log_twice_happens_once",
            parts.apply_repeats,
        ),
        Evidence(
            f"{_OTHERS}::test_a_proposal_whose_entry_comes_with_a_snapshot_is_answered",
            parts.forget_who_waits_at_a_snapshot,
            (OutcomeUnknownError,),
        ),
        Evidence(
            "test_attempts::test_what_a_snapshot_has_passed_by_is_tried_again",
            parts.forget_who_waits_at_a_snapshot,
            (asyncio.InvalidStateError,),
        ),
    ),
    "F14": (
        Evidence(
            "test_replica::test_an_error_while_applying_stops_every_server_at_that_entry",
            parts.try_for_ever,
        ),
        Evidence(
            f"{_OTHERS}::test_an_entry_that_cannot_be_applied_stops_the_server_at_each_start",
            parts.pass_over_what_fails,
        ),
        Evidence(
            "test_proposer::test_a_command_that_cannot_be_decided_is_never_proposed",
            parts.find_out_in_the_log,
        ),
    ),
    "F15": (
        Evidence(
            f"{_LOG}::test_a_diverging_follower_catches_up_behind_many_batches",
            log.step_forward_again,
        ),
    ),
    "F16": (
        Evidence(
            "test_records::test_positions_and_offsets_are_not_limited_to_32_bits",
            parts.count_in_32_bits,
            (struct.error,),
        ),
        Evidence(
            "test_disk::test_a_full_disk_leaves_no_file_behind",
            parts.make_files_without_room,
        ),
    ),
    "F17": (
        Evidence(
            "test_compaction::test_it_is_tried_again_ever_more_seldom_and_logged_once",
            parts.try_again_at_once,
        ),
        Evidence(
            "test_snapshots::test_what_the_disk_has_not_kept_as_written_gets_no_name",
            parts.name_before_verifying,
        ),
    ),
    "F18": (
        Evidence(
            f"{_VOTES}::test_a_server_that_was_cut_off_deposes_nobody_on_its_return",
            log.stand_without_asking,
        ),
        Evidence(
            f"{_VOTES}::test_a_vote_request_is_passed_over_while_a_leader_is_heard",
            log.hear_every_candidate,
        ),
        Evidence(
            f"{_VOTES}::test_a_deposed_leader_is_told", log.tell_old_leaders_nothing
        ),
    ),
    "F19": (
        Evidence(
            f"{_OTHERS}::test_what_is_committed_is_learnt_from_the_leader_alone",
            log.keep_the_commit_index,
        ),
    ),
    "F20": (
        Evidence(
            f"{_OTHERS}::test_a_follower_a_little_behind_needs_no_snapshot",
            parts.keep_no_tail,
        ),
        Evidence(
            f"{_MEMBERS}::test_who_takes_a_snapshot_is_alive_to_its_leader",
            log.take_who_installs_for_dead,
        ),
        Evidence(
            "test_installs::test_while_it_verifies_it_answers_that_it_is_alive",
            parts.install_in_silence,
        ),
        Evidence(
            "test_progress::test_what_is_on_its_way_is_bounded_in_bytes",
            log.send_without_bounds,
        ),
        Evidence(
            "test_transport::test_a_peer_that_does_not_keep_up_is_sent_nothing_more",
            parts.buffer_without_end,
        ),
    ),
    "F21": (
        Evidence(
            f"{_LOG}::test_entries_of_every_size_arrive_whole",
            log.cut_entries_into_chunks,
            (msgspec.DecodeError,),
        ),
    ),
    "F22": (
        Evidence(
            f"{_OTHERS}::test_a_learner_that_is_not_there_yet_stops_no_writes",
            log.count_whoever_is_added,
        ),
        Evidence(
            "test_entries::test_a_peer_may_propose_commands_and_barriers_only",
            parts.take_members_from_anybody,
        ),
        Evidence(
            f"{_MEMBERS}::test_an_uncommitted_change_is_found_again_after_a_restart",
            log.ignore_changes_in_the_log,
        ),
        Evidence(
            f"{_MEMBERS}::test_members_are_in_effect_when_appended_and_undone_when_cut_off",
            log.remember_what_was_cut,
        ),
        Evidence(
            f"{_MEMBERS}::test_a_leader_that_is_removed_commits_that_without_itself_and_hands_over",
            log.never_resign,
        ),
    ),
}

STOCK: Final[dict[str, dict[str, Any]]] = {
    "F1": {"cut": 3, "acknowledged": 9, "lost": ["v6", "v7", "v8"]},
    "F2": {"told": [["lost", "SUCCESS"]], "on the leader": False},
    "F3": {"counted": True, "lost": ["new0", "new1", "new2", "new3", "new4"]},
    "F4": {"acknowledged": 20, "lost": 10, "kept by the journal": 0},
    "F5": {"acknowledged": 50, "synced": 0, "last value": "v94"},
    "F6": {"leaders": 2, "terms": [1, 1]},
    "F7": {"the leader believes": 32, "values": 0},
    "F8": {"damaged": [True, 0, 20], "without a dump": [True, 0]},
    "F9": {
        "A": ["once", "once"],
        "B": ["once"],
        "in the log": [4, 5],
        "applied": [[3, "x"], [4, "y"], [5, "y"]],
    },
    "F10": {"command": True, "membership": True, "version": True},
    "F11": {"leads, is ready, values": [True, True, 0], "leads on": True},
    "F12": {
        "one vote of five": True,
        "a stranger's vote": True,
        "a forged acknowledgement": 999_999_999,
    },
    "F13": {
        "told": [["q", "LEADER_CHANGED"]],
        "state": ["q", "q"],
        "told of a lost one": [],
    },
    "F14": {"ticks": [False] * 5, "after a restart": [False] * 3, "state": []},
    "F15": {"lacks": 19, "values": 0},
    "F16": {"4 GiB": False, "has its room": False},
    "F17": {"still written": True, "the dump": "half", "tries in 20 ticks": True},
    "F18": {
        "votes": [],
        "still leads": False,
        "an old leader believes that it leads": True,
    },
    "F19": {
        "applied though not committed": ["new0", "new1", "new2"],
        "ahead of the leader": 3,
    },
    "F20": {"entries left": 2, "pieces": True, "answers": 0},
    "F21": {"last pieces": 2, "errors": 1},
    "F22": {
        "told": [],
        "others": ["B", "C", "D"],
        "in the log": True,
        "others after a restart": ["B", "C"],
    },
}
"""What the stock package itself does in `stock_schedules.py`: every line of it is wrong."""

SCHEDULES: Final[dict[str, str]] = {
    "a1": f"{_LOG}::test_pipelined_batches_are_sent_once_and_never_cut",
    "a3": f"{_LOG}::test_a_diverging_follower_catches_up_behind_many_batches",
    "b1": f"{_LOG}::test_an_acknowledgement_of_an_earlier_term_counts_for_nothing",
    "c1": f"{_VOTES}::test_one_vote_delivered_twice_elects_nobody",
    "c2": f"{_VOTES}::test_a_vote_of_a_stranger_counts_for_nothing",
    "c3": f"{_VOTES}::test_term_and_vote_are_durable_before_they_are_told",
    "c4": f"{_OTHERS}::test_a_vote_that_cannot_be_read_stops_the_start",
    "c5": f"{_VOTES}::test_a_deposed_leader_is_told",
    "c6": f"{_VOTES}::test_a_vote_is_told_again_to_the_same_candidate",
    "d1": f"{_VOTES}::test_nothing_is_acknowledged_before_it_is_durable",
    "d2": f"{_JOURNAL}::test_power_loss_never_takes_what_was_durable",
    "d3": "test_records::test_positions_and_offsets_are_not_limited_to_32_bits",
    "d5": f"{_OTHERS}::test_a_kill_anywhere_in_a_compaction_loses_nothing",
    "d6": f"{_OTHERS}::test_a_kill_between_a_snapshot_and_the_shortened_log_loses_nothing",
    "d7": f"{_JOURNAL}::test_a_full_disk_hurts_only_when_the_segment_is_full",
    "e1": f"{_OTHERS}::test_a_server_whose_snapshot_is_gone_does_not_start",
    "e2": f"{_OTHERS}::test_an_entry_that_cannot_be_applied_stops_the_server_at_each_start",
    "e3": f"{_OTHERS}::test_an_entry_is_applied_once_though_its_caller_goes_at_that_moment",
    "e4": f"{_OTHERS}::test_each_entry_is_applied_once_under_its_own_index",
    "e5": f"{_OTHERS}::test_what_is_committed_is_learnt_from_the_leader_alone",
    "f1": f"{_VOTES}::test_a_server_that_was_cut_off_deposes_nobody_on_its_return",
    "f2": f"{_VOTES}::test_a_leader_without_a_majority_steps_down",
    "g1": f"{_OTHERS}::test_a_server_whose_snapshot_is_damaged_does_not_start",
    "g2": f"{_OTHERS}::test_what_a_follower_says_of_a_snapshot_vouches_for_no_entry",
    "g3": f"{_OTHERS}::test_a_follower_a_little_behind_needs_no_snapshot",
    "g4": f"{_MEMBERS}::test_who_takes_a_snapshot_is_alive_to_its_leader",
    "g5": "test_compaction::test_it_is_tried_again_ever_more_seldom_and_logged_once",
    "g6": "test_snapshots::test_what_the_disk_has_not_kept_as_written_gets_no_name",
    "g8": "test_transport::test_a_peer_that_does_not_keep_up_is_sent_nothing_more",
    "h1": "test_proposer::test_a_connection_that_breaks_after_the_request_leaves_nobody_waiting",
    "h2": "test_proposer::test_a_reply_that_is_lost_does_not_matter_if_the_entry_comes",
    "h3": f"{_OTHERS}::test_a_proposal_that_could_not_be_sent_is_not_waited_for",
    "h4": "test_proposer::test_what_is_in_the_log_twice_happens_once",
    "h5": f"{_OTHERS}::test_a_proposal_whose_entry_comes_with_a_snapshot_is_answered",
    "h6": f"{_OTHERS}::test_a_deposed_leaders_proposal_is_made_again_behind_a_snapshot",
    "h7": "test_proposer::test_an_entry_that_was_replaced_is_proposed_again",
    "i1": f"{_LOG}::test_entries_of_every_size_arrive_whole",
    "j1": "test_entries::test_a_peer_may_propose_commands_and_barriers_only",
    "j2": f"{_MEMBERS}::test_an_uncommitted_change_is_found_again_after_a_restart",
    "j3": f"{_OTHERS}::test_a_learner_that_is_not_there_yet_stops_no_writes",
    "k1": "test_hostile_bytes::test_no_pickle_is_run_wherever_it_comes_in",
    "k10": f"{_VOTES}::test_malformed_entries_are_dropped",
    "k11": f"{_VOTES}::test_a_forged_answer_moves_nothing_out_of_bounds",
    "k12": "test_frames::test_a_length_beyond_the_limit_is_refused_before_anything_arrives",
    "r1": f"{_MEMBERS}::test_a_leader_that_is_cut_off_confirms_no_read",
    "r3": f"{_VOTES}::test_a_new_leader_is_not_ready_before_its_own_entry_is_applied",
    "r4": "test_transport::test_a_new_connection_silences_the_old_one_of_the_same_peer",
    "s1": f"{_OTHERS}::test_an_old_leader_that_needs_a_snapshot_commits_nothing_of_its_own",
}
"""Where the schedules of the audit are played on ours, by the audit's letters."""
