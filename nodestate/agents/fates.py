"""What becomes of work, drawn from a seed.

A draw depends on the seed, the node, the allocation and what is drawn, and on nothing
else: neither on the order of draws nor on how often one is made. So a simulator that is
started again draws the same.
"""

import hashlib
from typing import Final

import msgspec

_MS: Final = 1_000_000
_SECOND: Final = 1000 * _MS
_WHOLE: Final = 1 << 64


class Span(msgspec.Struct, frozen=True):
    """How long something takes: evenly from the least to the most, in ns."""

    least_ns: int
    most_ns: int


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How simulated work goes.

    `failure_rate` of the allocations fail each time that they are started, until their
    restarts are used up; `crash_rate` of them fail the first time only. A task that will
    fail lives for `life`. `healthy_after_ns` stands in for the job's own time if given.
    Everything, the times in a job included, is `speed` times as fast.
    """

    start: Span = Span(500 * _MS, 2 * _SECOND)
    run: Span = Span(10 * _SECOND, 60 * _SECOND)
    life: Span = Span(5 * _SECOND, 30 * _SECOND)
    kill: Span = Span(200 * _MS, _SECOND)
    healthy_after_ns: int | None = None
    failure_rate: float = 0.0
    crash_rate: float = 0.0
    exit_codes: tuple[int, ...] = (1,)
    speed: float = 1.0

    def scaled_ns(self, duration_ns: int) -> int:
        """Return how long something takes at this speed."""
        return duration_ns if self.speed == 1.0 else round(duration_ns / self.speed)


class Origin(msgspec.Struct, frozen=True):
    """What draws for one allocation hang on."""

    seed: str
    node_id: str
    allocation_id: str


class Fate(msgspec.Struct, frozen=True):
    """One life of an allocation: how long until it runs, and how it then ends.

    `ends_after_ns` is `None` for one that runs until it is told to stop. Which task ends
    badly is `task_number`, to be taken modulo the number of tasks.
    """

    start_ns: int
    ends_after_ns: int | None = None
    exit_code: int = 0
    task_number: int = 0


def draw(*names: str) -> int:
    """Return 64 bits that the names alone decide."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8])


def draw_fate(
    behaviour: Behaviour, origin: Origin, *, life: int, is_batch: bool
) -> Fate:
    """Return how the allocation fares when it has been started again `life` times."""
    start_ns = _within(behaviour, behaviour.start, origin, f"start {life}")
    if _fails(behaviour, origin, life):
        codes = behaviour.exit_codes
        return Fate(
            start_ns=start_ns,
            ends_after_ns=_within(behaviour, behaviour.life, origin, f"life {life}"),
            exit_code=codes[_draw(origin, f"exit {life}") % len(codes)],
            task_number=_draw(origin, f"task {life}"),
        )
    if is_batch:
        run_ns = _within(behaviour, behaviour.run, origin, "run")
        return Fate(start_ns=start_ns, ends_after_ns=run_ns)
    return Fate(start_ns=start_ns)


def draw_kill_ns(behaviour: Behaviour, origin: Origin) -> int:
    """Return how long the allocation takes to stop."""
    return _within(behaviour, behaviour.kill, origin, "kill")


def _fails(behaviour: Behaviour, origin: Origin, life: int) -> bool:
    share = _draw(origin, "luck") / _WHOLE
    if share < behaviour.failure_rate:
        return True
    return life == 0 and share < behaviour.failure_rate + behaviour.crash_rate


def _within(behaviour: Behaviour, span: Span, origin: Origin, what: str) -> int:
    width_ns = span.most_ns - span.least_ns
    drawn_ns = span.least_ns + _draw(origin, what) * (width_ns + 1) // _WHOLE
    return behaviour.scaled_ns(drawn_ns)


def _draw(origin: Origin, what: str) -> int:
    return draw(origin.seed, origin.node_id, origin.allocation_id, what)
