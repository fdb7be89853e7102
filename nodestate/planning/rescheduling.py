"""When a failed allocation is replaced, and what its replacement remembers of that.

Points in time and durations are nanoseconds.
"""

from typing import Final

from nodestate.model.allocation import Allocation, RescheduleEvent, RescheduleTracker
from nodestate.model.job import ReschedulePolicy

REMEMBERED_EVENTS_MAX: Final = 5
"""How many earlier replacements are remembered where their number is not limited."""


def events_of(allocation: Allocation) -> tuple[RescheduleEvent, ...]:
    """Return the replacements that led to the allocation, the oldest first."""
    tracker = allocation.reschedule_tracker
    return tracker.events if tracker is not None else ()


def failed_at_ns(allocation: Allocation) -> int:
    """Return when its last task ended; if none says so, when it was last written."""
    finished = [
        state.finished_at.ns for state in (allocation.task_states or {}).values()
    ]
    return max(finished, default=0) or allocation.modify_time


def next_delay_ns(allocation: Allocation, policy: ReschedulePolicy) -> int:
    """Return how long after its failure the allocation is replaced.

    A delay that has grown to its limit begins again once an allocation has lived for
    longer than that.
    """
    events = events_of(allocation)
    if not events:
        return policy.delay
    delay = _grown_delay_ns([event.delay for event in events], policy)
    if policy.max_delay <= 0 or delay <= policy.max_delay:
        return delay
    lived_ns = failed_at_ns(allocation) - events[-1].reschedule_time
    return policy.delay if lived_ns > policy.max_delay else policy.max_delay


def _grown_delay_ns(delays: list[int], policy: ReschedulePolicy) -> int:
    match policy.delay_function:
        case "exponential":
            return 2 * delays[-1]
        case "fibonacci":
            has_begun_again = len(delays) < 2 or (
                delays[-2] == policy.max_delay and delays[-1] == policy.delay
            )
            return policy.delay if has_begun_again else delays[-1] + delays[-2]
        case _:
            return policy.delay


def due_at_ns(allocation: Allocation, policy: ReschedulePolicy) -> int:
    """Return when the failed allocation may be replaced."""
    return failed_at_ns(allocation) + next_delay_ns(allocation, policy)


def may_reschedule(allocation: Allocation, policy: ReschedulePolicy | None) -> bool:
    """Say whether the policy allows a failed allocation another attempt, now or later."""
    if policy is None or allocation.is_server_terminal:
        return False
    if policy.unlimited:
        return True
    attempts = _attempts_since(allocation, policy, failed_at_ns(allocation))
    is_soon = next_delay_ns(allocation, policy) < policy.interval
    return attempts < policy.attempts and is_soon


def _attempts_since(
    allocation: Allocation, policy: ReschedulePolicy, until_ns: int
) -> int:
    return sum(
        until_ns - event.reschedule_time < policy.interval
        for event in events_of(allocation)
    )


def tracker_after(
    failed: Allocation, policy: ReschedulePolicy | None, now_ns: int
) -> RescheduleTracker:
    """Return what the replacement of a failed allocation remembers."""
    events = events_of(failed)
    if policy is not None and not policy.unlimited:
        kept = tuple(
            event
            for event in events
            if now_ns - event.reschedule_time <= policy.interval
        )
    else:
        kept = events[-REMEMBERED_EVENTS_MAX:]
    newest = RescheduleEvent(
        reschedule_time=now_ns,
        prev_alloc_id=failed.id,
        prev_node_id=failed.node_id,
        delay=next_delay_ns(failed, policy) if policy is not None else 0,
    )
    return RescheduleTracker(events=(*kept, newest))
