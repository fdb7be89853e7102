"""How the leader judges the members, and since when."""

import pytest

from nodestate.ports import HEALTHY_LAG_ENTRIES_MAX, Member
from nodestate.replication.health import HealthBook, Measure, is_well

COMMITTED = 1000


def measure(*, term: int = 3, commit_index: int = COMMITTED) -> Measure:
    return Measure(
        term=term,
        last_index=commit_index + 5,
        commit_index=commit_index,
        contact_s_max=1.0,
        term_at=lambda index: 2 if index < COMMITTED else 3,
    )


def member(
    name: str = "server2",
    *,
    match_index: int | None = COMMITTED,
    contact_s: float | None = 0.1,
    is_leader: bool = False,
) -> Member:
    return Member(
        server_id=name,
        incarnation="",
        peer_address=f"{name}:4647",
        http_address=f"{name}:4646",
        is_voter=True,
        is_leader=is_leader,
        match_index=None if is_leader else match_index,
        contact_s=None if is_leader else contact_s,
    )


LEADER = member("server1", is_leader=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (LEADER, True),
        (member(), True),
        (member(contact_s=1.0), True),
        (member(contact_s=1.01), False),
        (member(contact_s=None), False),
        (member(match_index=COMMITTED - HEALTHY_LAG_ENTRIES_MAX), True),
        (member(match_index=COMMITTED - HEALTHY_LAG_ENTRIES_MAX - 1), False),
    ],
)
def test_who_is_heard_of_and_not_far_behind_is_well(given, expected):
    assert is_well(given, measure()) is expected


def test_who_has_nothing_is_not_well_however_short_the_log_is():
    assert not is_well(member(match_index=0), measure(commit_index=3))


def test_the_leader_is_described_by_its_own_log():
    leader, follower = HealthBook().look(
        (LEADER, member(match_index=990)), measure(), 77
    )

    assert (leader.last_index, leader.last_term, leader.contact_s) == (1005, 3, 0.0)
    assert (follower.last_index, follower.last_term) == (990, 2)
    assert (follower.contact_s, follower.since_ns) == (0.1, 77)
    assert leader.is_leader
    assert not follower.is_leader


def test_since_when_is_that_of_the_last_change():
    book = HealthBook()
    silent = member(contact_s=5.0)

    looks = [
        book.look((given,), measure(), now_ns)[0]
        for given, now_ns in [
            (member(), 10),
            (member(contact_s=0.9), 20),
            (silent, 30),
            (silent, 40),
            (member(), 50),
        ]
    ]

    assert [(look.is_healthy, look.since_ns) for look in looks] == [
        (True, 10),
        (True, 10),
        (False, 30),
        (False, 30),
        (True, 50),
    ]


def test_another_term_and_another_membership_begin_anew():
    book = HealthBook()
    book.look((member(), member("server3")), measure(), 10)
    book.look((member(),), measure(), 20)

    back = book.look((member(), member("server3")), measure(), 30)
    later = book.look((member(),), measure(term=4), 40)

    assert [look.since_ns for look in back] == [10, 30]
    assert [look.since_ns for look in later] == [40]
