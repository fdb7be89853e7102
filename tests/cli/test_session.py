"""What every command is handed: the server that is meant, and errors with a code."""

import argparse
import io

import pytest

from nodestate.cli.session import (
    EXIT_FAILED,
    EXIT_UNKNOWN,
    CommandError,
    Console,
    Session,
    as_json,
    failing,
)
from nodestate.client import DEFAULT_ADDRESS
from nodestate.errors import NoLeaderError, OutcomeUnknownError, ResponseError
from tests.cli.conftest import CountingIds, StoppedClock


def make_session(typed: str = "", **environment: str) -> Session:
    return Session(
        console=Console(io.StringIO(), io.StringIO(), io.StringIO(typed)),
        environment=environment,
        clock=StoppedClock(),
        ids=CountingIds(),
        command="node status",
        args=argparse.Namespace(address="", token="", region="", namespace=""),
    )


@pytest.mark.parametrize(
    ("flag", "environment", "expected"),
    [
        ("", {}, DEFAULT_ADDRESS),
        ("", {"NOMAD_ADDR": "http://n:1"}, "http://n:1"),
        (
            "",
            {"NOMAD_ADDR": "http://n:1", "NODESTATE_ADDR": "http://o:2"},
            "http://o:2",
        ),
        ("http://f:3", {"NODESTATE_ADDR": "http://o:2"}, "http://f:3"),
        ("", {"NODESTATE_ADDR": "", "NOMAD_ADDR": "http://n:1"}, "http://n:1"),
    ],
)
def test_a_flag_beats_our_variable_and_that_beats_nomads(flag, environment, expected):
    session = make_session(**environment)
    session.args.address = flag

    assert session._setting("address", "ADDR", DEFAULT_ADDRESS) == expected


async def test_an_address_that_cannot_be_used_is_the_commands_error():
    with pytest.raises(CommandError, match="Error initializing client"):
        make_session(NOMAD_ADDR="ftp://n:1").client()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoLeaderError("none"), EXIT_FAILED),
        (OutcomeUnknownError("lost"), EXIT_UNKNOWN),
        (ResponseError(504, "lost", outcome="unknown"), EXIT_UNKNOWN),
        (ResponseError(503, "none", outcome="none"), EXIT_FAILED),
    ],
)
def test_only_an_unknown_outcome_has_the_exit_code_for_it(error, code):
    with (
        pytest.raises(CommandError, match="Error draining: ") as caught,
        failing("Error draining"),
    ):
        raise error

    assert caught.value.exit_code == code


def test_what_is_no_failure_of_a_server_is_left_alone():
    with pytest.raises(KeyError), failing("Error draining"):
        raise KeyError("a defect")


def test_a_question_is_answered_by_one_line():
    session = make_session(typed="  y  \nrest")

    assert session.console.ask("Sure?") == "y"
    assert session.console.read_all() == "rest"


def test_flags_that_do_not_go_together_come_with_a_hint():
    error = make_session().refuse("Not both")

    assert str(error) == (
        "Not both\nFor additional help try 'nodestate node status -help'"
    )


def test_json_is_indented_by_four():
    assert as_json(b'{"a":[1]}') == '{\n    "a": [\n        1\n    ]\n}'
