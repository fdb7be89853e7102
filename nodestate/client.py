"""A typed client for the HTTP API, used by the command line, the lab and the tests.

One client talks to one server. It never repeats a request and never follows a redirect:
what was asked once is sent once, so that whoever keeps a history knows what may have
happened. Every request has a deadline. Who wants to ask again gives the write an
`idempotency_key`, and the same one the next time, to this server or another.
"""

import base64
import hashlib
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Generic, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec
from yarl import URL

from nodestate.answers import (
    Allocation,
    BatchRegistered,
    DrainSpec,
    Health,
    Indexed,
    LeadershipTransferred,
    Members,
    NodeStub,
    RaftConfiguration,
    ServerHealth,
    SnapshotSent,
    Written,
)
from nodestate.client_tls import reason_of
from nodestate.errors import (
    ConfigError,
    NodestateError,
    OutcomeUnknownError,
    ResponseError,
    UnreachableError,
)
from nodestate.model.encoding import encode_json, from_json_value
from nodestate.model.node import Node

DEFAULT_ADDRESS: Final = "http://127.0.0.1:4646"
CONNECT_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 10.0
"""For a request that does not wait; longer than a server takes to give up on a write."""

STREAM_IDLE_S: Final = 120.0
"""How long a snapshot may be under way without a byte; making one takes a while."""
RESTORE_S_MAX: Final = 3600.0

BLOCKING_WAIT_S_DEFAULT: Final = 300.0
CONNECTIONS_MAX: Final = 100
ERROR_TEXT_BYTES_MAX: Final = 4096
_JITTER_PART: Final = 16  # a server adds up to a sixteenth to a wait
_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_SNAPSHOT: Final = "/v1/operator/snapshot"
_STREAM_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=STREAM_IDLE_S
)

T = TypeVar("T")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """How a read is to be answered.

    With an `index` the answer waits until there is a newer one, at most `wait_s` seconds.
    """

    index: int = 0
    wait_s: float = 0.0
    stale: bool = False
    consistent: bool = False


NOW: Final = Query()


class Read(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A value, the index it is of, and how fresh the server is. `body` is as sent."""

    value: T
    body: bytes
    index: int
    known_leader: bool
    last_contact_ms: int
    next_token: str = ""


class _Reply(msgspec.Struct, frozen=True):
    """An answer before anybody has looked at it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Talks to one server; use it as an asynchronous context."""

    def __init__(  # noqa: PLR0913  all but the address are options
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str = "",
        region: str = "",
        namespace: str = "",
        accept_gzip: bool = False,
        connections_max: int = CONNECTIONS_MAX,
        tls: ssl.SSLContext | None = None,
        tls_server_name: str = "",
    ) -> None:
        """Take the address as `http://host:port`; raises `ConfigError` if it is none.

        With `https` a server is checked by `tls`, or else by the system's authorities,
        and must be `tls_server_name` where that is not the address's host.
        `connections_max` may be changed until the client is opened.
        """
        self.address = _base_address(address)
        self._everywhere = _present(region=region, namespace=namespace)
        self._headers = {"Accept-Encoding": "gzip" if accept_gzip else "identity"}
        if token:
            self._headers["X-Nomad-Token"] = token
        self.connections_max = connections_max
        self._tls = tls
        self._tls_server_name = tls_server_name or None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.connections_max, ssl=self._tls or True
            ),
            headers=self._headers,
            skip_auto_headers=("Content-Type", "User-Agent"),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def nodes(
        self, query: Query = NOW, *, prefix: str = "", **options: str
    ) -> Read[list[NodeStub]]:
        """List nodes; `options` are the list's own, such as `filter` and `per_page`."""
        return await self._read(
            "/v1/nodes", list[NodeStub], query, _present(prefix=prefix, **options)
        )

    async def node(self, node_id: str, query: Query = NOW) -> Read[Node]:
        """Read one node, by its full id."""
        return await self._read(_node_path(node_id), Node, query)

    async def allocations(
        self, node_id: str, query: Query = NOW
    ) -> Read[list[Allocation]]:
        """Read the allocations of a node."""
        path = _node_path(node_id, "allocations")
        return await self._read(path, list[Allocation], query)

    async def drain(
        self,
        node_id: str,
        spec: DrainSpec | None,
        *,
        mark_eligible: bool = False,
        meta: Mapping[str, str] | None = None,
        idempotency_key: str = "",
    ) -> Written:
        """Start or change a drain, or stop it with `None`."""
        body = {"DrainSpec": spec, "MarkEligible": mark_eligible, "Meta": meta}
        path = _node_path(node_id, "drain")
        return await self._write(path, body, Written, idempotency_key)

    async def set_eligibility(
        self, node_id: str, eligibility: str, *, idempotency_key: str = ""
    ) -> Written:
        """Make a node `eligible` or `ineligible`."""
        body = {"Eligibility": eligibility}
        path = _node_path(node_id, "eligibility")
        return await self._write(path, body, Written, idempotency_key)

    async def evaluate(self, node_id: str, *, idempotency_key: str = "") -> Written:
        """Have whatever concerns a node looked at again."""
        path = _node_path(node_id, "evaluate")
        return await self._write(path, {}, Written, idempotency_key)

    async def purge(self, node_id: str, *, idempotency_key: str = "") -> Written:
        """Remove a node."""
        path = _node_path(node_id, "purge")
        return await self._write(path, {}, Written, idempotency_key)

    async def register(
        self, node: Mapping[str, object], *, idempotency_key: str = ""
    ) -> Written:
        """Register a node: its record as JSON has it, with its `SecretID`."""
        body = {"Node": node}
        return await self._write("/v1/nodes", body, Written, idempotency_key)

    async def register_batch(
        self, nodes: Sequence[Mapping[str, object]], *, idempotency_key: str = ""
    ) -> BatchRegistered:
        """Register many nodes at once, each accepted or refused on its own."""
        body = {"Nodes": nodes}
        return await self._write("/v1/nodes", body, BatchRegistered, idempotency_key)

    async def heartbeat(
        self, node_id: str, secret_id: str, status: str = ""
    ) -> Written:
        """Say that a node lives, and in which status if that changes."""
        body = _present(SecretID=secret_id, Status=status)
        return await self._write(_node_path(node_id, "heartbeat"), body, Written)

    async def emit_events(
        self,
        node_id: str,
        secret_id: str,
        events: Sequence[Mapping[str, object]],
        *,
        idempotency_key: str = "",
    ) -> Written:
        """Add lines to a node's history."""
        body = {"SecretID": secret_id, "NodeEvents": events}
        path = _node_path(node_id, "events")
        return await self._write(path, body, Written, idempotency_key)

    async def assigned(
        self, node_id: str, secret_id: str, kind: type[T], query: Query = NOW
    ) -> Read[list[T]]:
        """Read the allocations of a node as its agent does, each one as a `kind`.

        They are sent as they are: a node's few are read by one, and often.
        """
        path = _node_path(node_id, "allocations")
        headers = {"X-Nomad-Token": secret_id, "Accept-Encoding": "identity"}
        return await self._read(path, list[kind], query, headers=headers)  # type: ignore[valid-type]

    async def report(
        self, node_id: str, secret_id: str, reports: Sequence[object]
    ) -> Indexed:
        """Say how the allocations of a node do, as its agent does."""
        body = {"SecretID": secret_id, "Alloc": reports}
        path = _node_path(node_id, "allocations")
        return await self._write(path, body, Indexed)

    async def leader(self, region: str = "") -> str:
        """Return the leader's peer address, empty if none is known."""
        options = _present(region=region)
        return (await self._read("/v1/status/leader", str, NOW, options)).value

    async def peers(self) -> list[str]:
        """Return the peer addresses of all servers."""
        return (await self._read("/v1/status/peers", list[str], NOW)).value

    async def members(self) -> Read[Members]:
        """Return the servers of the cluster."""
        return await self._read("/v1/agent/members", Members, NOW)

    async def health(self) -> ServerHealth:
        """Return this server's health; a bad one is an answer, not an error."""
        reply = await self._send("GET", "/v1/agent/health", {"type": "server"})
        if reply.status not in {200, 500}:
            raise error_of(reply)
        return decoded(reply, Health).server

    async def raft_configuration(self, *, stale: bool = False) -> RaftConfiguration:
        """Return the members; with `stale` as the server knows them, leader or not."""
        path = "/v1/operator/raft/configuration"
        query = Query(stale=stale)
        return (await self._read(path, RaftConfiguration, query)).value

    async def add_peer(self, server_id: str, *, address: str, http: str) -> int:
        """Add a server without a vote, or change its addresses; return the index."""
        parameters = {"id": server_id, "address": address, "http": http}
        reply = await self._change("POST", "/v1/operator/raft/peer", parameters)
        return decoded(reply, Indexed).index

    async def remove_peer(self, *, server_id: str = "", address: str = "") -> None:
        """Remove a server from the cluster, named by either.

        aiohttp sends a DELETE once more if the connection breaks. That removes nothing
        else, but the server may say then that there is no such peer: it is gone.
        """
        parameters = _present(id=server_id, address=address)
        await self._change("DELETE", "/v1/operator/raft/peer", parameters)

    async def transfer_leadership(
        self, *, server_id: str = "", address: str = ""
    ) -> LeadershipTransferred:
        """Hand leadership to a voter, named by either; to whom fits best for neither."""
        path = "/v1/operator/raft/transfer-leadership"
        parameters = _present(id=server_id, address=address)
        reply = await self._change("POST", path, parameters)
        return decoded(reply, LeadershipTransferred)

    async def collect_garbage(self) -> None:
        """Remove what is over, however old it is."""
        await self._change("PUT", "/v1/system/gc", {})

    async def reconcile_summaries(self) -> None:
        """Ask for what is always done already."""
        await self._change("PUT", "/v1/system/reconcile/summaries", {})

    async def save_snapshot(
        self, write: Callable[[bytes], object], *, stale: bool = False
    ) -> SnapshotSent:
        """Hand a snapshot to `write` as it arrives; return what it was.

        `ResponseError` if it is not what the server's digest says: what was written is
        to be thrown away then, as after any other error.
        """
        url = self._url(_SNAPSHOT, _query_parameters(Query(stale=stale)))
        sha256, byte_count = hashlib.sha256(), 0
        try:
            async with self._opened().get(
                url,
                timeout=_STREAM_TIMEOUT,
                allow_redirects=False,
                server_hostname=self._tls_server_name,
            ) as response:
                if response.status != 200:
                    body = await response.read()
                    raise error_of(_Reply(response.status, response.headers, body))
                async for piece in response.content.iter_any():
                    write(piece)
                    sha256.update(piece)
                    byte_count += len(piece)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise self._failure("GET", url, error, STREAM_IDLE_S) from error
        said = response.headers.get("Digest", "")
        if said != _digest_header(sha256.digest()):
            raise ResponseError(
                response.status,
                f"the snapshot is not what the server says it is: {said or 'no digest'}",
            )
        return SnapshotSent(
            index=int(response.headers.get("X-Nomad-Index", "0")),
            byte_count=byte_count,
            sha256=sha256.hexdigest(),
        )

    async def restore_snapshot(
        self, path: Path, *, force: bool = False, idempotency_key: str = ""
    ) -> int:
        """Put a snapshot in place of all that there is; return the index of that.

        With `force` a restore that was begun by another and not ended is given up. The
        file is read twice, once for its digest; `OSError` if it cannot be.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            headers = {"Digest": _digest_header(sha256)}
            if idempotency_key:
                headers["Idempotency-Key"] = idempotency_key
            reply = await self._send(
                "POST",
                _SNAPSHOT,
                {"force": "true"} if force else {},
                body=file,
                headers=headers,
                timeout_s=RESTORE_S_MAX,
            )
        if reply.status != 200:
            raise error_of(reply)
        return int(reply.headers.get("X-Nomad-Index", "0"))

    async def agent(self) -> dict[str, Any]:
        """Return what the server says about itself: `config`, `member`, `stats`."""
        return (await self._read("/v1/agent/self", dict[str, Any], NOW)).value

    async def metrics(self) -> dict[str, Any]:
        """Return the metrics in Nomad's JSON."""
        return (await self._read("/v1/metrics", dict[str, Any], NOW)).value

    async def metrics_text(self) -> str:
        """Return the metrics in Prometheus' text form."""
        reply = await self._send("GET", "/v1/metrics", {"format": "prometheus"})
        if reply.status != 200:
            raise error_of(reply)
        return reply.body.decode()

    async def _read(
        self,
        path: str,
        kind: type[T],
        query: Query,
        options: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Read[T]:
        parameters = {**_query_parameters(query), **(options or {})}
        timeout_s = REQUEST_TIMEOUT_S
        if query.index > 0:
            wait_s = query.wait_s or BLOCKING_WAIT_S_DEFAULT
            timeout_s += wait_s + wait_s / _JITTER_PART
        reply = await self._send(
            "GET", path, parameters, headers=headers, timeout_s=timeout_s
        )
        if reply.status != 200:
            raise error_of(reply)
        return Read(
            value=decoded(reply, kind),
            body=reply.body,
            index=int(reply.headers.get("X-Nomad-Index", "0")),
            known_leader=reply.headers.get("X-Nomad-KnownLeader") == "true",
            last_contact_ms=int(reply.headers.get("X-Nomad-LastContact", "0")),
            next_token=reply.headers.get("X-Nomad-NextToken", ""),
        )

    async def _write(
        self, path: str, body: object, kind: type[T], idempotency_key: str = ""
    ) -> T:
        # Not PUT: aiohttp sends that again by itself when a kept connection breaks.
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        reply = await self._send(
            "POST", path, {}, body=encode_json(body), headers=headers
        )
        if reply.status != 200:
            raise error_of(reply)
        return decoded(reply, kind)

    async def _change(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        body: object = None,
        idempotency_key: str = "",
    ) -> _Reply:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        encoded = None if body is None else encode_json(body)
        reply = await self._send(
            method, path, parameters, body=encoded, headers=headers
        )
        if reply.status != 200:
            raise error_of(reply)
        return reply

    async def _send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        body: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> _Reply:
        url = self._url(path, parameters)
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._opened().request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=self._tls_server_name,
            ) as response:
                return _Reply(response.status, response.headers, await response.read())
        except (TimeoutError, aiohttp.ClientError) as error:
            raise self._failure(method, url, error, timeout_s) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client as an asynchronous context")
        return self._session

    def _url(self, path: str, parameters: Mapping[str, str]) -> URL:
        query = urlencode({**self._everywhere, **parameters})
        return URL(f"{self.address}{path}?{query}".removesuffix("?"), encoded=True)

    def _failure(
        self, method: str, url: URL, error: Exception, timeout_s: float
    ) -> NodestateError:
        """Return what it means that no answer came."""
        if isinstance(error, _NOT_SENT):
            return UnreachableError(_no_connection(self.address, error))
        reason = str(error) or f"no answer within {timeout_s:g} s"
        if method == "GET":
            return UnreachableError(f"{method} {url}: {reason}")
        return OutcomeUnknownError(
            f"{method} {url}: {reason}; it may have happened all the same"
        )


def _base_address(address: str) -> str:
    text = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"address {address!r}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"address {address!r}: must be like {DEFAULT_ADDRESS}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def _node_path(node_id: str, action: str = "") -> str:
    path = f"/v1/node/{quote(node_id, safe='')}"
    return f"{path}/{action}" if action else path


def _present(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _query_parameters(query: Query) -> dict[str, str]:
    parameters = {}
    if query.index > 0:
        parameters["index"] = str(query.index)
    if query.wait_s > 0:
        parameters["wait"] = f"{round(query.wait_s * 1000)}ms"
    if query.stale:
        parameters["stale"] = "true"
    if query.consistent:
        parameters["consistent"] = "true"
    return parameters


def decoded(reply: _Reply, kind: type[T]) -> T:
    """Return the body of an answer as what it is to be; `ResponseError` if it is not."""
    try:
        return msgspec.json.decode(reply.body, type=kind, dec_hook=from_json_value)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ResponseError(reply.status, f"unexpected body: {error}") from error


def _digest_header(sha256: bytes) -> str:
    return f"sha-256={base64.b64encode(sha256).decode()}"


def error_of(reply: _Reply) -> ResponseError:
    """Return the error for an answer that is none."""
    return ResponseError(
        reply.status,
        reply.body[:ERROR_TEXT_BYTES_MAX].decode(errors="replace"),
        outcome=reply.headers.get("X-Nodestate-Outcome", ""),
    )


def _no_connection(address: str, error: Exception) -> str:
    reason = "timed out"
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, ssl.SSLError):
            return f"no connection to {address}: TLS: {reason_of(cause)}"
        code = cause.errno or 0
        reason = os.strerror(code) if code > 0 else cause.strerror or str(cause)
    return f"no connection to {address}: {reason}"
