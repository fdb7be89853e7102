"""From what a person typed to one node."""

import argparse
import io

import pytest

from nodestate.answers import NodeStub
from nodestate.cli.lookup import (
    confirm,
    names_one_node,
    newest_first,
    one_node_id,
    searchable,
    stub_table,
)
from nodestate.cli.session import CommandError, Console, Session
from tests.cli.conftest import CountingIds, StoppedClock

NODE_ID = "f7476465-4d6e-c0de-26d0-e383c49be941"


def make_session(*arguments: str, typed: str = "", **flags: bool) -> Session:
    args = argparse.Namespace(arguments=list(arguments), yes=flags.get("yes", False))
    args.self = flags.get("is_self", False)
    return Session(
        console=Console(io.StringIO(), io.StringIO(), io.StringIO(typed)),
        environment={},
        clock=StoppedClock(),
        ids=CountingIds(),
        args=args,
    )


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("f7", "f7"),
        ("f74", "f7"),
        ("f7476465-", "f7476465-"),
        ("f7476465-4", "f7476465-"),
        ("f7476465-4d", "f7476465-4d"),
        (NODE_ID, NODE_ID),
    ],
)
def test_a_server_is_asked_for_whole_bytes_of_an_id(typed, expected):
    assert searchable(typed) == expected


@pytest.mark.parametrize("arguments", [(), ("a", "b")])
def test_a_command_for_one_node_takes_one_argument(arguments):
    with pytest.raises(CommandError, match="takes one argument"):
        one_node_id(make_session(*arguments))

    assert one_node_id(make_session(NODE_ID)) == NODE_ID


@pytest.mark.parametrize(
    ("arguments", "is_self", "expected"),
    [
        ((NODE_ID,), False, True),
        ((), True, True),
        ((), False, False),
        ((NODE_ID,), True, False),
        (("a", "b"), False, False),
    ],
)
def test_a_node_is_named_or_is_the_agents_own(arguments, is_self, expected):
    assert names_one_node(make_session(*arguments, is_self=is_self)) is expected


def test_the_newest_node_is_first():
    stubs = [NodeStub(id=str(index), create_index=index) for index in (3, 9, 5)]

    assert [stub.create_index for stub in newest_first(stubs)] == [9, 5, 3]


@pytest.mark.parametrize(("verbose", "shown"), [(True, NODE_ID), (False, NODE_ID[:8])])
def test_the_table_of_matches_shows_as_much_of_an_id_as_was_asked_for(verbose, shown):
    table = stub_table([NodeStub(id=NODE_ID, name="web1")], verbose=verbose)

    header, row = table.splitlines()
    assert header.split()[0] == "ID"
    assert row.split()[0] == shown
    assert "web1" in row


@pytest.mark.parametrize(
    ("typed", "code"),
    [("y", None), ("n", 0), ("", 0), ("Yes", 0), ("yes", 0), ("Y", 1), ("q", 1)],
)
def test_only_an_exact_y_goes_on(typed, code):
    session = make_session(typed=f"{typed}\n")

    answer = confirm(session, "f7", NODE_ID, doing="drain node", cancelled="Cancelled")

    assert answer == code


def test_a_whole_id_and_a_yes_flag_need_no_confirmation():
    for session, named in (
        (make_session(), NODE_ID),
        (make_session(yes=True), "f7"),
    ):
        assert confirm(session, named, NODE_ID, doing="x", cancelled="y") is None
