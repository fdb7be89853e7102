"""The services run while this server leads, and not a moment longer."""

import asyncio

import pytest

from nodestate.leader.services import NOT_LEADER, LeaderServices
from nodestate.model.command import RegisterJob
from nodestate.model.node import NodeStatus
from nodestate.model.question import (
    HeartbeatAnswer,
    NotAnswered,
    ReadResetFile,
    ResetFileAnswer,
    StartTimers,
)
from tests.fakes import FakeLeadership, settle
from tests.leader.worlds import World, ask, beat, heartbeat_of, key_of
from tests.planning.works import job

EXPECTED = "nodestate_leader_heartbeats_expected"


SERVICES = {"timers", "missed", "drainer", "garbage", "evaluations", "scheduler"}


def service_tasks() -> set[str]:
    return {
        task.get_name().partition("-")[0]
        for task in asyncio.all_tasks()
        if task.get_name().partition("-")[0] in SERVICES
    }


@pytest.fixture
def follower() -> World:
    return World(leadership=FakeLeadership(is_leader=False))


async def started(world: World) -> tuple[LeaderServices, asyncio.Task[None]]:
    services = world.services()
    task = asyncio.create_task(services.run())
    await settle()
    return services, task


@pytest.mark.row("HB4")
async def test_a_follower_runs_nothing_and_answers_nothing(follower):
    follower.register(1)
    services, task = await started(follower)

    assert service_tasks() == set()
    for question in (heartbeat_of(1), StartTimers((key_of(1),))):
        answer = await ask(services, question)
        assert answer == NotAnswered(NOT_LEADER, may_apply=False)
    await follower.clock.step(10_000)
    task.cancel()

    assert follower.down() == set()


async def test_a_leader_that_is_not_ready_waits(follower):
    _, task = await started(follower)

    follower.leadership.gain(is_ready=False)
    await settle()
    assert service_tasks() == set()
    follower.leadership.make_ready()
    await settle()
    assert service_tasks() == SERVICES
    task.cancel()


async def test_leadership_moves_and_the_timers_with_it(world, services):
    world.register(1, 2)
    await world.clock.step(2)
    assert world.metrics.gauges[EXPECTED]() == 2

    world.leadership.lose()
    await settle()
    assert service_tasks() == set()
    assert world.metrics.gauges[EXPECTED]() == 0

    world.leadership.gain()
    await settle()
    assert service_tasks() == SERVICES
    assert world.metrics.gauges[EXPECTED]() == 2


async def test_a_second_term_in_a_row_begins_anew(world, services):
    """Whatever happened between the terms, the timers of the first mean nothing."""
    world.register(1)
    await beat(services, 1)
    await world.clock.step(20)

    world.leadership.gain()
    await world.clock.step(20)

    assert world.down() == set()
    await world.clock.step(300)
    assert world.down() == {1}, "the services of the first term went on"


async def test_answers_stop_with_the_leadership_not_with_the_tasks(world, services):
    world.register(1)

    world.leadership.lose()  # the services have had no time to notice

    answer = await ask(services, heartbeat_of(1))
    assert answer == NotAnswered(NOT_LEADER, may_apply=False)


async def test_losing_leadership_ends_a_proposal_in_the_middle(world, services):
    world.register(1)
    await beat(services, 1)
    world.proposer.gate.clear()
    await world.clock.step(30)

    world.leadership.lose()
    await settle()
    assert service_tasks() == set()
    world.proposer.gate.set()
    await settle()

    assert world.down() == set()


async def test_a_heartbeat_on_its_way_when_leadership_ends_is_answered(world, services):
    world.register(1, status=NodeStatus.DOWN)
    world.proposer.gate.clear()
    asked = asyncio.create_task(ask(services, heartbeat_of(1)))
    await settle()

    world.leadership.lose()
    world.proposer.gate.set()
    answer = await asked

    assert isinstance(answer, NotAnswered)
    assert not answer.may_apply
    assert world.down() == {1}


async def test_what_is_no_question_is_not_answered(world, services):
    for question in (b"", b"\xc1", b"\x80", b"\x81\xa4type\xa1x"):
        from_services = await services.answer(question)
        assert b"no such question" in from_services


async def test_cancelling_leaves_no_task_behind(world):
    _, task = await started(world)
    assert service_tasks() == SERVICES

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert service_tasks() == set()


async def test_a_defect_in_a_service_ends_them_all_loudly(world):
    _, task = await started(world)
    world.register(1)
    world.proposer.errors = [ZeroDivisionError("a defect")]

    await world.clock.step(400)

    assert isinstance(task.exception(), ExceptionGroup)
    assert service_tasks() == set()


async def test_a_fleet_survives_an_election(world):
    """100 nodes beat at half their TTL, one falls silent, the leader changes."""
    world.register(*range(1, 101))
    services, task = await started(world)
    world.leadership.lose()
    await world.clock.step(5)
    world.leadership.gain()
    await settle()

    for _ in range(40):
        for number in range(2, 101):
            assert isinstance(await beat(services, number), HeartbeatAnswer)
        await world.clock.step(7.5)
    assert world.down() == set()
    for _ in range(4):
        for number in range(2, 101):
            await beat(services, number)
        await world.clock.step(7.5)
    task.cancel()

    assert world.down() == {1}


@pytest.mark.row("BR4", "BL1")
async def test_evaluations_are_looked_at_while_this_server_leads(follower):
    """Whoever leads takes up what it finds, and shows how much there is."""
    open_gauge = "nodestate_leader_evaluations_open"
    blocked_gauge = "nodestate_leader_evaluations_blocked"
    _, task = await started(follower)
    command = RegisterJob(at_ns=follower.clock.now_ns(), job=job(), seed=bytes(16))
    follower.replica.apply(command)
    await follower.clock.step(1)
    (evaluation,) = follower.replica.state().evaluations.values()
    assert evaluation.status == "pending"

    follower.leadership.gain()
    await follower.clock.step(1)

    statuses = [one.status for one in follower.replica.state().evaluations.values()]
    assert statuses == ["complete", "blocked"]
    assert follower.metrics.gauges[open_gauge]() == 0
    assert follower.metrics.gauges[blocked_gauge]() == 1
    follower.leadership.lose()
    await settle()
    assert follower.metrics.gauges[blocked_gauge]() == 0
    task.cancel()


async def test_the_leader_alone_says_what_is_in_its_reset_file(world, services):
    assert await ask(services, ReadResetFile()) == ResetFileAnswer(0)

    world.leadership.lose()

    assert isinstance(await ask(services, ReadResetFile()), NotAnswered)
