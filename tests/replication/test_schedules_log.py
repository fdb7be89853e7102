"""Schedules in which the stock package lost, cut or never sent entries: a1, a3, b1, i1."""

from nodestate.replication.frames import AppendReply, VoteReply
from tests.replication.fakes import HandCluster


def test_pipelined_batches_are_sent_once_and_never_cut():
    """a1: an early acknowledgement must not make the leader send later batches again."""
    cluster = HandCluster()
    a = cluster.elect("A")
    b = cluster["B"]
    for number in range(4):
        a.propose(f"v{number}", 700_000)
    a.step()  # several messages are on their way to B
    sent = [m for m in cluster.waiting("A", "B") if m.entries]
    assert len(sent) >= 2
    cluster.deliver("A", "B")  # B stores them all
    last_index = b.journal.last_index()
    assert last_index == a.journal.last_index()

    cluster.deliver("B", "A", 1)  # the first acknowledgement only
    cluster.beat(a)

    resent = [m for m in cluster.waiting("A", "B") if m.entries]
    assert resent == []
    cluster.links["A", "B"].appendleft(sent[0])  # even an old message, come late,
    cluster.deliver("A", "B")
    assert b.journal.last_index() == last_index  # cuts nothing
    cluster.deliver("B", "A")
    assert a.engine.commit_index() == last_index

    cluster.kill("A")
    b = cluster.elect("B")
    assert len(b.bodies()) == 4
    assert cluster["C"].bodies() == b.bodies()


def test_a_diverging_follower_catches_up_behind_many_batches():
    """a3: answers to later messages must not undo the step back of an earlier one."""
    cluster = HandCluster()
    c = cluster.elect("C")
    cluster.disconnect("A", "C")
    cluster.disconnect("B", "C")
    for number in range(3):
        c.propose(f"div{number}")
    c.step()
    a = cluster.elect("A")
    for number in range(20):
        a.propose(f"v{number}", 600_000)
    cluster.settle()
    b = cluster.elect("B")

    cluster.connect("A", "C")
    cluster.connect("B", "C")
    cluster.settle(rounds=40)

    assert c.terms() == b.terms()
    assert c.bodies() == b.bodies()
    assert len(c.bodies()) == 20


def test_an_acknowledgement_of_an_earlier_term_counts_for_nothing():
    """b1: the link from B to A is slow across two elections, and nothing else is wrong."""
    cluster = HandCluster()
    a, b, c = (cluster[name] for name in "ABC")
    cluster.elect("A")
    for number in range(8):
        a.propose(f"old{number}", 9_000)  # more than one probe holds; not sent yet

    _win(cluster, "C", with_vote_of="B")
    cluster.drop("C", "A")
    cluster.drop("C", "B")  # its no-op stays with C alone
    _win(cluster, "A", with_vote_of="B")
    cluster.drop("A", "C")
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")  # B lacks what the probe follows
    cluster.deliver("A", "B")  # B stores the first of A's old entries,
    (late,) = cluster.waiting("B", "A")  # and the answer is slow
    cluster.drop("B", "A")
    assert late.is_success
    assert b.journal.last_term() < c.journal.last_term()

    _win(cluster, "C", with_vote_of="B")
    cluster.drop("B", "A")
    for _ in range(6):
        cluster.beat(c)
        for sender, receiver in (("C", "A"), ("C", "B"), ("A", "C"), ("B", "C")):
            cluster.deliver(sender, receiver)
    assert a.terms() == b.terms() == c.terms()  # A's old entries are gone
    _win(cluster, "A", with_vote_of="C")
    cluster.drop("A", "B")
    cluster.drop("A", "C")
    for number in range(8):
        a.propose(f"new{number}")
    a.step()
    assert a.journal.last_index() >= late.match_index
    commit_before = a.engine.commit_index()

    a.engine.deliver("B", late)
    a.step()

    assert a.match_index("B") == 0
    assert a.engine.commit_index() == commit_before


def _win(cluster, name, with_vote_of):
    """Let a server become leader by one vote; what else it sends stays on its links."""
    cluster[name].engine.campaign_at_once()
    cluster[name].step()
    for peer in cluster.names:
        if peer != name:
            cluster.deliver(name, peer)
            replies = cluster.links[peer, name]
            for reply in [m for m in replies if isinstance(m, VoteReply)]:
                replies.remove(reply)
                if peer == with_vote_of:
                    assert reply.is_granted
                    cluster[name].engine.deliver(peer, reply)
    cluster[name].step()
    assert cluster[name].engine.is_leader()


def test_figure_8_an_old_entry_on_a_majority_is_not_committed():
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "C")
    a.propose("old")
    a.step()
    cluster.deliver("A", "B")  # A and B have it durably; the answer is lost
    cluster.drop("B", "A")
    index = a.journal.last_index()
    commit_before = a.engine.commit_index()
    a.engine._follow(a.engine.term(), None)

    a.engine.campaign_at_once()
    a.step()
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    assert a.engine.is_leader()
    noop = a.journal.last_index()
    # B says that it has the old entry, but not yet the one of this term.
    a.engine._on_append_reply(
        "B",
        _ack(
            term=a.engine.term(),
            sequence=a.engine._followers.next_sequence() - 1,
            match=index,
        ),
    )
    a.engine._advance_commit()
    assert a.engine.commit_index() == commit_before

    cluster.settle()
    assert a.engine.commit_index() >= noop
    assert b"\x00old" in cluster["B"].bodies()


def _ack(term, sequence, match):
    return AppendReply(term, sequence, True, match, 0, 0)


def test_entries_of_every_size_arrive_whole():
    """i1: sizes around multiples of 64 KiB broke the stock chunking."""
    cluster = HandCluster()
    a = cluster.elect("A")
    sizes = [65_536 * k + d for k in (1, 2, 3) for d in (-60, -3, -1, 0, 1)]
    sizes += [0, 1, 1_000_000, 3_000_000]
    for number, size in enumerate(sizes):
        a.propose(f"v{number}", size)
    cluster.settle(rounds=20)

    for server in cluster.servers.values():
        assert server.bodies() == a.bodies()
    assert len(a.bodies()) == len(sizes)
