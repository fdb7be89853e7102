"""Drains that have nothing left to move are ended, once, by whoever leads."""

import asyncio

import pytest

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.leader.drainer import IDLE_S_MAX, REST_S_MIN
from nodestate.model.command import CompleteDrains, SetDrain
from nodestate.model.node import DrainStrategy, NodeStatus
from tests.fakes import settle
from tests.leader.worlds import World, key_of

HOUR_NS = 3_600_000_000_000
COMPLETED = "nodestate_leader_drains_completed_total"


def drain(world: World, number: int, deadline: int = HOUR_NS) -> None:
    command = SetDrain(
        at_ns=world.clock.now_ns(),
        key=key_of(number),
        strategy=DrainStrategy(deadline=deadline),
        seed=bytes(16),
    )
    world.replica.apply(command)


@pytest.mark.parametrize("deadline", [HOUR_NS, 0, -1, 1])
async def test_a_drain_with_nothing_to_move_is_over_at_once(world, services, deadline):
    world.register(1)

    drain(world, 1, deadline)
    await world.clock.step(REST_S_MIN)

    node = world.node(1)
    assert (node.drain, node.drain_strategy) == (False, None)
    assert node.scheduling_eligibility == "ineligible"
    assert node.modify_index == world.replica.applied_index()
    assert world.metrics.count(COMPLETED) == 1


async def test_a_drain_is_ended_once(world, services):
    world.register(1)
    drain(world, 1)

    await world.clock.step(2 * IDLE_S_MAX)

    assert len(world.proposer.commands) == 1


async def test_a_quiet_cluster_writes_nothing(world, services):
    world.register(1)
    written = world.replica.applied_index()

    await world.clock.step(2 * IDLE_S_MAX)

    assert world.replica.applied_index() == written


async def test_many_drains_end_in_one_entry(world, services):
    world.register(1, 2, 3)
    world.proposer.gate.clear()
    drain(world, 1)
    await world.clock.step(1)
    drain(world, 2)
    drain(world, 3)

    world.proposer.gate.set()
    await world.clock.step(1)

    sizes = [
        len(one.drains)
        for one in world.proposer.commands
        if isinstance(one, CompleteDrains)
    ]
    assert sizes == [1, 2]


async def test_a_new_leader_takes_up_the_drains_that_it_finds(world):
    world.register(1)
    drain(world, 1)

    task = asyncio.create_task(world.services().run())
    await world.clock.step(REST_S_MIN)
    task.cancel()

    assert not world.node(1).drain


async def test_a_drain_changed_meanwhile_is_planned_again(world, services):
    world.register(1)
    await world.clock.step(1)
    world.proposer.gate.clear()
    drain(world, 1)
    await settle()
    drain(world, 1, deadline=2 * HOUR_NS)  # the completion on its way is for the first

    world.proposer.gate.set()
    await settle()
    assert world.node(1).drain
    await world.clock.step(1)

    assert not world.node(1).drain
    assert world.metrics.count(COMPLETED) == 1


@pytest.mark.parametrize("error", [NoLeaderError("gone"), OutcomeUnknownError("lost")])
async def test_a_failure_is_tried_again_after_pauses(world, services, error):
    world.register(1)
    await world.clock.step(1)
    world.proposer.errors = [error] * 5
    drain(world, 1)

    await settle()
    assert len(world.proposer.errors) == 4, "no pause after a failure"
    await world.clock.step(10)

    assert not world.node(1).drain


async def test_a_node_that_is_down_is_drained_too(world, services):
    world.register(1, status=NodeStatus.DOWN)

    drain(world, 1)
    await world.clock.step(REST_S_MIN)

    assert not world.node(1).drain


async def test_many_changes_are_looked_at_together(world, services):
    """A change ends the wait at once; the next ones wait for the rest to be over."""
    world.register(1, 2)
    await world.clock.step(1)

    drain(world, 1)
    await settle()
    assert not world.node(1).drain

    drain(world, 2)
    await settle()
    assert world.node(2).drain
    await world.clock.step(REST_S_MIN)
    assert not world.node(2).drain
