"""Attempts, and how each of them ends."""

import asyncio

from nodestate.model.outcome import Accepted
from nodestate.model.request import Origin
from nodestate.replication.attempts import (
    REPLACED,
    AttemptBook,
    Expired,
    NotAppended,
    Resolved,
)
from nodestate.replication.frames import ProposalReply

RESOLVED = Resolved(7, Accepted(index=7))


async def opened(book):
    """Return an open attempt of a new proposal, sent to B."""
    attempt = book.open(book.new_origin())
    attempt.peer_id = "B"
    return attempt


def is_empty(book):
    return not (book._by_id or book._by_index or book._by_sequence)


async def test_its_own_entry_resolves_an_attempt():
    book = AttemptBook("A", "boot")
    origin = book.new_origin()
    attempt = book.open(origin)
    book.place(attempt, 7, 2)

    book.resolve(origin, RESOLVED)
    book.on_applied(7, 2)

    assert attempt.ending.result() == RESOLVED
    book.close(attempt)
    assert is_empty(book)


async def test_another_start_or_server_has_other_proposals():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)

    book.resolve(Origin("A", "earlier", attempt.sequence), RESOLVED)
    book.resolve(Origin("B", "boot", attempt.sequence), RESOLVED)
    book.resolve(Origin("A", "boot", attempt.sequence + 1), RESOLVED)

    assert not attempt.ending.done()


async def test_an_entry_of_another_term_in_its_place_means_lost():
    book = AttemptBook("A", "boot")
    attempt = await opened(book)
    book.place(attempt, 7, 2)

    book.on_applied(6, 3)
    assert not attempt.ending.done()
    book.on_applied(7, 3)

    assert attempt.ending.result() == REPLACED
    book.close(attempt)
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
