"""The description of all this for machines: OpenAPI 3.1, from the routes and shapes.

It is made when it is first asked for, on a thread, and kept: nothing in it depends on a
server's settings or state.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Final, Protocol

from msgspec.structs import replace

from nodestate import __version__
from nodestate.api.calls import Call
from nodestate.api.described import (
    FILE,
    NEVER,
    NOTHING,
    OF_READ,
    Header,
    Operation,
    Parameter,
)
from nodestate.api.json_schemas import TEXT, JsonSchemas, Schema, integer, nullable
from nodestate.api.needs import Need
from nodestate.api.operations import OPERATIONS
from nodestate.api.replies import Reply
from nodestate.api.shapes import encode
from nodestate.model.job import Job, MigrateStrategy, ReschedulePolicy

VERSION: Final = "3.1.0"
ABOUT: Final = (
    "Nomad's Nodes API, and what belongs to it, as a service of its own. Errors are one "
    "line of plain text. A request that is none of HTTP/1.1 is 400, one whose head is over "
    "its limit 431, a method that a path does not have 405, and any other path 404."
)
JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
PLAIN_TEXT: Final = "text/plain"

ANY_REQUEST: Final = (400, 403, 429, 500)
"""The statuses that any request may get, whatever it asks for."""
OUTCOME: Final = Header(
    "X-Nodestate-Outcome",
    "Whether what was asked for may still be done.",
    {**TEXT, "enum": ["none", "unknown"]},
)
OF_MISSING: Final = tuple(replace(header, is_certain=False) for header in OF_READ)
"""What a read also says of what is not there, but not of a path that is none."""
RETRY: Final = Header(
    "Retry-After", "Seconds after which to ask again.", integer(minimum=0)
)

# What a body has where its shape only says that it is any JSON.
_JOB: Final = "JobInput"
_JOB_HOLDERS: Final = ("JobSent", "PlanSent")


class Described(Protocol):
    """What is looked at of a row of the table of routes."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the methods; the route's name stands for the last one of a write."""

    @property
    def path(self) -> str:
        """Return the path, with `:id` or `*id` where an id stands."""

    @property
    def name(self) -> str:
        """Return what it is called."""

    @property
    def need(self) -> Need:
        """Return what a caller must be allowed."""

    @property
    def is_write(self) -> bool:
        """Say whether it may change something."""


async def describe_routes(call: Call, routes: tuple[Described, ...]) -> Reply:
    """Answer with the document about these routes."""
    loop = asyncio.get_running_loop()
    return call.encoded(await loop.run_in_executor(None, _encoded, routes))


@cache
def _encoded(routes: tuple[Described, ...]) -> bytes:
    return encode(describe(routes))


def describe(routes: Iterable[Described]) -> dict[str, Any]:
    """Return the document about routes; each has to be in the table of operations."""
    sent, received = JsonSchemas(are_received=False), JsonSchemas(are_received=True)
    shared = _Shared()
    writer = _Writer(sent, received, shared)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":id", "{id}").replace("*id", "{id}")
        methods = paths.setdefault(path, {})
        for method in route.methods:
            methods[method.lower()] = writer.operation(route, method)
    _complete(sent, received)
    return {
        "openapi": VERSION,
        "info": {
            "title": "nodestate",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**sent.components, **received.components},
            **shared.parts,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _complete(sent: JsonSchemas, received: JsonSchemas) -> None:
    """Say what is where a shape holds JSON that is decoded or encoded apart."""
    job = received.of(Job)
    properties = received.components[_JOB]["properties"]
    properties["Migrate"] = nullable(received.of(MigrateStrategy))
    properties["Reschedule"] = nullable(received.of(ReschedulePolicy))
    for name in _JOB_HOLDERS:
        if name in received.components:
            received.components[name]["properties"]["Job"] = nullable(job)
    if "FullAllocation" in sent.components:
        properties = sent.components["FullAllocation"]["properties"]
        properties["Job"] = nullable(sent.of(Job))


class _Shared:
    """What operations have in common, by kind and name: written once, and referred to."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, Any]] = {
            "responses": {},
            "parameters": {},
            "headers": {},
        }

    def refer(self, kind: str, name: str, written: Schema) -> Schema:
        """Return where this is to be found; under a name that is taken, itself."""
        if self.parts[kind].setdefault(name, written) != written:
            return written
        return {"$ref": f"#/components/{kind}/{name}"}


class _Writer:
    """Writes operations, from the routes and from what is said of each."""

    def __init__(
        self, sent: JsonSchemas, received: JsonSchemas, shared: _Shared
    ) -> None:
        self._sent = sent
        self._received = received
        self._shared = shared

    def operation(self, route: Described, method: str) -> dict[str, Any]:
        """Return what one method of a path does."""
        about = OPERATIONS[route.name]
        is_head = method == "HEAD"
        written: dict[str, Any] = {
            "operationId": _operation_id(route.name, method),
            "summary": about.summary,
            "description": f"Where ACLs are on, it needs: {route.need.name}.",
            "tags": [route.name.partition(".")[0]],
            "x-nodestate-need": route.need.name,
            "parameters": [
                self._shared.refer("parameters", parameter["name"], parameter)
                for parameter in _parameters(route, about)
            ],
            "responses": self._responses(route, about, is_head=is_head),
            "security": _security(route),
        }
        if about.body is not None:
            written["requestBody"] = {
                "required": about.is_body_required,
                "content": _content(about.body, self._received.of),
            }
        return written

    def _responses(
        self, route: Described, about: Operation, *, is_head: bool
    ) -> dict[str, Any]:
        done = None if about.answer is NEVER else self._done(about, is_head=is_head)
        found = {} if done is None else {"200": done}
        for status in sorted({*ANY_REQUEST, *about.errors}):
            found[str(status)] = self._error(status, route, is_head=is_head)
        for status in about.errors_in_json:
            found[str(status)] = {**(done or {}), "description": _phrase(status)}
        return found

    def _done(self, about: Operation, *, is_head: bool) -> Schema:
        answer: dict[str, Any] = {"description": "Done."}
        if about.answer_headers:
            answer["headers"] = self._headers(about.answer_headers)
        if about.answer is not NOTHING and not is_head:
            answer["content"] = _content(about.answer, self._answer)
            if about.has_text:
                answer["content"][PLAIN_TEXT] = {"schema": TEXT}
        return answer

    def _answer(self, kind: Any) -> Schema:
        if isinstance(kind, tuple):
            return {"anyOf": [self._sent.of(one) for one in kind]}
        return self._sent.of(kind)

    def _error(self, status: int, route: Described, *, is_head: bool) -> Schema:
        headers = [OUTCOME] if route.is_write else []
        if status == 404 and not route.is_write:
            headers += OF_MISSING
        if status in {429, 503}:
            headers.append(RETRY)
        written: dict[str, Any] = {"description": _phrase(status)}
        if headers:
            written["headers"] = self._headers(headers)
        if not is_head:
            written["content"] = {PLAIN_TEXT: {"schema": TEXT}}
        kind = "Write" if route.is_write else "Head" if is_head else "Read"
        return self._shared.refer("responses", f"{kind}Error{status}", written)

    def _headers(self, headers: Iterable[Header]) -> dict[str, Any]:
        return {
            header.name: self._shared.refer(
                "headers",
                header.name,
                {
                    "description": header.description,
                    "required": header.is_certain,
                    "schema": header.schema,
                },
            )
            for header in headers
        }


def _content(kind: Any, schema_of: Callable[[Any], Schema]) -> dict[str, Any]:
    return {BYTES: {}} if kind is FILE else {JSON: {"schema": schema_of(kind)}}


def _operation_id(name: str, method: str) -> str:
    """Return the route's name, with the method where that is the other spelling."""
    return f"{name}.{method.lower()}" if method in {"HEAD", "POST"} else name


def _phrase(status: int) -> str:
    return f"{HTTPStatus(status).phrase}."


# Parameters, headers, tokens


def _parameters(route: Described, about: Operation) -> Iterable[Schema]:
    if ":id" in route.path or "*id" in route.path:
        may_have = " It may have slashes in it." if "*id" in route.path else ""
        yield {
            "name": "id",
            "in": "path",
            "required": True,
            "description": f"The id.{may_have}",
            "schema": {**TEXT, "minLength": 1},
        }
    for parameter in about.parameters:
        yield _query_parameter(parameter)
    yield _REQUEST_ID
    if about.takes_key:
        yield _IDEMPOTENCY_KEY


def _query_parameter(parameter: Parameter) -> Schema:
    written: Schema = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": parameter.schema,
    }
    if parameter.is_required:
        written["required"] = True
    if parameter.schema["type"] == "boolean":
        written["allowEmptyValue"] = True
    return written


def _security(route: Described) -> list[dict[str, list[str]]]:
    """Return how a caller may say who it is; nobody has to where ACLs are off."""
    if route.need.name == "open":
        return []
    ways: list[dict[str, list[str]]] = [{name: []} for name in _SECURITY_SCHEMES]
    return [{}, *ways]


_REQUEST_ID: Final = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "The caller's id for the request, which is given back.",
    "schema": {**TEXT, "pattern": "^[ -~]*$", "maxLength": 128},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The caller's name for the write, so that it is done once.",
    "schema": {**TEXT, "pattern": "^[!-~]{1,255}$"},
}
_SECURITY_SCHEMES: Final = {
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Nomad-Token",
        "description": "A token's SecretID, or that of a node for what its agent does.",
    },
    "bearer": {"type": "http", "scheme": "bearer"},
}
