"""What holds for every sequence of commands."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings, strategies as st

from nodestate.fsm import machine
from nodestate.fsm.keys import WatchKey
from nodestate.fsm.machine import Applied
from nodestate.fsm.snapshot import decode_state, digest, encode_state
from nodestate.fsm.state import EVALUATIONS, NODES, State
from nodestate.model.command import Command, RegisterNodes, Registration
from nodestate.model.outcome import Accepted
from nodestate.planning.drains import drain_commands, plan_drains
from tests.fsm.invariants import FIRST_INDEX, Before, as_stored, check, worked_state
from tests.planning.works import run
from tests.strategies import NOW_NS, commands, registrations, sequences

Key = TypeVar("Key", bound=str)

pytestmark = pytest.mark.slow


def apply_all(
    state: State, applying: Sequence[Command], *, first_index: int = FIRST_INDEX
) -> State:
    for index, command in enumerate(applying, first_index):
        machine.apply(state, index, command)
    return state


def registering(*batch: Registration) -> RegisterNodes:
    return RegisterNodes(at_ns=NOW_NS, registrations=batch, seed=bytes(16))


def accepted(applied: Applied) -> Accepted:
    assert isinstance(applied.outcome, Accepted)
    return applied.outcome


def planned_drains(state: State) -> tuple[Command, ...]:
    """What the leader would propose now."""
    plan = run(plan_drains(state, NOW_NS))
    return tuple(drain_commands(plan, NOW_NS, lambda: bytes(16)))


@given(sequences(), st.booleans())
def test_every_entry_keeps_the_invariants(applying, is_drainer_running):
    state = worked_state()
    index = FIRST_INDEX - 1
    for command in applying:
        following = planned_drains(state) if is_drainer_running else ()
        for entry in (command, *following):
            index += 1
            before = Before(state)

            applied = machine.apply(state, index, entry)

            check(before, state, index, applied)


@given(sequences())
def test_the_keys_are_those_of_what_has_changed(applying):
    """Whoever waits is woken by these alone: one left out is a wait without an end."""
    state = worked_state()
    for index, command in enumerate(applying, FIRST_INDEX):
        nodes, evaluations = dict(state.nodes), dict(state.evaluations)
        indexes = dict(state.indexes)

        applied = machine.apply(state, index, command)

        changed: set[WatchKey] = {
            (table,) for table in changed_keys(indexes, state.indexes)
        }
        changed |= {(NODES, key) for key in changed_keys(nodes, state.nodes)}
        changed |= {
            (EVALUATIONS, key) for key in changed_keys(evaluations, state.evaluations)
        }
        assert changed <= set(applied.keys)


def changed_keys(before: Mapping[Key, object], after: Mapping[Key, object]) -> set[Key]:
    """Return the keys whose record came, went or was replaced."""
    return {
        key
        for key in before.keys() | after.keys()
        if before.get(key) is not after.get(key)
    }


@given(sequences())
def test_two_replicas_have_the_same_bytes(applying):
    one = apply_all(worked_state(), applying)
    # The other one reads them from its log.
    other = apply_all(worked_state(), as_stored(applying))

    assert encode_state(one) == encode_state(other)
    assert digest(one) == digest(other)


@given(sequences(), sequences())
def test_a_restored_state_stays_the_one_it_came_from(applying, following):
    state = apply_all(worked_state(), applying)

    restored = decode_state(encode_state(state))

    assert encode_state(restored) == encode_state(state)
    first_index = FIRST_INDEX + len(applying)
    for index, command in enumerate(following, first_index):
        assert machine.apply(restored, index, command) == machine.apply(
            state, index, command
        )
    assert encode_state(restored) == encode_state(state)


@given(sequences(), commands())
def test_checking_a_command_changes_nothing_and_never_raises(applying, command):
    state = apply_all(worked_state(), applying)
    before = encode_state(state)

    machine.check(state, command)

    assert encode_state(state) == before


@given(sequences(min_size=1))
def test_a_drain_with_nothing_to_move_is_planned_once(applying):
    state = apply_all(worked_state(), applying)
    index = FIRST_INDEX + len(applying)

    for _ in range(2):  # marks, and then the ends of drains that had something to mark
        planned = planned_drains(state)
        apply_all(state, planned, first_index=index)
        index += len(planned)

    assert planned_drains(state) == ()


@given(sequences(min_size=0, max_size=5), st.lists(registrations(), max_size=5))
def test_a_batch_does_what_its_registrations_do_one_by_one(applying, batch):
    state = apply_all(worked_state(), applying)
    other = decode_state(encode_state(state))
    index = FIRST_INDEX + len(applying)

    together = machine.apply(state, index, registering(*batch))

    alone = [machine.apply(other, index, registering(one)) for one in batch]
    assert accepted(together).registrations == tuple(
        result for applied in alone for result in accepted(applied).registrations
    )
    assert encode_state(state) == encode_state(other)


@settings(max_examples=10)
@given(sequences(min_size=10, max_size=20))
def test_a_log_cut_anywhere_goes_on_from_a_snapshot(applying):
    whole = encode_state(apply_all(worked_state(), applying))

    for cut in range(0, len(applying) + 1, 4):
        state = apply_all(worked_state(), applying[:cut])
        state = decode_state(encode_state(state))
        apply_all(state, applying[cut:], first_index=FIRST_INDEX + cut)
        assert encode_state(state) == whole
