"""`apply` and `check`: outcomes, events, keys, and batches of registrations."""

from typing import get_args

import pytest

from nodestate.fsm import keys, machine
from nodestate.fsm.snapshot import encode_state
from nodestate.fsm.state import State
from nodestate.model.command import (
    BootstrapACL,
    Command,
    CompletedDrain,
    DeregisterJob,
    EvaluateJob,
    PurgeNodes,
    RegisterJob,
    RegisterNodes,
    UpsertRoles,
    UpsertTokens,
)
from nodestate.model.event import (
    EvaluationCreated,
    Event,
    NodeDrainUpdated,
    NodeEligibilityUpdated,
    NodeEventsAdded,
    NodePurged,
    NodeRegistered,
    NodeStatusUpdated,
    StateRestored,
)
from nodestate.model.node import NodeStatus
from nodestate.model.outcome import (
    NODE_NOT_FOUND,
    REGISTER_SECRET_MISMATCH,
    Accepted,
    RefusalCode,
    Refused,
    RegistrationResult,
)
from tests.fsm.entries import (
    FIRST_INDEX,
    N1,
    N2,
    N3,
    OTHER_SECRET,
    Log,
    complete,
    drain,
    eligibility,
    emit,
    evaluate,
    id_of,
    miss,
    purge,
    register,
    registration,
    status,
    stop_drain,
)

NODE_EVENTS = (
    NodeRegistered,
    NodeStatusUpdated,
    NodeEventsAdded,
    NodeDrainUpdated,
    NodeEligibilityUpdated,
    NodePurged,
)
COMMANDS: dict[str, Command] = {
    "register": register(registration(status=NodeStatus.DOWN)),
    "status": status(NodeStatus.DOWN),
    "miss": miss(),
    "emit": emit("line"),
    "drain": drain(),
    "stop": stop_drain(mark_eligible=True),
    "complete": complete(CompletedDrain(N1, FIRST_INDEX + 1)),
    "ineligible": eligibility("ineligible"),
    "evaluate": evaluate(),
    "purge": purge(),
}
ON_DRAINING = {
    "status": [NodeStatusUpdated, EvaluationCreated],
    "register": [NodeRegistered, EvaluationCreated],
    "miss": [NodeStatusUpdated, EvaluationCreated],
    "emit": [NodeEventsAdded],
    "drain": [NodeDrainUpdated],
    "stop": [NodeDrainUpdated, EvaluationCreated],
    "complete": [NodeDrainUpdated],
    "ineligible": [],
    "evaluate": [EvaluationCreated],
    "purge": [NodePurged, EvaluationCreated],
}


def draining_log() -> Log:
    log = Log()
    log.put_system_job()
    log.state.indexes["jobs"] = 1
    log.accept(register(registration(status=NodeStatus.INITIALIZING)))
    log.accept(drain())
    return log


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_decided_and_written(name):
    log = draining_log()

    applied = log.apply(COMMANDS[name])

    assert [type(event) for event in applied.events] == ON_DRAINING[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_outcome_tells_indexes_evaluations_and_count(name):
    log = draining_log()

    applied = log.apply(COMMANDS[name])

    outcome = applied.outcome
    assert isinstance(outcome, Accepted)
    is_node_written = any(
        not isinstance(event, EvaluationCreated) for event in applied.events
    )
    eval_ids = tuple(
        event.evaluation.id
        for event in applied.events
        if isinstance(event, EvaluationCreated)
    )
    assert outcome.index == (log.index if applied.events else 0)
    assert outcome.node_modify_index == (log.index if is_node_written else 0)
    assert outcome.eval_ids == eval_ids
    assert outcome.eval_create_index == (log.index if eval_ids else 0)
    assert outcome.node_count == (0 if name == "purge" else 1)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_keys_are_those_of_tables_and_records_written(name):
    log = draining_log()

    applied = log.apply(COMMANDS[name])

    expected: dict[tuple[str, ...], None] = {}
    for event in applied.events:
        if isinstance(event, EvaluationCreated):
            expected |= {("evaluations",): None, ("evaluations", event.evaluation.id): None}  # fmt: skip
            expected |= {("job_evaluations", f"default\0{event.evaluation.job_id}"): None}  # fmt: skip
        else:
            assert isinstance(event, NODE_EVENTS)
            expected |= {("nodes",): None, ("nodes", event.key): None}
    assert applied.keys == tuple(expected)


@pytest.mark.parametrize("name", COMMANDS)
def test_only_tables_that_were_written_move(name):
    log = draining_log()
    before = dict(log.state.indexes)

    applied = log.apply(COMMANDS[name])

    moved = {key[0] for key in applied.keys if len(key) == 1}
    assert log.state.indexes == {
        table: log.index if table in moved else index for table, index in before.items()
    }


def test_an_eligible_node_that_closes_writes_its_eligibility():
    log = Log(register())

    applied = log.apply(eligibility("ineligible"))

    assert [type(event) for event in applied.events] == [NodeEligibilityUpdated]


@pytest.mark.parametrize("name", COMMANDS)
def test_checking_a_command_writes_nothing(name):
    log = draining_log()
    before = encode_state(log.state)

    machine.check(log.state, COMMANDS[name])
    machine.check(State(), COMMANDS[name])

    assert encode_state(log.state) == before


def test_checking_finds_what_would_stop_every_server():
    """A proposer checks for this alone: better one answer of 500 than no cluster."""
    broken = State()
    broken.nodes = None  # type: ignore[assignment]

    for command in COMMANDS.values():
        with pytest.raises(AttributeError):
            machine.check(broken, command)


def test_what_is_refused_says_why_and_touches_nothing():
    applied = machine.apply(State(), 1, drain())

    assert applied == machine.Applied(
        Refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND), (), ()
    )


def test_registrations_are_decided_one_by_one():
    log = Log(register(registration(N2)))
    log.put_system_job()

    outcome = log.accept(
        register(
            registration(N1),
            registration(N2, secret=OTHER_SECRET),
            registration(N3, status=NodeStatus.DOWN),
        )
    )

    assert outcome.registrations == (
        RegistrationResult(
            node_id=id_of(N1),
            node_modify_index=log.index,
            eval_ids=outcome.eval_ids[:1],
        ),
        RegistrationResult(
            node_id=id_of(N2),
            refused=Refused(RefusalCode.FORBIDDEN, REGISTER_SECRET_MISMATCH),
        ),
        RegistrationResult(
            node_id=id_of(N3),
            node_modify_index=log.index,
            eval_ids=outcome.eval_ids[1:],
            is_down=True,
        ),
    )
    assert len(outcome.eval_ids) == 2
    assert outcome.node_count == 3
    assert outcome.index == outcome.node_modify_index == log.index
    assert log.node(N2).modify_index == FIRST_INDEX


def test_a_node_twice_in_a_batch_is_registered_and_registered_again():
    log = Log()

    outcome = log.accept(
        register(registration(name="first"), registration(name="last"))
    )

    assert log.node().name == "last"
    assert log.messages() == ["Node registered"]
    assert len(outcome.registrations) == 2
    assert outcome.node_count == 1


def test_the_first_secret_of_a_batch_counts():
    log = Log()

    outcome = log.accept(register(registration(), registration(secret=OTHER_SECRET)))

    assert [result.refused is None for result in outcome.registrations] == [True, False]


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_with_nothing_accepted_changes_nothing(count):
    log = Log(register())
    before = encode_state(log.state)
    refused = [registration(secret=OTHER_SECRET)] * count

    applied = machine.apply(
        log.state, 2000, RegisterNodes(at_ns=1, registrations=tuple(refused), seed=b"")
    )  # fmt: skip

    assert isinstance(applied.outcome, Accepted)
    assert applied.outcome.index == 0
    assert len(applied.outcome.registrations) == count
    assert applied.keys == ()
    assert encode_state(log.state) == before


def test_an_empty_purge_changes_nothing():
    log = Log(register())

    applied = machine.apply(log.state, 2000, PurgeNodes(at_ns=1, keys=(), seed=b""))

    assert applied.outcome == Accepted(node_count=1)


def test_an_unknown_command_stops_the_server():
    """Passed over on one server and applied on another, it would part their states."""
    with pytest.raises(KeyError):
        machine.apply(State(), 1, object())  # type: ignore[arg-type]


def test_every_command_has_one_way_in():
    """Those that are decided and followed, and those with a way of their own."""
    of_jobs = {RegisterJob, DeregisterJob, EvaluateJob}
    with_ids = {UpsertTokens, BootstrapACL, UpsertRoles}
    assert {*machine._APPLY, *machine._DECIDE} == set(get_args(Command))
    assert machine._APPLY.keys() & machine._DECIDE.keys() == of_jobs | with_ids


def test_every_event_is_written_and_has_keys():
    """A restore has none of both: it swaps the tables as one."""
    assert machine._EVOLVE.keys() == {*get_args(Event)} - {StateRestored}
    assert keys._KEYS.keys() == {*get_args(Event)}
