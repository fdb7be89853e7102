"""`python -m cluster run`: figures, failures with their shortest schedule, replay."""

import re

import pytest
import structlog

from cluster import run
from cluster.__main__ import main
from cluster.simulation import storm
from cluster.simulation.judge import Violation
from cluster.simulation.schedule import Kill, Schedule, encode_schedule, read_schedule
from cluster.simulation.storm import Verdict


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Write schedules elsewhere, and put the logs back that the command silences."""
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


def test_a_clean_run_prints_its_figures(capsys):
    assert main(["run", "--seeds", "3", "--workers", "1", "--servers", "1"]) == 0

    out = capsys.readouterr().out
    assert re.match(r"3 schedules, \d+ a minute, \d+ elections, \d+ writes, 0 ", out)
    assert re.search(r"^ +\d+  writes done$", out, re.MULTILINE)


def test_a_failure_is_named_shrunk_and_can_be_played_again(
    capsys, monkeypatch, tmp_path
):
    """Here a schedule fails if it kills anybody."""

    def play(schedule: Schedule, trace: object = None) -> Verdict:
        violations: tuple[Violation, ...] = ()
        if any(isinstance(step, Kill) for step in schedule.steps):
            violations = (Violation("nobody dies", "somebody did"),)
        return Verdict(schedule.seed, violations, {}, 0, 0)

    monkeypatch.setattr(run, "play_one", play)
    arguments = ["--seeds", "20", "--workers", "1", "--scenario", "crashes"]

    assert main(["run", *arguments]) == 1

    out = capsys.readouterr().out
    (path, *_) = sorted(tmp_path.glob("schedule-*.json"))
    schedule = read_schedule(path)
    assert len(schedule.steps) == 1
    assert f"seed {schedule.seed} violated: nobody dies" in out
    assert "shortest schedule, 1 of " in out
    assert f"--replay {path}" in out
    assert main(["run", "--replay", path.name]) == 1
    assert "violated: nobody dies: somebody did" in capsys.readouterr().out


def test_a_schedule_is_played_again_with_its_trace(capsys, tmp_path):
    path = tmp_path / "one.json"
    path.write_bytes(
        encode_schedule(Schedule(seed=1, server_count=3, duration_ms=1500))
    )

    assert main(["run", "--replay", str(path)]) == 0

    captured = capsys.readouterr()
    assert "all promises were kept" in captured.out
    assert "RequestVote" in captured.err


def test_what_is_no_schedule_is_said_to_be_none(capsys, tmp_path):
    path = tmp_path / "one.json"
    path.write_text("{}")

    assert main(["run", "--replay", str(path)]) == 1
    assert "cannot read the schedule" in capsys.readouterr().err


def test_a_simulation_that_breaks_down_has_failed(monkeypatch):
    def break_down(*_: object) -> None:
        raise RuntimeError("no way")

    monkeypatch.setattr(storm, "play", break_down)

    verdict = run.play_one(Schedule(seed=7, server_count=3, duration_ms=1))

    assert verdict.violations == (
        Violation("the simulation ends", "RuntimeError('no way')"),
    )
