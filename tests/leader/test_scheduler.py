"""Evaluations are looked at, by whoever leads; ids of cases are the specification's."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import State
from nodestate.leader.broker import FIRST_DELAY_S, LATER_DELAY_S
from nodestate.leader.scheduler import (
    FOLLOW_REST_S,
    IDLE_S_MAX,
    UNBLOCK_FAILED_S,
    Scheduler,
    SchedulerMetrics,
)
from nodestate.model.allocation import Allocation, ReportedAllocation
from nodestate.model.command import (
    AgentReport,
    ApplyPlan,
    EvaluateJob,
    RegisterJob,
    RegisterNodes,
    Registration,
    ReportAllocations,
    UpdateEvaluations,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobType
from nodestate.model.node import Node, NodeKey
from nodestate.model.outcome import Accepted
from nodestate.model.plan import PlanResult
from nodestate.model.timestamp import Timestamp
from nodestate.planning.drafts import draft_plan
from tests.fakes import FakeCounter, settle
from tests.leader.worlds import SECRET, World
from tests.planning.clusters import JOB, roomy
from tests.planning.works import SECOND_NS, group, job

ROUNDS = 20


class Office:
    """A leader's scheduler, and the log in which it reads and writes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.metrics = SchedulerMetrics(
            evaluations=FakeCounter(), plans=FakeCounter(), conflicts=FakeCounter()
        )
        self.tasks: list[asyncio.Task[None]] = []
        self.scheduler: Scheduler | None = None
        self._entry_count = 0

    @property
    def state(self) -> State:
        return self.world.replica.state()

    def start(self) -> None:
        """Begin to lead, in the next term; who led before has nothing left."""
        self.scheduler = Scheduler(self.world.term(), self.metrics)
        works = [self.scheduler.follow(), self.scheduler.work(), self.scheduler.work()]
        self.tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for task in self.tasks:
            assert task.cancelled(), task

    async def run(self, seconds: float = 0) -> None:
        """Let what can happen at once happen, and then some time pass."""
        for _ in range(ROUNDS):
            await settle()
        if seconds:
            await self.world.clock.step(seconds)
            for _ in range(ROUNDS):
                await settle()

    def _seed(self) -> bytes:
        self._entry_count += 1
        return self._entry_count.to_bytes(16, "big")

    def add(self, *nodes: Node) -> None:
        registrations = tuple(
            Registration(NodeKey(one.id.replace("-", "")), one, SECRET) for one in nodes
        )
        self._apply(RegisterNodes, registrations=registrations)

    def _apply(self, command: Any, **fields: Any) -> None:
        outcome = self.world.replica.apply(
            command(at_ns=self.world.clock.now_ns(), seed=self._seed(), **fields)
        )
        assert isinstance(outcome, Accepted), outcome

    def register(self, wanted: Job) -> None:
        bare = replace(
            wanted, create_index=0, modify_index=0, job_modify_index=0, version=0
        )
        self._apply(RegisterJob, job=bare)

    def evaluate(self) -> None:
        self._apply(EvaluateJob, key=JOB)

    def report(self, *allocations: Allocation, **fields: Any) -> None:
        for one in allocations:
            said = (ReportedAllocation(id=one.id, **fields),)
            reports = (AgentReport(one.node_key, SECRET, said),)
            self._apply(ReportAllocations, reports=reports)

    def put(self, id_: str, **fields: Any) -> None:
        """Put an evaluation into the state, as if an entry had made it."""
        self.world.replica._index += 1
        index = self.world.replica.applied_index()
        known: dict[str, Any] = {
            "id": id_,
            "job_id": "job",
            "create_index": index,
            "modify_index": index,
        }
        self.state.put_evaluation(Evaluation(**(known | fields)))
        self.evaluate_nothing()

    def evaluate_nothing(self) -> None:
        """Wake whoever follows evaluations."""
        self.world.replica.watch.wake([("evaluations",)])

    def live(self, key: JobKey = JOB) -> list[Allocation]:
        return [one for one in self.state.allocations_of(key) if not one.is_terminal]

    def statuses(self) -> list[str]:
        evaluations = self.state.evaluations.values()
        by_age = sorted(evaluations, key=lambda one: (one.create_index, one.id))
        return [one.status for one in by_age]

    def only(self, status: str) -> Evaluation:
        (found,) = [
            one for one in self.state.evaluations.values() if one.status == status
        ]
        return found


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    office = Office(world)
    office.start()
    await office.run()
    yield office
    await office.stop()


@pytest.mark.row("BR10")
async def test_a_job_is_placed_with_two_entries(office):
    office.add(roomy(1))
    office.register(job(group(count=3)))
    await office.run()

    assert len(office.live()) == 3
    assert office.statuses() == ["complete"]
    kinds = [type(command) for command in office.world.proposer.commands]
    assert kinds == [ApplyPlan, UpdateEvaluations]
    assert office.metrics.evaluations.counts == {"complete": 1}
    assert office.metrics.plans.counts == {"": 1}
    assert office.scheduler.evaluation_count() == 0


@pytest.mark.row("M18")
async def test_a_quiet_cluster_writes_nothing(office):
    """Neither with work that waits for room."""
    office.register(job())
    await office.run(1)
    assert office.scheduler.blocked_count() == 1
    written = office.world.replica.applied_index()

    await office.run(20 * IDLE_S_MAX)

    assert office.world.replica.applied_index() == written


@pytest.mark.row("BL20")
async def test_what_waits_is_placed_when_a_node_comes(office):
    """BL20."""
    office.register(job(group(count=2)))
    await office.run(1)
    assert office.statuses() == ["complete", "blocked"]

    office.add(roomy(1))
    await office.run(2 * FOLLOW_REST_S)

    assert len(office.live()) == 2
    assert office.statuses() == ["complete", "complete"]
    assert office.scheduler.blocked_count() == 0


@pytest.mark.row("BL18", "BL19", "M12")
async def test_what_waits_is_placed_when_others_are_over(office):
    """BL18, BL19."""
    office.add(roomy(1, cpu=150))
    office.register(job(group(count=1)))
    await office.run(1)
    office.register(job(group(count=1), id="other", name="other"))
    await office.run(1)
    office.register(job(group(count=0)))
    await office.run(1)
    assert office.live() == []
    other = JobKey(("default", "other"))
    assert office.live(other) == []
    looked = office.metrics.evaluations.counts.get("blocked", 0)

    await office.run(10)
    assert office.metrics.evaluations.counts.get("blocked", 0) == looked
    office.report(*office.state.allocations_of(JOB), client_status="complete")
    await office.run(2 * FOLLOW_REST_S)

    assert len(office.live(other)) == 1


@pytest.mark.row("BL6", "M13")
async def test_room_that_comes_while_a_job_is_looked_at_is_not_missed(office):
    """BL6."""
    office.world.proposer.gate.clear()
    office.register(job(group(count=1)))
    await office.run()
    office.add(roomy(1))
    office.world.proposer.gate.set()
    await office.run(2 * FOLLOW_REST_S)

    assert len(office.live()) == 1


@pytest.mark.row("BL13", "RC52")
async def test_what_still_finds_no_room_waits_under_its_own_id(office):
    """BL13, RC52."""
    office.register(job(group(count=1)))
    await office.run(1)
    blocked = office.only("blocked")
    office.add(roomy(1, cpu=10))
    await office.run(1)

    assert office.only("blocked") == blocked
    assert office.scheduler.blocked_count() == 1
    assert office.metrics.evaluations.counts["blocked"] == 1


@pytest.mark.row("BL15", "EV17")
async def test_what_nobody_wants_any_more_waits_no_more(office):
    """BL15, EV17."""
    office.register(job(group(count=1)))
    await office.run(1)
    assert office.scheduler.blocked_count() == 1

    office.register(job(group(count=0)))
    await office.run(1)

    assert office.scheduler.blocked_count() == 0
    assert office.statuses() == ["complete", "canceled", "complete"]


@pytest.mark.row("BR24", "BL23", "D13", "W14", "M13")
async def test_a_new_leader_takes_up_what_it_finds(office):
    """BR24, BL23: what waits for room is looked at once."""
    office.world.proposer.gate.clear()
    office.register(job(group(count=1)))
    await office.run()
    await office.stop()
    office.world.proposer.gate.set()
    office.start()
    await office.run(1)
    assert office.statuses() == ["complete", "blocked"]

    # The wake-up dies with the leader.
    await office.stop()
    office.add(roomy(1))
    office.start()
    await office.run(1)

    assert len(office.live()) == 1


@pytest.mark.row("PL14")
async def test_a_plan_of_a_leader_that_is_gone_does_no_harm(office):
    """PL14."""
    office.add(roomy(1), roomy(2))
    office.register(job(group(count=1)))
    office.world.proposer.errors = [OutcomeUnknownError("lost")]
    await office.run(2 * FIRST_DELAY_S)

    assert len(office.state.allocations) == 1
    assert office.statuses() == ["complete"]


@pytest.mark.parametrize("error", [NoLeaderError("gone"), OutcomeUnknownError("lost")])
@pytest.mark.parametrize("count", [1, 2])
async def test_what_could_not_be_written_is_tried_again(office, error, count):
    office.add(roomy(1))
    office.world.proposer.errors = [error] * count
    office.register(job(group(count=1)))
    await office.run(FIRST_DELAY_S + LATER_DELAY_S + 1)

    assert len(office.live()) == 1
    assert office.statuses() == ["complete"]


@pytest.mark.row("BR21")
async def test_what_fails_too_often_is_looked_at_later(office):
    """BR21."""
    office.add(roomy(1))
    office.world.proposer.errors = [OutcomeUnknownError("lost")] * 3
    office.register(job(group(count=1)))
    await office.run(FIRST_DELAY_S + LATER_DELAY_S + 2)

    failed, follow_up = office.only("failed"), office.only("pending")
    assert failed.status_description == "evaluation reached delivery limit (3)"
    assert failed.next_eval == follow_up.id
    assert follow_up.previous_eval == failed.id
    assert follow_up.triggered_by == "failed-follow-up"
    assert 60 * SECOND_NS <= follow_up.wait <= 360 * SECOND_NS

    await office.run(follow_up.wait / SECOND_NS)
    assert len(office.live()) == 1


async def test_a_defect_ends_one_evaluation_and_not_the_server(office, monkeypatch):
    """A job that cannot be planned must not stop those that can."""
    office.add(roomy(1))
    office.put("poison", job_id="poison", type=JobType.SYSTEM)
    monkeypatch.setattr(
        "nodestate.planning.scheduling.draft_plan", broken("poison"), raising=True
    )
    office.register(job(group(count=1)))
    await office.run(FIRST_DELAY_S + LATER_DELAY_S + 2)

    assert len(office.live()) == 1
    assert office.state.evaluations["poison"].status == "failed"


def broken(job_id: str):
    """A planner with a defect that one job meets."""

    def draft(look):
        if look.evaluation.job_id == job_id:
            raise ZeroDivisionError
        return draft_plan(look)

    return draft


async def test_what_is_for_later_is_looked_at_then(office):
    office.add(roomy(1))
    office.register(job(group(count=1)))
    await office.run()
    until = Timestamp(office.world.clock.now_ns() + 30 * SECOND_NS)
    office.put("later", wait_until=until, triggered_by="alloc-failure")
    await office.run(29)
    assert office.state.evaluations["later"].status == "pending"

    await office.run(1)

    assert office.state.evaluations["later"].status == "complete"


@pytest.mark.row("BR23")
async def test_many_requests_for_one_job_are_answered_together(office):
    """BR23."""
    office.world.proposer.gate.clear()
    office.register(job(group(count=1)))
    await office.run()
    for _ in range(20):
        office.evaluate()
    await office.run()
    office.world.proposer.gate.set()
    await office.run(1)

    statuses = office.statuses()
    assert statuses.count("canceled") >= 18
    assert not {"pending"} & set(statuses)
    assert len(office.world.proposer.commands) < 10


@pytest.mark.row("BL2")
async def test_two_that_wait_for_one_job_become_one(office):
    """BL2."""
    office.register(job())
    await office.run(1)
    office.put("another", status="blocked", create_index=1)
    await office.stop()

    office.start()
    await office.run(1)

    assert office.state.evaluations["another"].status == "canceled"
    assert office.statuses().count("blocked") == 1


@pytest.mark.row("BL14")
async def test_who_lost_to_others_is_tried_every_minute(office):
    """BL14."""
    office.register(job(group(count=1)))
    await office.run(1)
    evaluation = office.only("blocked")
    changed = replace(evaluation, triggered_by="max-plan-attempts")
    office.state.put_evaluation(changed)
    await office.stop()
    office.start()
    await office.run(1)
    looked = office.metrics.evaluations.counts["blocked"]

    await office.run(UNBLOCK_FAILED_S)

    assert office.metrics.evaluations.counts["blocked"] == looked + 1


async def test_conflicts_are_counted(office, monkeypatch):
    office.add(roomy(1))
    rejected = PlanResult(refresh_index=1, rejected=(None,))  # type: ignore[arg-type]
    real = office.world.proposer.propose_as_leader

    async def reject(command, **fields):
        if isinstance(command, ApplyPlan):
            return Accepted(index=1, plan=rejected)
        return await real(command, **fields)

    monkeypatch.setattr(office.world.proposer, "propose_as_leader", reject)
    office.register(job(group(count=1)))
    await office.run()

    assert office.metrics.conflicts.counts == {"": 5}
    assert office.only("failed").status_description == "maximum attempts reached (5)"


async def test_a_state_from_a_snapshot_is_read_from_the_beginning(office):
    office.add(roomy(1))
    await office.run()
    other = State()
    other.put_evaluation(Evaluation(id="e", job_id="gone", create_index=1))
    office.world.replica._state = other
    office.evaluate_nothing()
    await office.run()

    assert office.state.evaluations["e"].status == "complete"
