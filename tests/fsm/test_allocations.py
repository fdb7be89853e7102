"""What agents report, and marks (AL, DR)."""

import pytest
from msgspec.structs import replace

from nodestate.model.allocation import (
    TASK_EVENTS_MAX,
    DeploymentStatus,
    DesiredTransition,
    RescheduleEvent,
    RescheduleTracker,
    TaskEvent,
    TaskState,
)
from nodestate.model.command import AgentReport, ReportAllocations
from nodestate.model.job import JobKey, JobType
from nodestate.model.node import NodeKey
from nodestate.model.outcome import (
    ALLOCATION_NOT_FOUND,
    NODE_NOT_FOUND,
    NODE_SECRET_MISMATCH,
    Accepted,
    RefusalCode,
)
from nodestate.model.timestamp import Timestamp
from tests.fsm.entries import N1, N2, OTHER_SECRET, SECRET, SEED, START_NS, drain, key
from tests.fsm.work import (
    LIMITED,
    WorkLog,
    group,
    healthy,
    job,
    mark,
    placement,
    register_job,
    report,
    reported,
    stop,
    stop_job,
)

SYSTEM = JobKey(("default", "system"))
HEALTHY = DeploymentStatus(healthy=True, timestamp=Timestamp(5))


@pytest.fixture
def log():
    log = WorkLog(register_job(job("web", group(count=3, reschedule_policy=LIMITED))))
    log.place(placement("a-1"), placement("a-2"), placement("a-3", N2))
    return log


# Reports


@pytest.mark.row("M7", "AL1")
def test_a_report_moves_the_index_but_not_the_agents(log):
    before = log.alloc("a-1")

    log.accept(report(reported("a-1", client_description="up"), at_ns=START_NS + 9))

    after = log.alloc("a-1")
    assert (after.client_status, after.client_description) == ("running", "up")
    assert (after.modify_index, after.modify_time) == (log.index, START_NS + 9)
    assert after.alloc_modify_index == before.alloc_modify_index < log.index
    assert after.create_index == before.create_index


def test_what_is_known_already_writes_nothing(log):
    log.accept(report(reported("a-1")))

    assert log.accept(report(reported("a-1"))).index == 0


def test_the_last_word_of_a_report_holds(log):
    log.accept(report(reported("a-1", "running"), reported("a-1", "complete")))

    assert log.alloc("a-1").client_status == "complete"


@pytest.mark.row("AL12")
def test_an_unknown_or_foreign_allocation_is_passed_over(log):
    told = log.accept(report(reported("none"), reported("a-3"), reported("a-1")))

    assert told.index == log.index
    assert log.alloc("a-3").client_status == "pending"
    assert log.alloc("a-1").client_status == "running"


@pytest.mark.parametrize("word", ["lost", "unknown", ""])
def test_an_agent_does_not_say_lost(log, word):
    assert log.accept(report(reported("a-1", word))).index == 0


@pytest.mark.parametrize("ended", ["complete", "failed"])
def test_what_has_ended_does_not_run_again(log, ended):
    log.accept(report(reported("a-1", ended)))

    assert log.accept(report(reported("a-1", "running"))).index == 0


def test_a_lost_one_may_turn_out_to_be_complete(log):
    log.accept(mark("a-1"))
    log.carry_out(stop("a-1", is_lost=True))

    assert log.accept(report(reported("a-1", "running"))).index == 0
    log.accept(report(reported("a-1", "complete")))

    assert log.alloc("a-1").client_status == "complete"
    assert log.alloc("a-1").desired_status == "stop"


def test_silence_about_tasks_takes_nothing_back(log):
    states = {"t": TaskState(state="running")}
    log.accept(report(reported("a-1", task_states=states)))

    log.accept(report(reported("a-1", client_description="again")))

    assert log.alloc("a-1").task_states == states


def test_the_newest_lines_of_a_task_are_kept(log):
    lines = tuple(TaskEvent(time=time) for time in range(TASK_EVENTS_MAX + 2))

    log.accept(report(reported("a-1", task_states={"t": TaskState(events=lines)})))

    kept = log.alloc("a-1").task_states["t"].events
    assert [line.time for line in kept] == [*range(2, TASK_EVENTS_MAX + 2)]


# Health


@pytest.mark.row("AL9")
def test_health_has_the_index_at_which_it_was_told(log):
    log.accept(report(reported("a-1", deployment_status=HEALTHY)))

    assert log.alloc("a-1").deployment_status == replace(
        HEALTHY, modify_index=log.index
    )


@pytest.mark.row("AL10", "AL11")
@pytest.mark.parametrize(
    "told", [None, DeploymentStatus(), replace(HEALTHY, timestamp=Timestamp(9))]
)
def test_known_health_stays(log, told):
    log.accept(report(reported("a-1", deployment_status=HEALTHY)))
    known = log.alloc("a-1").deployment_status

    log.accept(report(reported("a-1", client_description="x", deployment_status=told)))

    assert log.alloc("a-1").deployment_status == known


def test_health_may_change(log):
    log.accept(report(reported("a-1", deployment_status=HEALTHY)))

    log.accept(
        report(
            reported(
                "a-1", deployment_status=DeploymentStatus(healthy=False, canary=True)
            )
        )
    )

    assert log.alloc("a-1").deployment_status == DeploymentStatus(
        healthy=False, modify_index=log.index
    )


# Evaluations that a report calls for


@pytest.mark.row("AL3")
def test_two_failures_of_a_job_call_for_one_evaluation(log):
    told = log.accept(report(reported("a-1", "failed"), reported("a-2", "failed")))

    (id_,) = told.eval_ids
    evaluation = log.state.evaluations[id_]
    assert (evaluation.triggered_by, evaluation.job_id) == ("alloc-failure", "web")
    assert (evaluation.node_id, evaluation.status) == ("", "pending")
    assert told.eval_create_index == told.index == log.index


@pytest.mark.row("AL4")
def test_a_failure_with_no_attempts_left_calls_for_none(log):
    events = (RescheduleEvent(reschedule_time=START_NS - 1),)
    log.state.put_allocation(
        replace(log.alloc("a-1"), reschedule_tracker=RescheduleTracker(events=events))
    )

    assert log.accept(report(reported("a-1", "failed"))).eval_ids == ()


def test_a_failure_that_is_planned_for_calls_for_none(log):
    log.state.put_allocation(replace(log.alloc("a-1"), followup_eval_id="later"))

    assert log.accept(report(reported("a-1", "failed"))).eval_ids == ()


def test_a_failure_of_what_is_to_stop_calls_for_none(log):
    log.accept(mark("a-1"))
    log.carry_out(stop("a-1"))

    assert log.accept(report(reported("a-1", "failed"))).eval_ids == ()


def test_a_failure_of_a_group_that_is_gone_calls_for_none(log):
    log.accept(register_job(job("web", group("other"))))

    assert log.accept(report(reported("a-1", "failed"))).eval_ids == ()


@pytest.mark.row("AL5")
def test_an_orphan_that_runs_is_looked_at(log):
    log.accept(stop_job(is_purge=True))

    assert log.accept(report(reported("a-2", "failed"))).eval_ids == ()
    told = log.accept(report(reported("a-1", "running")))

    assert log.state.evaluations[told.eval_ids[0]].triggered_by == "job-deregister"


# Who may report


def test_a_wrong_secret_is_refused(log):
    refused = log.refuse(report(reported("a-1"), secret=OTHER_SECRET))

    assert (refused.code, refused.reason) == (RefusalCode.FORBIDDEN, NODE_SECRET_MISMATCH)  # fmt: skip


def test_an_unknown_node_is_refused(log):
    refused = log.refuse(report(reported("a-1"), node_key=key(9)))

    assert (refused.code, refused.reason) == (RefusalCode.NOT_FOUND, NODE_NOT_FOUND)


def test_of_many_reports_each_is_accepted_or_refused_by_itself(log):
    reports = (
        AgentReport(N1, OTHER_SECRET, (reported("a-1"),)),
        AgentReport(N1, SECRET, (reported("a-2"),)),
        AgentReport(NodeKey(N2), SECRET, (reported("a-3", "failed"),)),
    )

    told = log.accept(ReportAllocations(at_ns=START_NS, reports=reports, seed=SEED))

    assert [each.number for each in told.refused_reports] == [0]
    assert told.index == log.index
    statuses = [log.alloc(id_).client_status for id_ in ("a-1", "a-2", "a-3")]
    assert statuses == ["pending", "running", "failed"]


# Marks


@pytest.mark.row("AL19", "AL20")
def test_an_operators_mark_and_its_evaluation_are_one_entry(log):
    before = log.alloc("a-1")

    told = log.accept(mark("a-1"))

    marked = log.alloc("a-1")
    assert marked.is_migrating
    assert marked.modify_index == log.index
    assert marked.alloc_modify_index == before.alloc_modify_index
    assert marked.modify_time == before.modify_time
    evaluation = log.state.evaluations[told.eval_ids[0]]
    assert (evaluation.triggered_by, evaluation.job_modify_index) == ("alloc-stop", 0)


def test_an_unset_flag_leaves_the_other_alone(log):
    log.accept(mark("a-1", transition=DesiredTransition(reschedule=True)))
    log.accept(mark("a-1"))

    assert log.alloc("a-1").desired_transition == DesiredTransition(
        migrate=True, reschedule=True
    )


def test_an_operator_is_told_of_an_unknown_allocation(log):
    refused = log.refuse(mark("none"))

    assert (refused.code, refused.reason) == (RefusalCode.NOT_FOUND, ALLOCATION_NOT_FOUND)  # fmt: skip


@pytest.mark.row("D5")
def test_marks_of_a_drain_make_one_evaluation_per_job(log):
    log.accept(drain(-1))

    told = log.accept(mark("a-1", "a-2", "a-3", "none", is_drain=True))

    assert [log.alloc(id_).is_migrating for id_ in ("a-1", "a-2", "a-3")] == [True, True, False]  # fmt: skip
    (id_,) = told.eval_ids
    evaluation = log.state.evaluations[id_]
    assert (evaluation.triggered_by, evaluation.node_id) == ("node-drain", "")


def test_marks_of_a_drain_that_is_over_do_nothing(log):
    assert log.accept(mark("a-1", is_drain=True)).index == 0


def test_marks_that_are_there_make_no_evaluation(log):
    log.accept(drain(-1))
    log.accept(mark("a-1", is_drain=True))

    assert log.accept(mark("a-1", is_drain=True)).index == 0


def test_a_drain_leaves_system_jobs_alone_if_told_to():
    log = WorkLog(register_job(job(type=JobType.SYSTEM)))
    log.place(placement("a-1"))
    log.accept(drain(is_system_ignored=True))

    assert log.accept(mark("a-1", is_drain=True)).index == 0


@pytest.mark.row("M2")
def test_paced_marks_keep_to_what_the_group_lets_go(log):
    for id_, node_key in (("a-1", N1), ("a-2", N1), ("a-3", N2)):
        log.accept(healthy(id_, node_key))
    log.accept(drain())

    log.accept(mark("a-2", "a-1", is_drain=True, is_paced=True))

    assert log.alloc("a-2").is_migrating
    assert not log.alloc("a-1").is_migrating
    assert log.accept(mark("a-1", is_drain=True, is_paced=True)).index == 0


def test_forced_marks_wait_for_nobody(log):
    log.accept(drain(-1))

    log.accept(mark("a-1", "a-2", is_drain=True))

    assert log.alloc("a-1").is_migrating
    assert log.alloc("a-2").is_migrating


def test_forced_marks_wait_if_the_drain_was_given_more_time_meanwhile(log):
    """What was planned when the deadline was over must not hold for the new one."""
    for id_, node_key in (("a-1", N1), ("a-2", N1), ("a-3", N2)):
        log.accept(healthy(id_, node_key))
    log.accept(drain(-1))
    log.accept(drain())

    log.accept(mark("a-1", "a-2", is_drain=True))

    assert log.alloc("a-1").is_migrating
    assert not log.alloc("a-2").is_migrating


def test_a_forced_mark_holds_from_the_moment_in_which_the_deadline_is_over(log):
    log.accept(drain(60 * 10**9))

    early = log.accept(mark("a-1", is_drain=True, at_ns=START_NS + 60 * 10**9 - 1))
    log.accept(mark("a-1", is_drain=True, at_ns=START_NS + 60 * 10**9))

    assert early.index == 0
    assert log.alloc("a-1").is_migrating


def test_system_jobs_are_marked_once_nothing_else_is_left(log):
    log.accept(register_job(job("system", type=JobType.SYSTEM)))
    log.place(placement("s-1"), of=SYSTEM)
    log.accept(drain())

    assert log.accept(mark("s-1", is_drain=True)).index == 0
    for id_ in ("a-1", "a-2"):
        log.accept(report(reported(id_, client_status="complete")))
    log.accept(mark("s-1", is_drain=True))

    assert log.alloc("s-1").is_migrating


def test_paced_marks_of_a_purged_job_do_nothing(log):
    log.accept(healthy("a-1"))
    log.accept(drain())
    log.accept(stop_job(is_purge=True))

    outcome = log.apply(mark("a-1", is_drain=True, is_paced=True)).outcome

    assert isinstance(outcome, Accepted)
    assert outcome.index == 0
