"""What a hundred thousand nodes cost: a restart, memory, a snapshot, and stalls by it."""

import asyncio
import http.client
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final

import aiohttp
import msgspec

from cluster.bench_cluster import (
    BATCH_NODES,
    SERVING_S,
    BenchCluster,
    clients_text,
    get,
    laid_out_cluster,
    register_in_batches,
)
from cluster.growth import disk_mib, memory_mib
from cluster.load import LoadFigures, LoadPlan, Request
from cluster.load_client import run_plan
from cluster.probe import open_session
from cluster.report import Figure
from cluster.servers import ServerFiles, stop_all

NODES: Final = 100_000
QUICK_NODES: Final = 10_000
REST_S: Final = 5.0
POLL_S: Final = 0.02
STOP_S: Final = 60.0
SNAPSHOT_PATH: Final = "/v1/operator/snapshot"
READ_BYTES: Final = 1 << 20
MIB: Final = 1 << 20
# A server sums up its measurements over intervals of ten seconds or more.
WATCHED_S: Final = 12.0
LOOP_LAG: Final = "nodestate_process_loop_lag_seconds"
GC_PAUSE: Final = "nodestate_process_gc_pause_seconds"


def measure_scale(*, is_quick: bool) -> Iterator[Figure]:
    """Register, look, write snapshots, restart, look again."""
    count = QUICK_NODES if is_quick else NODES
    with laid_out_cluster() as cluster:
        cluster.start()
        load = register_in_batches(cluster.leader, range(count))
        yield _figure(
            count,
            "scale_registrations",
            f"registered in batches of {BATCH_NODES}, {clients_text(1)}",
            count / load.seconds,
            "/s",
            "leader",
        )
        yield from _measure_sizes(cluster, count, "before a restart")
        for where, files in cluster.both():
            yield from _measure_snapshot(files, count, where)
        yield from _measure_restart(cluster, count)
        yield from _measure_sizes(cluster, count, "after a restart")


def _figure(
    count: int, name: str, title: str, value: float, unit: str, where: str
) -> Figure:
    return Figure(
        name=name,
        title=f"{count:,} nodes, {title}",
        value=value,
        unit=unit,
        where=where,
    )


def _measure_sizes(cluster: BenchCluster, count: int, when: str) -> Iterator[Figure]:
    time.sleep(REST_S)
    for process in cluster.processes:
        where = f"{cluster.role(process.files)} {process.files.name}"
        memory = memory_mib(process.pid)
        disk = disk_mib(process.files.data_dir)
        yield _figure(
            count, "scale_memory_pss", f"memory {when}, PSS", memory, "MB", where
        )
        yield _figure(count, "scale_disk", f"data directory {when}", disk, "MB", where)


# Snapshots


def _measure_snapshot(files: ServerFiles, count: int, where: str) -> Iterator[Figure]:
    """Yield the longest stalls at rest and while snapshots are written, and their size.

    Two witnesses: the server's own measurements, which look at the loop now and then, and
    a client that asks for something small all the time. That one sees every stall, and
    what the machine adds to it; at rest it shows how much that is.
    """
    _end_interval(files)
    idle, _ = _while_asked(files, lambda: time.sleep(WATCHED_S))
    yield from _stalls(files, count, idle, "at rest", "scale_rest", where)
    busy, taken = _while_asked(files, lambda: _take_snapshots(files))
    if not taken:
        print(f"  no snapshot: {files.name} does not give any", flush=True)
        return
    when = f"while snapshots are written ({len(taken)})"
    yield from _stalls(files, count, busy, when, "scale_snapshot", where)
    seconds, byte_count = taken[-1]
    yield _figure(
        count, "scale_snapshot_size", "snapshot", byte_count / MIB, "MB", where
    )
    yield _figure(
        count, "scale_snapshot_time", "snapshot made and sent", seconds, "s", where
    )


def _end_interval(files: ServerFiles) -> dict[str, float]:
    """Return the longest durations since the interval began, by name, and begin anew."""
    summary: dict[str, Any] = msgspec.json.decode(get(files, "/v1/metrics")[0])
    return {sample["Name"]: sample["Max"] for sample in summary["Samples"]}


def _while_asked(
    files: ServerFiles, work: Callable[[], Any]
) -> tuple[LoadFigures, Any]:
    """Do something while one client asks a server for little, without a pause."""
    plan = LoadPlan(
        address=files.http,
        connections=1,
        requests=[Request("GET", "/v1/status/leader")],
        seconds=WATCHED_S,
    )
    with ThreadPoolExecutor(max_workers=1) as executor:
        # On a thread and not a process, so that it asks from the first moment on. What
        # is done meanwhile waits for sockets, and leaves the interpreter to it.
        asking = executor.submit(lambda: asyncio.run(run_plan(plan)))
        done = work()
        return asking.result(), done


def _take_snapshots(files: ServerFiles) -> list[tuple[float, int]]:
    """Take one after the other for a time; return how long each took and its bytes."""
    end_s = time.monotonic() + WATCHED_S
    taken: list[tuple[float, int]] = []
    while time.monotonic() < end_s:
        start_s = time.monotonic()
        byte_count = _take_snapshot(files)
        if byte_count is None:
            break
        taken.append((time.monotonic() - start_s, byte_count))
    return taken


def _take_snapshot(files: ServerFiles) -> int | None:
    """Have a server write a snapshot and send it; `None` if it does not know how."""
    with closing(http.client.HTTPConnection(files.http, timeout=SERVING_S)) as asked:
        asked.request("GET", f"{SNAPSHOT_PATH}?stale")
        answer = asked.getresponse()
        if answer.status in {404, 405}:
            return None
        byte_count = 0
        while piece := answer.read(READ_BYTES):
            byte_count += len(piece)
        assert answer.status == 200, f"no snapshot: {answer.status}"
        return byte_count


def _stalls(
    files: ServerFiles,
    count: int,
    asked: LoadFigures,
    when: str,
    name: str,
    where: str,
) -> Iterator[Figure]:
    longest = _end_interval(files)
    assert asked.longest_ms is not None
    for what, title, value in (
        ("stall_seen", "longest answer to a client", asked.longest_ms),
        ("loop_lag", "latest that the loop was", longest.get(LOOP_LAG, 0.0) * 1e3),
        ("gc_pause", "longest garbage collection", longest.get(GC_PAUSE, 0.0) * 1e3),
    ):
        yield _figure(count, f"{name}_{what}", f"{title} {when}", value, "ms", where)


# Restart


def _measure_restart(cluster: BenchCluster, count: int) -> Iterator[Figure]:
    stop_all(cluster.processes, within_s=STOP_S)
    start_s = time.monotonic()
    for process in cluster.processes:
        cluster.start_one(process)
    moments = asyncio.run(_wait_for_each(cluster.servers))
    cluster.find_leader()
    for name, title, moment in (
        ("first", "the first server reads", min(read for read, _ in moments)),
        ("all", "all servers read", max(read for read, _ in moments)),
        ("level", "all servers are level", max(level for _, level in moments)),
    ):
        value = moment - start_s
        yield _figure(
            count, f"scale_restart_{name}", f"start until {title}", value, "s", "all"
        )


async def _wait_for_each(servers: list[ServerFiles]) -> list[tuple[float, float]]:
    """Return when each server answered a plain read, and when a consistent one."""
    async with open_session() as session, asyncio.timeout(2 * SERVING_S):
        return await asyncio.gather(*(_wait_for_one(session, one) for one in servers))


async def _wait_for_one(
    session: aiohttp.ClientSession, files: ServerFiles
) -> tuple[float, float]:
    url = f"{files.url}/v1/nodes?per_page=1"
    await _wait_for_answer(session, url)
    read_s = time.monotonic()
    await _wait_for_answer(session, f"{url}&consistent")
    return read_s, time.monotonic()


async def _wait_for_answer(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        try:
            async with session.get(url) as answer:
                await answer.read()
                if answer.status == 200:
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(POLL_S)
