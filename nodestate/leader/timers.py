"""When each node's time is up: a wheel of buckets, one for each tick.

Starting, restarting and stopping a timer touch two dictionaries, whatever the number of
nodes: a fleet restarts its timers far more often than one of them fires.
"""

from collections.abc import Collection, Iterable, KeysView
from math import ceil, floor
from typing import Final

from nodestate.model.node import NodeKey

TICK_S: Final = 0.25
"""A timer fires up to this much late, and never early."""


class NodeTimers:
    """The running timers; points in time are seconds of a clock that never goes back."""

    def __init__(self, now_s: float) -> None:
        self._due_ticks: dict[NodeKey, int] = {}
        self._buckets: dict[int, dict[NodeKey, None]] = {}
        self._taken_tick = floor(now_s / TICK_S)

    def __len__(self) -> int:
        return len(self._due_ticks)

    def __contains__(self, key: NodeKey) -> bool:
        return key in self._due_ticks

    def keys(self) -> KeysView[NodeKey]:
        """Return the nodes that have a timer."""
        return self._due_ticks.keys()

    def start(self, key: NodeKey, due_s: float) -> None:
        """Start a timer, or move the one that runs."""
        self.stop(key)
        tick = self._tick_of(due_s)
        self._due_ticks[key] = tick
        self._buckets.setdefault(tick, {})[key] = None

    def start_many(self, keys: Collection[NodeKey], due_s: float) -> None:
        """Start timers at once for nodes that have none."""
        if not keys:
            return
        tick = self._tick_of(due_s)
        self._due_ticks.update(dict.fromkeys(keys, tick))
        self._buckets.setdefault(tick, {}).update(dict.fromkeys(keys))

    def stop(self, key: NodeKey) -> None:
        """Stop a timer; harmless without one."""
        tick = self._due_ticks.pop(key, None)
        if tick is None:
            return
        bucket = self._buckets[tick]
        del bucket[key]
        if not bucket:
            del self._buckets[tick]

    def put_off(self, due_s: float) -> None:
        """Move every timer that would fire before `due_s` to then."""
        tick = self._tick_of(due_s)
        later = self._buckets.setdefault(tick, {})
        for earlier in [known for known in self._buckets if known < tick]:
            bucket = self._buckets.pop(earlier)
            later.update(bucket)
            self._due_ticks.update(dict.fromkeys(bucket, tick))
        if not later:
            del self._buckets[tick]

    def take_due(self, now_s: float) -> list[NodeKey]:
        """Take out the timers whose time is up, the earliest first."""
        tick = floor(now_s / TICK_S)
        due: list[NodeKey] = []
        for passed in self._passed(tick):
            due += self._buckets.pop(passed)
        self._taken_tick = max(tick, self._taken_tick)
        for key in due:
            del self._due_ticks[key]
        return due

    def _tick_of(self, due_s: float) -> int:
        # A tick that has been taken does not come again.
        return max(ceil(due_s / TICK_S), self._taken_tick + 1)

    def _passed(self, tick: int) -> Iterable[int]:
        """Return the buckets up to a tick, by whichever way is shorter."""
        ticks: Collection[int] = range(self._taken_tick + 1, tick + 1)
        if len(ticks) < len(self._buckets):
            return [passed for passed in ticks if passed in self._buckets]
        return sorted(passed for passed in self._buckets if passed <= tick)
