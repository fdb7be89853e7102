"""Time and randomness: the only module that reads either.

Everything else is handed a `Clock` and an `IdSource`, so that a test or a simulation
can decide what time it is and which ids come next.
"""

import asyncio
import os
import random
import time
import uuid
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that has been asked for and can be called off."""

    def cancel(self) -> None:
        """Call it off; harmless if it has already run."""


class Clock(Protocol):
    """What time it is, and waking up later."""

    def now_ns(self) -> int:
        """Unix time in nanoseconds; may jump, in both directions."""

    def monotonic_s(self) -> float:
        """Seconds from some fixed point; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run the callback on the loop after that many seconds."""


class IdSource(Protocol):
    """New ids, and the jitter that keeps servers and waiters out of step."""

    def new_id(self) -> str:
        """Return a random UUID in its usual text form."""

    def new_seed(self) -> bytes:
        """Return 16 random bytes from which a state machine may derive ids."""

    def jitter(self) -> float:
        """Return a random number from 0 up to, and not including, 1."""


class SystemClock:
    """The machine's clock, and the running event loop's timers."""

    def now_ns(self) -> int:
        """Read the wall clock."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Read the monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Ask the running loop."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class SystemIdSource:
    """Ids from the operating system; jitter from a fast generator."""

    def new_id(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())

    def new_seed(self) -> bytes:
        """Return 16 random bytes."""
        return os.urandom(16)

    def jitter(self) -> float:
        """Return a number that nothing secret hangs on."""
        return random.random()  # noqa: S311  jitter is no secret
