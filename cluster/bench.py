"""`python -m cluster bench`: what three servers with a fleet of nodes can do.

Everything runs on this machine, the load generators too, as it did when Nomad was
measured. The servers run with their default settings except for the heartbeats: no agent
sends any here, so the nodes get a TTL longer than the run.
"""

import contextlib
import http.client
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cluster.bench_acl import measure_acls
from cluster.bench_cluster import (
    BATCH_NODES,
    SERVING_S,
    BenchCluster,
    Sizes,
    clients_text,
    eligibility_writes,
    finish,
    get,
    laid_out_cluster,
    middle,
    register_in_batches,
    registration,
    shown,
)
from cluster.bench_rolling import measure_rolling
from cluster.bench_scale import measure_scale
from cluster.bench_work import measure_work
from cluster.fanout import FanoutFigures, FanoutPlan
from cluster.fleet import make_fleet, node_id
from cluster.growth import memory_mib
from cluster.load import LoadFigures, LoadPlan, Request, run_client, run_for_a_time
from cluster.report import YARDSTICK, Figure
from cluster.servers import ServerFiles, stop_all
from cluster.yardstick import running_yardstick

NODE_COUNT: Final = 5000
SINGLE_REGISTRATIONS: Final = 500
# Each write of a run must change something: a run walks its own nodes, closing all of
# them, then opening all of them, and no two runs share any.
NODES_PER_RUN: Final = 500
# No run of writes reaches this one: it is read as it was registered.
READ_NODE: Final = NODE_COUNT - 1
WRITE_CLIENTS: Final = (1, 64, 256)
READ_CLIENTS: Final = 64
LIST_CLIENTS: Final = 8
REST_S: Final = 3.0
FANOUT_SPARE_S: Final = 180.0
LOADS: Final = "loads"
ROLLING: Final = "rolling"
SCALE: Final = "scale"
WORK: Final = "work"
ACLS: Final = "acls"
PARTS: Final = (LOADS, ROLLING, SCALE, WORK, ACLS)


class Pace(msgspec.Struct, frozen=True):
    """How long and how often to measure."""

    load_s: float
    fanouts: int
    settle_s: float
    rounds: int


FULL: Final = Pace(load_s=8.0, fanouts=3, settle_s=2.0, rounds=3)
QUICK: Final = Pace(load_s=2.0, fanouts=1, settle_s=1.0, rounds=1)


class _Bench:
    """The cluster that most is measured on, and what was measured so far."""

    def __init__(self, cluster: BenchCluster, pace: Pace) -> None:
        self.cluster = cluster
        self.pace = pace
        self.figures: list[Figure] = []
        self._shares = itertools.count()

    @property
    def leader(self) -> ServerFiles:
        """Return the leader, by when that was last looked at."""
        return self.cluster.leader

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
        self.figures.append(shown(figure))

    def own_nodes(self) -> range:
        """Return numbers of nodes that no other run writes to."""
        first = next(self._shares) * NODES_PER_RUN
        assert first + NODES_PER_RUN <= NODE_COUNT, "more runs than nodes for them"
        return range(first, first + NODES_PER_RUN)


def run_bench(
    *, json_path: Path | None, is_quick: bool, only: Sequence[str] = ()
) -> int:
    """Measure, print the table, write the JSON if asked for; return the exit code.

    `only` names the parts to measure, of `PARTS`; none are all.
    """
    parts = only or PARTS
    figures: list[Figure] = []
    sizes = Sizes()
    if LOADS in parts:
        with laid_out_cluster() as cluster:
            bench = _Bench(cluster, QUICK if is_quick else FULL)
            sizes = _measure(bench)
            figures += bench.figures
    for part, measure in (
        (ROLLING, measure_rolling),
        (SCALE, measure_scale),
        (WORK, measure_work),
        (ACLS, measure_acls),
    ):
        if part in parts:
            print(part, flush=True)
            figures += map(shown, measure(is_quick=is_quick))
    return finish(figures, sizes, json_path)


def _measure(bench: _Bench) -> Sizes:
    steps: Sequence[Callable[[_Bench], None]] = (
        _measure_start,
        _measure_registrations,
        _measure_memory_at_rest,
        _measure_yardstick,
        _measure_writes,
        _measure_yardstick,
        _measure_node_reads,
        _measure_list_reads,
        _measure_consistent_reads,
        _measure_yardstick,
        _measure_list_fanout,
        _measure_node_fanout,
        _measure_memory_after_load,
        _measure_restart,
    )
    for step in steps:
        print(step.__name__.removeprefix("_measure_").replace("_", " "), flush=True)
        step(bench)
    node, _ = get(bench.leader, f"/v1/node/{node_id(READ_NODE)}")
    nodes, _ = get(bench.leader, "/v1/nodes")
    return Sizes(NODE_COUNT, len(node), len(nodes))


def _measure_start(bench: _Bench) -> None:
    seconds = bench.cluster.start()
    bench.add("start_empty", "start to serving, empty", seconds, "s", "all")


def _measure_registrations(bench: _Bench) -> None:
    half = SINGLE_REGISTRATIONS
    address = bench.leader.http
    for clients, numbers in ((1, range(half)), (64, range(half, 3 * half))):
        load = run_client(
            LoadPlan(
                address=address,
                connections=clients,
                requests=[registration([node]) for node in make_fleet(numbers)],
            )
        )
        name = "registrations_single" if clients == 1 else f"registrations_{clients}"
        title = f"registrations one by one, {clients_text(clients)}"
        bench.add_load(name, title, load, "leader")
    numbers = range(3 * half, NODE_COUNT)
    load = register_in_batches(bench.leader, numbers)
    title = f"registrations in batches of {BATCH_NODES}, 1 client"
    rate = len(numbers) / load.seconds
    bench.add("registrations_batch", title, rate, "/s", "leader")
    nodes, _ = get(bench.leader, "/v1/nodes")
    assert len(json.loads(nodes)) == NODE_COUNT, "not every node was registered"


def _measure_yardstick(bench: _Bench) -> None:
    """Measure bare aiohttp between the loads, since machines change their minds."""
    node, _ = get(bench.leader, f"/v1/node/{node_id(READ_NODE)}")
    with running_yardstick(len(node)) as address:
        load = run_for_a_time(
            LoadPlan(
                address=address,
                connections=READ_CLIENTS,
                requests=[Request("GET", "/")],
                seconds=bench.pace.load_s / 2,
            )
        )
    title = f"bare aiohttp with such a body, {clients_text(READ_CLIENTS)}"
    bench.add_load(YARDSTICK, title, load, "-")


def _measure_writes(bench: _Bench) -> None:
    for where, files in bench.cluster.both():
        for clients in WRITE_CLIENTS:
            load = run_for_a_time(
                LoadPlan(
                    address=files.http,
                    connections=clients,
                    requests=eligibility_writes(bench.own_nodes()),
                    seconds=bench.pace.load_s,
                )
            )
            title = f"eligibility writes, {clients_text(clients)}"
            bench.add_load(f"eligibility_writes_{clients}", title, load, where)


def _measure_node_reads(bench: _Bench) -> None:
    _measure_reads(bench, "node_reads", f"/v1/node/{node_id(READ_NODE)}", READ_CLIENTS)


def _measure_list_reads(bench: _Bench) -> None:
    _measure_reads(bench, "list_reads", "/v1/nodes", LIST_CLIENTS)


def _measure_reads(bench: _Bench, name: str, path: str, clients: int) -> None:
    what = "one node" if name == "node_reads" else "the whole list"
    for where, files in bench.cluster.both():
        load = run_for_a_time(
            LoadPlan(
                address=files.http,
                connections=clients,
                requests=[Request("GET", path)],
                seconds=bench.pace.load_s,
            )
        )
        title = f"reads of {what}, {clients_text(clients)}"
        bench.add_load(name, title, load, where)


def _measure_consistent_reads(bench: _Bench) -> None:
    """Measure reads that ask the leader first in turn with local ones, and compare."""
    plain = f"/v1/node/{node_id(READ_NODE)}"
    paths = {
        "local": plain,
        "stale": f"{plain}?stale",
        "consistent": f"{plain}?consistent",
    }
    for where, files in bench.cluster.both():
        loads: dict[str, list[LoadFigures]] = {mode: [] for mode in paths}
        for _ in range(bench.pace.rounds):
            for mode, path in paths.items():
                loads[mode].append(
                    run_for_a_time(
                        LoadPlan(
                            address=files.http,
                            connections=READ_CLIENTS,
                            requests=[Request("GET", path)],
                            seconds=bench.pace.load_s / 2,
                        )
                    )
                )
        for mode in ("stale", "consistent"):
            title = f"reads of one node, {mode}, {clients_text(READ_CLIENTS)}"
            bench.add_load(f"{mode}_reads", title, middle(loads[mode]), where)
        cost = (
            middle(loads["local"]).per_second / middle(loads["consistent"]).per_second
        )
        title = f"what a consistent read costs, {clients_text(READ_CLIENTS)}"
        bench.add("consistent_read_cost", title, cost, "local reads", where)


def _measure_list_fanout(bench: _Bench) -> None:
    _measure_fanout(bench, "list_fanout_100", "/v1/nodes", 100)


def _measure_node_fanout(bench: _Bench) -> None:
    _measure_fanout(bench, "node_fanout_1000", f"/v1/node/{node_id(7)}", 1000)


def _measure_fanout(bench: _Bench, name: str, path: str, watchers: int) -> None:
    what = "one node" if name == "node_fanout_1000" else "the list"
    for where, files in bench.cluster.both():
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
    _, index = get(files, path)
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
    for process in bench.cluster.processes:
        where = bench.cluster.role(process.files)
        for kind in ("Pss", "Rss"):
            megabytes = memory_mib(process.pid, kind)
            bench.add(
                f"{name}_{kind.lower()}",
                f"{title}, {kind.upper()}",
                megabytes,
                "MB",
                f"{where} {process.files.name}",
            )


def _measure_restart(bench: _Bench) -> None:
    _, index = get(bench.leader, "/v1/nodes?per_page=1")
    stop_all(bench.cluster.processes)
    title = f"start to serving, log of {index:,} entries"
    bench.add("start_with_log", title, bench.cluster.start(), "s", "all")
