"""What operators ask of the cluster, on any server; and what the leader does by itself."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from cluster.simulation import loop
from cluster.simulation.servers import SimulatedCluster
from cluster.simulation.storm import SETTINGS, registration
from nodestate.errors import NoLeaderError, RequestError
from nodestate.model.node import NodeKey
from nodestate.ports import ServerAddress
from nodestate.replication.questions import ADMINISTRATION

KEY = NodeKey("n1")


@asynccontextmanager
async def running(server_count=3, *, founders=None):
    """Run a cluster that the first so many servers form; all of them, if it is not said."""
    cluster = SimulatedCluster(1, server_count, SETTINGS)
    names = list(cluster.configs)[:founders]
    for name in names:
        config = cluster.configs[name]
        cluster.configs[name] = msgspec.structs.replace(
            config, servers=config.servers[: len(names)]
        )
        await cluster.start(name)
    try:
        await until(lambda: all_know_the_leader(cluster))
        yield cluster
    finally:
        await cluster.stop()


async def until(condition, timeout_s=20.0):
    waited_s = 0.0
    while not condition():
        assert waited_s < timeout_s, "it never came true"
        await asyncio.sleep(0.01)
        waited_s += 0.01


def all_know_the_leader(cluster):
    leader = cluster.leader()
    return leader is not None and all(
        server.replica.status().leader_id == leader.server_id
        for server in cluster.servers.values()
    )


def on_leader(cluster):
    return cluster.leader().administration


def on_follower(cluster):
    leader = cluster.leader()
    return next(s.administration for s in cluster.servers.values() if s is not leader)


@pytest.fixture(params=[on_leader, on_follower])
def on(request):
    """Ask the leader itself, or one that has to ask it."""
    return request.param


def test_who_the_members_are():
    async def main():
        async with running() as cluster:
            leader = cluster.leader()
            membership = leader.administration.membership()

            assert membership.index == 1
            assert [member.server_id for member in membership.members] == [
                "server1",
                "server2",
                "server3",
            ]
            for member in membership.members:
                assert member.is_voter
                assert member.is_leader == (member.server_id == leader.server_id)
                assert (member.match_index is None) == member.is_leader
                assert member.peer_address

    loop.run(main())


def test_leadership_is_handed_over_from_anywhere(on):
    async def main():
        async with running() as cluster:
            before = cluster.leader().server_id
            started_s = asyncio.get_running_loop().time()

            after = await on(cluster).transfer_leadership(None, deadline_s=3.0)

            assert after != before
            await until(lambda: all_know_the_leader(cluster))
            # No election timeout has passed.
            elapsed_s = asyncio.get_running_loop().time() - started_s
            assert elapsed_s < SETTINGS["election_timeout_s_min"]
            assert cluster.leader().server_id == after

    loop.run(main())


def test_leadership_goes_to_whom_it_is_given(on):
    async def main():
        async with running() as cluster:
            for name in ("server2", "server3", "server2", "server2"):
                after = await on(cluster).transfer_leadership(name, deadline_s=3.0)
                assert after == name
                await until(lambda: all_know_the_leader(cluster))

    loop.run(main())


def test_what_cannot_be_done_is_said_and_changes_nothing(on):
    async def main():
        async with running() as cluster:
            admin = on(cluster)
            for wanted in (
                admin.transfer_leadership("server9", deadline_s=3.0),
                admin.remove_server("server9", deadline_s=3.0),
            ):
                with pytest.raises(RequestError, match="server9"):
                    await wanted
            assert on_leader(cluster).membership().index == 1

    loop.run(main())


def test_a_removed_server_is_a_member_no_more_and_knows_it(on):
    async def main():
        async with running() as cluster:
            leader = cluster.leader()
            gone = next(s for s in cluster.servers.values() if s is not leader)

            index = await leader.administration.remove_server(
                gone.server_id, deadline_s=3.0
            )

            assert index > 1
            await until(lambda: len(gone.administration.membership().members) == 2)
            await leader.proposer.propose(registration(KEY), deadline_s=3.0)
            await asyncio.sleep(3 * SETTINGS["election_timeout_s_max"])
            assert cluster.leader() is leader
            assert gone.replica.state().node(KEY) is None

    loop.run(main())


def test_the_leader_removes_itself(on):
    async def main():
        async with running() as cluster:
            before = cluster.leader()

            await on(cluster).remove_server(before.server_id, deadline_s=3.0)

            await until(lambda: cluster.leader() not in (None, before))
            members = cluster.leader().administration.membership().members
            assert before.server_id not in [member.server_id for member in members]
            await cluster.leader().proposer.propose(registration(KEY), deadline_s=3.0)

    loop.run(main())


def test_a_new_server_is_added_as_a_learner_and_is_given_a_vote():
    async def main():
        async with running(4, founders=3) as cluster:
            new = cluster.configs["server4"]
            server = await cluster.start("server4")
            await cluster.leader().proposer.propose(registration(KEY), deadline_s=3.0)
            await asyncio.sleep(2.0)
            # It waits, and disturbs nobody, until somebody adds it.
            assert server.replica.state().node(KEY) is None

            await on_leader(cluster).add_server(
                ServerAddress("server4", new.peer, new.http), deadline_s=3.0
            )

            await until(lambda: server.replica.state().node(KEY) is not None)
            await until(
                lambda: (
                    [
                        member.is_voter
                        for member in on_leader(cluster).membership().members
                    ]
                    == [True] * 4
                )
            )
            assert [one.server_id for one in server.replica.servers()] == [
                "server1",
                "server2",
                "server3",
                "server4",
            ]

    loop.run(main())


def test_a_leader_that_is_about_to_stop_hands_over_and_a_follower_does_not():
    async def main():
        async with running() as cluster:
            leader = cluster.leader()
            await on_follower(cluster).retire()
            assert cluster.leader() is leader
            started_s = asyncio.get_running_loop().time()

            await leader.administration.retire()
            await until(lambda: cluster.leader() not in (None, leader))

            elapsed_s = asyncio.get_running_loop().time() - started_s
            assert elapsed_s < SETTINGS["election_timeout_s_min"]

    loop.run(main())


def test_a_server_alone_has_nobody_to_hand_over_to():
    async def main():
        async with running(1) as cluster:
            leader = cluster.leader()
            await leader.administration.retire()
            assert cluster.leader() is leader

    loop.run(main())


def test_an_errand_that_cannot_be_read_is_not_done():
    async def main():
        async with running() as cluster:
            replica = cluster.leader().replica
            with pytest.raises(NoLeaderError, match="cannot be read"):
                await replica.ask_leader_of(ADMINISTRATION, b"\xc1", deadline_s=1.0)

    loop.run(main())


def test_without_a_leader_nothing_is_done():
    async def main():
        async with running() as cluster:
            for name in ("server1", "server2"):
                await cluster.kill(name, with_power_loss=False)
            (last,) = cluster.servers.values()
            await until(lambda: last.replica.status().leader_id is None)

            with pytest.raises(NoLeaderError):
                await last.administration.transfer_leadership(None, deadline_s=0.5)

    loop.run(main())


def test_how_the_members_do_is_the_leaders_to_say(on):
    async def main():
        async with running() as cluster:
            leader = cluster.leader()
            await until(lambda: all_have_all(cluster))
            ends = leader.administration.log_ends()
            # Long enough for the leader to have looked by itself.
            await asyncio.sleep(1.0)

            members = await on(cluster).health(deadline_s=3.0)

            assert [one.server_id for one in members] == [
                "server1",
                "server2",
                "server3",
            ]
            now_ns = leader.clock.now_ns()
            for one in members:
                assert one.is_healthy
                assert one.is_voter
                assert one.is_leader == (one.server_id == leader.server_id)
                assert one.contact_s < SETTINGS["election_timeout_s_min"]
                assert (one.last_index, one.last_term) == (
                    ends.last_index,
                    ends.last_term,
                )
                assert 0 < one.since_ns < now_ns - 400_000_000

    loop.run(main())


def test_a_member_that_is_gone_is_not_well():
    async def main():
        async with running() as cluster:
            leader = cluster.leader()
            gone = next(s for s in cluster.servers.values() if s is not leader)
            await cluster.kill(gone.server_id, with_power_loss=False)
            await asyncio.sleep(2 * SETTINGS["election_timeout_s_min"])

            members = await leader.administration.health(deadline_s=3.0)

            unhealthy = [one.server_id for one in members if not one.is_healthy]
            assert unhealthy == [gone.server_id]

    loop.run(main())


def all_have_all(cluster):
    ends = {
        server.administration.log_ends().last_index
        for server in cluster.servers.values()
    }
    applied = {server.replica.applied_index() for server in cluster.servers.values()}
    return len(ends) == 1 and applied == ends
