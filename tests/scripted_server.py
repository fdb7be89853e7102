"""A real HTTP server with scripted answers, in the shape that Nomad gives them."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

NODE_ID = "f7476465-4d6e-c0de-26d0-e383c49be941"
OTHER_ID = "f7476465-0000-c0de-26d0-e383c49be942"


class Answer(msgspec.Struct, frozen=True):
    """What to send back: text and bytes as they stand, all else as JSON."""

    body: Any = msgspec.field(default_factory=dict)
    status: int = 200
    index: int = 42
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Asked(msgspec.Struct, frozen=True):
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


def _as_sent(raw: bytes) -> Any:
    """Return a body as JSON, as bytes if it is none, or `None` if there is none."""
    try:
        return msgspec.json.decode(raw) if raw else None
    except msgspec.DecodeError:
        return raw


class ScriptedServer:
    """Answers each path with what it was told, in order; the last answer stays."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._script: dict[str, list[Answer]] = {}
        self.address = ""

    def on(self, path: str, *answers: Answer) -> None:
        self._script[path] = list(answers)

    def script(self, path: str) -> list[Answer]:
        """Return what is still to be answered at a path."""
        return list(self._script[path])

    def add_nodes(self, *nodes: dict[str, Any]) -> None:
        """Serve these nodes in the list and one by one."""
        self.on("/v1/nodes", Answer(list(nodes)))
        for node in nodes:
            self.on(f"/v1/node/{node['ID']}", Answer(node))
            self.on(f"/v1/node/{node['ID']}/allocations", Answer([]))

    def bodies(self, path: str) -> list[Any]:
        return [asked.body for asked in self.asked if asked.path == path]

    def queries(self, path: str) -> list[dict[str, str]]:
        return [asked.query for asked in self.asked if asked.path == path]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        self.asked.append(
            Asked(
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                _as_sent(raw),
            )
        )
        script = self._script.get(request.path)
        if script is None:
            return web.Response(status=404, text=f"nothing at {request.path}")
        answer = script.pop(0) if len(script) > 1 else script[0]
        headers = {"X-Nomad-Index": str(answer.index), **answer.headers}
        if isinstance(answer.body, str):
            return web.Response(text=answer.body, status=answer.status, headers=headers)
        is_encoded = isinstance(answer.body, bytes)
        return web.Response(
            body=answer.body if is_encoded else msgspec.json.encode(answer.body),
            status=answer.status,
            headers=headers,
        )


@contextlib.asynccontextmanager
async def scripted_server(
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ScriptedServer]:
    """Serve a script on a free port, by HTTPS with `tls`."""
    script = ScriptedServer()
    runner = web.ServerRunner(web.Server(script.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = runner.addresses[0][:2]
    script.address = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield script
    finally:
        await runner.cleanup()


def node(**fields: Any) -> dict[str, Any]:
    """Return a node as a server sends it, and as a stub too."""
    return {
        "ID": NODE_ID,
        "Name": "web1",
        "Datacenter": "dc1",
        "NodeClass": "",
        "NodePool": "default",
        "HTTPAddr": "10.0.0.5:4646",
        "Address": "10.0.0.5",
        "Version": "0.10.9",
        "TLSEnabled": False,
        "Attributes": {"kernel.name": "linux", "driver.exec": "1"},
        "Meta": {"rack": "r1"},
        "Links": None,
        "Drivers": {
            "exec": {
                "Attributes": None,
                "Detected": True,
                "Healthy": True,
                "HealthDescription": "",
                "UpdateTime": "2023-11-14T22:00:00.5Z",
            },
            "docker": {"Detected": True, "Healthy": False, "UpdateTime": None},
            "java": {"Detected": False, "Healthy": False},
        },
        "HostVolumes": {"db": {"Name": "db", "Path": "/srv/db", "ReadOnly": True}},
        "NodeResources": {
            "Cpu": {"CpuShares": 4000},
            "Memory": {"MemoryMB": 8192},
            "Disk": {"DiskMB": 51_200},
            "Networks": None,
            "Devices": None,
        },
        "ReservedResources": {
            "Cpu": {"CpuShares": 100},
            "Memory": {"MemoryMB": 192},
            "Disk": {"DiskMB": 0},
            "Networks": {"ReservedHostPorts": "22"},
        },
        "Resources": None,
        "Reserved": None,
        "ComputedClass": "v1:1",
        "SecretID": "",
        "Status": "ready",
        "StatusDescription": "",
        "StatusUpdatedAt": 1_700_000_000,
        "SchedulingEligibility": "eligible",
        "Drain": False,
        "DrainStrategy": None,
        "LastDrain": None,
        "Events": [
            {
                "CreateIndex": 7,
                "Details": None,
                "Message": "Node registered",
                "Subsystem": "Cluster",
                "Timestamp": "2023-11-14T22:00:00Z",
            },
            {
                "CreateIndex": 9,
                "Details": {"driver": "docker", "why": "gone"},
                "Message": "Driver unhealthy",
                "Subsystem": "Driver",
                "Timestamp": "2023-11-14T22:01:00.25Z",
            },
        ],
        "CreateIndex": 7,
        "ModifyIndex": 9,
        **fields,
    }
