"""The server that is asked, about itself, and what agents of Nomad can be told to do.

No node runs in a server: there is no `client` among the stats, by which tools know. Who is
a member is in the log, and nobody joins or leaves by gossip: what Nomad does by it is
answered with what to do here.
"""

import sys
from platform import machine, python_version
from typing import Final

import msgspec

from nodestate import __version__
from nodestate.api.calls import Call, Services
from nodestate.api.parameters import check_region
from nodestate.api.problems import INVALID_METHOD, Problem, ProblemError
from nodestate.api.replies import Body, Reply
from nodestate.api.shapes import Shape
from nodestate.api.status import (
    RAFT_PROTOCOL,
    Member,
    describe_member,
    member_name,
)
from nodestate.config import ServerConfig, split_address
from nodestate.errors import RequestError
from nodestate.model.duration import format_duration
from nodestate.model.timestamp import NANOSECONDS
from nodestate.ports import LeadershipStatus, Role, ServerAddress

MISSING_ADDRESS: Final = "missing address to join"
MISSING_NODE: Final = "missing node to force leave"
ADDRESSES_MAX: Final = 100
SHOWN_MAX: Final = 128
NEVER: Final = "never"
REDACTED: Final = "<redacted>"

Stats = dict[str, dict[str, str]]
"""Every value is a text: one number among them, and typed clients read none of it."""


# What is configured


class Version(Shape, frozen=True, kw_only=True):
    """Which version this is, in the parts that Nomad's has."""

    revision: str = ""
    version: str
    version_metadata: str = ""
    version_prerelease: str = ""


class ACLConfig(Shape, frozen=True, kw_only=True):
    """Whether tokens are asked for."""

    enabled: bool


class Addresses(Shape, frozen=True, kw_only=True):
    """Where a server is reached. There is no gossip: peers speak to each other directly."""

    http: str
    rpc: str
    serf: str


class ClientConfig(Shape, frozen=True, kw_only=True):
    """Whether a node runs in the process."""

    enabled: bool = False


class ServerPart(Shape, frozen=True, kw_only=True):
    """Whether it is a server, and of how many. The grace is in nanoseconds."""

    enabled: bool = True
    bootstrap_expect: int
    heartbeat_grace: int


class TLSConfig(Shape, frozen=True, kw_only=True):
    """What is protected; where keys are kept is not shown."""

    ca_file: str = msgspec.field(name="CAFile")
    cert_file: str
    enable_http: bool
    enable_rpc: bool
    key_file: str
    verify_https_client: bool = msgspec.field(name="VerifyHTTPSClient")
    verify_server_hostname: bool


class AgentConfig(Shape, frozen=True, kw_only=True):
    """The settings that Nomad's clients look at, under Nomad's names."""

    acl: ACLConfig
    advertise_addrs: Addresses
    bind_addr: str
    client: ClientConfig = ClientConfig()
    data_dir: str
    datacenter: str
    log_level: str
    node_name: str
    region: str
    server: ServerPart
    tls_config: TLSConfig
    version: Version = Version(version=__version__)


class AgentSelf(msgspec.Struct, frozen=True):
    """A server about itself; the keys are in lower case."""

    config: AgentConfig
    member: Member
    stats: Stats


async def read_self(call: Call) -> Reply:
    """Answer `GET /v1/agent/self`."""
    call.read_options()
    services = call.services
    own = _own_address(services)
    member_count = len(services.leadership.servers())
    answer = AgentSelf(
        config=_describe_config(services.config, own),
        member=describe_member(services, own, member_count),
        stats=_stats(services),
    )
    return call.json(answer)


def _own_address(services: Services) -> ServerAddress:
    """Return where this server is reached, as configured if it is no member."""
    config = services.config
    for server in services.leadership.servers():
        if server.server_id == config.name:
            return server
    return ServerAddress(config.name, config.peer, config.http)


def _describe_config(config: ServerConfig, own: ServerAddress) -> AgentConfig:
    return AgentConfig(
        acl=ACLConfig(enabled=config.acl_enabled),
        advertise_addrs=Addresses(
            http=own.http_address, rpc=own.peer_address, serf=own.peer_address
        ),
        bind_addr=split_address(config.http)[0],
        data_dir=config.data_dir,
        datacenter=config.datacenter,
        log_level=config.log_level.upper(),
        node_name=config.name,
        region=config.region,
        server=ServerPart(
            bootstrap_expect=max(len(config.servers), 1),
            heartbeat_grace=round(config.heartbeat_grace_s * NANOSECONDS),
        ),
        tls_config=TLSConfig(
            ca_file=config.http_tls_client_ca,
            cert_file=config.http_tls_cert,
            enable_http=config.has_http_tls,
            enable_rpc=config.has_peer_tls,
            key_file=REDACTED if config.http_tls_key else "",
            verify_https_client=config.http_tls_verify_client,
            verify_server_hostname=config.has_peer_tls,
        ),
    )


# How it does


def _stats(services: Services) -> Stats:
    status = services.leadership.status()
    servers = services.leadership.servers()
    return {
        "nomad": {
            "server": "true",
            "leader": _word(is_true=status.is_leader),
            "leader_addr": services.leader_address(),
            "bootstrap": _word(is_true=len(servers) == 1),
            "known_regions": "1",
        },
        "raft": _raft_stats(services, status),
        "runtime": {
            "arch": machine(),
            "kernel.name": sys.platform,
            "version": f"python{python_version()}",
        },
        "serf": {"members": str(len(servers))},
    }


def _raft_stats(services: Services, status: LeadershipStatus) -> dict[str, str]:
    membership = services.admin.membership()
    ends = services.admin.log_ends()
    voters = [member for member in membership.members if member.is_voter]
    others = [one for one in voters if one.server_id != status.server_id]
    return {
        "applied_index": str(status.applied_index),
        "commit_index": str(status.commit_index),
        "fsm_pending": str(max(status.commit_index - status.applied_index, 0)),
        "last_contact": _contact(status),
        "last_log_index": str(ends.last_index),
        "last_log_term": str(ends.last_term),
        "last_snapshot_index": str(ends.snapshot_index),
        "last_snapshot_term": str(ends.snapshot_term),
        "latest_configuration": _describe_members(services),
        "latest_configuration_index": str(membership.index),
        "num_peers": str(len(others)),
        "protocol_version": RAFT_PROTOCOL,
        "state": status.role.value.capitalize(),
        "term": str(status.term),
    }


def _contact(status: LeadershipStatus) -> str:
    """Return how long ago the leader was heard of, as Nomad writes it."""
    if status.last_contact_s is None:
        return NEVER
    if status.role is Role.LEADER:
        return "0"
    return format_duration(round(status.last_contact_s * NANOSECONDS))


def _describe_members(services: Services) -> str:
    """Return the members in the words of Nomad's library."""
    described = [
        f"{{Suffrage:{'Voter' if member.is_voter else 'Nonvoter'} "
        f"ID:{member.server_id} Address:{member.peer_address}}}"
        for member in services.admin.membership().members
    ]
    return f"[{' '.join(described)}]"


def _word(*, is_true: bool) -> str:
    return "true" if is_true else "false"


# What agents are told


async def list_servers(call: Call) -> Reply:
    """Answer `GET /v1/agent/servers`: where the servers reach each other, sorted."""
    call.read_options()
    return call.json(
        sorted(server.peer_address for server in call.services.leadership.servers())
    )


async def set_servers(call: Call) -> Reply:
    """Answer `PUT /v1/agent/servers`: only an agent with a node is told its servers."""
    check_region(call.query, call.services.config)
    raise ProblemError(Problem(501, INVALID_METHOD))


class Joined(msgspec.Struct, frozen=True):
    """How many of the servers named are in the cluster, and what to do about the others."""

    num_joined: int
    error: str


async def join(call: Call) -> Reply:
    """Answer `PUT /v1/agent/join`: 200 also if it came to nothing, as Nomad's is.

    Nothing is done: a server is made a member by an operator, who knows its name.
    """
    check_region(call.query, call.services.config)
    if not call.query.get("address", ""):
        raise RequestError(MISSING_ADDRESS)
    # A parameter that is there more than once is looked at once everywhere else.
    addresses = call.request.rel_url.query.getall("address")
    if len(addresses) > ADDRESSES_MAX:
        raise RequestError(f"at most {ADDRESSES_MAX} addresses at once")
    known = {server.peer_address for server in call.services.leadership.servers()}
    others = [address for address in addresses if address not in known]
    shown = ", ".join(address[:SHOWN_MAX] for address in others)
    error = (
        f"no member of the cluster: {shown}; add a server with "
        "PUT /v1/operator/raft/peer?id=&address=&http="
        if others
        else ""
    )
    return call.json(Joined(len(addresses) - len(others), error))


async def force_leave(call: Call) -> Reply:
    """Answer `PUT /v1/agent/force-leave`: who is not a member has left already."""
    check_region(call.query, call.services.config)
    named = call.query.get("node", "")
    if not named:
        raise RequestError(MISSING_NODE)
    region = call.services.config.region
    for member in call.services.admin.membership().members:
        if named in {member.server_id, member_name(member.server_id, region)}:
            text = (
                f"{member.server_id} is a member of the cluster: remove it with "
                f"DELETE /v1/operator/raft/peer?id={member.server_id}"
            )
            raise ProblemError(Problem(409, text))
    return Reply(200, b"", Body(b""))
