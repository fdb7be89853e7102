"""Digests: equal for equal states, different in the table that differs, and quick again."""

from hashlib import sha256

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.fsm import machine
from nodestate.fsm.digest import (
    FORM,
    RECORDS_PER_STEP,
    Digester,
    Digests,
    digest_of_all,
    table_digests,
)
from nodestate.fsm.snapshot import decode_state, encode_state
from nodestate.fsm.state import State
from nodestate.fsm.tables import TABLES
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job
from tests.fsm.entries import N1, N2, N3, key, node
from tests.fsm.invariants import FIRST_INDEX, worked_state
from tests.fsm.states import full_state
from tests.strategies import sequences


def digest_with(digester: Digester, state: State) -> tuple[Digests, int]:
    """Return the digests, and in how many steps they were made."""
    steps = digester.steps(state)
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value, count
        count += 1


def differing(one: Digests, other: Digests) -> list[str]:
    return [name for (name, a), (_, b) in zip(one, other, strict=True) if a != b]


def test_every_table_has_one_behind_the_form():
    names = [name for name, _ in table_digests(full_state())]

    assert names == [FORM, *(table.name for table in TABLES)]
    assert len(set(dict(table_digests(full_state())).values())) == len(names)


def test_every_index_is_that_of_a_table():
    assert State().indexes.keys() <= {table.name for table in TABLES}


CHANGES = {
    "nodes": lambda state: state.put_node(N2, replace(state.nodes[N2], name="other")),
    "node_secrets": lambda state: state.node_secrets.update({N2: b"other"}),
    "jobs": lambda state: state.put_job(Job(id="other")),
    "allocations": lambda state: state.put_allocation(
        replace(state.allocations["a1"], client_status="lost")
    ),
    "evaluations": lambda state: state.evaluations.popitem(),
    "sessions": lambda state: setattr(state.sessions["A", "boot"], "floor", 9),
    "session_outcomes": lambda state: state.sessions["A", "boot"].outcomes.popitem(),
    "idempotency_keys": lambda state: state.idempotency_keys.popitem(),
    "job_versions": lambda state: state.job_versions.popitem(),
    "job_summaries": lambda state: state.job_summaries.popitem(),
    "acl_policies": lambda state: state.acl_policies.popitem(),
    "acl_tokens": lambda state: state.acl_tokens.popitem(),
    "acl_secrets": lambda state: state.acl_secrets.popitem(),
    "acl_roles": lambda state: state.acl_roles.popitem(),
    "acl_bootstrap": lambda state: state.acl_bootstrap.popitem(),
}


@pytest.mark.parametrize("name", [table.name for table in TABLES])
def test_a_change_shows_in_its_table_alone(name):
    state = full_state()
    digester = Digester()
    before, _ = digest_with(digester, state)

    CHANGES[name](state)

    after, _ = digest_with(digester, state)
    assert differing(before, after) == [name]
    assert after == table_digests(state)
    assert digest_of_all(before) != digest_of_all(after)


def test_the_index_of_a_table_shows():
    state = full_state()
    before = table_digests(state)

    state.indexes["jobs"] += 1

    assert differing(before, table_digests(state)) == ["jobs"]


def test_the_way_to_a_state_does_not_show():
    restored = decode_state(encode_state(full_state()))

    assert table_digests(restored) == table_digests(full_state())
    assert digest_of_all(table_digests(restored)) == digest_of_all(table_digests(full_state()))  # fmt: skip


@given(sequences(), st.sets(st.integers(0, 25)))
def test_what_is_remembered_never_shows(applying, digested_at):
    """Digested now and then while entries come, as by a server that has just started."""
    state = worked_state()
    digester = Digester()
    for index, command in enumerate(applying, FIRST_INDEX):
        machine.apply(state, index, command)
        if index - FIRST_INDEX in digested_at:
            copy = state.shallow_copy()
            assert digest_with(digester, copy)[0] == table_digests(copy)

    assert digest_with(digester, state)[0] == table_digests(state)


class CountingSha:
    """Counts how often something is summed up."""

    def __init__(self, real):
        self.real = real
        self.count = 0

    def __call__(self, *content):
        self.count += 1
        return self.real(*content)


@pytest.fixture
def sums(monkeypatch):
    counting = CountingSha(sha256)
    monkeypatch.setattr("nodestate.fsm.digest.sha256", counting)
    return counting


def test_only_what_has_changed_is_encoded_again(sums):
    state = full_state()
    digester = Digester()
    digest_with(digester, state)

    sums.count = 0
    digest_with(digester, state.shallow_copy())
    unchanged = sums.count
    state.put_node(key(0), node(key(0)))
    state.put_node(N2, replace(state.nodes[N2], name="other"))
    state.remove_node(N1)
    sums.count = 0
    digest_with(digester, state)

    # One for each table, and for each session what is made anew to list it.
    assert unchanged == len(TABLES) + len(state.sessions)
    assert sums.count == unchanged + 2


def test_a_table_that_loses_its_oldest_is_not_encoded_again(sums):
    state = full_state()
    kept = next(iter(state.idempotency_keys.values()))
    for number in range(4 * RECORDS_PER_STEP):
        state.put_idempotency_key(("anonymous", str(number)), kept)
    digester = Digester()
    digest_with(digester, state)
    sums.count = 0
    digest_with(digester, state)
    unchanged = sums.count

    for _ in range(2 * RECORDS_PER_STEP):
        state.drop_oldest_idempotency_key()
    state.put_idempotency_key(("anonymous", "new"), kept)
    sums.count = 0
    digests, _ = digest_with(digester, state)

    assert sums.count == unchanged + 1
    assert digests == table_digests(state)


def test_what_is_remembered_is_one_generation(monkeypatch):
    state = full_state()
    digester = Digester()
    for _ in range(3):
        digest_with(digester, state)
    state.remove_node(N3)
    digest_with(digester, state)

    remembered = digester._remembered["nodes"]
    assert remembered.keys == state.node_keys
    assert len(remembered.digests) == 32 * len(state.nodes)


def test_others_have_their_turn():
    state = State()
    for number in range(10 * RECORDS_PER_STEP):
        state.put_node(key(number), node(key(number)))
        state.evaluations[str(number)] = Evaluation(id=str(number))

    _, count = digest_with(Digester(), state)

    assert count == 21
