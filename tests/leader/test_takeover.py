"""Brokers and trackers of one leader, and of the one after (BR, BL, EV)."""

import pytest

from nodestate.leader.blocked import BlockedEvaluations
from nodestate.leader.broker import NACK_TIMEOUT_S
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobType
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import Accepted
from nodestate.model.timestamp import Timestamp
from nodestate.planning.vacancies import Vacancies, find_vacancies
from tests.conformance.rows import example
from tests.leader.test_broker import Desk
from tests.leader.test_scheduler import Office
from tests.leader.worlds import World, beat
from tests.planning.clusters import roomy
from tests.planning.test_scheduling import sized
from tests.planning.works import SECOND_NS, group, job


@pytest.fixture
async def office(world: World):
    office = Office(world)
    office.start()
    await office.run()
    yield office
    await office.stop()


@pytest.mark.row("BR5")
async def test_what_waits_for_its_time_is_taken_up_once(office):
    """A leader's broker goes with it; the next one has its own, from the state."""
    office.add(roomy(1))
    office.register(job(group(count=1)))
    await office.run(1)
    until = Timestamp(office.world.clock.now_ns() + 30 * SECOND_NS)
    office.put("later", wait_until=until, triggered_by="alloc-failure")
    await office.run()
    looked = office.metrics.evaluations.counts["complete"]

    await office.stop()
    await office.run(60)
    assert office.state.evaluations["later"].status == "pending"
    office.start()
    await office.run(1)

    assert office.state.evaluations["later"].status == "complete"
    assert office.metrics.evaluations.counts["complete"] == looked + 1


@pytest.mark.row("BR11")
def test_the_time_of_a_delivery_runs_out():
    desk = Desk()
    desk.put("e")
    desk.take()

    desk.clock.pause(10)

    assert desk.broker.seconds_until_due() == NACK_TIMEOUT_S - 10


@pytest.mark.row("BR22")
async def test_the_next_of_a_job_sees_what_the_one_before_has_placed(office):
    office.add(roomy(1))
    office.world.proposer.gate.clear()
    office.register(job(group(count=3)))
    await office.run()
    office.evaluate()
    await office.run()
    office.world.proposer.gate.set()
    await office.run(1)

    assert len(office.state.allocations) == 3
    assert office.statuses() == ["complete", "complete"]


@pytest.mark.row("M13")
async def test_who_comes_to_wait_while_room_is_looked_for_is_not_missed(
    office, monkeypatch
):
    """What it has not seen may be older than anything that others wait for."""
    office.register(job(group(count=1), id="small", name="small"))
    await office.run(1)
    small = office.only("blocked")
    office.scheduler._blocked.untrack([small.id])
    office.add(roomy(1, cpu=150))

    def searched(state, after_index):
        if small.id not in office.scheduler._blocked:
            office.scheduler._block(small)
            office.scheduler._wake()
        return (yield from find_vacancies(state, after_index))

    monkeypatch.setattr("nodestate.leader.scheduler.find_vacancies", searched)
    office.register(job(sized(1000)))
    await office.run(1)

    assert office.state.evaluations[small.id].status == "complete"


@pytest.mark.parametrize(
    ("classes", "snapshot_index"),
    [
        example("BL4", {"123": False, "456": False}, 999),
        example("BL8", {"123": True}, 900),
        example("BL9", None, 900),
        example("BL10", {"123": True}, 900),
        example("BL11", {"123": False}, 900),
        example("BL12", {"123": False}, 900),
    ],
)
def test_room_of_any_class_is_room(classes, snapshot_index):
    """V44: what a class was good for is not asked; it costs a look in vain."""
    blocked = BlockedEvaluations()
    evaluation = Evaluation(
        id="e",
        job_id="job",
        status="blocked",
        snapshot_index=snapshot_index,
        class_eligibility=classes,
        escaped_computed_class=classes is None,
    )
    blocked.block(evaluation)

    assert blocked.unblock(Vacancies(1000, {"node": 1000})) == [evaluation]
    assert len(blocked) == 0


@pytest.mark.row("EV8")
async def test_a_node_that_is_back_asks_for_its_system_jobs(world, services):
    world.register(1, status=NodeStatus.DOWN)
    anywhere = world.node(1).datacenter
    world.replica.state().put_job(
        Job(id="s", type=JobType.SYSTEM, datacenters=(anywhere,))
    )

    answer = await beat(services, 1)

    assert isinstance(answer.outcome, Accepted)
    assert len(answer.outcome.eval_ids) == 1
    assert answer.outcome.eval_create_index > 0
    assert answer.ttl_ns > 0
