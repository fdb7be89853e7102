"""What is removed, and what is still of use."""

from typing import Any

import pytest

from nodestate.model.allocation import AllocMetric
from nodestate.model.command import SeenJob, SeenNode
from nodestate.model.job import JobType
from nodestate.model.node import NodeStatus
from tests.fsm.entries import N1, N2, purge, status
from tests.fsm.work import (
    WEB,
    WorkLog,
    collect,
    evaluate_job,
    job,
    placement,
    register_job,
    report,
    reported,
    stop,
    stop_job,
)


def worked(**fields: Any) -> WorkLog:
    """One allocation that its agent has ended, one that runs; all evaluations over."""
    log = WorkLog(register_job(job(**fields)))
    log.place(placement("a-1"), placement("a-2", N2))
    return log


def end_all(log: WorkLog) -> None:
    log.accept(report(reported("a-1", "complete")))
    log.accept(report(reported("a-2", "complete"), node_key=N2))


def seen_job(log: WorkLog) -> tuple[SeenJob, ...]:
    return (SeenJob(WEB, log.job().modify_index),)


def removed(log: WorkLog, *ids: str, **fields: Any) -> set[str]:
    before = {*log.state.allocations, *log.state.evaluations}
    log.accept(collect(*ids, **fields))
    return before - {*log.state.allocations, *log.state.evaluations}


# Allocations


def test_a_live_one_stays():
    assert removed(worked(), "a-1", "none") == set()


def test_a_complete_service_allocation_goes():
    log = worked()
    end_all(log)

    assert removed(log, "a-1") == {"a-1"}
    assert [item.id for item in log.state.allocations_of(WEB)] == ["a-2"]
    assert log.state.allocations_on(N1) == []


def test_a_failed_one_keeps_its_place_until_it_is_replaced():
    log = worked()
    log.accept(report(reported("a-1", "failed")))
    assert removed(log, "a-1") == set()

    log.carry_out(stop("a-1"), placement("a-3", N2, previous_allocation="a-1"))

    assert removed(log, "a-1") == {"a-1"}


@pytest.mark.parametrize("command", [status(NodeStatus.DOWN), purge(N1)])
def test_one_that_is_to_stop_goes_with_its_agent(command):
    log = worked()
    log.accept(evaluate_job())
    log.carry_out(stop("a-1"))
    assert removed(log, "a-1") == set()

    log.accept(command)

    assert removed(log, "a-1") == {"a-1"}


def test_one_that_never_ended_is_not_counted_any_more():
    log = worked()
    log.accept(evaluate_job())
    log.carry_out(stop("a-1"))
    log.accept(status(NodeStatus.DOWN))
    assert log.summary().summary["g"].starting == 2

    log.accept(collect("a-1"))

    assert log.summary().summary["g"].starting == 1


def test_what_a_batch_job_has_done_stays_as_long_as_the_job():
    log = worked(type=JobType.BATCH)
    end_all(log)
    assert removed(log, "a-1") == set()

    assert removed(log, "a-1", "a-2", jobs=seen_job(log)) == {"a-1", "a-2"}
    assert log.state.job_versions == {}


# Evaluations


def test_an_evaluation_goes_with_its_allocations():
    log = worked()
    id_ = log.alloc("a-1").eval_id
    end_all(log)

    assert removed(log, "a-1", evaluations=(id_,)) == {"a-1"}
    assert removed(log, "a-2", evaluations=(id_, "none")) == {"a-2", id_}
    assert log.state.evaluations_of(WEB) == []


def test_an_open_evaluation_stays():
    log = worked()
    told = log.accept(evaluate_job())

    assert removed(log, evaluations=told.eval_ids) == set()


# Jobs


def test_a_dead_job_goes_and_its_allocations_can_follow():
    log = worked()
    log.accept(stop_job())
    log.carry_out(stop("a-1"), stop("a-2", N2))
    log.end()

    log.accept(collect(jobs=seen_job(log)))

    assert log.state.job(WEB) is None
    assert log.state.job_of(log.alloc("a-1")) is not None


@pytest.mark.parametrize("case", ["not stopped", "work", "changed", "evaluated"])
def test_a_job_of_use_stays(case):
    log = worked()
    end_all(log)
    seen = seen_job(log)
    if case == "work":
        log = worked()
        seen = seen_job(log)
    elif case != "not stopped":
        log.accept(stop_job())
        if case == "changed":
            log.end()
        else:
            log.end(status="blocked", failed_tg_allocs={"g": AllocMetric()})
            seen = seen_job(log)

    log.accept(collect(jobs=seen))

    assert log.state.job(WEB) is not None


# Nodes


def seen_node(log: WorkLog) -> tuple[SeenNode, ...]:
    return (SeenNode(N1, log.node().modify_index),)


def test_a_node_that_is_down_goes_once_nothing_lives_on_it():
    log = worked()
    log.accept(status(NodeStatus.DOWN))
    log.accept(collect(nodes=seen_node(log)))
    assert log.state.node(N1) is not None

    log.carry_out(stop("a-1", is_lost=True))
    log.accept(collect(nodes=seen_node(log)))

    assert log.state.node(N1) is None
    assert N1 not in log.state.node_secrets


def test_a_node_that_came_back_stays():
    log = WorkLog()
    log.accept(status(NodeStatus.DOWN))
    seen = seen_node(log)
    log.accept(status(NodeStatus.READY))

    assert log.accept(collect(nodes=seen)).index == 0
    assert log.accept(collect(nodes=seen_node(log))).index == 0


def test_a_node_that_is_down_again_is_another_case():
    log = WorkLog()
    log.accept(status(NodeStatus.DOWN))
    seen = seen_node(log)
    log.accept(status(NodeStatus.READY))
    log.accept(status(NodeStatus.DOWN))

    assert log.accept(collect(nodes=seen)).index == 0
