"""How the members do, as the leader sees it: heard of lately, and not far behind.

Since when that has been so is not in the log: it is what this leader has seen in its term,
and begins anew with the next one.
"""

from collections.abc import Callable, Sequence

import msgspec

from nodestate.ports import HEALTHY_LAG_ENTRIES_MAX, Member, MemberHealth


class Measure(msgspec.Struct, frozen=True):
    """What the members are held to at a moment: the leader's term and log.

    `contact_s_max` is how long a member may be silent; `term_at` knows the term of an
    entry, 0 of one that is no longer in the log.
    """

    term: int
    last_index: int
    commit_index: int
    contact_s_max: float
    term_at: Callable[[int], int]


class HealthBook:
    """Since when each member has been as it is, in one term of leadership."""

    def __init__(self) -> None:
        self._term = 0
        self._since: dict[str, tuple[bool, int]] = {}

    def look(
        self, members: Sequence[Member], measure: Measure, now_ns: int
    ) -> tuple[MemberHealth, ...]:
        """Judge the members now, and remember it; who is a member no more is forgotten."""
        before = self._since if self._term == measure.term else {}
        self._term, self._since = measure.term, {}
        healths = []
        for member in members:
            is_healthy = is_well(member, measure)
            since = before.get(member.server_id)
            if since is None or since[0] != is_healthy:
                since = is_healthy, now_ns
            self._since[member.server_id] = since
            healths.append(_describe(member, measure, since))
        return tuple(healths)


def is_well(member: Member, measure: Measure) -> bool:
    """Say whether a member could take over at once; the leader has done so already."""
    if member.is_leader:
        return True
    if member.contact_s is None or member.contact_s > measure.contact_s_max:
        return False
    match_index = member.match_index or 0
    # Against what is committed: what is only under way here is no one's lag.
    is_level = match_index + HEALTHY_LAG_ENTRIES_MAX >= measure.commit_index
    return match_index > 0 and is_level


def _describe(
    member: Member, measure: Measure, since: tuple[bool, int]
) -> MemberHealth:
    is_healthy, since_ns = since
    last_index = measure.last_index if member.is_leader else member.match_index or 0
    return MemberHealth(
        server_id=member.server_id,
        peer_address=member.peer_address,
        is_leader=member.is_leader,
        is_voter=member.is_voter,
        last_index=last_index,
        last_term=measure.term_at(last_index),
        contact_s=0.0 if member.is_leader else member.contact_s,
        is_healthy=is_healthy,
        since_ns=since_ns,
    )
