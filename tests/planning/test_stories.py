"""Drains and failures from beginning to end; ids of cases are the specification's."""

import pytest
from msgspec.structs import replace

from nodestate.model.job import (
    Constraint,
    EphemeralDisk,
    JobKey,
    JobType,
    MigrateStrategy,
    ReschedulePolicy,
)
from nodestate.model.node import NodeStatus
from tests.planning.clusters import JOB, Cluster, roomy
from tests.planning.works import SECOND_NS, group, job

MESSAGES = [
    "Node registered",
    "Node drain strategy set",
    "Node drain complete",
]


def key(id_: str) -> JobKey:
    return JobKey(("default", id_))


def with_jobs(*kinds: JobType, count: int = 2, is_pair: bool = True) -> Cluster:
    """All work on node 1; node 2 is empty and open, if there is one."""
    cluster = Cluster().add(roomy(1))
    for kind in kinds:
        cluster.register(of_kind(kind, count))
    cluster.settle().obey()
    if is_pair:
        cluster.add(roomy(2))
    return cluster


def of_kind(kind: JobType, count: int):
    is_service = kind is JobType.SERVICE
    made = group(
        count=1 if kind is JobType.SYSTEM else count,
        migrate=MigrateStrategy(max_parallel=1) if is_service else None,
    )
    return job(made, id=str(kind), name=str(kind), kind=kind)


def live(cluster: Cluster, kind: JobType, number: int) -> int:
    return sum(
        one.node_name == f"node-{number}" for one in cluster.live(key(str(kind)))
    )


def messages(cluster: Cluster, number: int = 1) -> list[str]:
    return [event.message for event in cluster.state.nodes[cluster.key(number)].events]


def details(cluster: Cluster, number: int = 1):
    return cluster.state.nodes[cluster.key(number)].events[-1].details


SERVICE, BATCH, SYSTEM = JobType.SERVICE, JobType.BATCH, JobType.SYSTEM


@pytest.mark.row("DR50")
def test_a_service_moves():
    """DR50."""
    cluster = with_jobs(SERVICE)

    cluster.drain(1, 600).rest()

    assert (live(cluster, SERVICE, 1), live(cluster, SERVICE, 2)) == (0, 2)
    assert messages(cluster) == MESSAGES
    assert details(cluster) is None
    node = cluster.state.nodes[cluster.key(1)]
    assert node.scheduling_eligibility == "ineligible"
    assert node.drain_strategy is None


@pytest.mark.row("DR51")
def test_a_service_with_nowhere_to_go_is_forced():
    """DR51."""
    cluster = with_jobs(SERVICE, is_pair=False).drain(1, 1)
    cluster.settle().move()
    cluster.now_ns += SECOND_NS

    cluster.rest()

    assert messages(cluster) == MESSAGES
    assert details(cluster) == {"deadline_reached": "true"}
    assert len(cluster.evaluations("blocked")) == 1
    assert cluster.live(key("service")) == []


@pytest.mark.row("DR52", "DR52b")
@pytest.mark.parametrize("deadline_s", [-1, 0, 60])
def test_an_empty_node_is_done(deadline_s):
    """DR52, DR52b."""
    cluster = Cluster().add(roomy(1)).drain(1, deadline_s).rest()

    assert messages(cluster) == MESSAGES
    assert details(cluster) is None


@pytest.mark.row("DR53", "DR54", "D3")
def test_batch_work_moves_at_the_deadline():
    """DR53."""
    cluster = with_jobs(SERVICE, BATCH, SYSTEM).drain(1, 2).rest()
    assert live(cluster, SERVICE, 1) == 0
    assert (live(cluster, BATCH, 1), live(cluster, SYSTEM, 1)) == (2, 1)
    cluster.now_ns += 2 * SECOND_NS

    cluster.rest()

    assert cluster.on(1) == [one for one in cluster.on(1) if one.is_client_terminal]
    kinds = [live(cluster, kind, 2) for kind in (SERVICE, BATCH, SYSTEM)]
    assert kinds == [2, 2, 1]
    assert details(cluster) == {"deadline_reached": "true"}


@pytest.mark.row("DR55", "M11")
def test_batch_work_that_ends_by_itself_is_not_run_again():
    """DR55."""
    cluster = with_jobs(SERVICE, BATCH, SYSTEM).drain(1, 0).rest()
    assert cluster.state.nodes[cluster.key(1)].is_draining
    cluster.report(*cluster.live(key("batch")), client_status="complete")

    cluster.rest()

    kinds = [live(cluster, kind, 2) for kind in (SERVICE, BATCH, SYSTEM)]
    assert kinds == [2, 0, 1]
    assert live(cluster, SYSTEM, 1) == 0
    assert details(cluster) is None


@pytest.mark.row("DR74")
def test_allocations_of_a_node_that_is_gone_hold_nothing_up():
    """DR56, DR74."""
    cluster = with_jobs(SERVICE, count=4)
    cluster.add(roomy(3)).purge(2).drain(1).rest()
    cluster.add(roomy(2))
    cluster.set_status(3, NodeStatus.DOWN).drain(3).rest()

    assert not cluster.state.nodes[cluster.key(3)].is_draining
    assert live(cluster, SERVICE, 2) == 4


@pytest.mark.row("DR57")
def test_a_drain_may_be_forced_later():
    """DR57, DR44."""
    cluster = with_jobs(BATCH).drain(1, 0).rest()

    cluster.drain(1, -1).rest()

    assert messages(cluster) == [
        *MESSAGES[:2],
        "Node drain strategy updated",
        MESSAGES[2],
    ]
    assert details(cluster) == {"deadline_reached": "true"}
    assert live(cluster, BATCH, 2) == 2


@pytest.mark.row("DR58")
def test_jobs_of_one_name_in_two_namespaces_both_move():
    """DR58."""
    cluster = Cluster().add(roomy(1))
    for namespace in ("default", "other"):
        cluster.register(replace(of_kind(SERVICE, 2), namespace=namespace))
    cluster.settle().obey().add(roomy(2)).drain(1).rest()

    for namespace in ("default", "other"):
        moved = cluster.live(JobKey((namespace, "service")))
        assert [one.node_name for one in moved] == ["node-2", "node-2"]


@pytest.mark.row("DR70", "W5")
def test_a_job_that_is_purged_lets_its_drain_go_on():
    """DR70."""
    cluster = with_jobs(SERVICE).drain(1, 0).settle()
    cluster.deregister(key("service"), is_purge=True).settle().move()
    assert cluster.state.nodes[cluster.key(1)].is_draining

    cluster.rest()

    assert not cluster.state.nodes[cluster.key(1)].is_draining


@pytest.mark.row("DR71")
def test_a_node_that_is_purged_takes_its_drain_with_it():
    """DR71."""
    cluster = with_jobs(SERVICE).add(roomy(3)).drain(1).drain(3).purge(1).rest()

    assert live(cluster, SERVICE, 2) == 2
    assert messages(cluster, 3) == MESSAGES
    assert {one.client_status for one in cluster.on(1)} == {"lost"}


@pytest.mark.row("DR73")
def test_a_drain_that_stops_takes_back_no_marks():
    """DR73."""
    cluster = with_jobs(SERVICE, count=3).drain(1).settle()
    cluster.move()
    cluster.stop_drain(1).rest()

    assert (live(cluster, SERVICE, 1), live(cluster, SERVICE, 2)) == (2, 1)
    assert cluster.state.nodes[cluster.key(1)].scheduling_eligibility == "ineligible"


def test_four_move_two_at_a_time():
    """The worked example."""
    wanted = job(group(count=4, migrate=MigrateStrategy(max_parallel=2)))
    cluster = Cluster().add(roomy(1)).register(wanted).settle().obey().add(roomy(2))
    cluster.drain(1)

    for moved in (2, 4):
        cluster.move()
        assert not cluster.move(), "nothing more until what moved is healthy"
        cluster.settle()
        assert sum(one.node_name == "node-2" for one in cluster.live()) == moved
        cluster.obey()
    cluster.move()
    assert messages(cluster) == MESSAGES


def test_a_replacement_that_is_not_healthy_yet_holds_up_the_next():
    cluster = with_jobs(SERVICE, count=3).drain(1)
    cluster.move()
    cluster.settle()
    for one in cluster.live(key("service")):
        if one.client_status == "pending":
            cluster.report(one, client_status="running")

    assert not cluster.move()


@pytest.mark.row("RC40")
def test_what_fails_again_and_again_is_given_up():
    """RC40."""
    policy = ReschedulePolicy(
        attempts=3,
        interval=900 * SECOND_NS,
        delay=5 * SECOND_NS,
        delay_function="constant",
    )
    wanted = job(group(count=1, reschedule_policy=policy))
    cluster = Cluster().add(roomy(1), roomy(2)).register(wanted).settle()

    for event_count in (1, 2, 3):
        (one,) = cluster.live()
        cluster.fail(one).settle()
        cluster.now_ns += 5 * SECOND_NS
        cluster.settle()
        (successor,) = cluster.live()
        assert cluster.state.allocations[one.id].next_allocation == successor.id
        assert successor.reschedule_tracker is not None
        assert len(successor.reschedule_tracker.events) == event_count
        cluster.now_ns += 10 * SECOND_NS
    cluster.fail(*cluster.live()).settle()

    assert cluster.live() == []
    assert cluster.pending() == []


@pytest.mark.row("RC59")
def test_hosts_that_are_to_differ():
    """RC59."""
    wanted = job(group(count=2), constraints=(Constraint(operand="distinct_hosts"),))
    cluster = Cluster().add(roomy(1)).register(wanted).settle()

    assert len(cluster.live()) == 1
    (complete, _) = cluster.evaluations()
    assert complete.failed_tg_allocs is not None
    filtered = complete.failed_tg_allocs["web"].constraint_filtered
    assert filtered == {"distinct_hosts": 1}


@pytest.mark.row("RC60")
def test_a_disk_that_holds_one():
    """RC60."""
    wanted = job(group(count=2, ephemeral_disk=EphemeralDisk(size_mb=6000)))
    cluster = Cluster().add(roomy(1)).register(wanted).settle()

    assert len(cluster.live()) == 1
    (complete, _) = cluster.evaluations()
    assert complete.failed_tg_allocs is not None
    assert complete.failed_tg_allocs["web"].dimension_exhausted == {"disk": 1}


@pytest.mark.row("SY17")
def test_a_system_job_comes_back_with_its_node():
    """SY17."""
    cluster = with_jobs(SYSTEM, is_pair=False).drain(1).rest()
    assert cluster.live(key("system")) == []

    cluster.set_eligibility(1, "eligible").rest()

    (one,) = cluster.live(key("system"))
    assert one.previous_allocation


@pytest.mark.row("RC65")
def test_many_rounds_of_the_same_request_change_nothing():
    """RC65."""
    cluster = with_jobs(SERVICE)
    before = cluster.state.allocations.copy()

    cluster.register(of_kind(SERVICE, 2)).settle()

    assert cluster.state.allocations == before
    assert JOB not in cluster.state.jobs
