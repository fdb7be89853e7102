"""Schedules of the stock package's faults that no other module of these tests has.

Each is named with the letter that the audit of the stock package gave it.
"""

import asyncio
import random
from typing import Any, cast

import pytest

from cluster.simulation import loop
from cluster.simulation.disk import MemoryDisk
from cluster.simulation.storm import registration
from nodestate.errors import (
    CorruptRecordError,
    JournalError,
    SnapshotError,
)
from nodestate.fsm.state import State
from nodestate.model.node import NodeKey
from nodestate.model.outcome import Accepted
from nodestate.replication.compaction import Capture, Compactor, Limits
from nodestate.replication.configuration import MemberEntry
from nodestate.replication.followers import Followers
from nodestate.replication.frames import (
    SnapshotReply,
)
from nodestate.replication.records import RECORD_BYTES_MIN, LogBase
from nodestate.replication.recovery import recover, segment_name
from nodestate.replication.snapshots import SnapshotStore
from tests.fakes import FakeClock, FakeMetrics, settle
from tests.replication.fakes import HandCluster, RecordingLogger
from tests.replication.journals import (
    entries as entries_of,
    file_contents,
    flush,
    open_journal,
    with_files,
    writing,
)
from tests.replication.stores import meta
from tests.replication.tasks import RunningTasks
from tests.replication.test_replica import follower_of, leader_of, running, until

KEY = NodeKey("n1")


# Commit and apply


def test_an_old_leader_that_needs_a_snapshot_commits_nothing_of_its_own():
    """s1: neither pieces of it nor what is sent meanwhile speak of the old leader's tail."""
    cluster = HandCluster()
    c = cluster.elect("C")
    cluster.settle()
    cluster.disconnect("A", "C")
    cluster.disconnect("B", "C")
    for number in range(5):
        c.propose(f"lost{number}")
    c.step()
    commit_before = c.engine.commit_index()
    a = cluster.elect("A")
    for number in range(20):
        a.propose(f"good{number}")
    cluster.settle()
    a.journal.shorten(a.engine.commit_index())

    cluster.connect("A", "C")
    for _ in range(20):
        cluster.beat(a)
        # It ticks between any two messages.
        while cluster.waiting("A", "C"):
            cluster.deliver("A", "C", 1)
        cluster.deliver("C", "A")

    assert a.needed_snapshots
    assert c.engine.leader_id() == "A"
    assert c.journal.last_index() > commit_before
    assert c.engine.commit_index() == commit_before
    assert c.bodies() == []


def test_each_entry_is_applied_once_under_its_own_index():
    """e4: an entry that nobody knows shifts no index (the replica stops at it)."""
    cluster = HandCluster("A")
    a = cluster["A"]
    for _ in range(2):
        a.step()
    a.engine.propose(b"\x09 of a later version")
    a.propose("x")
    a.propose("y")

    a.step()

    last_index = a.journal.last_index()
    assert [entry.index for entry in a.applied] == list(range(1, last_index + 1))
    assert a.applied == [a.journal.entry(entry.index) for entry in a.applied]
    assert a.engine.applied_index() == last_index


def test_an_entry_is_applied_once_though_its_caller_goes_at_that_moment():
    """e3: nobody's waiting is a reason to apply it again, here and not elsewhere."""

    async def main():
        async with running(1) as cluster:
            server = await leader_of(cluster)
            engine = server.replica.engine
            apply, applied = engine._apply, []
            proposing = asyncio.create_task(
                server.proposer.propose(registration(KEY), deadline_s=3.0)
            )

            def cancel_and_apply(entry):
                proposing.cancel()
                apply(entry)
                applied.append(entry.index)

            engine._apply = cancel_and_apply
            await asyncio.wait([proposing])
            assert proposing.cancelled()
            await until(lambda: engine.applied_index() == engine.commit_index())
            assert not cluster.errors()
            assert applied == [engine.applied_index()]
            assert len(server.replica.state().node(KEY).events) == 1

    loop.run(main())


def test_what_is_committed_is_learnt_from_the_leader_alone():
    """e5: the power took the end of every log, and not what was said to be committed."""
    cluster = HandCluster()
    a = cluster.elect("A")
    for number in range(8):
        a.propose(f"v{number}")
    cluster.settle()
    assert cluster["C"].engine.commit_index() > 8
    journals = {}
    for name in "ABC":
        cluster.kill(name)
        journals[name] = cluster.killed.journal.after_crash()
        journals[name].truncate_from(4)
        journals[name].sync()
    for name in "ABC":
        cluster.restart(name, journals[name])
    a, c = cluster["A"], cluster["C"]
    for name in "AB":
        cluster.disconnect(name, "C")
    cluster.elect("A")
    cluster.disconnect("A", "B")
    cluster.connect("A", "C")
    for number in range(8):
        a.propose(f"new{number}")

    for _ in range(3):
        cluster.beat(a)
        cluster.deliver("A", "C")
        assert c.engine.applied_index() <= a.engine.commit_index()
        for reply in list(cluster.links["C", "A"]):
            # All but the acknowledgement of what is new.
            if reply.match_index < a.journal.last_index():
                cluster.deliver("C", "A", 1)
        cluster.drop("C", "A")

    assert c.journal.last_index() == a.journal.last_index()
    assert not [body for body in c.bodies() if body.startswith(b"\x00new")]


def test_an_entry_that_cannot_be_applied_stops_the_server_at_each_start():
    """e2: it is neither passed over nor tried for ever, and serves nothing beyond it."""

    async def main():
        async with running(1) as cluster:
            server = await leader_of(cluster)
            await server.proposer.propose(registration(KEY), deadline_s=2.0)
            server.replica.engine.propose(b"\x00 no command")
            for _ in range(2):
                await until(lambda: bool(cluster.errors()))
                (server,) = cluster.servers.values()
                assert isinstance(server.spawner.error, JournalError)
                last_index = server.replica._journal.last_index()
                assert server.replica.applied_index() < last_index
                await cluster.kill(server.server_id, with_power_loss=False)
                await cluster.start(server.server_id)

    loop.run(main())


def test_a_learner_that_is_not_there_yet_stops_no_writes():
    """j3: with one voter slow and the new member not started, the others are enough."""
    cluster = HandCluster()
    a = cluster.elect("A")
    cluster.disconnect("A", "C")
    cluster.disconnect("B", "C")
    learner = MemberEntry("D", "iD", "", "", False)
    a.engine.propose_members(a.engine.configuration().with_member(learner))

    index = a.propose("goes on")
    cluster.settle(3)

    assert a.engine.commit_index() >= index
    assert a.bodies() == cluster["B"].bodies() == [b"\x00goes on"]


# Journal and snapshots


SNAPSHOT_INDEX = 10
LAST_INDEX = 40


async def filled_journal(disk: MemoryDisk):
    """Return a journal in several segments, with a term and a vote, all durable."""
    journal = open_journal(disk)
    async with writing(journal):
        journal.set_hard_state(3, "B")
        for first in range(1, LAST_INDEX + 1, 5):
            journal.append(entries_of(first, 5, term=3, body=bytes(200)))
            await flush(journal)
    journal.close()
    disk.kill()
    disk.lock()
    return disk


async def test_a_kill_between_a_snapshot_and_the_shortened_log_loses_nothing():
    """d6: the snapshot has its name, and the log has still all that it covers."""
    disk = await filled_journal(MemoryDisk())

    again = open_journal(disk, snapshot=LogBase(SNAPSHOT_INDEX, 3))

    assert again.last_index() == LAST_INDEX
    kept = again.entries_from(SNAPSHOT_INDEX + 1, 1 << 30)
    assert [entry.index for entry in kept] == [*range(SNAPSHOT_INDEX + 1, 41)]
    assert (again.term(), again.voted_for()) == (3, "B")


@pytest.mark.parametrize("has_power_loss", [False, True])
async def test_a_kill_anywhere_in_a_compaction_loses_nothing(has_power_loss):
    """d5: at every step of it, what is above the snapshot is there again."""
    filled = file_contents(await filled_journal(MemoryDisk()))
    snapshot = LogBase(30, 3)
    removed = set()
    for turns in range(40):
        disk = with_files(filled)
        journal = open_journal(disk, snapshot=snapshot)
        async with writing(journal):
            compacting = asyncio.ensure_future(journal.compact(snapshot.index - 1))
            for _ in range(turns):
                await asyncio.sleep(0)
            if has_power_loss:
                disk.crash(random.Random(turns))
            else:
                disk.kill()
            compacting.cancel()
            await asyncio.wait([compacting])
        disk.lock()

        again = open_journal(disk, snapshot=snapshot)
        assert again.last_index() == LAST_INDEX, turns
        assert (again.term(), again.voted_for()) == (3, "B")
        assert len(again.entries_from(snapshot.index + 1, 1 << 30)) == 10
        removed.add(len(filled) - len(disk.names()))
        again.close()

    assert (
        len(removed) > 2
    )  # it was stopped at the beginning, in the middle, at the end


async def test_a_vote_that_cannot_be_read_stops_the_start():
    """c4: whichever bit of it is damaged, it is never taken for one that was not given."""
    disk = MemoryDisk()
    journal = open_journal(disk)
    async with writing(journal):
        journal.set_hard_state(7, "C")
        await flush(journal)
        vote_ends_at = journal._offset
        journal.append(entries_of(1, 1, term=7))
        await flush(journal)
    journal.close()
    disk.kill()
    vote_bytes = RECORD_BYTES_MIN + len(b"\x07.......\x01C")
    (name,) = [name for name in disk.names() if name == segment_name(1)]

    for bit in range(8 * (vote_ends_at - vote_bytes), 8 * vote_ends_at):
        damaged = with_files(file_contents(disk))
        damaged.flip_bit(name, bit)
        with pytest.raises(CorruptRecordError, match="replace this server"):
            recover(damaged)

    assert recover(disk).hard_state == (7, "C")


async def one_server_with_a_snapshot(cluster) -> str:
    """Let a server write a snapshot and shorten its log; return the snapshot's name."""
    server = await leader_of(cluster)
    for number in range(30):
        await server.proposer.propose(
            registration(NodeKey(f"n{number}")), deadline_s=2.0
        )
    journal = server.replica._journal
    await until(lambda: journal._segments[0].number > 1)
    (name, *_) = [n for n in cluster.disks["server1"].names() if n.startswith("snap")]
    await cluster.kill("server1", with_power_loss=False)
    return str(name)


SNAPSHOTS_SOON = {
    "snapshot_entries": 20,
    "snapshot_tail_entries": 2,
    "segment_bytes": 4096,
}


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_server_whose_snapshot_is_damaged_does_not_start(is_cut):
    """g1: it never runs with an empty state, and so never leads with one."""

    async def main():
        async with running(1, **SNAPSHOTS_SOON) as cluster:
            name = await one_server_with_a_snapshot(cluster)
            disk = cluster.disks["server1"]
            whole = disk.read_file(name)
            if is_cut:
                disk.put_file(name, whole[: len(whole) // 2])
            else:
                disk.flip_bit(name, 4 * len(whole))
            with pytest.raises(SnapshotError, match="replace this server"):
                await cluster.start("server1")
            cluster.kill_now("server1", has_power_loss=False)
            disk.put_file(name, whole)
            await cluster.start("server1")
            server = await leader_of(cluster)
            assert server.replica.state().node(NodeKey("n29")) is not None

    loop.run(main())


def test_a_server_whose_snapshot_is_gone_does_not_start():
    """e1: what it covers is nowhere else any more."""

    async def main():
        async with running(1, **SNAPSHOTS_SOON) as cluster:
            name = await one_server_with_a_snapshot(cluster)
            cluster.disks["server1"].remove_file(name)
            with pytest.raises(CorruptRecordError, match="replace this server"):
                await cluster.start("server1")

    loop.run(main())


def test_what_a_follower_says_of_a_snapshot_vouches_for_no_entry():
    """g2: the end of its old log is not what it has installed."""
    cluster = HandCluster()
    c = cluster.elect("C")
    cluster.disconnect("A", "C")
    cluster.disconnect("B", "C")
    for number in range(30):
        c.propose(f"junk{number}")
    c.step()
    a = cluster.elect("A")
    for number in range(40):
        a.propose(f"good{number}")
    cluster.settle()
    snapshot_index = a.engine.commit_index() - 20
    a.journal.shorten(snapshot_index + 1)
    cluster.connect("A", "C")
    cluster.beat(a)
    cluster.drop("A", "C")
    cluster.drop("C", "A")

    junk_end = c.journal.last_index()
    a.engine.deliver(
        "C", SnapshotReply(a.engine.term(), 1, snapshot_index, junk_end, True)
    )
    a.step()

    assert a.match_index("C") == 0  # whoever sent it says what it was
    a.engine.on_installed("C", snapshot_index)
    assert a.match_index("C") == snapshot_index


async def test_a_follower_a_little_behind_needs_no_snapshot():
    """g3: what a snapshot covers is kept for a while, for those that lack its end."""
    disk, tail = MemoryDisk(), 8
    journal = open_journal(await filled_journal(disk))
    tasks = RunningTasks()
    needed: list[str] = []
    sent: list[Any] = []
    compactor = Compactor(
        Limits(entries_max=1000, bytes_max=1 << 30, tail_entries=tail),
        capture=lambda: Capture(meta(LAST_INDEX, 3), State()),
        oldest_in_use=lambda: None,
        store=SnapshotStore(disk, FakeClock()),
        journal=journal,
        clock=FakeClock(),
        spawner=tasks,
        metrics=FakeMetrics(),
        logger=cast(Any, RecordingLogger()),
    )
    segment_count = journal.segment_count()

    assert (await compactor.write_now()).index == LAST_INDEX
    await settle()

    def send(_: str, message: Any) -> bool:
        sent.append(message)
        return True

    followers = Followers(journal, send, lambda _: True, needed.append)
    followers.set_members({"C": "iC"}, 0.0)
    behind = followers.get("C")
    assert behind is not None
    behind.next_index = LAST_INDEX - tail + 2
    followers.send(3, LAST_INDEX, is_heartbeat_due=True, is_round=False)

    assert journal.segment_count() < segment_count
    assert needed == []
    assert [len(message.entries) for message in sent] == [tail - 1]


# Proposals


def test_a_proposal_that_could_not_be_sent_is_not_waited_for():
    """h3: the leader is known, and not connected; it is asked as soon as it is."""

    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader_id = cluster.leader().server_id
            send = follower.replica.peers.send
            follower.replica.peers.send = lambda peer_id, message: False
            proposing = asyncio.create_task(
                follower.proposer.propose(registration(KEY), deadline_s=3.0)
            )
            await asyncio.sleep(0.01)
            assert follower.replica.status().leader_id == leader_id
            assert not proposing.done()
            follower.replica.peers.send = send
            outcome = await proposing
            assert isinstance(outcome, Accepted)
            assert follower.clock.monotonic_s() < 10.0

    loop.run(main())


async def write_until_the_log_is_shortened(cluster, server) -> None:
    for number in range(60):
        await server.proposer.propose(
            registration(NodeKey(f"other{number}")), deadline_s=2.0
        )
    await until(lambda: server.replica._journal.base_index() > 10)


def test_a_proposal_whose_entry_comes_with_a_snapshot_is_answered():
    """h5: it is never applied as an entry here, and nothing else ends the wait."""

    async def main():
        async with running(**SNAPSHOTS_SOON) as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            cluster.network.cut(leader.server_id, follower.server_id)
            proposing = asyncio.create_task(
                follower.proposer.propose(registration(KEY), deadline_s=30.0)
            )
            await until(lambda: leader.replica.state().node(KEY) is not None)
            await write_until_the_log_is_shortened(cluster, leader)
            assert not proposing.done()
            follower.replica.attempts.on_disconnected = lambda peer_id: None
            cluster.network.break_connections(leader.server_id, follower.server_id)
            cluster.network.heal()

            outcome = await proposing
            assert isinstance(outcome, Accepted)
            assert len(follower.replica.state().node(KEY).events) == 1
            assert cluster.judge.counts["snapshots installed"] == 1
            assert not follower.replica.attempts._by_index

    loop.run(main())


def test_a_deposed_leaders_proposal_is_made_again_behind_a_snapshot():
    """h6: its entry was replaced by what is in the snapshot."""

    async def main():
        async with running(**SNAPSHOTS_SOON) as cluster:
            old = await leader_of(cluster)
            others = [name for name in cluster.configs if name != old.server_id]
            for other in others:
                cluster.network.cut(old.server_id, other)
                cluster.network.cut(other, old.server_id)
            proposing = asyncio.create_task(
                old.proposer.propose(registration(KEY), deadline_s=60.0)
            )
            await until(
                lambda: cluster.leader() is not None and cluster.leader() is not old
            )
            await write_until_the_log_is_shortened(cluster, cluster.leader())
            cluster.network.heal()

            outcome = await proposing
            assert isinstance(outcome, Accepted)
            assert len(old.replica.state().node(KEY).events) == 1
            assert cluster.judge.counts["snapshots installed"] == 1
            assert not old.replica.attempts._by_index

    loop.run(main())
