"""Votes, entries and members, played on the stock package: each the shortest schedule.

For the process of `stock_schedules.py`.
"""

from pathlib import Path

import pysyncobj.config
import pysyncobj.journal
import pysyncobj.node
import pysyncobj.pickle
import pysyncobj.serializer

from tests.replication.stock_cluster import (
    LEADER,
    TIME,
    Facts,
    StockCluster,
)


def cut_acknowledged_entries(folder: Path) -> Facts:
    """F1: batches are sent again after an early acknowledgement, and cut what follows."""
    cluster = StockCluster(folder=folder)
    a = cluster.elect("A")
    for number in range(9):
        a.propose(f"v{number}", 30_000)
    a.tick()
    a.beat()
    cluster.deliver("A", "B")  # three batches, all stored
    stored = cluster["B"].last_index()
    cluster.deliver("B", "A", 1)
    a.beat()
    cluster.deliver("A", "B", 1)  # the second batch, again
    cut_to = cluster["B"].last_index()
    cluster.deliver("B", "A", 2)  # what was acknowledged before it was cut
    a.tick()
    told = a.acknowledged()
    cluster.kill("A")
    b = cluster.elect("B")
    lost = [value for value in told if value not in b.values()]
    return {"cut": stored - cut_to, "acknowledged": len(told), "lost": lost}


def commit_an_own_tail(folder: Path) -> Facts:
    """F2: a snapshot message commits whatever the follower has."""
    cluster = StockCluster(folder=folder)
    c = cluster.elect("C")
    cluster.isolate("C")
    c.propose("lost")
    c.tick()
    a = cluster.elect("A")
    for number in range(20):
        a.propose(f"v{number}")
    cluster.settle(4)
    a.compact()
    cluster.join("A", "C")
    for _ in range(8):
        a.beat()
        while cluster.waiting("A", "C") and not c.told:
            cluster.deliver("A", "C", 1)
            c.tick()
        cluster.deliver("C", "A")
    return {"told": c.told, "on the leader": "lost" in a.values()}


def count_an_old_acknowledgement(folder: Path) -> Facts:
    """F3: what B said to A in one term counts two terms later."""
    cluster = StockCluster(folder=folder)
    a, b, c = (cluster[name] for name in "ABC")
    cluster.elect("A")
    for number in range(8):
        a.propose(f"old{number}", 9_000)
    a.tick()
    _win(cluster, "C", vote_of="B")
    cluster.drop("C", "A")
    cluster.drop("C", "B")
    _win(cluster, "A", vote_of="B")
    cluster.drop("A", "C")
    cluster.deliver("A", "B")
    cluster.deliver("B", "A", 1)
    a.beat()
    cluster.drop("A", "C")
    cluster.deliver("A", "B", 1)
    late = cluster.waiting("B", "A")[-1]
    cluster.drop("B", "A")
    c.stand()  # a term in which nothing comes of it
    cluster.drop("C", "A")
    cluster.drop("C", "B")
    _win(cluster, "C", vote_of="B")
    for _ in range(6):
        c.beat()
        for sender, receiver in (("C", "A"), ("C", "B"), ("A", "C"), ("B", "C")):
            cluster.deliver(sender, receiver)
    _win(cluster, "A", vote_of="C")
    for number in range(5):
        a.propose(f"new{number}")
    a.tick()
    cluster.drop("A", "B")
    cluster.drop("A", "C")
    before = a.of_peer("raftMatchIndex", "B")
    cluster.hand_over("B", "A", late)
    a.tick()
    told = a.acknowledged()
    cluster.kill("A")
    for _ in range(2):
        c.stand()
        cluster.settle(8)
    return {
        "counted": a.of_peer("raftMatchIndex", "B") - before > 0,
        "lost": [value for value in told if value not in b.values() + c.values()],
    }


def _win(cluster: StockCluster, name: str, vote_of: str) -> None:
    """Let a server win by one vote; what it sends as leader stays on its links."""
    server = cluster[name]
    server.stand()
    for other in cluster.names:
        if other != name:
            cluster.deliver(name, other)
    votes = [
        message
        for message in cluster.waiting(vote_of, name)
        if message["type"] == "response_vote"
    ]
    for other in cluster.names:
        if other != name:
            cluster.drop(other, name)
    for vote in votes:
        cluster.hand_over(vote_of, name, vote)
    assert server.get("raftState") == LEADER, name


def forget_a_vote(folder: Path) -> Facts:
    """F6: an empty file of the term and the vote is none at all."""
    cluster = StockCluster(folder=folder)
    cluster.cut("A", "C")
    a = cluster["A"]
    a.stand()
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    cluster.kill("B")
    cluster.file("B", "journal.meta").write_bytes(b"")
    cluster.start("B")
    c = cluster["C"]
    c.stand()
    cluster.deliver("C", "B")
    cluster.deliver("B", "C")
    leaders = [one for one in (a, c) if one.get("raftState") == LEADER]
    return {"leaders": len(leaders), "terms": [a.raftCurrentTerm, c.raftCurrentTerm]}


def be_ready_with_nothing(folder: Path) -> Facts:
    """F11: a leader that has replayed nothing is ready; one that nobody hears leads on."""
    cluster = StockCluster(folder=folder)
    a = cluster.elect("A")
    for number in range(50):
        a.propose(f"v{number}")
    cluster.settle(4)
    for name in "ABC":
        cluster.kill(name)
    for name in "ABC":
        cluster.start(name).tick()
    a = cluster["A"]
    a.stand()
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    a.tick()
    fresh = [a._isLeader(), a.isReady(), len(a.values())]

    patient = StockCluster(leaderFallbackTimeout=30.0)  # the default
    a = patient.elect("A")
    patient.isolate("A")
    started_s = TIME.now_s
    while a._isLeader() and TIME.now_s - started_s < 100:
        TIME.now_s += 0.5
        a.tick()
    return {"leads, is ready, values": fresh, "leads on": TIME.now_s - started_s > 29}


def count_a_vote_twice(folder: Path) -> Facts:
    """F12: one vote of five elects if it comes twice, and so does that of a stranger."""
    cluster = StockCluster("ABCDE")
    a = cluster["A"]
    a.stand()
    cluster.deliver("A", "B")
    (vote,) = cluster.waiting("B", "A")
    cluster.hand_over("B", "A", vote)
    cluster.hand_over("B", "A", vote)

    lone = StockCluster()
    lone.isolate("A")
    stranger = pysyncobj.node.Node("0")
    lone["A"].seat._onReadonlyNodeConnected(stranger)
    lone["A"].stand()
    vote = {"type": "response_vote", "term": lone["A"].raftCurrentTerm}
    lone.hand_over("0", "A", vote)

    forged = StockCluster()
    leader = forged.elect("A")
    reply = {"type": "next_node_idx", "reset": False, "success": True}
    forged.hand_over("B", "A", {**reply, "next_node_idx": 10**9})
    return {
        "one vote of five": a._isLeader(),
        "a stranger's vote": lone["A"]._isLeader(),
        "a forged acknowledgement": leader.of_peer("raftMatchIndex", "B"),
    }


def never_find_the_place(folder: Path) -> Facts:
    """F15: a follower that differs is probed in circles behind many batches."""
    cluster = StockCluster()
    c = cluster.elect("C")
    cluster.isolate("C")
    for number in range(3):
        c.propose(f"other{number}")
    c.tick()
    a = cluster.elect("A")
    for number in range(20):
        a.propose(f"v{number}", 10_000)
    cluster.settle()
    b = cluster.elect("B")
    cluster.settle(4)
    cluster.join("A", "C")
    cluster.join("B", "C")
    cluster.settle(100)
    return {"lacks": b.last_index() - c.last_index(), "values": len(c.values())}


def depose_a_healthy_leader(folder: Path) -> Facts:
    """F18: whoever comes back stands at once, and wins nothing but the leader's end."""
    cluster = StockCluster()
    a, c = cluster.elect("A"), cluster["C"]
    cluster.isolate("C")
    a.propose("v")
    cluster.settle(3)
    cluster.join("A", "C")
    cluster.join("B", "C")
    c.stand()
    cluster.deliver("C", "A")
    cluster.deliver("C", "B")
    votes = [*cluster.waiting("A", "C"), *cluster.waiting("B", "C")]

    stale = StockCluster()
    leader = stale.elect("A")
    stale.cut("A", "C")
    stale["C"].stand()
    stale.deliver("C", "B")
    for _ in range(10):
        leader.beat()
        stale.deliver("A", "B")
        stale.deliver("B", "A")
    return {
        "votes": [one for one in votes if one["type"] == "response_vote"],
        "still leads": a._isLeader(),
        "an old leader believes that it leads": leader._isLeader(),
    }


def believe_a_commit_index(folder: Path) -> Facts:
    """F19: what was stored of it commits entries that nobody has counted."""
    cluster = StockCluster(folder=folder)
    a, c = cluster.elect("A"), cluster["C"]
    for number in range(8):
        a.propose(f"v{number}")
    cluster.settle(4)
    c.get("raftLog").onOneSecondTimer()
    for name in "ABC":
        journal = cluster.kill(name).get("raftLog")
        journal.deleteEntriesFrom(4)  # as after a loss of power
        if name != "C":
            journal.setRaftCommitIndex(4)
            journal.onOneSecondTimer()
        journal._destroy()
    for name in "ABC":
        cluster.start(name)
    cluster.cut("A", "C")
    cluster.cut("B", "C")
    a, c = cluster.elect("A"), cluster["C"]
    cluster.cut("A", "B")
    cluster.join("A", "C")
    c.tick()
    for number in range(3):
        a.propose(f"new{number}")
    a.put("raftNextIndex", dict.fromkeys(a.get("raftNextIndex"), 5))
    a.tick()
    cluster.drop("A", "C")
    a.beat()
    cluster.deliver("A", "C")
    c.tick()
    return {
        "applied though not committed": [
            value for value in c.values() if value.startswith("new")
        ],
        "ahead of the leader": c.raftLastApplied - a.raftCommitIndex,
    }


def cut_an_entry_wrongly(folder: Path) -> Facts:
    """F21: an entry of nearly 2 x 64 KiB has two last pieces."""
    cluster = StockCluster("AB")
    a = cluster.elect("A")
    body = b"\x01" + bytes(2 * 65536 - 20)
    a.get("raftLog").add(body, a.last_index() + 1, a.raftCurrentTerm)
    a.beat()
    kinds = [message.get("transmission") for message in cluster.waiting("A", "B")]
    errors = []
    while cluster.waiting("A", "B"):
        try:
            cluster.deliver("A", "B", 1)
        except Exception as error:  # noqa: BLE001  which one depends on the cut
            errors.append(type(error).__name__)
    return {"last pieces": kinds.count("finish"), "errors": len(errors)}


def ignore_a_member(folder: Path) -> Facts:
    """F22: a member counts though it is not there, and after a restart it does not."""
    cluster = StockCluster(folder=folder, dynamicMembershipChange=True)
    a = cluster.elect("A")
    cluster.cut("A", "C")
    a.addNodeToCluster(pysyncobj.node.Node("D"))
    a.tick()
    a.propose("v")
    cluster.settle()
    told = list(a.told)
    members = sorted(node.id for node in a.otherNodes)
    last_index = a.last_index()
    cluster.kill("A")
    again = cluster.start("A")
    again.tick()
    return {
        "told": told,
        "others": members,
        "in the log": again.last_index() == last_index,
        "others after a restart": sorted(node.id for node in again.otherNodes),
    }
