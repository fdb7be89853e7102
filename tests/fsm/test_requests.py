"""Requests: the same one again is answered as at first, and is never applied twice."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.fsm import machine, requests
from nodestate.fsm.machine import Applied
from nodestate.fsm.snapshot import decode_state, encode_state
from nodestate.fsm.state import State
from nodestate.model.command import Command, RegisterNodes
from nodestate.model.outcome import (
    KEY_REUSED,
    STALE_REQUEST,
    Accepted,
    Outcome,
    RefusalCode,
    Refused,
)
from nodestate.model.request import IdempotencyKey, Origin, Request
from tests.fsm.entries import (
    N1,
    N2,
    OTHER_SECRET,
    START_NS,
    drain,
    emit,
    evaluate,
    register,
    registration,
)
from tests.fsm.invariants import FIRST_INDEX, as_stored, worked_state
from tests.strategies import sequences

STALE = Refused(RefusalCode.STALE_REQUEST, STALE_REQUEST)
REUSED = Refused(RefusalCode.KEY_REUSED, KEY_REUSED)
PRINT = b"f" * 32
OTHER_PRINT = b"g" * 32
HOUR_NS = 3600 * 10**9


def request(
    sequence: int = 1,
    floor: int = 1,
    *,
    server_id: str = "A",
    boot_id: str = "boot",
    key: str = "",
    fingerprint: bytes = PRINT,
) -> Request:
    idempotency = IdempotencyKey(key, fingerprint) if key else None
    return Request(Origin(server_id, boot_id, sequence), floor, idempotency)


def line(*, at_ns: int = START_NS, asked_by: str = "anonymous") -> Command:
    return replace(emit("line"), at_ns=at_ns, asked_by=asked_by)


class Replica:
    """A state with a node, to which requests are applied, one index after the other."""

    def __init__(self) -> None:
        self.state = State()
        self.index = 1
        machine.apply(self.state, 1, register())

    def apply(self, asked: Request, command: Command | None = None) -> Applied:
        self.index += 1
        return machine.apply(self.state, self.index, command or line(), asked)

    def repeat(self, asked: Request, command: Command | None = None) -> Applied:
        """Apply what must change nothing at all."""
        before = encode_state(self.state)
        applied = self.apply(asked, command)
        assert (applied.events, applied.keys, applied.is_repeat) == ((), (), True)
        assert encode_state(self.state) == before
        return applied

    def key(
        self, sequence: int, name: str = "k", fingerprint: bytes = PRINT, **fields: Any
    ) -> Applied:
        """Apply a request of its own with a caller's key."""
        asked = request(sequence, key=name, fingerprint=fingerprint)
        return self.apply(asked, line(**fields))

    def line_count(self) -> int:
        return len(self.state.nodes[N1].events) - 1


def outcomes_kept(replica: Replica) -> list[int]:
    (session,) = replica.state.sessions.values()
    return sorted(session.outcomes)


# The proposer's id


def test_a_request_is_applied_once_however_often_it_comes():
    replica = Replica()

    first = replica.apply(request())
    again = replica.repeat(request())

    assert isinstance(first.outcome, Accepted)
    assert first.outcome.index == 2
    assert not first.is_repeat
    assert again.outcome == first.outcome
    assert replica.line_count() == 1


def test_a_refusal_is_remembered_too():
    replica = Replica()

    first = replica.apply(request(), evaluate(N2))
    replica.apply(request(2), register(registration(N2)))

    assert replica.repeat(request(), evaluate(N2)).outcome == first.outcome


def test_other_sequences_starts_and_servers_are_other_requests():
    replica = Replica()

    for asked in (
        request(),
        request(2),
        request(boot_id="later"),
        request(server_id="B"),
    ):
        assert not replica.apply(asked).is_repeat

    assert replica.line_count() == 4


def test_sequences_may_come_in_any_order():
    replica = Replica()

    for sequence in (3, 1, 2):
        assert not replica.apply(request(sequence)).is_repeat

    assert outcomes_kept(replica) == [1, 2, 3]


def test_an_entry_from_before_requests_were_remembered_is_applied_and_not_remembered():
    replica = Replica()
    other = Replica()

    for _ in range(2):
        replica.apply(request(floor=0, key="k"))
        other.index += 1
        machine.apply(other.state, other.index, line())

    assert replica.line_count() == 2
    assert encode_state(replica.state) == encode_state(other.state)


def test_what_nobody_waits_for_is_forgotten_and_refused():
    replica = Replica()
    for sequence in (1, 2, 3):
        replica.apply(request(sequence))

    replica.apply(request(4, floor=3))

    assert outcomes_kept(replica) == [3, 4]
    assert replica.repeat(request(2)).outcome == STALE
    assert isinstance(replica.repeat(request(3)).outcome, Accepted)


def test_a_sequence_below_the_floor_that_never_came_is_refused():
    replica = Replica()
    replica.apply(request(9, floor=1))
    replica.apply(request(10, floor=5))

    assert replica.repeat(request(4)).outcome == STALE
    assert not replica.apply(request(5)).is_repeat


def test_a_late_entry_with_a_lower_floor_does_not_lower_it():
    replica = Replica()
    replica.apply(request(1))
    replica.apply(request(6, floor=4))

    assert not replica.apply(request(5, floor=1)).is_repeat

    assert replica.repeat(request(3, floor=1)).outcome == STALE


@pytest.mark.parametrize(
    "asked", [request(5, floor=2), request(0), request(1, floor=7)]
)
def test_an_unknown_start_that_may_have_been_forgotten_is_refused(asked):
    replica = Replica()

    assert replica.repeat(asked).outcome == STALE


def test_a_request_below_its_own_floor_is_refused():
    replica = Replica()
    replica.apply(request(1))

    assert replica.repeat(request(5, floor=6)).outcome == STALE


def test_a_floor_may_rise_as_far_as_it_likes():
    replica = Replica()
    replica.apply(request(1))

    replica.apply(request(2**62 + 1, floor=2**62))

    assert outcomes_kept(replica) == [2**62 + 1]


def test_outcomes_of_a_session_are_bounded(monkeypatch):
    monkeypatch.setattr(requests, "OUTCOMES_MAX", 16)
    replica = Replica()

    for sequence in range(1, 100):
        replica.apply(request(sequence))
        assert len(outcomes_kept(replica)) <= 16

    assert outcomes_kept(replica)[-8:] == list(range(92, 100))
    assert replica.repeat(request(1)).outcome == STALE


def test_sessions_are_bounded_by_use_and_never_while_young(monkeypatch):
    monkeypatch.setattr(requests, "SESSIONS_MAX", 2)
    monkeypatch.setattr(requests, "SESSION_ENTRIES_MIN", 10)
    replica = Replica()
    for boot_id in ("a", "b", "c"):
        replica.apply(request(boot_id=boot_id))
    assert len(replica.state.sessions) == 3

    replica.index += 20
    replica.apply(request(2, boot_id="a"))
    replica.apply(request(boot_id="d"))

    assert replica.state.sessions.keys() == {("A", "a"), ("A", "d")}
    assert replica.repeat(request(3, 2, boot_id="b")).outcome == STALE


def test_what_a_proposal_was_told_can_be_found():
    replica = Replica()
    applied = replica.apply(request(7))

    found = requests.find_remembered(replica.state, Origin("A", "boot", 7))

    assert found is not None
    assert (found.index, found.outcome) == (2, applied.outcome)
    for origin in (Origin("A", "boot", 8), Origin("A", "later", 7)):
        assert requests.find_remembered(replica.state, origin) is None


# The caller's key


def test_a_key_gets_the_first_answer():
    replica = Replica()

    first = replica.key(1)
    again = replica.key(2)

    assert isinstance(first.outcome, Accepted)
    assert not first.outcome.is_replayed
    assert again == Applied(
        replace(first.outcome, is_replayed=True), (), (), is_repeat=True
    )
    assert replica.line_count() == 1


def test_a_key_keeps_a_refusal_though_it_would_be_accepted_now():
    replica = Replica()
    first = replica.apply(request(1, key="k"), evaluate(N2))
    replica.apply(request(2), register(registration(N2)))

    again = replica.apply(request(3, key="k"), evaluate(N2))

    assert isinstance(first.outcome, Refused)
    assert again.outcome == replace(first.outcome, is_replayed=True)


def test_a_key_with_another_request_is_refused_and_keeps_the_first():
    replica = Replica()
    replica.key(1)

    assert replica.key(2, fingerprint=OTHER_PRINT).outcome == REUSED
    assert replica.key(3, fingerprint=OTHER_PRINT).outcome == REUSED

    assert replica.key(4).is_repeat
    assert replica.line_count() == 1


def test_a_key_is_its_callers_alone():
    replica = Replica()
    replica.key(1, asked_by="one")

    assert not replica.key(2, asked_by="other", fingerprint=OTHER_PRINT).is_repeat
    assert replica.key(3, asked_by="one").is_repeat


def test_the_proposers_id_counts_before_the_key():
    replica = Replica()
    first = replica.key(1)
    again = replica.key(2)

    assert replica.repeat(request(1, key="k", fingerprint=OTHER_PRINT)).outcome == first.outcome  # fmt: skip
    assert replica.repeat(request(2, key="k")).outcome == again.outcome
    assert replica.repeat(request(1)).outcome == first.outcome


def test_a_stale_id_does_not_use_its_key():
    replica = Replica()

    replica.repeat(request(5, floor=3, key="k"))

    assert not replica.key(1).is_repeat


def test_a_key_is_over_by_the_times_in_the_log():
    replica = Replica()
    replica.key(1)

    at_ns = START_NS + requests.KEY_AGE_NS
    assert replica.key(2, at_ns=at_ns).is_repeat
    assert replica.key(3, at_ns=at_ns, fingerprint=OTHER_PRINT).is_repeat
    assert not replica.key(4, at_ns=at_ns + 1, fingerprint=OTHER_PRINT).is_repeat
    assert replica.key(5, fingerprint=OTHER_PRINT).is_repeat
    assert len(replica.state.idempotency_keys) == 1


def test_time_that_goes_back_makes_no_key_young_again():
    replica = Replica()
    replica.key(1, "old")
    replica.key(2, "ahead", at_ns=START_NS + requests.KEY_AGE_NS + 1)

    assert [key for _, key in replica.state.idempotency_keys] == ["ahead"]
    assert not replica.key(3, "late").is_repeat
    assert replica.key(4, "ahead", at_ns=START_NS - HOUR_NS).is_repeat


def test_a_key_from_a_clock_that_is_behind_is_as_young_as_the_log():
    replica = Replica()
    replica.key(1, "now")
    replica.key(2, "behind", at_ns=START_NS - 2 * requests.KEY_AGE_NS)

    assert replica.key(3, "behind", at_ns=START_NS + HOUR_NS).is_repeat


def test_keys_are_bounded_by_number_the_oldest_go_first(monkeypatch):
    monkeypatch.setattr(requests, "KEYS_MAX", 3)
    replica = Replica()

    for sequence in range(1, 6):
        replica.key(sequence, f"k{sequence}")
        assert len(replica.state.idempotency_keys) <= 3

    assert [key for _, key in replica.state.idempotency_keys] == ["k3", "k4", "k5"]


def test_a_key_of_a_batch_counts_for_all_of_it(monkeypatch):
    monkeypatch.setattr(requests, "KEYS_MAX", 5)
    replica = Replica()
    batch = register(registration(N1), registration(N2), registration(N1, secret=OTHER_SECRET))  # fmt: skip

    replica.key(1, "before")
    replica.apply(request(2, key="batch"), batch)
    assert [key for _, key in replica.state.idempotency_keys] == ["before", "batch"]
    replica.key(3, "after")

    assert [key for _, key in replica.state.idempotency_keys] == ["batch", "after"]


def test_one_answer_that_is_over_the_bound_is_kept_alone(monkeypatch):
    monkeypatch.setattr(requests, "KEYS_MAX", 2)
    replica = Replica()
    batch = register(*[registration()] * 9)

    replica.key(1, "before")
    replica.apply(request(2, key="batch"), batch)

    assert replica.apply(request(3, key="batch"), batch).is_repeat
    assert len(replica.state.idempotency_keys) == 1


def test_a_drain_is_not_started_anew():
    replica = Replica()
    replica.apply(request(1, key="k"), drain(HOUR_NS))
    started = replica.state.nodes[N1]

    replica.apply(request(2, key="k"), drain(HOUR_NS, at_ns=START_NS + HOUR_NS))

    assert replica.state.nodes[N1] is started


# Whatever the log


def entry_lists() -> st.SearchStrategy[list[tuple[Request, Command]]]:
    """Return requests of two servers, each with its sequences, some with keys."""

    def with_requests(
        applying: list[Command], choices: list[tuple[bool, int, str]]
    ) -> list[tuple[Request, Command]]:
        last = {"A": 0, "B": 0}
        floors = {"A": 1, "B": 1}
        found = []
        for command, (is_a, lag, key) in zip(applying, choices, strict=False):
            server_id = "A" if is_a else "B"
            last[server_id] += 1
            sequence = last[server_id]
            if sequence > 1:
                floors[server_id] = max(floors[server_id], sequence - lag)
            asked = request(sequence, floors[server_id], server_id=server_id, key=key)
            found.append((asked, command))
        return found

    choices = st.tuples(
        st.booleans(), st.integers(0, 4), st.sampled_from(("", "k1", "k2"))
    )
    return st.builds(
        with_requests, sequences(), st.lists(choices, min_size=20, max_size=20)
    )


def apply_all(
    state: State, log: list[tuple[Request, Command]], first_index: int = FIRST_INDEX
) -> list[Applied]:
    return [
        machine.apply(state, index, command, asked)
        for index, (asked, command) in enumerate(log, first_index)
    ]


@pytest.mark.slow
@given(entry_lists(), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40))))
def test_repeats_anywhere_leave_the_state_as_it_is_without_them(log, repeats):
    with_repeats = [(entry, False) for entry in log]
    for what, where in repeats:
        if log:
            first = with_repeats.index((log[what % len(log)], False))
            position = first + 1 + where % (len(with_repeats) - first)
            with_repeats.insert(position, (log[what % len(log)], True))
    state, other = worked_state(), worked_state()

    first_outcomes: dict[Origin, Outcome] = {}
    for index, ((asked, command), is_again) in enumerate(with_repeats, FIRST_INDEX):
        applied = machine.apply(state, index, command, asked)
        if is_again:
            assert applied.is_repeat
            assert applied.outcome in (first_outcomes[asked.origin], STALE)
        else:
            assert applied == machine.apply(other, index, command, asked)
            first_outcomes[asked.origin] = applied.outcome

    assert encode_state(state) == encode_state(other)


@pytest.mark.slow
@given(entry_lists())
def test_two_replicas_remember_the_same(log):
    one, other = worked_state(), worked_state()
    stored = as_stored([command for _, command in log])

    applied = apply_all(one, log)
    again = apply_all(
        other, [(asked, command) for (asked, _), command in zip(log, stored, strict=True)]
    )  # fmt: skip

    assert applied == again
    assert encode_state(one) == encode_state(other)


@pytest.mark.slow
@given(entry_lists(), st.integers(0, 20))
def test_a_restored_state_remembers_what_was_answered(log, cut):
    state = worked_state()
    apply_all(state, log[:cut])

    restored = decode_state(encode_state(state))

    assert restored.sessions == state.sessions
    assert list(restored.idempotency_keys.items()) == list(state.idempotency_keys.items())  # fmt: skip
    following = [*log[cut:], *log]
    first_index = FIRST_INDEX + len(log)
    assert apply_all(restored, following, first_index) == apply_all(state, following, first_index)  # fmt: skip
    assert encode_state(restored) == encode_state(state)


@pytest.mark.slow
@given(entry_lists())
def test_a_key_is_applied_once_for_each_caller(log):
    state = worked_state()

    applied = apply_all(state, log)

    used = [
        (command.asked_by, asked.idempotency.key)
        for (asked, command), result in zip(log, applied, strict=True)
        if asked.idempotency is not None and not result.is_repeat
    ]
    assert len(used) == len(set(used))
    assert set(used) == state.idempotency_keys.keys()


def test_registrations_keep_each_result():
    replica = Replica()
    batch = register(registration(N1, secret=OTHER_SECRET), registration(N2))
    assert isinstance(batch, RegisterNodes)

    first = replica.apply(request(key="k"), batch)
    restored = decode_state(encode_state(replica.state))

    again = machine.apply(restored, 9, batch, request(2, key="k"))
    assert isinstance(first.outcome, Accepted)
    assert again.outcome == replace(first.outcome, is_replayed=True)
