"""What is over goes in its time, or when asked to; and nothing is written for nothing."""

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.leader import garbage
from nodestate.leader.garbage import ANSWER_S_MAX, DEMANDS_MAX
from nodestate.leader.services import LeaderServices
from nodestate.model.command import CollectGarbage, DeregisterJob, RegisterJob, SeenNode
from nodestate.model.job import Job
from nodestate.model.node import NodeStatus
from nodestate.model.question import Answer, CollectedAnswer, CollectNow, NotAnswered
from nodestate.planning.garbage import RECORDS_PER_COMMAND_MAX
from tests.fakes import settle
from tests.leader.worlds import World, ask, beat, key_of

PASSES = "nodestate_leader_garbage_passes_total"
COLLECTED = "nodestate_leader_garbage_collected_total"
ASKED = CollectNow("somebody")

# An hour is ten seconds long: nobody waits for a day of the timers of heartbeats.
HOUR_S = 10.0
SHORT = ServerConfig(
    gc_interval_s=1,
    gc_evaluations_after_s=HOUR_S,
    gc_batch_evaluations_after_s=24 * HOUR_S,
    gc_jobs_after_s=4 * HOUR_S,
    gc_nodes_after_s=24 * HOUR_S,
)


@pytest.fixture
def world() -> World:
    return World(config=SHORT)


async def told(world: World, services: LeaderServices) -> Answer:
    """Ask, and let the time pass that a small pass takes."""
    asked = asyncio.create_task(ask(services, ASKED))
    await world.clock.step(0.1)
    return await asked


def collections(world: World) -> list[CollectGarbage]:
    return [one for one in world.proposer.commands if isinstance(one, CollectGarbage)]


def stopped_job(world: World, id_: str = "job") -> None:
    """Register a job and stop it; each makes an evaluation."""
    wanted = Job(id=id_, name=id_, datacenters=("dc1",))
    at: dict[str, Any] = {"at_ns": world.clock.now_ns()}
    world.replica.apply(RegisterJob(job=wanted, seed=b"r" * 16, **at))
    world.replica.apply(DeregisterJob(key=wanted.key, seed=b"d" * 16, **at))


async def test_a_job_that_is_over_goes_in_its_time_and_all_of_it(world, services):
    world.register(1)
    stopped_job(world)
    await world.clock.step(3.9 * HOUR_S)
    assert world.replica.state().jobs

    await world.clock.step(0.2 * HOUR_S)

    state = world.replica.state()
    assert (state.jobs, state.evaluations) == ({}, {})
    assert world.metrics.count(COLLECTED, "jobs") == 1
    assert world.metrics.count(COLLECTED, "evaluations") == 2


async def test_a_node_long_down_goes_after_a_day(world, services):
    world.register(1, status=NodeStatus.DOWN)
    await world.clock.step(23.9 * HOUR_S)
    assert 1 in world.down()

    await world.clock.step(0.2 * HOUR_S)

    assert world.replica.state().nodes == {}
    assert world.metrics.count(COLLECTED, "nodes") == 1


async def test_how_often_is_a_setting():
    world = World(config=replace(SHORT, gc_interval_s=300, gc_nodes_after_s=0))
    task = asyncio.create_task(world.services().run())
    world.register(1, status=NodeStatus.DOWN)
    await world.clock.step(299)
    assert 1 in world.down()

    await world.clock.step(2)
    task.cancel()

    assert world.replica.state().nodes == {}


async def test_a_quiet_cluster_writes_nothing(world, services):
    """Passes come and go; what they find to keep is no reason for an entry."""
    world.register(1)
    stopped_job(world)
    await beat(services, 1)
    await world.clock.step(15)
    await beat(services, 1)
    written = world.replica.applied_index()

    for _ in range(4):
        await world.clock.step(5)
        await beat(services, 1)

    assert world.replica.applied_index() == written


async def test_much_goes_in_batches_with_rests_between(world, services, monkeypatch):
    monkeypatch.setattr(garbage, "REST_S_MIN", 1.0)
    count = 2 * RECORDS_PER_COMMAND_MAX + 1
    world.register(*range(count), status=NodeStatus.DOWN)
    await world.clock.step(1)

    asked = asyncio.create_task(ask(services, ASKED))
    await settle()
    assert len(collections(world)) == 1
    await world.clock.step(1.5)
    assert len(collections(world)) == 2
    await world.clock.step(1)

    assert [len(one.nodes) for one in collections(world)] == [512, 512, 1]
    assert world.replica.state().nodes == {}
    assert await asked == CollectedAnswer(is_whole=False)


async def test_who_asks_need_not_wait_until_it_is_old(world, services):
    world.register(1, status=NodeStatus.DOWN)
    stopped_job(world)
    await world.clock.step(1)

    assert await told(world, services) == CollectedAnswer(is_whole=True)
    state = world.replica.state()
    assert (state.nodes, state.jobs, state.evaluations) == ({}, {}, {})
    assert [one.asked_by for one in collections(world)] == ["somebody"]


async def test_an_end_in_the_future_is_an_end(world, services):
    """The clock of the server that wrote it is ahead of the leader's."""
    world.register(1, status=NodeStatus.DOWN)
    world.clock.set_back(HOUR_S)

    assert await told(world, services) == CollectedAnswer(is_whole=True)
    assert world.replica.state().nodes == {}


async def test_asking_where_nothing_is_over_writes_nothing(world, services):
    world.register(1)
    written = world.replica.applied_index()

    answer = await told(world, services)

    assert answer == CollectedAnswer(is_whole=True)
    assert world.replica.applied_index() == written


async def test_asking_does_not_put_off_what_is_due(world, services):
    world.register(1)
    await beat(services, 1)
    for _ in range(10):
        await told(world, services)
        await world.clock.step(0.4)
    passes = world.metrics.count(PASSES)

    assert passes == 10 + 5


async def test_who_asks_is_told_when_it_takes_long(world, services):
    world.register(1, status=NodeStatus.DOWN)
    world.proposer.gate.clear()

    asked = asyncio.create_task(ask(services, ASKED))
    await world.clock.step(ANSWER_S_MAX - 0.1)
    assert not asked.done()
    await world.clock.step(0.1)
    assert await asked == CollectedAnswer(is_whole=False)

    world.proposer.gate.set()
    await settle()
    assert world.replica.state().nodes == {}


@pytest.mark.parametrize(
    ("error", "may_apply"), [(NoLeaderError, False), (OutcomeUnknownError, True)]
)
async def test_what_fails_is_told_and_left_to_the_next(
    world, services, error, may_apply
):
    world.register(1, status=NodeStatus.DOWN)
    world.proposer.errors = [error("so it goes")]

    answer = await told(world, services)
    assert answer == NotAnswered("so it goes", may_apply=may_apply)

    assert await told(world, services) == CollectedAnswer(is_whole=True)
    assert world.replica.state().nodes == {}


async def test_an_entry_that_removes_nothing_ends_the_pass(
    world, services, monkeypatch
):
    """What is of use again by then must not be proposed for ever."""
    (key,) = world.register(1)
    command = CollectGarbage(at_ns=1, nodes=(SeenNode(key, 10),))

    def planned(*args: Any) -> Generator[None, None, CollectGarbage]:
        yield
        return command

    monkeypatch.setattr(garbage, "plan_garbage", planned)

    assert await told(world, services) == CollectedAnswer(is_whole=True)
    assert world.node(1).status is NodeStatus.READY
    assert len(collections(world)) == 1
    assert world.metrics.count(COLLECTED, "nodes") == 0


async def test_all_who_ask_at_once_share_a_pass_within_a_limit(world, services):
    world.register(1, status=NodeStatus.DOWN)
    world.proposer.gate.clear()
    first = asyncio.create_task(ask(services, ASKED))
    await settle()

    asked = [asyncio.create_task(ask(services, ASKED)) for _ in range(DEMANDS_MAX)]
    await settle()
    refused = await ask(services, ASKED)
    world.proposer.gate.set()
    await world.clock.step(1)

    assert refused == NotAnswered(garbage.TOO_MANY, may_apply=False)
    assert {await one for one in (first, *asked)} == {CollectedAnswer(is_whole=True)}
    assert len(collections(world)) == 1


async def test_who_asks_is_not_kept_when_the_term_is_over(world, services):
    world.register(1, status=NodeStatus.DOWN)
    world.proposer.gate.clear()
    asked = [asyncio.create_task(ask(services, ASKED))]
    await settle()  # the first has its pass, which hangs; the second waits for one
    asked.append(asyncio.create_task(ask(services, ASKED)))
    await settle()

    world.leadership.lose()
    await settle()

    told = [await one for one in asked]
    assert [one.may_apply for one in told if isinstance(one, NotAnswered)] == [
        True,
        False,
    ]
    assert world.node(1).id == key_of(1)
