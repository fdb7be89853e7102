"""Settings: where they come from, what each takes, and how a mistake is reported."""

import json
from pathlib import Path

import msgspec
import pytest

from nodestate.config import (
    SETTINGS,
    ServerConfig,
    ServerEntry,
    allowed,
    description,
    dev_config,
    environment_name,
    load_config,
    split_address,
)
from nodestate.errors import ConfigError

LOCAL = Path(__file__).parent.parent / "cluster" / "local"
DOCS = Path(__file__).parent.parent / "docs"
THREE = [
    {"name": f"s{n}", "peer": f"127.0.0.1:{n}7", "http": f"127.0.0.1:{n}6"}
    for n in (1, 2, 3)
]
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER_KEY = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
NEEDED_BESIDE = {
    "peer_tls_cert": ["peer_tls_key", "peer_tls_ca"],
    "peer_tls_key": ["peer_tls_cert", "peer_tls_ca"],
    "peer_tls_ca": ["peer_tls_cert", "peer_tls_key"],
    "http_tls_cert": ["http_tls_key"],
    "http_tls_key": ["http_tls_cert"],
    "http_tls_client_ca": ["http_tls_cert", "http_tls_key"],
    "http_tls_verify_client": ["http_tls_client_ca", "http_tls_cert", "http_tls_key"],
    "audit_enforced": ["audit_file"],
}


def write(directory: Path, text: str) -> Path:
    path = directory / "server.toml"
    path.write_text(text)
    return path


def complaint(
    path: Path | None = None,
    environment: dict[str, str] | None = None,
    overrides: dict[str, object] | None = None,
) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environment or {}, overrides or {})
    return str(caught.value)


def cluster(servers: list[dict[str, str]], **others: str) -> dict[str, str]:
    return {"NODESTATE_SERVERS": json.dumps(servers), "NODESTATE_NAME": "s1"} | others


def test_without_anything_the_defaults_hold():
    assert load_config(None, {}, {}) == ServerConfig()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    path = write(tmp_path, 'log_level = "error"\nregion = "eu"\nname = "a"\n')
    environment = {"NODESTATE_LOG_LEVEL": "debug", "NODESTATE_REGION": "us"}

    config = load_config(path, environment, {"log_level": "warning"})

    assert (config.name, config.region, config.log_level) == ("a", "us", "warning")


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_can_be_set_by_the_environment(setting):
    samples = {
        "servers": '[{"name":"server1","peer":"127.0.0.1:4647","http":"127.0.0.1:1"}]',
        "http_response_headers": '{"X-Cluster": "blue"}',
        "http": "0.0.0.0:80",
        "peer": "[::1]:4647",
        "log_level": "debug",
        "log_format": "json",
        "read_consistency": "consistent",
        "raft_heartbeat_s": "0.05",
        "blocking_wait_s_max": "301",
        "election_timeout_s_min": "0.5",
        "election_timeout_s_max": "3.5",
        "cluster_keys": f"{KEY} {OTHER_KEY}",
        "http_tls_verify_client": "true",
        "acl_enabled": "true",
        "http_hosts_allowed": "nodes.example, nodes",
        "http_origins_allowed": "https://nodes.example",
        "requests_per_second_max": "0.5",
        "connection_requests_per_second_max": "1",
        "audit_requests": "all",
        "audit_enforced": "true",
    }
    default = getattr(ServerConfig(), setting)
    text = samples.get(setting)
    if text is None:
        text = default + "x" if isinstance(default, str) else str(default - 1)

    beside = dict.fromkeys(NEEDED_BESIDE.get(setting, ()), "file")
    environment = {environment_name(name): value for name, value in beside.items()}

    config = load_config(None, {environment_name(setting): text, **environment}, {})

    assert getattr(config, setting) != default
    if setting not in {"servers", "http"}:
        others = {name: getattr(config, name) for name in SETTINGS if name != setting}
        defaults = {name: getattr(ServerConfig(), name) for name in others}
        assert others == defaults | beside


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_refuses_what_is_no_value_of_it(setting):
    text = complaint(None, {environment_name(setting): ""})

    assert text.startswith(f'environment {environment_name(setting)}: {setting} = "": ')
    assert text.endswith(allowed(setting)) or setting == "servers"


def test_both_sides_of_a_bound():
    lowest, highest = {"raft_heartbeat_s": "0.01"}, {"election_timeout_s_max": "120"}
    assert load_config(None, {}, lowest).raft_heartbeat_s == 0.01
    assert load_config(None, {}, highest).election_timeout_s_max == 120.0

    assert complaint(overrides={"raft_heartbeat_s": "0.009"}) == (
        'flag -raft-heartbeat-s: raft_heartbeat_s = "0.009": '
        "must be a number from 0.01 to 10"
    )
    assert complaint(overrides={"election_timeout_s_max": "120.1"}).endswith(
        "must be a number from 0.05 to 120"
    )
    for nonsense in ("nan", "inf", "1s", "-1"):
        assert "must be a number" in complaint(
            overrides={"propose_timeout_s": nonsense}
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("body_bytes_max = 1", "body_bytes_max = 1: must be a whole number from 1024 to"),
        ("body_bytes_max = 2000.5", "body_bytes_max = 2000.5: must be a whole number"),
        ("log_level = true", "log_level = True: must be one of debug, info, warning, error"),
        ("name = \"a b\"", 'name = "a b": must be 1 to 63 letters'),
        ("log_levl = 'info'", "no setting is called 'log_levl'; did you mean log_level?"),
        ("zzz = 1", "no setting is called 'zzz'"),
        ("name = ", "not valid TOML: Invalid value (at end of document)"),
        ("http = 'localhost'", 'http = "localhost": must be host:port'),
        ("http = '::1:80'", 'http = "::1:80": must be host:port, with an IPv6 host'),
        ("http = 'localhost:65536'", "the port must be a number from 0 to 65535"),
        ("peer = '10.0.0.1:4647'", 'peer = "10.0.0.1:4647": servers listen for each'),
        ("peer = '0.0.0.0:4647'", 'peer = "0.0.0.0:4647": servers listen for each'),
        ("peer = 'db1.example:4647'", "on the loopback interface only"),
        ("[[servers]]\nname = 'x'", "(Object missing required field `peer` - at `$[0]`)"),
        (
            "[[servers]]\nname='a'\npeer='b'\nhttp='c'\nrole='d'",
            "(Object contains unknown field `role` - at `$[0]`)",
        ),
        ("[http_response_headers]\n'a b' = 'x'", "a name is letters, digits"),
        ("[http_response_headers]\na = \"x\\ny\"", "a text has no line breaks"),
        (
            "election_timeout_s_min = 2",
            "election_timeout_s_max = 2.0: must be above election_timeout_s_min, 2.0",
        ),
        (
            "raft_heartbeat_s = 0.4",
            "raft_heartbeat_s = 0.4: must be at most a third of "
            "election_timeout_s_min, 1.0",
        ),
        (
            "blocking_wait_s_max = 60",
            "blocking_wait_s_default = 300.0: must be at most blocking_wait_s_max, 60.0",
        ),
        (
            "batch_body_bytes_max = 1024",
            "batch_body_bytes_max = 1024: must be at least body_bytes_max, 1048576",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named_with_the_file(tmp_path, text, expected):
    path = write(tmp_path, text)

    message = complaint(path)

    assert message.startswith(f"{path}: ")
    assert expected in message


def test_three_heartbeats_may_just_fit_into_an_election_timeout():
    fitting = {"raft_heartbeat_s": "0.1", "election_timeout_s_min": "0.3"}

    assert load_config(None, {}, fitting).raft_heartbeat_s == 0.1


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert complaint(tmp_path / "none.toml") == (
        f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"
    )


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "latin1.toml"
    path.write_bytes(b'name = "\xe9"')

    assert complaint(path) == f"{path}: not UTF-8 at byte 8"


def test_a_misspelt_variable_is_named_and_a_stranger_is_left_alone():
    assert complaint(None, {"NODESTATE_LOG_LEVL": "debug"}) == (
        "environment NODESTATE_LOG_LEVL: no such setting; "
        "did you mean NODESTATE_LOG_LEVEL?"
    )
    strangers = {
        "NODESTATE_PORT": "tcp://10.0.0.1:80",
        "NODESTATE_SERVICE_HOST": "10.0.0.1",
        "NODESTATE_ADDR": "http://127.0.0.1:1",
        "NODESTATE_TOKEN": "t",
        "NODESTATE_SECRET_ID": "s",
        "NODESTATE_NAMESPACE": "n",
        "NODESTATE_FAIL": "f",
        "nodestate_log_level": "no",
        "HTTP": "no",
    }
    assert load_config(None, strangers, {}) == ServerConfig()


def test_a_server_listens_where_the_list_of_servers_says():
    config = load_config(None, cluster(THREE), {})

    assert (config.peer, config.http) == ("127.0.0.1:17", "127.0.0.1:16")
    assert config.servers[1] == ServerEntry(
        name="s2", peer="127.0.0.1:27", http="127.0.0.1:26"
    )


def test_http_may_listen_elsewhere_than_it_is_reached():
    config = load_config(None, cluster(THREE, NODESTATE_HTTP="0.0.0.0:16"), {})

    assert config.http == "0.0.0.0:16"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_a_cluster_has_one_three_or_five_servers(count):
    servers = [
        {"name": f"s{n}", "peer": f"127.0.0.1:{n}7", "http": f"127.0.0.1:{n}6"}
        for n in range(1, count + 1)
    ]
    if count in {1, 3, 5}:
        assert len(load_config(None, cluster(servers), {}).servers) == count
    else:
        assert f"servers = {count}: a cluster has 1, 3 or 5 servers" in complaint(
            None, cluster(servers)
        )


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        ("name", "s1", 'servers = "s1": is the name of two servers'),
        ("peer", "127.0.0.1:17", 'servers = "127.0.0.1:17": is the peer of two servers'),
        ("http", "127.0.0.1:16", 'servers = "127.0.0.1:16": is the http of two servers'),
        ("name", "s 3", "servers = \"s 3\": a server's name must be 1 to 63 letters"),
        ("peer", "10.0.0.3:37", 'servers = "10.0.0.3:37": servers listen for each other'),
        ("peer", "127.0.0.1:0", 'servers = "s3": port 0 cannot be reached'),
        ("http", "127.0.0.1:0", 'servers = "s3": port 0 cannot be reached'),
        ("http", "x", 'servers = "x": must be host:port'),
    ],
)  # fmt: skip
def test_a_bad_list_of_servers_is_refused(part, value, expected):
    servers = [*THREE[:2], THREE[2] | {part: value}]

    message = complaint(None, cluster(servers))

    assert message.startswith(f"environment NODESTATE_SERVERS: {expected}")


def test_a_server_that_is_not_in_its_own_list_is_refused():
    environment = cluster(THREE) | {"NODESTATE_NAME": "s9"}

    assert complaint(None, environment) == (
        'environment NODESTATE_NAME: name = "s9": '
        "is not among the servers, which are s1, s2, s3"
    )


def test_a_peer_address_other_than_the_listed_one_is_refused():
    assert complaint(None, cluster(THREE), {"peer": "127.0.0.1:99"}) == (
        'flag -peer: peer = "127.0.0.1:99": differs from the peer address of s1 '
        'in servers, "127.0.0.1:17"'
    )


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_local_cluster_is_on_its_ports(number):
    config = load_config(LOCAL / f"server{number}.toml", {}, {})

    assert config.name == f"server{number}"
    assert config.data_dir == f".data/server{number}"
    assert config.http == f"127.0.0.1:{number + 3}646"
    assert config.peer == f"127.0.0.1:{number + 3}647"
    assert [entry.name for entry in config.servers] == ["server1", "server2", "server3"]


def test_a_server_for_trying_things_stands_alone(tmp_path):
    config = dev_config(0, str(tmp_path))

    assert (config.http, config.peer) == ("127.0.0.1:0", "127.0.0.1:0")
    assert config.servers == ()
    assert config.data_dir == str(tmp_path)
    with pytest.raises(ConfigError, match="the port must be a number"):
        dev_config(65_536, str(tmp_path))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65_535)),
        ("a.example:80", ("a.example", 80)),
    ],
)
def test_an_address_is_host_and_port(address, expected):
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", ":", ":80", "host", "host:", "host:-1", "host:٣", "::1:80", "[]x:1:1"],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="must be"):
        split_address(address)


def test_defaults_are_within_their_own_bounds():
    for name, field in SETTINGS.items():
        default = getattr(ServerConfig(), name)
        # What is not set has no bounds to be within.
        if default or default == 0:
            msgspec.convert(msgspec.to_builtins(default), field.type)


def test_the_page_of_settings_lists_exactly_these():
    """A setting that nobody can read about does not exist."""
    lines = (DOCS / "configuration.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]

    assert rows == [row_of(setting) for setting in SETTINGS]


def row_of(setting: str) -> str:
    default = getattr(ServerConfig(), setting)
    words = setting.split("_")
    unit = "seconds" if "s" in words else "bytes" if "bytes" in words else ""
    cells = [
        f"`{setting}`",
        f"`{environment_name(setting)}`",
        f"`{default}`" if default or default == 0 else "none",
        unit,
        allowed(setting),
        description(setting),
    ]
    return f"| {' | '.join(cells)} |"


def test_the_examples_on_the_page_are_good(tmp_path):
    examples = (DOCS / "configuration.md").read_text().split("```toml\n")[1:]

    names = [
        load_config(write(tmp_path, example.split("```")[0]), {}, {}).name
        for example in examples
    ]

    assert names == ["server1", "server1"]


@pytest.mark.parametrize(
    "settings",
    [
        {"cluster_key_file": "key"},
        {"peer_tls_cert": "cert", "peer_tls_key": "key", "peer_tls_ca": "ca"},
    ],
)
def test_servers_that_prove_who_they_are_may_listen_anywhere(settings):
    servers = [
        {"name": f"s{n}", "peer": f"10.0.0.{n}:4647", "http": f"10.0.0.{n}:4646"}
        for n in (1, 2, 3)
    ]

    config = load_config(None, cluster(servers), settings)

    assert config.peer == "10.0.0.1:4647"
    assert config.has_peer_tls


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        ({"http_tls_key": "key"}, "flag -http-tls-key: http_tls_key"),
        ({"region": "eu.west", "cluster_key_file": "key"}, "flag -region: region"),
    ],
)
def test_tls_settings_that_do_not_fit_are_named_with_their_source(settings, source):
    assert complaint(overrides=settings).startswith(source)


def test_a_secret_is_taken_from_the_environment_alone(tmp_path):
    text = f"cluster_keys = {KEY!r}"
    refusal = (
        "cluster_keys: a secret is set by NODESTATE_CLUSTER_KEYS in the environment"
    )

    for message in (
        complaint(write(tmp_path, text)),
        complaint(overrides={"cluster_keys": KEY}),
    ):
        assert refusal in message
        assert KEY not in message
    config = load_config(None, {"NODESTATE_CLUSTER_KEYS": KEY}, {})
    assert config.cluster_keys.reveal() == KEY


@pytest.mark.parametrize("text", [KEY[:-2], f"{KEY} {KEY}", "x" * 44])
def test_a_secret_is_not_shown_even_if_it_is_none(text):
    message = complaint(None, {"NODESTATE_CLUSTER_KEYS": text})

    assert message.startswith("environment NODESTATE_CLUSTER_KEYS: cluster_keys = ")
    assert text not in message
    assert KEY[:20] not in message


def test_a_shown_configuration_has_no_secret():
    config = load_config(None, {"NODESTATE_CLUSTER_KEYS": KEY}, {})

    assert KEY not in repr(config)
    assert "<redacted>" in repr(config)
    with pytest.raises(TypeError):
        msgspec.json.encode(config)
