import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from nodestate.agents.agent import REPORTS_PER_CALL_MAX, NodeAgent
from nodestate.agents.fates import Behaviour, Span
from nodestate.agents.fleet import AgentFleet
from nodestate.agents.identities import FleetSpec
from nodestate.errors import ResponseError
from tests.agents.cluster import (
    TTL_S,
    FakeClient,
    FakeCluster,
    as_clients,
    unreachable,
)
from tests.fakes import FakeClock, SequentialIds, settle

SECOND = 1_000_000_000
STEADY = Behaviour(
    start=Span(SECOND, SECOND),
    run=Span(20 * SECOND, 20 * SECOND),
    kill=Span(2 * SECOND, 2 * SECOND),
)


class World:
    """One node and its cluster."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(self.clock)
        self.client = FakeClient(self.cluster)
        self.fleet = self.make_fleet()
        self.node_id = self.agent.node_id

    def make_fleet(self) -> AgentFleet:
        return AgentFleet(
            as_clients(self.client),
            FleetSpec(node_count=1),
            STEADY,
            clock=self.clock,
            ids=SequentialIds(),
        )

    @property
    def agent(self) -> NodeAgent:
        return self.fleet.agents[0]

    def status(self, name: str = "a") -> str:
        return self.cluster.status_of(self.node_id, name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.fleet:
            await settle()
            yield


async def test_heartbeats_come_within_the_ttl():
    world = World()

    async with world.running():
        await world.clock.step(100)

    at_s = [0.0, *(at for at, _, _ in world.cluster.heartbeats)]
    gaps_s = [later - at for at, later in itertools.pairwise(at_s)]
    assert max(gaps_s) < TTL_S
    assert 10 <= len(gaps_s) <= 15
    assert world.fleet.counts().heartbeats_late == 0


async def test_an_allocation_is_run_and_every_step_is_reported():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(60)

    said = [report.client_status for (report,) in world.cluster.reports]
    assert said == ["pending", "running", "complete"]
    assert world.cluster.reports[0][0].node_id == world.node_id


async def test_what_is_stopped_is_reported_complete():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id, kind="service")
        await world.clock.step(30)
        assert world.status() == "running"
        world.cluster.update(world.node_id, desired_status="stop")
        await world.clock.step(1.5)
        assert world.status() == "running"
        await world.clock.step(1.5)

        assert world.status() == "complete"


@pytest.mark.row("M1")
async def test_a_service_is_reported_healthy():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id, kind="service")
        await world.clock.step(30)

    health = world.cluster.last_report("a").deployment_status
    assert health is not None
    assert health.healthy is True


async def test_changes_are_gathered_into_one_call():
    world = World()

    async with world.running():
        for number in range(10):
            world.cluster.add(world.node_id, f"a{number}")
        await world.clock.step(60)

    assert [len(batch) for batch in world.cluster.reports] == [10, 10, 10]


async def test_no_call_has_more_reports_than_its_limit():
    world = World()

    async with world.running():
        for number in range(REPORTS_PER_CALL_MAX + 1):
            world.cluster.add(world.node_id, f"a{number}")
        await world.clock.step(0.9)

    assert [len(batch) for batch in world.cluster.reports] == [REPORTS_PER_CALL_MAX, 1]


async def test_what_the_servers_have_forgotten_is_forgotten():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(5)
        assert list(world.agent.machines) == ["a"]
        del world.cluster.allocations[world.node_id]["a"]
        world.cluster.change()
        await world.clock.step(1)

        assert world.agent.machines == {}


async def test_a_report_that_failed_is_made_again():
    world = World()

    async with world.running():
        await world.clock.step(1)
        world.cluster.add(world.node_id)
        await world.clock.step(0.1)
        world.client.error = unreachable()
        await world.clock.step(3)
        assert world.cluster.reports == []
        world.client.error = None
        await world.clock.step(20)

    assert world.status() == "complete"


async def test_heartbeats_wait_for_no_report():
    world = World()

    async with world.running():
        world.fleet._servers.reporting._value = 0
        world.cluster.add(world.node_id)
        await world.clock.step(60)

    assert world.cluster.reports == []
    assert len(world.cluster.heartbeats) >= 6


async def test_a_report_that_is_refused_is_counted_and_made_again_later():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(20)
        world.client.error = ResponseError(400, "no")
        await world.clock.step(3)
        assert world.agent.machines["a"].is_over
        assert world.status() == "running"
        assert "no" in world.fleet.counts().last_error
        world.client.error = None
        await world.clock.step(10)

    assert world.status() == "complete"


async def test_a_node_that_is_silent_says_nothing_and_works_on():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(5)
        asked_count = world.client.asked_count
        world.agent.fall_silent()
        await world.clock.step(60)

        assert world.client.asked_count == asked_count
        assert world.status() == "running"
        assert world.agent.machines["a"].client_status == "complete"


async def test_a_node_that_comes_back_soon_just_goes_on():
    world = World()

    async with world.running():
        await world.clock.step(20)
        world.agent.fall_silent()
        await world.clock.step(1)
        world.agent.come_back()
        await world.clock.step(20)

    assert {status for _, _, status in world.cluster.heartbeats} == {""}


async def test_what_happened_during_a_short_silence_is_told_afterwards():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(0.5)
        world.agent.fall_silent()
        await world.clock.step(2)
        assert world.status() == "pending"
        world.agent.come_back()
        await world.clock.step(1)

        assert world.status() == "running"


async def test_a_report_that_a_silence_cut_short_is_made_again():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(20.5)
        world.fleet.set_latency(1.0)
        await world.clock.step(1)
        assert world.agent.machines["a"].is_over
        world.agent.fall_silent()
        world.fleet.set_latency(0.0)
        await world.clock.step(1)
        assert world.status() == "running"
        world.agent.come_back()
        await world.clock.step(1)

        assert world.status() == "complete"


async def test_a_node_that_was_lost_is_ready_after_it_has_seen_what_is_wanted():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id, kind="service")
        await world.clock.step(5)
        world.agent.fall_silent()
        await world.clock.step(40)
        beats = len(world.cluster.heartbeats)
        world.cluster.update(world.node_id, desired_status="stop", client_status="lost")
        world.agent.come_back()
        await world.clock.step(0)
        assert [status for _, _, status in world.cluster.heartbeats[beats:]] == [
            "initializing",
            "ready",
        ]
        await world.clock.step(3)

        assert world.status() == "complete"


async def test_what_nobody_was_told_while_it_was_silent_is_told_afterwards():
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(5)
        world.agent.fall_silent()
        await world.clock.step(60)
        world.agent.come_back()
        await world.clock.step(1)

        assert world.status() == "complete"


async def test_a_node_that_falls_silent_before_it_has_begun_comes_back():
    world = World()

    async with world.fleet:
        world.agent.fall_silent()
        await world.clock.step(5)
        assert world.client.asked_count == 1  # the registration
        world.agent.come_back()
        await world.clock.step(20)

    assert world.cluster.heartbeats


async def test_a_purged_node_registers_again():
    world = World()

    async with world.running():
        await world.clock.step(20)
        world.cluster.secrets.clear()
        await world.clock.step(20)

        assert world.node_id in world.cluster.secrets


async def test_a_node_whose_secret_is_not_known_does_not_give_up():
    world = World()

    async with world.running():
        world.cluster.secrets[world.node_id] = "another"
        await world.clock.step(30)

        counts = world.fleet.counts()
        assert "does not match" in counts.last_error
        assert 0 < counts.errors < 20


async def test_an_index_that_goes_back_is_followed():
    """A snapshot was restored: what is there now is what counts."""
    world = World()

    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(5)
        world.cluster.index = 0
        world.cluster.update(world.node_id, desired_status="stop")
        await world.clock.step(70)

        assert world.status() == "complete"


async def test_a_simulator_that_was_started_again_goes_on_with_the_same_work():
    world = World()
    async with world.running():
        world.cluster.add(world.node_id)
        await world.clock.step(10)
    assert world.status() == "running"
    report_count = len(world.cluster.reports)

    world.fleet = world.make_fleet()
    async with world.running():
        await world.clock.step(5)
        assert len(world.cluster.reports) == report_count
        await world.clock.step(10)

        assert world.status() == "complete"
