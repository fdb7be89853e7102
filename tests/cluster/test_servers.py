"""Laying servers out, without starting any."""

import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cluster.servers import (
    FREE_PORTS,
    is_port_free,
    lay_out,
    read_server_files,
    take_free_ports,
)
from nodestate.config import load_config

ROOT = Path(__file__).parent.parent.parent


def test_every_server_gets_a_configuration_that_a_server_takes(tmp_path):
    servers = lay_out(tmp_path, settings={"log_level": "debug"})

    configs = [load_config(files.config_path, {}, {}) for files in servers]

    assert [config.name for config in configs] == ["server1", "server2", "server3"]
    assert [config.http for config in configs] == [files.http for files in servers]
    assert {config.log_level for config in configs} == {"debug"}
    assert len({entry for config in configs for entry in config.servers}) == 3


def test_no_two_servers_share_a_port_or_a_directory(tmp_path):
    servers = lay_out(tmp_path, count=5)

    addresses = {files.http for files in servers} | {files.peer for files in servers}

    assert len(addresses) == 10
    assert len({files.data_dir for files in servers}) == 5


def test_a_laid_out_server_is_read_back_as_it_was(tmp_path):
    (files,) = lay_out(tmp_path, count=1)

    assert read_server_files(files.config_path, directory=tmp_path) == files


def test_the_local_servers_use_the_ports_that_the_documentation_names(pytestconfig):
    local = pytestconfig.rootpath / "cluster" / "local"

    files = [
        read_server_files(path, directory=local)
        for path in sorted(local.glob("*.toml"))
    ]

    assert [f.http for f in files] == [
        "127.0.0.1:4646",
        "127.0.0.1:5646",
        "127.0.0.1:6646",
    ]
    assert [f.peer for f in files] == [
        "127.0.0.1:4647",
        "127.0.0.1:5647",
        "127.0.0.1:6647",
    ]


@pytest.mark.parametrize("value", ['a "quoted" text', 7, 0.25, True])
def test_settings_are_written_as_toml_reads_them(tmp_path, value):
    (files,) = lay_out(tmp_path, count=1, settings={"anything": value})

    read = tomllib.loads(files.config_path.read_text(encoding="utf-8"))

    assert read["anything"] == value


def test_a_port_that_somebody_listens_at_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        assert not is_port_free(address)

    assert is_port_free(address)


def test_a_port_is_taken_once_even_if_nobody_listens_yet():
    command = "from cluster.servers import _claim_port; print(_claim_port({}))"
    (port,) = take_free_ports(1)

    elsewhere = subprocess.run(
        [sys.executable, "-c", command.format(port)],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )

    assert elsewhere.stdout == b"False\n"


def test_free_ports_are_free_different_and_none_of_the_clients():
    ports = take_free_ports(6)

    assert len(set(ports)) == 6
    assert all(port in FREE_PORTS for port in ports)
    assert all(is_port_free(f"127.0.0.1:{port}") for port in ports)
