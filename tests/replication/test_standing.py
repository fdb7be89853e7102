"""What is found out once a moment, and again when something may have changed."""

from typing import Any

from nodestate.ports import Role
from nodestate.replication.standing import STATUS_S_MAX, Standing
from tests.fakes import FakeClock


class Engine:
    def __init__(self):
        self.looks = 0
        self.leader: str | None = "B"

    def role(self):
        self.looks += 1
        return Role.FOLLOWER

    def term(self):
        return 3

    def leader_id(self):
        return self.leader

    def last_contact_s(self):
        return 0.1

    def commit_index(self):
        return 9

    def applied_index(self):
        return 8


def standing():
    clock, engine = FakeClock(), Engine()
    stand_in: Any = engine
    return Standing("A", clock), clock, engine, stand_in


def test_before_there_is_a_cluster_nobody_leads():
    status = Standing("A", FakeClock()).status(None)

    assert (status.server_id, status.leader_id, status.applied_index) == ("A", None, 0)


def test_it_is_found_out_once_a_moment():
    where, clock, engine, stand_in = standing()

    first = where.status(stand_in)
    engine.leader = None
    assert where.status(stand_in) is first
    assert engine.looks == 1

    clock.pause(STATUS_S_MAX)
    assert where.status(stand_in).leader_id is None


def test_what_a_tick_changed_is_seen_at_once():
    where, _, engine, stand_in = standing()
    where.status(stand_in)

    engine.leader = None
    where.forget()

    assert where.status(stand_in).leader_id is None
