"""Running commands against a server with scripted answers."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest

from nodestate.cli.main import execute
from nodestate.cli.session import Console, Session
from tests.scripted_server import ScriptedServer, scripted_server

NOW_NS = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z

Run = Callable[..., Awaitable["Ran"]]


class Ran(msgspec.Struct, frozen=True):
    """What a command wrote and returned."""

    code: int
    out: str
    err: str


class StoppedClock:
    """Always the same time."""

    def now_ns(self) -> int:
        return NOW_NS

    def monotonic_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing in a command sleeps")

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        raise AssertionError("nothing in a command sets a timer")


class CountingIds:
    """Ids that can be told apart and foretold."""

    def __init__(self) -> None:
        self._count = 0

    def new_id(self) -> str:
        self._count += 1
        return f"00000000-0000-4000-8000-{self._count:012d}"

    def new_seed(self) -> bytes:
        return bytes(16)

    def jitter(self) -> float:
        return 0.0


def run_command(
    words: list[str],
    *,
    environment: Mapping[str, str] | None = None,
    typed: str = "",
    is_bold: bool = False,
) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    session = Session(
        console=Console(out, err, io.StringIO(typed), is_bold=is_bold),
        environment=environment or {},
        clock=StoppedClock(),
        ids=CountingIds(),
    )
    code = execute(words, session)
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    """Serve a script on a free port."""
    async with scripted_server() as script:
        yield script


@pytest.fixture
def run(scripted: ScriptedServer) -> Run:
    """Run a command against the scripted server, off the loop that serves it."""

    async def run_it(
        *words: str,
        environment: Mapping[str, str] | None = None,
        typed: str = "",
        is_bold: bool = False,
    ) -> Ran:
        known = {"NODESTATE_ADDR": scripted.address, **(environment or {})}
        return await asyncio.to_thread(
            run_command, list(words), environment=known, typed=typed, is_bold=is_bold
        )

    return run_it
