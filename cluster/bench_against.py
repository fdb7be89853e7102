"""`python -m cluster bench --against PATH`: this checkout beside another, in one run.

Machines differ from hour to hour, so both clusters are up at once and take the same
loads in turn, the first one in one round being the second in the next. Figures are
medians over the rounds, the ratio that of the rounds' ratios: only it means something.
"""

import contextlib
import itertools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cluster.bench_cluster import (
    BenchCluster,
    Sizes,
    clients_text,
    eligibility_writes,
    finish,
    laid_out_cluster,
    register_in_batches,
    registration,
    shown,
)
from cluster.fleet import make_fleet
from cluster.load import LoadFigures, LoadPlan, Request, run_client, run_for_a_time
from cluster.report import Figure
from cluster.up import ClusterError

THIS: Final = "this"
OTHER: Final = "against"
CLIENTS: Final = (1, 64, 256)
NODES_PER_RUN: Final = 300
REGISTRATIONS: Final = 1500
FULL_ROUNDS: Final = 5
QUICK_ROUNDS: Final = 1
FULL_LOAD_S: Final = 4.0
QUICK_LOAD_S: Final = 1.5


def run_against(path: Path, *, json_path: Path | None, is_quick: bool) -> int:
    """Compare write throughput with another checkout's; return the exit code."""
    if not (path / "nodestate" / "__main__.py").is_file():
        raise ClusterError(f"{path} is no checkout of nodestate")
    figures = [shown(figure) for figure in _compare(path.resolve(), is_quick=is_quick)]
    return finish(figures, Sizes(), json_path)


def _compare(path: Path, *, is_quick: bool) -> Iterator[Figure]:
    rounds = QUICK_ROUNDS if is_quick else FULL_ROUNDS
    seconds = QUICK_LOAD_S if is_quick else FULL_LOAD_S
    with contextlib.ExitStack() as stack:
        sides = {
            THIS: stack.enter_context(laid_out_cluster()),
            OTHER: stack.enter_context(
                laid_out_cluster(environment={"PYTHONPATH": str(path)})
            ),
        }
        nodes = rounds * len(CLIENTS) * NODES_PER_RUN
        for cluster in sides.values():
            cluster.start()
            register_in_batches(cluster.leader, range(nodes))
        shares = itertools.count()
        for clients in CLIENTS:
            turns = _take_turns(sides, rounds, _Flips(clients, seconds, shares))
            title = f"eligibility writes, {clients_text(clients)}"
            yield from figures_of(f"eligibility_writes_{clients}", title, turns)
        turns = _take_turns(sides, rounds, _Registrations(nodes))
        yield from figures_of("registrations_64", "registrations, 64 clients", turns)


class _Flips:
    """Loads that close and open nodes, each its own ones."""

    def __init__(self, clients: int, seconds: float, shares: Iterator[int]) -> None:
        self._clients = clients
        self._seconds = seconds
        self._shares = shares
        self._requests: Sequence[Request] = ()

    def next_round(self) -> None:
        """Go on to nodes that were not written to yet; both sides write to the same."""
        first = next(self._shares) * NODES_PER_RUN
        self._requests = eligibility_writes(range(first, first + NODES_PER_RUN))

    def run(self, cluster: BenchCluster) -> LoadFigures:
        """Load the leader."""
        return run_for_a_time(
            LoadPlan(
                address=cluster.leader.http,
                connections=self._clients,
                requests=self._requests,
                seconds=self._seconds,
            )
        )


class _Registrations:
    """Loads that register new nodes one by one."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._requests: Sequence[Request] = ()

    def next_round(self) -> None:
        """Go on to nodes that are not registered yet."""
        fleet = make_fleet(range(self._next, self._next + REGISTRATIONS))
        self._next += REGISTRATIONS
        self._requests = [registration([node]) for node in fleet]

    def run(self, cluster: BenchCluster) -> LoadFigures:
        """Load the leader."""
        plan = LoadPlan(
            address=cluster.leader.http, connections=64, requests=self._requests
        )
        return run_client(plan)


class Turn(msgspec.Struct, frozen=True):
    """One load on one side, and the processor time that all servers took for it."""

    load: LoadFigures
    cpu_s: float

    @property
    def cpu_ms_each(self) -> float:
        """Return the processor time of one write on all servers."""
        return self.cpu_s * 1e3 / max(1, self.load.answers - self.load.refused)


def _take_turns(
    sides: dict[str, BenchCluster], rounds: int, load: _Flips | _Registrations
) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {side: [] for side in sides}
    for count in range(rounds):
        load.next_round()
        order = list(sides)[:: 1 if count % 2 == 0 else -1]
        for side in order:
            # An election since the last load moves it to the new leader.
            sides[side].find_leader()
            before_s = sides[side].cpu_s()
            figures = load.run(sides[side])
            turns[side].append(Turn(figures, sides[side].cpu_s() - before_s))
    return turns


def figures_of(name: str, title: str, turns: dict[str, list[Turn]]) -> Iterator[Figure]:
    """Yield both sides' medians and their ratios, and failures if there were any.

    Processor time says the same as the rate where that is what a write waits for, and
    does not mind what else the machine does.
    """
    for side in (THIS, OTHER):
        yield from _side_figures(f"{name}_{side}", title, turns[side], side)
    pairs = list(zip(turns[THIS], turns[OTHER], strict=True))
    rates = [a.load.per_second / b.load.per_second for a, b in pairs]
    costs = [a.cpu_ms_each / b.cpu_ms_each for a, b in pairs if b.cpu_s]
    for what, title_end, ratios in (
        ("ratio", "this by the other", rates),
        ("cpu_ratio", "processor time, this by the other", costs),
    ):
        if ratios:
            yield Figure(
                name=f"{name}_{what}",
                title=f"{title}: {title_end}",
                value=statistics.median(ratios),
                unit="x",
                where="both",
            )


def _side_figures(
    name: str, title: str, turns: Sequence[Turn], side: str
) -> Iterator[Figure]:
    loads = [turn.load for turn in turns]
    yield Figure(
        name=name,
        title=title,
        value=statistics.median(load.per_second for load in loads),
        unit="/s",
        where=side,
        p50_ms=statistics.median(load.p50_ms for load in loads),
        p99_ms=statistics.median(load.p99_ms for load in loads),
    )
    yield Figure(
        name=f"{name}_cpu",
        title=f"{title}: processor time each, on all servers",
        value=statistics.median(turn.cpu_ms_each for turn in turns),
        unit="ms",
        where=side,
    )
    failed = sum(load.refused + load.broken for load in loads)
    if failed:
        yield Figure(
            name=f"{name}_failed",
            title=f"{title}: failed",
            value=failed,
            unit="",
            where=side,
        )
