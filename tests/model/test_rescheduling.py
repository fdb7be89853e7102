"""Whether a failure calls for a scheduler."""

import pytest

from nodestate.model.allocation import Allocation, RescheduleEvent, RescheduleTracker
from nodestate.model.job import ReschedulePolicy
from nodestate.model.rescheduling import has_attempts_left

NOW_NS = 1_000


def after(*times: int) -> Allocation:
    events = tuple(RescheduleEvent(reschedule_time=time) for time in times)
    return Allocation(reschedule_tracker=RescheduleTracker(events=events))


@pytest.mark.parametrize(
    ("policy", "allocation", "expected"),
    [
        (None, Allocation(), False),
        (ReschedulePolicy(), Allocation(), False),
        (ReschedulePolicy(attempts=1, interval=100), Allocation(), True),
        (ReschedulePolicy(attempts=1, interval=100), after(950), False),
        (ReschedulePolicy(attempts=1, interval=100), after(901), False),
        (ReschedulePolicy(attempts=1, interval=100), after(900), True),
        (ReschedulePolicy(attempts=2, interval=100), after(800, 950), True),
        (ReschedulePolicy(attempts=2, interval=100), after(940, 950), False),
        (ReschedulePolicy(unlimited=True), after(990, 991, 992), True),
    ],
)
def test_attempts_count_within_the_interval(policy, allocation, expected):
    assert has_attempts_left(policy, allocation, NOW_NS) is expected
