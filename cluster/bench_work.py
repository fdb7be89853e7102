"""What work costs: placing a large job, draining a tenth of the nodes, many small jobs.

The nodes are those of `nodestate simulate-agents`, in a process of its own, with work
that starts and stops at once and is healthy as soon as it runs: what is measured are the
servers, and what the agents take of the same machine.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from cluster.bench_cluster import BenchCluster, cpu_s_of, laid_out_cluster
from cluster.growth import memory_mib
from cluster.report import Figure
from nodestate.answers import DrainSpec
from nodestate.client import Query
from nodestate.client_work import WorkClient

DRAIN_DEADLINE_NS: Final = 3_600_000_000_000
CLIENTS: Final = 16
MAX_PARALLEL: Final = 100
REST_S: Final = 3.0
POLL_S: Final = 0.02
STEP_S_MAX: Final = 300.0
"""How long whatever is waited for may take."""


class WorkSizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is: jobs of `per_job` allocations each, and as many small ones."""

    nodes: int
    jobs: int
    per_job: int
    small_jobs: int
    rounds: int

    @property
    def work(self) -> str:
        """Say how much it is, as titles do."""
        return f"{self.nodes:,} nodes, {self.jobs * self.per_job:,} allocations"


FULL: Final = WorkSizes(nodes=1000, jobs=10, per_job=1000, small_jobs=1000, rounds=3)
QUICK: Final = WorkSizes(nodes=100, jobs=5, per_job=200, small_jobs=100, rounds=1)


def measure_work(*, is_quick: bool) -> Iterator[Figure]:
    """Fill a cluster with work, then place, drain and evaluate; look at the leader."""
    yield from measure_sizes(QUICK if is_quick else FULL)


def measure_sizes(sizes: WorkSizes) -> Iterator[Figure]:
    """Do so with that much of it."""
    with laid_out_cluster() as cluster:
        cluster.start()
        client = WorkClient(cluster.leader.url)
        with _agents(cluster, sizes) as pid, asyncio.Runner() as runner:
            bench = _Bench(cluster, client, pid, sizes)
            runner.run(client.__aenter__())
            try:
                runner.run(_until(lambda: _are_nodes_there(client, sizes.nodes)))
                for measure in (_fill, _rest, _place, _evaluate, _drain):
                    yield from runner.run(measure(bench))
                memory = bench.memory_mib()
                title = "memory of the leader after all that, PSS"
                yield bench.figure("work_memory_after", title, memory, "MB")
            finally:
                runner.run(client.__aexit__(None, None, None))


@contextlib.contextmanager
def _agents(cluster: BenchCluster, sizes: WorkSizes) -> Iterator[int]:
    """Have that many nodes watch for work, in a process whose id is given.

    What they say is shown if something goes wrong.
    """
    addresses = ",".join(files.url for files in cluster.servers)
    command = [sys.executable, "-m", "nodestate", "simulate-agents"]
    command += ["-nodes", str(sizes.nodes), "-address", addresses, "-every", "60s"]
    command += ["-cpu", "16000", "-memory", "32768", "-healthy-after", "0s"]
    command += ["-start-time", "0s..0s", "-kill-time", "0s..0s"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            yield process.pid
            assert process.poll() is None, "the agents have ended"
        except BaseException:
            said.seek(0)
            print(said.read().decode("utf-8", "replace"), file=sys.stderr)
            raise
        finally:
            process.kill()
            process.wait()


class Cost(msgspec.Struct, frozen=True):
    """How long something took, and the processor time of those who did it meanwhile."""

    seconds: float
    leader_s: float
    followers_s: float
    agents_s: float


class _Bench:
    """The cluster, who leads it, and what that has cost."""

    def __init__(
        self,
        cluster: BenchCluster,
        client: WorkClient,
        agents_pid: int,
        sizes: WorkSizes,
    ) -> None:
        self.client = client
        self.sizes = sizes
        self._cluster = cluster
        self._agents_pid = agents_pid

    def figure(self, name: str, title: str, value: float, unit: str) -> Figure:
        return Figure(
            name=name,
            title=f"{self.sizes.work}, {title}",
            value=value,
            unit=unit,
            where="leader",
        )

    def costs(self, name: str, title: str, cost: Cost) -> list[Figure]:
        """Return what the processor times of something are."""
        return [
            self.figure(
                f"{name}_cpu", f"{title}: CPU of the leader", cost.leader_s, "s"
            ),
            self.figure(
                f"{name}_followers_cpu",
                f"{title}: CPU of the followers",
                cost.followers_s,
                "s",
            ),
            self.figure(
                f"{name}_agents_cpu", f"{title}: CPU of the agents", cost.agents_s, "s"
            ),
        ]

    def memory_mib(self) -> float:
        """Return the leader's memory, PSS."""
        return memory_mib(self._leader_pid())

    def _leader_pid(self) -> int:
        leader = self._cluster.leader.name
        processes = self._cluster.processes
        return next(one.pid for one in processes if one.files.name == leader)

    async def timed(self, work: Callable[[], Awaitable[None]]) -> Cost:
        """Return what something cost; who led when it began counts as the leader."""
        self._cluster.note_leader(await self._cluster.wait_until_serving())
        pids = [one.pid for one in self._cluster.processes]
        watched = [self._leader_pid(), *pids, self._agents_pid]
        before = [cpu_s_of(pid) for pid in watched]
        began_s = time.monotonic()
        async with asyncio.timeout(STEP_S_MAX):
            await work()
        seconds = time.monotonic() - began_s
        after = [cpu_s_of(pid) for pid in watched]
        leader_s, *servers_s, agents_s = (
            later - earlier for earlier, later in zip(before, after, strict=True)
        )
        return Cost(seconds, leader_s, sum(servers_s) - leader_s, agents_s)


# Parts


async def _fill(bench: _Bench) -> list[Figure]:
    """Register the jobs one after the other, until all that they want runs."""
    sizes = bench.sizes
    names = [f"base-{number}" for number in range(sizes.jobs)]

    async def fill() -> None:
        for name in names:
            await _register(bench.client, name, sizes.per_job)
        for name in names:
            await _until_running(bench.client, name, sizes.per_job)

    cost = await bench.timed(fill)
    rate = sizes.jobs * sizes.per_job / cost.seconds
    title = "placed and reported running by agents"
    return [
        bench.figure("work_fill", title, rate, "/s"),
        *bench.costs("work_fill", title, cost),
    ]


async def _rest(bench: _Bench) -> list[Figure]:
    """Look at the leader while nothing happens."""
    await asyncio.sleep(REST_S)
    cost = await bench.timed(lambda: asyncio.sleep(REST_S))
    share, memory = 100 * cost.leader_s / cost.seconds, bench.memory_mib()
    return [
        bench.figure("work_rest_cpu", "CPU of the leader at rest", share, "%"),
        bench.figure("work_memory", "memory of the leader, PSS", memory, "MB"),
    ]


async def _place(bench: _Bench) -> list[Figure]:
    """Register one more large job, several times, and see when it is placed."""
    client, count = bench.client, bench.sizes.per_job
    placed: list[Cost] = []
    for number in range(bench.sizes.rounds):
        name = f"large-{number}"

        async def place(name: str = name) -> None:
            await _register(client, name, count)
            await _until_placed(client, name, count)

        placed.append(await bench.timed(place))
        await _until_running(client, name, count)
        await client.stop_job(name, purge=True)
        await _until(partial(_is_over, client, name))
        await asyncio.sleep(REST_S)
    cost = sorted(placed, key=lambda one: one.seconds)[len(placed) // 2]
    title = f"a job of {count:,} more"
    rate = count / cost.seconds
    return [
        bench.figure(
            "work_place", f"{title}: from PUT to all placed", cost.seconds, "s"
        ),
        bench.figure("work_place_rate", f"{title}: placements", rate, "/s"),
        *bench.costs("work_place", title, cost),
    ]


async def _evaluate(bench: _Bench) -> list[Figure]:
    """Register many jobs of one allocation, and see when all are placed."""
    client, count = bench.client, bench.sizes.small_jobs
    names = [f"small-{number}" for number in range(count)]

    async def register() -> None:
        await _for_each(names, lambda name: _register(client, name, 1))
        await _for_each(names, lambda name: _until_placed(client, name, 1))

    cost = await bench.timed(register)
    title = f"{count:,} jobs of one, {CLIENTS} clients"
    rate = count / cost.seconds
    return [
        bench.figure(
            "work_evaluations", f"{title}: registered, evaluated and placed", rate, "/s"
        ),
        *bench.costs("work_evaluations", title, cost),
    ]


async def _drain(bench: _Bench) -> list[Figure]:
    """Drain every tenth node, and see when the last one is empty."""
    client = bench.client
    ids = [node.id for node in (await client.nodes()).value][::10]
    moved = 0
    for node_id in ids:
        found = (await client.allocations(node_id)).value
        moved += sum(one.client_status == "running" for one in found)

    async def start(node_id: str) -> None:
        await client.drain(node_id, DrainSpec(deadline=DRAIN_DEADLINE_NS))

    async def drain() -> None:
        await _for_each(ids, start)
        await _until(lambda: _has_no_drain(client))

    cost = await bench.timed(drain)
    title = f"{len(ids):,} nodes with {moved:,} allocations drained"
    rate = moved / cost.seconds
    return [
        bench.figure("work_drain", title, cost.seconds, "s"),
        bench.figure("work_drain_rate", f"{title}: moved", rate, "/s"),
        *bench.costs("work_drain", title, cost),
    ]


# What is asked of the cluster


def large_job(name: str, count: int) -> dict[str, Any]:
    """Return a service that runs so many times, with little for each."""
    task = {
        "Name": "app",
        "Driver": "exec",
        "Config": {"command": "/bin/sleep"},
        "Resources": {"CPU": 20, "MemoryMB": 20},
    }
    group = {
        "Name": "app",
        "Count": count,
        "EphemeralDisk": {"SizeMB": 300},
        "Migrate": {
            "MaxParallel": MAX_PARALLEL,
            "HealthCheck": "task_states",
            "MinHealthyTime": 0,
            "HealthyDeadline": 300_000_000_000,
        },
        "Tasks": [task],
    }
    return {
        "ID": name,
        "Name": name,
        "Type": "service",
        "Datacenters": ["dc1"],
        "TaskGroups": [group],
    }


async def _register(client: WorkClient, name: str, count: int) -> None:
    await client.register_job(large_job(name, count))


async def _for_each(
    names: Sequence[str], ask: Callable[[str], Awaitable[None]]
) -> None:
    """Ask for each of them, by so many clients at once."""
    rest = iter(names)

    async def take() -> None:
        for name in rest:
            await ask(name)

    await asyncio.gather(*(take() for _ in range(CLIENTS)))


async def _until(is_true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(STEP_S_MAX):
        while True:
            if await is_true():
                return
            await asyncio.sleep(POLL_S)


async def _until_placed(client: WorkClient, name: str, count: int) -> None:
    await _until_counted(
        client, name, lambda starting, running: starting + running, count
    )


async def _until_running(client: WorkClient, name: str, count: int) -> None:
    await _until_counted(client, name, lambda _, running: running, count)


async def _until_counted(
    client: WorkClient, name: str, counted: Callable[[int, int], int], count: int
) -> None:
    """Wait for a job's numbers by blocking queries, which cost nothing meanwhile."""
    index = 0
    async with asyncio.timeout(STEP_S_MAX):
        while True:
            read = await client.job_summary(name, Query(index=index, wait_s=60.0))
            (bins,) = read.value.summary.values()
            if counted(bins.starting, bins.running) >= count:
                return
            index = read.index


async def _are_nodes_there(client: WorkClient, count: int) -> bool:
    nodes = (await client.nodes()).value
    return sum(node.status == "ready" for node in nodes) == count


async def _is_over(client: WorkClient, name: str) -> bool:
    found = (await client.job_allocations(name)).value
    return all(one.client_status in {"complete", "failed", "lost"} for one in found)


async def _has_no_drain(client: WorkClient) -> bool:
    return not any(node.drain for node in (await client.nodes()).value)
