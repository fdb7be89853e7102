"""The audit log: who asked for what, whether it was allowed, and at which index it is.

One JSON object a line. Lines are taken on the loop and written on a thread, as many at
once as there are. A line names things and holds none of their content: no token, no
SecretID, no body, no parameters but the namespace; of an idempotency key its digest.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from nodestate.api.audit_file import AuditFile
from nodestate.api.problems import Problem
from nodestate.clock import Clock
from nodestate.config import ServerConfig
from nodestate.errors import ConfigError
from nodestate.http_settings import AUDIT_ALL
from nodestate.telemetry import MetricsRegistry

LINES_MAX: Final = 10_000
"""Lines that wait for the disk; what comes beyond is lost, and counted."""
RETRY_S: Final = 1.0
WRITE_S_MAX: Final = 4.0
"""How long an answer waits for its line where that is enforced."""
TEXT_CHARACTERS_MAX: Final = 256
FORBIDDEN_STATUS: Final = 403
ROUTINE: Final = frozenset({"node.heartbeat"})
"""Writes that come all the time and change nothing while all is well."""

NOT_WRITTEN: Final = Problem(
    503,
    "the audit log cannot be written, and nothing is changed without (audit_enforced)",
    b"Retry-After: 1\r\n",
)


class Entry(msgspec.Struct, kw_only=True):
    """A line. `who` is a token's accessor, `client:` and a node's id, or `anonymous`.

    `index` is that of the answer, 0 if it has none; `idempotency_key` is a digest.
    """

    time: str = ""
    server: str = ""
    who: str
    source: str
    method: str
    route: str
    id: str
    namespace: str
    status: int
    allowed: bool = True
    index: int
    idempotency_key: str
    request_id: str


class AuditLog:
    """Takes lines and has them written."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        clock: Clock,
        metrics: MetricsRegistry,
        logger: FilteringBoundLogger,
    ) -> None:
        """Open the file; `ConfigError` if it cannot be written to."""
        self._path = Path(config.audit_file)
        self._clock = clock
        self._logger = logger
        self._server = config.name
        self._takes_all = config.audit_requests == AUDIT_ALL
        self.is_enforced = config.audit_enforced
        self._file = self._opened(config)
        self._thread = ThreadPoolExecutor(1, "audit")
        self._encoder = msgspec.json.Encoder()
        self._lines: deque[bytes] = deque()
        self._taken_count = 0
        self._written_count = 0
        self._writing: asyncio.Future[int] | None = None
        self._is_waiting = False
        self._is_failing = False
        self._is_closed = False
        self._lost = metrics.counter(
            "nodestate_api_audit_lost_total", "Lines that the audit log lacks."
        )
        self._failures = metrics.counter(
            "nodestate_api_audit_failures_total", "Times the audit log was not written."
        )
        metrics.gauge(
            "nodestate_api_audit_failing",
            "1 while the audit log cannot be written.",
            lambda: float(self._is_failing),
        )

    def _opened(self, config: ServerConfig) -> AuditFile:
        try:
            return AuditFile(
                self._path,
                bytes_max=config.audit_bytes_max,
                files_max=config.audit_files_max,
                is_synced=config.audit_enforced,
            )
        except OSError as error:
            raise ConfigError(
                f"audit_file: cannot write to {self._path}: {error.strerror}"
            ) from error

    def problem_with_write(self) -> Problem | None:
        """Return why nothing may be changed; `None` if it may."""
        is_open = not self._is_failing and len(self._lines) < LINES_MAX
        return None if is_open or not self.is_enforced else NOT_WRITTEN

    def takes(self, route: str, status: int, *, is_write: bool) -> bool:
        """Say whether an answer is one that a line is kept of."""
        is_change = is_write and route not in ROUTINE
        return self._takes_all or is_change or status == FORBIDDEN_STATUS

    def take(self, entry: Entry) -> None:
        """Have a line written soon."""
        if self._is_closed or len(self._lines) >= LINES_MAX:
            self._lost.add()
            return
        entry.time = _time_text(self._clock.now_ns())
        entry.server = self._server
        entry.allowed = entry.status != FORBIDDEN_STATUS
        for name in ("source", "method", "id", "namespace", "request_id"):
            setattr(entry, name, getattr(entry, name)[:TEXT_CHARACTERS_MAX])
        self._lines.append(_encode(self._encoder, entry))
        self._taken_count += 1
        if not self._is_failing:
            self._write()

    async def wait_until_written(self) -> None:
        """Return when every line so far is in the file, or cannot be for now."""
        wanted_count = self._taken_count
        deadline_s = self._clock.monotonic_s() + WRITE_S_MAX
        while self._written_count < wanted_count and not self._is_failing:
            writing = self._writing
            assert writing is not None, "lines that wait are written unless that fails"
            left_s = deadline_s - self._clock.monotonic_s()
            await asyncio.wait((writing,), timeout=max(left_s, 0))
            if not writing.done():
                self._fail(TimeoutError(f"no answer in {WRITE_S_MAX:g} s"))

    async def close(self) -> None:
        """Write what waits, once, and let go of the file; harmless if that was done."""
        if self._is_closed:
            return
        self._is_closed = True
        self._is_failing = False
        self._write()
        await self.wait_until_written()
        self._lost.add(float(len(self._lines)))
        self._thread.shutdown(wait=False)
        if self._writing is None:
            self._file.close()

    def _write(self) -> None:
        """Begin to write what waits, unless that is under way."""
        if self._writing is not None or not self._lines:
            return
        batch = tuple(self._lines)
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._thread, self._file.append, batch)
        self._writing.add_done_callback(self._end_write)

    def _end_write(self, writing: "asyncio.Future[int]") -> None:
        self._writing = None
        error = writing.exception()
        if error is not None:
            self._fail(error)
            return
        for _ in range(writing.result()):
            self._lines.popleft()
        self._written_count += writing.result()
        if self._is_failing:
            self._is_failing = False
            self._logger.info("audit log is written again", path=str(self._path))
        self._write()

    def _fail(self, error: BaseException) -> None:
        """Say so the first time, and try again in a while."""
        self._failures.add()
        if not self._is_failing:
            self._is_failing = True
            self._logger.error(
                "audit log cannot be written", path=str(self._path), error=str(error)
            )
        if not self._is_waiting:
            self._is_waiting = True
            self._clock.call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._is_waiting = False
        if not self._is_closed:
            self._write()


def key_digest(key: str) -> str:
    """Return what stands for an idempotency key, nothing for none."""
    return sha256(key.encode("utf-8", "replace")).hexdigest() if key else ""


def _time_text(now_ns: int) -> str:
    moment = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{now_ns % 1_000_000_000:09d}Z"


def _encode(encoder: msgspec.json.Encoder, entry: Entry) -> bytes:
    try:
        return encoder.encode(entry) + b"\n"
    except UnicodeEncodeError:
        # What was sent was no UTF-8; it is shown as far as it was.
        for name in ("id", "namespace", "request_id"):
            text: str = getattr(entry, name)
            setattr(entry, name, text.encode("utf-8", "replace").decode())
        return encoder.encode(entry) + b"\n"
