"""Nodes: registration, status, history, eligibility, evaluation, purge."""

from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.model.allocation import Allocation
from nodestate.model.event import (
    EvaluationCreated,
    NodeEligibilityUpdated,
    NodeEventsAdded,
    NodePurged,
    NodeRegistered,
    NodeStatusUpdated,
)
from nodestate.model.job import JobType
from nodestate.model.node import (
    NODE_EVENTS_MAX,
    CpuResources,
    DeviceResource,
    DrainStrategy,
    Driver,
    HostVolume,
    LastDrain,
    NodeEvent,
    NodeResources,
    NodeStatus,
)
from nodestate.model.outcome import (
    ELIGIBLE_WHILE_DRAINING,
    INVALID_ELIGIBILITY,
    NODE_NOT_FOUND,
    NODE_SECRET_MISMATCH,
    REGISTER_SECRET_MISMATCH,
    RefusalCode,
    Refused,
)
from nodestate.model.timestamp import Timestamp
from tests.conformance.rows import rows
from tests.fsm.entries import (
    FIRST_INDEX,
    N1,
    N2,
    N3,
    OTHER_SECRET,
    SECOND_NS,
    SECRET,
    START_NS,
    Log,
    complete,
    drain,
    eligibility,
    emit,
    evaluate,
    id_of,
    key,
    miss,
    node,
    purge,
    register,
    registration,
    status,
)

INITIALIZING, READY, DOWN = NodeStatus.INITIALIZING, NodeStatus.READY, NodeStatus.DOWN
LATER_NS = START_NS + 100 * SECOND_NS
LATER_S = LATER_NS // SECOND_NS

# Registration


@rows("N1", "N22", "NE3")
def test_a_new_node_is_stored_as_sent():
    log = Log()
    sent: dict[str, Any] = {
        "status_description": "fresh",
        "scheduling_eligibility": "ineligible",
        "drain": True,
        "drain_strategy": DrainStrategy(deadline=5),
    }

    applied = log.apply(register(registration(**sent)))

    expected = replace(
        node(**sent),
        status_updated_at=START_NS // SECOND_NS,
        events=(
            NodeEvent(
                message="Node registered",
                subsystem="Cluster",
                timestamp=Timestamp(START_NS // SECOND_NS * SECOND_NS),
                create_index=FIRST_INDEX,
            ),
        ),
        create_index=FIRST_INDEX,
        modify_index=FIRST_INDEX,
    )
    assert log.node() == expected
    assert applied.events == (NodeRegistered(N1, expected, SECRET),)
    assert log.state.node_secrets == {N1: SECRET}
    assert log.state.table_index("nodes") == FIRST_INDEX


def test_history_indexes_and_last_drain_are_not_an_agents_to_say():
    claimed: dict[str, Any] = {
        "events": (NodeEvent(message="I was here"),),
        "create_index": 3,
        "modify_index": 4,
        "status_updated_at": 5,
        "last_drain": LastDrain(accessor_id="me"),
    }

    log = Log(register(registration(**claimed)))

    assert log.messages() == ["Node registered"]
    assert log.node().create_index == log.node().modify_index == FIRST_INDEX
    assert log.node().status_updated_at == START_NS // SECOND_NS
    assert log.node().last_drain is None


@rows("N20")
def test_registering_again_moves_the_index_and_adds_no_line():
    log = Log(register())

    log.accept(register(at_ns=LATER_NS))

    assert log.node().create_index == FIRST_INDEX
    assert log.node().modify_index == FIRST_INDEX + 1
    assert log.node().status_updated_at == LATER_S
    assert log.messages() == ["Node registered"]


@pytest.mark.row("DR67")
@rows("N21", "N23")
def test_what_operators_set_survives_a_registration():
    log = Log(register(), drain())
    before = log.node()

    log.accept(
        register(
            registration(
                name="renamed",
                scheduling_eligibility="eligible",
                drain=False,
                events=(NodeEvent(message="mine"),),
                create_index=1,
                modify_index=2,
                last_drain=LastDrain(accessor_id="me"),
            )
        )
    )

    after = log.node()
    assert after.name == "renamed"
    assert after.is_draining
    assert after.drain
    assert after.drain_strategy == before.drain_strategy
    assert after.last_drain == before.last_drain
    assert after.scheduling_eligibility == "ineligible"
    assert after.events == before.events
    assert after.create_index == before.create_index
    assert after.modify_index == log.index


@rows("N2")
def test_another_secret_cannot_take_a_node_over():
    log = Log(register())

    outcome = log.accept(register(registration(secret=OTHER_SECRET, name="stolen")))

    refused = Refused(RefusalCode.FORBIDDEN, REGISTER_SECRET_MISMATCH)
    assert [result.refused for result in outcome.registrations] == [refused]
    assert outcome.index == 0
    assert log.node().name == "node-1"
    assert log.state.table_index("nodes") == FIRST_INDEX


@rows("N19", "NE7")
def test_a_node_that_was_down_registers_with_a_line():
    log = Log(register(), miss())

    log.accept(register(at_ns=LATER_NS))

    line = log.node().events[-1]
    assert line.message == "Node re-registered"
    assert line.subsystem == "Cluster"
    assert line.timestamp == Timestamp(LATER_S * SECOND_NS)
    assert line.create_index == log.index


def test_a_node_that_was_down_and_stays_so_gets_no_line():
    log = Log(register(registration(status=DOWN)))

    log.accept(register(registration(status=DOWN)))

    assert log.messages() == ["Node registered"]


@rows("N10", "N11")
def test_a_registration_wakes_the_schedulers_when_the_status_calls_for_it():
    log = Log()
    log.put_system_job()

    results = [
        log.accept(register(registration(status=word))).registrations[0]
        for word in (READY, READY, DOWN, DOWN, INITIALIZING, READY)
    ]

    assert [len(result.eval_ids) for result in results] == [1, 0, 1, 1, 0, 1]
    evaluation = log.state.evaluations[results[0].eval_ids[0]]
    assert evaluation.type is JobType.SYSTEM
    assert evaluation.node_modify_index == FIRST_INDEX
    assert [result.is_down for result in results] == [
        False, False, True, True, False, False,
    ]  # fmt: skip


def test_a_new_node_that_initializes_wakes_nobody():
    log = Log()
    log.put_system_job()

    outcome = log.accept(register(registration(status=INITIALIZING)))

    assert outcome.eval_ids == ()


HEALTHY = {"docker": Driver(detected=True, healthy=True)}
UNHEALTHY = {"docker": Driver(detected=True, healthy=False)}


@pytest.mark.parametrize(
    ("changes", "is_woken"),
    [
        ({"name": "renamed"}, True),
        ({"datacenter": "dc2"}, True),
        ({"node_pool": "gpu"}, True),
        ({"node_class": "m"}, True),
        ({"attributes": {"kernel.name": "windows"}}, True),
        ({"meta": {"rack": "r2"}}, True),
        ({"host_volumes": {"v": HostVolume(name="v")}}, True),
        ({"node_resources": NodeResources(devices=[DeviceResource(name="m")])}, True),
        ({"drivers": UNHEALTHY}, True),
        ({"drivers": None}, True),
        ({}, False),
        ({"drivers": {**HEALTHY, "exec": Driver(detected=True)}}, False),
        ({"drivers": {"docker": Driver(detected=True, healthy=True, health_description="x")}}, False),
        ({"node_resources": NodeResources(cpu=CpuResources(cpu_shares=1))}, False),
        ({"node_resources": NodeResources(devices=[])}, False),
        ({"meta": {}, "host_volumes": {}}, False),
        ({"http_addr": "10.0.0.1:4646"}, False),
        ({"links": {"consul": "x"}}, False),
    ],
)  # fmt: skip
def test_schedulers_look_again_when_what_jobs_choose_by_has_changed(changes, is_woken):
    """Later Nomad does so too: a job may fit now, or no longer."""
    log = Log(register(registration(drivers=HEALTHY)))
    log.put_system_job(datacenters=("dc1", "dc2"))

    outcome = log.accept(register(registration(**{"drivers": HEALTHY, **changes})))

    assert len(outcome.eval_ids) == is_woken


def test_a_node_that_initializes_may_change_what_jobs_choose_by():
    """Its status alone calls for nothing, what it has does."""
    log = Log(register(registration(status=INITIALIZING)))
    log.put_system_job()

    outcome = log.accept(register(registration(status=INITIALIZING, name="renamed")))

    assert len(outcome.eval_ids) == 1


@rows("S12", "S13")
def test_a_registration_is_stored_in_the_one_form():
    log = Log(register(registration(drain=True, scheduling_eligibility="", meta={})))

    assert log.node().drain_strategy == DrainStrategy(deadline=-SECOND_NS)
    assert log.node().scheduling_eligibility == "ineligible"
    assert log.node().meta is None
    assert (
        Log(register(registration(scheduling_eligibility=""))).node()
        == Log(register(registration(scheduling_eligibility="eligible"))).node()
    )


# Status


@rows("N8")
def test_a_status_that_changes_is_written():
    log = Log(register())

    outcome = log.accept(status(INITIALIZING, at_ns=LATER_NS))

    assert outcome.index == outcome.node_modify_index == log.index
    assert log.node() == replace(
        log.node(),
        status=INITIALIZING,
        modify_index=log.index,
        status_updated_at=LATER_S,
    )
    assert log.messages() == ["Node registered"]


@rows("N13")
def test_a_status_that_stays_changes_nothing():
    log = Log(register())
    before = log.node()

    applied = log.apply(status(READY, at_ns=LATER_NS))

    assert applied.events == ()
    assert log.node() is before
    assert log.state.table_index("nodes") == FIRST_INDEX


@rows("N9")
def test_a_down_node_comes_back_by_heartbeat():
    log = Log(register(registration(status=DOWN)))

    applied = log.apply(status(INITIALIZING, at_ns=LATER_NS))

    assert applied.events == (NodeStatusUpdated(N1, log.node()),)
    assert log.messages() == ["Node registered", "Node reregistered by heartbeat"]
    assert log.node().events[-1].subsystem == "Cluster"
    assert log.node().events[-1].timestamp == Timestamp(LATER_NS)


@pytest.mark.parametrize(
    ("before", "after", "is_woken"),
    [
        pytest.param(INITIALIZING, READY, True, id="N12"),
        pytest.param(READY, INITIALIZING, False, id="6.5:ready-initializing"),
        pytest.param(DOWN, INITIALIZING, False, id="6.5:down-initializing"),
        pytest.param(DOWN, READY, True, id="6.5:down-ready"),
        pytest.param(READY, DOWN, True, id="6.5:ready-down"),
        pytest.param(INITIALIZING, DOWN, True, id="6.5:initializing-down"),
        pytest.param(READY, READY, False, id="6.5:ready-ready"),
        pytest.param(INITIALIZING, INITIALIZING, False, id="6.5:initializing"),
    ],
)
def test_which_changes_of_status_wake_the_schedulers(before, after, is_woken):
    log = Log(register(registration(status=before)))
    log.put_system_job()

    outcome = log.accept(status(after))

    assert len(outcome.eval_ids) == is_woken
    assert outcome.eval_create_index == (log.index if is_woken else 0)
    for eval_id in outcome.eval_ids:
        assert log.state.evaluations[eval_id].node_modify_index == log.index


@rows("N17")
def test_down_said_twice_wakes_schedulers_and_writes_no_node():
    log = Log(register(registration(status=DOWN)))
    log.put_system_job()
    before = log.node()

    outcome = log.accept(status(DOWN))

    assert log.node() is before
    assert outcome.node_modify_index == 0
    assert outcome.index == outcome.eval_create_index == log.index
    (evaluation,) = log.state.evaluations.values()
    assert evaluation.node_modify_index == 0
    assert log.state.table_index("nodes") == FIRST_INDEX


def test_down_said_twice_changes_nothing_when_no_job_is_concerned():
    log = Log(register(registration(status=DOWN)))

    assert log.accept(status(DOWN)).index == 0


@rows("N15")
@pytest.mark.parametrize("command", [status(READY, N2), emit("x", node_key=N2)])
def test_an_unknown_node_cannot_say_anything(command):
    log = Log(register())

    assert log.refuse(command) == Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)


@pytest.mark.parametrize(
    "command", [status(DOWN, secret=OTHER_SECRET), emit("x", secret=OTHER_SECRET)]
)
def test_a_node_writes_only_itself(command):
    log = Log(register())

    refused = log.refuse(command)

    assert refused == Refused(RefusalCode.FORBIDDEN, NODE_SECRET_MISMATCH)


@rows("S3")
def test_a_status_that_changes_moves_time_index_and_table():
    log = Log(register())
    log.index = 800

    applied = log.apply(miss(at_ns=70 * SECOND_NS))

    assert log.node().status is DOWN
    assert log.node().modify_index == 801
    assert log.node().status_updated_at == 70
    assert len(log.node().events) == 2
    assert log.state.table_index("nodes") == 801
    assert ("nodes", N1) in applied.keys


def test_eligibility_and_drain_survive_down_and_back():
    log = Log(register(), drain())
    before = log.node()

    log.accept(miss())
    log.accept(status(READY))

    after = log.node()
    assert after.drain_strategy == before.drain_strategy
    assert after.drain
    assert after.scheduling_eligibility == "ineligible"


# Missed heartbeats


@rows("N18")
def test_a_missed_heartbeat_marks_a_node_down():
    log = Log(register())

    log.accept(miss(at_ns=LATER_NS))

    assert log.node().status is DOWN
    assert log.messages() == ["Node registered", "Node heartbeat missed"]
    assert log.node().events[-1].subsystem == "Cluster"
    assert log.node().events[-1].timestamp == Timestamp(LATER_NS)


def test_many_go_down_in_one_entry_and_others_are_passed_over():
    log = Log(
        register(registration(N1), registration(N2), registration(N3, status=DOWN))
    )
    log.put_system_job()

    outcome = log.accept(miss(N2, key(9), N3, N1, N2))

    assert {log.node(each).modify_index for each in (N1, N2)} == {log.index}
    assert log.node(N3).modify_index == FIRST_INDEX
    assert len(outcome.eval_ids) == 2
    assert log.messages(N2) == ["Node registered", "Node heartbeat missed"]


def test_missing_only_nodes_that_are_down_changes_nothing():
    log = Log(register(registration(status=DOWN)))
    log.put_system_job()

    assert log.accept(miss()).index == 0


# History


@rows("NE1", "NE4")
def test_an_agents_line_moves_the_nodes_index():
    """The index moves (V11), so that one index never shows two bodies."""
    log = Log(register())

    applied = log.apply(emit("docker is unhealthy"))

    assert applied.events == (NodeEventsAdded(N1, log.node()),)
    assert log.messages() == ["Node registered", "docker is unhealthy"]
    assert log.node().events[-1].create_index == log.index
    assert log.node().modify_index == log.index
    assert log.node().status_updated_at == START_NS // SECOND_NS
    assert log.state.table_index("nodes") == log.index
    assert ("nodes", N1) in applied.keys


def test_a_line_is_kept_as_it_was_sent():
    log = Log(register())
    sent = NodeEvent(
        message="m",
        subsystem="Driver",
        details={"driver": "docker"},
        timestamp=Timestamp(5),
        create_index=77,
    )

    log.accept(replace(emit("m"), events=(sent,)))

    assert log.node().events[-1] == replace(sent, create_index=log.index)


def test_no_lines_change_nothing():
    assert Log(register()).accept(emit()).index == 0


@rows("NE2", "NE8")
def test_the_last_ten_lines_are_kept():
    log = Log(register())

    for number in range(20):
        log.accept(emit(f"line {number}"))
        assert len(log.node().events) == min(number + 2, NODE_EVENTS_MAX)

    assert log.messages() == [f"line {number}" for number in range(10, 20)]
    assert [event.create_index for event in log.node().events] == list(
        range(FIRST_INDEX + 11, FIRST_INDEX + 21)
    )


@pytest.mark.parametrize("count", [9, 10, 11])
def test_many_lines_at_once_stay_in_order(count):
    log = Log(register())
    lines = [f"line {number}" for number in range(count)]

    log.accept(emit(*lines))

    assert log.messages() == ["Node registered", *lines][-10:]


# Eligibility


@pytest.mark.row("EV13")
@rows("G1", "S7")
def test_a_node_is_closed_with_a_line_and_no_evaluation():
    log = Log(register())
    log.put_system_job()

    applied = log.apply(eligibility("ineligible", at_ns=7 * SECOND_NS))

    assert applied.events == (NodeEligibilityUpdated(N1, log.node()),)
    assert log.node().scheduling_eligibility == "ineligible"
    assert log.node().status_updated_at == 7
    assert log.node().modify_index == log.index
    line = log.node().events[1]
    assert line.message == "Node marked as ineligible for scheduling"
    assert line.subsystem == "Cluster"
    assert line.timestamp == Timestamp(7 * SECOND_NS)


@pytest.mark.row("EV12", "D12")
@rows("G2", "G7")
def test_opening_a_node_wakes_the_schedulers():
    log = Log(register(), eligibility("ineligible"))
    log.put_system_job()

    outcome = log.accept(eligibility("eligible"))

    assert log.evaluated_jobs(outcome.eval_ids) == ["logs"]
    # The index is told, unlike in Nomad (V9), and evaluations share it (V28).
    assert outcome.node_modify_index == outcome.eval_create_index == log.index
    assert log.messages()[2:] == ["Node marked as eligible for scheduling"]


@rows("G3", "G4")
@pytest.mark.parametrize("word", ["foo", "ELIGIBLE", ""])
def test_another_word_is_no_eligibility(word):
    refused = Log(register()).refuse(eligibility(word))

    assert refused == Refused(RefusalCode.INVALID, INVALID_ELIGIBILITY)


@pytest.mark.row("DR66")
@rows("G5", "S8")
def test_a_draining_node_stays_closed():
    log = Log(register(), drain())

    refused = log.refuse(eligibility("eligible"))

    assert refused == Refused(RefusalCode.CONFLICT, ELIGIBLE_WHILE_DRAINING)
    assert log.accept(eligibility("ineligible")).index == 0


@pytest.mark.row("EV14")
@rows("G6")
@pytest.mark.parametrize("word", ["eligible", "ineligible"])
def test_eligibility_that_stays_changes_nothing(word):
    log = Log(register(registration(scheduling_eligibility=word)))
    before = log.node()

    assert log.accept(eligibility(word)).index == 0
    assert log.node() is before


def test_a_word_of_the_agents_own_can_be_replaced():
    """Nomad stores any word at registration; opening such a node wakes nobody."""
    log = Log(register(registration(scheduling_eligibility="maybe")))
    log.put_system_job()

    outcome = log.accept(eligibility("eligible"))

    assert outcome.eval_ids == ()
    assert log.node().scheduling_eligibility == "eligible"


@pytest.mark.parametrize(
    "command",
    [eligibility("eligible", N2), evaluate(N2), purge(N2), drain(node_key=N2)],
)
def test_an_unknown_node_is_not_found(command):
    log = Log(register())

    assert log.refuse(command) == Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)


# Evaluation


@pytest.mark.row("EV5")
def test_evaluating_wakes_schedulers_and_leaves_the_node():
    log = Log(register())
    log.put_system_job()
    log.put_allocation()
    before = log.node()

    outcome = log.accept(evaluate())

    assert log.evaluated_jobs(outcome.eval_ids) == ["logs", "web"]
    assert outcome.node_modify_index == 0
    assert outcome.eval_create_index == log.index
    assert log.node() is before
    for evaluation in log.state.evaluations.values():
        assert evaluation.node_modify_index == FIRST_INDEX
    assert log.state.table_index("nodes") == FIRST_INDEX
    assert log.state.table_index("evaluations") == log.index


def test_evaluating_a_node_without_work_changes_nothing():
    assert Log(register()).accept(evaluate()).index == 0


# Purge


@pytest.mark.row("M15")
@rows("P1", "P2")
def test_a_purged_node_leaves_its_allocations_to_the_schedulers():
    log = Log(register())
    log.put_allocation()
    was = log.node()

    applied = log.apply(purge())

    assert log.state.node(N1) is None
    assert N1 not in log.state.node_secrets
    assert log.state.allocations.keys() == {"a1"}
    assert applied.events[0] == NodePurged(N1, was)
    assert isinstance(applied.events[1], EvaluationCreated)
    (evaluation,) = log.state.evaluations.values()
    assert evaluation.node_id == id_of(N1)
    assert evaluation.node_modify_index == evaluation.create_index == log.index
    assert log.state.table_index("nodes") == log.index


@rows("P3")
def test_a_purged_node_is_not_found():
    log = Log(register(), purge())

    assert log.refuse(purge()) == Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)


@rows("P5")
def test_purging_a_node_without_work_makes_no_evaluation():
    outcome = Log(register()).accept(purge())

    assert outcome.eval_ids == ()
    assert outcome.eval_create_index == 0


@rows("P6", "S2")
def test_two_are_purged_in_one_entry():
    log = Log(register(registration(N1), registration(N2), registration(N3)))

    applied = log.apply(purge(N1, N3, N1))

    assert log.state.node_keys == [N2]
    assert log.state.table_index("nodes") == log.index
    assert {("nodes", N1), ("nodes", N3)} < set(applied.keys)


@rows("P7")
def test_one_unknown_node_saves_all():
    log = Log(register())

    log.refuse(purge(N1, N2))

    assert log.state.node_keys == [N1]


@rows("P9")
def test_a_purged_node_registers_as_a_new_one():
    log = Log(register(), eligibility("ineligible"), purge())

    log.accept(register(registration(secret=OTHER_SECRET)))

    assert log.node().create_index == log.index
    assert log.messages() == ["Node registered"]
    assert log.node().scheduling_eligibility == "eligible"
    assert log.state.node_secrets == {N1: OTHER_SECRET}


@rows("S1")
def test_a_node_registers_at_the_index_of_its_entry():
    log = Log()

    applied = log.apply(register())

    assert applied.keys == (("nodes",), ("nodes", N1))
    assert log.state.node(N1) == log.node()
    assert log.state.table_index("nodes") == FIRST_INDEX == 1000


@rows("S9", "S10")
def test_ten_nodes_are_found_in_order_and_by_prefix():
    numbers = [7, 3, 9, 1, 5, 0, 8, 2, 6, 4]
    log = Log(register(*(registration(key(number)) for number in numbers)))

    assert [found.id for found in log.state.nodes_under("")] == [
        id_of(key(number)) for number in range(10)
    ]
    assert [found.id for found in log.state.nodes_under(key(3))] == [id_of(key(3))]


def test_allocations_elsewhere_do_not_matter():
    log = Log(register(), register(registration(N2)))
    log.state.put_allocation(Allocation(id="a1", job_id="web", node_key=N2))

    assert log.accept(evaluate(N1)).eval_ids == ()


def test_completing_without_a_drain_changes_nothing():
    assert Log(register()).accept(complete()).index == 0
