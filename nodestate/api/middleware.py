"""What every request goes through: its route, its errors, its measures, its answer."""

import re
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod

from nodestate.api.authorization import authorize
from nodestate.api.calls import Call, Services, problem_reply
from nodestate.api.connections import header_lines
from nodestate.api.guards import NO_ROUTE, X_REQUEST_ID, Guards
from nodestate.api.idempotency import REPLAYED
from nodestate.api.problems import (
    INTERNAL,
    Problem,
    malformed,
    no_such_path,
    problem_of,
    wrong_method,
)
from nodestate.api.replies import Reply, Sent, send
from nodestate.api.routes import Place, Route, RouteTable
from nodestate.errors import NodestateError

REQUEST_ID_CHARACTERS_MAX: Final = 128
NANOSECONDS: Final = 1_000_000_000
WAITING: Final = ".waiting"
KEPT_TARGETS_MAX: Final = 20_000
KEPT_TARGET_LENGTH_MAX: Final = 80

_METHOD_AND_PATH: Final = re.compile(r"b'[A-Za-z]+ (/[^ ?']*)(?:\?[^ ']*)? HTTP/1")
_STATUS_LABELS: Final = {status.value: str(status.value) for status in HTTPStatus}


class Target(NamedTuple):
    """What stands behind the method of a request, and where it leads."""

    path: str
    query_text: str
    place: Place


class Middleware:
    """Takes each request from aiohttp, and answers it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._routes = RouteTable()
        self._guards = Guards(services)
        extra_headers = header_lines(services.config.http_response_headers)
        self._extra_headers = extra_headers.encode("ascii")
        self._targets: dict[str, Target] = {}
        self._has_acls = services.config.acl_enabled
        self._is_debugging = services.config.log_level == "debug"
        self._latency = services.metrics.timing(
            "nodestate_api_request_seconds",
            "Time from a request to its answer; reads that wait are apart.",
            "route",
        )
        self._answers = services.metrics.counter(
            "nodestate_api_answers_total", "Answers sent, by status.", "status"
        )

    async def handle(self, request: web.BaseRequest) -> Sent:
        """Answer one request; whatever goes wrong is an answer too."""
        services = self._services
        started_at_s = services.clock.monotonic_s()
        target = self._targets.get(request.raw_path)
        if target is None:
            target = self._resolve(request)
        resource = target.place.resource
        route = None if resource is None else resource.by_method.get(request.method)
        problem = self._guards.problem_with(request, target.query_text)
        call: Call | None = None
        if problem is not None:
            is_write = route is not None and route.is_write
            reply = self._problem(problem, is_write=is_write)
        elif route is None:
            reply = self._without_route(target.place, target.path)
        else:
            call = Call(
                services,
                request,
                target.place.id_text,
                target.query_text,
                started_at_s,
            )
            reply = await self._answer(call, route)
            if call.is_replayed:
                reply.headers += REPLAYED
        request_id = request.headers.get(X_REQUEST_ID)
        if request_id is not None:
            reply.headers += _request_id_line(request_id)
        if self._guards.audit is not None:
            await self._guards.record(request, reply, route=route, call=call)
        now_s = services.clock.now_ns() // NANOSECONDS
        sent = await send(request, reply, now_s=now_s)
        label = NO_ROUTE if route is None else route.name
        if "index=" in target.query_text:
            label += WAITING
        took_s = services.clock.monotonic_s() - started_at_s
        self._latency.observe(took_s, label)
        self._answers.add(1.0, _STATUS_LABELS[reply.status])
        if self._is_debugging:
            self._log_answer(request, reply, label, took_s)
        return sent

    async def close(self) -> None:
        """Write down what was answered: the last connection has ended."""
        await self._guards.close()

    def _resolve(self, request: web.BaseRequest) -> Target:
        """Find out where a target leads; short ones without a query are remembered."""
        path, query_text = _split_target(request)
        target = Target(path, query_text, self._routes.find(path))
        is_kept = not query_text and len(request.raw_path) <= KEPT_TARGET_LENGTH_MAX
        if is_kept and target.place.resource is not None:
            if len(self._targets) >= KEPT_TARGETS_MAX:
                self._targets.clear()
            self._targets[request.raw_path] = target
        return target

    def judge_malformed(self, error: BaseException | None) -> tuple[Reply, int]:
        """Return what to answer to bytes that aiohttp's parser refused, and when.

        It refuses unknown methods too. They are wrong methods like others, so the path
        is taken from where the parser says that it stood.
        """
        found = _METHOD_AND_PATH.search(str(error))
        if isinstance(error, BadHttpMethod) and found is not None:
            place = self._routes.find(found[1])
            reply = self._without_route(place, found[1])
            reply.closes = True
        else:
            reply = self._problem(malformed(error), is_write=False)
        return reply, self._services.clock.now_ns() // NANOSECONDS

    def _without_route(self, place: Place, path: str) -> Reply:
        if place.missing:
            return self._problem(Problem(400, place.missing), is_write=False)
        if place.resource is None:
            # Not one of ours, and so without the headers that ours have.
            return problem_reply(no_such_path(path), is_write=False)
        return self._problem(wrong_method(place.resource.allowed), is_write=False)

    async def _answer(self, call: Call, route: Route) -> Reply:
        try:
            if self._guards.has_limits:
                self._guards.admit(call, route)
            if self._has_acls and route.need.looks_at_token:
                await authorize(call, route.need)
            reply = await route.handler(call)
        except NodestateError as error:
            problem = problem_of(error)
            if problem is INTERNAL:
                self._log_defect(call.request, route, error)
            return self._problem(problem, is_write=route.is_write)
        except ConnectionError:
            # The client has gone: aiohttp ends the connection.
            raise
        except Exception as error:  # noqa: BLE001  one request must not end the server
            self._log_defect(call.request, route, error)
            return self._problem(INTERNAL, is_write=route.is_write)
        if self._extra_headers:
            reply.headers += self._extra_headers
        return reply

    def _problem(self, problem: Problem, *, is_write: bool) -> Reply:
        reply = problem_reply(problem, is_write=is_write)
        reply.headers += self._extra_headers
        return reply

    def _log_defect(
        self, request: web.BaseRequest, route: Route, error: Exception
    ) -> None:
        # No path and no body: they may hold what must not be logged.
        self._services.logger.error(
            "request failed",
            route=route.name,
            method=request.method,
            request_id=self._request_id(request),
            exc_info=error,
        )

    def _log_answer(
        self, request: web.BaseRequest, reply: Reply, label: str, took_s: float
    ) -> None:
        self._services.logger.debug(
            "request answered",
            route=label,
            method=request.method,
            status=reply.status,
            took_s=took_s,
            request_id=self._request_id(request),
        )

    def _request_id(self, request: web.BaseRequest) -> str:
        """Return the caller's id for the request, or a new one."""
        sent = request.headers.get(X_REQUEST_ID, "")[:REQUEST_ID_CHARACTERS_MAX]
        return sent if sent.isprintable() and sent else self._services.ids.new_id()


def _split_target(request: web.BaseRequest) -> tuple[str, str]:
    """Return the path, decoded, and the query as it is written."""
    target = request.raw_path
    if not target.startswith("/"):
        # As sent to a proxy: the whole address.
        target = request.rel_url.raw_path_qs
    path, _, query_text = target.partition("?")
    if "#" in query_text or "#" in path:
        path, query_text = path.partition("#")[0], query_text.partition("#")[0]
    if "%" in path:
        path = unquote(path, errors="surrogateescape")
    return path, query_text


def _request_id_line(request_id: str) -> bytes:
    """Return the header that gives the caller's id back, if it can stand in one."""
    if not (request_id.isascii() and request_id.isprintable()):
        return b""
    return f"X-Request-Id: {request_id[:REQUEST_ID_CHARACTERS_MAX]}\r\n".encode("ascii")
