"""Autopilot: what the cluster does about its servers by itself, and how they do.

What Nomad lets operators set is set here by other means: a server counts as healthy as
long as it would not call an election, learners are given their vote as soon as they have
caught up, and nobody is removed but by an operator.
"""

from typing import Final

import msgspec

from nodestate import __version__
from nodestate.api.calls import LEADER_POLL_S, Call
from nodestate.api.fixed_settings import check_unchanged
from nodestate.api.parameters import check_region
from nodestate.api.problems import ProblemError
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.api.status import ALIVE, member_name
from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, OutcomeUnknownError, RequestError
from nodestate.model.duration import format_duration, parse_duration_ns
from nodestate.model.timestamp import NANOSECONDS, Timestamp
from nodestate.ports import HEALTHY_LAG_ENTRIES_MAX, MemberHealth

FAILED: Final = "failed"
UNHEALTHY: Final = 429
FIRST_INDEX: Final = 1
"""At which the cluster was formed, and these settings with it."""
TEXT_MAX: Final = 20
"""Digits of an index."""


class AutopilotConfiguration(Shape, frozen=True, kw_only=True):
    """The settings, in the shape of Nomad's. Durations are texts."""

    cleanup_dead_servers: bool
    last_contact_threshold: str
    max_trailing_logs: int
    server_stabilization_time: str
    enable_redundancy_zones: bool
    disable_upgrade_migration: bool
    enable_custom_upgrades: bool
    create_index: int = FIRST_INDEX
    modify_index: int = FIRST_INDEX


class AutopilotSent(Shape, frozen=True, kw_only=True):
    """The same as it is sent: what is left out is its zero."""

    cleanup_dead_servers: bool = False
    last_contact_threshold: str = ""
    max_trailing_logs: int = 0
    server_stabilization_time: str = ""
    enable_redundancy_zones: bool = False
    disable_upgrade_migration: bool = False
    enable_custom_upgrades: bool = False


class ServerHealth(Shape, frozen=True, kw_only=True):
    """One server. `last_contact` is that with the leader, as seen by the leader."""

    id: str
    name: str
    address: str
    serf_status: str
    version: str
    leader: bool
    last_contact: str
    last_term: int
    last_index: int
    healthy: bool
    voter: bool
    stable_since: Timestamp


class ClusterHealth(Shape, frozen=True, kw_only=True):
    """All of them, and how many may fail before the cluster does."""

    healthy: bool
    failure_tolerance: int
    servers: tuple[ServerHealth, ...]
    leader: str
    voters: tuple[str, ...]
    min_quorum: int


# Configuration


def fixed_configuration(config: ServerConfig) -> AutopilotConfiguration:
    """Return what is so here."""
    contact_ns = round(config.election_timeout_s_min * NANOSECONDS)
    return AutopilotConfiguration(
        cleanup_dead_servers=False,
        last_contact_threshold=format_duration(contact_ns),
        max_trailing_logs=HEALTHY_LAG_ENTRIES_MAX,
        server_stabilization_time=format_duration(0),
        enable_redundancy_zones=False,
        disable_upgrade_migration=False,
        enable_custom_upgrades=False,
    )


async def read_configuration(call: Call) -> Reply:
    """Answer `GET /v1/operator/autopilot/configuration`."""
    call.read_options()
    return call.json(fixed_configuration(call.services.config))


async def write_configuration(call: Call) -> Reply:
    """Answer `PUT /v1/operator/autopilot/configuration`: true if that is how it is.

    With another `cas` than the index it is false, whatever was sent.
    """
    cas = _read_cas(call.query.get("cas", ""))
    try:
        sent = _as_configuration(await call.decoded(AutopilotSent))
    except RequestError as error:
        if isinstance(error, ProblemError) and error.problem.status != 400:
            raise
        raise RequestError(f"Error parsing autopilot config: {error}") from None
    check_region(call.query, call.services.config)
    fixed = fixed_configuration(call.services.config)
    if cas is not None and cas != fixed.modify_index:
        return call.json(value=False)
    check_unchanged("the autopilot configuration", sent, fixed)
    return call.json(value=True)


def _read_cas(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= TEXT_MAX):
        raise RequestError("Error parsing cas value: expected an index")
    return int(text)


def _as_configuration(sent: AutopilotSent) -> AutopilotConfiguration:
    """Return what was sent, its durations written as ours are."""
    fields = msgspec.structs.asdict(sent)
    for name in ("last_contact_threshold", "server_stabilization_time"):
        try:
            fields[name] = format_duration(parse_duration_ns(fields[name] or "0"))
        except ValueError as error:
            raise RequestError(str(error)) from None
    return AutopilotConfiguration(**fields)


# Health


async def read_health(call: Call) -> Reply:
    """Answer `GET /v1/operator/autopilot/health`: 429 with the same JSON if it is bad."""
    call.read_options()
    await call.wait_for_leader()
    health = summarize(await _ask(call), call.services.config)
    return call.json(health, status=200 if health.healthy else UNHEALTHY)


async def _ask(call: Call) -> tuple[MemberHealth, ...]:
    """Return what the leader says, whoever it is by the time it answers."""
    services = call.services
    while True:
        try:
            return await services.admin.health(deadline_s=call.remaining_s())
        except (NoLeaderError, OutcomeUnknownError):
            # Nothing is done, so nothing about it is unknown.
            if call.is_out_of_time():
                raise NoLeaderError("no leader said how the servers do") from None
        await services.clock.sleep(min(LEADER_POLL_S, call.remaining_s()))


def summarize(members: tuple[MemberHealth, ...], config: ServerConfig) -> ClusterHealth:
    """Return the health of a cluster of which this is how its members do."""
    voters = [member for member in members if member.is_voter]
    quorum = len(voters) // 2 + 1
    healthy_count = sum(member.is_healthy for member in voters)
    leader = next((member.server_id for member in members if member.is_leader), "")
    return ClusterHealth(
        healthy=all(member.is_healthy for member in members),
        failure_tolerance=max(healthy_count - quorum, 0),
        servers=tuple(_describe(member, config) for member in members),
        leader=leader,
        voters=tuple(member.server_id for member in voters),
        min_quorum=quorum,
    )


def _describe(member: MemberHealth, config: ServerConfig) -> ServerHealth:
    contact_s = member.contact_s
    is_heard = contact_s is not None and contact_s <= config.election_timeout_s_min
    contact_ns = None if contact_s is None else round(contact_s * NANOSECONDS)
    return ServerHealth(
        id=member.server_id,
        name=member_name(member.server_id, config.region),
        address=member.peer_address,
        serf_status=ALIVE if is_heard else FAILED,
        version=__version__,
        leader=member.is_leader,
        last_contact="" if contact_ns is None else format_duration(contact_ns),
        last_term=member.last_term,
        last_index=member.last_index,
        healthy=member.is_healthy,
        voter=member.is_voter,
        stable_since=Timestamp(member.since_ns),
    )
