"""A cluster that keeps what agents tell it, without a socket."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from nodestate.agents.assignments import Assignment, Report
from nodestate.answers import BatchRegistered, Indexed, Registered, Written
from nodestate.client import NOW, Client, Query, Read
from nodestate.errors import NodestateError, ResponseError, UnreachableError
from nodestate.model.encoding import from_json_value
from tests.agents.assigned import allocation_json
from tests.fakes import FakeClock

TTL_S = 10


class FakeCluster:
    """Nodes, their allocations, and who watches; the TTL is always 10 s."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.index = 1
        self.secrets: dict[str, str] = {}
        self.statuses: dict[str, str] = {}
        self.heartbeats: list[tuple[float, str, str]] = []
        self.batches: list[int] = []
        self.reports: list[list[Report]] = []
        self.reports_at_s: list[float] = []
        self.allocations: dict[str, dict[str, Assignment]] = {}
        self._changed = asyncio.Event()

    def add(self, node_id: str, name: str = "a", kind: str = "batch", **fields: Any):
        """Place an allocation."""
        sent = allocation_json(kind, **{"ID": name, "NodeID": node_id, **fields})
        assignment = msgspec.json.decode(
            msgspec.json.encode(sent), type=Assignment, dec_hook=from_json_value
        )
        self.put(node_id, assignment)

    def put(self, node_id: str, assignment: Assignment) -> None:
        """Change an allocation, and wake whoever watches."""
        self.allocations.setdefault(node_id, {})[assignment.id] = assignment
        self.change()

    def update(self, node_id: str, name: str = "a", **fields: Any) -> None:
        known = self.allocations[node_id][name]
        self.put(node_id, msgspec.structs.replace(known, **fields))

    def change(self) -> None:
        self.index += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def status_of(self, node_id: str, name: str = "a") -> str:
        return self.allocations[node_id][name].client_status

    def last_report(self, name: str) -> Report:
        """Return what was last said of an allocation."""
        said = [one for batch in self.reports for one in batch if one.id == name]
        return said[-1]

    async def wait_past(self, index: int, wait_s: float) -> None:
        timer = self.clock.call_later(wait_s, self._changed.set)
        while self.index <= index:
            await self._changed.wait()
            if self._changed.is_set():
                break
        timer.cancel()


class FakeClient:
    """One server of the cluster. `error` is what it raises instead of an answer."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.error: NodestateError | None = None
        self.asked_count = 0
        self.is_open = False
        self.connections_max = 100

    async def __aenter__(self) -> Self:
        self.is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_open = False

    async def register_batch(self, nodes: Sequence[dict[str, Any]]) -> BatchRegistered:
        self._ask()
        self.cluster.batches.append(len(nodes))
        results = tuple(self._registered(node) for node in nodes)
        return BatchRegistered(index=2, results=results)

    async def register(self, node: dict[str, Any]) -> Written:
        self._ask()
        return self._registered(node)

    async def heartbeat(
        self, node_id: str, secret_id: str, status: str = ""
    ) -> Written:
        self._ask()
        self._check(node_id, secret_id)
        now_s = self.cluster.clock.monotonic_s()
        self.cluster.heartbeats.append((now_s, node_id, status))
        self.cluster.statuses[node_id] = status or "ready"
        return Written(heartbeat_ttl=TTL_S * 1_000_000_000)

    async def assigned(
        self, node_id: str, secret_id: str, kind: type[Any], query: Query = NOW
    ) -> Read[list[Any]]:
        self._ask()
        if query.index:
            await self.cluster.wait_past(query.index, query.wait_s)
        value = list(self.cluster.allocations.get(node_id, {}).values())
        return Read(
            value=value,
            body=b"",
            index=self.cluster.index,
            known_leader=True,
            last_contact_ms=0,
        )

    async def report(
        self, node_id: str, secret_id: str, reports: Sequence[Report]
    ) -> Indexed:
        self._ask()
        self._check(node_id, secret_id)
        self.cluster.reports.append(list(reports))
        self.cluster.reports_at_s.append(self.cluster.clock.monotonic_s())
        for report in reports:
            self.cluster.update(
                node_id,
                report.id,
                client_status=report.client_status,
                task_states=report.task_states,
                deployment_status=report.deployment_status,
            )
        return Indexed(index=self.cluster.index)

    async def purge(self, node_id: str) -> Written:
        self._ask()
        if self.cluster.secrets.pop(node_id, None) is None:
            raise ResponseError(404, "node not found")
        return Written()

    def _registered(self, node: dict[str, Any]) -> Registered:
        node_id = node["ID"]
        known = self.cluster.secrets.setdefault(node_id, node["SecretID"])
        if known != node["SecretID"]:
            return Registered(id=node_id, error="node secret ID does not match")
        self.cluster.statuses[node_id] = node["Status"]
        return Registered(id=node_id, heartbeat_ttl=TTL_S * 1_000_000_000)

    def _check(self, node_id: str, secret_id: str) -> None:
        if node_id not in self.cluster.secrets:
            raise ResponseError(404, "node not found")
        if self.cluster.secrets[node_id] != secret_id:
            raise ResponseError(403, "node secret ID does not match")

    def _ask(self) -> None:
        self.asked_count += 1
        if self.error is not None:
            raise self.error


def as_clients(*fakes: FakeClient) -> list[Client]:
    """Hand them out as what they stand in for."""
    return [cast(Client, fake) for fake in fakes]


def unreachable() -> UnreachableError:
    return UnreachableError("no connection")
