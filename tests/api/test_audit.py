"""The audit log when all is well, when the disk is full, and when it hangs."""

import asyncio
import errno
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodestate.api import audit
from nodestate.api.audit import AuditLog, Entry, key_digest
from nodestate.api.audit_file import AuditFile
from nodestate.config import ServerConfig
from nodestate.errors import ConfigError
from nodestate.telemetry import MetricsRegistry
from tests.api.conftest import NODE_PATH, Api, ApiFactory, logger_into
from tests.fakes import FakeClock, settle

INELIGIBLE = {"Eligibility": "ineligible"}


class Disk:
    """Stands before the real file: full, or not answering, when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.answers = threading.Event()
        self.answers.set()
        really_append = AuditFile.append

        def append(file: AuditFile, lines: Sequence[bytes]) -> int:
            assert self.answers.wait(10)
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return really_append(file, lines)

        monkeypatch.setattr(AuditFile, "append", append)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Log:
    """A log alone, and what it was handed."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        self.clock, self.metrics = FakeClock(), MetricsRegistry()
        self.said: list[Any] = []
        self.audit = AuditLog(
            ServerConfig(audit_file=str(path), **settings),
            clock=self.clock,
            metrics=self.metrics,
            logger=logger_into(self.said),
        )

    def take(self, **fields: Any) -> None:
        plain: dict[str, Any] = {
            **dict.fromkeys(("who", "source", "method", "route", "id"), "x"),
            **dict.fromkeys(("namespace", "idempotency_key", "request_id"), ""),
            "status": 200,
            "index": 7,
        }
        self.audit.take(Entry(**{**plain, **fields}))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def counted(self, name: str) -> float:
        text = self.metrics.to_prometheus()
        return next(
            float(line.split(" ")[1])
            for line in text.splitlines()
            if line.startswith(f"nodestate_api_audit_{name} ")
        )


async def test_lines_are_written_in_their_order(tmp_path):
    log = Log(tmp_path / "audit.jsonl", audit_bytes_max=1 << 30)

    for number in range(500):
        log.take(index=number)
        if number % 100 == 0:
            await log.audit.wait_until_written()
    await log.audit.close()

    assert [line["index"] for line in log.lines()] == list(range(500))


async def test_what_callers_write_has_a_length(tmp_path):
    log = Log(tmp_path / "audit.jsonl")

    log.take(id="a" * 10_000, namespace="b" * 10_000, request_id="\ud800" * 10_000)
    await log.audit.close()

    assert len(log.path.read_bytes()) < 2000
    assert log.lines()[0]["request_id"] == "?" * 256


async def test_a_full_disk_is_said_once_and_nothing_is_lost(tmp_path, disk: Disk):
    log = Log(tmp_path / "audit.jsonl")
    disk.is_full = True

    for number in range(3):
        log.take(index=number)
        await log.audit.wait_until_written()
        await log.clock.step(audit.RETRY_S)
        await until(lambda: log.audit._writing is None)
    assert [line["event"] for line in log.said] == ["audit log cannot be written"]
    assert "No space left on device" in log.said[0]["error"]
    assert log.counted("failing") == 1
    assert log.counted("failures_total") > 1
    assert log.audit.problem_with_write() is None
    disk.is_full = False
    await log.clock.step(audit.RETRY_S)
    await until(lambda: log.counted("failing") == 0)
    await log.audit.close()

    assert [line["index"] for line in log.lines()] == [0, 1, 2]
    assert log.said[-1]["event"] == "audit log is written again"
    assert log.counted("lost_total") == 0


async def test_lines_that_wait_have_a_limit(tmp_path, disk: Disk, monkeypatch):
    monkeypatch.setattr(audit, "LINES_MAX", 5)
    log = Log(tmp_path / "audit.jsonl")
    disk.answers.clear()

    for number in range(8):
        log.take(index=number)
    assert log.counted("lost_total") == 3
    disk.answers.set()
    await log.audit.close()

    assert [line["index"] for line in log.lines()] == [0, 1, 2, 3, 4]


async def test_a_disk_that_hangs_is_waited_for_so_long(
    tmp_path, disk: Disk, monkeypatch
):
    monkeypatch.setattr(audit, "WRITE_S_MAX", 0.02)
    log = Log(tmp_path / "audit.jsonl", audit_enforced=True)
    disk.answers.clear()

    log.take()
    await log.audit.wait_until_written()

    assert log.audit.problem_with_write() is not None
    disk.answers.set()
    await until(lambda: log.audit.problem_with_write() is None)
    await log.audit.close()
    assert len(log.lines()) == 1


@pytest.mark.parametrize("is_enforced", [False, True])
async def test_what_cannot_be_written_down_is_done_or_not(
    make_api: ApiFactory, tmp_path, disk: Disk, is_enforced
):
    api = await make_api(
        audit_file=str(tmp_path / "audit.jsonl"), audit_enforced=is_enforced
    )
    await api.register()
    disk.is_full = True
    # The first is under way when the disk is found full.
    assert (await close_node(api)) == 200
    await api.until(lambda: api.gauge("nodestate_api_audit_failing") == 1)
    before = len(api.proposer.commands)

    status = await close_node(api)

    assert status == (503 if is_enforced else 200)
    assert len(api.proposer.commands) == before + (not is_enforced)
    assert (await api.get("/v1/nodes")).status == 200
    disk.is_full = False
    await api.clock.step(audit.RETRY_S)
    await api.until(lambda: api.gauge("nodestate_api_audit_failing") == 0)
    assert (await close_node(api)) == 200


async def close_node(api: Api) -> int:
    answer = await api.put(f"{NODE_PATH}/eligibility", INELIGIBLE)
    if answer.status == 503:
        assert "(audit_enforced)" in answer.text
        assert answer.headers["x-nodestate-outcome"] == "none"
        assert answer.headers["retry-after"] == "1"
    return answer.status


def test_a_file_that_cannot_be_opened_ends_the_server(tmp_path):
    with pytest.raises(ConfigError, match=r"audit_file: cannot write to .*/no/audit"):
        Log(tmp_path / "no" / "audit.jsonl")


def test_a_key_is_told_from_others_and_not_shown():
    assert key_digest("") == ""
    assert len({key_digest("a"), key_digest("b"), key_digest("\ud800")}) == 3
    assert "secret" not in key_digest("secret")


async def until(is_true: Callable[[], bool]) -> None:
    """Let the loop run until something has come true, on a thread as may be."""
    async with asyncio.timeout(10):
        while not is_true():
            await settle()
