"""What writers notice when the servers are restarted one after the other."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import aiohttp
import msgspec

from cluster.bench_cluster import (
    BenchCluster,
    clients_text,
    laid_out_cluster,
    register_in_batches,
)
from cluster.fleet import node_id
from cluster.report import Figure
from cluster.servers import ServerFiles, ServerProcess

WRITERS: Final = 8
ASK_S: Final = 10.0
RETRY_S: Final = 0.01
CALM_S: Final = 2.0
NO_ANSWER: Final = "no answer"
NODES: Final = 500


class Restart(msgspec.Struct, frozen=True):
    """One server's restart: who it was, and when it began and was over (monotonic)."""

    role: str
    name: str
    began_s: float
    served_s: float


class WriteLog:
    """When writes were acknowledged, and what else came of them."""

    def __init__(self) -> None:
        self.acknowledged_s: list[float] = []
        self.failures: Counter[str] = Counter()

    def longest_gap_s(self, restart: Restart) -> float:
        """Return the longest time of a restart in which nothing was acknowledged."""
        inside = [
            at for at in self.acknowledged_s if restart.began_s < at < restart.served_s
        ]
        points = [restart.began_s, *sorted(inside), restart.served_s]
        return max(later - earlier for earlier, later in itertools.pairwise(points))


async def write_in_turn(
    log: WriteLog, servers: Sequence[ServerFiles], number: int, stop: asyncio.Event
) -> None:
    """Close and open a node through any server; a failure is tried at another one."""
    draw = random.Random(number)  # noqa: S311  no secrets
    path = f"/v1/node/{node_id(number)}/eligibility"
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for word in itertools.cycle(("ineligible", "eligible")):
            while not stop.is_set():
                url = draw.choice(servers).url + path
                failure = await _write(session, url, word)
                if not failure:
                    log.acknowledged_s.append(time.monotonic())
                    break
                log.failures[failure] += 1
                await asyncio.sleep(RETRY_S)
            if stop.is_set():
                return


async def _write(session: aiohttp.ClientSession, url: str, word: str) -> str:
    """Return what went wrong, nothing if it was acknowledged."""
    try:
        # A POST: aiohttp sends a PUT again by itself, and that would go uncounted.
        async with session.post(url, json={"Eligibility": word}) as answer:
            await answer.read()
            return "" if answer.status == 200 else str(answer.status)
    except aiohttp.ClientConnectorError:
        return "refused"
    except (aiohttp.ClientError, TimeoutError):
        return NO_ANSWER


async def roll(cluster: BenchCluster, log: WriteLog) -> list[Restart]:
    """Restart every server, the next one once all serve, while others write.

    Whoever leads comes last, so that both roles are seen each time.
    """
    stop = asyncio.Event()
    restarts: list[Restart] = []
    async with asyncio.TaskGroup() as group:
        for number in range(WRITERS):
            group.create_task(write_in_turn(log, cluster.servers, number, stop))
        try:
            await asyncio.sleep(CALM_S)
            leader = await cluster.wait_until_serving()
            for process in sorted(
                cluster.processes, key=lambda one: one.files.name == leader.name
            ):
                restarts.append(await _restart(cluster, process))
                await asyncio.sleep(CALM_S)
        finally:
            stop.set()
    return restarts


async def _restart(cluster: BenchCluster, process: ServerProcess) -> Restart:
    leader = await cluster.wait_until_serving()
    role = "leader" if process.files.name == leader.name else "follower"
    began_s = time.monotonic()
    await asyncio.to_thread(process.stop)
    cluster.start_one(process)
    await cluster.wait_until_serving()
    return Restart(role, process.files.name, began_s, time.monotonic())


def measure_rolling(*, is_quick: bool) -> Iterator[Figure]:
    """Yield the longest pause of writes for each role that was restarted, and failures."""
    log = WriteLog()
    with laid_out_cluster() as cluster:
        cluster.start()
        register_in_batches(cluster.leader, range(NODES))
        rounds = 1 if is_quick else 2
        restarts = [
            restart
            for _ in range(rounds)
            for restart in asyncio.run(roll(cluster, log))
        ]
    yield from figures_of(log, restarts)


def figures_of(log: WriteLog, restarts: Sequence[Restart]) -> Iterator[Figure]:
    """Yield what the log says about the restarts."""
    writers = clients_text(WRITERS)
    for role in ("leader", "follower"):
        gaps = [log.longest_gap_s(one) for one in restarts if one.role == role]
        if gaps:
            yield Figure(
                name="rolling_restart_gap",
                title=f"rolling restart, longest pause of writes by {writers}",
                value=max(gaps) * 1e3,
                unit="ms",
                where=role,
            )
    for name, title, count in (
        ("refused", "connections refused", log.failures["refused"]),
        (
            "failed",
            "writes that failed or were not answered",
            log.failures.total() - log.failures["refused"],
        ),
        ("acknowledged", "writes acknowledged", len(log.acknowledged_s)),
    ):
        yield Figure(
            name=f"rolling_restart_{name}",
            title=f"rolling restart, {title}",
            value=count,
            unit="",
            where="any",
        )
