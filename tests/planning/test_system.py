"""What system jobs want; ids of cases are the specification's."""

import pytest
from msgspec.structs import replace

from nodestate.model.job import JobType
from nodestate.model.node import NodeStatus
from nodestate.planning.selection import is_ready
from nodestate.planning.system import reconcile_system
from tests.conformance.rows import example
from tests.planning.works import (
    MARK,
    Found,
    Work,
    changed,
    draining,
    failed,
    group,
    job,
    key_of,
    node,
    run,
    with_command,
)

SYSTEM = job(group(count=1), kind=JobType.SYSTEM)


def running(numbers, of=SYSTEM, wanted=SYSTEM):
    """A system job that runs once on each of some nodes."""
    work = Work(wanted)
    for number in numbers:
        work.runs([number], of, name="job.web[0]")
    return work


def reconcile(work: Work) -> Found:
    keys = sorted(
        key
        for key, one in work.nodes.items()
        if is_ready(one) and one.datacenter == "dc1"
    )
    return Found(work, run(reconcile_system(work.subject(), keys)))


def placed_on(found: Found) -> list[int]:
    return [int(one.node_key, 16) for one in found.found.placements if one.node_key]


@pytest.mark.row("SY1")
def test_every_node_gets_one():
    """SY1."""
    work = Work(SYSTEM)
    work.nodes = {key_of(number): node(number) for number in range(10)}

    found = reconcile(work)

    assert placed_on(found) == list(range(10))
    assert {one.name for one in found.found.placements} == {"job.web[0]"}


@pytest.mark.row("SY2")
def test_a_new_node_gets_one():
    """SY2."""
    work = running(range(10))
    work.nodes[key_of(10)] = node(10)

    found = reconcile(work)

    assert (placed_on(found), found.stopped_ids) == ([10], [])


@pytest.mark.row("SY3")
def test_without_nodes_there_is_nothing_to_do():
    """SY3."""
    assert reconcile(Work(SYSTEM)).is_nothing()


@pytest.mark.row("SY4")
@pytest.mark.parametrize(
    "closed",
    [
        node(0, scheduling_eligibility="ineligible"),
        node(0, status=NodeStatus.INITIALIZING),
        node(0, status=NodeStatus.DOWN),
        node(0, datacenter="dc2"),
        draining(0),
    ],
)
def test_a_node_that_takes_nothing_gets_nothing(closed):
    """SY4."""
    work = Work(SYSTEM)
    work.nodes = {key_of(0): closed}

    assert reconcile(work).is_nothing()


@pytest.mark.row("SY7")
@pytest.mark.parametrize("is_purged", [False, True])
def test_what_is_on_a_lost_node_is_lost(is_purged):
    """SY7."""
    work = running([0, 1]).set_down(0)
    if is_purged:
        del work.nodes[key_of(0)]

    found = reconcile(work)

    assert [(stop.id, stop.is_lost) for stop in found.found.stops] == [("a000", True)]
    assert not found.placed


@pytest.mark.row("SY8")
def test_what_is_marked_stops():
    """SY8; where the node is open it is placed again."""
    work = running([0, 1]).change(0, desired_transition=MARK)
    work.nodes[key_of(0)] = draining(0)

    found = reconcile(work)

    assert found.stopped_ids == ["a000", "a001"]
    assert found.texts == {"alloc not needed as node is tainted"}
    (wanted,) = found.found.placements
    assert (wanted.node_key, wanted.previous) == (key_of(1), work.allocations[1])


@pytest.mark.row("SY9")
@pytest.mark.parametrize("wanted", [SYSTEM, changed(SYSTEM), with_command(SYSTEM)])
def test_what_is_on_a_draining_node_is_left_until_it_is_marked(wanted):
    """SY9."""
    work = running([0], wanted=wanted)
    work.nodes[key_of(0)] = draining(0)

    assert reconcile(work).is_nothing()


@pytest.mark.parametrize(
    ("wanted", "is_stopped"),
    [
        example("SY10", SYSTEM, False),
        example("SY11", changed(SYSTEM), True),
    ],
)
def test_on_a_closed_node_stays_what_is_current(wanted, is_stopped):
    work = running([0], wanted=wanted).set_nodes(0, scheduling_eligibility="ineligible")

    assert bool(reconcile(work).stopped_ids) is is_stopped


@pytest.mark.row("D16")
def test_a_node_that_the_job_does_not_want_any_more_is_left():
    """D16."""
    found = reconcile(running([0]).set_nodes(0, datacenter="dc2"))

    assert found.stopped_ids == ["a000"]
    assert not found.placed


@pytest.mark.row("SY12")
@pytest.mark.parametrize("change", [changed, with_command])
def test_a_new_version_takes_over_on_every_node(change):
    """SY12."""
    found = reconcile(running(range(10), wanted=change(SYSTEM)))

    updates = [update.instead for update in found.found.updates]
    wanted = updates if change is changed else found.found.replacements
    assert [one.node_key for one in wanted] == [key_of(n) for n in range(10)]
    assert all(one.is_update and one.stop_text for one in wanted)
    assert not found.found.stops


@pytest.mark.row("SY13")
@pytest.mark.parametrize("is_purged", [False, True])
def test_a_job_that_is_not_wanted_stops(is_purged):
    """SY13."""
    work = running(range(3)).set_down(2)
    work.job = None if is_purged else replace(SYSTEM, stop=True)

    found = reconcile(work)

    assert found.stopped_ids == ["a000", "a001", "a002"]
    assert [stop.id for stop in found.found.stops if stop.is_lost] == ["a002"]


@pytest.mark.row("SY14")
def test_what_failed_is_placed_again_where_it_was():
    """SY14, and SY17 for one that was stopped."""
    work = running([0]).change(0, **failed())

    (wanted,) = reconcile(work).found.placements

    assert wanted.previous == work.allocations[0]
    assert wanted.node_key == key_of(0)
    assert not wanted.is_rescheduling


def test_the_last_one_that_ended_is_the_previous_one():
    work = running([0, 0, 0]).change(0, **failed())
    first, second, third = work.allocations
    work.allocations = [replace(third, next_allocation="gone"), second, first]

    (wanted,) = reconcile(work).found.placements

    assert wanted.previous == second


def test_every_group_has_its_own():
    """SY15."""
    wanted = job(group("a", 1), group("b", 2), kind=JobType.SYSTEM)
    work = Work(wanted)
    work.nodes = {key_of(number): node(number) for number in range(2)}

    found = reconcile(work)

    assert found.found.queued() == {"a": 2, "b": 4}


def test_two_of_one_name_on_one_node_are_one_too_many():
    found = reconcile(running([0, 0]))

    assert found.stopped_ids == ["a001"]
    assert not found.placed


def test_a_name_that_is_not_wanted_stops():
    work = running([0]).change(0, name="job.web[1]")

    found = reconcile(work)

    assert (found.stopped_ids, placed_on(found)) == (["a000"], [0])
