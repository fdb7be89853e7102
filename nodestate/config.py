"""What a server can be told: defaults, TOML file, environment, flags, in that order.

Every setting has one name, used everywhere: `log_level` in the file, `NODESTATE_LOG_LEVEL`
in the environment, `-log-level` as a flag. The file is flat, because a flat name needs
no second name for its table; only the servers are a list of tables, at the end:

    name = "server1"
    data_dir = "/var/lib/nodestate"

    [[servers]]
    name = "server1"
    peer = "127.0.0.1:4647"
    http = "127.0.0.1:4646"

In the environment `servers` and `http_response_headers` are JSON, and lists of words have
commas between them. A server that finds itself in `servers` listens at the addresses given
there unless `http` or `peer` says otherwise. Everything is checked once, by `load_config`;
no other module reads the environment of a server.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from nodestate.acl_settings import AclSettings, find_unfit_acl
from nodestate.errors import ConfigError
from nodestate.http_settings import NAME_LISTS, HttpSettings, find_unfit_http
from nodestate.secret import Secret
from nodestate.tls_settings import SECRET_SETTINGS, TlsSettings, find_unfit

ENVIRONMENT_PREFIX: Final = "NODESTATE_"
CLUSTER_SIZES: Final = (1, 3, 5)
HEARTBEATS_PER_ELECTION_TIMEOUT: Final = 3
"""A follower must be able to miss a beat or two without calling an election."""

DEFAULT_READS: Final = "default"
CONSISTENT_READS: Final = "consistent"
"""The modes of `read_consistency`: within the allowed staleness, or linearizable."""

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_NAME_RULE: Final = "1 to 63 letters, digits, '.', '_' or '-', a letter or digit first"
_MIB: Final = 1 << 20
_TEN_YEARS_S: Final = 3650 * 86_400
# A variable of the environment that is no setting is only called a misspelt one if it
# looks much like one: container platforms put names such as NODESTATE_PORT there.
_MISSPELT: Final = 0.8
_ROUNDING: Final = 1e-9  # three times 0.1 is a little more than 0.3


def _number(description: str, ge: float, le: float) -> Meta:
    return Meta(description=description, ge=ge, le=le)


def _name(description: str) -> Meta:
    return Meta(description=description, pattern=_NAME, extra={"allowed": _NAME_RULE})


def _one_of(description: str, *words: str) -> Meta:
    return Meta(
        description=description,
        pattern=f"^({'|'.join(words)})$",
        extra={"allowed": f"one of {', '.join(words)}"},
    )


def _text(description: str) -> Meta:
    return Meta(
        description=description, min_length=1, extra={"allowed": "a text, not empty"}
    )


class ServerEntry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One server of the cluster: its name and the `host:port`s it is reached at."""

    name: str
    peer: str
    http: str


class ServerConfig(AclSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that one server needs to know.

    Building one directly checks nothing; `load_config` and `check_config` do.
    """

    name: Annotated[str, _name("this server's name, unique in the cluster")] = "server1"
    data_dir: Annotated[
        str, _text("where the log is kept; one directory per server")
    ] = ".data/server1"
    region: Annotated[str, _name("the region that this cluster answers for")] = "global"
    datacenter: Annotated[str, _name("where this server stands")] = "dc1"
    http: Annotated[str, _text("host:port to listen at for clients")] = "127.0.0.1:4646"
    peer: Annotated[str, _text("host:port to listen at for the other servers")] = (
        "127.0.0.1:4647"
    )
    servers: Annotated[
        tuple[ServerEntry, ...],
        Meta(
            description="every server of the cluster, this one too; none: this one alone",
            extra={"allowed": "a list of tables, each with name, peer and http"},
        ),
    ] = ()
    # Raft
    raft_heartbeat_s: Annotated[
        float,
        _number("how often a leader tells the others that it is there", ge=0.01, le=10),
    ] = 0.1
    election_timeout_s_min: Annotated[
        float,
        _number("a follower waits at least this long for its leader", ge=0.05, le=60),
    ] = 1.0
    election_timeout_s_max: Annotated[
        float, _number("and at most this long", ge=0.05, le=120)
    ] = 2.0
    segment_bytes: Annotated[
        int, _number("size of one file of the journal", ge=64 << 10, le=1 << 30)
    ] = 16 << 20
    snapshot_entries: Annotated[
        int,
        _number("write a snapshot after so many entries", ge=10, le=1_000_000_000),
    ] = 100_000
    snapshot_bytes: Annotated[
        int, _number("or after so many bytes of entries", ge=64 << 10, le=1 << 40)
    ] = 64 << 20
    snapshot_tail_entries: Annotated[
        int,
        _number(
            "entries kept behind a snapshot, for followers a little behind",
            ge=1,
            le=1_000_000_000,
        ),
    ] = 10_000
    snapshot_bytes_per_second_max: Annotated[
        int,
        _number(
            "at most so much of a snapshot goes to one follower in a second",
            ge=64 << 10,
            le=1 << 40,
        ),
    ] = 64 << 20
    digest_entries: Annotated[
        int,
        _number(
            "servers compare their states every so many entries",
            ge=10,
            le=1_000_000_000,
        ),
    ] = 10_000
    # reads and writes
    propose_timeout_s: Annotated[
        float,
        _number(
            "how long a write may take before its outcome is unknown", ge=0.1, le=60
        ),
    ] = 4.0
    read_staleness_max_s: Annotated[
        float,
        _number(
            "a server that heard from no leader for longer refuses plain reads",
            ge=0.1,
            le=3600,
        ),
    ] = 5.0
    read_consistency: Annotated[
        str,
        _one_of(
            "mode of reads that say neither stale nor consistent",
            DEFAULT_READS,
            CONSISTENT_READS,
        ),
    ] = DEFAULT_READS
    blocking_wait_s_default: Annotated[
        float,
        _number(
            "how long a blocking query waits if it does not say", ge=0.001, le=3600
        ),
    ] = 300.0
    blocking_wait_s_max: Annotated[
        float, _number("how long it may ask to wait", ge=0.001, le=3600)
    ] = 300.0
    # limits
    body_bytes_max: Annotated[
        int, _number("largest body of a request", ge=1024, le=4 * _MIB)
    ] = 1 << 20
    batch_body_bytes_max: Annotated[
        int, _number("largest body of a batch registration", ge=1024, le=4 * _MIB)
    ] = 4 << 20
    batch_nodes_max: Annotated[
        int, _number("most nodes in one batch registration", ge=1, le=5000)
    ] = 500
    header_bytes_max: Annotated[
        int, _number("longest request line, and longest header", ge=1024, le=_MIB)
    ] = 16 << 10
    connections_max: Annotated[
        int, _number("most open connections of clients", ge=1, le=1_000_000)
    ] = 8192
    watchers_max: Annotated[
        int, _number("most blocking queries that wait at once", ge=1, le=1_000_000)
    ] = 8192
    proposals_max: Annotated[
        int, _number("most writes under way at once", ge=1, le=1_000_000)
    ] = 4096
    # heartbeats of nodes
    heartbeat_ttl_s_min: Annotated[
        float,
        _number(
            "shortest time until a node's next heartbeat is due", ge=0.1, le=86_400
        ),
    ] = 10.0
    heartbeats_per_second_max: Annotated[
        float,
        _number(
            "TTLs grow so that all nodes together stay below this", ge=0.01, le=100_000
        ),
    ] = 50.0
    heartbeat_grace_s: Annotated[
        float,
        _number("how late a heartbeat may be before its node is down", ge=0, le=86_400),
    ] = 10.0
    failover_heartbeat_ttl_s: Annotated[
        float,
        _number("TTL that a new leader starts every node with", ge=0.1, le=86_400),
    ] = 300.0
    # what is over
    gc_interval_s: Annotated[
        float,
        _number(
            "how often what is over and old enough is looked for", ge=0.1, le=86_400
        ),
    ] = 300.0
    gc_evaluations_after_s: Annotated[
        float,
        _number(
            "evaluations that are over, and allocations, go after so long",
            ge=0,
            le=_TEN_YEARS_S,
        ),
    ] = 3600.0
    gc_batch_evaluations_after_s: Annotated[
        float,
        _number(
            "those of batch jobs that are still there after so long",
            ge=0,
            le=_TEN_YEARS_S,
        ),
    ] = 86_400.0
    gc_jobs_after_s: Annotated[
        float,
        _number(
            "jobs that are over go after so long, with all there is of them",
            ge=0,
            le=_TEN_YEARS_S,
        ),
    ] = 14_400.0
    gc_nodes_after_s: Annotated[
        float,
        _number(
            "nodes that are down, with nothing live on them, go after so long",
            ge=0,
            le=_TEN_YEARS_S,
        ),
    ] = 86_400.0
    # logs
    log_level: Annotated[
        str,
        _one_of("least important lines to write", "debug", "info", "warning", "error"),
    ] = "info"
    log_format: Annotated[
        str, _one_of("auto: human on a terminal, else json", "auto", "human", "json")
    ] = "auto"


_ACL_SETTINGS: Final = AclSettings.__struct_fields__
_HTTP_SETTINGS: Final = HttpSettings.__struct_fields__
_TLS_SETTINGS: Final = TlsSettings.__struct_fields__
SETTINGS: Final = {
    field.name: field
    for field in sorted(
        msgspec.structs.fields(ServerConfig),
        # Those of ACLs follow; among them are those of HTTP, and of TLS, which come last.
        key=lambda field: (
            (field.name in _ACL_SETTINGS)
            + (field.name in _HTTP_SETTINGS)
            + (field.name in _TLS_SETTINGS)
        ),
    )
}
"""Every setting, in the order in which they are explained."""


def environment_name(setting: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + setting.upper()


def load_config(
    path: Path | None, environment: Mapping[str, str], overrides: Mapping[str, object]
) -> ServerConfig:
    """Return the configuration of a server, checked.

    `overrides` are the flags, by the setting's name. Raises `ConfigError` with a text
    that names where the value came from, the setting, the value and what is allowed.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, setting, raw in _settings(path, environment, overrides):
        values[setting] = _convert(source, setting, raw)
        sources[setting] = source
    file_name = str(path) if path is not None else "settings"
    own_name = values.get("name", ServerConfig().name)
    for entry in values.get("servers", ()):
        if entry.name == own_name:
            values.setdefault("peer", entry.peer)
            values.setdefault("http", entry.http)
    config = ServerConfig(**values)
    check_config(config, sources=sources, file_name=file_name)
    return config


def dev_config(
    port: int,
    data_dir: str,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> ServerConfig:
    """Return the configuration of a server alone, for trying things.

    Port 0 takes a free one, which the server prints. It has nobody to wait for, so it
    elects itself at once.
    """
    alone = {
        "name": "dev",
        "data_dir": data_dir,
        "http": f"127.0.0.1:{port}",
        "peer": "127.0.0.1:0",
        "servers": (),
        "raft_heartbeat_s": 0.05,
        "election_timeout_s_min": 0.2,
        "election_timeout_s_max": 0.4,
        # Little is written, and zeros written ahead would keep a test waiting.
        "segment_bytes": 1 << 20,
    }
    return load_config(None, environment or {}, {**alone, **(overrides or {})})


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`, IPv6 in brackets; `ValueError` if it is none."""
    host, colon, port = address.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not is_bracketed):
        raise ValueError("must be host:port, with an IPv6 host in brackets")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError("the port must be a number from 0 to 65535")
    return (host[1:-1] if is_bracketed else host), int(port)


def _settings(
    path: Path | None, environment: Mapping[str, str], overrides: Mapping[str, object]
) -> Iterator[tuple[str, str, object]]:
    """Yield source, setting and value as written, the strongest last."""
    if path is not None:
        for setting, raw in _read_file(path).items():
            _expect_known(str(path), setting)
            _expect_no_secret(str(path), setting)
            yield str(path), setting, raw
    for variable, raw in _environment_settings(environment):
        setting = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        yield f"environment {variable}", setting, raw
    for setting, raw in overrides.items():
        _expect_known("flags", setting)
        _expect_no_secret("flags", setting)
        yield f"flag -{setting.replace('_', '-')}", setting, raw


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _environment_settings(
    environment: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    for variable, raw in sorted(environment.items()):
        setting = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if variable == environment_name(setting):
            if setting in SETTINGS:
                yield variable, raw
            elif close := difflib.get_close_matches(setting, SETTINGS, 1, _MISSPELT):
                raise ConfigError(
                    f"environment {variable}: no such setting; "
                    f"did you mean {environment_name(close[0])}?"
                )


def _expect_known(source: str, setting: str) -> None:
    if setting in SETTINGS:
        return
    close = difflib.get_close_matches(setting, SETTINGS, 1)
    suggestion = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"{source}: no setting is called {setting!r}{suggestion}")


def _expect_no_secret(source: str, setting: str) -> None:
    """Others see the flags of a process, and configuration files get copied."""
    if setting in SECRET_SETTINGS:
        raise ConfigError(
            f"{source}: {setting}: a secret is set by {environment_name(setting)} in "
            "the environment, or in a file of its own"
        )


def _convert(source: str, setting: str, raw: object) -> Any:
    """Return the value in the setting's type and within its bounds."""
    kind = SETTINGS[setting].type
    if setting in SECRET_SETTINGS and isinstance(raw, str) and raw:
        return Secret(raw)
    is_text = isinstance(raw, str)
    try:
        if is_text and setting in {"servers", "http_response_headers"}:
            assert isinstance(raw, str)
            return msgspec.json.decode(raw.encode(), type=kind)
        if is_text and setting in NAME_LISTS:
            assert isinstance(raw, str)
            return msgspec.convert([word.strip() for word in raw.split(",")], kind)
        return msgspec.convert(raw, kind, strict=not is_text)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        detail = f" ({error})" if setting == "servers" else ""
        raise ConfigError(
            f"{source}: {_shown(setting, raw)}: must be {allowed(setting)}{detail}"
        ) from error


def _shown(setting: str, value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    if setting in SECRET_SETTINGS and value:
        text = "<redacted>"
    return f"{setting} = {text if len(text) <= 80 else text[:77] + '...'}"


def allowed(setting: str) -> str:
    """Say in words which values a setting takes."""
    info = msgspec.inspect.type_info(SETTINGS[setting].type)
    assert isinstance(info, msgspec.inspect.Metadata)
    if info.extra is not None:
        return str(info.extra["allowed"])
    match info.type:
        case msgspec.inspect.IntType(ge=lowest, le=highest):
            return f"a whole number from {lowest} to {highest}"
        case msgspec.inspect.FloatType(ge=lowest, le=highest):
            return f"a number from {lowest} to {highest}"
        case other:
            raise AssertionError(f"{setting}: no words for {other}")


def description(setting: str) -> str:
    """Return what a setting is for, in a line."""
    info = msgspec.inspect.type_info(SETTINGS[setting].type)
    assert isinstance(info, msgspec.inspect.Metadata)
    assert info.extra_json_schema is not None
    return str(info.extra_json_schema["description"])


class _UnfitError(Exception):
    """What is wrong with one setting, before it is known where it came from."""

    def __init__(self, setting: str, value: object, rule: str) -> None:
        super().__init__(f"{_shown(setting, value)}: {rule}")
        self.setting = setting


def check_config(
    config: ServerConfig,
    *,
    sources: Mapping[str, str] | None = None,
    file_name: str = "settings",
) -> None:
    """Raise `ConfigError` unless the settings fit together."""
    try:
        _check_times(config)
        _check_limits(config)
        _check_http(config)
        _check_acls(config)
        _check_tls(config)
        _check_address("http", config.http)
        _check_peer_address(config, "peer", config.peer)
        _check_servers(config)
    except _UnfitError as complaint:
        source = (sources or {}).get(complaint.setting, file_name)
        raise ConfigError(f"{source}: {complaint}") from None


def _check_times(config: ServerConfig) -> None:
    if config.election_timeout_s_max <= config.election_timeout_s_min:
        raise _UnfitError(
            "election_timeout_s_max",
            config.election_timeout_s_max,
            f"must be above election_timeout_s_min, {config.election_timeout_s_min}: "
            "servers that all wait equally long all become candidates at once",
        )
    three_beats_s = config.raft_heartbeat_s * HEARTBEATS_PER_ELECTION_TIMEOUT
    if three_beats_s > config.election_timeout_s_min * (1 + _ROUNDING):
        raise _UnfitError(
            "raft_heartbeat_s",
            config.raft_heartbeat_s,
            "must be at most a third of election_timeout_s_min, "
            f"{config.election_timeout_s_min}",
        )
    if config.blocking_wait_s_default > config.blocking_wait_s_max:
        raise _UnfitError(
            "blocking_wait_s_default",
            config.blocking_wait_s_default,
            f"must be at most blocking_wait_s_max, {config.blocking_wait_s_max}",
        )


def _check_limits(config: ServerConfig) -> None:
    if config.batch_body_bytes_max < config.body_bytes_max:
        raise _UnfitError(
            "batch_body_bytes_max",
            config.batch_body_bytes_max,
            f"must be at least body_bytes_max, {config.body_bytes_max}",
        )


def _check_http(config: ServerConfig) -> None:
    if unfit := find_unfit_http(config):
        raise _UnfitError(*unfit)


def _check_acls(config: ServerConfig) -> None:
    if unfit := find_unfit_acl(config):
        raise _UnfitError(*unfit)


def _check_address(setting: str, address: str) -> tuple[str, int]:
    try:
        return split_address(address)
    except ValueError as error:
        raise _UnfitError(setting, address, str(error)) from error


def _check_tls(config: ServerConfig) -> None:
    if unfit := find_unfit(config, region=config.region):
        setting, rule = unfit
        raise _UnfitError(setting, getattr(config, setting), rule)


def _check_peer_address(config: ServerConfig, setting: str, address: str) -> int:
    """Where servers do not prove who they are, no stranger may reach them."""
    host, port = _check_address(setting, address)
    if not config.has_peer_tls and not is_loopback(host):
        raise _UnfitError(
            setting,
            address,
            "servers listen for each other on the loopback interface only "
            "(127.0.0.0/8, [::1] or localhost) unless they prove who they are: set "
            "cluster_key_file, or peer_tls_cert, peer_tls_key and peer_tls_ca",
        )
    return port


def is_name(text: str) -> bool:
    """Say whether a server, a region or a datacenter may be called so."""
    return re.fullmatch(_NAME.removesuffix("$"), text) is not None


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address of `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_servers(config: ServerConfig) -> None:
    servers = config.servers
    if not servers:
        return
    for entry in servers:
        _check_entry(config, entry)
    for part in ("name", "peer", "http"):
        values = [getattr(entry, part) for entry in servers]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise _UnfitError("servers", twice[0], f"is the {part} of two servers")
    if len(servers) not in CLUSTER_SIZES:
        raise _UnfitError(
            "servers",
            len(servers),
            "a cluster has 1, 3 or 5 servers; one more that makes the number even "
            "survives no failure more",
        )
    _check_own_entry(config)


def _check_entry(config: ServerConfig, entry: ServerEntry) -> None:
    try:
        msgspec.convert(entry.name, SETTINGS["name"].type)
    except msgspec.ValidationError:
        raise _UnfitError(
            "servers", entry.name, f"a server's name must be {_NAME_RULE}"
        ) from None
    peer_port = _check_peer_address(config, "servers", entry.peer)
    _, http_port = _check_address("servers", entry.http)
    if peer_port == 0 or http_port == 0:
        raise _UnfitError(
            "servers", entry.name, "port 0 cannot be reached by the other servers"
        )


def _check_own_entry(config: ServerConfig) -> None:
    own = next((entry for entry in config.servers if entry.name == config.name), None)
    if own is None:
        names = ", ".join(entry.name for entry in config.servers)
        raise _UnfitError(
            "name", config.name, f"is not among the servers, which are {names}"
        )
    if own.peer != config.peer:
        raise _UnfitError(
            "peer",
            config.peer,
            f'differs from the peer address of {own.name} in servers, "{own.peer}"',
        )
