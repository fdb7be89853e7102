"""A fleet and a real server: work is placed, runs, moves, and survives both."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodestate.agents.fates import Behaviour
from nodestate.agents.fleet import AgentFleet
from nodestate.agents.identities import FleetSpec
from nodestate.client import Client
from nodestate.clock import SystemClock, SystemIdSource
from tests.real_server import RealServer, running_server

COUNT = 6
SETTLED_S = 30.0
POLL_S = 0.1

JOB = {
    "ID": "web",
    "Name": "web",
    "Type": "service",
    "Priority": 50,
    "Datacenters": ["dc1"],
    "TaskGroups": [
        {
            "Name": "grp",
            "Count": COUNT,
            "Migrate": {
                "MaxParallel": 3,
                "HealthCheck": "checks",
                "MinHealthyTime": 1_000_000_000,
                "HealthyDeadline": 60_000_000_000,
            },
            "Tasks": [
                {
                    "Name": "web",
                    "Driver": "exec",
                    "Config": {"command": "/bin/web"},
                    "Resources": {"CPU": 1000, "MemoryMB": 100},
                }
            ],
        }
    ],
}


def fleet_for(server: RealServer) -> AgentFleet:
    return AgentFleet(
        [Client(f"http://{server.address}")],
        FleetSpec(node_count=4),
        Behaviour(speed=20.0),
        clock=SystemClock(),
        ids=SystemIdSource(),
    )


async def allocations(server: RealServer) -> list[dict[str, Any]]:
    answer = await asyncio.to_thread(server.get, "/v1/job/web/allocations")
    listed: list[dict[str, Any]] = answer.json
    return listed


async def until(
    server: RealServer, condition: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Return the job's allocations as soon as they are as asked for."""
    listed = []
    for _ in range(round(SETTLED_S / POLL_S)):
        if condition(listed := await allocations(server)):
            return listed
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"not within {SETTLED_S} s: {listed}")


def healthy(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        one
        for one in listed
        if (one["DesiredStatus"], one["ClientStatus"]) == ("run", "running")
        and (one["DeploymentStatus"] or {}).get("Healthy")
    ]


@pytest.mark.slow
async def test_work_runs_moves_when_a_node_drains_and_is_taken_up_again(tmp_path: Path):
    with running_server(tmp_path) as server:
        async with fleet_for(server) as fleet:
            await asyncio.to_thread(server.put, "/v1/jobs", {"Job": JOB})
            listed = await until(server, lambda all_: len(healthy(all_)) == COUNT)
            ((node_id, moving_count),) = Counter(
                one["NodeID"] for one in listed
            ).most_common(1)
            drain = {"DrainSpec": {"Deadline": 60_000_000_000}}
            await asyncio.to_thread(server.put, f"/v1/node/{node_id}/drain", drain)

            listed = await until(
                server,
                lambda all_: (
                    len(healthy(all_)) == COUNT
                    and Counter(one["ClientStatus"] for one in all_)["complete"]
                    == moving_count
                ),
            )
            assert {one["NodeID"] for one in healthy(listed)}.isdisjoint({node_id})
            assert fleet.counts().errors == 0

        # The same nodes, from nothing but the seed and what the server knows.
        async with fleet_for(server) as fleet:
            for _ in range(round(SETTLED_S / POLL_S)):
                if fleet.counts().allocations["running"] == COUNT:
                    break
                await asyncio.sleep(POLL_S)

            counts = fleet.counts()
            assert counts.allocations["running"] == COUNT
            assert counts.allocations_reported == 0
            assert await allocations(server) == listed
