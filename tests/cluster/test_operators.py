"""What operators ask of real servers: who is a member, who leads, and a copy of it all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.servers import ServerFiles
from nodestate.cli.snapshot_files import read_snapshot_file
from nodestate.client import Client
from tests.cluster.running import RunningCluster, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]


async def voters(files: ServerFiles) -> dict[str, bool]:
    """Return who is a member, as one server is sure of it, and has a vote."""
    async with Client(files.url) as client:
        listed = await client.raft_configuration()
    return {server.id: server.voter for server in listed.servers}


async def test_members_come_and_go_whichever_server_is_asked(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        gone, other = (one for one in cluster.servers if one is not leader)
        await cluster.register(leader, 10)
        async with Client(other.url) as client:
            await client.remove_peer(server_id=gone.name)
            peers = await client.peers()
            shown = (await client.members()).value.members or ()

        assert await voters(leader) == {leader.name: True, other.name: True}
        assert {*peers} == {leader.peer, other.peer}
        assert {member.name for member in shown} == {
            f"{one.name}.global" for one in (leader, other)
        }

        async def says_so() -> bool:
            async with Client(gone.url) as client:
                return "not a member" in (await client.health()).message

        await wait_until(says_so)
        async with Client(other.url) as client:
            await client.add_peer(gone.name, address=gone.peer, http=gone.http)

        async def votes_again() -> bool:
            return (await voters(other)).get(gone.name, False)

        await wait_until(votes_again)
        await cluster.settle()
        assert len((await cluster.get(gone, "/v1/nodes?stale")).json) == 10


async def test_leadership_goes_where_it_is_sent(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        asked, wanted = (one for one in cluster.servers if one is not leader)
        async with Client(asked.url) as client:
            done = await client.transfer_leadership(server_id=wanted.name)

        assert (done.from_.id, done.to.id) == (leader.name, wanted.name)
        assert (await cluster.wait_for_leader()).name == wanted.name


async def test_a_snapshot_has_every_write_acknowledged_before_it(
    make_cluster: Callable[..., RunningCluster], tmp_path: Path
) -> None:
    """Asked of a server that leads nothing, right after a write to the leader."""
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        follower = next(one for one in cluster.servers if one is not leader)
        for number in range(5):
            await cluster.register(leader, 10 * (number + 1))
            path = tmp_path / f"{number}.snap"
            with path.open("wb") as file:
                async with Client(follower.url) as client:
                    sent = await client.save_snapshot(file.write)

            found = read_snapshot_file(path)
            assert found.meta.index == sent.index
            assert len(found.state.nodes) == 10 * (number + 1)


async def test_a_snapshot_is_restored_on_every_server(
    make_cluster: Callable[..., RunningCluster], tmp_path: Path
) -> None:
    """Into another cluster, whose log is shorter and whose nodes are others."""
    path = tmp_path / "backup.snap"
    async with make_cluster(count=1) as cluster:
        (alone,) = cluster.servers
        await cluster.register(alone, 200)
        for _ in range(50):
            await cluster.heartbeat(alone, 1)
        saved = (await cluster.get(alone, "/v1/nodes")).json
        with path.open("wb") as file:
            async with Client(alone.url) as client:
                await client.save_snapshot(file.write)
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        follower = next(one for one in cluster.servers if one is not leader)
        await cluster.register(leader, 300)
        async with Client(follower.url) as client:
            index = await client.restore_snapshot(path)

        await cluster.settle()
        for files in cluster.servers:
            answer = await cluster.get(files, "/v1/nodes?stale")
            assert [node["ID"] for node in answer.json] == [
                node["ID"] for node in saved
            ]
            assert answer.index == index
        assert (await cluster.heartbeat(leader, 199)).status == 200
        for process in cluster.processes.values():
            process.kill()
        cluster.start_all()
        await cluster.wait_for_leader()
        answer = await cluster.get(follower, "/v1/nodes?consistent")
        assert len(answer.json) == len(saved)
