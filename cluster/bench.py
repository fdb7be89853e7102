"""`python -m cluster bench`: what three servers with a fleet of nodes can do.

Everything runs on this machine, the load generators too, as it did when Nomad was
measured. The servers run with their default settings except for the heartbeats: no agent
sends any here, so the nodes get a TTL longer than the run.
"""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cluster.fanout import FanoutFigures, FanoutPlan
from cluster.fleet import make_fleet, node_id
from cluster.load import (
    LoadFigures,
    LoadPlan,
    Request,
    generator_name,
    run_client,
    run_for_a_time,
)
from cluster.probe import open_session, wait_for_leader
from cluster.report import (
    YARDSTICK,
    Figure,
    Report,
    machine_name,
    to_json,
    to_table,
)
from cluster.servers import ServerFiles, ServerProcess, lay_out, stop_all
from cluster.yardstick import running_yardstick

NODE_COUNT: Final = 5000
BATCH_NODES: Final = 500
SINGLE_REGISTRATIONS: Final = 500
# Each write of a run must change something: a run walks its own nodes, closing all of
# them, then opening all of them, and no two runs share any.
NODES_PER_RUN: Final = 500
# No run of writes reaches this one: it is read as it was registered.
READ_NODE: Final = NODE_COUNT - 1
WRITE_CLIENTS: Final = (1, 64, 256)
READ_CLIENTS: Final = 64
LIST_CLIENTS: Final = 8
SERVING_S: Final = 60.0
REST_S: Final = 3.0
FANOUT_SPARE_S: Final = 180.0
# Longer than any run, within what the settings allow.
TTL_S: Final = 86_400.0
SETTINGS: Final = {"heartbeat_ttl_s_min": TTL_S, "failover_heartbeat_ttl_s": TTL_S}
PROC: Final = Path("/proc")


class Pace(msgspec.Struct, frozen=True):
    """How long and how often to measure."""

    load_s: float
    fanouts: int
    settle_s: float


FULL: Final = Pace(load_s=8.0, fanouts=3, settle_s=2.0)
QUICK: Final = Pace(load_s=2.0, fanouts=1, settle_s=1.0)


class _Bench:
    """A running cluster and what was measured on it so far."""

    def __init__(self, processes: Sequence[ServerProcess], pace: Pace) -> None:
        self.processes = processes
        self.pace = pace
        self.figures: list[Figure] = []
        self.leader, self.follower = processes[0].files, processes[1].files
        self._shares = itertools.count()

    @property
    def servers(self) -> list[ServerFiles]:
        """Return the servers' files, in the order of their names."""
        return [process.files for process in self.processes]

    def add(self, name: str, title: str, value: float, unit: str, where: str) -> None:
        """Take one plain figure into the report."""
        self._take(Figure(name=name, title=title, value=value, unit=unit, where=where))

    def add_load(self, name: str, title: str, load: LoadFigures, where: str) -> None:
        """Take the figures of a load into the report, and its failures if any."""
        self._take(
            Figure(
                name=name,
                title=title,
                value=load.per_second,
                unit="/s",
                where=where,
                p50_ms=load.p50_ms,
                p99_ms=load.p99_ms,
            )
        )
        if load.refused or load.broken:
            self.add(
                f"{name}_failed",
                f"{title}: failed",
                load.refused + load.broken,
                "",
                where,
            )

    def _take(self, figure: Figure) -> None:
        self.figures.append(figure)
        print(f"  {figure.title} [{figure.where}]: {figure.value:,.6g} {figure.unit}")

    def find_leader(self) -> None:
        """Wait until every server serves, and remember who leads."""
        self.leader = asyncio.run(_wait_until_serving(self.processes))
        self.follower = next(f for f in self.servers if f.name != self.leader.name)

    def both(self) -> Iterator[tuple[str, ServerFiles]]:
        """Go through the leader and one follower."""
        yield "leader", self.leader
        yield "follower", self.follower

    def own_nodes(self) -> range:
        """Return numbers of nodes that no other run writes to."""
        first = next(self._shares) * NODES_PER_RUN
        assert first + NODES_PER_RUN <= NODE_COUNT, "more runs than nodes for them"
        return range(first, first + NODES_PER_RUN)


async def _wait_until_serving(processes: Sequence[ServerProcess]) -> ServerFiles:
    def check() -> None:
        for process in processes:
            assert process.is_running, f"{process.files.name} has ended"

    servers = [process.files for process in processes]
    async with open_session() as session:
        return await wait_for_leader(session, servers, within_s=SERVING_S, check=check)


def run_bench(*, json_path: Path | None, is_quick: bool) -> int:
    """Measure, print the table, write the JSON if asked for; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="nodestate-bench-") as directory:
        processes = [
            ServerProcess(files)
            for files in lay_out(Path(directory), settings=SETTINGS)
        ]
        try:
            report = _measure(_Bench(processes, QUICK if is_quick else FULL))
        except Exception:
            for process in processes:
                print(f"{process.files.name}:\n{process.log_tail()}", file=sys.stderr)
            raise
        finally:
            stop_all(processes)
    print("\n" + to_table(report))
    if json_path is not None:
        json_path.write_bytes(to_json(report))
    return 0


def _measure(bench: _Bench) -> Report:
    steps: Sequence[Callable[[_Bench], None]] = (
        _measure_start,
        _measure_registrations,
        _measure_memory_at_rest,
        _measure_yardstick,
        _measure_writes,
        _measure_yardstick,
        _measure_node_reads,
        _measure_list_reads,
        _measure_yardstick,
        _measure_list_fanout,
        _measure_node_fanout,
        _measure_memory_after_load,
        _measure_restart,
    )
    for step in steps:
        print(step.__name__.removeprefix("_measure_").replace("_", " "), flush=True)
        step(bench)
    node, _ = _get(bench.leader, f"/v1/node/{node_id(READ_NODE)}")
    nodes, _ = _get(bench.leader, "/v1/nodes")
    return Report(
        machine=machine_name(),
        cores=os.cpu_count() or 0,
        python=platform.python_version(),
        load_generator=generator_name(),
        node_count=NODE_COUNT,
        node_bytes=len(node),
        list_bytes=len(nodes),
        figures=bench.figures,
    )


def _get(files: ServerFiles, path: str) -> tuple[bytes, int]:
    """Return the body and the index of an answer."""
    connection = http.client.HTTPConnection(files.http, timeout=SERVING_S)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status == 200, f"GET {path}: {answer.status} {body!r}"
    return body, int(answer.headers["X-Nomad-Index"])


def _measure_start(bench: _Bench) -> None:
    seconds = _start_all(bench)
    bench.add("start_empty", "start to serving, empty", seconds, "s", "all")


def _start_all(bench: _Bench) -> float:
    start = time.monotonic()
    for process in bench.processes:
        process.start()
    bench.find_leader()
    return time.monotonic() - start


def _registration(nodes: Sequence[dict[str, Any]]) -> Request:
    body = {"Node": nodes[0]} if len(nodes) == 1 else {"Nodes": nodes}
    return Request("PUT", "/v1/nodes", json.dumps(body, separators=(",", ":")))


def _measure_registrations(bench: _Bench) -> None:
    half = SINGLE_REGISTRATIONS
    address = bench.leader.http
    for clients, numbers in ((1, range(half)), (64, range(half, 3 * half))):
        load = run_client(
            LoadPlan(
                address=address,
                connections=clients,
                requests=[_registration([node]) for node in make_fleet(numbers)],
            )
        )
        name = "registrations_single" if clients == 1 else f"registrations_{clients}"
        title = f"registrations one by one, {_clients(clients)}"
        bench.add_load(name, title, load, "leader")
    fleet = make_fleet(range(3 * half, NODE_COUNT))
    batches = [
        _registration(fleet[first : first + BATCH_NODES])
        for first in range(0, len(fleet), BATCH_NODES)
    ]
    load = run_client(LoadPlan(address=address, connections=1, requests=batches))
    title = f"registrations in batches of {BATCH_NODES}, 1 client"
    rate = len(fleet) / load.seconds
    bench.add("registrations_batch", title, rate, "/s", "leader")
    nodes, _ = _get(bench.leader, "/v1/nodes")
    assert len(json.loads(nodes)) == NODE_COUNT, "not every node was registered"


def _clients(count: int) -> str:
    return f"{count} client" if count == 1 else f"{count} clients"


def _eligibility_writes(numbers: Sequence[int]) -> list[Request]:
    return [
        Request(
            "PUT",
            f"/v1/node/{node_id(number)}/eligibility",
            f'{{"Eligibility":"{word}"}}',
        )
        for word in ("ineligible", "eligible")
        for number in numbers
    ]


def _measure_yardstick(bench: _Bench) -> None:
    """Measure bare aiohttp between the loads, since machines change their minds."""
    node, _ = _get(bench.leader, f"/v1/node/{node_id(READ_NODE)}")
    with running_yardstick(len(node)) as address:
        load = run_for_a_time(
            LoadPlan(
                address=address,
                connections=READ_CLIENTS,
                requests=[Request("GET", "/")],
                seconds=bench.pace.load_s / 2,
            )
        )
    title = f"bare aiohttp with such a body, {_clients(READ_CLIENTS)}"
    bench.add_load(YARDSTICK, title, load, "-")


def _measure_writes(bench: _Bench) -> None:
    for where, files in bench.both():
        for clients in WRITE_CLIENTS:
            load = run_for_a_time(
                LoadPlan(
                    address=files.http,
                    connections=clients,
                    requests=_eligibility_writes(bench.own_nodes()),
                    seconds=bench.pace.load_s,
                )
            )
            title = f"eligibility writes, {_clients(clients)}"
            bench.add_load(f"eligibility_writes_{clients}", title, load, where)


def _measure_node_reads(bench: _Bench) -> None:
    _measure_reads(bench, "node_reads", f"/v1/node/{node_id(READ_NODE)}", READ_CLIENTS)


def _measure_list_reads(bench: _Bench) -> None:
    _measure_reads(bench, "list_reads", "/v1/nodes", LIST_CLIENTS)


def _measure_reads(bench: _Bench, name: str, path: str, clients: int) -> None:
    what = "one node" if name == "node_reads" else "the whole list"
    for where, files in bench.both():
        load = run_for_a_time(
            LoadPlan(
                address=files.http,
                connections=clients,
                requests=[Request("GET", path)],
                seconds=bench.pace.load_s,
            )
        )
        title = f"reads of {what}, {_clients(clients)}"
        bench.add_load(name, title, load, where)


def _measure_list_fanout(bench: _Bench) -> None:
    _measure_fanout(bench, "list_fanout_100", "/v1/nodes", 100)


def _measure_node_fanout(bench: _Bench) -> None:
    _measure_fanout(bench, "node_fanout_1000", f"/v1/node/{node_id(7)}", 1000)


def _measure_fanout(bench: _Bench, name: str, path: str, watchers: int) -> None:
    what = "one node" if name == "node_fanout_1000" else "the list"
    for where, files in bench.both():
        runs = [
            _fan_out(bench, files, path, watchers, count)
            for count in range(bench.pace.fanouts)
        ]
        median = statistics.median(run.last_s for run in runs)
        title = f"last of {watchers:,} watchers of {what} has its answer"
        bench.add(name, title, median, "s", where)


def _fan_out(
    bench: _Bench, files: ServerFiles, path: str, watchers: int, count: int
) -> FanoutFigures:
    """Wake all watchers of `path` once, by closing or opening a node that they see."""
    before, after = ("eligible", "ineligible")[:: 1 if count % 2 == 0 else -1]
    # Whatever was left behind by other runs, the write that wakes changes something.
    _write_eligibility(files, before)
    _, index = _get(files, path)
    plan = FanoutPlan(
        watch_address=files.http,
        write_address=bench.leader.http,
        watchers=watchers,
        watch=Request("GET", f"{path}?index={index}&wait=120s"),
        write=Request(
            "PUT",
            f"/v1/node/{node_id(7)}/eligibility",
            f'{{"Eligibility":"{after}"}}',
        ),
        settle_s=bench.pace.settle_s,
    )
    done = subprocess.run(
        [sys.executable, "-m", "cluster.fanout"],
        input=msgspec.json.encode(plan),
        capture_output=True,
        timeout=FANOUT_SPARE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return msgspec.json.decode(done.stdout, type=FanoutFigures)


def _write_eligibility(files: ServerFiles, word: str) -> None:
    """Set the watched node's eligibility; on return `files` shows it."""
    connection = http.client.HTTPConnection(files.http, timeout=SERVING_S)
    with contextlib.closing(connection):
        body = json.dumps({"Eligibility": word})
        connection.request("PUT", f"/v1/node/{node_id(7)}/eligibility", body)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()


def _measure_memory_at_rest(bench: _Bench) -> None:
    _measure_memory(bench, "memory", "memory at rest, all nodes registered")


def _measure_memory_after_load(bench: _Bench) -> None:
    _measure_memory(bench, "memory_loaded", "memory after all loads")


def _measure_memory(bench: _Bench, name: str, title: str) -> None:
    time.sleep(REST_S)
    for process in bench.processes:
        where = "leader" if process.files.name == bench.leader.name else "follower"
        for kind in ("Pss", "Rss"):
            megabytes = _memory_mb(process.pid, kind)
            bench.add(
                f"{name}_{kind.lower()}",
                f"{title}, {kind.upper()}",
                megabytes,
                "MB",
                f"{where} {process.files.name}",
            )


def _memory_mb(pid: int, kind: str) -> float:
    """Return a process's memory; PSS counts what processes share in equal parts."""
    text = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) / 1024


def _measure_restart(bench: _Bench) -> None:
    _, index = _get(bench.leader, "/v1/nodes?per_page=1")
    stop_all(bench.processes)
    title = f"start to serving, log of {index:,} entries"
    bench.add("start_with_log", title, _start_all(bench), "s", "all")
