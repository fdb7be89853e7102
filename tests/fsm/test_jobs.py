"""Jobs: versions, indexes, evaluations, and how long versions are kept (JB)."""

import pytest
from msgspec.structs import replace

from nodestate.fsm.jobs import is_same_spec
from nodestate.model.job import JOB_VERSIONS_MAX, JobKey, JobStatus, JobType, Task
from nodestate.model.outcome import JOB_NOT_FOUND, RefusalCode
from tests.fsm.entries import N1, START_NS
from tests.fsm.work import (
    WEB,
    WorkLog,
    collect,
    evaluate_job,
    group,
    job,
    placement,
    register_job,
    report,
    reported,
    stop,
    stop_job,
)


@pytest.mark.row("D5", "M17", "JB1")
def test_a_new_job_has_the_entrys_index_and_an_evaluation():
    log = WorkLog()

    told = log.accept(register_job(job(priority=70)))

    stored = log.job()
    assert (stored.create_index, stored.modify_index) == (log.index, log.index)
    assert (stored.job_modify_index, stored.version) == (log.index, 0)
    assert stored.submit_time == START_NS
    assert told.job_modify_index == told.index == told.eval_create_index == log.index
    evaluation = log.state.evaluations[told.eval_ids[0]]
    assert (evaluation.triggered_by, evaluation.status) == ("job-register", "pending")
    assert (evaluation.priority, evaluation.type) == (70, JobType.SERVICE)
    assert evaluation.job_modify_index == log.index
    assert (evaluation.node_id, evaluation.node_modify_index) == ("", 0)


@pytest.mark.row("JB2")
def test_a_change_is_a_new_version_of_the_same_job():
    log = WorkLog(register_job())
    created = log.job()

    log.accept(register_job(job("web", group(count=5))))

    stored = log.job()
    assert (stored.version, stored.create_index) == (1, created.create_index)
    assert stored.job_modify_index == log.index
    assert [each.version for each in log.state.versions_of(WEB)] == [1, 0]


@pytest.mark.row("RC65", "M16", "JB3")
def test_the_same_again_only_makes_an_evaluation():
    log = WorkLog(register_job())
    created = log.job()

    told = log.accept(register_job(job(status=JobStatus.DEAD, version=9)))

    assert log.job() == created
    assert told.job_modify_index == created.job_modify_index < log.index
    assert len(told.eval_ids) == 1
    assert told.index == log.index


def test_one_and_true_are_not_the_same():
    one, true = (
        job("web", group(tasks=(Task(name="t", config={"x": value}),)))
        for value in (1, True)
    )

    assert one == true
    assert not is_same_spec(one, true)
    assert is_same_spec(one, replace(one, version=7, submit_time=5, stable=True))


@pytest.mark.row("JB5")
@pytest.mark.parametrize(
    ("enforced", "reason"),
    [
        (0, "Enforcing job modify index 0: job already exists"),
        (7, "Enforcing job modify index 7: job exists with conflicting job modify index: 1001"),
    ],
)  # fmt: skip
def test_an_enforced_index_must_be_the_jobs(enforced, reason):
    log = WorkLog(register_job())

    refused = log.refuse(
        register_job(job(priority=1), is_index_enforced=True, enforced_index=enforced)
    )

    assert (refused.code, refused.reason) == (RefusalCode.CONFLICT, reason)


def test_an_enforced_index_of_no_job():
    log = WorkLog()

    refused = log.refuse(register_job(is_index_enforced=True, enforced_index=7))

    assert refused.reason == "Enforcing job modify index 7: job does not exist"
    log.accept(register_job(is_index_enforced=True))


def test_the_right_index_is_taken():
    log = WorkLog(register_job())
    index = log.job().job_modify_index

    log.accept(
        register_job(job(priority=1), is_index_enforced=True, enforced_index=index)
    )

    assert log.job().priority == 1


@pytest.mark.row("JB6")
def test_a_job_keeps_its_type():
    log = WorkLog(register_job())

    refused = log.refuse(register_job(job(type=JobType.BATCH)))

    assert refused.reason == 'cannot update job from type "service" to "batch"'
    assert refused.code is RefusalCode.INVALID


@pytest.mark.row("JB7")
def test_stopping_is_a_version_and_an_evaluation():
    log = WorkLog(register_job(job(priority=70)))

    told = log.accept(stop_job())

    stored = log.job()
    assert (stored.stop, stored.version) == (True, 1)
    assert stored.job_modify_index == told.job_modify_index == log.index
    evaluation = log.state.evaluations[told.eval_ids[0]]
    assert evaluation.triggered_by == "job-deregister"
    assert (evaluation.job_modify_index, evaluation.priority) == (log.index, 70)


def test_stopping_twice_writes_no_version():
    log = WorkLog(register_job(), stop_job())
    stopped = log.job()

    told = log.accept(stop_job())

    assert log.job().version == stopped.version
    assert told.job_modify_index == stopped.job_modify_index
    assert len(told.eval_ids) == 1


def test_a_stopped_job_starts_again_as_the_same():
    log = WorkLog(register_job(), stop_job())

    log.accept(register_job())

    assert (log.job().stop, log.job().version) == (False, 2)


def test_a_purged_job_is_gone_with_its_numbers():
    log = WorkLog(register_job())

    told = log.accept(stop_job(is_purge=True))

    assert log.state.job(WEB) is None
    assert log.state.job_summaries == {}
    assert log.state.versions_of(WEB) == []
    assert told.job_modify_index == log.index
    assert log.evaluation().triggered_by == "job-deregister"


def test_a_purged_job_comes_back_as_another():
    log = WorkLog(register_job())
    log.place(placement("a-1"))
    log.accept(stop_job(is_purge=True))

    log.accept(register_job())

    assert (log.job().create_index, log.job().version) == (log.index, 0)
    former = log.state.job_of(log.alloc("a-1"))
    assert former is not None
    assert former.create_index < log.index
    assert log.summary().summary["g"].starting == 0


def test_versions_of_a_former_job_go_with_its_last_allocation():
    log = WorkLog(register_job())
    log.place(placement("a-1"))
    log.accept(stop_job(is_purge=True))
    log.accept(register_job())
    assert len(log.state.versions_of(WEB)) == 2
    log.accept(report(reported("a-1", "complete")))

    log.accept(collect("a-1"))

    (kept,) = log.state.versions_of(WEB)
    assert kept.create_index == log.job().create_index


@pytest.mark.row("W15", "JB9")
def test_an_unknown_job_is_stopped_by_nothing():
    log = WorkLog()

    told = log.accept(stop_job())

    assert (told.index, told.eval_ids, told.job_modify_index) == (0, (), 0)


def test_versions_are_kept_while_they_are_recent_or_run():
    log = WorkLog(register_job())
    log.place(placement("a-1"))

    for count in range(3, JOB_VERSIONS_MAX + 5):
        log.accept(register_job(job("web", group(count=count))))

    kept = [each.version for each in log.state.versions_of(WEB)]
    assert kept == [*range(log.job().version, log.job().version - JOB_VERSIONS_MAX, -1), 0]  # fmt: skip
    ran = log.state.job_of(log.alloc("a-1"))
    assert ran is not None
    assert ran.version == 0


@pytest.mark.row("JB15")
def test_a_forced_evaluation_marks_what_failed_and_was_not_replaced():
    log = WorkLog(register_job(job("web", group(count=3))))
    log.place(placement("a-1"), placement("a-2"), placement("a-3"))
    log.accept(report(reported("a-1", "failed"), reported("a-2", "failed")))
    log.carry_out(stop("a-2"))

    told = log.accept(evaluate_job(is_forced=True))

    marked = [
        item.id
        for item in log.state.allocations_on(N1)
        if item.desired_transition.force_reschedule
    ]
    assert marked == ["a-1"]
    assert log.alloc("a-1").modify_index == log.index
    assert log.alloc("a-1").alloc_modify_index < log.index
    evaluation = log.state.evaluations[told.eval_ids[0]]
    assert evaluation.triggered_by == "job-register"
    assert evaluation.job_modify_index == log.job().modify_index


def test_an_unknown_job_is_not_evaluated():
    refused = WorkLog().refuse(evaluate_job(JobKey(("default", "none"))))

    assert (refused.code, refused.reason) == (RefusalCode.NOT_FOUND, JOB_NOT_FOUND)
