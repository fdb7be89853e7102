"""A cluster to be measured, and what every measurement needs of it."""

import asyncio
import contextlib
import http.client
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cluster.fleet import make_fleet, node_id
from cluster.growth import PROC
from cluster.load import (
    LoadFigures,
    LoadPlan,
    Request,
    generator_name,
    run_client,
)
from cluster.probe import open_session, wait_for_leader
from cluster.report import Figure, Report, machine_name, to_json, to_table
from cluster.servers import ServerFiles, ServerProcess, Setting, lay_out, stop_all

BATCH_NODES: Final = 500
BATCH_S_MAX: Final = 10.0
SERVING_S: Final = 60.0
# Longer than any run, within what the settings allow.
TTL_S: Final = 86_400.0
SETTINGS: Final[Mapping[str, Setting]] = {
    "heartbeat_ttl_s_min": TTL_S,
    "failover_heartbeat_ttl_s": TTL_S,
}


class Sizes(msgspec.Struct, frozen=True):
    """How many nodes were measured with, and how long a node and the list are."""

    node_count: int = 0
    node_bytes: int = 0
    list_bytes: int = 0


class BenchCluster:
    """Servers with default settings, but for the heartbeats that no agent sends here."""

    def __init__(
        self,
        processes: Sequence[ServerProcess],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.processes = processes
        self.leader, self.follower = processes[0].files, processes[-1].files
        self._environment = environment or {}

    @property
    def servers(self) -> list[ServerFiles]:
        """Return the servers' files, in the order of their names."""
        return [process.files for process in self.processes]

    def start(self) -> float:
        """Start all servers; return after how many seconds all of them served."""
        start = time.monotonic()
        for process in self.processes:
            self.start_one(process)
        self.find_leader()
        return time.monotonic() - start

    def start_one(self, process: ServerProcess) -> None:
        """Start one server, and return at once."""
        process.start(self._environment)

    def find_leader(self) -> None:
        """Wait until every server serves, and remember who leads."""
        self.note_leader(asyncio.run(self.wait_until_serving()))

    def note_leader(self, leader: ServerFiles) -> None:
        """Remember who leads, and one who does not."""
        self.leader = leader
        self.follower = next(
            (files for files in self.servers if files.name != self.leader.name),
            self.leader,
        )

    async def wait_until_serving(self) -> ServerFiles:
        """Return the leader once every server serves."""
        async with open_session() as session:
            return await wait_for_leader(
                session, self.servers, within_s=SERVING_S, check=self._check_running
            )

    def _check_running(self) -> None:
        for process in self.processes:
            assert process.is_running, f"{process.files.name} has ended"

    def both(self) -> Iterator[tuple[str, ServerFiles]]:
        """Go through the leader and one follower."""
        yield "leader", self.leader
        yield "follower", self.follower

    def cpu_s(self) -> float:
        """Return how much processor time the servers have used together since start."""
        return sum(cpu_s_of(process.pid) for process in self.processes)

    def role(self, files: ServerFiles) -> str:
        """Say what a server is, by who led when that was last looked at."""
        return "leader" if files.name == self.leader.name else "follower"


@contextlib.contextmanager
def laid_out_cluster(
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[BenchCluster]:
    """Give a cluster that is not started yet; it is gone afterwards.

    If something goes wrong, what the servers wrote last is printed.
    """
    with tempfile.TemporaryDirectory(prefix="nodestate-bench-") as directory:
        files = lay_out(Path(directory), settings=SETTINGS)
        processes = [ServerProcess(one) for one in files]
        try:
            yield BenchCluster(processes, environment=environment)
        except Exception:
            for process in processes:
                if process.files.log_path.exists():
                    tail = process.log_tail()
                    print(f"{process.files.name}:\n{tail}", file=sys.stderr)
            raise
        finally:
            stop_all(processes)


def cpu_s_of(pid: int) -> float:
    """Return how much processor time a process has used since it was started."""
    text = (PROC / str(pid) / "stat").read_text(encoding="ascii")
    # The name before the last bracket may hold anything; user and system time are the
    # 14th and 15th fields in all.
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def get(files: ServerFiles, path: str) -> tuple[bytes, int]:
    """Return the body and the index of an answer, which must be a good one."""
    connection = http.client.HTTPConnection(files.http, timeout=SERVING_S)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status == 200, f"GET {path}: {answer.status} {body!r}"
    return body, int(answer.headers.get("X-Nomad-Index") or 0)


def clients_text(count: int) -> str:
    """Return how many clients there are, in words."""
    return f"{count} client" if count == 1 else f"{count} clients"


def registration(nodes: Sequence[dict[str, Any]]) -> Request:
    """Return the request that registers one node, or many in one log entry."""
    body = {"Node": nodes[0]} if len(nodes) == 1 else {"Nodes": nodes}
    return Request("PUT", "/v1/nodes", json.dumps(body, separators=(",", ":")))


def register_in_batches(files: ServerFiles, numbers: range) -> LoadFigures:
    """Register nodes one batch after the other."""
    fleet = make_fleet(numbers)
    batches = [
        registration(fleet[first : first + BATCH_NODES])
        for first in range(0, len(fleet), BATCH_NODES)
    ]
    plan = LoadPlan(address=files.http, connections=1, requests=batches)
    load = run_client(plan, spare_s=BATCH_S_MAX * len(batches))
    assert load.refused + load.broken == 0, "not every node was registered"
    return load


def eligibility_writes(numbers: Sequence[int]) -> list[Request]:
    """Return writes that close all of these nodes, then open all of them."""
    return [
        Request(
            "PUT",
            f"/v1/node/{node_id(number)}/eligibility",
            f'{{"Eligibility":"{word}"}}',
        )
        for word in ("ineligible", "eligible")
        for number in numbers
    ]


def middle(loads: Sequence[LoadFigures]) -> LoadFigures:
    """Return the run whose rate is the median, the lower one of two."""
    ordered = sorted(loads, key=lambda load: load.per_second)
    return ordered[(len(ordered) - 1) // 2]


def shown(figure: Figure) -> Figure:
    """Print a figure as soon as it is there, and return it."""
    where = f" [{figure.where}]" if figure.where else ""
    text = f"  {figure.title}{where}: {figure.value:,.6g} {figure.unit}"
    print(text.rstrip(), flush=True)
    return figure


def finish(figures: Sequence[Figure], sizes: Sizes, json_path: Path | None) -> int:
    """Print the table, write the JSON if asked for, and return the exit code."""
    report = Report(
        machine=machine_name(),
        cores=os.cpu_count() or 0,
        python=platform.python_version(),
        load_generator=generator_name(),
        node_count=sizes.node_count,
        node_bytes=sizes.node_bytes,
        list_bytes=sizes.list_bytes,
        figures=figures,
    )
    print("\n" + to_table(report))
    if json_path is not None:
        json_path.write_bytes(to_json(report))
    return 0
