"""What a server can be told: defaults, TOML file, environment, flags, in that order.

One frozen class, checked once at start, with the unit in each name. No other module
reads the environment.
"""

import msgspec


class ServerEntry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One server of the cluster: its name and the `host:port`s it is reached at."""

    name: str
    peer: str
    http: str


class ServerConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Everything that one server needs to know."""

    name: str = "server1"
    data_dir: str = ".data/server1"
    region: str = "global"
    datacenter: str = "dc1"
    http: str = "127.0.0.1:4646"
    peer: str = "127.0.0.1:4647"
    servers: tuple[ServerEntry, ...] = ()  # empty: this server alone
    # Raft
    raft_heartbeat_s: float = 0.1
    election_timeout_s_min: float = 1.0
    election_timeout_s_max: float = 2.0
    segment_bytes: int = 64 << 20
    # reads and writes
    propose_timeout_s: float = 4.0
    read_staleness_max_s: float = 5.0
    blocking_wait_s_default: float = 300.0
    blocking_wait_s_max: float = 300.0
    # limits
    body_bytes_max: int = 1 << 20
    batch_body_bytes_max: int = 4 << 20
    batch_nodes_max: int = 500
    connections_max: int = 8192
    watchers_max: int = 8192
    proposals_max: int = 4096
    # heartbeats of nodes
    heartbeat_ttl_s_min: float = 10.0
    heartbeats_per_second_max: float = 50.0
    heartbeat_grace_s: float = 10.0
    failover_heartbeat_ttl_s: float = 300.0
    # logs
    log_level: str = "info"
    log_format: str = "auto"  # auto, human, json
    http_response_headers: dict[str, str] = {}
