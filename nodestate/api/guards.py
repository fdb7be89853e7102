"""What stands before every route: where a request comes from, how fast, and who is told.

The middleware asks in this order: `problem_with` of anything that is a request, `admit`
once it is known what it asks for, `record` when there is an answer to it.
"""

import re
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import istr

from nodestate.api.audit import AuditLog, Entry, key_digest
from nodestate.api.callers import NODE_PREFIX, caller_of, client_of
from nodestate.api.calls import Call, Services
from nodestate.api.connections import Connection
from nodestate.api.idempotency import IDEMPOTENCY_KEY
from nodestate.api.needs import NODE_SECRET
from nodestate.api.origins import OriginCheck
from nodestate.api.problems import Problem, ProblemError
from nodestate.api.rates import RequestRates
from nodestate.api.replies import Reply
from nodestate.api.routes import Route
from nodestate.model.command import ANONYMOUS

PARAMETERS_MAX: Final = 64
"""Parameters of one request: each has to be looked at before any is known."""
NO_ROUTE: Final = "none"
X_REQUEST_ID: Final = istr("X-Request-Id")

_INDEX: Final = re.compile(rb"X-Nomad-Index: ([0-9]+)\r\n")


class Guards:
    """Everything that may keep a request from its route, and the log of both."""

    def __init__(self, services: Services) -> None:
        """Build what the settings ask for; `ConfigError` if the audit log cannot be."""
        config = services.config
        self._origins = OriginCheck(config)
        self._rates = RequestRates(config, services.clock)
        self.audit: AuditLog | None = None
        if config.audit_file:
            self.audit = AuditLog(
                config,
                clock=services.clock,
                metrics=services.metrics,
                logger=services.logger,
            )
        is_enforced = self.audit is not None and self.audit.is_enforced
        self.has_limits = self._rates.are_limited or is_enforced
        """Whether there is anything that `admit` looks at."""

    def problem_with(self, request: web.BaseRequest, query_text: str) -> Problem | None:
        """Return why a request is refused whatever it asks for; `None` if it may go on."""
        if query_text and query_text.count("&") >= PARAMETERS_MAX:
            return Problem(400, f"more than {PARAMETERS_MAX} query parameters")
        return self._origins.problem_with(request)

    def admit(self, call: Call, route: Route) -> None:
        """Refuse one that comes too fast, or a write that cannot be written down."""
        problem = self._rates.judge_connection(call.connection())
        if problem is None:
            problem = self._rates.judge_client(client_of(call))
        if problem is None and route.is_write and self.audit is not None:
            problem = self.audit.problem_with_write()
        if problem is not None:
            raise ProblemError(problem)

    async def record(
        self,
        request: web.BaseRequest,
        reply: Reply,
        *,
        route: Route | None,
        call: Call | None,
    ) -> None:
        """Write down what was answered; where that is enforced, a write waits for it."""
        audit = self.audit
        if audit is None:
            return
        name = NO_ROUTE if route is None else route.name
        is_write = route is not None and route.is_write
        if not audit.takes(name, reply.status, is_write=is_write):
            return
        headers = request.headers
        index = _INDEX.search(reply.headers)
        audit.take(
            Entry(
                who=ANONYMOUS if call is None else _who(call, route, reply),
                source=source_of(request),
                method=request.method,
                route=name,
                id="" if call is None else call.id_text,
                namespace="" if call is None else call.query.get("namespace", ""),
                status=reply.status,
                index=0 if index is None else int(index[1]),
                idempotency_key=key_digest(headers.get(IDEMPOTENCY_KEY, "")),
                request_id=headers.get(X_REQUEST_ID, ""),
            )
        )
        if is_write and audit.is_enforced:
            await audit.wait_until_written()

    async def close(self) -> None:
        """Have the rest of the audit log written."""
        if self.audit is not None:
            await self.audit.close()


def _who(call: Call, route: Route | None, reply: Reply) -> str:
    """Return who asked: as it was permitted, since a change may end what that was by."""
    asked_by = call.asked_by()
    if asked_by != ANONYMOUS:
        return asked_by
    is_agents = route is not None and route.need is NODE_SECRET
    if is_agents and call.id_text and reply.status == HTTPStatus.OK:
        # The SecretID was in the body, and was found to be the node's.
        return f"{NODE_PREFIX}{call.id_text}"
    return caller_of(call)


def source_of(request: web.BaseRequest) -> str:
    """Return the address that a request came from, whole."""
    protocol = request.protocol
    name = protocol.peername if isinstance(protocol, Connection) else None
    return str(name[0]) if isinstance(name, tuple) else ""
