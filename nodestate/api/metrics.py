"""What is measured, in Nomad's JSON or in Prometheus' text."""

from nodestate.api.calls import Call
from nodestate.api.replies import Body, Reply
from nodestate.telemetry import PROMETHEUS_CONTENT_TYPE


async def read_metrics(call: Call) -> Reply:
    """Answer `GET /v1/metrics`."""
    services = call.services
    if call.query.get("format", "") == "prometheus":
        header = f"Content-Type: {PROMETHEUS_CONTENT_TYPE}\r\n".encode("ascii")
        text = services.metrics.to_prometheus()
        return Reply(200, header, Body(text.encode()))
    return call.json(services.metrics.summary(services.clock.now_ns()))
