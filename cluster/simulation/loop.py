"""An event loop in which time passes only when nothing else is left to do.

It runs callbacks of several simulated processes. A process can be paused, so that nothing
of it runs and what is due gathers in order, and killed, so that nothing of it ever runs
again, not even a `finally`.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar

from typing_extensions import override

T = TypeVar("T")

START_NS: Final = 1_700_000_000_000_000_000
CALLBACKS_MAX: Final = 2_000_000
"""More than this in one simulation means that it spins in one moment for ever."""

_PROCESS: ContextVar["Process | None"] = ContextVar("process", default=None)


class SimulationError(Exception):
    """The simulation itself cannot go on: a fault of the lab or an endless loop."""


class Handle:
    """A callback that waits for its turn."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.is_cancelled = False

    def cancel(self) -> None:
        """Call it off."""
        self.is_cancelled = True


class Process:
    """One start of a server: everything that runs in its `context`, and in copies of it.

    `gone` is set once it is killed.
    """

    def __init__(self, loop: "VirtualTimeLoop", name: str) -> None:
        self.name = name
        self.context = Context()
        self.context.run(_PROCESS.set, self)
        self.is_dead = False
        self.is_paused = False
        self.paused_s = 0.0
        self.gone: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._paused_at_s = 0.0
        self._parked: list[Handle] = []

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something from outside as if it were the process's own."""
        context = self.context.copy()
        return self._loop.create_task(coroutine, context=context)

    def active_s(self) -> float:
        """Return the loop's time without what this process was paused for."""
        paused_s = self.paused_s
        if self.is_paused:
            paused_s += self._loop.time() - self._paused_at_s
        return self._loop.time() - paused_s

    def pause(self) -> None:
        """Let it stand still; what is due from here on waits."""
        if not (self.is_paused or self.is_dead):
            self.is_paused = True
            self._paused_at_s = self._loop.time()
            self._loop.halted_count += 1

    def resume(self) -> None:
        """Let it go on with all that has gathered."""
        if self.is_paused:
            self.is_paused = False
            self.paused_s += self._loop.time() - self._paused_at_s
            self._loop.halted_count -= 1
            self._loop.add_ready(self._parked)
            self._parked = []

    def kill(self) -> None:
        """End it where it stands."""
        self.resume()
        self.is_dead = True
        self._loop.halted_count += 1
        if not self.gone.done():
            self.gone.set_result(None)

    def take(self, handle: Handle) -> bool:
        """Say whether a callback is not to be run now."""
        if self.is_dead:
            return True
        if self.is_paused:
            self._parked.append(handle)
        return self.is_paused


class VirtualTimeLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in their order; an hour takes as long as what happens in it.

    `callback_count` is the finest clock there is: a kill between any two callbacks is a
    kill at some await.
    """

    def __init__(self) -> None:
        self.callback_count = 0
        self.halted_count = 0
        self.errors: list[BaseException] = []
        self._now_s = 0.0
        self._sequence = 0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._traps: list[tuple[int, int, Callable[[], None]]] = []
        self._context = copy_context()
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_max = 256

    # What asyncio asks for

    @override
    def time(self) -> float:
        """Return the virtual time in seconds, from 0."""
        return self._now_s

    @override
    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle:
        """Run it after what is ready already."""
        handle = Handle(callback, args, self._context if context is None else context)
        self._ready.append(handle)
        return handle

    @override
    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle:
        """Run it after `delay` seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    @override
    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle:
        """Run it at a time; those of one time in the order they were asked for."""
        handle = Handle(callback, args, self._context if context is None else context)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    @override
    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    @override
    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Run a coroutine; it is held until it is done, whoever else forgets it."""
        if context is None:
            context = self._context.copy()
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._tasks_max:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks_max = max(256, 2 * len(self._tasks))
        return task

    @override
    def get_debug(self) -> bool:
        """Say that asyncio need not note where everything was made."""
        return False

    @override
    def is_running(self) -> bool:
        """Say so: nothing asks from elsewhere."""
        return True

    @override
    def is_closed(self) -> bool:
        """Say no: it is dropped, not closed."""
        return False

    @override
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Do nothing: errors of callbacks are kept, those of tasks have their readers."""

    # What the simulation asks for

    def add_ready(self, handles: list[Handle]) -> None:
        """Run these after what is ready already."""
        self._ready.extend(handles)

    def call_after(self, callback_count: int, callback: Callable[[], None]) -> None:
        """Run it between two callbacks, after that many more have run."""
        self._sequence += 1
        count = self.callback_count + callback_count
        heapq.heappush(self._traps, (count, self._sequence, callback))

    @override
    def run_until_complete(  # type: ignore[override]
        self, main: Coroutine[Any, Any, T]
    ) -> T:
        """Run until `main` ends; then end everything else that was begun."""
        asyncio._set_running_loop(self)  # noqa: SLF001  what every loop does
        try:
            task = self.create_task(main)
            self._run(task)
            self._end_all()
            return task.result()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001

    def _run(self, task: asyncio.Task[Any]) -> None:
        ready, timers = self._ready, self._timers
        while not task.done():
            if self._traps and self._traps[0][0] <= self.callback_count:
                heapq.heappop(self._traps)[2]()
            if ready:
                handle = ready.popleft()
            elif timers:
                when, _, handle = heapq.heappop(timers)
                if handle.is_cancelled:
                    continue
                self._now_s = max(self._now_s, when)
            else:
                raise SimulationError("every task waits, and nothing will happen")
            if handle.is_cancelled:
                continue
            if self.halted_count:
                process = handle.context.get(_PROCESS)
                if process is not None and process.take(handle):
                    continue
            self._run_one(handle)

    def _run_one(self, handle: Handle) -> None:
        self.callback_count += 1
        if self.callback_count > CALLBACKS_MAX:
            raise SimulationError(f"still busy after {CALLBACKS_MAX} callbacks")
        self._context = handle.context
        try:
            handle.context.run(handle.callback, *handle.args)
        except Exception as error:  # noqa: BLE001  judged with everything else
            self.errors.append(error)

    def _end_all(self) -> None:
        """Cancel what is left, of dead processes too, so that nothing ends by itself."""
        self.halted_count = 0
        self._traps.clear()
        for task in self._tasks:
            if not task.done():
                task.cancel()
        handle_count = 0
        while self._ready and handle_count < CALLBACKS_MAX:
            handle_count += 1
            handle = self._ready.popleft()
            if not handle.is_cancelled:
                self._run_one(handle)
        for task in self._tasks:
            if not task.done():
                _close(task)
        self._timers.clear()


def _close(task: asyncio.Task[Any]) -> None:
    """End what will not be cancelled: the task of a dead process may have no turn left."""
    coroutine: Any = task.get_coro()
    with suppress(Exception):
        coroutine.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time."""
    loop = VirtualTimeLoop()  # type: ignore[abstract]  # nobody opens a socket here
    return loop.run_until_complete(main)
