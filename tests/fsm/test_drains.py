"""Drains: started, changed, stopped, complete."""

import pytest
from msgspec.structs import replace

from nodestate.fsm.snapshot import encode_state
from nodestate.model.command import CompletedDrain
from nodestate.model.event import NodeDrainUpdated
from nodestate.model.node import DrainStrategy, LastDrain, NodeEvent, NodeStatus
from nodestate.model.timestamp import NO_TIME, Timestamp
from tests.conformance.rows import case, rows
from tests.fsm.entries import (
    FIRST_INDEX,
    N1,
    N2,
    N3,
    SECOND_NS,
    START_NS,
    Log,
    complete,
    drain,
    eligibility,
    emit,
    miss,
    register,
    registration,
    stop_drain,
)

LATER_NS = START_NS + 30 * SECOND_NS
INT64_MAX = 2**63 - 1


def whole_seconds(at_ns: int) -> Timestamp:
    return Timestamp(at_ns // SECOND_NS * SECOND_NS)


def ended(log: Log, **fields: bool) -> CompletedDrain:
    """What a drainer says that has just looked at the node."""
    return CompletedDrain(N1, log.node().modify_index, **fields)


# Started


@rows("D1", "D2", "D3", "D4", "D21", "S4")
def test_a_drain_closes_the_node_and_counts_from_now():
    log = Log(register())
    before = log.node()

    applied = log.apply(
        drain(10 * SECOND_NS, at_ns=LATER_NS, is_system_ignored=True, accessor_id="op")
    )

    after = log.node()
    assert applied.events == (NodeDrainUpdated(N1, after),)
    assert after == replace(
        before,
        drain=True,
        drain_strategy=DrainStrategy(
            deadline=10 * SECOND_NS,
            ignore_system_jobs=True,
            force_deadline=Timestamp(LATER_NS + 10 * SECOND_NS),
            started_at=Timestamp(LATER_NS),
        ),
        scheduling_eligibility="ineligible",
        last_drain=LastDrain(
            started_at=whole_seconds(LATER_NS),
            updated_at=whole_seconds(LATER_NS),
            status="draining",
            accessor_id="op",
        ),
        status_updated_at=LATER_NS // SECOND_NS,
        events=(
            *before.events,
            NodeEvent(
                message="Node drain strategy set",
                subsystem="Drain",
                timestamp=Timestamp(LATER_NS),
                create_index=log.index,
            ),
        ),
        modify_index=log.index,
    )
    assert log.state.table_index("nodes") == log.index


@pytest.mark.parametrize(
    ("deadline", "force_deadline"),
    [
        case("D13", 0, NO_TIME),
        case("D13", -1, NO_TIME),
        case("D16", -SECOND_NS, NO_TIME),
        case("D23", -INT64_MAX - 1, NO_TIME),
        case("D23", 1, Timestamp(START_NS + 1)),
        case("D1", INT64_MAX, Timestamp(START_NS + INT64_MAX)),
    ],
)
def test_only_a_deadline_ahead_is_a_point_in_time(deadline, force_deadline):
    log = Log(register(), drain(deadline))

    assert log.node().drain_strategy == DrainStrategy(
        deadline=deadline,
        force_deadline=force_deadline,
        started_at=Timestamp(START_NS),
    )
    # Even the latest one can be written down.
    encode_state(log.state)


@pytest.mark.row("EV11")
def test_a_drain_makes_no_evaluation():
    log = Log(register())
    log.put_system_job()

    assert log.accept(drain()).eval_ids == ()


@rows("D12")
def test_marking_eligible_means_nothing_when_a_drain_starts():
    log = Log(register(), drain(0, mark_eligible=True))

    assert log.node().is_draining
    assert log.node().scheduling_eligibility == "ineligible"


@rows("D30")
def test_a_node_that_is_down_can_be_drained():
    log = Log(register(), miss(), drain())

    assert log.node().is_draining
    assert log.node().status is NodeStatus.DOWN


def test_times_of_the_command_are_not_taken():
    claimed = DrainStrategy(
        deadline=5, force_deadline=Timestamp(1), started_at=Timestamp(2)
    )

    log = Log(register(), replace(drain(), strategy=claimed))

    strategy = log.node().drain_strategy
    assert strategy is not None
    assert strategy.started_at == Timestamp(START_NS)
    assert strategy.force_deadline == Timestamp(START_NS + 5)


# Changed


@pytest.mark.row("DR62", "D11")
@rows("D5")
def test_a_change_keeps_the_start_and_counts_the_deadline_anew():
    log = Log(register(), drain(10 * SECOND_NS))

    log.accept(drain(20 * SECOND_NS, at_ns=LATER_NS))

    strategy = log.node().drain_strategy
    assert strategy is not None
    assert strategy.started_at == Timestamp(START_NS)
    assert strategy.force_deadline == Timestamp(LATER_NS + 20 * SECOND_NS)
    assert strategy.deadline == 20 * SECOND_NS
    assert log.messages()[1:] == [
        "Node drain strategy set",
        "Node drain strategy updated",
    ]
    assert log.node().status_updated_at == LATER_NS // SECOND_NS
    assert log.node().modify_index == log.index


def test_a_change_that_changes_nothing_is_written():
    log = Log(register(), drain(), drain())

    assert log.node().modify_index == FIRST_INDEX + 2
    assert len(log.node().events) == 3


@pytest.mark.parametrize(
    ("accessor_id", "meta", "kept"),
    [
        case("D33", "second", {"b": "2"}, LastDrain(accessor_id="second", meta={"b": "2"})),
        case("D33", "", None, LastDrain(accessor_id="first", meta={"a": "1"})),
        case("D33", "", {}, LastDrain(accessor_id="first", meta={"a": "1"})),
    ],
)  # fmt: skip
def test_who_and_why_are_replaced_only_by_something(accessor_id, meta, kept):
    log = Log(register(), drain(accessor_id="first", meta={"a": "1"}))

    log.accept(drain(at_ns=LATER_NS, accessor_id=accessor_id, meta=meta))

    assert log.node().last_drain == replace(
        kept,
        started_at=whole_seconds(START_NS),
        updated_at=whole_seconds(LATER_NS),
        status="draining",
    )


def test_a_node_that_registered_draining_has_its_drain_written_down_at_the_change():
    log = Log(register(registration(drain=True, drain_strategy=DrainStrategy())))

    log.accept(drain(at_ns=LATER_NS))

    assert log.node().last_drain == LastDrain(
        started_at=whole_seconds(LATER_NS), updated_at=whole_seconds(LATER_NS)
    )
    assert log.messages()[-1] == "Node drain strategy updated"


def test_the_next_drain_is_another_one():
    log = Log(register(), drain(meta={"a": "1"}), stop_drain())

    log.accept(drain(at_ns=LATER_NS))

    assert log.node().last_drain == LastDrain(
        started_at=whole_seconds(LATER_NS), updated_at=whole_seconds(LATER_NS)
    )


# Stopped


@rows("D6", "D7", "D14")
def test_a_drain_that_is_stopped_leaves_the_node_closed():
    log = Log(register(), drain(accessor_id="op", meta={"a": "1"}))
    log.put_system_job()

    outcome = log.accept(stop_drain(at_ns=LATER_NS))

    after = log.node()
    assert not after.is_draining
    assert not after.drain
    assert after.scheduling_eligibility == "ineligible"
    assert after.events[-1].message == "Node drain disabled"
    assert after.events[-1].timestamp == Timestamp(LATER_NS)
    assert after.last_drain == LastDrain(
        started_at=whole_seconds(START_NS),
        updated_at=whole_seconds(LATER_NS),
        status="canceled",
        accessor_id="op",
        meta={"a": "1"},
    )
    assert after.status_updated_at == LATER_NS // SECOND_NS
    assert outcome.eval_ids == ()


def test_who_stopped_it_is_written_down():
    log = Log(register(), drain(accessor_id="first", meta={"a": "1"}))

    log.accept(stop_drain(accessor_id="second", meta={"b": "2"}))

    last_drain = log.node().last_drain
    assert last_drain is not None
    assert last_drain.accessor_id == "second"
    assert last_drain.meta == {"b": "2"}


def test_a_node_that_registered_draining_can_be_stopped():
    log = Log(register(registration(drain=True, drain_strategy=DrainStrategy())))

    log.accept(stop_drain())

    assert not log.node().is_draining
    assert log.node().last_drain is None
    assert log.messages()[-1] == "Node drain disabled"


@pytest.mark.row("EV15")
@rows("D8", "D17", "S5")
def test_a_drain_that_is_stopped_can_open_the_node():
    log = Log(register(), drain())
    log.put_system_job()

    outcome = log.accept(stop_drain(mark_eligible=True, at_ns=9 * SECOND_NS))

    assert not log.node().is_draining
    assert log.node().scheduling_eligibility == "eligible"
    assert log.node().status_updated_at == 9
    assert log.node().modify_index == 1002
    assert len(log.node().events) == 3
    assert log.evaluated_jobs(outcome.eval_ids) == ["logs"]
    assert outcome.eval_create_index == outcome.index == 1002
    (evaluation,) = log.state.evaluations.values()
    assert evaluation.node_modify_index == 1002


@pytest.mark.row("DR63")
@rows("D9", "D10", "D34")
@pytest.mark.parametrize("mark_eligible", [False, True])
def test_stopping_what_is_stopped_moves_the_index_alone(mark_eligible):
    log = Log(register(), drain(), stop_drain(mark_eligible=True))
    log.put_system_job()
    before = log.node()

    outcome = log.accept(stop_drain(mark_eligible=mark_eligible))

    assert log.node() == replace(before, modify_index=log.index)
    assert outcome.node_modify_index == log.index
    assert outcome.eval_ids == ()


@rows("D11")
def test_a_closed_node_is_opened_without_a_line():
    log = Log(register(), eligibility("ineligible"))
    log.put_system_job()
    before = log.messages()

    outcome = log.accept(stop_drain(mark_eligible=True))

    assert log.node().scheduling_eligibility == "eligible"
    assert log.evaluated_jobs(outcome.eval_ids) == ["logs"]
    assert log.messages() == before


# Complete


@pytest.mark.row("M6")
@rows("D22", "D23")
def test_a_complete_drain_leaves_the_node_closed():
    log = Log(register(), drain(accessor_id="op", meta={"a": "1"}))

    applied = log.apply(complete(ended(log), at_ns=LATER_NS))

    after = log.node()
    assert applied.events == (NodeDrainUpdated(N1, after),)
    assert not after.is_draining
    assert not after.drain
    assert after.scheduling_eligibility == "ineligible"
    assert after.events[2] == NodeEvent(
        message="Node drain complete",
        subsystem="Drain",
        timestamp=Timestamp(LATER_NS),
        create_index=log.index,
    )
    assert after.last_drain == LastDrain(
        started_at=whole_seconds(START_NS),
        updated_at=whole_seconds(LATER_NS),
        status="complete",
        accessor_id="op",
        meta={"a": "1"},
    )
    assert after.modify_index == log.index
    assert after.status_updated_at == LATER_NS // SECOND_NS
    # One drain has one end (V39).
    assert log.accept(complete(ended(log))).index == 0


@rows("D27", "D28")
def test_a_drain_cut_short_says_so():
    log = Log(register(), drain())

    log.accept(complete(ended(log, deadline_reached=True)))

    assert log.node().events[-1].details == {"deadline_reached": "true"}


def test_a_node_that_registered_draining_can_be_complete():
    log = Log(register(registration(drain=True, drain_strategy=DrainStrategy())))

    log.accept(complete(ended(log)))

    assert not log.node().is_draining
    assert log.node().last_drain is None


@pytest.mark.parametrize(
    "change",
    [drain(), stop_drain(), emit("x"), register()],
    ids=["changed", "stopped", "lines", "registered"],
)
def test_a_late_completion_cannot_end_another_drain(change):
    log = Log(register(), drain())
    seen = ended(log)
    log.accept(change)
    before = encode_state(log.state)

    assert log.accept(complete(seen)).index == 0
    assert encode_state(log.state) == before


def test_a_node_that_is_gone_has_no_drain_to_complete():
    assert Log(register()).accept(complete(CompletedDrain(N2, 1000))).index == 0


@rows("S6")
def test_several_drains_are_over_in_one_entry():
    log = Log(
        register(registration(N1), registration(N2), registration(N3)),
        drain(),
        drain(node_key=N2),
    )
    drains = [
        CompletedDrain(each, log.node(each).modify_index) for each in (N2, N3, N1, N2)
    ]

    log.accept(complete(*drains))

    assert log.node(N1).modify_index == log.node(N2).modify_index == log.index
    assert log.node(N3).modify_index == FIRST_INDEX
    assert len(log.messages(N2)) == 3
    assert log.messages(N1)[-1] == "Node drain complete"
