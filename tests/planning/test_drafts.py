"""One look at one job: what its plan is made of."""

import uuid

import pytest
from msgspec.structs import replace

from nodestate.model.command import ApplyPlan
from nodestate.model.evaluation import Evaluation, Trigger
from nodestate.model.job import EphemeralDisk
from nodestate.model.plan import Plan
from nodestate.planning.drafts import Ids, Look, child_of, draft_plan, failed_on
from tests.planning.clusters import JOB, Cluster, roomy
from tests.planning.works import (
    CHANGES,
    MARK,
    SECOND_NS,
    Work,
    group,
    job,
    key_of,
    node,
    run,
    tracker,
    with_command,
)

EVALUATION = Evaluation(id="e", job_id="job", priority=70, job_modify_index=5)


def look(cluster: Cluster, **fields) -> Look:
    known = Look(
        cluster.state,
        cluster.index,
        EVALUATION,
        cluster.state.job(JOB),
        cluster.now_ns,
    )
    return known._replace(**fields)


def test_ids_are_random_uuids_that_follow_from_a_seed():
    ids = Ids("a", 1)
    made = [ids.new_id() for _ in range(100)]

    assert len(set(made)) == 100
    for one in made:
        parsed = uuid.UUID(one)
        assert str(parsed) == one
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    assert made[0] == Ids("a", 1).new_id() != Ids("a", 2).new_id()


def test_another_look_has_other_ids():
    cluster = Cluster().add(roomy(1)).register(job(group(count=1)))

    plans = [run(draft_plan(look(cluster, attempt=attempt))).plan for attempt in (0, 1)]

    first, second = (plan.placements[0].id for plan in plans)
    assert first != second


def test_what_follows_is_of_the_same_job():
    child = child_of(EVALUATION, "c", Trigger.QUEUED_ALLOCS, status="blocked")

    assert child == Evaluation(
        id="c",
        job_id="job",
        priority=70,
        job_modify_index=5,
        triggered_by="queued-allocs",
        status="blocked",
        previous_eval="e",
    )


def test_where_it_failed_before_counts():
    (one,) = Work(job()).runs([1], reschedule_tracker=tracker((9, 5))).allocations
    assert one.reschedule_tracker is not None
    (event,) = one.reschedule_tracker.events
    earlier = replace(event, prev_node_id=node(2).id)
    one = replace(
        one, reschedule_tracker=replace(one.reschedule_tracker, events=(earlier,))
    )

    assert failed_on(one) == {key_of(1), node(2).id.replace("-", "")}


def sticky(cluster: Cluster) -> Cluster:
    disk = EphemeralDisk(size_mb=10, sticky=True)
    for number in range(1, 6):
        cluster.add(roomy(number))
    return cluster.register(job(group(count=1, ephemeral_disk=disk))).settle()


@pytest.mark.row("RC57")
def test_a_sticky_disk_stays_where_it_is():
    """RC57."""
    cluster = sticky(Cluster())
    (old,) = cluster.live()

    cluster.register(with_command(cluster.state.jobs[JOB])).settle()

    (new,) = cluster.live()
    assert new.previous_allocation == old.id
    assert new.node_key == old.node_key


@pytest.mark.row("RC58")
def test_a_sticky_disk_moves_off_a_node_that_drains():
    """RC58."""
    cluster = sticky(Cluster())
    (old,) = cluster.live()
    number = int(old.node_name.rpartition("-")[2])

    cluster.drain(number, -1).mark(old).settle()

    (new,) = cluster.live()
    assert new.previous_allocation == old.id
    assert new.node_key != old.node_key


def test_what_is_stopped_has_no_version_and_no_numbers_but_zero():
    cluster = Cluster().add(roomy(1)).register(job(group(count=2))).settle()
    cluster.deregister()

    draft = run(draft_plan(look(cluster)))

    assert len(draft.plan.stops) == 2
    assert draft.plan.version is None
    assert draft.queued == {"web": 0}
    assert run(draft_plan(look(cluster, job=None))).queued == {}


def test_all_at_once_is_the_plans():
    cluster = Cluster().add(roomy(1)).register(job(group(count=1), all_at_once=True))

    assert run(draft_plan(look(cluster))).plan.is_all_at_once


def test_numbers_are_what_becomes_of_the_group():
    cluster = Cluster().add(roomy(1)).register(job(group(count=3))).settle()
    first, *_ = cluster.live()
    cluster.state.put_allocation(replace(first, desired_transition=MARK))

    draft = run(draft_plan(look(cluster)))

    changes = draft.changes["web"]
    assert (changes.migrated, changes.ignored, changes.placed) == (1, 2, 0)
    assert draft.queued == {"web": 1}
    assert draft.plan.snapshot_index == cluster.index


def test_an_update_that_no_longer_fits_is_a_replacement():
    """An unchanged task that may no longer run where it does moves to where it may."""
    cluster = Cluster().add(roomy(1)).register(job(group(count=1))).settle()
    cluster.now_ns += SECOND_NS
    cluster.add(roomy(1, datacenter="dc1", drivers=None), roomy(2))
    cluster.register(job(group(count=1), priority=80)).settle()

    (new,) = cluster.live()
    assert new.node_name == "node-2"
    assert new.previous_allocation


# Long plans


@pytest.fixture
def short_plans(monkeypatch) -> None:
    monkeypatch.setattr("nodestate.planning.drafts.PLACEMENTS_MAX", 3)
    monkeypatch.setattr("nodestate.planning.drafts.STOPS_MAX", 2)


def plans(cluster: Cluster) -> list[Plan]:
    return [one.plan for one in cluster.entries if isinstance(one, ApplyPlan)]


@pytest.mark.usefixtures("short_plans")
@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_a_long_plan_is_cut(count):
    cluster = Cluster().add(roomy(1)).register(job(group(count=count))).settle()

    assert sorted(one.index for one in cluster.live()) == list(range(count))
    assert max(len(plan.placements) for plan in plans(cluster)) <= 3
    (evaluation,) = cluster.evaluations()
    assert evaluation.status == "complete"
    assert evaluation.queued_allocations == {"web": 0}


@pytest.mark.usefixtures("short_plans")
@pytest.mark.parametrize("change", CHANGES)
def test_a_long_change_is_cut(change):
    cluster = Cluster().add(roomy(1, cpu=9000)).register(job(group(count=7))).settle()
    cluster.entries.clear()

    cluster.register(replace(change(cluster.state.jobs[JOB]), priority=70)).settle()

    sizes = [(len(one.placements), len(one.updates)) for one in plans(cluster)]
    cut = [(3, 0), (3, 0), (1, 0)]
    assert sizes == (cut if change is with_command else [(0, 3), (0, 3), (0, 1)])
    assert {one.job_version for one in cluster.live()} == {1}
    assert sorted(one.index for one in cluster.live()) == list(range(7))


@pytest.mark.usefixtures("short_plans")
def test_what_moves_is_cut_with_its_replacement():
    cluster = Cluster().add(roomy(1)).register(job(group(count=5))).settle().obey()
    cluster.add(roomy(2)).drain(1, -1).mark(*cluster.live())
    cluster.entries.clear()

    cluster.settle()

    assert {one.node_name for one in cluster.live()} == {"node-2"}
    assert all(one.previous_allocation for one in cluster.live())
    assert max(len(plan.stops) for plan in plans(cluster)) <= 3


@pytest.mark.usefixtures("short_plans")
def test_a_job_that_goes_is_stopped_in_parts():
    cluster = Cluster().add(roomy(1)).register(job(group(count=5))).settle()
    cluster.entries.clear()

    cluster.deregister().settle()

    assert cluster.live() == []
    assert [len(plan.stops) for plan in plans(cluster)] == [2, 2, 1]


@pytest.mark.usefixtures("short_plans")
def test_all_at_once_is_not_cut():
    wanted = job(group(count=7), all_at_once=True)
    cluster = Cluster().add(roomy(1)).register(wanted).settle()

    assert [len(plan.placements) for plan in plans(cluster)] == [7]
