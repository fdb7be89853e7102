"""No acknowledged write is lost, whichever processes are killed, and no index goes back."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.workload import SeenNode, Workload, find_losses
from tests.cluster.running import RunningCluster, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

LEADER_KILLS = 3
WRITES_BETWEEN = 100
READS_AT_ONCE = 32


async def test_no_acknowledged_write_is_lost(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        workload = Workload(cluster.servers, writers_each=3)
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(workload.run())
            for _ in range(LEADER_KILLS):
                await more_writes(workload)
                await kill_leader(cluster, workload)
            await more_writes(workload)
            await kill_all(cluster)
            await more_writes(workload)
            workload.stop()
            await clients

        await cluster.settle()

        assert workload.record.went_back == []
        await check_servers_agree(cluster)
        seen = await read_everywhere(cluster, list(workload.record.writes))
        assert find_losses(workload.record, seen.get) == []
        assert workload.record.acknowledged_count > LEADER_KILLS * WRITES_BETWEEN


async def more_writes(workload: Workload) -> None:
    """Return once some more writes are acknowledged: the cluster goes on."""
    goal = workload.record.acknowledged_count + WRITES_BETWEEN
    await wait_until(lambda: workload.record.acknowledged_count >= goal)


async def kill_leader(cluster: RunningCluster, workload: Workload) -> None:
    """Kill whoever leads, see the others go on, and start it again."""
    leader = await cluster.wait_for_leader()
    cluster.processes[leader.name].kill()
    await cluster.wait_for_leader(cluster.running)
    await more_writes(workload)
    cluster.processes[leader.name].start()
    await cluster.wait_for_leader()


async def kill_all(cluster: RunningCluster) -> None:
    """Kill all servers in the middle of what they do, and start them again."""
    for process in cluster.processes.values():
        process.kill()
    cluster.start_all()
    await cluster.wait_for_leader()


async def check_servers_agree(cluster: RunningCluster) -> None:
    """Compare the whole list, byte for byte and index for index."""
    first, *others = [await cluster.get(f, "/v1/nodes") for f in cluster.servers]
    assert first.status == 200
    for other in others:
        assert (other.index, other.body) == (first.index, first.body)


async def read_everywhere(
    cluster: RunningCluster, nodes: Sequence[str]
) -> dict[str, SeenNode]:
    """Read every node on every server: the same bytes at the same index, or none."""
    gate = asyncio.Semaphore(READS_AT_ONCE)

    async def read(node: str) -> tuple[str, SeenNode | None]:
        async with gate:
            answers = [
                await cluster.get(files, f"/v1/node/{node}")
                for files in cluster.servers
            ]
        assert len({(a.status, a.index, a.body) for a in answers}) == 1, node
        return node, to_seen(answers[0].body) if answers[0].status == 200 else None

    pairs = await asyncio.gather(*(read(node) for node in nodes))
    return {node: seen for node, seen in pairs if seen is not None}


def to_seen(body: bytes) -> SeenNode:
    node: dict[str, Any] = json.loads(body)
    return SeenNode(
        modify_index=node["ModifyIndex"],
        eligibility=node["SchedulingEligibility"],
        event_indexes=[event["CreateIndex"] for event in node["Events"]],
    )
