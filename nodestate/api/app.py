"""Puts the room together: what aiohttp calls, and what it calls it with."""

from nodestate.api.calls import Dependencies, Services
from nodestate.api.connections import ConnectionServer
from nodestate.api.middleware import Middleware

__all__ = ["Dependencies", "build_server"]


def build_server(dependencies: Dependencies) -> ConnectionServer:
    """Return the server that a listener is given; needs the running loop.

    Not a `web.Application`: its router, signals and middlewares cost more than a read.
    """
    services = Services(dependencies)
    middleware = Middleware(services)
    server = ConnectionServer(
        middleware.handle,
        dependencies.config,
        judge=middleware.judge_malformed,
        on_stop=services.stop,
        on_stopped=middleware.close,
    )
    dependencies.metrics.gauge(
        "nodestate_api_connections",
        "Open connections of clients.",
        lambda: server.connection_count,
    )
    dependencies.metrics.gauge(
        "nodestate_api_waiters",
        "Blocking queries that wait.",
        lambda: services.waiting_count,
    )
    return server
