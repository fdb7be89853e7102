"""What is made of measurements; the measuring itself needs a machine of its own."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.__main__ import main
from cluster.bench_against import OTHER, THIS, Turn, figures_of as compared
from cluster.bench_cluster import (
    BenchCluster,
    Sizes,
    eligibility_writes,
    finish,
    middle,
    registration,
)
from cluster.bench_rolling import Restart, WriteLog, figures_of, roll
from cluster.fleet import make_fleet, node_id
from cluster.load import LoadFigures
from cluster.report import Figure
from tests.cluster.running import RunningCluster


def load(rate: float, *, refused: int = 0) -> LoadFigures:
    return LoadFigures(
        answers=round(rate) + refused,
        refused=refused,
        broken=0,
        seconds=1.0,
        p50_ms=1.0,
        p99_ms=2.0,
    )


def values(figures: Any) -> dict[tuple[str, str], float]:
    return {(figure.name, figure.where): figure.value for figure in figures}


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    turns = {
        THIS: [Turn(load(100), 0.2), Turn(load(50), 0.1), Turn(load(90), 0.18)],
        OTHER: [Turn(load(100), 0.1), Turn(load(100), 0.1), Turn(load(30), 0.06)],
    }

    found = values(compared("writes", "writes", turns))

    assert found["writes_this", THIS] == 90
    assert found["writes_against", OTHER] == 100
    assert found["writes_ratio", "both"] == 1.0
    assert found["writes_this_cpu", THIS] == pytest.approx(2.0)
    assert found["writes_cpu_ratio", "both"] == pytest.approx(2.0)


def test_failures_of_either_side_are_told():
    turns = {
        THIS: [Turn(load(100, refused=3), 0.1)],
        OTHER: [Turn(load(100), 0.1)],
    }

    found = values(compared("writes", "writes", turns))

    assert found["writes_this_failed", THIS] == 3
    assert ("writes_against_failed", OTHER) not in found


def test_a_gap_is_the_longest_time_without_an_acknowledgement():
    log = WriteLog()
    log.acknowledged_s = [1.0, 10.2, 10.3, 12.0, 12.1, 20.0]

    gap = log.longest_gap_s(Restart("leader", "server1", 10.0, 12.5))

    assert gap == pytest.approx(1.7)


def test_a_restart_in_which_nothing_was_acknowledged_is_one_gap():
    assert WriteLog().longest_gap_s(Restart("leader", "server1", 3.0, 7.0)) == 4.0


def test_gaps_are_told_by_role_and_failures_by_kind():
    log = WriteLog()
    log.acknowledged_s = [0.1, 0.5, 1.5, 1.9]
    log.failures.update({"refused": 5, "503": 2, "no answer": 1})
    restarts = [
        Restart("follower", "server1", 0.0, 1.0),
        Restart("leader", "server2", 1.0, 2.0),
    ]

    found = values(figures_of(log, restarts))

    assert found["rolling_restart_gap", "leader"] == pytest.approx(500)
    assert found["rolling_restart_gap", "follower"] == pytest.approx(500)
    assert found["rolling_restart_refused", "any"] == 5
    assert found["rolling_restart_failed", "any"] == 3
    assert found["rolling_restart_acknowledged", "any"] == 4


def test_the_middle_run_is_one_of_them():
    runs = [load(30), load(10), load(20)]

    assert middle(runs) is runs[2]
    assert middle(runs[:2]) is runs[1]


def test_writes_close_and_open_each_node_once():
    requests = eligibility_writes(range(2))

    assert [json.loads(request.body)["Eligibility"] for request in requests] == [
        "ineligible",
        "ineligible",
        "eligible",
        "eligible",
    ]
    assert node_id(1) in requests[3].path


def test_one_node_and_many_are_registered_in_their_own_way():
    (one,) = make_fleet(range(1))

    assert json.loads(registration([one]).body) == {"Node": one}
    assert json.loads(registration([one, one]).body) == {"Nodes": [one, one]}


def test_a_report_without_loads_has_no_sizes(tmp_path: Path, capsys):
    figure = Figure(name="x", title="something", value=3, unit="s")

    code = finish([figure], Sizes(), tmp_path / "report.json")

    assert code == 0
    assert "nodes of" not in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert [figure["name"] for figure in report["figures"]] == ["x"]


def test_a_directory_that_is_no_checkout_is_refused(tmp_path: Path, capsys):
    assert main(["bench", "--against", str(tmp_path)]) == 1

    assert "is no checkout" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_a_rolling_restart_of_real_servers_is_seen_by_writers(
    make_cluster: Callable[..., RunningCluster],
):
    async with make_cluster() as cluster:
        await cluster.register(cluster.servers[0], 20)
        log = WriteLog()
        began_s = time.monotonic()
        processes = list(cluster.processes.values())

        async with asyncio.timeout(60):
            restarts = await roll(BenchCluster(processes), log)

        assert sorted(one.name for one in restarts) == [
            "server1",
            "server2",
            "server3",
        ]
        assert restarts[0].role == "follower"
        assert log.acknowledged_s[0] > began_s
        # Most of the time somebody is told that a write was done.
        assert all(
            log.longest_gap_s(one) < one.served_s - one.began_s for one in restarts
        )
