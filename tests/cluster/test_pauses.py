"""A leader whose process was stopped for a while takes nobody for dead."""

import asyncio
from collections.abc import Callable

import pytest

from cluster.servers import ServerFiles
from tests.cluster.running import Answer, RunningCluster, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

NODE_COUNT = 10
TTL_S = 0.5
GRACE_S = 0.5
# A TTL is up to twice the shortest one; past this every timer has run out.
PAST_EVERY_TTL_S = 2 * TTL_S + GRACE_S + 0.5
AGENT_PAUSE_S = 0.1
AGENT_ASK_S = 1.0
SHORT_TTL = {
    "heartbeat_ttl_s_min": TTL_S,
    "heartbeat_grace_s": GRACE_S,
    "failover_heartbeat_ttl_s": 2.0,
    "heartbeats_per_second_max": 1000.0,
}


class Agents:
    """The agents of all nodes: each sends heartbeats to whichever server takes them."""

    def __init__(self, cluster: RunningCluster) -> None:
        self._cluster = cluster
        self._stop = asyncio.Event()
        self.accepted_count = 0

    async def run(self) -> None:
        while not self._stop.is_set():
            await asyncio.gather(*(self._send(number) for number in range(NODE_COUNT)))
            await asyncio.sleep(AGENT_PAUSE_S)

    def stop(self) -> None:
        self._stop.set()

    async def _send(self, number: int) -> None:
        for files in self._cluster.servers:
            try:
                async with asyncio.timeout(AGENT_ASK_S):
                    answer = await self._cluster.heartbeat(files, number)
            except TimeoutError:
                continue
            if answer.status == 200:
                self.accepted_count += 1
                return


@pytest.mark.parametrize("server_count", [1, 3])
async def test_a_frozen_leader_marks_no_node_down(
    server_count: int, make_cluster: Callable[..., RunningCluster]
) -> None:
    async with make_cluster(count=server_count, **SHORT_TTL) as cluster:
        leader = await cluster.wait_for_leader()
        nodes = await cluster.register(leader, NODE_COUNT)
        agents = Agents(cluster)
        async with asyncio.TaskGroup() as group:
            group.create_task(agents.run())
            await wait_until(lambda: agents.accepted_count >= NODE_COUNT)
            cluster.processes[leader.name].freeze()
            # The one wait for real time: the timers of another process run by it.
            await asyncio.sleep(PAST_EVERY_TTL_S)
            cluster.processes[leader.name].thaw()
            await cluster.wait_for_leader()
            # Each agent is heard of again, after the timers had their chance.
            goal = agents.accepted_count + 5 * NODE_COUNT
            await wait_until(lambda: agents.accepted_count >= goal)
            for files in cluster.servers:
                assert await missed(cluster, files, nodes) == []
            agents.stop()

        # The other way round, or the test proves nothing: silence is noticed.
        await wait_until(lambda: all_down(cluster, leader))


async def missed(
    cluster: RunningCluster, files: ServerFiles, nodes: list[str]
) -> list[str]:
    """Return the nodes of which a heartbeat was ever missed, or that are not ready."""
    found = []
    for node in nodes:
        record = (await cluster.get(files, f"/v1/node/{node}")).json
        messages = [event["Message"] for event in record["Events"]]
        if record["Status"] != "ready" or "Node heartbeat missed" in messages:
            found.append(node)
    return found


async def all_down(cluster: RunningCluster, files: ServerFiles) -> bool:
    answer: Answer = await cluster.get(files, "/v1/nodes")
    return {stub["Status"] for stub in answer.json} == {"down"}
