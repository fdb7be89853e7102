"""A watch on one server sees what happens through another, whoever is killed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cluster.servers import ServerFiles
from tests.cluster.running import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

DRAIN = {"DrainSpec": {"Deadline": 3_600_000_000_000}}


async def watch_until_drained(
    cluster: RunningCluster, files: ServerFiles, node: str
) -> list[dict[str, Any]]:
    """Follow a node by blocking queries on one server until a drain of it is over."""
    seen = []
    index = 0
    while True:
        answer = await cluster.get(files, f"/v1/node/{node}?index={index}&wait=20s")
        if answer.status != 200:
            continue
        assert answer.index >= index
        index = answer.index
        seen.append(answer.json)
        last_drain = answer.json["LastDrain"]
        if last_drain is not None and last_drain["Status"] == "complete":
            return seen


async def test_a_drain_through_one_server_wakes_the_watchers_of_another(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        watched, asked = [f for f in cluster.servers if f.name != leader.name]
        nodes = await cluster.register(leader, 100)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(watch_until_drained(cluster, watched, nodes[42]))
            answer = await cluster.put(asked, f"/v1/node/{nodes[42]}/drain", DRAIN)
            assert answer.status == 200, answer.body

        seen = watch.result()

        assert seen[-1]["SchedulingEligibility"] == "ineligible"
        assert not seen[-1]["Drain"]
        messages = [event["Message"] for event in seen[-1]["Events"]]
        assert messages[:2] == ["Node registered", "Node drain strategy set"]


async def test_drains_and_watches_go_on_when_the_leader_is_killed(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        watched, asked = [f for f in cluster.servers if f.name != leader.name]
        nodes = await cluster.register(leader, 100)
        drained, last = nodes[:50], nodes[99]
        acknowledged: list[tuple[str, int]] = []
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(watch_until_drained(cluster, watched, last))
            for number, node in enumerate(drained):
                if number == len(drained) // 2:
                    cluster.processes[leader.name].kill()
                answer = await cluster.put(asked, f"/v1/node/{node}/drain", DRAIN)
                if answer.status == 200:
                    acknowledged.append((node, answer.index))
            await cluster.wait_for_leader(cluster.running)
            answer = await cluster.put(asked, f"/v1/node/{last}/drain", DRAIN)
            assert answer.status == 200, answer.body

        await cluster.settle()

        assert watch.result()
        assert len(acknowledged) >= len(drained) // 2
        for files in (watched, asked):
            for node, index in acknowledged:
                record = (await cluster.get(files, f"/v1/node/{node}")).json
                assert index in [event["CreateIndex"] for event in record["Events"]]
