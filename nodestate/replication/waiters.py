"""Who waits for an entry to be applied, or for leadership to change: none for ever."""

import asyncio
import heapq

from nodestate.clock import Clock


class AppliedWaiters:
    """Waits for an index; the lowest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._count = 0
        self._heap: list[tuple[int, int, asyncio.Future[bool]]] = []

    async def wait(self, index: int, timeout_s: float) -> bool:
        """Return whether `index` was applied within `timeout_s` seconds."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._count += 1
        item = (index, self._count, future)
        heapq.heappush(self._heap, item)
        timer = self._clock.call_later(timeout_s, lambda: _set(future, value=False))
        try:
            return await future
        finally:
            timer.cancel()
            is_woken = future.done() and not future.cancelled() and future.result()
            # Its entry may have been applied in the moment in which its time was over.
            if not is_woken and item in self._heap:
                self._heap.remove(item)
                heapq.heapify(self._heap)

    def wake(self, applied_index: int) -> None:
        """Let those go on whose entry is applied."""
        while self._heap and self._heap[0][0] <= applied_index:
            _set(heapq.heappop(self._heap)[2], value=True)


class ChangeWaiters:
    """Waits for any change at all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._futures: dict[asyncio.Future[bool], None] = {}

    async def wait(self, timeout_s: float) -> None:
        """Return at the next change, or after `timeout_s` seconds."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._futures[future] = None
        timer = self._clock.call_later(timeout_s, lambda: _set(future, value=False))
        try:
            await future
        finally:
            timer.cancel()
            del self._futures[future]

    def wake(self) -> None:
        """Let everyone go on."""
        for future in self._futures:
            _set(future, value=True)


def _set(future: asyncio.Future[bool], *, value: bool) -> None:
    if not future.done():
        future.set_result(value)
