"""Replicas on simulated disks and links: forming, applying, asking, and what stops them."""

import asyncio
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from cluster.simulation import loop
from cluster.simulation.servers import SimulatedCluster
from cluster.simulation.storm import SETTINGS, registration
from nodestate.errors import (
    ConfigError,
    FormationError,
    JournalError,
    NoLeaderError,
    OutcomeUnknownError,
)
from nodestate.model.node import NodeKey
from nodestate.replication.configuration import Image, decode_image, encode_image
from nodestate.replication.formation import IDENTITY_FILE
from nodestate.replication.frames import (
    AppendReply,
    Proposal,
    SnapshotReply,
    StateDigest,
    VoteReply,
)

KEY = NodeKey("n1")


@asynccontextmanager
async def running(server_count=3, seed=1, **settings):
    cluster = SimulatedCluster(seed, server_count, {**SETTINGS, **settings})
    for name in cluster.configs:
        await cluster.start(name)
    try:
        yield cluster
    finally:
        await cluster.stop()


async def until(condition, timeout_s=20.0):
    waited_s = 0.0
    while not condition():
        assert waited_s < timeout_s, "it never came true"
        await asyncio.sleep(0.01)
        waited_s += 0.01


async def leader_of(cluster):
    await until(lambda: cluster.leader() is not None)
    return cluster.leader()


async def follower_of(cluster):
    leader = await leader_of(cluster)
    await until(
        lambda: all(
            s.replica.status().leader_id == leader.server_id
            for s in cluster.servers.values()
        )
    )
    return next(s for s in cluster.servers.values() if s is not leader)


def test_three_empty_servers_form_one_cluster():
    async def main():
        async with running() as cluster:
            await leader_of(cluster)
            await until(lambda: all(s.replica.is_caught_up() for s in servers(cluster)))
            first = {s.replica._journal.entry(1) for s in servers(cluster)}
            assert len(first) == 1
            assert not cluster.watcher.violations

    loop.run(main())


def servers(cluster):
    return list(cluster.servers.values())


def test_no_cluster_forms_while_a_server_is_missing():
    async def main():
        cluster = SimulatedCluster(1, 3, SETTINGS)
        await cluster.start("server1")
        await cluster.start("server2")
        await asyncio.sleep(20)
        assert all(s.replica.status().term == 0 for s in servers(cluster))
        assert not servers(cluster)[0].replica.is_caught_up()

        await cluster.start("server3")
        await leader_of(cluster)
        await cluster.stop()

    loop.run(main())


def test_a_single_server_is_ready_at_once():
    async def main():
        async with running(1) as cluster:
            await asyncio.sleep(0.2)
            assert cluster.leader() is not None
            status = cluster.leader().replica.status()
            assert status.is_leader
            assert status.leader_id == "server1"
            assert status.last_contact_s == 0.0

    loop.run(main())


def members_of(cluster):
    leader = cluster.leader()
    return (
        {}
        if leader is None
        else {
            member.server_id: member
            for member in leader.administration.membership().members
        }
    )


def test_a_server_with_an_emptied_directory_comes_back_as_a_learner_and_then_votes():
    """Its old votes and acknowledgements are not counted for the new one."""

    async def main():
        async with running() as cluster:
            await leader_of(cluster)
            before = members_of(cluster)["server2"]
            await cluster.kill("server2", with_power_loss=False)
            for name in cluster.disks["server2"].names():
                cluster.disks["server2"].remove_file(name)
            roles = []

            def is_voter_again():
                member = members_of(cluster).get("server2", before)
                if member.incarnation != before.incarnation:
                    roles.append(member.is_voter)
                return roles[-1:] == [True]

            server = await cluster.start("server2")
            await until(is_voter_again)
            assert roles[0] is False
            leader = await leader_of(cluster)
            await leader.proposer.propose(registration(KEY), deadline_s=3.0)
            await until(lambda: server.replica.state().node(KEY) is not None)
            assert server.spawner.error is None

    loop.run(main())


@pytest.mark.parametrize(
    "message",
    [
        AppendReply(2, 1, True, 5, 0, 0),
        VoteReply(2, is_granted=True),
        SnapshotReply(2, 1, 5, 5, True),
        StateDigest(5, (("nodes", b"x"),)),
    ],
)
def test_what_counts_does_so_for_a_data_directory_and_not_for_a_name(message):
    """An emptied directory has forgotten its promises, and must not stand in for them."""

    async def main():
        async with running() as cluster:
            replica = (await leader_of(cluster)).replica
            other = next(s for s in servers(cluster) if s.replica is not replica)
            counted = []
            replica.engine.deliver = lambda *told: counted.append(told)
            replica._agreement.on_digest = lambda *told: counted.append(told)
            replica.on_message(other.server_id, message)
            assert counted == [(other.server_id, message)]

            counted.clear()
            replica.peers._introductions._spoke[other.server_id] = "another"
            replica.on_message(other.server_id, message)
            assert counted == []
            replica.peers._introductions._spoke.clear()
            replica.on_message("server9", message)
            assert counted == []

    loop.run(main())


def test_a_snapshot_of_another_cluster_is_not_installed():
    async def main():
        async with running() as cluster:
            replica = (await leader_of(cluster)).replica
            saved = await replica.snapshots.save(deadline_s=3.0)
            info = replica._store.newest()
            assert info.name == saved.name
            image = decode_image(info.configuration)
            other = msgspec.structs.replace(image.formation, cluster_id="another")
            foreign = msgspec.structs.replace(
                info, configuration=encode_image(Image(other, image.configuration))
            )
            with pytest.raises(JournalError, match="of another cluster"):
                replica.snapshots._install(foreign, replica.state())

    loop.run(main())


def test_a_directory_that_lost_its_log_but_not_its_identity_does_not_start():
    async def main():
        async with running() as cluster:
            await leader_of(cluster)
            await cluster.kill("server2", with_power_loss=False)
            for name in cluster.disks["server2"].names():
                if name != IDENTITY_FILE:
                    cluster.disks["server2"].remove_file(name)
            with pytest.raises(FormationError, match="its log is gone"):
                await cluster.start("server2")

    loop.run(main())


def test_a_log_without_its_identity_does_not_start():
    async def main():
        async with running() as cluster:
            await leader_of(cluster)
            await cluster.kill("server2", with_power_loss=False)
            cluster.disks["server2"].remove_file(IDENTITY_FILE)
            with pytest.raises(FormationError):
                await cluster.start("server2")
            cluster.servers.pop("server2")

    loop.run(main())


def test_a_failed_sync_stops_the_server_and_the_others_go_on():
    """d1, d7: what could not be synced is acknowledged by nobody."""

    async def main():
        async with running() as cluster:
            leader = await leader_of(cluster)
            cluster.disks[leader.server_id].failing["sync"] = 5
            proposing = asyncio.create_task(_propose_in_vain(leader))
            await until(lambda: leader.spawner.error is not None)
            assert isinstance(leader.spawner.error, JournalError)
            await cluster.kill(leader.server_id, with_power_loss=True)
            proposing.cancel()
            new = await leader_of(cluster)
            await new.proposer.propose(registration(NodeKey("n2")), deadline_s=2.0)

    loop.run(main())


async def _propose_in_vain(server):
    with suppress(OutcomeUnknownError):
        await server.proposer.propose(registration(KEY), deadline_s=3.0)


def test_an_error_while_applying_stops_every_server_at_that_entry():
    """e1.2: nothing is skipped, nothing is tried again."""

    async def main():
        async with running() as cluster:
            leader = await leader_of(cluster)
            leader.replica.engine.propose(b"\x00 no command")
            await until(lambda: all(s.spawner.error for s in servers(cluster)))
            indexes = {s.replica.applied_index() for s in servers(cluster)}
            assert len(indexes) == 1
            assert all(
                isinstance(s.spawner.error, JournalError) for s in servers(cluster)
            )

    loop.run(main())


def test_a_caller_that_went_away_changes_nothing():
    """e1.3: an entry is applied once, whoever waits for it."""

    async def main():
        async with running() as cluster:
            leader = await leader_of(cluster)
            proposing = asyncio.create_task(
                leader.proposer.propose(registration(KEY), deadline_s=3.0)
            )
            await asyncio.sleep(0)
            proposing.cancel()
            await until(lambda: leader.replica.state().node(KEY) is not None)
            assert not cluster.errors()
            assert not leader.replica.attempts._by_id
            assert not leader.replica.attempts._by_index

    loop.run(main())


def test_a_peers_hostile_proposal_is_turned_down():
    """k1.5 to k1.7: it never enters the log, where it would stop everyone."""

    async def main():
        async with running() as cluster:
            leader = await leader_of(cluster)
            last_index = leader.replica._journal.last_index()
            for kind in (0, 2, 3, 9):
                body = bytes([kind]) + b"cos\nsystem\n(S'true'\ntR."
                leader.replica.on_message("server2", Proposal(1, body))
            assert leader.replica._journal.last_index() == last_index
            assert not cluster.errors()

    loop.run(main())


def test_waiting_for_an_index_has_a_deadline():
    async def main():
        async with running(1) as cluster:
            server = await leader_of(cluster)
            replica = server.replica
            index = replica.applied_index()
            assert await replica.wait_until_applied(index, deadline_s=0.0)
            assert not await replica.wait_until_applied(index + 1, deadline_s=0.5)
            waiting = asyncio.create_task(
                replica.wait_until_applied(index + 1, deadline_s=5.0)
            )
            await server.proposer.barrier(deadline_s=1.0)
            assert await waiting

    loop.run(main())


def test_a_tick_that_changes_the_term_shows_in_the_same_moment():
    async def main():
        async with running() as cluster:
            replica = (await leader_of(cluster)).replica
            before = replica.status()
            newer = VoteReply(before.term + 5, is_granted=False)
            other = next(s for s in servers(cluster) if s.replica is not replica)

            replica.engine.deliver(other.server_id, newer)
            replica._tick(replica.engine)

            after = replica.status()
            assert before.is_leader
            assert not after.is_leader
            assert after.term == before.term + 5

    loop.run(main())


def test_a_change_of_leader_is_told():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            seen = []
            follower.replica.on_change(
                lambda: seen.append(follower.replica.status().leader_id)
            )
            await cluster.kill(
                follower.replica.status().leader_id, with_power_loss=False
            )
            await leader_of(cluster)
            assert None in seen
            assert seen[-1] is not None

    loop.run(main())


def test_applied_events_are_passed_on():
    async def main():
        async with running(1) as cluster:
            server = await leader_of(cluster)
            seen = []
            server.replica.on_applied(
                lambda index, events: seen.append((index, events))
            )
            outcome = await server.proposer.propose(registration(KEY), deadline_s=1.0)
            ((index, events),) = seen
            assert index == outcome.index
            assert events

    loop.run(main())


def test_the_leader_is_asked_from_anywhere():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            for server in servers(cluster):
                server.replica.answer_with(_answer_as(server.server_id))
            for server in (follower, leader):
                answer = await server.replica.ask_leader(b"who?", deadline_s=1.0)
                assert answer == leader.server_id.encode() + b" who?"

    loop.run(main())


def _answer_as(name):
    async def answer(question):
        return name.encode() + b" " + question

    return answer


def test_a_question_without_an_answer_ends_as_unknown():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            leader.replica.answer_with(_never)
            with pytest.raises(OutcomeUnknownError, match=r"^outcome unknown: "):
                await follower.replica.ask_leader(b"?", deadline_s=0.2)
            asking = asyncio.create_task(
                follower.replica.ask_leader(b"?", deadline_s=60.0)
            )
            await asyncio.sleep(0.1)
            await cluster.kill(leader.server_id, with_power_loss=False)
            with pytest.raises(OutcomeUnknownError, match=r"^outcome unknown: "):
                await asyncio.wait_for(asking, 5.0)

    loop.run(main())


async def _never(question):
    await asyncio.sleep(3600)
    return question


def test_a_question_without_a_leader_is_not_sent():
    async def main():
        cluster = SimulatedCluster(1, 3, SETTINGS)
        server = await cluster.start("server1")
        with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
            await server.replica.ask_leader(b"?", deadline_s=1.0)
        await cluster.stop()

    loop.run(main())


def test_a_name_that_is_not_among_the_servers_is_a_setting_that_cannot_be():
    async def main():
        cluster = SimulatedCluster(1, 3, SETTINGS)
        cluster.configs["server1"] = msgspec.structs.replace(
            cluster.configs["server1"], name="stranger"
        )
        with pytest.raises(ConfigError, match="'stranger' is not among servers"):
            await cluster.start("server1")

    loop.run(main())
