import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from nodestate.agents.fates import Behaviour, Span
from nodestate.agents.fleet import (
    REGISTRATIONS_PER_CALL_MAX,
    AgentFleet,
    connections_needed,
)
from nodestate.agents.identities import FleetSpec, identities
from nodestate.agents.servers import ATTEMPTS_S_MAX
from nodestate.errors import ResponseError, UnreachableError
from tests.agents.cluster import FakeClient, FakeCluster, as_clients, unreachable
from tests.fakes import FakeClock, SequentialIds, settle

SECOND = 1_000_000_000
QUICK = Behaviour(start=Span(SECOND, SECOND), run=Span(SECOND, SECOND))


class World:
    """A fleet, and the cluster it talks to."""

    def __init__(self, node_count: int = 4, server_count: int = 1) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(self.clock)
        self.clients = [FakeClient(self.cluster) for _ in range(server_count)]
        self.spec = FleetSpec(node_count=node_count)
        self.fleet = AgentFleet(
            as_clients(*self.clients),
            self.spec,
            QUICK,
            clock=self.clock,
            ids=SequentialIds(),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[AgentFleet]:
        async with self.fleet:
            await settle()
            yield self.fleet


async def test_all_nodes_register_in_few_calls_and_are_ready():
    world = World(node_count=REGISTRATIONS_PER_CALL_MAX + 3)

    async with world.running():
        assert world.cluster.batches == [REGISTRATIONS_PER_CALL_MAX, 3]
        assert set(world.cluster.statuses.values()) == {"ready"}


async def test_clients_are_open_as_long_as_the_fleet_is():
    world = World(server_count=2)

    async with world.running():
        assert all(client.is_open for client in world.clients)

    assert not any(client.is_open for client in world.clients)


async def test_nothing_is_left_running():
    world = World()
    before = asyncio.all_tasks()

    async with world.running():
        assert len(asyncio.all_tasks()) > len(before)

    assert asyncio.all_tasks() == before


async def test_what_is_raised_inside_comes_out_as_it_was():
    with pytest.raises(ResponseError, match="ours"):
        async with World().running():
            raise ResponseError(400, "ours")


async def test_counts_say_how_the_fleet_does():
    world = World()
    node_ids = [agent.node_id for agent in world.fleet.agents]
    world.cluster.add(node_ids[0], "a", "service")
    world.cluster.add(node_ids[1], "b", "batch")

    async with world.running() as fleet:
        await world.clock.step(5)
        fleet.lose(1)
        counts = fleet.counts()

    assert (counts.nodes_up, counts.nodes_silent, counts.nodes_refused) == (3, 1, 0)
    assert counts.allocations == {
        "pending": 0,
        "running": 1,
        "complete": 1,
        "failed": 0,
        "lost": 0,
    }
    assert counts.allocations_reported == sum(map(len, world.cluster.reports))
    assert counts.errors == 0


async def test_the_nodes_that_are_lost_are_those_that_the_seed_says():
    lost = []
    for _ in range(2):
        world = World(node_count=12)
        async with world.running() as fleet:
            lost.append([agent.node_id for agent in fleet.lose(3) + fleet.lose(3)])

    assert lost[0] == lost[1]
    assert len(set(lost[0])) == 6


async def test_no_more_are_lost_than_there_are():
    async with World(node_count=3).running() as fleet:
        assert len(fleet.lose(2)) == 2
        assert len(fleet.lose(2)) == 1
        assert fleet.bring_back() == 3
        assert fleet.bring_back() == 0


async def test_leaving_marks_all_nodes_down():
    world = World()

    async with world.running() as fleet:
        await fleet.leave()
        await world.clock.step(30)

    assert set(world.cluster.statuses.values()) == {"down"}
    assert world.cluster.heartbeats == []


async def test_purging_removes_all_nodes():
    world = World()

    async with world.running() as fleet:
        world.cluster.secrets.popitem()
        assert await fleet.purge() == 3
        await world.clock.step(30)

    assert world.cluster.secrets == {}


async def test_a_node_that_is_refused_is_counted_and_the_others_run():
    world = World()
    world.cluster.secrets[identities(world.spec)[0].node_id] = "another"

    async with world.running() as fleet:
        await world.clock.step(30)
        counts = fleet.counts()

    assert (counts.nodes_up, counts.nodes_refused) == (3, 1)
    assert "node secret ID does not match" in counts.last_error
    assert len({node_id for _, node_id, _ in world.cluster.heartbeats}) == 3


async def test_a_fleet_of_which_no_node_is_accepted_does_not_start():
    world = World(node_count=1)
    world.cluster.secrets[identities(world.spec)[0].node_id] = "another"

    with pytest.raises(ResponseError, match="does not match"):
        async with world.running():
            raise AssertionError("it must not start")

    assert not world.clients[0].is_open


async def test_a_fleet_that_reaches_no_server_says_so():
    world = World()
    world.clients[0].error = unreachable()
    starting = asyncio.create_task(world.fleet.__aenter__())

    await world.clock.step(ATTEMPTS_S_MAX + 15)

    with pytest.raises(UnreachableError):
        await starting
    assert not world.clients[0].is_open


async def test_nodes_go_on_with_another_server_when_theirs_is_gone():
    world = World(node_count=6, server_count=3)

    async with world.running() as fleet:
        world.clients[0].error = unreachable()
        await world.clock.step(60)
        counts = fleet.counts()

    beats = [node_id for _, node_id, _ in world.cluster.heartbeats]
    assert all(beats.count(agent.node_id) >= 7 for agent in world.fleet.agents)
    assert counts.heartbeats_late == 0
    assert counts.errors > 0


async def test_a_slow_fleet_is_slow_from_when_it_is_told():
    world = World()
    async with world.running() as fleet:
        fleet.set_latency(4.0)
        await world.clock.step(30)

        assert fleet.counts().heartbeats_late > 0


async def test_every_node_has_a_connection_to_watch_with():
    world = World(node_count=101)

    async with world.running():
        assert world.clients[0].connections_max == connections_needed(world.spec) > 101
