"""Servers and their health: what clients ask before they ask about nodes.

None of these answers carries an index: they are about servers, not replicated data.
"""

from typing import Final

import msgspec

from nodestate import __version__
from nodestate.api import blocking
from nodestate.api.calls import Call, Services
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.errors import RequestError
from nodestate.ports import ServerAddress

PROTOCOL: Final = 2  # of Nomad's member list, whose numbers typed clients expect
RAFT_PROTOCOL: Final = "3"
ALIVE: Final = "alive"
OK: Final = "ok"
NO_LEADER_KNOWN: Final = "no leader"
IN_DISPUTE: Final = "the servers have different states, and no majority the same"
NO_CLUSTER: Final = (
    "no leader: the cluster has not formed, or not added this server yet"
)
NOT_A_MEMBER: Final = "not a member of the cluster: removed, or not added yet"
NO_CLIENT: Final = "client not enabled"


class Member(Shape, frozen=True, kw_only=True):
    """A server of the cluster, in the shape of Nomad's gossip members."""

    name: str
    addr: str
    port: int
    tags: dict[str, str]
    status: str = ALIVE
    protocol_min: int = 1
    protocol_max: int = 5
    protocol_cur: int = PROTOCOL
    delegate_min: int = 2
    delegate_max: int = 5
    delegate_cur: int = 4


class Members(Shape, frozen=True, kw_only=True):
    """All servers, and which of them answers."""

    server_name: str
    server_region: str
    server_dc: str = msgspec.field(name="ServerDC")
    members: tuple[Member, ...]


class PartHealth(msgspec.Struct, frozen=True):
    """Whether a part of the agent can do its work, and why not."""

    ok: bool
    message: str


async def read_leader(call: Call) -> Reply:
    """Answer `GET /v1/status/leader`."""
    options = call.read_options()
    if not options.is_stale:
        await call.wait_for_leader()
    return call.json(call.services.leader_address())


async def list_peers(call: Call) -> Reply:
    """Answer `GET /v1/status/peers`."""
    call.read_options()
    servers = call.services.leadership.servers()
    return call.json([server.peer_address for server in servers])


async def read_health(call: Call) -> Reply:
    """Answer `GET /v1/agent/health`: 500 with the same JSON if a part is not well."""
    wanted = call.query.get("type", "")
    if wanted not in {"", "server", "client"}:
        raise RequestError("Expect `server` or `client` for `type`")
    health: dict[str, PartHealth] = {}
    if wanted == "client":
        health["client"] = PartHealth(ok=False, message=NO_CLIENT)
    else:
        health["server"] = _server_health(call.services)
    is_well = all(part.ok for part in health.values())
    return call.json(health, status=200 if is_well else 500)


def _server_health(services: Services) -> PartHealth:
    """Say what is wrong; the cause before its consequence."""
    status = services.leadership.status()
    members = services.admin.membership().members
    if not members:
        return PartHealth(ok=False, message=NO_CLUSTER)
    if all(member.server_id != status.server_id for member in members):
        return PartHealth(ok=False, message=NOT_A_MEMBER)
    if services.is_in_dispute():
        return PartHealth(ok=False, message=IN_DISPUTE)
    if status.leader_id is None or not blocking.is_fresh(services):
        return PartHealth(ok=False, message=NO_LEADER_KNOWN)
    return PartHealth(ok=True, message=OK)


async def list_members(call: Call) -> Reply:
    """Answer `GET /v1/agent/members`."""
    config = call.services.config
    servers = call.services.leadership.servers()
    members = Members(
        server_name=config.name,
        server_region=config.region,
        server_dc=config.datacenter,
        members=tuple(
            describe_member(call.services, server, len(servers)) for server in servers
        ),
    )
    return call.json(members)


def describe_member(
    services: Services, server: ServerAddress, server_count: int
) -> Member:
    """Return a server in the shape of Nomad's gossip members."""
    config = services.config
    host, _, port = server.peer_address.rpartition(":")
    size = {"bootstrap": "1"} if server_count == 1 else {"expect": str(server_count)}
    # The leader's address is put together by clients from `Addr` and the tag `port`.
    return Member(
        name=member_name(server.server_id, config.region),
        addr=host.strip("[]"),
        port=int(port),
        tags={
            "role": "nomad",
            "region": config.region,
            "dc": config.datacenter,
            "vsn": "1",
            "mvn": "1",
            "build": __version__,
            "raft_vsn": RAFT_PROTOCOL,
            "id": server.server_id,
            "rpc_addr": host.strip("[]"),
            "port": port,
            **size,
        },
    )


def member_name(server_id: str, region: str) -> str:
    """Return what a server is called in the list of members."""
    return f"{server_id}.{region}"


async def list_regions(call: Call) -> Reply:
    """Answer `GET /v1/regions`: there is one."""
    return call.json([call.services.config.region])
