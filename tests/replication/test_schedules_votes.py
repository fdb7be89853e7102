"""Schedules about votes and elections: c1, d1 (memory), f1, r3, r4, k1."""

import pytest

from nodestate.errors import JournalError, NoLeaderError, RequestError
from nodestate.ports import Role
from nodestate.replication import entries
from nodestate.replication.frames import (
    AppendEntries,
    AppendReply,
    RequestVote,
    VoteReply,
)
from nodestate.replication.records import Entry
from tests.replication.fakes import TIMEOUTS, HandCluster


def test_one_vote_delivered_twice_elects_nobody():
    """c1.1: votes are counted by member."""
    cluster = HandCluster("ABCDE")
    a = cluster["A"]
    a.engine.campaign_at_once()
    a.step()
    cluster.deliver("A", "B")
    (vote,) = cluster.waiting("B", "A")

    a.engine.deliver("B", vote)
    a.engine.deliver("B", vote)
    a.step()

    assert a.engine.role() is Role.CANDIDATE


def test_a_vote_of_a_stranger_counts_for_nothing():
    """c1.2."""
    cluster = HandCluster()
    a = cluster["A"]
    a.engine.campaign_at_once()
    a.step()

    a.engine.deliver("0", VoteReply(a.engine.term(), True))
    a.step()

    assert a.engine.role() is Role.CANDIDATE


def test_term_and_vote_are_durable_before_they_are_told():
    """c1.3: neither the request nor the answer leaves before the sync."""
    cluster = HandCluster()
    a, b = cluster["A"], cluster["B"]
    a.engine.campaign_at_once()
    a.tick()
    assert cluster.waiting("A", "B") == []
    a.sync()
    (request,) = cluster.waiting("A", "B")

    b.engine.deliver("A", request)
    b.tick()
    assert cluster.waiting("B", "A") == []
    b.sync()
    assert cluster.waiting("B", "A") == [VoteReply(request.term, True)]


def test_a_vote_survives_a_crash():
    """c1.4: after a restart nobody else gets the vote of that term."""
    cluster = HandCluster()
    a, c = cluster["A"], cluster["C"]
    a.engine.campaign_at_once()
    a.step()
    cluster.deliver("A", "B")
    cluster.kill("B")
    b = cluster.restart("B", cluster.killed.journal.after_crash())

    end = c.journal
    request = RequestVote(
        a.engine.term(), end.last_index(), end.last_term(), is_transfer=True
    )
    b.engine.deliver("C", request)
    b.step()

    assert cluster.waiting("B", "C") == [VoteReply(a.engine.term(), False)]


def test_a_vote_that_was_not_durable_was_not_given():
    cluster = HandCluster()
    a, b = cluster["A"], cluster["B"]
    a.engine.campaign_at_once()
    a.step()
    (request,) = cluster.waiting("A", "B")
    b.engine.deliver("A", request)
    b.tick()

    cluster.kill("B")
    b = cluster.restart("B", cluster.killed.journal.after_crash())

    assert b.engine.term() == 1
    assert b.journal.voted_for() is None


def test_a_deposed_leader_is_told():
    """c1.5: a message of a lower term is answered with the higher one."""
    cluster = HandCluster()
    a = cluster.elect("A")
    b = cluster["B"]
    b.journal.set_hard_state(9, None)
    b.engine._follow(9, None)
    b.step()

    cluster.beat(a)
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")

    assert a.engine.role() is Role.FOLLOWER
    assert a.engine.term() == 9


def test_a_vote_is_told_again_to_the_same_candidate():
    """c1.6: the first answer may have been lost."""
    cluster = HandCluster()
    a = cluster["A"]
    a.engine.campaign_at_once()
    a.step()
    (request,) = cluster.waiting("A", "B")
    cluster.deliver("A", "B")
    cluster.drop("B", "A")

    cluster["B"].engine.deliver("A", request)
    cluster["B"].step()

    assert cluster.waiting("B", "A") == [VoteReply(request.term, True)]


def test_a_server_that_was_cut_off_deposes_nobody_on_its_return():
    """f1: it asks first, and the others hear their leader."""
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "C")
    cluster.disconnect("B", "C")
    c, term = cluster["C"], a.engine.term()
    for _ in range(40):
        cluster.clock.now_s += TIMEOUTS.heartbeat_s
        for server in (a, cluster["B"], c):
            server.step()
        cluster.deliver("A", "B")
        cluster.deliver("B", "A")
    assert c.engine.leader_id() is None

    cluster.connect("B", "C")
    cluster.clock.now_s += 0.01
    c.engine._stand()
    c.step()
    cluster.settle()
    cluster.connect("A", "C")
    cluster.settle()

    assert a.engine.is_leader()
    assert a.engine.term() == term
    assert c.engine.leader_id() == "A"


def test_a_vote_request_is_passed_over_while_a_leader_is_heard():
    cluster = HandCluster()
    a = cluster.elect("A")
    b, term = cluster["B"], a.engine.term()

    for server in (a, b):
        server.engine.deliver("C", RequestVote(term + 5, 99, term))
        server.step()

    assert a.engine.is_leader()
    assert b.engine.term() == term


def test_a_leader_without_a_majority_steps_down():
    """f1.2: within an election timeout, and takes no proposals any more."""
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "B")
    cluster.disconnect("A", "C")

    cluster.clock.now_s += TIMEOUTS.election_s_min
    a.step()
    assert a.engine.is_leader()
    cluster.clock.now_s += 0.01
    a.step()

    assert a.engine.role() is Role.FOLLOWER
    assert a.engine.leader_id() is None
    with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
        a.propose("late")


def test_a_leader_says_how_long_it_has_not_heard_of_a_majority():
    cluster = HandCluster()
    a = cluster.elect("A")
    assert a.engine.last_contact_s() == 0.0
    assert cluster["B"].engine.last_contact_s() is not None

    cluster.clock.now_s += 0.5
    assert a.engine.last_contact_s() == pytest.approx(0.5, abs=0.2)


def test_a_leader_that_stepped_down_still_knows_when_it_heard_of_a_majority():
    cluster = HandCluster()
    a = cluster.elect("A")

    for _ in range(2):
        cluster.clock.now_s += TIMEOUTS.election_s_min
        a.step()

    assert a.engine.role() is not Role.LEADER
    silence_s = 2 * TIMEOUTS.election_s_min
    assert a.engine.last_contact_s() == pytest.approx(silence_s, abs=0.2)


def test_followers_elect_another_when_the_leader_dies():
    cluster = HandCluster()
    a = cluster.elect("A")
    a.propose("kept")
    cluster.settle()
    cluster.kill("A")

    for _ in range(60):
        cluster.clock.now_s += 0.05
        cluster.settle(rounds=1)

    leaders = [s for s in cluster.servers.values() if s.engine.is_leader()]
    assert len(leaders) == 1
    assert all(s.bodies() == [b"\x00kept"] for s in cluster.servers.values())


def test_one_server_alone_leads_once_its_vote_is_durable():
    cluster = HandCluster("A")
    a = cluster["A"]
    cluster.clock.now_s += TIMEOUTS.election_s_max
    a.tick()
    assert not a.engine.is_leader()
    a.step()
    a.step()

    assert a.engine.is_ready_to_lead()
    index = a.propose("v")
    a.tick()
    assert a.engine.commit_index() < index  # it is not on disk yet
    a.sync()
    a.tick()
    assert a.bodies() == [b"\x00v"]


def test_a_new_leader_is_not_ready_before_its_own_entry_is_applied():
    """r3: after a restart of all, a leader is behind what was acknowledged."""
    cluster = HandCluster()
    a = cluster.elect("A")
    for number in range(5):
        a.propose(f"v{number}")
    cluster.settle()
    journals = {}
    for name in "ABC":
        cluster.kill(name)
        journals[name] = cluster.killed.journal.after_crash()
    for name in "ABC":
        cluster.restart(name, journals[name])
    a, b = cluster["A"], cluster["B"]

    a.engine.campaign_at_once()
    a.step()
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")

    assert a.engine.is_leader()
    assert not a.engine.is_ready_to_lead()
    assert not a.engine.is_caught_up()
    cluster.deliver("A", "B")
    assert not b.engine.is_caught_up()
    cluster.settle()
    assert a.engine.is_ready_to_lead()
    assert all(s.engine.is_caught_up() for s in cluster.servers.values())
    assert all(len(s.bodies()) == 5 for s in cluster.servers.values())


def test_nothing_is_acknowledged_before_it_is_durable():
    """d1: a follower's word, and the leader's own count."""
    cluster = HandCluster()
    a = cluster.elect("A")
    b = cluster["B"]
    index = a.propose("v")
    a.tick()
    (message,) = cluster.waiting("A", "B")
    b.engine.deliver("A", message)
    b.tick()

    assert cluster.waiting("B", "A") == []
    b.sync()
    cluster.deliver("B", "A")  # the leader syncs here, too
    assert a.engine.commit_index() == index


def test_a_leader_does_not_count_what_it_has_not_synced():
    cluster = HandCluster()
    a = cluster.elect("A")
    index = a.propose("v")
    a.tick()
    cluster.deliver("A", "B")
    for message in cluster.waiting("B", "A"):
        a.engine.deliver("B", message)
    a.tick()
    assert a.match_index("B") == index
    assert a.engine.commit_index() < index

    a.sync()
    a.tick()
    assert a.engine.commit_index() == index


def test_entries_that_came_late_over_an_old_connection_cut_nothing():
    """r4."""
    cluster = HandCluster()
    a = cluster.elect("A")
    a.propose("first")
    a.step()
    (old,) = [m for m in cluster.waiting("A", "B") if m.entries]
    for number in range(5):
        a.propose(f"v{number}")
    cluster.settle()
    b = cluster["B"]
    terms = b.terms()

    b.engine.deliver("A", old)
    b.step()

    assert b.terms() == terms


@pytest.mark.parametrize(
    "reply",
    [
        AppendReply(2, 1, True, 999_999_999, 0, 0),
        AppendReply(2, 999_999, True, 2, 0, 0),
        AppendReply(2, 1, False, 0, 999_999_999, 999_999_999),
        AppendReply(2, 1, False, 0, 0, 0),
    ],
)
def test_a_forged_answer_moves_nothing_out_of_bounds(reply):
    """k1.11."""
    cluster = HandCluster()
    a = cluster.elect("A")
    commit_index = a.engine.commit_index()

    a.engine.deliver("B", reply)
    a.step()

    assert a.match_index("B") <= a.journal.last_index()
    assert a.engine.commit_index() == commit_index
    cluster.settle()
    assert a.engine.is_leader()


@pytest.mark.parametrize(
    "message",
    [
        AppendEntries(2, 2, 2, 0, 1, (Entry(b"\x01", 5, 2),)),
        AppendEntries(2, 2, 2, 0, 1, (Entry(b"\x01", 3, 9),)),
        AppendEntries(2, 2, 2, 0, 1, (Entry(b"\x01", 3, 2), Entry(b"\x01", 4, 1))),
    ],
)
def test_malformed_entries_are_dropped(message):
    """k1.10."""
    cluster = HandCluster()
    cluster.elect("A")
    b = cluster["B"]
    terms = b.terms()

    b.engine.deliver("A", message)
    b.step()

    assert b.terms() == terms
    assert "message from leader malformed" in b.logger.lines


def test_two_leaders_in_one_term_stop_the_server():
    cluster = HandCluster()
    a = cluster.elect("A")
    a.engine.deliver("B", AppendEntries(a.engine.term(), 1, 1, 0, 1, ()))

    with pytest.raises(JournalError, match="B leads in term 2, as we do"):
        a.tick()


def test_a_committed_entry_is_never_cut():
    cluster = HandCluster()
    cluster.elect("A")
    b = cluster["B"]
    b.engine.deliver("C", AppendEntries(7, 1, 1, 0, 1, (Entry(b"\x01", 2, 7),)))

    with pytest.raises(JournalError, match="holds another entry 2"):
        b.tick()


def test_an_entry_has_a_limit():
    cluster = HandCluster()
    a = cluster.elect("A")
    last_index = a.journal.last_index()
    a.engine.propose(bytes(entries.BODY_BYTES_MAX))

    with pytest.raises(RequestError, match="limit is"):
        a.engine.propose(bytes(entries.BODY_BYTES_MAX + 1))
    assert a.journal.last_index() == last_index + 1
