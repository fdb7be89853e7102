"""What comes of jobs, from registration to the last report (RC, SY, BL, HB)."""

import pytest
from msgspec.structs import replace

from nodestate.model.job import Constraint, JobType
from nodestate.model.node import Driver, NodeStatus
from tests.planning.clusters import JOB, Cluster, roomy
from tests.planning.test_scheduling import sized
from tests.planning.works import (
    ALWAYS,
    MARK,
    SECOND_NS,
    Work,
    changed,
    complete,
    failed,
    group,
    job,
    key_of,
    with_command,
)

SYSTEM = JobType.SYSTEM
BIG = Constraint(l_target="${node.class}", r_target="big", operand="=")


def one_of(kind: JobType = JobType.SERVICE):
    return job(group(count=1), kind=kind)


def waiting() -> Cluster:
    """A job that waits for room, beside a node that is closed."""
    closed = roomy(1, scheduling_eligibility="ineligible")
    return Cluster().add(closed).register(one_of()).settle()


@pytest.mark.row("BL21")
def test_a_node_that_opens_gets_what_waits():
    cluster = waiting().set_eligibility(1, "eligible").lead()

    assert [one.node_name for one in cluster.live()] == ["node-1"]
    assert cluster.evaluations("blocked") == []


@pytest.mark.row("BL22", "D9")
@pytest.mark.parametrize("is_opened", [True, False])
def test_a_drain_that_ends_and_opens_its_node_gives_it_what_waits(is_opened):
    cluster = waiting().drain(1)

    cluster.stop_drain(1, mark_eligible=is_opened).lead()

    assert len(cluster.live()) == is_opened


@pytest.mark.row("RC45")
@pytest.mark.parametrize("client", ["complete", "lost"])
def test_what_is_over_on_a_lost_node_is_let_be(client):
    work = Work(job(group(count=0))).runs([0], client_status=client)

    assert work.change(0, desired_status="stop").set_down(0).reconcile().is_nothing()


@pytest.mark.row("D15", "RC18")
def test_what_moves_no_more_is_lost_with_its_node():
    """Too many, marked and on a node that is down: no agent will report it over."""
    work = Work(job(group(count=1))).runs([0, 1]).change(1, desired_transition=MARK)

    found = work.set_down(1).reconcile()

    assert (found.stopped, found.lost, found.placed) == ([1], [1], [])


def test_a_failure_that_is_too_many_is_not_lost_as_well():
    work = Work(job(group(count=1))).runs([0, 1]).change(1, **failed(99)).set_down(1)

    found = work.reconcile()

    assert (found.stopped, found.lost) == ([1], [])


@pytest.mark.row("RC49")
def test_a_job_waits_for_whatever_there_may_be():
    """V44: nothing is said of classes, everything may be of use."""
    nodes = roomy(1, cpu=50, node_class="big"), roomy(2, node_class="other")
    wanted = job(group(count=1, constraints=(BIG,)))
    cluster = Cluster().add(*nodes).register(wanted).settle()

    ended, blocked = cluster.evaluations()
    assert blocked.escaped_computed_class
    assert blocked.class_eligibility is None
    assert ended.failed_tg_allocs is not None
    metric = ended.failed_tg_allocs["web"]
    assert (metric.nodes_filtered, metric.nodes_exhausted) == (1, 1)


@pytest.mark.row("RC54")
def test_what_waits_for_more_than_is_wanted_is_complete():
    cluster = waiting()
    (blocked,) = cluster.evaluations("blocked")
    cluster.register(job(group(count=0)))
    written = cluster.index

    cluster.evaluate(blocked)

    assert cluster.state.evaluations[blocked.id].status == "complete"
    assert cluster.index == written + 1, "no plan"


@pytest.mark.row("RC63")
def test_each_of_a_chain_knows_its_neighbours():
    cluster = Cluster().add(roomy(1)).register(one_of()).settle().obey()
    (first,) = cluster.live()
    followed = [first.id]
    for command in ("/bin/one", "/bin/two"):
        cluster.register(with_command(one_of(), command)).settle().obey()
        (newest,) = cluster.live()
        followed.append(newest.id)

    chain = [cluster.state.allocations[id_] for id_ in followed]
    assert [one.previous_allocation for one in chain] == ["", *followed[:-1]]
    assert [one.next_allocation for one in chain] == [*followed[1:], ""]


@pytest.mark.row("W10", "RC19")
def test_what_a_removed_group_had_is_stopped_once():
    work = Work(changed(job(group("new", 0)))).runs(range(3), job())
    assert work.reconcile().stopped == [0, 1, 2]

    for number in range(3):
        work.change(number, desired_status="stop")

    assert work.reconcile().is_nothing()


@pytest.mark.row("W11")
def test_nodes_of_one_class_are_looked_at_each():
    """Health of drivers is no part of the class."""
    ill = {"exec": Driver(detected=True, healthy=False)}
    cluster = Cluster().add(roomy(1, drivers=ill), roomy(2), roomy(3, drivers=ill))

    cluster.register(job(group(count=4))).settle()

    assert {one.node_name for one in cluster.live()} == {"node-2"}


@pytest.mark.row("M10")
def test_a_service_that_ended_well_is_run_again():
    found = Work(one_of()).runs([0]).change(0, **complete()).reconcile()

    assert found.placed == [0]


@pytest.mark.row("RC62")
def test_where_it_failed_is_the_second_choice():
    """The node where it failed is the fuller one, and would be the better one else."""
    policy = replace(ALWAYS, delay=SECOND_NS)
    wanted = job(group(count=1, reschedule_policy=policy))
    other = job(sized(500), id="other", name="other")
    cluster = Cluster().add(roomy(1)).register(other).register(wanted).settle()
    (first,) = cluster.live()
    cluster.add(roomy(2))

    cluster.fail(first).settle()

    (second,) = cluster.live()
    assert (first.node_name, second.node_name) == ("node-1", "node-2")
    assert second.metrics is not None
    scores = {one.node_id: one.scores for one in second.metrics.score_meta_data or ()}
    penalties = {id_: each["node-reschedule-penalty"] for id_, each in scores.items()}
    assert penalties == {first.node_id: -1.0, second.node_id: 0.0}


@pytest.mark.row("D8")
def test_a_lost_name_that_is_not_wanted_has_no_successor():
    found = Work(job(group(count=2))).runs([0, 5]).set_down(5).reconcile()

    assert (found.lost, found.placed) == ([5], [1])
    assert found.found.placements[0].previous is None


@pytest.mark.row("D8")
def test_a_lost_name_that_is_taken_has_no_successor():
    work = Work(job(group(count=2))).runs([0, 0])
    first, second = work.allocations
    work.allocations = [first, replace(second, node_key=key_of(9))]

    found = work.reconcile()

    assert (found.lost, found.placed) == ([0], [1])
    assert found.found.placements[0].previous is None


# System jobs


@pytest.mark.row("SY1")
def test_ten_nodes_have_one_each():
    nodes = [roomy(number) for number in range(10)]
    cluster = Cluster().add(*nodes).register(one_of(SYSTEM)).settle()

    made = cluster.live()
    assert {one.node_id for one in made} == {one.id for one in nodes}
    assert len(made) == 10
    metrics = [one.metrics for one in made if one.metrics is not None]
    assert [metric.nodes_available for metric in metrics] == [{"dc1": 10}] * 10
    (evaluation,) = cluster.evaluations()
    assert evaluation.queued_allocations == {"web": 0}


@pytest.mark.row("SY3")
def test_a_system_job_without_nodes_waits_for_nothing():
    cluster = Cluster().register(one_of(SYSTEM)).settle()

    (evaluation,) = cluster.evaluations()
    assert evaluation.status == "complete"
    assert len(cluster.entries) == 2, "no plan"


@pytest.mark.row("SY12")
@pytest.mark.parametrize("is_destructive", [True, False])
def test_a_new_version_runs_where_the_old_one_did(is_destructive):
    nodes = [roomy(number) for number in range(10)]
    cluster = Cluster().add(*nodes).register(one_of(SYSTEM)).settle().obey()
    before = {one.id: one.node_key for one in cluster.live()}
    wanted = one_of(SYSTEM)
    changed_job = (
        with_command(wanted) if is_destructive else replace(wanted, priority=70)
    )

    cluster.register(changed_job).settle()

    after = cluster.live()
    assert sorted(one.node_key for one in after) == sorted(before.values())
    assert {one.job_version for one in after} == {1}
    assert ({one.id for one in after} == before.keys()) is not is_destructive


# Nodes that go and come back


@pytest.mark.row("HB8", "HB9")
def test_what_was_lost_stays_where_it_went():
    cluster = Cluster().add(roomy(1)).register(one_of()).settle().obey().add(roomy(2))
    (first,) = cluster.live()

    cluster.set_status(1, NodeStatus.DOWN).rest()

    lost = cluster.state.allocations[first.id]
    assert (lost.client_status, lost.desired_status) == ("lost", "stop")
    (second,) = cluster.live()
    assert second.node_name == "node-2"
    assert cluster.state.job_summaries[JOB].summary["web"].lost == 1

    cluster.set_status(1, NodeStatus.READY).lead()
    cluster.report(lost, client_status="complete").rest()

    bins = cluster.state.job_summaries[JOB].summary["web"]
    assert (bins.lost, bins.complete, bins.running) == (0, 1, 1)
    assert [one.id for one in cluster.live()] == [second.id]
