"""Proposals and their attempts, and how each of them ends."""

import asyncio

import pytest

from nodestate.fsm.requests import OUTCOMES_MAX
from nodestate.model.outcome import STALE_REQUEST, Accepted, RefusalCode, Refused
from nodestate.model.request import Origin
from nodestate.replication.attempts import (
    DISCONNECTED,
    LEADER_CHANGED,
    PASSED_BY,
    REPLACED,
    AttemptBook,
    Expired,
    NotAppended,
    Resolved,
)
from nodestate.replication.frames import ProposalReply

RESOLVED = Resolved(7, Accepted(index=7))
STALE = Resolved(7, Refused(RefusalCode.STALE_REQUEST, STALE_REQUEST))


async def opened(book, **options):
    """Return an open attempt of a new proposal, sent to B."""
    attempt = book.open(book.begin(), **options)
    attempt.peer_id = "B"
    return attempt


def end(book, attempt):
    book.close(attempt)
    book.finish(attempt.pending)


def is_empty(book):
    return not (book._by_id or book._by_index or book._pending)


async def test_its_own_entry_resolves_an_attempt():
    book = AttemptBook("A", "boot")
    pending = book.begin()
    attempt = book.open(pending)
    book.place(attempt, 7, 2)

    book.resolve(pending.origin, RESOLVED)
    book.on_applied(7, 2)

    assert attempt.ending.result() == RESOLVED
    end(book, attempt)
    assert is_empty(book)


async def test_a_proposal_is_resolved_without_an_open_attempt():
    book = AttemptBook("A", "boot")
    first = await opened(book)
    book.close(first)

    book.resolve(first.pending.origin, RESOLVED)

    assert first.pending.resolved == RESOLVED
    assert not first.ending.done()


async def test_whichever_attempt_is_applied_resolves_the_open_one():
    book = AttemptBook("A", "boot")
    first = await opened(book)
    book.place(first, 7, 2)
    book.close(first)
    second = book.open(first.pending)
    book.place(second, 9, 3)

    book.resolve(first.pending.origin, RESOLVED)
    book.resolve(first.pending.origin, Resolved(9, Accepted(index=9)))

    assert second.ending.result() == RESOLVED
    assert first.pending.resolved == RESOLVED


async def test_another_start_or_server_has_other_proposals():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)
    sequence = attempt.pending.origin.sequence

    book.resolve(Origin("A", "earlier", sequence), RESOLVED)
    book.resolve(Origin("B", "boot", sequence), RESOLVED)
    book.resolve(Origin("A", "boot", sequence + 1), RESOLVED)

    assert not attempt.ending.done()


async def test_an_entry_of_another_term_in_its_place_means_lost():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)
    book.place(attempt, 7, 2)

    book.on_applied(6, 3)
    assert not attempt.ending.done()
    book.on_applied(7, 3)

    assert attempt.ending.result() == REPLACED
    end(book, attempt)
    assert is_empty(book)


async def test_a_reply_places_an_attempt():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)

    book.on_reply("B", ProposalReply(attempt.attempt_id, 7, 2, ""), applied_term=None)
    book.on_applied(7, 3)

    assert attempt.ending.result() == REPLACED


async def test_a_reply_after_another_entry_was_applied_there_means_lost():
    book = AttemptBook("A", "boot")
    same, other = await opened(book), await opened(book)

    book.on_reply("B", ProposalReply(same.attempt_id, 7, 2, ""), applied_term=2)
    book.on_reply("B", ProposalReply(other.attempt_id, 7, 2, ""), applied_term=3)

    assert not same.ending.done()
    assert other.ending.result() == REPLACED


async def test_a_reply_about_an_entry_that_is_in_no_log_any_more_means_lost():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)

    book.on_reply("B", ProposalReply(attempt.attempt_id, 7, 2, ""), applied_term=0)

    assert attempt.ending.result() == REPLACED


async def test_a_refusal_ends_an_attempt():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)

    book.on_reply("B", ProposalReply(attempt.attempt_id, 0, 0, "no"), applied_term=None)

    assert attempt.ending.result() == NotAppended("no")


async def test_only_the_asked_server_answers():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)

    book.on_reply("C", ProposalReply(attempt.attempt_id, 0, 0, "no"), applied_term=None)
    book.on_reply("B", ProposalReply(999, 0, 0, "no"), applied_term=None)

    assert not attempt.ending.done()


async def test_the_first_ending_counts():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)

    attempt.expire()
    attempt.end(RESOLVED)

    assert attempt.ending.result() == Expired()


async def test_a_caller_that_has_gone_hears_nothing():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)
    attempt.ending.cancel()

    attempt.end(RESOLVED)
    await asyncio.sleep(0)

    assert attempt.ending.cancelled()


async def test_closing_one_of_two_in_the_same_place_leaves_the_other():
    book = AttemptBook("A", "boot")
    first, second = await opened(book), await opened(book)
    book.place(first, 7, 2)
    book.place(second, 7, 3)

    book.close(first)
    book.on_applied(7, 4)

    assert not first.ending.done()
    assert second.ending.result() == REPLACED


# What may be in a log


@pytest.mark.parametrize("is_placed", [False, True])
async def test_a_new_leader_ends_what_it_need_not_have(is_placed):
    book = AttemptBook("A", "boot")
    attempt = await opened(book)
    if is_placed:
        book.place(attempt, 7, 2)

    book.on_leader_changed("B")
    book.on_leader_changed(None)
    assert not attempt.ending.done()
    book.on_leader_changed("C")

    assert attempt.ending.result() == LEADER_CHANGED


async def test_what_a_leader_has_appended_itself_is_ended_once_it_is_deposed():
    book = AttemptBook("A", "boot")
    attempt = book.open(book.begin())
    book.place(attempt, 7, 2)

    book.on_leader_changed("A")
    assert not attempt.ending.done()
    book.on_leader_changed("B")

    assert attempt.ending.result() == LEADER_CHANGED


async def test_a_lost_connection_ends_what_went_over_it():
    book = AttemptBook("A", "boot")
    attempt, placed = await opened(book), await opened(book)
    book.place(placed, 7, 2)

    book.on_disconnected("C")
    assert not attempt.ending.done()
    book.on_disconnected("B")

    assert attempt.ending.result() == DISCONNECTED
    assert placed.ending.result() == DISCONNECTED


async def test_the_only_attempt_is_waited_for_to_the_end():
    book = AttemptBook("A", "boot")
    attempt = await opened(book, is_only=True)

    book.on_leader_changed("C")
    book.on_disconnected("B")

    assert not attempt.ending.done()


async def test_a_snapshot_resolves_what_its_state_remembers():
    book = AttemptBook("A", "boot")
    found, without_attempt, other = [await opened(book) for _ in range(3)]
    book.close(without_attempt)
    asked = []

    def find(origin):
        asked.append(origin)
        return None if origin == other.pending.origin else RESOLVED

    book.on_installed(20, find)

    assert found.ending.result() == RESOLVED
    assert without_attempt.pending.resolved == RESOLVED
    assert not other.ending.done()
    assert asked == [
        one.pending.origin for one in (found, without_attempt, other)
    ]  # fmt: skip


async def test_what_a_snapshot_has_passed_by_is_tried_again():
    """Even the only attempt: its entry will not be applied here, whatever it was."""
    book = AttemptBook("A", "boot")
    below, at, above = [await opened(book, is_only=True) for _ in range(3)]
    for attempt, index in ((below, 19), (at, 20), (above, 21)):
        book.place(attempt, index, 2)

    book.on_installed(20, lambda origin: None)

    assert below.ending.result() == PASSED_BY
    assert at.ending.result() == PASSED_BY
    assert not above.ending.done()


# Floors


def known_book():
    """Return a book whose boot id the state machine knows."""
    book = AttemptBook("A", "boot")
    pending = book.begin()
    book.resolve(pending.origin, RESOLVED)
    book.finish(pending)
    return book


def test_the_floor_is_the_lowest_sequence_that_is_waited_for():
    book = known_book()

    second, third, fourth = book.begin(), book.begin(), book.begin()
    assert [one.floor for one in (second, third, fourth)] == [2, 2, 2]
    book.finish(third)
    assert book.begin().floor == 2
    book.finish(second)
    assert book.begin().floor == 4
    book.finish(fourth)
    assert book.begin().floor == 5


def test_a_proposal_that_is_waited_for_alone_is_its_own_floor():
    book = known_book()

    for sequence in range(2, 5):
        pending = book.begin()
        assert (pending.origin.sequence, pending.floor) == (sequence, sequence)
        book.finish(pending)


@pytest.mark.parametrize("resolved", [None, Resolved(7, None), STALE])
def test_the_floor_stays_until_the_state_machine_knows_the_boot_id(resolved):
    """A barrier is not remembered, and a refusal says that nothing is."""
    book = AttemptBook("A", "boot")
    pending = book.begin()
    if resolved is not None:
        book.resolve(pending.origin, resolved)
    book.finish(pending)

    assert book.begin().floor == 1


def test_what_nobody_waits_for_any_more_makes_the_boot_id_known():
    book = AttemptBook("A", "boot")
    pending = book.begin()
    book.finish(pending)

    book.resolve(pending.origin, RESOLVED)

    assert book.begin().floor == 2


async def test_a_new_boot_id_has_a_floor_of_its_own_and_keeps_what_is_waited_for():
    book = known_book()
    old = await opened(book)

    book.renew(old.pending.origin, "boot2")
    new = book.begin()

    assert new.origin == Origin("A", "boot2", 3)
    assert new.floor == 1
    book.resolve(old.pending.origin, RESOLVED)
    assert old.ending.result() == RESOLVED
    assert book.begin().floor == 1
    book.resolve(new.origin, RESOLVED)
    book.finish(old.pending)
    assert book.begin().floor == 3


def test_a_boot_id_is_renewed_once():
    book = known_book()
    refused = [book.begin(), book.begin()]

    book.renew(refused[0].origin, "boot2")
    book.renew(refused[1].origin, "boot3")

    assert book.begin().origin.boot_id == "boot2"


def test_nobody_gets_further_ahead_than_is_remembered():
    book = known_book()
    first = book.begin()
    for _ in range(OUTCOMES_MAX - 1):
        assert book.has_room()
        book.finish(book.begin())

    assert not book.has_room()
    book.finish(first)
    assert book.has_room()
