"""The words in which operations are described: parameters, headers, errors, and how most are.

Nothing here changes what a handler does.
"""

from http import HTTPStatus
from typing import Any, Final

import msgspec

from nodestate.api.json_schemas import BOOLEAN, TEXT, Schema, integer
from nodestate.query.paging import PER_PAGE_MAX


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query. A flag that stands there without a value is on."""

    name: str
    description: str
    schema: Schema = msgspec.field(default_factory=TEXT.copy)
    is_required: bool = False


class Header(msgspec.Struct, frozen=True):
    """A header of an answer; one that is not `is_certain` may be left out."""

    name: str
    description: str
    schema: Schema = msgspec.field(default_factory=TEXT.copy)
    is_certain: bool = True


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What one route takes and gives.

    `body` is what a client sends as JSON, `FILE` for bytes, `None` for nothing that is
    looked at. `answer` is the type that is sent as JSON, or a tuple of such, `NOTHING`
    for an empty body, `FILE` for bytes, `NEVER` where there is none that is not an error.
    `errors` are the statuses beside those that any request may get; those of
    `errors_in_json` have the body of the answer. `has_text` is that the answer may also
    be plain text.
    """

    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    is_body_required: bool = True
    answer: Any
    answer_headers: tuple[Header, ...] = ()
    errors: tuple[int, ...] = ()
    errors_in_json: tuple[int, ...] = ()
    has_text: bool = False

    @property
    def takes_key(self) -> bool:
        """Say whether the `Idempotency-Key` of a request is looked at."""
        return HTTPStatus.UNPROCESSABLE_ENTITY in self.errors


class _Mark:
    """Something that is no type of JSON."""


FILE: Final = _Mark()
NOTHING: Final = _Mark()
NEVER: Final = _Mark()


# Parameters

DURATION: Final = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+)$"


def flag(name: str, description: str) -> Parameter:
    """Return a parameter that is on or off."""
    return Parameter(name, description, BOOLEAN)


PRETTY: Final = flag("pretty", "Indent the answer.")
REGION: Final = Parameter("region", "The region that is meant: that of the servers.")
READING: Final = (
    Parameter(
        "index",
        "Answer once the index of what is read is past this one.",
        integer(minimum=0),
    ),
    Parameter(
        "wait",
        "How long to wait for that, such as `60s`; the default for 0 and less.",
        {**TEXT, "pattern": DURATION},
    ),
    flag("stale", "Answer whatever this server has, leader or not."),
    flag(
        "consistent", "See every write acknowledged before, whichever server is asked."
    ),
    PRETTY,
    REGION,
)
WRITING: Final = (PRETTY, REGION)
NAMESPACE: Final = Parameter(
    "namespace",
    "The namespace, `default` if left out.",
    {**TEXT, "pattern": "^[a-zA-Z0-9-]{1,128}$"},
)
NAMESPACES: Final = Parameter(
    "namespace",
    "The namespace, `default` if left out; `*` is all of them.",
    {**TEXT, "pattern": r"^([a-zA-Z0-9-]{1,128}|\*)$"},
)
LISTING: Final = (
    Parameter("prefix", "Only what has an id that begins so."),
    Parameter("filter", "Only what the expression holds for."),
    Parameter(
        "per_page",
        "How many a page has at most; 0 is no limit.",
        integer(minimum=0, maximum=PER_PAGE_MAX),
    ),
    Parameter("next_token", "Where the page begins: `X-Nomad-NextToken` of the last."),
)
READING_JOBS: Final = (*READING, NAMESPACE)
WRITING_JOBS: Final = (*WRITING, NAMESPACE)
PEER_ID: Final = Parameter("id", "The server's name.")
PEER_ADDRESS: Final = Parameter("address", "Where its peers reach it, `host:port`.")


# Headers of answers

INDEX: Final = Header(
    "X-Nomad-Index",
    "The index of what is shown, or of the entry that was written.",
    integer(minimum=0),
)
CONTACT: Final = (
    Header(
        "X-Nomad-KnownLeader",
        "Whether the server knows a leader.",
        {**TEXT, "enum": ["true", "false"]},
    ),
    Header(
        "X-Nomad-LastContact",
        "Milliseconds since the server heard from the leader.",
        integer(minimum=0),
    ),
)
NEXT_TOKEN: Final = Header(
    "X-Nomad-NextToken", "Where the next page begins.", is_certain=False
)
REPLAYED: Final = Header(
    "Idempotency-Replayed",
    "`true` if the answer is that of an earlier request with the key.",
    is_certain=False,
)
DIGEST: Final = Header("Digest", "`sha-256=` and the SHA-256 of the body in base64.")
OF_READ: Final = (INDEX, *CONTACT)
OF_LIST: Final = (*OF_READ, NEXT_TOKEN)
OF_WRITE: Final = (INDEX, REPLAYED)


# What goes wrong

NOT_FOUND: Final = (404,)
WITH_BODY: Final = (408, 413, 415)
LEADING: Final = (503,)
PROPOSING: Final = (409, 422, 503, 504)
WRITES: Final = (*WITH_BODY, *PROPOSING)
WRITES_ONE: Final = (*NOT_FOUND, *WRITES)
READS_ONE: Final = (*NOT_FOUND, *LEADING)


# How most operations are


def read(summary: str, answer: Any, *parameters: Parameter) -> Operation:
    """Return a read of one thing, or of all there is of it."""
    return Operation(
        summary=summary,
        parameters=(*READING, *parameters),
        answer=answer,
        answer_headers=OF_READ,
        errors=READS_ONE,
    )


def list_of(summary: str, answer: Any, *parameters: Parameter) -> Operation:
    """Return a list that is cut into pages."""
    return Operation(
        summary=summary,
        parameters=(*READING, *LISTING, *parameters),
        answer=answer,
        answer_headers=OF_LIST,
        errors=LEADING,
    )


def write(
    summary: str,
    answer: Any,
    *parameters: Parameter,
    body: Any = None,
    is_body_required: bool = True,
) -> Operation:
    """Return a write that is one entry of the log."""
    return Operation(
        summary=summary,
        parameters=(*WRITING, *parameters),
        body=body,
        is_body_required=is_body_required,
        answer=answer,
        answer_headers=OF_WRITE,
        errors=(*NOT_FOUND, *PROPOSING) if body is None else WRITES_ONE,
    )


def ask(summary: str, answer: Any, *parameters: Parameter) -> Operation:
    """Return a question about the server itself, whose answer has no index."""
    return Operation(
        summary=summary, parameters=parameters, answer=answer, errors=LEADING
    )
