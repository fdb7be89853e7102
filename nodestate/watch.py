"""Who waits for which key, and who is woken.

A key is a short tuple: a whole table, one record of it, the records under an id prefix,
or the allocations of one node. `replica` calls `wake` with the keys that an entry touched,
after the entry is applied; a blocking read registers first, then reads, then waits, so
that no wake-up falls between.
"""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

WatchKey = tuple[str, ...]


def table_key(table: str) -> WatchKey:
    """Return the key of everything in a table."""
    return (table,)


def record_key(table: str, key: str) -> WatchKey:
    """Return the key of one record, there or not."""
    return (table, key)


class Waiter:
    """One reader's registration; a context manager that takes itself out of the books."""

    __slots__ = ("_future", "_is_woken", "_keys", "_watch")

    def __init__(self, watch: "Watch", keys: tuple[WatchKey, ...]) -> None:
        self._watch = watch
        self._keys = keys
        self._is_woken = False
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        """Register for the keys."""
        self._watch.add(self, self._keys)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave, however the wait ended."""
        self._watch.discard(self, self._keys)

    def rearm(self) -> None:
        """Forget earlier wake-ups; call this before reading again."""
        self._is_woken = False

    def wake(self) -> None:
        """Mark as woken, and let a waiting reader go on."""
        self._is_woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout_s: float) -> bool:
        """Return whether a key was touched since `rearm`, within `timeout_s` seconds."""
        if self._is_woken:
            return True
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        timer = loop.call_later(timeout_s, self._expire)
        try:
            await self._future
        finally:
            timer.cancel()
            self._future = None
        return self._is_woken

    async def wait_until_woken(self) -> None:
        """Return once woken since `rearm`; the caller's own timer may call `wake`."""
        if self._is_woken:
            return
        self._future = asyncio.get_running_loop().create_future()
        try:
            await self._future
        finally:
            self._future = None

    def _expire(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class Watch:
    """The books: which waiters want which keys."""

    def __init__(self) -> None:
        self._waiters: dict[WatchKey, dict[Waiter, None]] = {}
        self._prefixes: dict[tuple[str, str], dict[Waiter, None]] = {}
        self._waiter_count = 0

    def waiter(self, *keys: WatchKey) -> Waiter:
        """Return a registration to enter; a key of three parts is (table, "^", prefix)."""
        return Waiter(self, keys)

    def waiter_count(self) -> int:
        """Return how many readers are registered now."""
        return self._waiter_count

    def add(self, waiter: Waiter, keys: tuple[WatchKey, ...]) -> None:
        """Enter a waiter under its keys."""
        self._waiter_count += 1
        for key in keys:
            if len(key) == 3:
                self._prefixes.setdefault((key[0], key[2]), {})[waiter] = None
            else:
                self._waiters.setdefault(key, {})[waiter] = None

    def discard(self, waiter: Waiter, keys: tuple[WatchKey, ...]) -> None:
        """Take a waiter out, and leave no empty entry behind."""
        self._waiter_count -= 1
        for key in keys:
            if len(key) == 3:
                prefix = (key[0], key[2])
                self._prefixes[prefix].pop(waiter, None)
                if not self._prefixes[prefix]:
                    del self._prefixes[prefix]
            else:
                self._waiters[key].pop(waiter, None)
                if not self._waiters[key]:
                    del self._waiters[key]

    def wake(self, keys: Iterable[WatchKey]) -> None:
        """Wake whoever waits for one of the keys, or for a prefix of a touched record.

        The key without parts is everybody's.
        """
        for key in keys:
            if not key:
                self.wake_all()
                return
            for waiter in self._waiters.get(key, ()):
                waiter.wake()
            if self._prefixes and len(key) == 2:
                self._wake_prefixes(key[0], key[1])

    def wake_all(self) -> None:
        """Wake everyone: the state was replaced as a whole."""
        for waiters in (*self._waiters.values(), *self._prefixes.values()):
            for waiter in waiters:
                waiter.wake()

    def _wake_prefixes(self, table: str, record: str) -> None:
        for length in range(len(record) + 1):
            for waiter in self._prefixes.get((table, record[:length]), ()):
                waiter.wake()


def prefix_key(table: str, prefix: str) -> WatchKey:
    """Return the key of the records whose id starts with `prefix`."""
    return (table, "^", prefix)
