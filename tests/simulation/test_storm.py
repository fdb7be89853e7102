"""Storms: no promise is broken, whatever is cut, killed, paused, filled and healed."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cluster.run import be_quiet, play_seeds
from cluster.simulation import storm
from cluster.simulation.draw import SCENARIOS, WORK, draw_schedule
from cluster.simulation.judge import Trace
from cluster.simulation.schedule import decode_schedule, encode_schedule, read_schedule

SCHEDULES = Path(__file__).parent / "schedules"
SEEDS_EACH = {1: 40, 3: 40, 5: 20}
GROUPS = [(first, servers) for first in (1, 51, 101) for servers in (3, 5)] + [(1, 1)]
PRINT_TRACE = """
from hashlib import sha256
from cluster.run import be_quiet
from cluster.simulation import storm
from cluster.simulation.draw import draw_schedule
be_quiet()
for seed in range(20, 26):
    trace = []
    scenario = "work" if seed == 20 else "all"
    storm.play(draw_schedule(seed, 3, scenario), trace)
    print(seed, len(trace), sha256(repr(trace).encode()).hexdigest())
"""


@pytest.fixture(autouse=True)
def _silence(quiet_logs):
    """A storm logs a thousand lines; what they cost is not what is tested."""


@pytest.mark.slow
@pytest.mark.parametrize(("first", "server_count"), GROUPS)
def test_promises_are_kept_in_storms(first, server_count):
    """Each failure names its seed; `python -m cluster run` finds its shortest schedule."""
    count = SEEDS_EACH[server_count]
    verdicts = play_seeds(range(first, first + count), server_count, scenario="all")

    assert [verdict for verdict in verdicts if verdict.violations] == []
    counts = sum((Counter(verdict.counts) for verdict in verdicts), Counter())
    assert counts["writes done"] > 10 * count
    assert counts["elections"] > count
    assert counts["writes unknown"] > 0
    assert counts["consistent reads done"] > count
    assert counts["watchers answered"] > count


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"all", WORK}))
def test_each_kind_of_fault_alone(scenario):
    verdicts = play_seeds(range(500, 520), 3, scenario=scenario)

    assert [verdict for verdict in verdicts if verdict.violations] == []


@pytest.mark.slow
def test_every_kind_of_fault_is_played():
    """What no schedule does, no schedule judges."""
    verdicts = play_seeds(range(1000, 1080), 0, scenario="all")
    counts = sum((Counter(verdict.counts) for verdict in verdicts), Counter())

    fired = {name for name in counts if name.startswith("fault ")}
    assert fired == {
        f"fault {kind}"
        for kind in (
            "break", "cut", "fail_disk", "fill_disk", "flip_bit", "isolate",
            "jump_clock", "kill", "kill_when", "linger", "pause", "power_off", "slow",
            "slow_disk", "wipe",
        )
    }  # fmt: skip
    for what in (
        "truncations",
        "damaged disks refused",
        "servers stopped by disks",
        "snapshots installed",
        "retries",
        "transfer done",
        "add done",
        "remove done",
        "save_snapshot done",
    ):
        assert counts[what] > 0, what


def test_a_schedule_always_tells_the_same_story():
    schedule = draw_schedule(5)
    one: Trace = []
    other: Trace = []

    verdict = storm.play(schedule, one)

    assert storm.play(decode_schedule(encode_schedule(schedule)), other) == verdict
    assert len(one) > 200
    assert one == other


@pytest.mark.slow
def test_nothing_hangs_on_the_order_of_hashes():
    """The same seeds in processes that hash differently: every message is the same."""
    prints = []
    for hash_seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        prints.append(
            subprocess.run(
                [sys.executable, "-c", PRINT_TRACE],
                env=environment,
                capture_output=True,
                check=True,
                timeout=60,
            ).stdout
        )

    assert len(set(prints)) == 1
    assert prints[0].count(b"\n") == 6


def test_a_schedule_with_no_steps_is_kept_too():
    be_quiet()
    schedule = draw_schedule(7, 3, "calm")

    verdict = storm.play(schedule)

    assert verdict.violations == ()
    assert verdict.counts["writes done"] > 0


@pytest.mark.parametrize("path", sorted(SCHEDULES.glob("*.json")), ids=lambda p: p.stem)
def test_what_once_failed_does_not_fail_again(path):
    """The shortest schedules of faults that were found; each file's name says which."""
    assert storm.play(read_schedule(path)).violations == ()
