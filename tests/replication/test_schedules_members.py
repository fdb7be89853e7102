"""Members that come, go and come back, and leadership that is handed over (F11, F22)."""

import pytest

from nodestate.errors import JournalError, NoLeaderError, RequestError
from nodestate.replication.configuration import (
    Configuration,
    MemberEntry,
    initial_configuration,
)
from nodestate.replication.frames import (
    AppendEntries,
    SnapshotChunk,
    SnapshotReply,
    StandNow,
)
from tests.replication.fakes import TIMEOUTS, HandCluster


def learner(name, incarnation=None):
    return MemberEntry(name, incarnation or "i" + name, "", "", False)


def voter(name):
    return MemberEntry(name, "i" + name, "", "", True)


def add_learner(cluster, leader, name):
    server = cluster.add(name)
    leader.engine.propose_members(
        leader.engine.configuration().with_member(learner(name))
    )
    return server


def promote(leader, name):
    leader.engine.propose_members(
        leader.engine.configuration().with_member(voter(name))
    )


# Learners


def test_a_learner_gets_the_log_and_counts_for_nothing():
    cluster = HandCluster()
    a = cluster.elect("A")
    d = add_learner(cluster, a, "D")
    cluster.settle()
    cluster.disconnect("A", "B")
    cluster.disconnect("A", "C")

    before = a.engine.commit_index()
    index = a.propose("alone")
    for _ in range(3):
        a.step()
        cluster.deliver("A", "D")
        cluster.deliver("D", "A")

    assert d.journal.last_index() == index
    assert a.match_index("D") == index
    assert a.engine.commit_index() == before


def test_learners_are_no_majority_however_many_they_are():
    cluster = HandCluster()
    a = cluster.elect("A")
    for name in "DE":
        add_learner(cluster, a, name)
        cluster.settle()
    for name in "BC":
        cluster.disconnect("A", name)

    index = a.propose("with D and E")
    for _ in range(3):
        a.step()
        for name in "DE":
            cluster.deliver("A", name)
            cluster.deliver(name, "A")

    assert a.match_index("D") == a.match_index("E") == index
    assert a.engine.commit_index() < index


def test_a_learner_that_is_given_a_vote_counts_from_the_entry_on():
    cluster = HandCluster("AB")
    a = cluster.elect("A")
    add_learner(cluster, a, "C")
    cluster.settle()
    promote(a, "C")
    cluster.settle()
    cluster.disconnect("A", "B")

    index = a.propose("with C")
    cluster.settle(3)

    assert a.engine.commit_index() >= index
    assert cluster["C"].engine.has_vote()


def test_a_learner_never_stands():
    cluster = HandCluster()
    a = cluster.elect("A")
    d = add_learner(cluster, a, "D")
    cluster.settle()
    for other in "ABC":
        cluster.disconnect("D", other)

    cluster.clock.now_s += 10 * TIMEOUTS.election_s_max
    d.step()

    assert d.engine._pre_votes is None
    assert not d.engine.is_leader()
    assert d.engine.term() == a.engine.term()


def test_a_slow_learner_holds_up_nobody():
    """j3: stock adds a member at once, and one that is not there yet stops the writes."""
    cluster = HandCluster("AB")
    a = cluster.elect("A")
    a.engine.propose_members(a.engine.configuration().with_member(learner("C")))

    index = a.propose("goes on")
    cluster.settle(3)

    assert a.engine.commit_index() >= index


# One step at a time


def test_one_change_at_a_time():
    cluster = HandCluster()
    a = cluster.elect("A")
    a.engine.propose_members(a.engine.configuration().with_member(learner("D")))

    with pytest.raises(RequestError, match="under way"):
        a.engine.propose_members(a.engine.configuration().with_member(learner("E")))

    cluster.settle()
    a.engine.propose_members(a.engine.configuration().with_member(learner("E")))


def test_no_change_before_an_entry_of_the_own_term_is_committed():
    """The flaw of single-server changes that was found after the thesis was written."""
    cluster = HandCluster()
    a = cluster["A"]
    a.engine.campaign_at_once()
    a.step()
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    assert a.engine.is_leader()
    assert not a.engine.is_ready_to_lead()

    with pytest.raises(NoLeaderError):
        a.engine.propose_members(a.engine.configuration().with_member(learner("D")))


@pytest.mark.parametrize(
    "members",
    [
        [],
        [learner("A"), learner("B"), learner("C")],
        [voter("A")],
        [voter("A"), voter("B"), voter("C"), voter("D"), voter("E")],
        [voter("A"), voter("B"), MemberEntry("C", "another", "", "", True)],
    ],
)
def test_no_step_moves_more_than_one_vote(members):
    cluster = HandCluster()
    a = cluster.elect("A")
    last_index = a.journal.last_index()

    with pytest.raises(RequestError):
        a.engine.propose_members(Configuration(tuple(members)))
    assert a.journal.last_index() == last_index


def test_a_follower_does_not_change_the_members():
    cluster = HandCluster()
    cluster.elect("A")
    b = cluster["B"]

    with pytest.raises(NoLeaderError):
        b.engine.propose_members(b.engine.configuration().without("C"))


# In effect when appended, undone when cut off, read again at the start


def test_members_are_in_effect_when_appended_and_undone_when_cut_off():
    cluster = HandCluster()
    a = cluster.elect("A")
    before = a.engine.configuration()
    cluster.disconnect("A", "B")
    cluster.disconnect("A", "C")
    a.engine.propose_members(before.without("C"))
    a.step()
    assert a.engine.configuration().voters() == ("A", "B")

    cluster["B"].engine.campaign_at_once()
    cluster["B"].step()
    cluster.deliver("B", "C")
    cluster.deliver("C", "B")
    cluster["B"].propose("instead")
    cluster.connect("A", "B")
    cluster.settle()

    assert a.engine.configuration() == before
    assert b"\x00instead" in a.bodies()


def test_an_uncommitted_change_is_found_again_after_a_restart():
    """j2: stock ignores one that it finds in its log."""
    cluster = HandCluster()
    a = cluster.elect("A")
    a.engine.propose_members(a.engine.configuration().with_member(learner("D")))
    a.sync()
    cluster.kill("A")

    again = cluster.restart("A", cluster.killed.journal.after_crash())

    assert again.engine.configuration().ids() == ("A", "B", "C", "D")


def test_another_data_directory_begins_from_nothing():
    """What the old one had acknowledged must not be counted for the new one."""
    cluster = HandCluster()
    a = cluster.elect("A")
    for number in range(5):
        a.propose(f"v{number}")
    cluster.settle()
    assert a.match_index("C") == a.journal.last_index()

    a.engine.propose_members(
        a.engine.configuration().with_member(learner("C", "another"))
    )

    assert a.match_index("C") == 0
    assert a.engine.configuration().voters() == ("A", "B")


# Going


def test_a_removed_server_hears_of_it_and_stands_no_more():
    cluster = HandCluster()
    a = cluster.elect("A")
    a.engine.propose_members(a.engine.configuration().without("C"))
    cluster.settle()
    c = cluster["C"]
    assert c.engine.configuration().ids() == ("A", "B")
    assert a.engine.follower("C") is None

    cluster.clock.now_s += 10 * TIMEOUTS.election_s_max
    c.step()

    assert not c.engine.is_leader()
    assert cluster.waiting("C", "A") == []


def test_a_leader_that_is_removed_commits_that_without_itself_and_hands_over():
    cluster = HandCluster()
    a = cluster.elect("A")
    index, _ = a.engine.propose_members(a.engine.configuration().without("A"))
    a.step()
    # Its own disk does not count any more: one of two others is no majority of two.
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    assert a.engine.commit_index() < index

    moment = cluster.clock.now_s
    for _ in range(8):
        for sender, receiver in list(cluster.links):
            cluster.deliver(sender, receiver)

    assert cluster.clock.now_s == moment
    assert not a.engine.is_leader()
    leaders = [name for name in "BC" if cluster[name].engine.is_leader()]
    assert len(leaders) == 1
    assert cluster[leaders[0]].engine.commit_index() > index


def test_a_single_server_grows_to_three():
    cluster = HandCluster("A")
    a = cluster["A"]
    a.step()
    a.step()
    assert a.engine.is_leader()

    for name in "BC":
        add_learner(cluster, a, name)
        cluster.settle()
        promote(a, name)
        cluster.settle()

    assert a.engine.configuration().voters() == ("A", "B", "C")
    index = a.propose("x")
    cluster.settle()
    assert all(s.engine.commit_index() >= index for s in cluster.servers.values())


# Handing over


def test_leadership_is_handed_over_without_waiting_for_anyone():
    cluster = HandCluster()
    a = cluster.elect("A")
    a.propose("before")
    a.engine.begin_transfer("B")
    moment = cluster.clock.now_s
    with pytest.raises(NoLeaderError):
        a.propose("meanwhile")

    for _ in range(6):
        a.step()
        for sender, receiver in list(cluster.links):
            cluster.deliver(sender, receiver)

    assert cluster.clock.now_s == moment
    assert cluster["B"].engine.is_leader()
    assert cluster["B"].engine.is_ready_to_lead()
    assert b"\x00before" in cluster["B"].bodies()


def test_the_successor_is_asked_only_once_it_has_all_of_the_log():
    cluster = HandCluster()
    a = cluster.elect("A")
    a.propose("late")
    a.engine.begin_transfer("B")
    a.step()
    assert not any(isinstance(m, StandNow) for m in cluster.waiting("A", "B"))

    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    assert any(isinstance(m, StandNow) for m in cluster.waiting("A", "B"))


def test_a_transfer_that_fails_ends_and_the_leader_leads_on():
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "B")
    a.propose("missing at B")
    a.engine.begin_transfer("B")

    for _ in range(25):
        cluster.settle(1)

    assert a.engine.is_leader()
    assert not a.engine.is_transferring()
    a.propose("again")


def test_only_the_leaders_own_word_makes_a_server_stand():
    cluster = HandCluster()
    a = cluster.elect("A")
    b = cluster["B"]

    b.engine.deliver("C", StandNow(a.engine.term()))
    b.engine.deliver("A", StandNow(a.engine.term() - 1))
    b.step()

    assert b.engine.term() == a.engine.term()


def test_a_learner_does_not_take_over():
    cluster = HandCluster()
    a = cluster.elect("A")
    d = add_learner(cluster, a, "D")
    cluster.settle()

    d.engine.deliver("A", StandNow(a.engine.term()))
    d.step()

    assert d.engine.term() == a.engine.term()


@pytest.mark.parametrize("name", ["A", "D", "L"])
def test_leadership_goes_to_another_voter_only(name):
    cluster = HandCluster()
    a = cluster.elect("A")
    add_learner(cluster, a, "L")
    cluster.settle()

    with pytest.raises(RequestError):
        a.engine.begin_transfer(name)


def test_the_best_successor_is_one_that_was_heard_of_and_has_most():
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "B")
    a.propose("C has it")
    cluster.settle(2)
    assert a.engine.best_successor() == "C"


# Linearizable reads


def begin_read(server):
    found: list[int | None] = []
    server.engine.begin_read(found.append)
    return found


def test_a_read_is_confirmed_by_a_majority_that_answers_after_it():
    cluster = HandCluster()
    a = cluster.elect("A")
    index = a.propose("acknowledged")
    cluster.settle()

    found = begin_read(a)
    a.step()
    assert found == []
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")

    assert found
    assert found[0] >= index


def test_an_answer_to_an_older_message_confirms_nothing():
    """r1: whoever answered before the read may have voted for another since."""
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.beat(a)
    cluster.deliver("A", "B")
    cluster.deliver("A", "C")

    found = begin_read(a)
    cluster.deliver("B", "A")
    cluster.deliver("C", "A")

    assert found == []


def test_a_leader_that_is_cut_off_confirms_no_read():
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "B")
    cluster.disconnect("A", "C")

    found = begin_read(a)
    for _ in range(15):
        cluster.beat(a)

    assert found == [None]
    assert not a.engine.is_leader()


def test_a_new_leader_confirms_no_read_before_its_own_entry_is_applied():
    """r3: it does not know yet what was committed before it."""
    cluster = HandCluster()
    a = cluster["A"]
    a.engine.campaign_at_once()
    a.step()
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    assert a.engine.is_leader()

    assert begin_read(a) == [None]


def test_a_server_alone_confirms_at_once():
    cluster = HandCluster("A")
    a = cluster["A"]
    a.step()
    a.step()

    found = begin_read(a)
    a.step()

    assert found == [a.engine.commit_index()]


def test_a_round_waits_for_no_disk():
    """Entries that are not durable at a follower yet do not hold up its answer."""
    cluster = HandCluster()
    a = cluster.elect("A")
    b = cluster["B"]
    a.propose("not synced at B")
    a.step()
    b.engine.deliver("A", cluster.links["A", "B"].popleft())
    b.tick()
    assert cluster.waiting("B", "A") == []

    begin_read(a)
    a.step()
    message = cluster.links["A", "B"].popleft()
    b.engine.deliver("A", message)
    b.tick()

    assert isinstance(message, AppendEntries)
    assert message.entries == ()
    assert len(cluster.waiting("B", "A")) == 1


# Followers that the log cannot help


def test_a_follower_behind_the_log_is_left_to_a_snapshot_and_kept_alive():
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "C")
    cluster.disconnect("B", "C")
    for number in range(10):
        a.propose(f"v{number}")
    cluster.settle(3)
    a.journal.shorten(a.engine.commit_index())
    cluster.connect("A", "C")
    cluster.settle(3)

    assert "C" in a.needed_snapshots
    c = cluster["C"]
    assert c.journal.last_index() < a.journal.base_index()
    assert c.engine.leader_id() == "A"
    follower = a.engine.follower("C")
    assert follower is not None
    assert follower[1] < TIMEOUTS.election_s_min


def test_after_a_snapshot_the_log_goes_on_behind_it():
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "C")
    for number in range(10):
        a.propose(f"v{number}")
    cluster.settle(3)
    snapshot_index = a.engine.commit_index()
    a.journal.shorten(snapshot_index + 1)
    cluster.connect("A", "C")
    cluster.settle(2)

    c = cluster["C"]
    c.journal.reset_to(
        type(a.journal._base)(snapshot_index, a.journal.term_at(snapshot_index))
    )
    c.engine.adopt_snapshot(snapshot_index, 1, initial_configuration(cluster.formation))
    a.engine.on_installed("C", snapshot_index)
    index = a.propose("behind")
    cluster.settle()

    assert c.engine.commit_index() >= index
    assert [entry.index for entry in c.applied if entry.index > snapshot_index]
    assert b"\x00behind" in c.bodies()


def chunk_of(leader, term=None):
    return SnapshotChunk(term or leader.engine.term(), 1, 9, 1, 100, 0, b"x")


def test_who_takes_a_snapshot_is_alive_to_its_leader():
    """g4: stock takes a follower that installs one for dead."""
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.clock.now_s += 0.5

    a.engine.deliver("B", SnapshotReply(a.engine.term(), 1, 9, 1, False))
    a.tick()

    follower = a.engine.follower("B")
    assert follower is not None
    assert follower[1] == 0.0
    assert a.snapshot_replies


def test_a_leader_that_sends_a_snapshot_is_obeyed_and_an_old_one_told():
    cluster = HandCluster()
    a = cluster.elect("A")
    b = cluster["B"]
    cluster.clock.now_s += 0.9
    b.engine.deliver("A", chunk_of(a))
    b.step()
    assert b.chunks
    assert b.engine.last_contact_s() == 0.0

    b.chunks.clear()
    b.engine.deliver("C", chunk_of(a, term=a.engine.term() - 1))
    b.step()
    assert b.chunks == []
    assert cluster.waiting("B", "C")[-1].term == b.engine.term()


def test_a_snapshot_message_moves_no_index():
    """s1: stock commits the follower's own tail with it (F2)."""
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "B")
    cluster.disconnect("A", "C")
    a.propose("own tail")
    a.step()
    commit_before, last_before = a.engine.commit_index(), a.journal.last_index()

    newer = SnapshotChunk(a.engine.term() + 1, 1, 99, 1, 100, 0, b"x")
    a.engine.deliver("B", newer)
    a.step()

    assert a.engine.commit_index() == commit_before
    assert a.journal.last_index() == last_before
    assert b"\x00own tail" not in a.bodies()


def test_two_leaders_in_one_term_stop_a_server_that_is_sent_a_snapshot():
    cluster = HandCluster()
    a = cluster.elect("A")
    a.engine.deliver("B", chunk_of(a))

    with pytest.raises(JournalError, match="as we do"):
        a.tick()
