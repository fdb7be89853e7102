"""The typed client for what is asked of any server: servers, settings, search, names."""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from nodestate.answers import JobStub, NodeStub
from nodestate.client import NOW, Query, Read, decoded, error_of
from nodestate.client_work import WorkClient
from nodestate.model.naming import nomad_name
from nodestate.model.timestamp import NO_TIME, Timestamp

UNHEALTHY: Final = 429
_AUTOPILOT: Final = "/v1/operator/autopilot"


class _Answer(msgspec.Struct, frozen=True, kw_only=True, rename=nomad_name):
    """What all of these are; what a server leaves out is nothing."""


class AutopilotConfiguration(_Answer, frozen=True, kw_only=True):
    """The settings of autopilot; durations as Go writes them."""

    cleanup_dead_servers: bool = False
    last_contact_threshold: str = ""
    max_trailing_logs: int = 0
    server_stabilization_time: str = ""
    create_index: int = 0
    modify_index: int = 0


class HealthOfServer(_Answer, frozen=True, kw_only=True):
    """How one server does, as the leader sees it."""

    id: str
    name: str = ""
    address: str = ""
    serf_status: str = ""
    version: str = ""
    leader: bool = False
    last_contact: str = ""
    last_term: int = 0
    last_index: int = 0
    healthy: bool = False
    voter: bool = False
    stable_since: Timestamp = NO_TIME


class HealthOfCluster(_Answer, frozen=True, kw_only=True):
    """How all of them do, and how many may fail before the cluster does."""

    healthy: bool = False
    failure_tolerance: int = 0
    servers: tuple[HealthOfServer, ...] = ()
    leader: str = ""
    voters: tuple[str, ...] = ()
    min_quorum: int = 0


class SearchResult(_Answer, frozen=True, kw_only=True):
    """What was found of each kind; `truncations` says of which there is more."""

    matches: dict[str, tuple[str, ...] | None] = msgspec.field(default_factory=dict)
    truncations: dict[str, bool] = msgspec.field(default_factory=dict)
    index: int = 0


class FuzzyMatch(_Answer, frozen=True, kw_only=True):
    """A name, and the ids that lead to it, the outermost first."""

    id: str
    scope: tuple[str, ...] | None = None


class FuzzyResult(_Answer, frozen=True, kw_only=True):
    """What was found of each kind; `truncations` says of which there is more."""

    matches: dict[str, tuple[FuzzyMatch, ...] | None] = msgspec.field(
        default_factory=dict
    )
    truncations: dict[str, bool] = msgspec.field(default_factory=dict)
    index: int = 0


class Namespace(_Answer, frozen=True, kw_only=True):
    """A namespace in which there is something."""

    name: str
    description: str = ""
    create_index: int = 0
    modify_index: int = 0


class NodePool(_Answer, frozen=True, kw_only=True):
    """A pool in which there are nodes."""

    name: str
    description: str = ""
    create_index: int = 0
    modify_index: int = 0


class StatusClient(WorkClient):
    """Talks to one server about servers, settings and names as well as about work."""

    async def server_addresses(self) -> list[str]:
        """Return where the servers reach each other, sorted."""
        return (await self._read("/v1/agent/servers", list[str], NOW)).value

    async def autopilot_configuration(self) -> AutopilotConfiguration:
        """Return what the cluster does about its servers by itself."""
        path = f"{_AUTOPILOT}/configuration"
        return (await self._read(path, AutopilotConfiguration, NOW)).value

    async def cluster_health(self) -> HealthOfCluster:
        """Return how the servers do; a bad health is an answer, not an error."""
        path = f"{_AUTOPILOT}/health"
        reply = await self._send("GET", path, {})
        if reply.status not in {200, UNHEALTHY}:
            raise error_of(reply)
        if not reply.body.startswith(b"{"):
            # Too many requests at once, which is said in plain text.
            raise error_of(reply)
        return decoded(reply, HealthOfCluster)

    async def scheduler_configuration(self) -> dict[str, Any]:
        """Return how the scheduler is set, as it is answered."""
        path = "/v1/operator/scheduler/configuration"
        return (await self._read(path, dict[str, Any], NOW)).value

    async def search(
        self, prefix: str, context: str = "all", *, namespace: str = ""
    ) -> SearchResult:
        """Find ids and names that begin like this, of one kind or of all."""
        body = {"Prefix": prefix, "Context": context}
        options = {"namespace": namespace} if namespace else {}
        reply = await self._change("POST", "/v1/search", options, body=body)
        return decoded(reply, SearchResult)

    async def fuzzy_search(
        self, text: str, context: str = "all", *, namespace: str = ""
    ) -> FuzzyResult:
        """Find names that have this in them, of one kind or of all."""
        body = {"Text": text, "Context": context}
        options = {"namespace": namespace} if namespace else {}
        reply = await self._change("POST", "/v1/search/fuzzy", options, body=body)
        return decoded(reply, FuzzyResult)

    async def namespaces(
        self, query: Query = NOW, *, prefix: str = ""
    ) -> Read[list[Namespace]]:
        """List the namespaces in which there is anything."""
        options = {"prefix": prefix} if prefix else {}
        return await self._read("/v1/namespaces", list[Namespace], query, options)

    async def node_pools(
        self, query: Query = NOW, *, prefix: str = ""
    ) -> Read[list[NodePool]]:
        """List the pools in which there are nodes."""
        options = {"prefix": prefix} if prefix else {}
        return await self._read("/v1/node/pools", list[NodePool], query, options)

    async def pool_nodes(self, pool: str, query: Query = NOW) -> Read[list[NodeStub]]:
        """List the nodes of a pool."""
        path = f"/v1/node/pool/{quote(pool, safe='')}/nodes"
        return await self._read(path, list[NodeStub], query)

    async def pool_jobs(self, pool: str, query: Query = NOW) -> Read[list[JobStub]]:
        """List the jobs of a pool."""
        path = f"/v1/node/pool/{quote(pool, safe='')}/jobs"
        return await self._read(path, list[JobStub], query)
