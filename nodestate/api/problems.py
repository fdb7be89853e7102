"""From what went wrong to a status and a text: the one table.

A text is what a person or a script reads, Nomad's where Nomad has one. The outcome says
of a failed write whether it may still happen.
"""

from typing import Final

import msgspec
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from nodestate.errors import (
    NodestateError,
    NoLeaderError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RequestError,
)
from nodestate.model.outcome import PERMISSION_DENIED, RefusalCode, Refused

NO_LEADER: Final = "No cluster leader"
OUTCOME_UNKNOWN: Final = (
    "outcome unknown: not applied before the deadline, and it may still be; "
    "read the node to find out, or ask again with the same Idempotency-Key"
)
INVALID_METHOD: Final = "Invalid method"
MISSING_NODE_ID: Final = "missing node ID"
EMPTY_BODY: Final = "Request body is empty"
INTERNAL_ERROR: Final = "internal error"
TOO_MANY_HEADERS: Final = "Too many headers"
"""What aiohttp's parser says of more than it was told to take."""
HEADERS_MAX: Final = 128
RETRY_AFTER_S: Final = 1
PATH_SHOWN_MAX: Final = 256

OUTCOME_NONE: Final = b"none"
OUTCOME_IS_UNKNOWN: Final = b"unknown"

REFUSAL_STATUS: Final = {
    RefusalCode.INVALID: 400,
    RefusalCode.FORBIDDEN: 403,
    RefusalCode.NOT_FOUND: 404,
    RefusalCode.CONFLICT: 409,
    RefusalCode.KEY_REUSED: 422,
    # The proposer asks again under another id, so that callers do not see this one.
    RefusalCode.STALE_REQUEST: 409,
    # And the call has it permitted anew.
    RefusalCode.OUTDATED_PERMIT: 409,
}


class Problem(msgspec.Struct, frozen=True):
    """What the caller is told. `closes` ends the connection: its rest is not read."""

    status: int
    text: str
    headers: bytes = b""
    outcome: bytes = OUTCOME_NONE
    closes: bool = False


class ProblemError(RequestError):
    """A request that ends in a problem of its own, not in one of the table below."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


_RETRY: Final = b"Retry-After: %d\r\n" % RETRY_AFTER_S
# What a defect left half done is not known.
INTERNAL: Final = Problem(500, INTERNAL_ERROR, outcome=OUTCOME_IS_UNKNOWN)


def problem_of(error: NodestateError) -> Problem:
    """Return what to answer to a failure; one that nobody foresaw is an internal error."""
    match error:
        case ProblemError():
            return error.problem
        case RequestError():
            return Problem(400, str(error))
        case PermissionDeniedError():
            return Problem(403, PERMISSION_DENIED)
        case NoLeaderError():
            return Problem(503, NO_LEADER, _RETRY)
        case OutcomeUnknownError():
            return Problem(504, OUTCOME_UNKNOWN, outcome=OUTCOME_IS_UNKNOWN)
        case _:
            return INTERNAL


def refused(refusal: Refused) -> ProblemError:
    """Return the error for what the state machine refused."""
    return ProblemError(Problem(REFUSAL_STATUS[refusal.code], refusal.reason))


def too_many(what: str, setting: str, limit: int) -> ProblemError:
    """Return the error for a limit on how many there may be at once."""
    text = f"too many {what}: at most {limit} at once ({setting})"
    return ProblemError(Problem(429, text, _RETRY))


def too_large(what: str, setting: str, limit: int) -> ProblemError:
    """Return the error for a body, or a part of one, that is over its limit."""
    text = f"{what} is over its limit of {limit} ({setting})"
    return ProblemError(Problem(413, text, closes=True))


def no_such_path(path: str) -> Problem:
    """Return the answer for a path that leads nowhere."""
    return Problem(404, f"no such path: {path[:PATH_SHOWN_MAX]}")


def wrong_method(allowed: bytes) -> Problem:
    """Return the answer for a method that the path does not have."""
    return Problem(405, INVALID_METHOD, b"Allow: %b\r\n" % allowed)


def malformed(error: BaseException | None) -> Problem:
    """Return the answer for bytes that are no request; what they were is not shown."""
    if isinstance(error, LineTooLong):
        text = "the request line or a header is over its limit (header_bytes_max)"
        return Problem(431, text, closes=True)
    if isinstance(error, BadHttpMessage) and TOO_MANY_HEADERS in str(error):
        return Problem(431, f"more than {HEADERS_MAX} headers", closes=True)
    return Problem(400, "malformed request: this is not HTTP/1.1", closes=True)
