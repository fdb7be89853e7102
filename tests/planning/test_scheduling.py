"""Evaluations from beginning to end; ids of cases are the specification's."""

import pytest
from msgspec.structs import replace
from typing_extensions import override

from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Constraint, JobType, ReschedulePolicy, Resources
from nodestate.model.node import NodeStatus
from nodestate.model.plan import PlanResult
from nodestate.planning.scheduling import Scheduling, dry_run
from tests.planning.clusters import JOB, Cluster, roomy
from tests.planning.works import SECOND_NS, group, job, run, with_command

SYSTEM = JobType.SYSTEM
CONSTRAINT = Constraint(l_target="${node.class}", r_target="big", operand="=")


def sized(cpu: int, count: int = 1, name: str = "web", **fields):
    (task,) = group().tasks
    needs = Resources(cpu=cpu, memory_mb=10)
    return group(name, count, tasks=(replace(task, resources=needs),), **fields)


def test_a_job_is_placed():
    cluster = Cluster().add(roomy(1), roomy(2)).register(job(group(count=4)))

    cluster.settle()

    assert sorted(one.name for one in cluster.live()) == [
        f"job.web[{number}]" for number in range(4)
    ]
    (evaluation,) = cluster.evaluations()
    assert evaluation.status == "complete"
    assert evaluation.queued_allocations == {"web": 0}
    assert evaluation.snapshot_index == 12
    assert evaluation.failed_tg_allocs is None
    assert len(cluster.entries) == 4, "node, job, plan, end"


@pytest.mark.row("RC61", "M18")
def test_nothing_to_do_takes_no_plan():
    """RC61, RC65."""
    cluster = Cluster().add(roomy(1)).register(job(group(count=0))).settle()

    assert cluster.evaluations()[0].queued_allocations == {"web": 0}
    assert len(cluster.entries) == 3


@pytest.mark.row("RC48")
def test_without_nodes_a_job_waits():
    """RC48."""
    cluster = Cluster().register(job()).settle()

    complete, blocked = cluster.evaluations()
    assert (complete.status, blocked.status) == ("complete", "blocked")
    assert complete.blocked_eval == blocked.id
    assert blocked.previous_eval == complete.id
    assert complete.failed_tg_allocs is not None
    metric = complete.failed_tg_allocs["web"]
    assert metric.coalesced_failures == 9
    assert metric.nodes_available == {"dc1": 0}
    assert complete.queued_allocations == {"web": 10}
    assert blocked.triggered_by == "queued-allocs"
    assert blocked.status_description == "created to place remaining allocations"
    assert blocked.escaped_computed_class
    assert blocked.snapshot_index == 11
    assert blocked.create_index == complete.modify_index
    assert len(cluster.entries) == 2, "no plan"


@pytest.mark.row("RC50")
def test_one_group_does_not_wait_for_another():
    """RC50."""
    impossible = group("big", 2, constraints=(CONSTRAINT,))
    cluster = Cluster().add(roomy(1)).register(job(group("web", 2), impossible))

    cluster.settle()

    complete, blocked = cluster.evaluations()
    assert len(cluster.live()) == 2
    assert complete.failed_tg_allocs is not None
    assert list(complete.failed_tg_allocs) == ["big"]
    assert complete.queued_allocations == {"web": 0, "big": 2}
    assert blocked.status == "blocked"


@pytest.mark.row("RC51")
def test_as_much_is_placed_as_there_is_room_for():
    """RC51."""
    cluster = Cluster().add(roomy(1, cpu=3900)).register(job(sized(3600, 3)))

    cluster.settle()

    complete, _ = cluster.evaluations()
    assert len(cluster.live()) == 1
    assert complete.queued_allocations == {"web": 2}


@pytest.mark.row("RC52")
def test_what_still_finds_no_room_waits_on():
    """RC52: under its own id, and without an entry."""
    cluster = Cluster().register(job()).settle()
    (blocked,) = cluster.evaluations("blocked")
    written = cluster.index

    ending = cluster.evaluate(blocked)

    assert ending.changes == ()
    assert ending.blocked is not None
    assert (ending.blocked.id, ending.blocked.snapshot_index) == (blocked.id, written)
    assert cluster.index == written


def test_other_numbers_are_written():
    cluster = Cluster().register(job(sized(600, 3))).settle()
    (blocked,) = cluster.evaluations("blocked")
    cluster.register(job(sized(600, 5)))

    ending = cluster.evaluate(blocked)

    (again,) = cluster.evaluations("blocked")
    assert again.id == blocked.id
    assert again.queued_allocations == {"web": 5}
    assert ending.blocked is not None


@pytest.mark.row("RC53")
def test_what_finds_room_is_complete():
    """RC53."""
    cluster = Cluster().register(job(group(count=2))).settle()
    (blocked,) = cluster.evaluations("blocked")
    cluster.add(roomy(1))

    cluster.evaluate(blocked)

    assert len(cluster.live()) == 2
    assert cluster.evaluations("blocked") == []
    assert cluster.state.evaluations[blocked.id].status == "complete"


@pytest.mark.row("RC54")
@pytest.mark.parametrize("is_purge", [False, True])
def test_what_nobody_wants_any_more_is_complete(is_purge):
    """RC54."""
    cluster = Cluster().register(job()).settle()
    (blocked,) = cluster.evaluations("blocked")
    cluster.deregister(is_purge=is_purge)
    written = cluster.index

    cluster.evaluate(blocked)

    assert cluster.state.evaluations[blocked.id].status == "complete"
    assert cluster.index == written + 1, "no plan"


class Rejecting(Cluster):
    """No plan of it ever fits."""

    @override
    def propose(self, scheduling, command):
        ids = tuple(one.id for one in command.plan.placements)
        scheduling.take(PlanResult(dropped=ids, refresh_index=self.index))


@pytest.mark.row("RC55")
@pytest.mark.parametrize(
    ("kind", "attempts"), [(JobType.SERVICE, 5), (JobType.BATCH, 2)]
)
def test_conflicts_end_after_so_many_attempts(kind, attempts):
    """RC55."""
    cluster = Rejecting().add(roomy(1)).register(job(group(count=2), kind=kind))

    cluster.settle()

    failed, blocked = cluster.evaluations()
    assert failed.status == "failed"
    assert failed.status_description == f"maximum attempts reached ({attempts})"
    assert failed.queued_allocations == {"web": 2}
    assert (blocked.status, blocked.triggered_by) == ("blocked", "max-plan-attempts")
    assert blocked.status_description == "created due to placement conflicts"
    assert failed.blocked_eval == blocked.id


@pytest.mark.row("SY18")
def test_a_system_job_that_never_fits_has_no_other_to_wait():
    """SY18."""
    cluster = Rejecting().add(roomy(1)).register(job(group(count=1), kind=SYSTEM))

    cluster.settle()

    (failed,) = cluster.evaluations()
    assert failed.status_description == "maximum attempts reached (5)"


def test_progress_gives_new_attempts():
    scheduling = Scheduling(
        Evaluation(id="e", job_id="job", triggered_by="job-register")
    )
    cluster = Cluster().add(roomy(1)).register(job())

    for number in range(12):
        assert scheduling.is_open
        assert run(scheduling.look(cluster.state, cluster.index, cluster.now_ns))
        scheduling.take(PlanResult(refresh_index=1, placed_count=number % 4 == 3))


@pytest.mark.row("EV16")
@pytest.mark.parametrize("trigger", ["scheduled", "nonsense"])
def test_a_trigger_that_nobody_knows_fails(trigger):
    """EV16."""
    scheduling = Scheduling(Evaluation(id="e", triggered_by=trigger))
    assert not scheduling.is_open

    (change,) = scheduling.end(Cluster().state, 0).changes

    assert change.evaluation.status == "failed"
    assert change.evaluation.status_description == (
        f"scheduler cannot handle '{trigger}' evaluation reason"
    )


@pytest.mark.row("BL2")
def test_the_newest_alone_waits():
    """BL2, as far as it can be done without waiting for a reaper."""
    cluster = Cluster().register(job()).settle()
    (older,) = cluster.evaluations("blocked")

    cluster.register(with_command(job())).settle()

    (newer,) = cluster.evaluations("blocked")
    assert newer.id != older.id
    ended = cluster.state.evaluations[older.id]
    assert ended.status == "canceled"
    assert ended.status_description == (
        'existing blocked evaluation exists for job "job"'
    )


@pytest.mark.row("RC56", "M3")
def test_what_moves_stops_though_there_is_no_other_node():
    """RC56."""
    cluster = Cluster().add(roomy(1)).register(job(group(count=2))).settle().obey()
    cluster.drain(1, -1)

    cluster.mark(*cluster.live()).settle()

    assert cluster.live() == []
    (blocked,) = cluster.evaluations("blocked")
    complete = cluster.state.evaluations[blocked.previous_eval]
    assert complete.triggered_by == "node-drain"
    assert complete.queued_allocations == {"web": 2}


@pytest.mark.row("RC12")
def test_an_update_that_fits_nowhere_leaves_what_runs():
    """RC12."""
    cluster = Cluster().add(roomy(1)).register(job(sized(600))).settle()

    cluster.register(job(sized(1600))).settle()

    (one,) = cluster.live()
    assert one.job_version == 0
    assert len(cluster.evaluations("blocked")) == 1


@pytest.mark.row("RC6", "RC9")
@pytest.mark.parametrize("is_destructive", [False, True])
def test_a_full_node_takes_an_update(is_destructive):
    """RC6, RC9 where there is room for one only; RC63."""
    cluster = Cluster().add(roomy(1)).register(job(sized(600))).settle()
    (old,) = cluster.live()
    wanted = (
        job(sized(600), meta={"a": "1"})
        if is_destructive
        else job(sized(600, constraints=()))
    )
    cluster.register(replace(wanted, priority=70)).settle()

    (new,) = cluster.live()
    assert new.job_version == 1
    assert (new.id == old.id) is not is_destructive
    if is_destructive:
        assert new.previous_allocation == old.id
        assert cluster.state.allocations[old.id].next_allocation == new.id


@pytest.mark.row("RC64", "D10", "W13")
def test_an_update_on_a_closed_node_is_written():
    """RC64."""
    cluster = Cluster().add(roomy(1)).register(job(group(count=1))).settle()
    cluster.set_eligibility(1, "ineligible")

    cluster.register(job(group(count=1), priority=70)).settle()

    assert [one.job_version for one in cluster.live()] == [1]


# Failures


@pytest.mark.row("RC39", "RC62")
def test_a_failure_is_replaced_elsewhere():
    """RC62, RC39."""
    policy = ReschedulePolicy(
        attempts=1, interval=900 * SECOND_NS, delay=SECOND_NS, delay_function="constant"
    )
    wanted = job(group(count=1, reschedule_policy=policy))
    cluster = Cluster().add(roomy(1), roomy(2)).register(wanted).settle()
    (first,) = cluster.live()

    cluster.fail(first).settle()

    (second,) = cluster.live()
    assert second.node_key != first.node_key
    assert second.reschedule_tracker is not None
    (event,) = second.reschedule_tracker.events
    assert (event.prev_alloc_id, event.prev_node_id) == (first.id, first.node_id)
    failed = cluster.state.allocations[first.id]
    assert failed.desired_status == "stop"
    assert failed.desired_description == "alloc was rescheduled because it failed"
    assert failed.next_allocation == second.id

    cluster.fail(second).settle()
    assert cluster.live() == []


@pytest.mark.row("W18")
def test_a_failure_that_finds_no_room_is_not_forgotten():
    """W18."""
    cluster = Cluster().add(roomy(1)).register(job(group(count=1))).settle()
    (first,) = cluster.live()
    cluster.set_eligibility(1, "ineligible")
    cluster.now_ns += 60 * SECOND_NS
    cluster.fail(first)
    cluster.now_ns += 60 * SECOND_NS

    cluster.settle()

    assert cluster.state.allocations[first.id].desired_status == "run"
    (blocked,) = cluster.evaluations("blocked")
    cluster.set_eligibility(1, "eligible")
    cluster.evaluate(blocked)
    (second,) = cluster.live()
    assert second.reschedule_tracker is not None


@pytest.mark.row("RC25")
def test_a_failure_waits_for_its_delay():
    """RC25."""
    policy = ReschedulePolicy(unlimited=True, delay=30 * SECOND_NS)
    wanted = job(group(count=1, reschedule_policy=policy))
    cluster = Cluster().add(roomy(1)).register(wanted).settle()
    (first,) = cluster.live()

    cluster.fail(first).settle()

    (later,) = cluster.evaluations("pending")
    assert later.triggered_by == "alloc-failure"
    assert later.wait_until.ns == cluster.now_ns + 30 * SECOND_NS
    assert later.status_description == "created for delayed rescheduling"
    assert cluster.state.allocations[first.id].followup_eval_id == later.id

    cluster.now_ns += 30 * SECOND_NS
    cluster.settle()
    (second,) = cluster.live()
    assert second.previous_allocation == first.id


# System jobs


def test_every_node_runs_a_system_job():
    """SY1."""
    nodes = [roomy(number) for number in range(10)]
    cluster = Cluster().add(*nodes).register(job(group(count=1), kind=SYSTEM))

    cluster.settle()

    assert len({one.node_key for one in cluster.live()}) == 10
    assert cluster.evaluations()[-1].queued_allocations == {"web": 0}


@pytest.mark.row("SY5", "SY15")
def test_a_node_that_will_not_do_is_no_failure():
    """SY5, SY15."""
    wanted = job(
        group("all", 1), group("some", 1, constraints=(CONSTRAINT,)), kind=SYSTEM
    )
    cluster = Cluster().add(roomy(1), roomy(2, node_class="big")).register(wanted)

    cluster.settle()

    assert len(cluster.live()) == 3
    (evaluation,) = cluster.evaluations()
    assert evaluation.status == "complete"
    assert evaluation.queued_allocations == {"all": 0, "some": 0}
    assert evaluation.failed_tg_allocs is None


@pytest.mark.row("SY6", "SY16", "W16")
def test_each_full_node_is_waited_for():
    """SY6, SY16."""
    nodes = [roomy(number, cpu=50) for number in range(1, 4)]
    cluster = Cluster().add(*nodes, roomy(4)).register(job(group(count=1), kind=SYSTEM))

    cluster.settle()

    complete, *blocked = cluster.evaluations()
    assert complete.status == "complete"
    assert complete.queued_allocations == {"web": 3}
    assert complete.failed_tg_allocs is not None
    assert complete.failed_tg_allocs["web"].coalesced_failures == 2
    assert {one.node_id for one in blocked} == {one.id for one in nodes}
    assert {one.status for one in blocked} == {"blocked"}
    written = cluster.index

    for one in blocked:
        assert cluster.evaluate(one).blocked is not None
    assert cluster.index == written, "they wait on, and no others do"


def test_a_full_node_is_waited_for_once():
    cluster = Cluster().add(roomy(1, cpu=50)).register(job(group(count=1), kind=SYSTEM))
    cluster.settle().register(job(group(count=1), kind=SYSTEM)).settle()

    assert len(cluster.evaluations("blocked")) == 1


@pytest.mark.row("SY2", "SY7")
def test_a_node_that_comes_back_runs_it_again():
    """SY7, SY2."""
    cluster = Cluster().add(roomy(1), roomy(2))
    cluster.register(job(group(count=1), kind=SYSTEM)).settle()

    cluster.set_status(1, NodeStatus.DOWN).settle()
    assert len(cluster.live()) == 1
    cluster.set_status(1, NodeStatus.READY).settle()
    assert len(cluster.live()) == 2


@pytest.mark.row("RC20", "SY13")
@pytest.mark.parametrize("is_purge", [False, True])
@pytest.mark.parametrize("kind", list(JobType))
def test_a_job_that_goes_takes_all_with_it(kind, is_purge):
    """RC20, SY13."""
    cluster = Cluster().add(roomy(1)).register(job(group(count=1), kind=kind)).settle()

    cluster.deregister(is_purge=is_purge).settle()

    assert cluster.live() == []
    assert len(cluster.state.allocations) == 1


def test_the_same_look_makes_the_same_plan():
    cluster = Cluster().add(*[roomy(number) for number in range(5)]).register(job())
    (evaluation,) = cluster.pending()

    plans = [
        run(Scheduling(evaluation).look(cluster.state, cluster.index, cluster.now_ns))
        for _ in range(2)
    ]

    assert plans[0] == plans[1]
    assert plans[0] is not None
    ids = {one.id for one in plans[0].plan.placements}
    assert len(ids) == 10
    assert {len(one) for one in ids} == {36}


# Dry runs


def test_a_dry_run_says_what_would_be_and_changes_nothing():
    cluster = Cluster().add(roomy(1)).register(job(sized(200, 3))).settle()
    (stored,) = cluster.state.jobs.values()
    wanted = replace(
        job(sized(200, 9), meta={"a": "1"}),
        version=1,
        create_index=stored.create_index,
        job_modify_index=stored.job_modify_index + 1,
    )
    before = cluster.state.shallow_copy()

    found = run(dry_run(cluster.state, wanted, cluster.index, cluster.now_ns))

    changes = found.changes["web"]
    assert (changes.updated, changes.placed) == (3, 6)
    assert len(found.placed) == 5
    assert sum(bool(one.previous_id) for one in found.placed) == 3
    assert found.failed["web"].coalesced_failures == 3
    assert len(found.stops) == 3
    assert cluster.state.allocations == before.allocations
    assert cluster.state.jobs == before.jobs


def test_a_dry_run_of_a_new_job():
    cluster = Cluster().add(roomy(1))

    found = run(dry_run(cluster.state, job(group(count=2)), 1, cluster.now_ns))

    assert [one.name for one in found.placed] == ["job.web[0]", "job.web[1]"]
    assert cluster.state.job(JOB) is None
