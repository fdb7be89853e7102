"""`python -m cluster run`: as many simulated schedules as asked for, each judged.

A schedule that fails is printed with its seed, what it violated and its shortest form,
which is also written to a file that `--replay` plays again.
"""

import argparse
import gc
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from cluster.simulation import storm
from cluster.simulation.draw import SCENARIOS, draw_schedule
from cluster.simulation.judge import Trace, Violation
from cluster.simulation.schedule import (
    Schedule,
    describe,
    encode_schedule,
    read_schedule,
)
from cluster.simulation.shrink import PLAYS_MAX, shrink
from cluster.simulation.storm import Verdict
from cluster.up import EXIT_FAILED, ClusterError

SEEDS: Final = 1000
CHUNK_SEEDS: Final = 20
SHRUNK_MAX: Final = 3
"""Failures that are shrunk; the others are only named."""
WORK_PLAYS_MAX: Final = 150
"""How often a schedule of work is played to shorten it: one takes seconds."""
PROGRESS_S: Final = 5.0


class _Options(NamedTuple):
    """What was asked for; `minutes` and `seed_count` are limits, each if there is one."""

    first_seed: int
    seed_count: int | None
    minutes: float | None
    server_counts: tuple[int, ...]
    scenario: str
    worker_count: int
    directory: Path


class _Tally:
    """What came of the schedules so far."""

    def __init__(self) -> None:
        self.started_at_s = time.perf_counter()
        self.schedule_count = 0
        self.counts: Counter[str] = Counter()
        self.failed: list[Verdict] = []

    def add(self, verdict: Verdict) -> None:
        self.schedule_count += 1
        self.counts.update(verdict.counts)
        self.counts["entries"] += verdict.entry_count
        if verdict.violations:
            self.failed.append(verdict)

    def progress(self) -> str:
        elapsed_s = time.perf_counter() - self.started_at_s
        per_minute = self.schedule_count / max(elapsed_s, 0.001) * 60
        return (
            f"{self.schedule_count} schedules, {per_minute:.0f} a minute,"
            f" {self.counts['elections']} elections,"
            f" {self.counts['writes done']} writes,"
            f" {self.counts['drains completed']} drains, {len(self.failed)} failed"
        )


def add_run_arguments(run: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    run.add_argument("--seeds", type=int, metavar="N", help="how many; default: 1000")
    run.add_argument("--first", type=int, default=1, metavar="S", help="default: 1")
    run.add_argument("--minutes", type=float, help="stop after that many")
    run.add_argument(
        "--servers",
        type=_server_counts,
        default=(),
        metavar="1,3,5",
        help="cluster sizes, in turn; default: each seed draws its own",
    )
    run.add_argument("--workers", type=int, default=2, help="processes; default: 2")
    run.add_argument(
        "--scenario",
        choices=sorted(SCENARIOS),
        default="all",
        help="which kinds of faults there may be; default: all",
    )
    run.add_argument(
        "--replay", type=Path, metavar="FILE", help="play this schedule, with a trace"
    )


def _server_counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(number) for number in text.split(","))
    if not set(counts) <= {1, 3, 5}:
        raise ValueError(text)
    return counts


def run_schedules(arguments: argparse.Namespace) -> int:
    """Do what was asked, and return the exit code: 1 if any promise was broken."""
    if arguments.replay is not None:
        return _replay(arguments.replay)
    seed_count = arguments.seeds
    if seed_count is None and arguments.minutes is None:
        seed_count = SEEDS
    return _play_all(
        _Options(
            first_seed=arguments.first,
            seed_count=seed_count,
            minutes=arguments.minutes,
            server_counts=arguments.servers,
            scenario=arguments.scenario,
            worker_count=arguments.workers,
            directory=Path.cwd(),
        )
    )


def _play_all(options: _Options) -> int:
    tally = _Tally()
    said_at_s = tally.started_at_s
    for verdict in _verdicts(options):
        tally.add(verdict)
        if time.perf_counter() - said_at_s > PROGRESS_S:
            said_at_s = time.perf_counter()
            print(tally.progress(), file=sys.stderr, flush=True)
    print(tally.progress())
    for name, count in sorted(tally.counts.items()):
        print(f"  {count:9d}  {name}")
    for verdict in tally.failed[:SHRUNK_MAX]:
        _explain(verdict, options)
    for verdict in tally.failed[SHRUNK_MAX:]:
        print(f"seed {verdict.seed}: {verdict.violations[0].promise}")
    return EXIT_FAILED if tally.failed else 0


def _replay(path: Path) -> int:
    """Play a schedule from a file with a trace, and say what came of it."""
    be_quiet()
    try:
        schedule = read_schedule(path)
    except (OSError, msgspec.DecodeError) as error:
        raise ClusterError(f"cannot read the schedule {path}: {error}") from error
    _print_steps(schedule)
    trace: Trace = []
    verdict = play_one(schedule, trace)
    for at_s, server_id, what in trace:
        print(f"{at_s * 1000:10.3f} ms  {server_id:8s} {what[:300]}", file=sys.stderr)
    for violation in verdict.violations:
        print(f"violated: {violation.promise}: {violation.text}")
    if not verdict.violations:
        print("all promises were kept")
    return EXIT_FAILED if verdict.violations else 0


def be_quiet() -> None:
    """Have nothing logged: a schedule would log a thousand lines."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)


def play_one(schedule: Schedule, trace: Trace | None = None) -> Verdict:
    """Play a schedule; one that cannot be played to its end has failed, too."""
    try:
        return storm.play(schedule, trace)
    except Exception as error:  # noqa: BLE001  what stops a simulation is a finding
        violation = Violation("the simulation ends", repr(error))
        return Verdict(schedule.seed, (violation,), {}, 0, 0)


def play_seeds(seeds: Sequence[int], server_count: int, scenario: str) -> list[Verdict]:
    """Play the schedules of some seeds, without stopping for the garbage collector."""
    be_quiet()
    gc.disable()
    try:
        return [
            play_one(draw_schedule(seed, server_count or None, scenario))
            for seed in seeds
        ]
    finally:
        gc.enable()
        gc.collect()


def _verdicts(options: _Options) -> Iterator[Verdict]:
    """Yield verdicts as they come, until seeds or time are used up."""
    chunks = _chunks(options)
    end_s = float("inf")
    if options.minutes is not None:
        end_s = time.perf_counter() + options.minutes * 60
    if options.worker_count == 1:
        for seeds, server_count, scenario in chunks:
            if time.perf_counter() > end_s:
                return
            yield from play_seeds(seeds, server_count, scenario)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.worker_count, mp_context=context) as pool:
        pending: set[Future[list[Verdict]]] = set()
        while True:
            while len(pending) < 2 * options.worker_count:
                chunk = next(chunks, None) if time.perf_counter() < end_s else None
                if chunk is None:
                    break
                pending.add(pool.submit(play_seeds, *chunk))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def _chunks(options: _Options) -> Iterator[tuple[range, int, str]]:
    """Yield seeds with a number of servers, 0 to let the seed draw it."""
    seed, left = options.first_seed, options.seed_count
    number = 0
    while left is None or left > 0:
        count = CHUNK_SEEDS if left is None else min(CHUNK_SEEDS, left)
        counts = options.server_counts or (0,)
        server_count = counts[number % len(counts)]
        yield range(seed, seed + count), server_count, options.scenario
        seed += count
        number += 1
        left = None if left is None else left - count


def _explain(verdict: Verdict, options: _Options) -> None:
    """Print a failure with its shortest schedule, and write that to a file."""
    be_quiet()
    promise = verdict.violations[0].promise
    print(f"\nseed {verdict.seed} violated: {promise}")
    for violation in verdict.violations[:5]:
        print(f"  {violation.promise}: {violation.text}")
    schedule = _schedule_of(verdict, options)

    def fails(part: Schedule) -> bool:
        return any(one.promise == promise for one in play_one(part).violations)

    plays_max = WORK_PLAYS_MAX if schedule.has_work else PLAYS_MAX
    shortest = shrink(schedule, fails, plays_max=plays_max)
    path = options.directory / f"schedule-{verdict.seed}.json"
    path.write_bytes(encode_schedule(shortest))
    print(f"shortest schedule, {len(shortest.steps)} of {len(schedule.steps)} steps:")
    _print_steps(shortest)
    print(f"play it again: python -m cluster run --replay {path}")


def _schedule_of(verdict: Verdict, options: _Options) -> Schedule:
    counts = options.server_counts or (0,)
    number = (verdict.seed - options.first_seed) // CHUNK_SEEDS
    server_count = counts[number % len(counts)] or None
    return draw_schedule(verdict.seed, server_count, options.scenario)


def _print_steps(schedule: Schedule) -> None:
    print(
        f"  seed {schedule.seed}, {schedule.server_count} servers,"
        f" {schedule.duration_ms} ms"
    )
    for step in schedule.steps:
        print(f"  {describe(step)}")
