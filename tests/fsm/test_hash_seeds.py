"""Strings hash differently in every process; the state must not show it."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from nodestate.model.command import Command
from nodestate.model.encoding import MSGPACK
from tests.fsm.replay import digests
from tests.strategies import sequences

ROOT = Path(__file__).parent.parent.parent
LOG_COUNT = 100


def drawn_logs() -> list[list[bytes]]:
    """Draw logs by the strategies: the same ones in every run."""
    logs: list[list[bytes]] = []

    @settings(
        max_examples=LOG_COUNT,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(sequences(min_size=5))
    def draw(commands: list[Command]) -> None:
        logs.append([MSGPACK.encode(command) for command in commands])

    draw()
    return logs


def replayed(path: Path, *, hash_seed: int) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-m", "tests.fsm.replay", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout.split("\n")


@pytest.mark.row("M8")
@pytest.mark.slow
def test_every_process_makes_the_same_bytes(tmp_path):
    logs = drawn_logs()
    path = tmp_path / "logs"
    path.write_bytes(msgspec.msgpack.encode(logs))

    here = digests(logs)

    assert len(here) >= LOG_COUNT
    assert len(set(here)) > LOG_COUNT / 4
    assert replayed(path, hash_seed=1) == here
    assert replayed(path, hash_seed=2) == here
