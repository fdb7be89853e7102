"""What follows from answers: the model against the state machine, and what it must see."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from cluster.expected import (
    DRAIN_COMPLETE,
    DRAIN_SET,
    DRAIN_STOPPED,
    REGISTERED,
    ExpectedNode,
    Kind,
    Line,
    SeenNode,
    Write,
    acceptance_complaint,
    after,
    find_differences,
    is_idle,
    refusal_complaint,
    settle,
    to_seen,
)
from cluster.fleet import make_node, node_id
from nodestate.fsm.machine import apply
from nodestate.fsm.state import State
from nodestate.model.command import (
    CompletedDrain,
    CompleteDrains,
    EmitNodeEvents,
    PurgeNodes,
    RegisterNodes,
    Registration,
    SetDrain,
    SetEligibility,
    UpdateNodeStatus,
)
from nodestate.model.encoding import encode_json
from nodestate.model.node import DrainStrategy, Node, NodeEvent, NodeStatus
from nodestate.model.node_id import node_key
from nodestate.model.outcome import Accepted

KEY = node_key(node_id(1))
SECRET = b"s" * 32
LATER = Line("later", 9)


class Machine:
    """The real state machine, with one node; every write is an entry."""

    def __init__(self) -> None:
        self.state = State()
        self.index = 0

    def write(self, write: Write) -> Accepted | None:
        """Apply it, and return what was accepted, `None` if it was refused."""
        self.index += 1
        outcome = apply(self.state, self.index, to_command(write, self.index)).outcome
        return outcome if isinstance(outcome, Accepted) else None

    def end_drain(self) -> None:
        """Do what the leader's drainer does."""
        self.index += 1
        node = self.state.node(KEY)
        if node is not None:
            drains = (CompletedDrain(KEY, node.modify_index),)
            apply(self.state, self.index, CompleteDrains(at_ns=0, drains=drains))

    def seen(self) -> SeenNode | None:
        node = self.state.node(KEY)
        return None if node is None else to_seen(encode_json(node))


def to_command(write: Write, index: int):
    common: dict[str, Any] = {"at_ns": index * 1_000_000_000, "key": KEY}
    seed = index.to_bytes(16, "big")
    match write.kind:
        case Kind.REGISTER:
            sent = make_node(1)
            node = Node(
                id=sent["ID"],
                name=sent["Name"],
                datacenter=sent["Datacenter"],
                attributes=sent["Attributes"],
                status=NodeStatus.READY,
                scheduling_eligibility="eligible",
            )
            one = Registration(KEY, node, SECRET)
            return RegisterNodes(at_ns=1, registrations=(one,), seed=seed)
        case Kind.ELIGIBILITY:
            return SetEligibility(**common, eligibility=write.word, seed=seed)
        case Kind.DRAIN:
            strategy = DrainStrategy(deadline=3_600_000_000_000)
            return SetDrain(**common, strategy=strategy, seed=seed)
        case Kind.UNDRAIN:
            return SetDrain(**common, strategy=None, mark_eligible=True, seed=seed)
        case Kind.STATUS:
            return UpdateNodeStatus(
                **common,
                status=NodeStatus(write.word),
                secret_sha256=SECRET,
                seed=seed,
            )
        case Kind.EVENT:
            event = NodeEvent(message=write.word, subsystem="Soak")
            return EmitNodeEvents(**common, secret_sha256=SECRET, events=(event,))
        case Kind.PURGE:
            return PurgeNodes(at_ns=1, keys=(KEY,), seed=seed)


def refusal_status(machine: Machine) -> int:
    return 404 if machine.state.node(KEY) is None else 409


# A step is a write, or `None` for the end of a drain, if there is one.
steps = st.one_of(
    st.none(),
    st.sampled_from(
        [
            Write(Kind.REGISTER, 1),
            Write(Kind.DRAIN, 1),
            Write(Kind.UNDRAIN, 1),
            Write(Kind.PURGE, 1),
            Write(Kind.ELIGIBILITY, 1, "eligible"),
            Write(Kind.ELIGIBILITY, 1, "ineligible"),
            Write(Kind.STATUS, 1, "down"),
            Write(Kind.STATUS, 1, "ready"),
        ]
    ),
    st.integers(0, 10_000).map(lambda number: Write(Kind.EVENT, 1, f"m{number}")),
)


def play(machine: Machine, expected: ExpectedNode | None, write: Write):
    """Apply a write, judge the answer as a writer does, and return what to expect."""
    accepted = machine.write(write)
    if accepted is None:
        assert refusal_complaint(expected, write, refusal_status(machine)) == ""
        return expected
    assert acceptance_complaint(expected, write, accepted.index) == ""
    return after(expected, write, accepted.index) if accepted.index else expected


@given(st.lists(steps, max_size=40))
def test_the_state_machine_never_surprises(steps):
    machine, expected = Machine(), None
    for step in steps:
        if step is None:
            machine.end_drain()
        else:
            expected = play(machine, expected, step)

        assert list(find_differences(expected, machine.seen())) == []


@given(st.lists(steps.filter(bool), max_size=25), st.integers(0, 24))
def test_a_write_applied_twice_is_seen_at_once(steps, position):
    machine, expected = Machine(), None
    for step in [Write(Kind.REGISTER, 1), *steps[:position]]:
        expected = play(machine, expected, step)
    if expected is None:
        expected = play(machine, expected, Write(Kind.REGISTER, 1))
    expected = play(machine, expected, Write(Kind.EVENT, 1, "once"))

    machine.write(Write(Kind.EVENT, 1, "once"))

    assert list(find_differences(expected, machine.seen())) != []


@given(st.lists(steps.filter(bool), min_size=1, max_size=25))
def test_a_write_that_is_lost_is_seen_at_once(steps):
    machine, expected = Machine(), None
    for step in [Write(Kind.REGISTER, 1), *steps]:
        expected = play(machine, expected, step)
    last = Write(Kind.REGISTER if expected is None else Kind.EVENT, 1, "lost")

    claimed = after(expected, last, machine.index + 1)

    assert list(find_differences(claimed, machine.seen())) != []


@given(st.lists(steps, max_size=25), st.sampled_from(["ready", "down"]), st.data())
def test_a_heartbeat_in_doubt_is_settled_by_what_is_seen(steps, word, data):
    machine, expected = Machine(), None
    for step in [Write(Kind.REGISTER, 1), *steps]:
        if step is None:
            machine.end_drain()
        else:
            expected = play(machine, expected, step)
    if expected is None:
        expected = play(machine, expected, Write(Kind.REGISTER, 1))
    assert expected is not None
    doubtful = Write(Kind.STATUS, 1, word)
    if data.draw(st.booleans()):
        machine.end_drain()
    if data.draw(st.booleans()):
        machine.write(doubtful)
    if data.draw(st.booleans()):
        machine.end_drain()

    settled = settle(expected, doubtful, machine.seen())

    assert list(find_differences(settled, machine.seen())) == []


def test_a_heartbeat_in_doubt_excuses_nothing_else():
    expected = play(Machine(), None, Write(Kind.REGISTER, 1))
    machine = Machine()
    for write in (Write(Kind.REGISTER, 1), Write(Kind.EVENT, 1, "surprise")):
        machine.write(write)

    settled = settle(expected, Write(Kind.STATUS, 1, "down"), machine.seen())

    assert list(find_differences(settled, machine.seen())) != []
    assert settle(expected, Write(Kind.STATUS, 1, "down"), None) == expected


def shown(*lines: Line, modify_index: int = 3, drains: bool = False) -> SeenNode:
    return SeenNode(
        create_index=1,
        modify_index=modify_index,
        status="ready",
        eligibility="ineligible",
        drains=drains,
        lines=(Line(REGISTERED, 1), Line(DRAIN_SET, 3), *lines),
    )


DRAINED = ExpectedNode(
    create_index=1,
    modify_index=3,
    eligibility="ineligible",
    may_drain=True,
    lines=(Line(REGISTERED, 1), Line(DRAIN_SET, 3)),
)


@pytest.mark.parametrize(
    "seen",
    [shown(drains=True), shown(Line(DRAIN_COMPLETE, 5), modify_index=5)],
)
def test_a_drain_may_be_ended_by_the_servers(seen):
    assert list(find_differences(DRAINED, seen)) == []


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (None, "gone"),
        (shown(modify_index=4, drains=True), "modified at 4"),
        (shown(LATER, modify_index=9, drains=True), "lines differ"),
        (
            shown(Line(DRAIN_COMPLETE, 5), Line(DRAIN_COMPLETE, 6), modify_index=6),
            "a drain ended twice",
        ),
        (
            shown(Line(DRAIN_COMPLETE, 5), Line(DRAIN_STOPPED, 4), modify_index=5),
            "out of order",
        ),
        (replace(shown(drains=True), status="down"), "status down"),
        (replace(shown(drains=True), eligibility="eligible"), "eligibility eligible"),
        (replace(shown(drains=True), create_index=2), "created at 2"),
    ],
)
def test_what_cannot_follow_is_complained_of(seen, complaint):
    found = list(find_differences(DRAINED, seen))

    assert any(complaint in line for line in found), found


def test_a_purged_node_must_be_gone():
    assert list(find_differences(None, None)) == []
    assert list(find_differences(None, shown())) != []


@pytest.mark.parametrize(
    ("before", "write", "status", "is_right"),
    [
        (None, Write(Kind.PURGE, 1), 404, True),
        (None, Write(Kind.REGISTER, 1), 404, False),
        (DRAINED, Write(Kind.PURGE, 1), 404, False),
        (DRAINED, Write(Kind.ELIGIBILITY, 1, "eligible"), 409, True),
        (DRAINED, Write(Kind.ELIGIBILITY, 1, "ineligible"), 409, False),
        (DRAINED, Write(Kind.EVENT, 1, "m"), 500, False),
        (DRAINED, Write(Kind.EVENT, 1, "m"), 403, False),
    ],
)
def test_refusals_are_judged(before, write, status, is_right):
    assert (refusal_complaint(before, write, status) == "") is is_right


@pytest.mark.parametrize(
    ("before", "write", "index", "is_right"),
    [
        (None, Write(Kind.EVENT, 1, "m"), 5, False),
        (DRAINED, Write(Kind.EVENT, 1, "m"), 0, False),
        (DRAINED, Write(Kind.STATUS, 1, "ready"), 0, True),
        (DRAINED, Write(Kind.STATUS, 1, "ready"), 5, False),
        (DRAINED, Write(Kind.STATUS, 1, "down"), 0, False),
    ],
)
def test_acceptances_are_judged(before, write, index, is_right):
    assert (acceptance_complaint(before, write, index) == "") is is_right


def test_only_what_is_so_already_is_idle():
    assert is_idle(DRAINED, Write(Kind.ELIGIBILITY, 1, "ineligible"))
    assert not is_idle(DRAINED, Write(Kind.DRAIN, 1))
    assert not is_idle(None, Write(Kind.STATUS, 1, "ready"))
