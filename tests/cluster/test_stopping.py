"""A server that is told to stop does so at once, whoever is connected."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.cluster.running import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

# Far below the time that is allowed for what is under way.
STOP_S_MAX = 1.5


async def test_idle_connections_and_watchers_do_not_hold_up_a_stop(
    make_cluster: Callable[..., RunningCluster],
):
    async with make_cluster(count=1) as cluster:
        (files,) = cluster.servers
        process = cluster.processes[files.name]
        (node,) = await cluster.register(files, 1)
        idle = await cluster.get(files, f"/v1/node/{node}")
        path = f"{files.url}/v1/node/{node}?index={idle.index}&wait=60s"
        watch = asyncio.ensure_future(cluster.session.get(path))
        # Its head is on its way before the server is told to stop.
        await cluster.get(files, "/v1/nodes")

        started_at = time.monotonic()
        code = await asyncio.to_thread(process.stop)

        assert code == 0
        assert time.monotonic() - started_at < STOP_S_MAX
        await asyncio.gather(watch, return_exceptions=True)
