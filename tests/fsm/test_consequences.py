"""Status and numbers of jobs, as their work changes (JB11 to JB14, JB18)."""

import pytest

from nodestate.model.allocation import AllocMetric
from nodestate.model.job import GroupSummary, JobKey, JobStatus, JobType
from tests.fsm.entries import N1, N2, START_NS
from tests.fsm.work import (
    WEB,
    WorkLog,
    group,
    job,
    mark,
    placement,
    register_job,
    report,
    reported,
    stop,
    stop_job,
)

FAILED = {"g": AllocMetric(nodes_evaluated=1)}


def numbers(log: WorkLog, name: str = "g") -> GroupSummary:
    return log.summary().summary[name]


def placed() -> WorkLog:
    log = WorkLog(register_job())
    log.place(placement("a-1"), placement("a-2", N2))
    return log


# Status


@pytest.mark.row("JB12")
def test_a_new_job_is_pending_until_something_runs():
    log = WorkLog(register_job())
    assert log.job().status is JobStatus.PENDING

    log.carry_out(placement("a-1"))

    assert log.job().status is JobStatus.RUNNING
    assert log.job().modify_index == log.index
    assert log.job().job_modify_index < log.index


@pytest.mark.row("JB11")
def test_a_job_that_waits_for_room_is_pending():
    log = WorkLog(register_job())

    log.end(status="blocked")
    assert log.job().status is JobStatus.PENDING


@pytest.mark.row("JB13")
def test_a_job_with_nothing_left_to_do_is_dead():
    log = placed()
    log.accept(report(reported("a-1", "complete")))
    assert log.job().status is JobStatus.RUNNING

    log.accept(report(reported("a-2", "complete"), node_key=N2))

    assert log.job().status is JobStatus.DEAD


@pytest.mark.row("JB14")
def test_a_system_job_runs_until_it_is_stopped():
    log = WorkLog(register_job(job(type=JobType.SYSTEM)))
    assert log.job().status is JobStatus.RUNNING
    log.end()
    assert log.job().status is JobStatus.RUNNING

    log.accept(stop_job())

    assert log.job().status is JobStatus.DEAD


def test_a_stopped_job_runs_until_its_allocations_stop():
    log = placed()

    log.accept(stop_job())
    assert log.job().status is JobStatus.RUNNING
    log.carry_out(stop("a-1"), stop("a-2", N2))
    assert log.job().status is JobStatus.PENDING
    log.end()

    assert log.job().status is JobStatus.DEAD


def test_a_mark_changes_no_status():
    log = placed()

    assert log.followed(mark("a-1")) == ["allocation.marked", "evaluation.created"]


# Numbers


def test_a_new_job_has_a_line_for_each_group():
    log = WorkLog(register_job(job("web", group("a"), group("b"))))

    assert log.summary().summary == {"a": GroupSummary(), "b": GroupSummary()}
    assert log.summary().create_index == log.summary().modify_index == log.index


def test_what_could_not_be_placed_is_queued():
    log = WorkLog(register_job())

    log.end(queued_allocations={"g": 2, "gone": 5}, failed_tg_allocs=FAILED)

    assert log.summary().summary == {"g": GroupSummary(queued=2)}


@pytest.mark.row("JB18")
def test_a_placed_one_starts_and_is_not_queued_any_more():
    log = WorkLog(register_job())
    log.end(status="blocked", queued_allocations={"g": 2})

    log.carry_out(placement("a-1"))
    assert numbers(log) == GroupSummary(queued=1, starting=1)
    log.carry_out(placement("a-2"), placement("a-3"))

    assert numbers(log) == GroupSummary(queued=0, starting=3)


@pytest.mark.row("JB18")
def test_reports_move_it_on():
    log = placed()

    log.accept(report(reported("a-1", "running")))
    assert numbers(log) == GroupSummary(starting=1, running=1)
    log.accept(report(reported("a-1", "failed")))

    assert numbers(log) == GroupSummary(starting=1, failed=1)


@pytest.mark.row("HB9")
def test_a_lost_one_that_comes_back_is_complete():
    log = placed()
    log.accept(report(reported("a-1")))
    log.accept(mark("a-1"))
    log.carry_out(stop("a-1", is_lost=True))
    assert numbers(log) == GroupSummary(starting=1, lost=1)

    log.accept(report(reported("a-1", "complete")))

    assert numbers(log) == GroupSummary(starting=1, complete=1)


def test_a_removed_groups_numbers_stay():
    log = placed()

    log.accept(register_job(job("web", group("other"))))

    assert log.summary().summary == {
        "g": GroupSummary(starting=2),
        "other": GroupSummary(),
    }


def test_allocations_of_a_former_job_do_not_count():
    log = placed()
    log.accept(stop_job(is_purge=True))
    log.accept(register_job())

    log.accept(report(reported("a-1", "failed")))

    assert numbers(log) == GroupSummary()
    assert log.state.work_of(WEB).live_allocations == 1


def test_numbers_that_stay_are_not_written():
    log = placed()
    before = log.summary()

    assert log.followed(report(reported("a-1", "pending"), at_ns=START_NS)) == []
    assert log.summary() is before


def test_a_job_that_no_entry_registered_is_left_alone():
    """States of before there were jobs have such; their entries do what they did."""
    log = WorkLog()
    log.state.put_job(job())

    log.accept(mark())
    log.put_allocation("a-1", node_key=N1, task_group="g")
    assert log.followed(mark("a-1")) == ["allocation.marked", "evaluation.created"]

    assert log.state.job(JobKey(("default", "web"))) == job()
