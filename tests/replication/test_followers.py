"""What a leader sends to whom; the schedules play at all of it together."""

from typing import Any

from nodestate.replication.followers import Followers
from nodestate.replication.frames import AppendReply
from nodestate.replication.records import Entry
from tests.replication.fakes import MemoryJournal


class Sent:
    def __init__(self, journal):
        self.messages: list[Any] = []
        self.needed: list[str] = []
        self.down: set[str] = set()
        self.followers = Followers(
            journal, self._send, lambda peer: peer not in self.down, self.needed.append
        )

    def _send(self, peer, message):
        self.messages.append((peer, message))
        return True

    def send(self, *, is_heartbeat_due=False, is_round=False):
        self.messages.clear()
        self.followers.send(3, 2, is_heartbeat_due=is_heartbeat_due, is_round=is_round)
        return self.messages


def progress_of(sent, peer):
    (progress,) = sent.followers.of([peer])
    return progress


def journal_of(count):
    journal = MemoryJournal()
    journal.append([Entry(b"x", index, 1) for index in range(1, count + 1)])
    return journal


def ack(sequence, match):
    return AppendReply(3, sequence, True, match, 0, 0)


def test_everyone_is_probed_first_and_then_left_in_peace():
    sent = Sent(journal_of(4))
    sent.followers.set_members({"B": "b", "C": "c"}, 0.0)

    assert [peer for peer, _ in sent.send()] == ["B", "C"]
    assert sent.send() == []
    assert len(sent.send(is_heartbeat_due=True)) == 2


def test_whoever_is_not_connected_is_not_sent_to():
    sent = Sent(journal_of(4))
    sent.followers.set_members({"B": "b", "C": "c"}, 0.0)
    sent.down.add("B")

    assert [peer for peer, _ in sent.send()] == ["C"]


def test_another_incarnation_begins_anew_and_the_others_go_on():
    sent = Sent(journal_of(4))
    sent.followers.set_members({"B": "b", "C": "c"}, 0.0)
    sent.send()
    for peer in "BC":
        assert sent.followers.on_reply(peer, ack(2, 4), 1.0)

    sent.followers.set_members({"B": "b2", "C": "c"}, 2.0)

    assert progress_of(sent, "B").match_index == 0
    assert progress_of(sent, "C").match_index == 4
    sent.followers.set_members({"C": "c"}, 2.0)
    assert sent.followers.get("B") is None
    assert len(sent.followers.of(["B", "C"])) == 1


def test_a_round_of_reads_goes_to_everyone_and_carries_nothing():
    sent = Sent(journal_of(4))
    sent.followers.set_members({"B": "b"}, 0.0)
    sent.send()
    sequence = sent.followers.next_sequence()

    ((_, message),) = sent.send(is_round=True)

    assert message.sequence == sequence
    assert (message.prev_index, message.entries) == (0, ())


def test_who_lacks_what_the_log_has_no_more_is_kept_alive_and_offered_a_snapshot():
    journal = journal_of(9)
    sent = Sent(journal)
    sent.followers.set_members({"B": "b"}, 0.0)
    sent.send()
    rejection = AppendReply(3, 1, False, 0, 1, 0)
    sent.followers.on_reply("B", rejection, 0.0)
    journal.shorten(6)

    assert sent.send() == []
    ((_, message),) = sent.send(is_heartbeat_due=True)

    assert (message.prev_index, message.entries) == (0, ())
    assert sent.needed == ["B"]
    progress_of(sent, "B").on_installed(7)
    ((_, message),) = sent.send()
    assert (message.prev_index, len(message.entries)) == (7, 2)


def test_what_cannot_be_true_is_said_so():
    sent = Sent(journal_of(4))
    sent.followers.set_members({"B": "b"}, 0.0)
    sent.send()

    assert not sent.followers.on_reply("B", ack(1, 5), 0.0)
    assert not sent.followers.on_reply("B", ack(99, 4), 0.0)
    assert sent.followers.on_reply("nobody", ack(99, 99), 0.0)
    assert progress_of(sent, "B").match_index == 0
