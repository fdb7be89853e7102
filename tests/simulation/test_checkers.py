"""Verdicts on histories made by hand: each wrong one is found, and no right one."""

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from cluster.simulation.checkers import (
    Reference,
    judge_history,
    judge_orders,
    model_of,
    search,
    step,
)
from cluster.simulation.history import NEVER, Call, History, Status, Watched
from cluster.simulation.judge import (
    EXACTLY_ONCE,
    LINEARIZABLE,
    NO_LOSS,
    NOT_SENT,
    STATE_MACHINE_SAFETY,
    WATCHERS,
)
from cluster.simulation.loop import START_NS
from cluster.simulation.workload import VERBS, command_of
from nodestate.fsm import machine
from nodestate.fsm.state import State
from nodestate.model.node import NodeKey
from nodestate.model.outcome import Accepted
from nodestate.model.request import Origin
from nodestate.replication.entries import Envelope

NODE = "n1"


class Log:
    """A log of commands from index 2 on, and a history that fits it, to be bent."""

    def __init__(self, *verbs: str) -> None:
        self.bodies = {
            number + 1: _envelope(number, verb) for number, verb in enumerate(verbs, 1)
        }
        reference = self.reference()
        self.history = History(calls=[], watched=[])
        for number, verb in enumerate(verbs, 1):
            outcome = reference.outcomes[f"op{number}"][1]
            self.call(number, verb, 10 * number, 10 * number + 5, outcome=outcome)

    def reference(self) -> Reference:
        return Reference(self.bodies)

    def call(
        self, op: int, verb: str, called_at: int, returned_at: int, **rest
    ) -> Call:
        call = Call(
            op=f"op{op}",
            verb=verb,
            node=NODE,
            server="server1",
            called_at=called_at,
            returned_at=returned_at,
            **{"status": Status.DONE, **rest},
        )
        self.history.calls.append(call)
        return call

    def read(self, index: int, called_at: int, returned_at: int) -> Call:
        seen = self.reference().node_at(NODE, index)
        return self.call(99, "read", called_at, returned_at, index=index, seen=seen)

    def promises(self) -> list[str]:
        violations = [
            *judge_history(self.history, self.reference()),
            *judge_orders(self.history)[0],
        ]
        return [violation.promise for violation in violations]


def _envelope(op: int, verb: str) -> Envelope:
    command = command_of(op, verb, NODE, at_ns=START_NS)
    return Envelope(Origin("server1", "boot", op), command)


def test_a_history_that_fits_its_log_is_right():
    log = Log("register", "close", "drain", "undrain", "purge", "down")
    log.read(4, 36, 38)
    log.read(6, 56, 58)

    assert log.promises() == []


def test_an_acknowledged_write_must_be_in_the_log():
    log = Log("register", "close")
    del log.bodies[3]

    assert NO_LOSS in log.promises()


def test_what_was_not_sent_must_not_be():
    log = Log("register", "close")
    log.history.calls[1].status = Status.NOT_SENT

    assert log.promises() == [NOT_SENT]


def test_what_is_unknown_may_or_may_not_be():
    log = Log("register", "close")
    log.history.calls[1].status = Status.UNKNOWN
    assert log.promises() == []

    del log.bodies[3]
    assert log.promises() == []


def test_what_was_told_must_be_what_the_log_says():
    log = Log("register", "close")
    log.history.calls[1].outcome = Accepted(index=77)

    assert log.promises() == [LINEARIZABLE]


def test_a_replayed_answer_is_the_first_one():
    log = Log("register")
    outcome = log.history.calls[0].outcome
    assert isinstance(outcome, Accepted)
    log.history.calls[0].outcome = replace(outcome, is_replayed=True)

    assert log.promises() == []


def test_an_operation_in_the_log_twice_is_one_too_many():
    log = Log("register", "close")
    log.bodies[9] = log.bodies[2]

    assert log.promises() == [EXACTLY_ONCE]


def test_a_read_must_not_be_older_than_what_had_returned():
    log = Log("register", "close")
    log.read(2, 40, 45)  # after op2 returned, and without it

    promises = log.promises()

    assert promises == [LINEARIZABLE, LINEARIZABLE]  # the witness, and the search


def test_a_stale_read_may_be_old_but_not_wrong():
    log = Log("register", "close")
    read = log.read(2, 40, 45)
    read.is_consistent = False
    assert log.promises() == []

    read.seen = None
    assert log.promises() == [STATE_MACHINE_SAFETY]


def test_writes_must_be_in_the_order_in_which_they_were_asked_for():
    log = Log("register", "close", "open")
    first, second = log.history.calls[1:]
    first.called_at, first.returned_at, second.called_at, second.returned_at = (
        60,
        65,
        50,
        55,
    )

    assert LINEARIZABLE in log.promises()


@pytest.mark.parametrize(
    ("change", "is_wrong"),
    [
        ({}, False),
        ({"late_s": 1.0}, True),
        ({"seen": None}, True),
        ({"index": 1}, True),
    ],
)
def test_watchers_are_judged(change, is_wrong):
    log = Log("register", "close")
    first = Watched(
        op="op50",
        server="server1",
        node=NODE,
        asked_index=1,
        index=2,
        applied_index=2,
        seen=log.reference().node_at(NODE, 2),
        late_s=0.0,
    )
    second = {"asked_index": 2, "index": 3, "applied_index": 3} | {
        "seen": log.reference().node_at(NODE, 3)
    }
    fields = {name: getattr(first, name) for name in first.__struct_fields__}
    log.history.watched = [first, Watched(**{**fields, **second, **change})]

    assert log.promises() == ([WATCHERS] if is_wrong else [])


# The search


@given(st.lists(st.sampled_from(VERBS), max_size=12))
def test_the_search_has_the_state_machines_rules(verbs):
    """Its model is written apart from the state machine, and must agree with it."""
    state, model = State(), None
    for number, verb in enumerate(verbs, 1):
        command = command_of(number, verb, NODE, at_ns=START_NS)
        outcome = machine.apply(state, number + 1, command).outcome
        model, answer = step(model, verb)
        assert model_of(state.node(NodeKey(NODE))) == model
        assert (answer == "done") == isinstance(outcome, Accepted)


def call_of(verb: str, called_at: int, returned_at: int, status=Status.DONE) -> Call:
    return Call(
        op="op1",
        verb=verb,
        node=NODE,
        server="server1",
        called_at=called_at,
        returned_at=returned_at,
        status=status,
        outcome=Accepted(),
    )


def test_the_search_finds_an_order_that_overlaps():
    calls = [call_of("close", 1, 10), call_of("register", 2, 9)]

    assert search(calls) is True


def test_the_search_finds_that_there_is_none():
    calls = [call_of("close", 1, 2), call_of("register", 3, 9)]

    assert search(calls) is False


def test_an_unknown_call_may_explain_what_follows():
    unknown = call_of("register", 1, NEVER, Status.UNKNOWN)

    assert search([unknown, call_of("close", 5, 6)]) is True
    assert search([call_of("close", 5, 6)]) is False


def test_the_search_gives_up_rather_than_never_end():
    calls = [call_of("close", 1, 100, Status.UNKNOWN) for _ in range(18)]
    calls += [call_of("down", 1, 100), call_of("drain", 1, 100)]

    assert search(calls, steps_max=50) is None
