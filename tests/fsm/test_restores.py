"""A saved state restored by entries: all of it in one step, or nothing of it."""

from hashlib import sha256

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.fsm import machine, restores
from nodestate.fsm.digest import table_digests
from nodestate.fsm.machine import EVERYTHING, Applied
from nodestate.fsm.pieces import encode_pieces
from nodestate.fsm.restores import RESTORED, UNDER_WAY, UNKNOWN
from nodestate.fsm.snapshot import encode_state
from nodestate.fsm.state import State
from nodestate.model.command import (
    AbandonRestore,
    AddRestorePiece,
    BeginRestore,
    Command,
    FinishRestore,
)
from nodestate.model.event import StateRestored
from nodestate.model.outcome import Accepted, RefusalCode, Refused
from nodestate.model.request import Origin, Request
from tests.fsm.entries import N1, N2, START_NS, drain, key, register, registration
from tests.fsm.invariants import FIRST_INDEX, worked_state
from tests.fsm.states import full_state
from tests.fsm.test_tables import APART
from tests.strategies import sequences

KEPT = {"sessions", "idempotency_keys", "idempotency_order"}


def pieces_of(state: State) -> list[bytes]:
    return [piece for piece in encode_pieces(state) if piece]


def begin(pieces: list[bytes], restore_id: str = "r", **fields: object) -> BeginRestore:
    content = b"".join(pieces)
    command = BeginRestore(
        at_ns=START_NS,
        restore_id=restore_id,
        byte_count=len(content),
        sha256=sha256(content).digest(),
    )
    return replace(command, **fields)


def add(number: int, piece: bytes, restore_id: str = "r") -> AddRestorePiece:
    return AddRestorePiece(
        at_ns=START_NS, restore_id=restore_id, number=number, piece=piece
    )


def finish(restore_id: str = "r") -> FinishRestore:
    return FinishRestore(at_ns=START_NS, restore_id=restore_id)


def abandon(restore_id: str = "r") -> AbandonRestore:
    return AbandonRestore(at_ns=START_NS, restore_id=restore_id)


def adding(pieces: list[bytes]) -> list[Command]:
    return [add(number, piece) for number, piece in enumerate(pieces)]


def restoring(state: State) -> list[Command]:
    pieces = pieces_of(state)
    return [begin(pieces), *adding(pieces), finish()]


class Replica:
    """A state with two nodes, and the index of its last entry."""

    def __init__(self, state: State | None = None, index: int = 0) -> None:
        self.state = state or State()
        self.index = index

    def apply(self, *commands: Command) -> Applied:
        """Apply each, and return what the last one did."""
        applied = None
        for command in commands:
            machine.check(self.state, command)
            self.index += 1
            applied = machine.apply(self.state, self.index, command)
        assert applied is not None
        return applied

    def accept(self, *commands: Command) -> Accepted:
        outcome = self.apply(*commands).outcome
        assert isinstance(outcome, Accepted)
        return outcome

    def refuse(self, command: Command) -> Refused:
        """Apply what must change no table."""
        before = encode_state(self.state)
        applied = self.apply(command)
        assert isinstance(applied.outcome, Refused)
        assert (applied.events, applied.keys) == ((), ())
        assert encode_state(self.state) == before
        return applied.outcome


@pytest.fixture
def replica() -> Replica:
    replica = Replica()
    replica.accept(register(registration(N1), registration(key(7))))
    return replica


# Restored


def test_every_part_of_a_state_is_swapped_or_kept():
    assert {*RESTORED, *KEPT, *APART} == set(State.__slots__)


def test_the_saved_state_takes_the_place_of_what_was_there():
    saved = full_state()
    replica = Replica(index=10_000)
    replica.accept(register(registration(key(7))))

    applied = replica.apply(*restoring(saved))

    assert applied.outcome == Accepted(index=replica.index, node_count=len(saved.nodes))
    assert applied.events == (StateRestored("r"),)
    for name in RESTORED:
        assert getattr(replica.state, name) == getattr(saved, name), name
    assert set(replica.state.indexes.values()) == {replica.index}
    assert not replica.state.is_restoring


def test_everyone_who_waits_is_woken(replica):
    assert replica.apply(*restoring(full_state())).keys == (EVERYTHING,)


def test_nothing_shows_before_the_last_step(replica):
    before = encode_state(replica.state)

    for command in restoring(full_state())[:-1]:
        applied = replica.apply(command)
        assert applied == Applied(Accepted(index=replica.index, node_count=2), (), ())
        assert encode_state(replica.state) == before
        assert replica.state.is_restoring


def test_other_entries_go_on_meanwhile_and_are_overwritten(replica):
    saved = full_state()
    *most, last = restoring(saved)

    replica.accept(*most)
    replica.accept(register(registration(key(8))))
    assert key(8) in replica.state.nodes
    replica.accept(last)

    assert replica.state.nodes.keys() == saved.nodes.keys()


def test_no_record_says_that_it_changed_later_than_it_did(replica):
    saved = full_state()

    replica.accept(*restoring(saved))

    state = replica.state
    assert max(node.modify_index for node in saved.nodes.values()) > replica.index
    for node in state.nodes.values():
        assert 0 < node.create_index <= node.modify_index <= replica.index
        assert all(event.create_index <= replica.index for event in node.events)
    for evaluation in state.evaluations.values():
        assert evaluation.create_index <= evaluation.modify_index <= replica.index
        assert evaluation.node_modify_index <= replica.index
    for name, record in saved.nodes.items():
        capped = replace(record, create_index=0, modify_index=0, events=())
        kept = replace(state.nodes[name], create_index=0, modify_index=0, events=())
        assert kept == capped


def test_what_requests_were_told_is_kept(replica):
    replica.index += 1
    asked = Request(Origin("B", "boot", 1), 1)
    told = machine.apply(replica.state, replica.index, drain(), asked)

    replica.accept(*restoring(full_state()))

    assert replica.state.sessions.keys() == {("B", "boot")}
    replica.index += 1
    again = machine.apply(replica.state, replica.index, drain(), asked)
    assert again.is_repeat
    assert again.outcome == told.outcome


@given(sequences(), sequences())
def test_whatever_was_saved_goes_on_as_it_would_have(applying, following):
    saved = worked_state()
    for index, command in enumerate(applying, FIRST_INDEX):
        machine.apply(saved, index, command)
    replica = Replica(index=FIRST_INDEX + len(applying))
    replica.accept(*restoring(saved))
    saved.indexes = dict(replica.state.indexes)
    assert encode_state(replica.state) == encode_state(saved)

    for index, command in enumerate(following, replica.index + 1):
        assert machine.apply(replica.state, index, command) == machine.apply(
            saved, index, command
        )

    assert encode_state(replica.state) == encode_state(saved)


@given(st.data())
def test_all_servers_do_the_same_whatever_the_order(data):
    """Steps in any order, from servers that take over from each other, and other entries."""
    steps = [*restoring(full_state()), abandon(), *restoring(worked_state()), abandon("x"), register(), drain()]  # fmt: skip
    log = data.draw(st.lists(st.sampled_from(steps), max_size=30))
    one, other = Replica(), Replica()

    for command in log:
        assert one.apply(command) == other.apply(command)

    assert table_digests(one.state) == table_digests(other.state)
    assert one.state.is_restoring == other.state.is_restoring


# Refused


def test_one_at_a_time(replica):
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces))

    refused = replica.refuse(begin(pieces, "other"))

    assert refused == Refused(RefusalCode.CONFLICT, UNDER_WAY)
    replica.accept(*adding(pieces), finish())
    replica.accept(begin(pieces, "other"))


@pytest.mark.parametrize("command", [add(0, b""), finish(), abandon()])
def test_what_was_not_begun_is_unknown(replica, command):
    expected = Refused(RefusalCode.NOT_FOUND, UNKNOWN)

    assert replica.refuse(command) == expected
    replica.accept(begin(pieces_of(full_state()), "other"))
    assert replica.refuse(command) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"restore_id": ""},
        {"restore_id": "x" * 65},
        {"byte_count": 0},
        {"byte_count": (4 << 30) + 1},
        {"sha256": b"short"},
    ],
)
def test_what_cannot_end_well_is_not_begun(replica, fields):
    refused = replica.refuse(begin([b"x"], **fields))

    assert refused.code is RefusalCode.INVALID
    assert not replica.state.is_restoring


def test_pieces_come_in_order(replica):
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces), add(0, pieces[0]))

    for number in (0, 2):
        refused = replica.refuse(add(number, pieces[number]))
        assert refused == Refused(RefusalCode.CONFLICT, f"piece {number} where 1 comes next")  # fmt: skip

    replica.accept(*adding(pieces)[1:], finish())


def test_more_than_was_announced_is_refused(replica):
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces[:1]), add(0, pieces[0]))

    assert "more than the" in replica.refuse(add(1, pieces[1])).reason


@pytest.mark.parametrize("piece", [b"", b"\xc1", b"junk"])
def test_a_piece_that_does_not_fit_ends_the_restore(replica, piece):
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces), add(0, pieces[0]))

    refused = replica.refuse(add(1, piece))

    assert refused.code is RefusalCode.INVALID
    assert "the state cannot be restored: a piece cannot be read" in refused.reason
    assert not replica.state.is_restoring
    assert replica.refuse(finish()).code is RefusalCode.NOT_FOUND


def test_too_little_is_not_finished_and_may_still_come(replica):
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces), *adding(pieces)[:-1])

    assert "have come" in replica.refuse(finish()).reason

    replica.accept(adding(pieces)[-1], finish())


def test_something_else_than_was_announced_is_not_finished(replica):
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces, sha256=bytes(32)), *adding(pieces))

    assert "do not have the SHA-256" in replica.refuse(finish()).reason


def test_pieces_that_are_not_a_whole_state_end_the_restore(replica):
    pieces = pieces_of(full_state())[:-1]
    replica.accept(begin(pieces), *adding(pieces))

    refused = replica.refuse(finish())

    assert "cannot be restored: table acl_bootstrap has 0 records" in refused.reason
    assert not replica.state.is_restoring


def test_an_abandoned_restore_is_over(replica):
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces), add(0, pieces[0]), abandon())

    assert not replica.state.is_restoring
    assert replica.refuse(add(1, pieces[1])).code is RefusalCode.NOT_FOUND


def test_a_restore_that_takes_too_long_is_dropped(replica, monkeypatch):
    monkeypatch.setattr(restores, "RESTORE_ENTRIES_MAX", 5)
    pieces = pieces_of(full_state())
    replica.accept(begin(pieces))
    begun = replica.index

    while replica.index < begun + 5:
        replica.accept(register(registration(N2)))
        assert replica.state.is_restoring
    replica.accept(register(registration(N2)))

    assert not replica.state.is_restoring
    assert replica.refuse(add(0, pieces[0])).reason == UNKNOWN
