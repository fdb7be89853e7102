"""Real servers that prove who they are: strangers, and keys exchanged under load."""

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from cluster.servers import ServerFiles
from cluster.workload import Workload, find_losses
from nodestate.certificates import Authority
from nodestate.client_tls import client_context
from nodestate.config import ServerConfig, split_address
from nodestate.replication.frames import PROTOCOL_VERSION, Hello, encode_frame
from nodestate.secret import Secret, new_cluster_key
from nodestate.tls import PeerTls
from tests.authorities import (
    make_authority,
    peer_settings,
    server_pair,
    write_authority,
    write_pair,
    write_secret,
)
from tests.cluster.running import RunningCluster, log_lines, wait_until
from tests.cluster.test_survival import (
    check_servers_agree,
    more_writes,
    read_everywhere,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

MakeCluster = Callable[..., RunningCluster]


def reloads(cluster: RunningCluster, files: ServerFiles) -> int:
    return len(log_lines(cluster.processes[files.name], "certificates reloaded"))


async def reload_all(cluster: RunningCluster) -> None:
    """Have every server read its keys and certificates again, one after another."""
    for files in cluster.servers:
        before = reloads(cluster, files)
        os.kill(cluster.processes[files.name].pid, signal.SIGHUP)
        await wait_until(lambda f=files, n=before: reloads(cluster, f) > n)  # type: ignore[misc]  # mypy infers no lambda with defaults


async def restart_leader(cluster: RunningCluster, workload: Workload) -> None:
    """Restart who leads: its connections, in both directions, begin anew."""
    leader = await cluster.wait_for_leader()
    cluster.processes[leader.name].stop()
    cluster.processes[leader.name].start()
    await cluster.wait_for_leader()
    await more_writes(workload)


async def is_let_through(files: ServerFiles, context: ssl.SSLContext) -> bool:
    """Say whether a stranger with this context gets a word in as server9."""
    host, port = split_address(files.peer)
    heard = b""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname="peer"
        )
        writer.write(encode_frame(Hello(PROTOCOL_VERSION, "server9", "i", None)))
        with contextlib.suppress(OSError):
            heard = await reader.read(1 << 16)
        writer.close()
    return heard != b""


def stranger(key: str) -> ssl.SSLContext:
    config = ServerConfig(name="server9", cluster_keys=Secret(key))
    context = PeerTls(config).contexts.dialling
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_keys_are_exchanged_while_writes_go_on(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    old, new = new_cluster_key(), new_cluster_key()
    path = tmp_path / "cluster-key"

    def set_keys(*keys: str) -> None:
        write_secret(path, "\n".join(keys).encode())

    set_keys(old)
    async with make_cluster(cluster_key_file=str(path)) as cluster:
        workload = Workload(cluster.servers, writers_each=1)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(workload.run())
            await more_writes(workload)
            for keys in ([old, new], [new, old], [new]):
                set_keys(*keys)
                await reload_all(cluster)
                await more_writes(workload)
            # Only now does each server have to prove itself with the new key.
            await restart_leader(cluster, workload)
            workload.stop()
            await clients

        await cluster.settle()
        seen = await read_everywhere(cluster, list(workload.record.writes))
        assert workload.record.went_back == []
        assert find_losses(workload.record, seen.get) == []
        await check_servers_agree(cluster)
        for files in cluster.servers:
            assert not await is_let_through(files, stranger(old))
            assert await is_let_through(files, stranger(new))


async def test_keys_are_exchanged_by_restarts_alone(make_cluster: MakeCluster) -> None:
    old, new = new_cluster_key(), new_cluster_key()
    cluster = make_cluster()
    for process in cluster.processes.values():
        process.start({"NODESTATE_CLUSTER_KEYS": f"{old},{new}"})
    async with cluster:
        workload = Workload(cluster.servers, writers_each=1)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(workload.run())
            await more_writes(workload)
            for keys in (f"{new},{old}", new):
                for process in cluster.processes.values():
                    process.stop()
                    process.start({"NODESTATE_CLUSTER_KEYS": keys})
                    await cluster.wait_for_leader()
                await more_writes(workload)
            workload.stop()
            await clients

        await cluster.settle()
        seen = await read_everywhere(cluster, list(workload.record.writes))
        assert find_losses(workload.record, seen.get) == []
        for files in cluster.servers:
            assert not await is_let_through(files, stranger(old))
            text = cluster.processes[files.name].log_text()
            assert old not in text
            assert new not in text


def configure(files: ServerFiles, settings: dict[str, str]) -> None:
    """Add settings to one server's configuration."""
    lines = [f'{name} = "{value}"' for name, value in settings.items()]
    old = files.config_path.read_text()
    files.config_path.write_text("\n".join([*lines, old]))


def certify(files: ServerFiles, by: Authority, *trusted: Authority) -> dict[str, str]:
    """Give a server a new certificate, and the authorities that it is to trust."""
    return peer_settings(
        files.directory / f"tls-{files.name}", server_pair(by, files.name), *trusted
    )


async def test_certificates_are_exchanged_while_writes_go_on(
    make_cluster: MakeCluster,
) -> None:
    old, new = make_authority(), make_authority()
    cluster = make_cluster()
    for files in cluster.servers:
        configure(files, certify(files, old, old))
    async with cluster:
        workload = Workload(cluster.servers, writers_each=1)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(workload.run())
            await more_writes(workload)
            for by, trusted in ((old, [old, new]), (new, [old, new]), (new, [new])):
                for files in cluster.servers:
                    certify(files, by, *trusted)
                await reload_all(cluster)
                await more_writes(workload)
            await restart_leader(cluster, workload)
            workload.stop()
            await clients

        await cluster.settle()
        seen = await read_everywhere(cluster, list(workload.record.writes))
        assert find_losses(workload.record, seen.get) == []


async def test_a_certificate_that_cannot_be_used_leaves_the_old_one(
    make_cluster: MakeCluster,
) -> None:
    authority = make_authority()
    cluster = make_cluster()
    for files in cluster.servers:
        configure(files, certify(files, authority, authority))
    async with cluster:
        files = cluster.servers[0]
        directory = files.directory / f"tls-{files.name}"
        expired = server_pair(authority, files.name, days_ago=9)
        peer_settings(directory, expired, authority)
        process = cluster.processes[files.name]
        os.kill(process.pid, signal.SIGHUP)
        await wait_until(lambda: bool(log_lines(process, "certificates not reloaded")))

        # The others come back to it, and it to them.
        other = cluster.processes[cluster.servers[1].name]
        other.stop()
        other.start()
        await cluster.wait_for_leader()

        (line,) = log_lines(process, "certificates not reloaded")
        assert "peers would refuse it: certificate has expired" in line["error"]
        assert "PRIVATE" not in process.log_text()


async def test_a_reload_without_anything_to_reload_ends_no_server(
    make_cluster: MakeCluster,
) -> None:
    async with make_cluster(count=1) as cluster:
        await reload_all(cluster)

        assert await cluster.is_serving(cluster.servers[0])


async def test_a_cluster_with_tls_leaves_strangers_outside(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    key = new_cluster_key()
    path = write_secret(tmp_path / "key", key.encode())
    async with make_cluster(cluster_key_file=path) as cluster:
        leader = await cluster.wait_for_leader()
        await cluster.register(leader, 3)

        for files in cluster.servers:
            host, port = split_address(files.peer)
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(encode_frame(Hello(PROTOCOL_VERSION, "server1", "i", None)))
            # An alert of TLS at most.
            assert (await reader.read())[:1] in {b"", b"\x15"}
            writer.close()
            assert not await is_let_through(files, stranger(new_cluster_key()))
            assert not await is_let_through(files, client_context(skip_verify=True))

        await cluster.settle()
        await check_servers_agree(cluster)
        assert await cluster.wait_for_leader() == leader
        counts = [await refused_count(cluster, files) for files in cluster.servers]
        assert min(counts) >= 3


async def refused_count(cluster: RunningCluster, files: ServerFiles) -> float:
    answer = await cluster.get(files, "/v1/metrics?format=prometheus")
    name = "nodestate_replication_tls_refused_total"
    for line in answer.body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(f"{name} is no metric")


async def test_clients_and_commands_are_served_over_tls(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    authority = make_authority()
    ca = write_authority(tmp_path, authority)
    certificate, key = write_pair(tmp_path, "http", server_pair(authority))
    client, client_key = write_pair(
        tmp_path,
        "client",
        server_pair(authority, is_server=False, dns_names=("client.global.nodestate",)),
    )
    cluster = make_cluster(
        count=1,
        http_tls_cert=certificate,
        http_tls_key=key,
        http_tls_client_ca=ca,
        http_tls_verify_client=True,
    )
    files = cluster.servers[0]
    assert files.url.startswith("https://127.0.0.1:")
    cluster.processes[files.name].start()
    context = client_context(ca_cert=ca, client_cert=client, client_key=client_key)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def is_serving() -> bool:
            try:
                async with session.get(f"{files.url}/v1/agent/health") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectorError:
                return False

        await wait_until(is_serving)
        body = {"Nodes": [{"ID": "x"}]}
        async with session.post(f"{files.url}/v1/nodes", json=body) as answer:
            assert answer.status == 200
        index = int(
            (await session.get(f"{files.url}/v1/nodes")).headers["X-Nomad-Index"]
        )
        waited = f"{files.url}/v1/nodes?index={index}&wait=50ms"
        async with session.get(waited) as answer:
            assert (answer.status, await answer.json()) == (200, [])

    (line,) = log_lines(cluster.processes[files.name], "server started")
    assert line["url"] == files.url
    environment = {
        "NOMAD_ADDR": files.url,
        "NOMAD_CACERT": ca,
        "NOMAD_CLIENT_CERT": client,
        "NOMAD_CLIENT_KEY": client_key,
    }
    assert server_members({}, files.url).returncode == 1
    shown = server_members(environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "server1" in shown.stdout
    flags = ["-ca-cert", ca, "-client-cert", client, "-client-key", client_key]
    assert server_members({}, files.url, *flags).returncode == 0


def server_members(
    environment: dict[str, str], address: str = "", *flags: str
) -> subprocess.CompletedProcess[str]:
    words = ["-m", "nodestate", "server", "members", *flags]
    words += ["-address", address] if address else []
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
