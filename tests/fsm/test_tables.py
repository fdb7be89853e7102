"""The list of tables: complete, and in an order that depends on their content alone."""

import random

import pytest

from nodestate.errors import SnapshotError
from nodestate.fsm.state import State
from nodestate.fsm.tables import RUN_KEYS, TABLES, in_order
from tests.fsm.states import full_state

# What can be made again from the tables.
DERIVED = {
    "node_keys",
    "draining_keys",
    "system_job_keys",
    "versions_by_job",
    "work_by_job",
    "usage_by_node",
    "allocations_by_node",
    "allocations_by_job",
    "allocations_by_version",
    "allocations_by_evaluation",
    "evaluations_by_job",
    "blocked_ids",
    "idempotency_order",
    "accessors_by_secret",
    "nodes_by_secret",
    "acl_role_ids",
}
# What is not a table of records, and is written apart.
APART = {"indexes", "restore"}


def test_every_table_of_the_state_is_on_the_list():
    """Each table that loses its records is missed by some line of the list."""
    for name in set(State.__slots__) - DERIVED - APART:
        state = full_state()
        before = [table.count(state) for table in TABLES]
        getattr(state, name).clear()
        assert [table.count(state) for table in TABLES] != before, name


def test_a_table_that_is_put_back_has_the_same_records():
    state, other = full_state(), State()

    for table in TABLES:
        items = [item for item in table.items(state) if item is not None]
        assert len(items) == table.count(state) > 0, table.name
        table.put(other, items)

    for name in set(State.__slots__) - APART:
        assert getattr(other, name) == getattr(state, name), name


def test_names_are_each_their_own():
    assert len({table.name for table in TABLES}) == len(TABLES)


def test_sorting_takes_breath_between_runs():
    keys = [f"{number:05d}" for number in range(3 * RUN_KEYS)]
    shuffled = list(keys)
    random.Random(1).shuffle(shuffled)

    steps = list(in_order(shuffled))

    assert [key for key in steps if key is not None] == keys
    assert steps[:3] == [None] * 3


def test_a_key_that_is_there_twice_is_refused():
    state = full_state()
    (table,) = [table for table in TABLES if table.name == "idempotency_keys"]
    items = [item for item in table.items(state) if item is not None]

    with pytest.raises(SnapshotError, match="is there twice"):
        table.put(state, items)
