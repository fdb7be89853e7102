"""Tasks that a test runs by hand, or that run by themselves, and what came of them."""

import asyncio
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


class RunningTasks:
    """Runs tasks, and keeps the first error out of one."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        self.tasks.append(asyncio.ensure_future(coroutine))

    def running(self) -> int:
        return sum(not task.done() for task in self.tasks)

    def error(self) -> BaseException | None:
        for task in self.tasks:
            if task.done() and task.exception() is not None:
                return task.exception()
        return None
