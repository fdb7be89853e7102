"""`agent`: which configuration a server is run with."""

from pathlib import Path

import pytest

from nodestate.cli import agent
from nodestate.config import SETTINGS, ServerConfig
from nodestate.errors import ConfigError
from nodestate.tls_settings import SECRET_SETTINGS
from tests.cli.conftest import Ran, run_command


class FakeServer:
    """Takes down what it is run with, and whether its directory was there."""

    def __init__(self) -> None:
        self.config = ServerConfig()
        self.had_directory = False

    def run(self, config: ServerConfig) -> int:
        self.config = config
        self.had_directory = Path(config.data_dir).is_dir()
        if config.http.endswith(":81"):
            raise ConfigError("http: cannot listen on 127.0.0.1:81: Permission denied")
        return 7


@pytest.fixture
def server(monkeypatch):
    fake = FakeServer()
    monkeypatch.setattr(agent, "_run_server", fake.run)
    return fake


def agent_run(*words: str, **environment: str) -> Ran:
    return run_command(["agent", *words], environment=environment)


def test_without_flags_the_defaults_hold_and_the_servers_code_is_returned(server):
    ran = agent_run()

    assert (ran.code, ran.out, ran.err) == (7, "", "")
    assert server.config == ServerConfig()


def test_file_environment_and_flags_in_that_order(server, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('region = "file"\ndatacenter = "file"\nlog_level = "error"\n')

    agent_run(
        *("--config", str(path), "-log-level=debug"),
        NODESTATE_DATACENTER="environment",
        NODESTATE_LOG_LEVEL="warning",
    )

    assert server.config.region == "file"
    assert server.config.datacenter == "environment"
    assert server.config.log_level == "debug"


@pytest.mark.parametrize(
    ("words", "http"),
    [
        ([], "127.0.0.1:4646"),
        (["-port", "0"], "127.0.0.1:0"),
        (["--port=81234"], None),
        (["-http", "127.0.0.1:5000"], "127.0.0.1:5000"),
    ],
)
def test_a_server_for_trying_things(server, words, http):
    ran = agent_run("-dev", *words, "-log-level", "warning")

    if http is None:
        assert ran.err == (
            'Error in configuration: flag -http: http = "127.0.0.1:81234": '
            "the port must be a number from 0 to 65535\n"
        )
        return
    assert server.config.http == http
    assert server.config.log_level == "warning"
    assert server.config.servers == ()
    assert server.had_directory
    assert not Path(server.config.data_dir).exists()


def test_a_kept_directory_is_kept(server, tmp_path):
    agent_run("-dev", "-data-dir", str(tmp_path))

    assert server.config.data_dir == str(tmp_path)
    assert tmp_path.exists()


def test_the_environment_counts_for_it_too_but_not_who_the_others_are(server):
    agent_run(
        "-dev", NODESTATE_REGION="eu", NODESTATE_SERVERS="[]", NODESTATE_NAME="s1"
    )

    assert (server.config.region, server.config.name) == ("eu", "dev")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["x"], 1, "This command takes no arguments"),
        (["-dev", "-config", "x"], 1, "-dev can't be combined with -config"),
        (["-port", "1"], 1, "-port goes with -dev; a server's address is set by -http"),
        (["-port", "x"], 2, "argument -port: invalid int value: 'x'"),
        (
            ["-config", "/none.toml"],
            1,
            "Error in configuration: /none.toml: cannot be read: "
            "No such file or directory",
        ),
        (
            ["-log-level", "loud"],
            1,
            'Error in configuration: flag -log-level: log_level = "loud": '
            "must be one of debug, info, warning, error",
        ),
        (
            ["-http", "127.0.0.1:81"],
            1,
            "Error in configuration: http: cannot listen on 127.0.0.1:81: "
            "Permission denied",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(server, words, code, text):
    ran = agent_run(*words)

    assert (ran.code, ran.out) == (code, "")
    assert ran.err.split("\nFor additional help")[0].rstrip("\n") == text


def test_every_setting_is_a_flag():
    text = agent_run("-h").out

    for setting in SETTINGS.keys() - SECRET_SETTINGS:
        assert f"  -{setting.replace('_', '-')} <value>" in text


def test_a_secret_is_no_flag():
    ran = agent_run("-cluster-keys", "x")

    assert ran.code == 2
    assert "flag provided but not defined: -cluster-keys" in ran.err
