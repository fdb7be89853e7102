"""Faults drawn from a seed, and how they are done to processes of a few lines."""

import asyncio
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from cluster.adversary import LEADER, Adversary, Fault, FaultKind, draw_faults
from cluster.servers import ServerFiles, ServerProcess


class Sleeper(ServerProcess):
    """A process that only sleeps, and writes down what was done to it."""

    def __init__(self, files: ServerFiles) -> None:
        super().__init__(files)
        self.done: list[str] = []

    @override
    def start(self, environment: Any = None) -> None:
        self.done.append("start")
        super().start(environment)

    @override
    def kill(self) -> int:
        self.done.append("kill")
        return super().kill()

    @override
    def freeze(self) -> None:
        self.done.append("freeze")
        super().freeze()

    @override
    def thaw(self) -> None:
        self.done.append("thaw")
        super().thaw()


class SleeperFiles(ServerFiles, frozen=True):
    """What starts one."""

    @property
    @override
    def command(self) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleepers(tmp_path: Path):
    made = [
        Sleeper(
            SleeperFiles(
                name=f"server{number}",
                http="127.0.0.1:1",
                peer="127.0.0.1:1",
                config_path=tmp_path / "none.toml",
                data_dir=tmp_path / f"data{number}",
                log_path=tmp_path / f"{number}.log",
                directory=tmp_path,
            )
        )
        for number in (1, 2, 3)
    ]
    for sleeper in made:
        sleeper.start()
    yield made
    for sleeper in made:
        sleeper.kill()


def fault(kind: FaultKind, *targets: int) -> Fault:
    return Fault(kind, targets, pause_s=0, down_s=0, settles=False)


async def attack(sleepers: list[Sleeper], *faults: Fault) -> Adversary:
    adversary = Adversary(sleepers, start=lambda one: one.start())
    await adversary.run(iter(faults), until_s=time.monotonic() + 60)
    return adversary


def test_the_same_seed_draws_the_same_faults():
    def first(seed: int) -> list[Fault]:
        return list(itertools.islice(draw_faults(seed, 3), 200))

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_one_to_all_servers_are_hit_and_the_leader_often():
    faults = list(itertools.islice(draw_faults(1, 3), 500))

    for kind in (FaultKind.KILL, FaultKind.FREEZE):
        counts = {len(one.targets) for one in faults if one.kind is kind}
        assert counts == {1, 2, 3}
    assert sum(one.targets == (LEADER,) for one in faults) > 50
    assert {one.targets for one in faults} >= {(0,), (1,), (2,), (0, 1, 2)}


async def test_a_killed_server_is_started_again(sleepers):
    adversary = await attack(sleepers, fault(FaultKind.KILL, 0, 2))

    assert [sleeper.done for sleeper in sleepers] == [
        ["start", "kill", "start"],
        ["start"],
        ["start", "kill", "start"],
    ]
    assert adversary.done_count == 1
    adversary.check_running()


async def test_a_frozen_server_is_thawed(sleepers):
    await attack(sleepers, fault(FaultKind.FREEZE, 1))

    assert sleepers[1].done == ["start", "freeze", "thaw"]


async def test_a_server_that_ends_by_itself_is_complained_of(sleepers):
    adversary = await attack(sleepers)

    ServerProcess.kill(sleepers[1])

    with pytest.raises(RuntimeError, match="server2 ended by itself with -9"):
        adversary.check_running()


async def test_healing_starts_and_thaws_whatever_is_not_running(sleepers):
    adversary = await attack(sleepers)
    sleepers[0].kill()
    sleepers[1].freeze()

    adversary.heal()

    assert all(sleeper.is_running for sleeper in sleepers)
    assert sleepers[1].done[-1] == "thaw"


async def test_no_fault_begins_after_the_end(sleepers):
    adversary = Adversary(sleepers, start=lambda one: one.start())
    faults = itertools.repeat(fault(FaultKind.FREEZE, 0))

    async with asyncio.timeout(30):
        await adversary.run(faults, until_s=time.monotonic() + 0.1)

    assert adversary.done_count > 0
