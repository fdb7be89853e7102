"""What service and batch jobs want; ids of cases are the specification's."""

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.model.allocation import DesiredTransition
from nodestate.model.job import JobType, ReschedulePolicy
from tests.conformance.rows import example
from tests.planning.works import (
    ALWAYS,
    CHANGES,
    MARK,
    NEVER,
    NOW_NS,
    SECOND_NS,
    Work,
    changed,
    complete,
    draining,
    failed,
    group,
    job,
    key_of,
    tracker,
    with_command,
    with_count,
)

BATCH = JobType.BATCH
ONCE = ReschedulePolicy(
    attempts=1,
    interval=900 * SECOND_NS,
    delay=5 * SECOND_NS,
    delay_function="constant",
)
LATER = replace(ALWAYS, delay=15 * SECOND_NS)


def counted(count: int):
    return job(group(count=count))


@pytest.mark.parametrize(
    ("count", "there", "placed", "stopped"),
    [
        example("RC1", 10, 0, range(10), ()),
        example("RC2", 10, 5, range(5, 10), ()),
        example("RC3", 10, 20, (), range(10, 20)),
        example("RC4", 0, 20, (), range(20)),
        pytest.param(10, 10, (), (), id="enough"),
        example("RC61", 0, 0, (), ()),
    ],
)
def test_a_group_gets_what_it_counts(count, there, placed, stopped):
    found = Work(counted(count)).runs(range(there)).reconcile()

    assert found.placed == list(placed)
    assert found.stopped == list(stopped)
    assert found.texts <= {"alloc not needed due to job update"}


@pytest.mark.row("RC5")
def test_all_of_a_name_stop_where_none_is_wanted():
    """RC5."""
    found = Work(counted(0)).runs([n % 2 for n in range(20)]).reconcile()

    assert len(found.stopped_ids) == len(set(found.stopped_ids)) == 20


def test_the_one_that_shares_a_name_goes_after_the_highest_numbers():
    found = Work(counted(2)).runs([0, 0, 1, 2]).reconcile()

    assert found.stopped == [1, 2]


def test_gaps_are_filled_from_the_lowest_number_on():
    assert Work(counted(5)).runs([1, 3]).reconcile().placed == [0, 2, 4]


@pytest.mark.row("RC9", "RC10", "RC11", "M9")
@pytest.mark.parametrize(
    ("count", "stopped", "updated", "placed"),
    [
        example("RC6", 10, (), range(10), ()),
        example("RC7", 15, (), range(10), range(10, 15)),
        example("RC8", 5, range(5, 10), range(5), ()),
    ],
)
@pytest.mark.parametrize("change", [changed, with_command])
def test_a_new_version(change, count, stopped, updated, placed):
    """RC6 to RC8 in place; RC9, RC10, RC11 where another command is to run."""
    old = counted(10)
    found = Work(with_count(change(old), count)).runs(range(10), old).reconcile()

    assert found.stopped == list(stopped)
    assert found.placed == list(placed)
    both = (found.updated, found.replaced)
    assert both == ((list(updated), []) if change is changed else ([], list(updated)))


@pytest.mark.row("RC12")
def test_what_is_replaced_stops_only_with_its_replacement():
    """RC12: nothing is stopped for a placement that may not come about."""
    old = counted(1)
    found = Work(with_command(old)).runs([0], old).reconcile()

    (wanted,) = found.found.replacements
    assert wanted.is_update
    assert wanted.stop_text == "alloc is being updated due to job update"
    assert wanted.previous is not None
    assert not found.found.stops


@pytest.mark.row("D8")
@pytest.mark.parametrize(
    ("count", "stopped", "placed"),
    [
        example("RC13", 10, [0, 1], [0, 1]),
        example("RC14", 15, [0, 1], [0, 1, 10, 11, 12, 13, 14]),
        example("RC15", 5, [0, 1, 7, 8, 9], []),
    ],
)
@pytest.mark.parametrize("is_purged", [False, True])
def test_a_lost_node(count, stopped, placed, is_purged):
    work = Work(counted(count)).runs(range(10)).set_down(0, 1)
    if is_purged:
        del work.nodes[key_of(0)], work.nodes[key_of(1)]

    found = work.reconcile()

    assert (found.stopped, found.placed) == (stopped, placed)
    assert found.lost == [0, 1]
    previous = [w.previous.index for w in found.found.placements if w.previous]
    assert previous == [number for number in placed if number < 2], "D8"


@pytest.mark.parametrize(
    ("marked", "count", "stopped", "placed"),
    [
        example("RC16", [0, 1], 10, [0, 1], [0, 1]),
        example("RC17", [0, 1], 15, [0, 1], [10, 11, 12, 13, 14, 0, 1]),
        example("RC18", [0, 1, 2], 8, [0, 1, 2], [0]),
    ],
)
def test_what_is_marked_moves(marked, count, stopped, placed):
    work = Work(counted(count)).runs(range(10))
    for number in marked:
        work.change(number, desired_transition=MARK)
        work.nodes[key_of(number)] = draining(number)

    found = work.reconcile()

    assert (found.stopped, found.placed) == (stopped, placed)
    moved = [w for w in found.found.placements if w.previous]
    assert [w.name for w in moved] == [w.previous.name for w in moved if w.previous]
    migrating = {
        stop.id
        for stop in found.found.stops
        if stop.description == "alloc is being migrated"
    }
    assert migrating == {w.previous.id for w in moved if w.previous}
    assert not any(w.stop_text for w in moved), "it stops whatever becomes of them"


@pytest.mark.row("RC19")
def test_a_renamed_group_is_another_one():
    """RC19."""
    found = Work(changed(job(group("new", 3)))).runs(range(3), job()).reconcile()

    assert found.stopped == [0, 1, 2]
    assert {w.name for w in found.found.placements} == {
        f"job.new[{number}]" for number in range(3)
    }


@pytest.mark.row("RC20", "RC21")
@pytest.mark.parametrize("is_purged", [False, True], ids=["stopped", "purged"])
def test_a_job_that_is_not_wanted_stops(is_purged):
    """RC20, and RC21 for what is over already."""
    work = Work(job()).runs(range(5)).change(0, client_status="complete")
    work.change(1, desired_status="stop").change(2, **failed()).set_down(3)
    work.job = None if is_purged else replace(job(), stop=True)

    found = work.reconcile()

    assert (found.stopped, found.lost) == ([3, 4], [3])
    assert not found.found.placements


@pytest.mark.row("RC22")
def test_each_group_gets_its_own():
    """RC22."""
    work = Work(job(group("full", 2), group("part", 3)))
    work.runs([0, 1], group_name="full").runs([0], group_name="part")

    names = [wanted.name for wanted in work.reconcile().found.placements]

    assert names == ["job.part[1]", "job.part[2]"]


@pytest.mark.row("RC23", "RC24", "M4")
def test_nothing_moves_that_is_not_marked():
    """RC23, RC24."""
    work = Work(counted(4)).runs(range(4))
    work.nodes[key_of(0)] = draining(0)
    work.set_nodes(1, scheduling_eligibility="ineligible")

    assert work.reconcile().is_nothing()


# Failures


@pytest.mark.row("RC25")
@pytest.mark.parametrize("kind", [JobType.SERVICE, BATCH])
def test_a_failure_is_replaced_after_its_delay(kind):
    """RC25."""
    wanted = job(group(count=2, reschedule_policy=LATER), kind=kind)
    work = Work(wanted).runs([0, 1]).change(0, **failed(5))

    found = work.reconcile()

    assert found.later == [(NOW_NS + 10 * SECOND_NS, [0])]
    assert (found.placed, found.stopped) == ([], [])


@pytest.mark.row("RC26")
def test_what_is_due_together_has_one_evaluation():
    """RC26."""
    work = Work(job(group(count=7, reschedule_policy=LATER))).runs(range(7))
    for number in range(5):
        work.change(number, **failed(0))
    for number in (5, 6):
        work.change(number, **failed(-10))

    assert work.reconcile().later == [
        (NOW_NS + 15 * SECOND_NS, [0, 1, 2, 3, 4]),
        (NOW_NS + 25 * SECOND_NS, [5, 6]),
    ]


@pytest.mark.parametrize(("apart_s", "windows"), [(4.999, 1), (5, 2)])
def test_a_window_is_less_than_five_seconds(apart_s, windows):
    work = Work(job(group(count=2, reschedule_policy=LATER))).runs([0, 1])
    work.change(0, **failed(0)).change(1, **failed(-apart_s))

    assert len(work.reconcile().later) == windows


@pytest.mark.row("RC27", "RC29")
@pytest.mark.parametrize("kind", [JobType.SERVICE, BATCH])
@pytest.mark.parametrize(
    ("ago_s", "is_now"), [(20, True), (15, True), (14, True), (13.999, False)]
)
def test_what_is_due_is_replaced(kind, ago_s, is_now):
    """RC27, RC29."""
    wanted = job(group(count=1, reschedule_policy=LATER), kind=kind)
    found = Work(wanted).runs([0]).change(0, **failed(ago_s)).reconcile()

    assert found.placed == ([0] if is_now else [])
    assert not found.found.stops, "it stops with its replacement, W18"
    if is_now:
        (placement,) = found.found.placements
        assert placement.is_rescheduling
        assert placement.stop_text == "alloc was rescheduled because it failed"


@pytest.mark.row("RC28", "RC36", "M10")
@pytest.mark.parametrize("kind", [JobType.SERVICE, BATCH])
def test_a_failure_without_attempts_left_keeps_its_name(kind):
    """RC28, RC36."""
    wanted = job(group(count=2, reschedule_policy=NEVER), kind=kind)

    assert Work(wanted).runs([0, 1]).change(0, **failed(99)).reconcile().is_nothing()


@pytest.mark.row("RC30")
@pytest.mark.parametrize("followup", ["eval", "other"])
def test_the_evaluation_that_was_to_replace_it_does(followup):
    """RC30; and one that another evaluation will replace is left to that one."""
    wanted = job(group(count=1, reschedule_policy=LATER))
    work = Work(wanted).runs([0]).change(0, followup_eval_id=followup, **failed(0))

    found = work.reconcile()

    assert found.placed == ([0] if followup == "eval" else [])
    assert found.later == []


@pytest.mark.row("RC31")
def test_what_has_been_replaced_is_history():
    """RC31."""
    work = Work(counted(1)).runs([0]).change(0, next_allocation="a001", **failed(99))
    work.runs([0])

    assert work.reconcile().is_nothing()


@pytest.mark.parametrize(
    "over",
    [
        example("RC32", complete()),
        example("RC33", {**failed(99), "desired_status": "stop"}),
        pytest.param({"client_status": "lost", "desired_status": "stop"}, id="lost"),
    ],
)
def test_a_service_that_is_over_is_placed_afresh(over):
    found = Work(counted(2)).runs([0, 1]).change(0, **over).reconcile()

    (wanted,) = found.found.placements
    assert (wanted.name, wanted.previous) == ("job.web[0]", None)
    assert not wanted.is_rescheduling
    assert not found.stopped


@pytest.mark.row("RC34")
def test_force_asks_for_no_attempts():
    """RC34."""
    force = DesiredTransition(force_reschedule=True)
    work = Work(job(group(count=1, reschedule_policy=NEVER))).runs([0])
    work.change(0, desired_transition=force, **failed(0))

    assert work.reconcile().placed == [0]


def test_no_more_failures_are_replaced_than_there_is_to_be():
    """A smaller count stops a failed one instead of replacing it."""
    work = Work(counted(2)).runs(range(3)).change(2, **failed(99))

    found = work.reconcile()

    assert (found.placed, found.stopped) == ([], [2])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("policy", [NEVER, LATER])
def test_a_failure_that_there_is_no_place_for_is_not_replaced(change, policy):
    old = job(group(count=2, reschedule_policy=policy))
    work = Work(with_count(change(old), 0)).runs([0, 1], old).change(1, **failed(0))

    found = work.reconcile()

    assert (found.stopped, found.placed, found.replaced) == ([0], [], [])
    assert found.later == []


# Batch


@pytest.mark.row("RC35", "M11")
def test_finished_batch_work_is_not_run_again():
    """RC35."""
    work = Work(job(group(count=2), kind=BATCH)).runs([0, 1])

    assert work.change(0, **complete()).reconcile().is_nothing()


def test_finished_batch_work_counts_though_it_was_told_to_stop():
    work = Work(job(group(count=1), kind=BATCH)).runs([0])

    work.change(0, desired_status="stop", **complete())
    assert work.reconcile().is_nothing()

    work.change(0, desired_status="stop", **failed(0))
    assert work.reconcile().placed == [0]


def test_batch_work_that_was_told_to_stop_counts_once_for_its_name():
    """It may have been placed anew meanwhile, where there was no room to move it."""
    work = Work(job(group(count=3), kind=BATCH))
    work.runs([1, 1], desired_status="stop", **complete())

    assert work.reconcile().placed == [0, 2]


def test_batch_work_that_was_told_to_stop_does_not_count_beside_what_took_its_name():
    work = Work(job(group(count=2), kind=BATCH))
    work.runs([0], desired_status="stop", **complete()).runs([0, 1])

    assert work.reconcile().is_nothing()


@pytest.mark.row("RC37")
def test_another_incarnation_starts_afresh():
    """RC37."""
    old = job(kind=BATCH)
    again = replace(old, create_index=300, modify_index=300, job_modify_index=300)
    found = Work(again).runs(range(10), old, **complete()).reconcile()

    assert found.placed == list(range(10))
    assert not found.stopped


@pytest.mark.row("RC38")
@pytest.mark.parametrize("change", [changed, with_command])
def test_finished_work_of_this_version_is_enough(change):
    """RC38."""
    old = job(kind=BATCH)
    work = Work(change(old)).runs(range(10), old, **complete())

    assert work.runs(range(10), **complete()).reconcile().is_nothing()


@pytest.mark.row("RC38b")
@pytest.mark.parametrize("change", [changed, with_command])
def test_finished_work_of_an_older_version_is_history(change):
    """RC38b."""
    old = job(kind=BATCH)
    found = Work(change(old)).runs(range(10), old, **complete()).reconcile()

    assert found.placed == list(range(10))


@pytest.mark.row("RC39")
def test_attempts_end():
    """RC39: one attempt in a quarter of an hour, and that was it."""
    wanted = job(group(count=1, reschedule_policy=ONCE))
    first = Work(wanted).runs([0], **failed(5))
    second = Work(wanted).runs([0], reschedule_tracker=tracker((60, 5)), **failed(5))

    assert first.reconcile().placed == [0]
    assert second.reconcile().is_nothing()


# Nodes that are down


@pytest.mark.parametrize(
    ("desired", "client", "is_lost"),
    [
        example("RC42", "stop", "running", True),
        example("RC42:pending", "stop", "pending", True),
        example("RC47", "evict", "running", True),
        example("RC45:complete", "stop", "complete", False),
        example("RC45:lost", "stop", "lost", False),
    ],
)
def test_what_was_stopping_is_lost_with_its_node(desired, client, is_lost):
    work = Work(counted(0)).runs([0], desired_status=desired, client_status=client)

    assert work.set_down(0).reconcile().lost == ([0] if is_lost else [])


@pytest.mark.row("RC43")
@pytest.mark.parametrize("client", ["running", "pending"])
def test_what_ran_is_lost_and_replaced(client):
    """RC43."""
    work = Work(counted(1)).runs([0], client_status=client).set_down(0)

    found = work.reconcile()

    assert (found.lost, found.placed) == ([0], [0])
    assert found.texts == {"alloc is lost since its node is down"}


@pytest.mark.row("RC44", "D15")
def test_what_is_marked_on_a_lost_node_is_lost_at_once():
    """RC44."""
    work = Work(counted(1)).runs([0], desired_transition=MARK).set_down(0)

    found = work.reconcile()

    assert (found.lost, found.placed) == ([0], [0])


@pytest.mark.row("RC46")
def test_what_failed_on_a_lost_node_is_rescheduled():
    """RC46."""
    found = Work(counted(1)).runs([0], **failed(99)).set_down(0).reconcile()

    assert (found.lost, found.placed) == ([], [0])


@pytest.mark.row("RC65")
def test_an_unchanged_job_needs_nothing():
    """RC65."""
    assert Work(job()).runs(range(10)).reconcile().is_nothing()


# Whatever there is

ANY = st.fixed_dictionaries(
    {},
    optional={
        "desired_status": st.sampled_from(["run", "stop", "evict"]),
        "client_status": st.sampled_from(
            ["pending", "running", "complete", "failed", "lost"]
        ),
        "desired_transition": st.just(MARK),
        "followup_eval_id": st.sampled_from(["eval", "other"]),
        "modify_time": st.integers(NOW_NS - 60 * SECOND_NS, NOW_NS),
    },
)


@given(
    count=st.integers(0, 6),
    there=st.lists(st.tuples(st.integers(0, 8), ANY, st.booleans()), max_size=12),
    down=st.sets(st.integers(0, 8)),
    drained=st.sets(st.integers(0, 8)),
    kind=st.sampled_from([JobType.SERVICE, BATCH]),
    policy=st.sampled_from([NEVER, ALWAYS, LATER, ONCE]),
    change=st.sampled_from(CHANGES),
)
def test_whatever_there_is_becomes_what_is_wanted(
    *, count, there, down, drained, kind, policy, change
):
    old = job(group(count=3, reschedule_policy=policy), kind=kind)
    work = Work(with_count(change(old), count))
    for number, fields, is_old in there:
        work.runs([number], old if is_old else None, **fields)
    for number in down & {number for number, _, _ in there}:
        work.set_down(number)
    for number in (drained - down) & {number for number, _, _ in there}:
        work.nodes[key_of(number)] = draining(number)

    found = work.reconcile()

    stopped = found.stopped_ids
    assert len(stopped) == len(set(stopped)), "nothing is stopped twice"
    wanted = found.found.placements + found.found.replacements
    previous = [one.previous.id for one in wanted if one.previous]
    assert len(previous) == len(set(previous)), "nothing has two successors"
    leaving = {*stopped, *(one.previous.id for one in wanted if one.previous)}
    staying = [
        one for one in work.allocations if not one.is_terminal and one.id not in leaving
    ]
    assert len(staying) + len(wanted) <= count, "never more than is wanted"
    gone = [one for one in staying if one.index in down]
    assert not gone, "nothing stays where nothing runs"
