"""Whether a failure that was just reported calls for a scheduler at all.

When the replacement is due, and whether there is one, is the scheduler's to find out.
"""

from nodestate.model.allocation import Allocation
from nodestate.model.job import ReschedulePolicy


def has_attempts_left(
    policy: ReschedulePolicy | None, allocation: Allocation, now_ns: int
) -> bool:
    """Say whether the policy lets the allocation be replaced once more, as of `now_ns`."""
    if policy is None:
        return False
    if policy.unlimited:
        return True
    tracker = allocation.reschedule_tracker
    recent_count = sum(
        now_ns - event.reschedule_time < policy.interval
        for event in (() if tracker is None else tracker.events)
    )
    return recent_count < policy.attempts
