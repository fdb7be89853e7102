"""Evaluations that wait for room; ids of cases are the specification's.

Every one of them counts as escaped: BL4 and BL8 to BL12 tell classes apart.
"""

from typing import Any

import pytest

from nodestate.leader.blocked import BlockedEvaluations
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import JobType
from nodestate.planning.vacancies import Vacancies


def evaluation(id_: str = "e", **fields: Any) -> Evaluation:
    known: dict[str, Any] = {"id": id_, "job_id": "job", "status": "blocked"}
    return Evaluation(**(known | fields))


def system(id_: str, node_id: str, **fields: Any) -> Evaluation:
    return evaluation(id_, type=JobType.SYSTEM, node_id=node_id, **fields)


def room(index: int, **by_node: int) -> Vacancies:
    return Vacancies(index, by_node)


@pytest.mark.row("BL5", "BL6", "BL7")
@pytest.mark.parametrize(
    ("snapshot_index", "is_free"),
    [(900, True), (999, True), (1000, False), (1001, False)],
)
def test_room_counts_that_came_after_the_look(snapshot_index, is_free):
    """BL5, BL6, BL7: whether it came before the wait or during it."""
    blocked = BlockedEvaluations()
    blocked.block(evaluation(snapshot_index=snapshot_index))

    taken = blocked.unblock(room(1000))

    assert [one.id for one in taken] == (["e"] if is_free else [])
    assert len(blocked) == (not is_free)


@pytest.mark.row("BL2")
def test_a_job_waits_once():
    """BL2."""
    blocked = BlockedEvaluations()
    assert blocked.block(evaluation("old", create_index=1)) is None

    duplicate = blocked.block(evaluation("new", create_index=2))

    assert duplicate is not None
    assert duplicate.id == "old"
    assert [one.id for one in blocked.waiting()] == ["new"]


@pytest.mark.row("BL3")
@pytest.mark.parametrize(
    ("fields", "stays"),
    [
        ({"create_index": 5}, "first"),
        ({"create_index": 6}, "second"),
        ({"snapshot_index": 7}, "second"),
    ],
)
def test_who_knows_more_stays(fields, stays):
    """BL3; the newcomer on ties."""
    blocked = BlockedEvaluations()
    blocked.block(evaluation("first", snapshot_index=6))

    blocked.block(evaluation("second", **fields))

    assert [one.id for one in blocked.waiting()] == [stays]


@pytest.mark.row("BL13")
def test_the_same_one_may_wait_again():
    """BL13."""
    blocked = BlockedEvaluations()
    blocked.block(evaluation(snapshot_index=1))

    assert blocked.block(evaluation(snapshot_index=9)) is None
    assert blocked.seen_index() == 9


def test_jobs_of_one_name_wait_each():
    blocked = BlockedEvaluations()
    for namespace in ("one", "two"):
        assert blocked.block(evaluation(namespace, namespace=namespace)) is None

    assert len(blocked) == 2


@pytest.mark.row("BL14")
def test_who_lost_to_others_is_tried_now_and_then():
    """BL14."""
    blocked = BlockedEvaluations()
    lost = evaluation("lost", triggered_by="max-plan-attempts")
    blocked.block(lost)
    blocked.block(evaluation("other", job_id="other", triggered_by="queued-allocs"))

    assert blocked.unblock_failed() == [lost]
    assert "lost" not in blocked
    blocked.block(lost)
    assert "lost" in blocked


@pytest.mark.row("BL15")
def test_who_waits_no_more_is_forgotten():
    """BL15."""
    blocked = BlockedEvaluations()
    blocked.block(evaluation())

    blocked.untrack(["e", "unknown"])

    assert (len(blocked), blocked.seen_index()) == (0, 0)


@pytest.mark.row("BL16", "BL17")
def test_a_system_job_waits_for_each_node():
    """BL16, BL17."""
    blocked = BlockedEvaluations()
    for number in (1, 2):
        one = system(f"e{number}", f"n{number}", snapshot_index=10)
        assert blocked.block(one) is None

    assert blocked.unblock(room(99, n3=99)) == []
    assert [one.id for one in blocked.unblock(room(99, n1=99))] == ["e1"]
    assert "e2" in blocked


def test_the_oldest_are_first():
    blocked = BlockedEvaluations()
    for number in (3, 1, 2):
        blocked.block(evaluation(f"e{number}", job_id=str(number), create_index=number))

    assert [one.id for one in blocked.unblock(room(99))] == ["e1", "e2", "e3"]


def test_the_lowest_index_is_where_to_look_from():
    blocked = BlockedEvaluations()
    for number in (5, 3, 4):
        blocked.block(
            evaluation(f"e{number}", job_id=str(number), snapshot_index=number)
        )

    assert blocked.seen_index() == 3
