"""Nodes that are not heard of go down; nothing else marks one down."""

import asyncio

import pytest

from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.leader.heartbeats import MISSED_BATCH_MAX, STANDSTILL_S_MAX
from nodestate.leader.timers import TICK_S
from nodestate.model.command import MissHeartbeats, UpdateNodeStatus
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import Accepted, RefusalCode, Refused
from nodestate.model.question import HeartbeatAnswer, NotAnswered
from tests.fakes import settle
from tests.leader.worlds import World, ask, beat, heartbeat_of, start_timers

FAILOVER_S = 310.0  # of ServerConfig: TTL 300, grace 10
OWN_S = 25.0  # TTL 10, half as much again by jitter, grace 10
MISSED = "nodestate_leader_heartbeats_missed_total"
STANDSTILLS = "nodestate_leader_standstills_total"


@pytest.mark.row("HB1", "HB2")
async def test_a_silent_node_goes_down_not_early_and_soon_after(world, services):
    world.register(1)
    await start_timers(services, 1)

    await world.clock.step(OWN_S - 0.01)
    assert world.down() == set()
    await world.clock.step(2 * TICK_S)
    assert world.down() == {1}

    event = world.node(1).events[-1]
    assert (event.message, event.subsystem) == ("Node heartbeat missed", "Cluster")
    assert world.metrics.count(MISSED) == 1


@pytest.mark.row("EV9")
async def test_a_node_that_is_heard_of_stays_up(world, services):
    world.register(1)
    await start_timers(services, 1)
    written = world.replica.applied_index()

    for _ in range(10):
        await world.clock.step(OWN_S - 1)
        answer = await beat(services, 1)
        assert answer.outcome == Accepted(node_count=1)
        assert answer.ttl_ns == 15_000_000_000

    assert world.replica.applied_index() == written
    assert world.metrics.count("nodestate_leader_heartbeats_received_total") == 10


@pytest.mark.row("HB3")
async def test_a_renewed_timer_counts_from_its_renewal(world, services):
    world.register(1)
    await start_timers(services, 1)

    await world.clock.step(5)
    await beat(services, 1)
    await world.clock.step(OWN_S - 0.01)
    assert world.down() == set()
    await world.clock.step(2 * TICK_S)
    assert world.down() == {1}


@pytest.mark.row("HB1")
@pytest.mark.parametrize(
    ("count", "low_s", "high_s"),
    [(10, 10, 20), (500, 10, 20), (1_000, 20, 40), (5_000, 100, 200)],
)
@pytest.mark.parametrize("jitter", [0.0, 0.999_999_999])
async def test_the_ttl_grows_with_the_fleet(world, count, low_s, high_s, jitter):
    world.register(*range(1, count + 1))
    world.ids.jitter_value = jitter
    services = world.services()
    task = asyncio.create_task(services.run())
    await settle()

    ttl_s = (await beat(services, 1)).ttl_ns / 1e9
    task.cancel()

    assert low_s <= ttl_s <= high_s
    assert ttl_s == pytest.approx(low_s if jitter == 0 else high_s)


@pytest.mark.row("HB6")
async def test_a_new_leader_gives_every_node_a_full_period(world):
    world.register(1, 2)
    world.register(3, status=NodeStatus.DOWN)
    services = world.services()
    task = asyncio.create_task(services.run())
    await settle()
    assert world.metrics.gauges["nodestate_leader_heartbeats_expected"]() == 2

    for _ in range(40):
        await world.clock.step(7.7)
        await beat(services, 2)
    assert world.down() == {3}
    await world.clock.step(FAILOVER_S - 40 * 7.7 + TICK_S)
    task.cancel()

    assert world.down() == {1, 3}
    missed = [one for one in world.proposer.commands if isinstance(one, MissHeartbeats)]
    assert len(missed) == 1


async def test_a_large_fleet_has_longer_than_the_failover_ttl():
    """At one heartbeat per second 200 nodes were given TTLs of up to 400 s."""
    world = World(config=replace_settings(heartbeats_per_second_max=1.0))
    world.register(*range(1, 201))
    task = asyncio.create_task(world.services().run())

    await world.clock.step(410 - TICK_S)
    assert world.down() == set()
    await world.clock.step(2 * TICK_S)
    task.cancel()
    assert len(world.down()) == 200


async def test_silent_nodes_are_marked_down_in_bounded_batches(world):
    count = MISSED_BATCH_MAX + 1
    world.register(*range(1, count + 1))
    task = asyncio.create_task(world.services().run())
    await settle()

    await world.clock.step(FAILOVER_S + TICK_S)
    task.cancel()

    assert len(world.down()) == count
    sizes = [
        len(one.keys)
        for one in world.proposer.commands
        if isinstance(one, MissHeartbeats)
    ]
    assert sizes == [MISSED_BATCH_MAX, 1]


class TestStandingStill:
    async def test_a_stopped_process_marks_nobody_down(self, world, services):
        world.register(1)
        await start_timers(services, 1)

        world.clock.pause(3_600)
        await world.clock.step(FAILOVER_S - 2 * TICK_S)
        assert world.down() == set()
        assert world.metrics.count(STANDSTILLS) == 1

        await world.clock.step(3 * TICK_S)
        assert world.down() == {1}

    async def test_a_sleeping_machine_marks_nobody_down(self, world, services):
        """Its monotonic clock stood still, the world went on."""
        world.register(1)
        await start_timers(services, 1)
        await world.clock.step(OWN_S - 1)

        world.clock.suspend(3_600)
        await world.clock.step(FAILOVER_S - 2 * TICK_S)

        assert world.down() == set()
        assert world.metrics.count(STANDSTILLS) == 1

    async def test_heartbeats_that_waited_in_the_socket_are_in_time(
        self, world, services
    ):
        world.register(1, 2)
        await start_timers(services, 1, 2)

        world.clock.pause(3_600)
        await beat(services, 1)  # before any timer is looked at
        await world.clock.step(OWN_S + 1)

        assert world.down() == {1}
        await world.clock.step(FAILOVER_S)
        assert world.down() == {1, 2}

    async def test_what_was_found_before_is_not_proposed_after(self, world, services):
        world.register(1)
        await start_timers(services, 1)
        world.proposer.errors = [NoLeaderError("gone")] * 2
        # Found, and refused twice; the third attempt comes before the next tick.
        await world.clock.step(OWN_S + 0.1)
        assert world.proposer.errors == []

        world.clock.pause(3_600)
        await world.clock.step(FAILOVER_S - 2 * TICK_S)

        assert world.down() == set()

    async def test_a_short_hiccup_changes_nothing(self, world, services):
        world.register(1)
        await start_timers(services, 1)

        world.clock.pause(STANDSTILL_S_MAX - TICK_S)
        await world.clock.step(OWN_S)

        assert world.down() == {1}
        assert world.metrics.count(STANDSTILLS) == 0

    async def test_a_clock_set_back_changes_nothing(self, world, services):
        world.register(1)
        await start_timers(services, 1)

        world.clock.set_back(3_600)
        await world.clock.step(OWN_S + 2 * TICK_S)

        assert world.down() == {1}


class TestHeartbeatOf:
    async def test_an_unknown_node(self, world, services):
        answer = await beat(services, 9)

        assert answer == HeartbeatAnswer(
            Refused(RefusalCode.NOT_FOUND, "node not found"), ttl_ns=0
        )
        assert world.proposer.commands == []

    async def test_somebody_else(self, world, services):
        world.register(1)
        await start_timers(services, 1)

        await world.clock.step(OWN_S - 1)
        answer = await ask(services, heartbeat_of(1, secret_sha256=bytes(32)))
        await world.clock.step(1 + TICK_S)

        assert answer == HeartbeatAnswer(
            Refused(RefusalCode.FORBIDDEN, "node secret ID does not match"), ttl_ns=0
        )
        assert world.down() == {1}, "a stranger kept the node alive"

    async def test_a_node_that_becomes_ready(self, world, services):
        world.register(1, status=NodeStatus.INITIALIZING)

        answer = await beat(services, 1)

        assert isinstance(answer.outcome, Accepted)
        assert answer.outcome.index == world.node(1).modify_index
        assert world.node(1).status is NodeStatus.READY
        assert answer.ttl_ns == 15_000_000_000

    async def test_a_node_that_is_down_and_says_it_is_ready(self, world, services):
        world.register(1, status=NodeStatus.DOWN)

        answer = await beat(services, 1)

        assert world.node(1).status is NodeStatus.READY
        assert answer.ttl_ns == 15_000_000_000
        await world.clock.step(OWN_S + TICK_S)
        assert world.down() == {1}

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (NodeStatus.READY, NodeStatus.READY),
            (NodeStatus.INITIALIZING, NodeStatus.INITIALIZING),
            (NodeStatus.DOWN, NodeStatus.READY),
        ],
    )
    async def test_a_node_without_a_status(self, world, services, before, after):
        world.register(1, status=before)

        answer = await ask(services, heartbeat_of(1, status=None))

        assert isinstance(answer, HeartbeatAnswer)
        assert world.node(1).status is after
        assert answer.ttl_ns > 0

    @pytest.mark.row("HB5")
    async def test_a_node_that_says_it_goes_down(self, world, services):
        world.register(1)
        await start_timers(services, 1)

        answer = await ask(services, heartbeat_of(1, status=NodeStatus.DOWN))
        assert world.metrics.gauges["nodestate_leader_heartbeats_expected"]() == 0
        await world.clock.step(FAILOVER_S + 1)

        assert isinstance(answer, HeartbeatAnswer)
        assert answer.ttl_ns == 0
        assert world.down() == {1}
        kinds = [type(command) for command in world.proposer.commands]
        assert kinds == [UpdateNodeStatus], "its timer fired all the same"

    async def test_a_node_that_is_down_and_says_so_again(self, world, services):
        """Nothing is written to the node; its evaluations are made once more."""
        world.register(1, status=NodeStatus.DOWN)

        answer = await ask(services, heartbeat_of(1, status=NodeStatus.DOWN))

        assert isinstance(answer, HeartbeatAnswer)
        assert isinstance(answer.outcome, Accepted)
        assert answer.outcome.node_modify_index == 0
        assert answer.ttl_ns == 0
        assert len(world.proposer.commands) == 1

    @pytest.mark.parametrize(
        ("error", "may_apply"),
        [(NoLeaderError("gone"), False), (OutcomeUnknownError("lost"), True)],
    )
    async def test_a_node_when_it_cannot_be_written(
        self, world, services, error, may_apply
    ):
        world.register(1, status=NodeStatus.INITIALIZING)
        world.proposer.errors.append(error)

        answer = await ask(services, heartbeat_of(1))

        assert answer == NotAnswered(str(error), may_apply=may_apply)

    async def test_a_node_that_is_just_being_marked_down(self, world, services):
        """The command that marks it down is on its way: ready must follow it."""
        world.register(1)
        await start_timers(services, 1)
        world.proposer.gate.clear()
        await world.clock.step(OWN_S + TICK_S)

        answer = asyncio.create_task(ask(services, heartbeat_of(1)))
        await settle()
        world.proposer.gate.set()
        await settle()

        assert answer.done()
        assert world.down() == set()
        assert [type(command) for command in world.proposer.commands] == [
            MissHeartbeats,
            UpdateNodeStatus,
        ]

    async def test_a_node_that_may_yet_be_marked_down(self, world, services):
        """Nobody knows what became of the command: ready must follow it in the log."""
        world.register(1)
        await start_timers(services, 1)
        world.proposer.errors = [OutcomeUnknownError("lost")]
        await world.clock.step(OWN_S)

        first = await beat(services, 1)
        second = await beat(services, 1)

        assert first.ttl_ns == second.ttl_ns == 15_000_000_000
        kinds = [type(command) for command in world.proposer.commands]
        assert kinds == [UpdateNodeStatus], "once is enough"

    async def test_a_node_whose_time_is_up_but_which_nothing_was_proposed_for(
        self, world, services
    ):
        world.register(1, 2)
        await start_timers(services, 1, 2)
        world.proposer.errors = [NoLeaderError("gone")]
        await world.clock.step(OWN_S)  # the first attempt fails, and pauses

        await beat(services, 1)
        await world.clock.step(1)

        assert world.down() == {2}


class TestTimersFollowTheNodes:
    async def test_a_registration_of_which_nobody_told(self, world, services):
        world.register(1)

        await world.clock.step(2)
        assert world.metrics.gauges["nodestate_leader_heartbeats_expected"]() == 1
        await world.clock.step(FAILOVER_S)

        assert world.down() == {1}

    async def test_a_purge_of_which_nobody_told(self, world, services):
        world.register(1, 2)
        await start_timers(services, 1, 2)

        world.purge(1)
        await world.clock.step(2)

        assert world.metrics.gauges["nodestate_leader_heartbeats_expected"]() == 1
        await world.clock.step(OWN_S)
        (command,) = world.proposer.commands
        assert isinstance(command, MissHeartbeats)
        assert len(command.keys) == 1

    async def test_a_node_purged_since_its_time_was_up(self, world, services):
        world.register(1)
        await start_timers(services, 1)
        world.proposer.errors = [NoLeaderError("gone")]
        await world.clock.step(OWN_S)

        world.purge(1)
        await world.clock.step(10)

        assert world.proposer.commands == []

    async def test_a_node_that_another_entry_marked_down(self, world, services):
        world.register(1)
        await start_timers(services, 1)

        world.set_status(1, NodeStatus.DOWN)
        await world.clock.step(OWN_S + 1)

        assert world.proposer.commands == []
        assert world.metrics.gauges["nodestate_leader_heartbeats_expected"]() == 0

    async def test_a_node_registered_as_down_or_unknown_has_no_ttl(
        self, world, services
    ):
        world.register(1)
        world.register(2, status=NodeStatus.DOWN)

        answer = await start_timers(services, 1, 2, 3)

        assert answer.ttls_ns == (15_000_000_000, 0, 0)


@pytest.mark.parametrize("error", [NoLeaderError("gone"), OutcomeUnknownError("lost")])
async def test_a_failed_proposal_is_made_again(world, services, error):
    world.register(1)
    await start_timers(services, 1)
    world.proposer.errors = [error, error]

    await world.clock.step(OWN_S + 2)

    assert world.down() == {1}


async def test_settings_are_used():
    config = replace_settings(
        heartbeat_ttl_s_min=2.0,
        heartbeat_grace_s=1.0,
        failover_heartbeat_ttl_s=5.0,
    )
    world = World(config=config)
    world.register(1, 2)
    services = world.services()
    task = asyncio.create_task(services.run())
    await settle()

    assert (await beat(services, 1)).ttl_ns == 3_000_000_000
    await world.clock.step(4.25)
    assert world.down() == {1}
    await world.clock.step(2)
    task.cancel()
    assert world.down() == {1, 2}


def replace_settings(**settings: float) -> ServerConfig:
    return ServerConfig(**settings)  # type: ignore[arg-type]
