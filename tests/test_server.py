"""A whole server in this process: started, asked, stopped, and told what is wrong."""

import asyncio
import socket

import pytest
import structlog

from nodestate import server
from nodestate.client import Client
from nodestate.config import dev_config
from nodestate.errors import ConfigError, JournalError

STARTED_S_MAX = 30.0
MEASURED = (
    "nodestate_replication_has_leader",
    "nodestate_replication_is_leader",
    "nodestate_replication_term",
    "nodestate_replication_commit_index",
    "nodestate_replication_applied_index",
    "nodestate_replication_leader_changes_total",
    "nodestate_replication_propose_seconds",
    "nodestate_replication_journal_sync_seconds",
    "nodestate_replication_apply_seconds",
    "nodestate_api_waiters",
    "nodestate_leader_heartbeats_expected",
    "nodestate_leader_heartbeats_missed_total",
)
NODE_ID = "11111111-aaaa-4aaa-8aaa-000000000001"


class RunningServer:
    def __init__(self, config) -> None:
        self.stop = asyncio.Event()
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(
            server.serve(config, self.stop, self.address.set_result)
        )

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, STARTED_S_MAX)


def quick_config(tmp_path, **overrides):
    settings = {
        "segment_bytes": 1 << 20,
        "election_timeout_s_min": 0.05,
        "election_timeout_s_max": 0.1,
        "raft_heartbeat_s": 0.01,
        **overrides,
    }
    return dev_config(0, str(tmp_path / "data"), environment={}, overrides=settings)


@pytest.mark.slow
async def test_a_server_serves_what_it_was_told_and_again_after_a_restart(tmp_path):
    config = quick_config(tmp_path)
    node = {
        "ID": NODE_ID,
        "SecretID": "22222222-aaaa-4aaa-8aaa-000000000001",
        "Name": "one",
        "Datacenter": "dc1",
        "Attributes": {"kernel.name": "linux"},
    }
    running = RunningServer(config)
    address = await asyncio.wait_for(asyncio.shield(running.address), STARTED_S_MAX)
    async with Client(f"http://{address}") as client:
        await client.register(node)
        before = await client.node(NODE_ID)
    await running.end()

    running = RunningServer(config)
    address = await asyncio.wait_for(asyncio.shield(running.address), STARTED_S_MAX)
    async with Client(f"http://{address}") as client:
        after = await client.node(NODE_ID)
    await running.end()

    assert after.body == before.body
    assert after.index == before.index


@pytest.mark.slow
async def test_what_an_operator_would_miss_is_measured(tmp_path):
    running = RunningServer(quick_config(tmp_path))
    address = await asyncio.wait_for(asyncio.shield(running.address), STARTED_S_MAX)
    async with Client(f"http://{address}") as client:
        await client.nodes()
        shown = await client.metrics_text()
    await running.end()

    assert [name for name in MEASURED if f"# HELP {name} " not in shown] == []


@pytest.mark.slow
async def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        running = RunningServer(quick_config(tmp_path, http=address))

        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(running.task, STARTED_S_MAX)

    assert raised.group_contains(ConfigError, match=address)


@pytest.mark.slow
async def test_a_data_directory_has_one_server(tmp_path):
    running = RunningServer(quick_config(tmp_path))
    await asyncio.wait_for(asyncio.shield(running.address), STARTED_S_MAX)
    second = RunningServer(quick_config(tmp_path))

    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(second.task, STARTED_S_MAX)
    await running.end()

    assert raised.group_contains(JournalError)


async def test_what_ends_a_server_is_told_in_lines_and_the_unforeseen_with_its_trace():
    with structlog.testing.capture_logs() as lines:
        server._report(
            ExceptionGroup(
                "several", [JournalError("cannot write x"), ValueError("unforeseen")]
            ),
            structlog.get_logger(),
        )

    assert [line["event"] for line in lines] == ["server failed", "server failed"]
    assert lines[0]["error"] == "cannot write x"
    assert "exc_info" not in lines[0]
    assert isinstance(lines[1]["exc_info"], ValueError)


async def test_the_spawner_ends_what_it_started():
    ended: list[str] = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async with asyncio.TaskGroup() as group:
        spawner = server.TaskSpawner(group)
        spawner.spawn(wait_for_ever(), name="waits")
        await asyncio.sleep(0)
        spawner.cancel_all()

    assert ended == ["ended"]
