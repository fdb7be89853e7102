"""The parts that both kinds of schedulers share."""

import pytest
from msgspec.structs import replace

from nodestate.planning.reconcile import (
    STEP_RECORDS,
    Reconciled,
    Versions,
    in_order,
    stop_all,
    sweep_lost,
)
from tests.planning.works import Work, changed, failed, job, run, with_command


def test_allocations_are_in_the_order_in_which_they_were_made():
    work = Work(job()).runs([0, 1, 2])
    second, third, first = (replace(one, create_index=7) for one in work.allocations)
    first = replace(first, create_index=6)

    assert in_order([third, second, first]) == [first, second, third]


def test_what_is_lost_is_swept_up_once():
    work = Work(job()).runs(range(4)).set_down(0, 1, 2)
    work.change(0, desired_status="stop").change(3, desired_status="stop")
    work.change(1, desired_status="stop", client_status="lost")

    (stop,) = run(sweep_lost(work.subject()))

    assert (stop.id, stop.is_lost) == ("a000", True)
    assert stop.description == "alloc is lost since its node is down"


def test_many_allocations_are_looked_at_in_steps():
    work = Work(job()).runs(range(STEP_RECORDS + 1))

    assert sum(1 for _ in sweep_lost(work.subject())) == 2


def test_only_what_still_runs_is_stopped():
    work = Work(job()).runs(range(4)).set_down(1)
    work.change(2, desired_status="stop").change(3, **failed())
    found = Reconciled()

    stop_all(work.subject(), work.allocations, found)

    assert [(stop.id, stop.is_lost) for stop in found.stops] == [
        ("a000", False),
        ("a001", True),
    ]
    assert found.changes["web"].stopped == 2


@pytest.mark.parametrize(("change", "is_replaced"), [(changed, 0), (with_command, 1)])
def test_versions_are_compared(change, is_replaced):
    old = job()
    work = Work(change(old)).runs([0], old).runs([1])
    assert work.job is not None
    versions = Versions(work.job, work)
    first, second = work.allocations

    assert [versions.is_current(one) for one in (first, second)] == [False, True]
    assert versions.needs_replacement(first) is bool(is_replaced)


def test_another_incarnation_is_not_current_whatever_its_index():
    old = job()
    work = Work(replace(old, create_index=999)).runs([0], old)
    assert work.job is not None

    assert not Versions(work.job, work).is_current(work.allocations[0])


def test_a_version_that_nobody_knows_has_to_be_replaced():
    work = Work(changed(job())).runs([0], job())
    work.versions.clear()
    assert work.job is not None

    assert Versions(work.job, work).needs_replacement(work.allocations[0])
