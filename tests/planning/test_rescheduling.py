"""When failed allocations are replaced; rows are of the specification's arithmetic."""

import pytest
from msgspec.structs import replace

from nodestate.model.allocation import Allocation, TaskState
from nodestate.model.job import ReschedulePolicy
from nodestate.model.timestamp import Timestamp
from nodestate.planning.rescheduling import (
    due_at_ns,
    failed_at_ns,
    may_reschedule,
    next_delay_ns,
    tracker_after,
)
from tests.planning.works import ALWAYS, NEVER, NOW_NS, SECOND_NS, failed, tracker

EXPONENTIAL = replace(ALWAYS, delay_function="exponential")
FIBONACCI = replace(ALWAYS, delay_function="fibonacci")
LIMITED = ReschedulePolicy(
    attempts=2,
    interval=600 * SECOND_NS,
    delay=5 * SECOND_NS,
    delay_function="constant",
)


def failure(*events: tuple[float, int], ago_s: float = 0) -> Allocation:
    return Allocation(
        id="a0", node_id="n0", reschedule_tracker=tracker(*events), **failed(ago_s)
    )


def test_the_last_task_to_end_says_when_it_failed():
    states = {
        name: TaskState(finished_at=Timestamp(at_ns))
        for name, at_ns in (("a", 5), ("b", 9), ("c", 0))
    }
    one = Allocation(task_states=states, modify_time=99)

    assert failed_at_ns(one) == 9
    assert failed_at_ns(Allocation(modify_time=99)) == 99
    assert (
        failed_at_ns(Allocation(task_states={"c": states["c"]}, modify_time=99)) == 99
    )


@pytest.mark.parametrize(
    ("policy", "delays", "delay_s"),
    [
        (ALWAYS, [], 5),
        (ALWAYS, [5, 5], 5),
        (EXPONENTIAL, [], 5),
        (EXPONENTIAL, [5], 10),
        (EXPONENTIAL, [5, 10, 20], 40),
        (FIBONACCI, [], 5),
        (FIBONACCI, [5], 5),
        (FIBONACCI, [5, 5], 10),
        (FIBONACCI, [5, 10], 15),
    ],
)
def test_delays_grow(policy, delays, delay_s):
    one = failure(*((1, delay) for delay in delays))

    assert next_delay_ns(one, policy) == delay_s * SECOND_NS
    assert due_at_ns(one, policy) == NOW_NS + delay_s * SECOND_NS


@pytest.mark.parametrize(
    ("lived_s", "delay_s"), [(59, 60), (60, 60), (60.001, 5), (600, 5)]
)
def test_a_delay_at_its_limit_begins_again_after_a_long_life(lived_s, delay_s):
    policy = replace(EXPONENTIAL, max_delay=60 * SECOND_NS)

    assert next_delay_ns(failure((lived_s, 40)), policy) == delay_s * SECOND_NS


@pytest.mark.parametrize("lived_s", [1, 600])
def test_a_delay_up_to_its_limit_is_left_alone(lived_s):
    policy = replace(EXPONENTIAL, max_delay=60 * SECOND_NS)

    assert next_delay_ns(failure((lived_s, 30)), policy) == 60 * SECOND_NS


def test_a_series_begins_again_behind_its_limit():
    policy = replace(FIBONACCI, max_delay=60 * SECOND_NS)

    assert next_delay_ns(failure((9, 60), (1, 5)), policy) == 5 * SECOND_NS


@pytest.mark.parametrize(
    ("policy", "events", "is_allowed"),
    [
        (None, [], False),
        (NEVER, [], False),
        (ALWAYS, [(1, 5)] * 50, True),
        (LIMITED, [], True),
        (LIMITED, [(1, 5)], True),
        (LIMITED, [(1, 5), (1, 5)], False),
        (LIMITED, [(1, 5), (600, 5)], True),
        (LIMITED, [(1, 5), (599.999, 5)], False),
        (replace(LIMITED, interval=5 * SECOND_NS), [], False),
        (replace(LIMITED, interval=6 * SECOND_NS), [], True),
    ],
)
def test_what_a_policy_allows(policy, events, is_allowed):
    assert may_reschedule(failure(*events), policy) is is_allowed


def test_what_was_told_to_stop_is_not_rescheduled():
    assert not may_reschedule(replace(failure(), desired_status="stop"), ALWAYS)


@pytest.mark.row("RC39")
def test_the_first_replacement_remembers_one():
    """RC39."""
    (event,) = tracker_after(failure(), LIMITED, NOW_NS).events

    assert event.reschedule_time == NOW_NS
    assert (event.prev_alloc_id, event.prev_node_id) == ("a0", "n0")
    assert event.delay == 5 * SECOND_NS


@pytest.mark.row("RC40")
def test_a_limited_policy_remembers_its_interval():
    """RC40."""
    one = failure((601, 1), (600, 2), (1, 3))
    remembered = tracker_after(one, LIMITED, NOW_NS).events

    assert [event.delay // SECOND_NS for event in remembered] == [2, 3, 5]


@pytest.mark.row("RC41")
def test_an_unlimited_one_remembers_six():
    """RC41."""
    one = failure(*((700 - delay, delay) for delay in (5, 10, 20, 40, 80, 160)))
    remembered = tracker_after(one, EXPONENTIAL, NOW_NS).events

    delays = [event.delay // SECOND_NS for event in remembered]
    assert delays == [10, 20, 40, 80, 160, 320]


def test_what_is_forced_without_a_policy_is_remembered_too():
    assert [one.delay for one in tracker_after(failure(), None, NOW_NS).events] == [0]
