"""What is old enough to go, a batch at a time."""

from typing import Any

import pytest

from nodestate.model.command import CollectGarbage
from nodestate.model.job import JobType
from nodestate.model.node import NodeStatus
from nodestate.planning.garbage import ANY_AGE, Ages, plan_garbage
from tests.fsm.entries import N2, START_NS, status
from tests.fsm.work import (
    WEB,
    WorkLog,
    evaluate_job,
    job,
    placement,
    register_job,
    report,
    reported,
    stop,
    stop_job,
)
from tests.planning.works import run

HOUR_NS = 3_600 * 10**9
MINUTE_NS = 60 * 10**9


def planned(log: WorkLog, after_ns: int, **fields: Any) -> CollectGarbage | None:
    return run(plan_garbage(log.state, START_NS + after_ns, **fields))


def collected(log: WorkLog, after_ns: int) -> CollectGarbage:
    """Plan and apply what there is to collect."""
    command = planned(log, after_ns)
    assert command is not None
    log.accept(command)
    return command


@pytest.fixture
def log():
    """A service job of which one allocation has ended, and two evaluations have."""
    log = WorkLog(register_job())
    log.place(placement("a-1"), placement("a-2", N2))
    log.accept(report(reported("a-1", "complete")))
    log.accept(evaluate_job())
    log.end()
    return log


def test_what_has_just_ended_stays(log):
    assert planned(log, HOUR_NS - MINUTE_NS) is None


def test_what_has_ended_an_hour_ago_goes(log):
    command = collected(log, HOUR_NS + MINUTE_NS)

    assert command.allocation_ids == ("a-1",)
    assert sorted(log.state.allocations) == ["a-2"]


def test_an_evaluation_waits_for_its_allocations(log):
    log.accept(report(reported("a-2", "complete"), node_key=N2))

    collected(log, HOUR_NS + MINUTE_NS)

    assert log.state.allocations == {}
    assert len(log.state.evaluations) == 1


def test_the_newest_evaluation_of_a_job_stays(log):
    newest = max(log.state.evaluations.values(), key=lambda item: item.modify_index)
    log.accept(report(reported("a-2", "complete"), node_key=N2))
    collected(log, HOUR_NS + MINUTE_NS)

    assert planned(log, 1000 * HOUR_NS) is None
    assert list(log.state.evaluations) == [newest.id]


def over(log: WorkLog) -> None:
    log.accept(stop_job())
    log.carry_out(stop("a-2", N2))
    log.accept(report(reported("a-2", "complete"), node_key=N2))
    log.end()


def test_a_job_that_is_over_goes_after_four_hours(log):
    over(log)
    collected(log, HOUR_NS + MINUTE_NS)
    assert log.state.job(WEB) is not None
    assert planned(log, 4 * HOUR_NS - MINUTE_NS) is None

    collected(log, 4 * HOUR_NS + MINUTE_NS)

    assert log.state.job(WEB) is None
    assert log.state.evaluations == {}
    assert log.state.job_versions == {}


def test_what_a_batch_job_has_done_goes_with_it():
    log = WorkLog(register_job(job(type=JobType.BATCH)))
    log.place(placement("a-1"))
    log.accept(report(reported("a-1", "complete")))
    assert planned(log, 4 * HOUR_NS - MINUTE_NS) is None

    collected(log, 4 * HOUR_NS + MINUTE_NS)

    assert log.state.jobs == {}
    assert log.state.allocations == {}
    assert log.state.evaluations == {}


def test_a_node_goes_after_a_day():
    log = WorkLog()
    log.accept(status(NodeStatus.DOWN))
    assert planned(log, 24 * HOUR_NS - MINUTE_NS) is None

    collected(log, 24 * HOUR_NS + MINUTE_NS)

    assert log.state.node_keys == [N2]


def test_a_batch_has_its_limit(log):
    over(log)
    count = len(log.state.allocations) + len(log.state.evaluations) + 1

    rounds = 0
    while (command := planned(log, 5 * HOUR_NS, count_max=1)) is not None:
        log.accept(command)
        rounds += 1

    assert rounds == count
    assert log.state.jobs == {}


def test_ages_are_a_setting(log):
    ages = Ages(evaluations_ns=MINUTE_NS)

    assert planned(log, 2 * MINUTE_NS, ages=ages) is not None


def test_what_is_collected_is_not_collected_again(log):
    over(log)
    collected(log, 5 * HOUR_NS)

    assert planned(log, 5 * HOUR_NS) is None


def test_what_looked_at_a_batch_job_goes_after_a_day_but_its_work_stays():
    """Else each node that comes or goes leaves an evaluation, for as long as it runs."""
    log = WorkLog(register_job(job(type=JobType.BATCH)))
    log.place(placement("a-1"))
    log.accept(evaluate_job())
    log.end()
    log.accept(evaluate_job())
    log.end()
    assert planned(log, 24 * HOUR_NS - MINUTE_NS) is None

    command = collected(log, 24 * HOUR_NS + MINUTE_NS)

    assert len(command.evaluation_ids) == 1
    assert len(log.state.evaluations) == 2
    assert sorted(log.state.allocations) == ["a-1"]


def test_whoever_does_not_look_at_ages_takes_even_what_is_to_end_later(log):
    over(log)

    assert planned(log, -HOUR_NS) is None
    command = planned(log, -HOUR_NS, ages=ANY_AGE)

    assert command is not None
    assert [seen.key for seen in command.jobs] == [WEB]


def test_a_full_batch_is_not_looked_for_any_further(log, monkeypatch):
    over(log)
    looked: list[str] = []
    monkeypatch.setattr(
        "nodestate.planning.garbage.is_allocation_spent",
        lambda *args: looked.append(args[1]),
    )

    planned(log, 5 * HOUR_NS, count_max=1)

    assert looked == []
