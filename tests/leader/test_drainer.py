"""Work moves off nodes that drain; the drain is ended, once, by whoever leads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.leader.drainer import IDLE_S_MAX, REST_S_MIN, Drainer
from nodestate.model.allocation import (
    Allocation,
    DeploymentStatus,
    ReportedAllocation,
)
from nodestate.model.command import (
    AgentReport,
    CompleteDrains,
    ReportAllocations,
    SetDrain,
)
from nodestate.model.job import Job, MigrateStrategy, TaskGroup
from nodestate.model.node import DrainStrategy, NodeStatus
from tests.fakes import FakeCounter, settle
from tests.leader.worlds import SECRET, World, key_of

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


@pytest.mark.row("DR52", "DR52b")
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


# Work


def place(world: World, count: int, number: int = 1, **fields: Any) -> list[Allocation]:
    """Put healthy allocations of a service that runs `count` times on a node."""
    group = TaskGroup(name="g", count=count, migrate=MigrateStrategy(max_parallel=1))
    job = Job(id="job", name="job", datacenters=("dc1",), task_groups=(group,))
    state = world.replica.state()
    state.put_job(job)
    known: dict[str, Any] = {
        "job_id": "job",
        "node_key": key_of(number),
        "task_group": "g",
        "client_status": "running",
        "deployment_status": DeploymentStatus(healthy=True),
    }
    made = [Allocation(id=f"a{one}", **(known | fields)) for one in range(count)]
    for one in made:
        state.put_allocation(one)
    return made


def drainer_of(world: World) -> Drainer:
    """The drainer alone: nothing stops what it marks."""
    return Drainer(world.term(), FakeCounter(), FakeCounter())


@pytest.fixture
async def drainer(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(drainer_of(world).run())
    await settle()
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), "the drainer failed"


def marked(world: World) -> list[str]:
    allocations = world.replica.state().allocations.values()
    return sorted(one.id for one in allocations if one.is_migrating)


def finish(world: World, *ids: str) -> None:
    """Have an agent report allocations over."""
    key = next(iter(world.replica.state().allocations.values())).node_key
    reported = tuple(
        ReportedAllocation(id=one, client_status="complete") for one in ids
    )
    world.replica.apply(
        ReportAllocations(
            at_ns=world.clock.now_ns(),
            reports=(AgentReport(key, SECRET, reported),),
            seed=bytes(16),
        )
    )


@pytest.mark.row("D5")
async def test_work_is_told_to_move_with_an_evaluation_in_the_same_entry(
    world, drainer
):
    world.register(1)
    place(world, 3)
    drain(world, 1)

    await world.clock.step(REST_S_MIN)

    assert marked(world) == ["a0"]
    (evaluation,) = world.replica.state().evaluations.values()
    assert evaluation.triggered_by == "node-drain"
    assert evaluation.create_index == world.replica.applied_index()
    assert world.node(1).drain


async def test_a_drain_ends_when_the_last_work_is_reported_over(world, drainer):
    world.register(1)
    place(world, 2)
    drain(world, 1)
    await world.clock.step(REST_S_MIN)

    finish(world, "a0", "a1")
    await world.clock.step(REST_S_MIN)

    node = world.node(1)
    assert not node.drain
    assert node.events[-1].details is None


@pytest.mark.row("DR69")
@pytest.mark.parametrize("is_first", [True, False], ids=["same", "other"])
async def test_what_is_left_at_the_deadline_is_forced(world, is_first):
    """DR51, DR69: by whoever leads then, and not before."""
    world.register(1, status=NodeStatus.DOWN)
    place(world, 3)
    drain(world, 1, HOUR_NS)
    task = asyncio.create_task(drainer_of(world).run())
    if not is_first:
        await world.clock.step(1800)
        task.cancel()
        world.clock.pause(1800)
        task = asyncio.create_task(drainer_of(world).run())
    else:
        await world.clock.step(3599)
        assert len(marked(world)) == 1
        await world.clock.step(1)
    await world.clock.step(2 * REST_S_MIN)

    assert marked(world) == ["a0", "a1", "a2"]
    node = world.node(1)
    assert not node.drain
    assert node.events[-1].details == {"deadline_reached": "true"}
    task.cancel()


@pytest.mark.row("DR17")
async def test_a_drain_that_waits_writes_nothing(world, drainer):
    """DR17."""
    world.register(1, status=NodeStatus.DOWN)
    place(world, 3, deployment_status=None)
    drain(world, 1, 0)
    await world.clock.step(1)
    written = world.replica.applied_index()

    await world.clock.step(10 * IDLE_S_MAX)

    assert world.replica.applied_index() == written
    assert marked(world) == []
