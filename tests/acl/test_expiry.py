"""When tokens end."""

import pytest

from nodestate.acl.expiry import (
    EXPIRY_NS_MAX,
    EXPIRY_NS_MIN,
    Expiry,
    expired_accessors,
    plan_expiry,
)
from nodestate.fsm.state import State
from nodestate.model.timestamp import NO_TIME, Timestamp
from tests.fsm.acls import A1, A2, A3, token

NOW_NS = 1_700_000_000 * 10**9
HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize(
    ("ttl_ns", "time", "ends_ns", "ttl"),
    [
        (0, NO_TIME, 0, ""),
        (HOUR_NS, NO_TIME, NOW_NS + HOUR_NS, "1h0m0s"),
        (0, Timestamp(NOW_NS + HOUR_NS), NOW_NS + HOUR_NS, ""),
        (HOUR_NS, Timestamp(5), NOW_NS + HOUR_NS, "1h0m0s"),
        (EXPIRY_NS_MIN, NO_TIME, NOW_NS + EXPIRY_NS_MIN, "1m0s"),
        (EXPIRY_NS_MAX, NO_TIME, NOW_NS + EXPIRY_NS_MAX, "24h0m0s"),
    ],
)
def test_an_end_in_bounds_is_taken(ttl_ns, time, ends_ns, ttl):
    assert plan_expiry(ttl_ns, time, NOW_NS) == Expiry(Timestamp(ends_ns), ttl)


@pytest.mark.parametrize(
    ("ttl_ns", "time", "problem"),
    [
        (-HOUR_NS, NO_TIME, "token expiration TTL '-1h0m0s' should not be negative"),
        (
            30 * 10**9,
            NO_TIME,
            "expiration time cannot be less than 1m0s in the future (was 30s)",
        ),
        (
            0,
            Timestamp(NOW_NS - HOUR_NS),
            "expiration time cannot be less than 1m0s in the future (was -1h0m0s)",
        ),
        (
            25 * HOUR_NS,
            NO_TIME,
            "expiration time cannot be more than 24h0m0s in the future (was 25h0m0s)",
        ),
        (
            0,
            Timestamp(NOW_NS + EXPIRY_NS_MAX + 10**9),
            "expiration time cannot be more than 24h0m0s in the future (was 24h0m1s)",
        ),
    ],
)
def test_an_end_out_of_bounds_is_a_problem(ttl_ns, time, problem):
    assert plan_expiry(ttl_ns, time, NOW_NS) == Expiry(problems=(problem,))


def test_the_bounds_can_be_set():
    planned = plan_expiry(5, NO_TIME, NOW_NS, least_ns=5, most_ns=5)

    assert planned.time == Timestamp(NOW_NS + 5)
    assert plan_expiry(6, NO_TIME, NOW_NS, least_ns=5, most_ns=5).problems


def test_tokens_are_found_once_they_are_over_in_their_order():
    state = State()
    for number, ends_ns in ((3, NOW_NS), (1, NOW_NS - 1), (2, NOW_NS + 1), (4, 0)):
        record = token(number, expiration_time=Timestamp(ends_ns))
        state.acl_tokens[record.accessor_id] = record

    assert expired_accessors(state, NOW_NS) == (A1, A3)
    assert expired_accessors(state, NOW_NS + 1) == (A1, A2, A3)
    assert expired_accessors(state, NOW_NS, limit=1) == (A1,)
