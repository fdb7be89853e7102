"""Plans: what of them is carried out, and the records that makes (PL)."""

from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.fsm.plans import DRAINING, NO_NODE, NOT_ELIGIBLE, NOT_READY
from nodestate.model.allocation import (
    Allocation,
    AllocMetric,
    RescheduleEvent,
    RescheduleTracker,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import version_key
from nodestate.model.node import NetworkResource, NodeResources, NodeStatus, Port
from nodestate.model.outcome import PLAN_IS_OLD, RefusalCode
from nodestate.model.plan import Annotation, InPlaceUpdate, RejectedNode
from tests.fsm.entries import (
    N1,
    N2,
    N3,
    START_NS,
    drain,
    eligibility,
    id_of,
    key,
    purge,
    register,
    registration,
    status,
)
from tests.fsm.work import (
    ROOM,
    WEB,
    WorkLog,
    evaluate_job,
    group,
    job,
    placement,
    register_job,
    report,
    reported,
    resources,
    stop,
    stop_job,
)

BIG = resources(900)


@pytest.fixture
def log():
    return WorkLog(register_job(job("web", group(count=3))))


def full(log: WorkLog, **fields: Any) -> None:
    """Fill N1 with one allocation, and have the job looked at again."""
    log.place(placement("a-1", resources=BIG, **fields))
    log.accept(evaluate_job())


# Carried out


@pytest.mark.row("PL1")
def test_a_placement_is_a_whole_allocation(log):
    tracker = RescheduleTracker(events=(RescheduleEvent(prev_alloc_id="p"),))
    metrics = AllocMetric(nodes_evaluated=2)

    told = log.accept(
        log.plan(placement("a-1", metrics=metrics, reschedule_tracker=tracker))
    )

    assert told.index == log.index
    stored = log.job()
    assert log.alloc("a-1") == Allocation(
        id="a-1",
        name="web.g[1]",
        job_id="web",
        node_key=N1,
        node_id=id_of(N1),
        node_name="node-1",
        task_group="g",
        eval_id=log.evaluation().id,
        job_create_index=stored.create_index,
        job_modify_index=stored.job_modify_index,
        allocated_resources=resources(),
        metrics=metrics,
        reschedule_tracker=tracker,
        create_index=log.index,
        modify_index=log.index,
        alloc_modify_index=log.index,
        create_time=START_NS,
        modify_time=START_NS,
    )
    assert log.evaluation().modify_index == log.index


@pytest.mark.row("PL16")
def test_a_stop_leaves_the_version_of_the_job(log):
    log.place(placement("a-1"))
    before = log.alloc("a-1")
    log.accept(register_job(job("web", group(count=9))))

    result = log.carry_out(stop("a-1"))

    assert result.stopped_count == 1
    assert log.alloc("a-1") == replace(
        before,
        desired_status="stop",
        desired_description="enough",
        modify_index=log.index,
        alloc_modify_index=log.index,
    )


@pytest.mark.row("PL15")
def test_a_replacement_and_the_replaced_know_each_other(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())

    log.carry_out(stop("a-1"), placement("a-2", N2, previous_allocation="a-1"))

    assert log.alloc("a-1").next_allocation == "a-2"
    assert log.alloc("a-1").modify_index == log.index
    assert log.alloc("a-2").previous_allocation == "a-1"


def test_a_link_back_is_nothing_that_the_agent_must_know(log):
    log.place(placement("a-1"))
    before = log.alloc("a-1")
    log.accept(evaluate_job())

    log.carry_out(placement("a-2", N2, previous_allocation="a-1"))

    after = log.alloc("a-1")
    assert after.modify_index == log.index
    assert after.alloc_modify_index == before.alloc_modify_index
    assert after.modify_time == before.modify_time


def test_an_allocation_has_one_successor(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())
    log.carry_out(stop("a-1"), placement("a-2", N2, previous_allocation="a-1"))

    result = log.carry_out(placement("a-3", N2, previous_allocation="a-1"))

    assert result.dropped == ("a-3",)
    assert result.refresh_index >= log.index


def test_one_plan_does_not_replace_an_allocation_twice(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())

    result = log.carry_out(
        placement("a-2", N2, previous_allocation="a-1"),
        placement("a-3", N2, previous_allocation="a-1"),
    )

    assert result.dropped == ("a-3",)
    assert log.alloc("a-1").next_allocation == "a-2"


def test_a_placement_that_is_there_twice_is_not_carried_out(log):
    result = log.carry_out(placement("a-1"), placement("a-1", N2))

    assert result.dropped == ("a-1",)
    assert log.state.allocations == {}


def test_an_update_in_place_runs_the_new_version(log):
    log.place(placement("a-1"))
    before = log.alloc("a-1")
    log.accept(report(reported("a-1")))
    log.accept(register_job(job("web", group(count=9))))

    result = log.carry_out(
        updates=(InPlaceUpdate(id="a-1", node_key=N1, resources=resources(120)),)
    )

    after = log.alloc("a-1")
    assert result.updated_count == 1
    assert (after.job_version, after.eval_id) == (1, log.evaluation().id)
    assert after.job_modify_index == log.job().job_modify_index
    assert after.allocated_resources == resources(120)
    assert (after.client_status, after.create_index) == ("running", before.create_index)
    assert after.alloc_modify_index == log.index
    assert log.state.allocations_from(before.eval_id) == []


@pytest.mark.row("W17")
def test_an_annotation_keeps_the_version_and_its_evaluation_is_made(log):
    log.place(placement("a-1"))
    log.accept(report(reported("a-1", "failed")))
    log.accept(register_job(job("web", group(count=9))))
    later = Evaluation(id="later", job_id="web", previous_eval=log.evaluation().id)
    command = log.plan(
        annotations=(Annotation(id="a-1", node_key=N1, followup_eval_id="later"),)
    )

    told = log.accept(replace(command, evaluations=(later,)))

    assert log.alloc("a-1").followup_eval_id == "later"
    assert log.alloc("a-1").job_version == 0
    assert told.eval_ids == ("later",)
    stored = log.state.evaluations["later"]
    assert (stored.create_index, stored.create_time) == (log.index, START_NS)


def test_a_plan_of_nothing_writes_nothing(log):
    told = log.accept(log.plan())

    assert told.index == 0
    assert told.plan is not None


# Old plans


@pytest.mark.row("PL14")
@pytest.mark.parametrize("moved", ["plan", "update", "end", "gone"])
def test_a_plan_of_an_evaluation_that_moved_on_is_refused(log, moved):
    command = log.plan(placement("a-1"))
    if moved == "plan":
        log.carry_out(placement("a-2"))
    elif moved == "update":
        log.end(status="blocked")
    elif moved == "end":
        log.end()
    else:
        command = replace(command, plan=replace(command.plan, eval_id="none"))

    refused = log.refuse(command)

    assert (refused.code, refused.reason) == (RefusalCode.CONFLICT, PLAN_IS_OLD)


def test_the_same_plan_twice_is_one(log):
    command = log.plan(placement("a-1"))
    log.accept(command)

    log.refuse(command)


def test_a_job_that_was_stopped_is_not_placed(log):
    log.place(placement("a-1"))
    log.accept(stop_job())

    result = log.carry_out(placement("a-2"), stop("a-1"))

    assert result.dropped == ("a-2",)
    assert log.alloc("a-1").desired_status == "stop"


def test_a_job_that_was_purged_is_not_placed(log):
    command = log.plan(placement("a-1"))
    log.accept(stop_job(is_purge=True))

    told = log.accept(command)

    assert told.plan.dropped == ("a-1",)
    assert log.state.allocations == {}


def test_a_job_of_the_same_name_is_another(log):
    version = version_key(log.job())
    log.place(placement("a-1"))
    log.accept(stop_job(is_purge=True))
    log.accept(register_job())

    result = log.carry_out(placement("a-2"), version=version)

    assert result.dropped == ("a-2",)


def test_an_older_version_may_still_be_placed(log):
    version = version_key(log.job())
    log.accept(register_job(job("web", group(count=1))))

    result = log.carry_out(placement("a-1"), version=version)

    assert result.placed_count == 1
    assert log.alloc("a-1").job_version == 0


@pytest.mark.row("PL13")
def test_a_stop_of_what_is_over_or_gone_is_passed_over(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())
    log.carry_out(stop("a-1"))

    result = log.carry_out(stop("a-1"), stop("none"), stop("a-1", N2))

    assert (result.stopped_count, result.dropped) == (0, ())


def test_a_stopping_one_on_a_dead_node_is_lost(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())
    log.carry_out(stop("a-1"))

    log.carry_out(stop("a-1", description="down", is_lost=True))

    lost = log.alloc("a-1")
    assert (lost.client_status, lost.desired_status) == ("lost", "stop")
    assert lost.desired_description == "down"


def test_an_agents_word_is_not_lost(log):
    log.place(placement("a-1"))
    log.accept(report(reported("a-1", "complete")))
    log.accept(evaluate_job())

    log.carry_out(stop("a-1", is_lost=True))

    assert log.alloc("a-1").client_status == "complete"


# Nodes that take nothing


def rejected(log: WorkLog, *parts: Any, **fields: Any) -> tuple[RejectedNode, ...]:
    result = log.carry_out(*parts, **fields)
    assert bool(result.rejected) == bool(result.refresh_index)
    return result.rejected


@pytest.mark.row("PL4", "PL5", "PL6", "M14")
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (purge(N1), NO_NODE),
        (status(NodeStatus.DOWN), NOT_READY),
        (status(NodeStatus.INITIALIZING), NOT_READY),
        (drain(), DRAINING),
        (eligibility("ineligible"), NOT_ELIGIBLE),
    ],
)
def test_a_node_that_is_not_ready_takes_nothing(log, command, reason):
    log.place(placement("a-1"))
    log.accept(command)
    log.accept(evaluate_job())

    found = rejected(log, placement("a-2"), placement("a-3", N2), stop("a-1"))

    assert found == (RejectedNode(N1, reason),)
    assert "a-2" not in log.state.allocations
    assert log.alloc("a-1").desired_status == "run"
    assert log.alloc("a-3").node_key == N2


@pytest.mark.row("PL11")
@pytest.mark.parametrize("command", [purge(N1), status(NodeStatus.DOWN), drain()])
def test_stops_alone_are_carried_out_anywhere(log, command):
    log.place(placement("a-1"))
    log.accept(command)
    log.accept(evaluate_job())

    assert rejected(log, stop("a-1")) == ()
    assert log.alloc("a-1").desired_status == "stop"


@pytest.mark.row("PL12", "D10", "W13")
def test_updates_in_place_need_no_open_node(log):
    log.place(placement("a-1"))
    log.accept(eligibility("ineligible"))
    log.accept(evaluate_job())
    update = InPlaceUpdate(id="a-1", node_key=N1, resources=resources())

    assert rejected(log, updates=(update,)) == ()


def test_an_update_in_place_must_still_fit(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())
    update = InPlaceUpdate(id="a-1", node_key=N1, resources=resources(1001))

    assert rejected(log, updates=(update,)) == (RejectedNode(N1, "cpu"),)


@pytest.mark.row("PL7")
def test_a_full_node_takes_nothing(log):
    full(log)

    found = rejected(log, placement("a-2", resources=resources(101)))

    assert found == (RejectedNode(N1, "cpu"),)


def test_a_node_that_is_just_full_is_not_too_full(log):
    full(log)

    assert rejected(log, placement("a-2", resources=resources(100))) == ()


@pytest.mark.row("PL9")
def test_a_stop_in_the_same_plan_makes_room(log):
    full(log)

    assert rejected(log, stop("a-1"), placement("a-2", resources=BIG)) == ()


def test_a_stop_makes_room_once(log):
    log.place(placement("a-1", resources=resources(500)))
    log.accept(evaluate_job())
    twice = (stop("a-1"), stop("a-1"), placement("a-2", resources=resources(1001)))

    assert rejected(log, *twice) == (RejectedNode(N1, "cpu"),)


def test_what_is_stopped_is_not_updated_as_well(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())
    update = InPlaceUpdate(id="a-1", node_key=N1, resources=resources(120))

    result = log.carry_out(stop("a-1"), updates=(update,))

    assert (result.stopped_count, result.updated_count) == (1, 0)
    assert log.alloc("a-1").allocated_resources == resources()


@pytest.mark.row("PL10", "D4")
def test_what_is_to_stop_takes_room_until_it_has(log):
    full(log)
    log.carry_out(stop("a-1"))

    assert rejected(log, placement("a-2", resources=BIG)) == (RejectedNode(N1, "cpu"),)
    log.accept(report(reported("a-1", "complete")))

    assert rejected(log, placement("a-2", resources=BIG)) == ()


def test_placements_of_one_plan_take_room_of_each_other(log):
    found = rejected(
        log, placement("a-1", resources=BIG), placement("a-2", resources=BIG)
    )

    assert found == (RejectedNode(N1, "cpu"),)
    assert log.state.allocations == {}


def test_a_port_is_taken_once(log):
    network = NetworkResource(
        device="eth0", ip="10.0.0.3", dynamic_ports=[Port(label="p", value=20_001)]
    )
    log.accept(
        register(
            registration(
                N3,
                node_resources=replace(
                    ROOM,
                    networks=[
                        NetworkResource(device="eth0", cidr="10.0.0.3/32", mbits=100)
                    ],
                ),
            )
        )
    )
    with_port = resources(networks=[network])
    log.carry_out(placement("a-1", N3, resources=with_port))

    found = rejected(log, placement("a-2", N3, resources=with_port))

    assert found == (RejectedNode(N3, "reserved port collision"),)


def test_beside_a_port_sums_count_too(log):
    network = NetworkResource(device="", ip="10.0.0.1")
    with_network = resources(900, networks=[network])
    log.place(placement("a-1", resources=with_network))
    log.accept(evaluate_job())

    found = rejected(log, placement("a-2", resources=resources(101)))

    assert found == (RejectedNode(N1, "cpu"),)


def test_a_node_without_resources_takes_what_needs_none(log):
    log.accept(register(registration(N3, node_resources=NodeResources())))

    found = rejected(log, placement("a-1", N3))

    assert found == (RejectedNode(N3, "cpu"),)


# All or nothing, and halves


@pytest.mark.row("PL3")
def test_all_at_once_is_all_or_nothing(log):
    log.place(placement("a-1", N2))
    log.accept(evaluate_job())

    result = log.carry_out(
        placement("a-2"), placement("a-3", key(9)), stop("a-1", N2), is_all_at_once=True
    )

    assert result.dropped == ("a-1", "a-2", "a-3")
    assert result.refresh_index == log.index
    assert log.alloc("a-1").desired_status == "run"


def test_a_replaced_one_goes_on_when_its_replacement_has_no_place(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())

    result = log.carry_out(
        stop("a-1", only_with="a-2"),
        placement("a-2", key(9), previous_allocation="a-1"),
    )

    assert result.dropped == ("a-1", "a-2")
    assert log.alloc("a-1").desired_status == "run"
    assert log.alloc("a-1").next_allocation == ""


def test_a_replacement_is_not_placed_when_the_replaced_one_goes_on(log):
    full(log)

    result = log.carry_out(
        stop("a-1", only_with="a-2"),
        placement("a-2", N2, previous_allocation="a-1"),
        placement("a-3", resources=resources(1001)),
    )

    assert result.dropped == ("a-1", "a-2", "a-3")


def test_room_that_a_dropped_stop_would_have_made_is_not_there(log):
    full(log)

    result = log.carry_out(
        stop("a-1", only_with="a-2"),
        placement("a-2", key(9), previous_allocation="a-1"),
        placement("a-3", resources=BIG),
    )

    assert [node.key for node in result.rejected] == [N1, key(9)]
    assert list(log.state.allocations) == ["a-1"]


@pytest.mark.row("M3")
def test_a_migration_stops_whether_or_not_there_is_a_place(log):
    log.place(placement("a-1"))
    log.accept(evaluate_job())

    log.carry_out(stop("a-1"), placement("a-2", key(9), previous_allocation="a-1"))

    assert log.alloc("a-1").desired_status == "stop"


def test_allocations_are_found_by_what_they_belong_to(log):
    log.place(placement("a-2", N2), placement("a-1"))
    log.accept(evaluate_job())

    first = log.alloc("a-1").eval_id
    assert [item.id for item in log.state.allocations_of(WEB)] == ["a-1", "a-2"]
    assert [item.id for item in log.state.allocations_from(first)] == ["a-1", "a-2"]
    assert [item.id for item in log.state.allocations_on(N1)] == ["a-1"]
