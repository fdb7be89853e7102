"""An event loop in which time passes only when nothing else is left to do."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from typing_extensions import override

T = TypeVar("T")

START_NS = 1_700_000_000_000_000_000


class _Selector(selectors.SelectSelector):
    """Finds no socket ready, and jumps over the time it was to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    @override
    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits, and nothing will happen any more")
        self.now_s += max(timeout, 0.0)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs timers in their order, at once; an hour takes as long as what happens in it."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    @override
    def time(self) -> float:
        """Return the virtual time in seconds, from 0."""
        return self._virtual.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
