"""Tasks that a test runs by hand, and what came of them."""

from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Keeps what was started, to be run by hand."""

    def __init__(self) -> None:
        self.waiting: list[Coroutine[Any, Any, None]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        self.waiting.append(coroutine)

    async def run(self) -> None:
        while self.waiting:
            await self.waiting.pop(0)
