"""Each fault of the stock package has tests that fail with it, and that the manual names."""

import contextlib
import gc
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.replication.faults import FAULTS, SCHEDULES, STOCK, Evidence

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
MANUAL = ROOT / "docs" / "replication.md"
OPTIONS = [
    "--rootdir",
    str(ROOT),
    "-c",
    os.devnull,
    "-o",
    "asyncio_default_fixture_loop_scope=function",
    "--asyncio-mode=auto",
    "--import-mode=importlib",
    "--capture=no",
    "--tb=native",
    "-q",
    *("-p", "no:cacheprovider"),
    *("-p", "no:faulthandler"),
    *("-p", "no:unraisableexception"),
    *("-p", "no:warnings"),
    *("-p", "no:xdist"),
]

_SKIPPED: type[BaseException] = pytest.skip.Exception
_FAILED: type[BaseException] = pytest.fail.Exception


class Trial:
    """A plugin that has each test fail as the stock package would, and sees how it ends."""

    def __init__(self, fault: str, *, is_put_back: bool = True) -> None:
        self._fault = fault
        self._is_put_back = is_put_back
        self.names: set[str] = set()
        self.wrong: list[str] = []
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        evidence = _evidence_of(self._fault, item.nodeid)
        self.names.add(evidence.test)
        if evidence.test in self.failed:
            item.add_marker(pytest.mark.skip("one of its cases has failed already"))
        with pytest.MonkeyPatch.context() as patch:
            if self._is_put_back:
                evidence.stock(patch)
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        if call.excinfo is not None and not call.excinfo.errisinstance(_SKIPPED):
            evidence = _evidence_of(self._fault, item.nodeid)
            is_wanted = call.excinfo.errisinstance(
                (AssertionError, _FAILED, *evidence.ends_with)
            )
            if call.when == "call" and is_wanted:
                self.failed.add(evidence.test)
            else:
                self.wrong.append(f"{item.nodeid}: {call.when}: {call.excinfo.value!r}")
        return (yield)


def _evidence_of(fault: str, node_id: str) -> Evidence:
    path, function = node_id.split("::", 1)
    test = f"{Path(path).stem}::{function.split('[')[0]}"
    (evidence,) = [one for one in FAULTS[fault] if one.test == test]
    return evidence


def _path(test: str) -> str:
    module, function = test.split("::")
    return f"{FOLDER / module}.py::{function}"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_schedule_of_the_audit_is_played(schedule):
    module, function = SCHEDULES[schedule].split("::")

    source = (FOLDER / f"{module}.py").read_text()
    assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE)


def tried(trial: Trial, fault: str) -> Trial:
    """Run the tests of a fault within this one, and return what was seen."""
    output = io.StringIO()
    paths = [_path(one.test) for one in FAULTS[fault]]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        pytest.main([*OPTIONS, *paths], [trial])
        gc.collect()  # what tasks that failed have to say belongs to it
    assert trial.names == {one.test for one in FAULTS[fault]}, output.getvalue()
    assert trial.wrong == []
    return trial


def test_each_fault_has_its_tests():
    assert list(FAULTS) == [f"F{number}" for number in range(1, 23)]
    assert all(FAULTS.values())
    assert STOCK.keys() == FAULTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_they_fail_with_the_stock_behaviour(fault):
    trial = tried(Trial(fault), fault)

    assert trial.names - trial.failed == set()


@pytest.mark.parametrize("fault", ["F1", "F7", "F12"])
def test_nothing_but_that_behaviour_makes_them_fail(fault):
    """As all of them show that pass by themselves; this shows that a trial lets them."""
    trial = tried(Trial(fault, is_put_back=False), fault)

    assert trial.failed == set()


@cache
def stock_facts() -> dict[str, dict[str, Any]]:
    """Play all schedules on the stock package, where nobody has disarmed it."""
    played = subprocess.run(
        [sys.executable, "-m", "tests.replication.stock_schedules"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    facts: dict[str, dict[str, Any]] = json.loads(played.stdout)
    return facts


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_stock_package_has_the_fault(fault):
    assert stock_facts()[fault] == STOCK[fault]


def test_the_manual_names_them():
    rows = re.findall(
        r"^\| (F\d+) \|(.*)\|(.*)\|(.*)\|$", MANUAL.read_text(), re.MULTILINE
    )

    named = {fault: re.findall(r"`(\w+::\w+)`", tests) for fault, *_, tests in rows}
    assert all(stock.strip() and ours.strip() for _, stock, ours, _ in rows)
    assert len(rows) == len(named)
    assert list(named.items()) == [
        (fault, [one.test for one in evidence]) for fault, evidence in FAULTS.items()
    ]
