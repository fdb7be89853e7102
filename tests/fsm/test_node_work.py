"""What a change of a node asks of schedulers, and plans that meet it (EV, PL, DR)."""

from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.fsm.evaluations import Cause, decide_node_evaluations
from nodestate.model.command import (
    AgentReport,
    CompletedDrain,
    EvaluationChange,
    ReportAllocations,
    UpdateEvaluations,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import JobType, version_key
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import NODE_NOT_FOUND, RefusalCode, Refused
from nodestate.model.plan import Annotation, InPlaceUpdate, RejectedNode
from tests.fsm.entries import (
    N1,
    N2,
    N3,
    SECRET,
    SEED,
    START_NS,
    Log,
    complete,
    drain,
    eligibility,
    evaluate,
    id_of,
    node,
    purge,
    register,
    registration,
    stop_drain,
)
from tests.fsm.work import (
    WorkLog,
    collect,
    evaluate_job,
    group,
    job,
    mark,
    placement,
    register_job,
    reported,
    resources,
    stop,
)

FORCED_NS = -1


@pytest.mark.row("EV1")
def test_one_for_its_work_and_one_for_each_system_job():
    log = Log(register())
    log.put_allocation(job_id="A", job_type=JobType.BATCH, job_priority=33)
    log.put_system_job("S")
    cause = Cause(entry_index=77, at_ns=START_NS, seed=SEED)

    decided = decide_node_evaluations(log.state, N1, node(), cause, node_modify_index=1)

    made = [event.evaluation for event in decided]
    assert [(one.job_id, one.type, one.priority) for one in made] == [
        ("A", JobType.BATCH, 33),
        ("S", JobType.SYSTEM, 70),
    ]
    for one in made:
        assert (one.triggered_by, one.status) == ("node-update", "pending")
        assert (one.node_id, one.node_modify_index) == (id_of(N1), 1)
        assert one.create_index == 77


@pytest.mark.row("EV2")
def test_a_node_without_work_asks_for_nothing():
    log = Log(register())

    told = log.accept(evaluate())

    assert log.state.evaluations == {}
    assert (told.eval_ids, told.eval_create_index, told.index) == ((), 0, 0)


@pytest.mark.row("EV3")
def test_three_of_one_job_ask_once():
    log = Log(register())
    for number in range(3):
        log.put_allocation(f"a{number}")

    assert len(log.accept(evaluate()).eval_ids) == 1


@pytest.mark.row("EV4", "W4")
def test_jobs_of_one_name_in_two_namespaces_are_two():
    log = Log(register())
    for namespace in ("x", "y"):
        log.put_allocation(namespace, job_id="a", namespace=namespace)

    told = log.accept(evaluate())

    made = [log.state.evaluations[id_] for id_ in told.eval_ids]
    assert [(one.namespace, one.job_id) for one in made] == [("x", "a"), ("y", "a")]


@pytest.mark.row("EV6")
def test_a_node_that_nobody_knows_is_not_evaluated():
    refused = Log(register()).refuse(evaluate(N2))

    assert refused == Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)


@pytest.mark.row("EV7")
def test_a_node_that_registers_as_down_asks_for_its_work():
    log = Log(register())
    log.put_allocation()

    told = log.accept(register(registration(status=NodeStatus.DOWN)))

    assert len(told.registrations[0].eval_ids) == 1
    (evaluation,) = log.state.evaluations.values()
    assert evaluation.create_index == evaluation.node_modify_index == log.index


@pytest.mark.row("EV10")
def test_a_purged_node_asks_for_its_own_work_alone():
    log = Log(register(registration(N1), registration(N2)))
    log.put_allocation("a1", job_id="one")
    log.put_allocation("a2", job_id="two", node_key=N2)

    told = log.accept(purge(N1))

    assert log.evaluated_jobs(told.eval_ids) == ["one"]
    assert log.state.node_keys == [N2]
    assert log.state.allocations.keys() == {"a1", "a2"}
    assert [one.id for one in log.state.allocations_on(N1)] == ["a1"]


@pytest.mark.row("EV17")
def test_success_ends_all_of_the_job_that_wait_and_no_others():
    log = WorkLog(register_job(), register_job(job("other")))
    waiting = [
        Evaluation(id=id_, job_id=job_id, status="blocked")
        for id_, job_id in (("b1", "web"), ("b2", "web"), ("b3", "other"))
    ]
    changes = tuple(EvaluationChange(one) for one in waiting)
    log.accept(UpdateEvaluations(at_ns=START_NS, changes=changes))
    ended = next(
        one
        for one in log.state.evaluations.values()
        if (one.job_id, one.status) == ("web", "pending")
    )
    change = EvaluationChange(replace(ended, status="complete"), ended.modify_index)

    log.accept(UpdateEvaluations(at_ns=START_NS, changes=(change,)))

    statuses = {one.id: log.state.evaluations[one.id].status for one in waiting}
    assert statuses == {"b1": "canceled", "b2": "canceled", "b3": "blocked"}


@pytest.mark.row("EV17")
def test_success_ends_what_the_same_entry_has_made():
    log = WorkLog(register_job())
    made = tuple(
        EvaluationChange(Evaluation(id=id_, job_id=job_id, status="blocked"))
        for id_, job_id in (("b1", "web"), ("b2", "other"))
    )
    ended = log.evaluation()
    change = EvaluationChange(replace(ended, status="complete"), ended.modify_index)

    log.accept(UpdateEvaluations(at_ns=START_NS, changes=(*made, change)))

    statuses = {id_: log.state.evaluations[id_].status for id_ in ("b1", "b2")}
    assert statuses == {"b1": "canceled", "b2": "blocked"}


# Drains


@pytest.mark.row("DR64")
@pytest.mark.parametrize("word", ["eligible", "ineligible"])
def test_a_drain_that_never_was_is_stopped_without_a_trace(word):
    log = Log(register(registration(scheduling_eligibility=word)))
    lines = log.messages()

    log.accept(stop_drain())

    assert log.node().scheduling_eligibility == word
    assert log.messages() == lines


@pytest.mark.row("DR65")
def test_a_drain_that_changes_opens_nothing():
    log = Log(register(), drain(), drain(mark_eligible=True))

    assert log.node().is_draining
    assert log.node().scheduling_eligibility == "ineligible"


@pytest.mark.row("W3", "DR71")
def test_a_node_that_is_gone_spoils_no_others_end():
    log = Log(register(registration(N1), registration(N2)), drain())
    log.accept(drain(node_key=N2))
    ends = [CompletedDrain(each, log.node(each).modify_index) for each in (N2, N1)]
    log.accept(purge(N2))

    log.accept(complete(*ends))

    assert not log.node().is_draining
    assert log.messages()[-1] == "Node drain complete"


@pytest.mark.row("W7")
def test_a_report_of_a_node_that_is_gone_spoils_no_others():
    log = WorkLog(register_job())
    log.place(placement("a-1"), placement("a-2", N2))
    log.accept(purge(N1))
    reports = tuple(
        AgentReport(node_key, SECRET, (reported(id_, "complete"),))
        for node_key, id_ in ((N1, "a-1"), (N2, "a-2"))
    )

    told = log.accept(ReportAllocations(at_ns=START_NS, reports=reports, seed=SEED))

    assert [each.number for each in told.refused_reports] == [0]
    assert log.alloc("a-2").client_status == "complete"


@pytest.mark.row("DR37")
@pytest.mark.parametrize(
    ("kind", "is_system_ignored", "is_marked"),
    [
        (JobType.SERVICE, True, True),
        (JobType.SYSTEM, True, False),
        (JobType.SYSTEM, False, True),
    ],
)
def test_a_drain_marks_what_it_does_not_ignore(kind, is_system_ignored, is_marked):
    log = WorkLog(register_job(job(type=kind)))
    log.place(placement("a-1"))
    log.accept(drain(FORCED_NS, is_system_ignored=is_system_ignored))

    log.accept(mark("a-1", is_drain=True))

    assert log.alloc("a-1").is_migrating is is_marked


# Plans


def filled(**fields: Any) -> WorkLog:
    """A log whose first node has room for 100 MHz more, and a job to be placed."""
    log = WorkLog(register_job(job("web", group(count=3))))
    log.place(placement("a-1", resources=resources(900), **fields))
    log.accept(evaluate_job())
    return log


@pytest.mark.row("PL2")
def test_what_fits_is_placed_and_the_scheduler_looks_again():
    log = filled()

    result = log.carry_out(
        placement("a-2", resources=resources(101)), placement("a-3", N2)
    )

    assert result.rejected == (RejectedNode(N1, "cpu"),)
    assert result.dropped == ("a-2",)
    assert log.alloc("a-3").node_key == N2
    # A plan is checked as its entry is applied: that is the state it was checked against.
    assert result.refresh_index == log.index


@pytest.mark.row("PL8")
def test_what_fills_a_node_may_be_written_again():
    log = filled()
    update = InPlaceUpdate(id="a-1", node_key=N1, resources=resources(1000))

    result = log.carry_out(updates=(update,))

    assert (result.rejected, result.updated_count) == ((), 1)


@pytest.mark.row("PL13")
@pytest.mark.parametrize("case", ["gone", "stopped", "elsewhere"])
def test_a_note_on_what_is_gone_is_passed_over(case):
    log = filled()
    if case == "stopped":
        log.carry_out(stop("a-1"))
    note = Annotation(
        id="none" if case == "gone" else "a-1",
        node_key=N2 if case == "elsewhere" else N1,
        followup_eval_id="later",
    )
    before = log.state.allocations.copy()

    log.carry_out(annotations=(note,))

    assert log.state.allocations == before


@pytest.mark.row("PL13")
def test_a_version_that_is_not_kept_any_more_is_not_placed():
    log = filled()
    version = replace(version_key(log.job()), version=99)

    result = log.carry_out(placement("a-2", N2), version=version)

    assert result.dropped == ("a-2",)
    assert "a-2" not in log.state.allocations


def test_who_was_lost_stays_lost_in_the_numbers_when_forgotten():
    log = WorkLog(register_job())
    log.place(placement("a-1"))
    log.accept(evaluate_job())
    log.carry_out(stop("a-1", is_lost=True))
    assert log.summary().summary["g"].lost == 1

    log.accept(collect("a-1"))

    assert log.state.allocations == {}
    assert log.summary().summary["g"].lost == 1


@pytest.mark.row("W19")
def test_who_was_replaced_is_left_alone_when_its_successor_changes():
    log = filled()
    log.carry_out(stop("a-1"), placement("a-2", N2, previous_allocation="a-1"))
    replaced = log.alloc("a-1")
    update = InPlaceUpdate(id="a-2", node_key=N2, resources=resources(120))

    log.carry_out(updates=(update,))

    assert log.alloc("a-2").modify_index == log.index
    assert log.alloc("a-1") == replaced


@pytest.mark.row("W9")
def test_a_node_has_its_own_allocations_though_another_key_begins_alike():
    log = Log(register(registration(N1), registration(N3)))
    log.put_allocation("a1", node_key=N1)
    log.put_allocation("a3", node_key=N3)

    assert [one.id for one in log.state.allocations_on(N1)] == ["a1"]
    assert log.state.allocations_on(type(N1)(N1[:-1])) == []


@pytest.mark.row("EV12", "EV14")
def test_opening_what_is_open_asks_for_nothing():
    log = Log(register(), eligibility("ineligible"))
    log.put_system_job()

    opened = log.accept(eligibility("eligible"))
    again = log.accept(eligibility("eligible"))

    assert len(opened.eval_ids) == 1
    assert opened.index == log.index - 1 > 0
    assert (again.index, again.eval_ids) == (0, ())
