"""From a command to exactly one honest ending: the schedules of h1."""

import asyncio

import pytest

from cluster.simulation import loop
from cluster.simulation.servers import SimulatedCluster
from cluster.simulation.storm import SETTINGS, registration
from nodestate.errors import NoLeaderError, OutcomeUnknownError, RequestError
from nodestate.fsm import machine
from nodestate.model.node import NodeKey
from nodestate.model.outcome import Accepted
from nodestate.replication.frames import ProposalReply
from tests.replication.test_replica import (
    follower_of,
    leader_of,
    running,
    servers,
    until,
)

KEY = NodeKey("n1")


def test_a_follower_reads_its_own_write():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            outcome = await follower.proposer.propose(registration(KEY), deadline_s=2.0)
            assert isinstance(outcome, Accepted)
            assert follower.replica.state().node(KEY) is not None
            assert follower.replica.applied_index() >= outcome.index

    loop.run(main())


def test_a_follower_is_not_kept_waiting_for_a_heartbeat():
    async def main():
        async with running(raft_heartbeat_s=0.15) as cluster:
            follower = await follower_of(cluster)
            started_s = follower.clock.monotonic_s()
            for number in range(5):
                key = NodeKey(f"n{number}")
                await follower.proposer.propose(registration(key), deadline_s=2.0)
            assert follower.clock.monotonic_s() - started_s < 0.3

    loop.run(main())


def test_a_barrier_returns_an_index_that_is_applied():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            outcome = await leader.proposer.propose(registration(KEY), deadline_s=2.0)
            index = await follower.proposer.barrier(deadline_s=2.0)
            assert index > outcome.index
            assert follower.replica.applied_index() >= index
            assert follower.replica.state().node(KEY) is not None

    loop.run(main())


def test_without_a_leader_nothing_is_sent_and_the_caller_is_told():
    async def main():
        cluster = SimulatedCluster(1, 3, SETTINGS)
        server = await cluster.start("server1")
        with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
            await server.proposer.propose(registration(KEY), deadline_s=0.5)
        assert server.clock.monotonic_s() == pytest.approx(0.5, abs=0.1)
        await cluster.stop()

    loop.run(main())


def test_a_proposal_waits_for_a_leader():
    async def main():
        async with running() as cluster:
            proposals = [
                server.proposer.propose(
                    registration(NodeKey(server.server_id)), deadline_s=10.0
                )
                for server in servers(cluster)
            ]
            outcomes = await asyncio.gather(*proposals)
            assert all(isinstance(outcome, Accepted) for outcome in outcomes)

    loop.run(main())


def test_a_connection_that_breaks_after_the_request_leaves_nobody_waiting():
    """h1.1, h1.2: the write happened or not; the caller hears of one ending."""

    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader_id = cluster.leader().server_id
            proposing = asyncio.create_task(
                follower.proposer.propose(registration(KEY), deadline_s=3.0)
            )
            await asyncio.sleep(0)
            cluster.network.break_connections(follower.server_id, leader_id)
            await asyncio.wait([proposing])
            ending = proposing.exception()
            assert ending is None or isinstance(ending, OutcomeUnknownError)
            if ending is None:
                assert follower.replica.state().node(KEY) is not None
            assert not follower.replica.attempts._by_id

    loop.run(main())


def test_a_reply_that_is_lost_does_not_matter_if_the_entry_comes():
    """h1.2, h1.4: the outcome is known from the own replica, whoever leads by then."""

    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            replica = follower.replica
            replica._on_proposal_reply = lambda peer_id, reply: None
            outcome = await follower.proposer.propose(registration(KEY), deadline_s=3.0)
            assert isinstance(outcome, Accepted)

    loop.run(main())


def test_silence_ends_as_unknown_and_the_write_may_still_come():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            for other in cluster.configs:
                if other != leader.server_id:
                    cluster.network.cut(leader.server_id, other)
            with pytest.raises(OutcomeUnknownError, match=r"^outcome unknown: "):
                await follower.proposer.propose(registration(KEY), deadline_s=0.2)
            cluster.network.heal()

    loop.run(main())


def test_an_entry_that_was_replaced_is_proposed_again():
    """h1.6, h1.7: a deposed leader's own entry is certainly lost, so it is safe."""

    async def main():
        async with running() as cluster:
            leader = await leader_of(cluster)
            others = [name for name in cluster.configs if name != leader.server_id]
            for other in others:
                cluster.network.cut(leader.server_id, other)
                cluster.network.cut(other, leader.server_id)
            proposing = asyncio.create_task(
                leader.proposer.propose(registration(KEY), deadline_s=20.0)
            )
            await asyncio.sleep(0)
            await until(
                lambda: any(
                    cluster.servers[n].replica.is_ready_to_lead() for n in others
                )
            )
            new = next(
                n for n in others if cluster.servers[n].replica.is_ready_to_lead()
            )
            await cluster.servers[new].proposer.propose(
                registration(NodeKey("n2")), deadline_s=2.0
            )
            cluster.network.heal()

            outcome = await proposing
            assert isinstance(outcome, Accepted)
            assert all(
                [
                    await s.replica.wait_until_applied(outcome.index, deadline_s=5.0)
                    for s in servers(cluster)
                ]
            )
            assert all(s.replica.state().node(KEY) for s in servers(cluster))

    loop.run(main())


def test_a_leaders_refusal_is_tried_again():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            real = leader.replica._on_proposal
            refusals: list[object] = []

            def refuse_once(peer_id, proposal):
                if refusals:
                    real(peer_id, proposal)
                    return
                refusals.append(proposal)
                leader.replica._send(
                    peer_id, ProposalReply(proposal.proposal_id, 0, 0, "not now")
                )

            leader.replica._on_proposal = refuse_once
            outcome = await follower.proposer.propose(registration(KEY), deadline_s=3.0)
            assert refusals
            assert isinstance(outcome, Accepted)

    loop.run(main())


def test_proposals_in_flight_are_bounded():
    async def main():
        async with running(1, proposals_max=2) as cluster:
            server = await leader_of(cluster)
            first = [
                asyncio.create_task(
                    server.proposer.propose(
                        registration(NodeKey(f"n{number}")), deadline_s=1.0
                    )
                )
                for number in range(2)
            ]
            await asyncio.sleep(0)
            with pytest.raises(NoLeaderError, match=r"^too many proposals in flight$"):
                await server.proposer.propose(registration(KEY), deadline_s=1.0)
            await asyncio.gather(*first)
            await server.proposer.propose(registration(KEY), deadline_s=1.0)

    loop.run(main())


def test_what_the_leader_says_as_leader_is_said_in_its_term_only():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            term = leader.replica.status().term
            command = registration(KEY)
            for server, said_in in ((leader, term - 1), (follower, term)):
                with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
                    await server.proposer.propose_as_leader(
                        command, term=said_in, deadline_s=1.0
                    )
            outcome = await leader.proposer.propose_as_leader(
                command, term=term, deadline_s=1.0
            )
            assert isinstance(outcome, Accepted)

    loop.run(main())


def test_a_command_that_cannot_be_decided_is_never_proposed(monkeypatch):
    async def main():
        async with running(1) as cluster:
            server = await leader_of(cluster)
            last_index = server.replica._journal.last_index()
            monkeypatch.setattr(machine, "check", _raise)
            with pytest.raises(ZeroDivisionError):
                await server.proposer.propose(registration(KEY), deadline_s=1.0)
            assert server.replica._journal.last_index() == last_index

    loop.run(main())


def _raise(state, command):
    raise ZeroDivisionError


def test_a_command_that_is_too_large_is_refused_on_any_server():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            command = registration(NodeKey("n" * (9 << 20)))
            for server in (follower, cluster.leader()):
                with pytest.raises(RequestError, match="entry of"):
                    await server.proposer.propose(command, deadline_s=1.0)

    loop.run(main())
