"""When tokens end: what may be asked for, and which of them are over."""

from collections.abc import Iterator
from heapq import nsmallest
from typing import Final, NamedTuple

from nodestate.fsm.state import State
from nodestate.model.duration import format_duration
from nodestate.model.timestamp import NO_TIME, Timestamp

MINUTE_NS: Final = 60 * 1_000_000_000
EXPIRY_NS_MIN: Final = MINUTE_NS
EXPIRY_NS_MAX: Final = 24 * 60 * MINUTE_NS
"""Nomad's bounds for how far the end of a new token is away."""
EXPIRED_PER_ENTRY_MAX: Final = 500
"""Tokens that one entry removes."""


class Expiry(NamedTuple):
    """The end of a new token, as its record has it, or what was wrong with it."""

    time: Timestamp = NO_TIME
    ttl: str = ""
    problems: tuple[str, ...] = ()


def plan_expiry(
    ttl_ns: int,
    time: Timestamp,
    now_ns: int,
    *,
    least_ns: int = EXPIRY_NS_MIN,
    most_ns: int = EXPIRY_NS_MAX,
) -> Expiry:
    """Return the end of a token that is made now; a TTL, where there is one, decides."""
    if ttl_ns < 0:
        shown = f"-{format_duration(-ttl_ns)}"
        return Expiry(
            problems=(f"token expiration TTL '{shown}' should not be negative",)
        )
    if ttl_ns == 0 and time.ns == 0:
        return Expiry()
    ends_ns = now_ns + ttl_ns if ttl_ns else time.ns
    distance_ns = ends_ns - now_ns
    if distance_ns < least_ns:
        return Expiry(problems=(_misfit("less", least_ns, distance_ns),))
    if distance_ns > most_ns:
        return Expiry(problems=(_misfit("more", most_ns, distance_ns),))
    return Expiry(Timestamp(ends_ns), format_duration(ttl_ns) if ttl_ns else "")


def _misfit(word: str, bound_ns: int, distance_ns: int) -> str:
    sign = "-" if distance_ns < 0 else ""
    return (
        f"expiration time cannot be {word} than {format_duration(bound_ns)} in the future "
        f"(was {sign}{format_duration(abs(distance_ns))})"
    )


def expired_accessors(
    state: State, now_ns: int, limit: int = EXPIRED_PER_ENTRY_MAX
) -> tuple[str, ...]:
    """Return the accessors of tokens whose time is over, the first ones in their order."""
    return tuple(nsmallest(limit, _expired(state, now_ns)))


def _expired(state: State, now_ns: int) -> Iterator[str]:
    for accessor_id, token in state.acl_tokens.items():
        if token.is_expired(now_ns):
            yield accessor_id
