"""Every failure has its status and its text."""

import pytest

from nodestate import errors
from nodestate.api.problems import (
    INTERNAL,
    REFUSAL_STATUS,
    Problem,
    ProblemError,
    problem_of,
    refused,
)
from nodestate.model.outcome import RefusalCode, Refused


@pytest.mark.parametrize(
    ("error", "status", "text", "outcome"),
    [
        (errors.RequestError("why"), 400, "why", b"none"),
        (errors.PermissionDeniedError("x"), 403, "Permission denied", b"none"),
        (errors.NoLeaderError("x"), 503, "No cluster leader", b"none"),
        (errors.JournalError("disk"), 500, "internal error", b"unknown"),
        (ProblemError(Problem(418, "tea")), 418, "tea", b"none"),
    ],
)
def test_a_failure_becomes_a_status_and_a_text(error, status, text, outcome):
    problem = problem_of(error)

    assert (problem.status, problem.text, problem.outcome) == (status, text, outcome)


def test_an_unknown_outcome_says_how_to_find_out():
    problem = problem_of(errors.OutcomeUnknownError("x"))

    assert (problem.status, problem.outcome) == (504, b"unknown")
    assert problem.text.startswith("outcome unknown: ")
    assert "read the node" in problem.text


def test_whoever_finds_no_leader_is_told_when_to_come_again():
    assert problem_of(errors.NoLeaderError("x")).headers == b"Retry-After: 1\r\n"


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_has_a_status(code):
    problem = refused(Refused(code, "why")).problem

    assert (problem.status, problem.text) == (REFUSAL_STATUS[code], "why")
    assert 400 <= problem.status < 500


def test_an_internal_error_is_one():
    assert problem_of(errors.NodestateError("x")) is INTERNAL
