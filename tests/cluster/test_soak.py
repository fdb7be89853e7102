"""The soak in short, on real servers, and the verdict that it gives."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from cluster import soak
from cluster.__main__ import main
from cluster.adversary import LEADER, Fault, FaultKind
from cluster.growth import Sample, Trend
from cluster.soak import SoakOptions, SoakReport, run_soak, to_text

ACKNOWLEDGED_MIN = 100
PASSED = SoakReport(
    seed=7,
    seconds=60,
    server_count=3,
    client_count=8,
    snapshot_entries=3000,
    fault_count=4,
    last_index=12_345,
    counts={"acknowledged": 12_000},
    trends=[Trend("disk", 10.0, 11.0, 60)],
    violations=[],
    samples=[Sample(1.0, "server1", 50.0, 10.0)],
)
OPTIONS = SoakOptions(seconds=60, seed=7)


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
def test_two_power_cuts_and_a_pause_lose_nothing_and_do_nothing_twice(tmp_path: Path):
    faults = (
        Fault(FaultKind.KILL, (LEADER,), pause_s=2, down_s=1, settles=True),
        Fault(FaultKind.FREEZE, (LEADER,), pause_s=1, down_s=2, settles=True),
        Fault(FaultKind.KILL, (0, 1, 2), pause_s=1, down_s=0, settles=True),
    )
    options = SoakOptions(
        seconds=20, seed=1, client_count=6, snapshot_entries=60, faults=faults
    )

    report = soak.soak(options, tmp_path)

    assert report.violations == []
    assert report.fault_count == len(faults)
    assert report.counts["acknowledged"] > ACKNOWLEDGED_MIN
    assert report.counts["consistent reads"] > ACKNOWLEDGED_MIN // 10
    for number in (1, 2, 3):
        assert list(tmp_path.glob(f"data/server{number}/snapshot-*")), "no snapshot"


def test_what_passed_says_so():
    text = to_text(PASSED)

    assert "PASSED" in text
    assert "acknowledged: 12,000" in text
    assert "disk: 10.0 MiB in the first third, 11.0 MiB in the last" in text
    assert "seed 7" in text


def test_what_failed_says_how_often_and_with_which_seed():
    report = replace(PASSED, violations=["a node: gone\n    a long trail"] * 3)

    text = to_text(report)

    assert "FAILED: 3 violations" in text
    assert "a long trail" not in text
    assert "seed 7" in text


@pytest.mark.parametrize(("violations", "code"), [([], 0), (["lost"], 1)])
def test_the_exit_code_is_the_verdict(violations, code, monkeypatch, tmp_path, capsys):
    report = replace(PASSED, violations=violations)
    monkeypatch.setattr(soak, "soak", lambda options, directory: report)

    assert run_soak(OPTIONS, json_path=tmp_path / "report.json") == code

    written = json.loads((tmp_path / "report.json").read_bytes())
    assert written["violations"] == violations
    assert written["samples"][0]["memory_mib"] == 50.0


def test_options_come_from_the_command_line(monkeypatch, capsys):
    seen: list[SoakOptions] = []

    def remember(options: SoakOptions, directory: Path) -> SoakReport:
        seen.append(options)
        return PASSED

    monkeypatch.setattr(soak, "soak", remember)
    arguments = "--minutes 0.5 --seed 3 --servers 5 --clients 2 --snapshot-entries 10"

    assert main(["soak", *arguments.split()]) == 0

    assert seen == [
        SoakOptions(
            seconds=30, seed=3, server_count=5, client_count=2, snapshot_entries=10
        )
    ]


def test_memory_that_grows_is_a_violation_though_every_answer_was_right():
    run = soak._Soak(OPTIONS, [])
    run._samples += [
        Sample(at, "server1", memory_mib=50 + at, disk_mib=3) for at in range(100)
    ]
    run._ledger.take_index(5, floor=0)
    run._ledger.counts["acknowledged"] = 1

    violations = run.report().violations

    assert len(violations) == 1
    assert "not flat: memory (PSS)" in violations[0]


def test_a_run_without_a_write_is_no_pass():
    assert soak._Soak(OPTIONS, []).report().violations != []
