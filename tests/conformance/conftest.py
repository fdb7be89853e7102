"""Servers for the checklist: one that all tests share, and odd ones for a few.

Tests on the shared one use nodes of their own, with fresh ids, and never count nodes.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.servers import take_free_ports
from tests.real_server import RealServer, running_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a real process, and most of it the same one."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents and item.path.name != "test_rows.py":
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("one server"))


@pytest.fixture(autouse=True)
def row() -> None:
    """Take what `rows` says, which is there to be read in the test's id."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Run one server that leads, with ACLs off and one response header configured."""
    directory = tmp_path_factory.mktemp("server")
    with running_server(directory, http_response_headers={"foo": "bar"}) as server:
        yield server


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[RealServer]:
    """Run a server on which nothing has happened yet."""
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def restless_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Run a server whose nodes are down a second after their last heartbeat."""
    with running_server(
        tmp_path_factory.mktemp("restless"),
        heartbeat_ttl_s_min=0.2,
        heartbeat_grace_s=0.3,
        failover_heartbeat_ttl_s=0.5,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def leaderless_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Run one of three servers, whose two peers never come."""
    (port,) = take_free_ports(1)
    # Nothing listens at the others' ports: connecting is refused at once.
    servers = [
        {"name": "server1", "peer": f"127.0.0.1:{port}", "http": "127.0.0.1:5"},
        {"name": "server2", "peer": "127.0.0.1:1", "http": "127.0.0.1:2"},
        {"name": "server3", "peer": "127.0.0.1:3", "http": "127.0.0.1:4"},
    ]
    with RealServer(
        tmp_path_factory.mktemp("leaderless"),
        servers=servers,
        peer=f"127.0.0.1:{port}",
        propose_timeout_s=0.5,
        read_staleness_max_s=0.5,
    ) as server:
        yield server
