"""What a simulated server is handed in place of the real thing: time, ids, tasks, words."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cluster.simulation.loop import START_NS, Process
from nodestate.clock import Timer

SYNC_S_MAX: Final = 0.003


class SimulatedClock:
    """The loop's virtual time, for one start of a server.

    `offset_ns` is how wrong its wall clock is, and may change at any time.
    """

    def __init__(self, *, offset_ns: int = 0) -> None:
        self.offset_ns = offset_ns
        self._loop = asyncio.get_running_loop()

    def now_ns(self) -> int:
        """Return the wall clock."""
        return START_NS + round(self._loop.time() * 1e9) + self.offset_ns

    def monotonic_s(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Ask the loop."""
        return self._loop.call_later(seconds, callback)


class SeededIds:
    """Ids and jitter from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def new_id(self) -> str:
        """Return an id that looks like a UUID."""
        digits = f"{self._rng.getrandbits(128):032x}"
        return "-".join(
            (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        )

    def new_seed(self) -> bytes:
        """Return 16 bytes."""
        return self._rng.randbytes(16)

    def jitter(self) -> float:
        """Return a number from 0 to 1."""
        return self._rng.random()


class SimulatedSpawner:
    """Starts a server's tasks; the first error out of one is kept, and told.

    Tasks run in the server's process, whoever asks for them.
    """

    def __init__(
        self, process: Process, on_error: Callable[[BaseException], None]
    ) -> None:
        self.error: BaseException | None = None
        self._process = process
        self._on_error = on_error

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run it."""
        del name
        task = self._process.spawn(coroutine)
        task.add_done_callback(self._on_done, context=self._process.context)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and self.error is None:
            self.error = error
            self._on_error(error)


class Delay:
    """How long one disk takes to sync; `on_wait` is told before each wait, in seconds.

    `busy_until_s` is when the last sync that has begun will be over, in the loop's time.
    """

    def __init__(self, rng: random.Random, *, s_max: float = SYNC_S_MAX) -> None:
        self._rng = rng
        self.s_max = s_max
        self.extra_s = 0.0
        self.busy_until_s = 0.0
        self.on_wait: Callable[[float], None] | None = None

    async def __call__(self) -> None:
        """Take that long."""
        delay_s = self._rng.random() * self.s_max + self.extra_s
        if self.on_wait is not None:
            self.on_wait(delay_s)
        until_s = asyncio.get_running_loop().time() + delay_s
        self.busy_until_s = max(self.busy_until_s, until_s)
        await asyncio.sleep(delay_s)


class QuietLogger:
    """A logger that writes nothing."""

    def info(self, event: str, **_: object) -> None:
        """Do nothing."""

    def bind(self, **_: object) -> "QuietLogger":
        """Return itself: nobody reads what is bound."""
        return self

    debug = warning = error = critical = exception = info


class _NoMeasure:
    def add(self, amount: float = 1.0, label: str = "") -> None:
        pass

    def observe(self, seconds: float, label: str = "") -> None:
        pass


_NO_MEASURE: Final = _NoMeasure()


class UnreadMetrics:
    """Metrics that nobody reads."""

    def counter(self, name: str, description: str, label: str = "") -> _NoMeasure:
        """Return a counter that forgets."""
        del name, description, label
        return _NO_MEASURE

    def timing(self, name: str, description: str, label: str = "") -> _NoMeasure:
        """Return a timing that forgets."""
        del name, description, label
        return _NO_MEASURE

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Do nothing."""
