"""Schedules drawn from seeds: which faults, how often, on what kind of cluster.

Each seed has some kinds of faults and not others, at rates of its own, so that what one
kind hides another shows (swarm testing). What is drawn never asks for more than was
promised: damage that outlives a restart is kept to a minority of the disks.
"""

import random
from collections.abc import Callable
from typing import Final

from cluster.simulation import draw_work
from cluster.simulation.schedule import (
    FOLLOWER,
    LEADER,
    LEADING,
    SNAPSHOTTING,
    SYNCING,
    Add,
    Break,
    Cut,
    FailDisk,
    FillDisk,
    FlipBit,
    Follow,
    Heal,
    Isolate,
    JumpClock,
    Kill,
    KillWhen,
    Linger,
    Pause,
    PowerOff,
    Read,
    Remove,
    SaveSnapshot,
    Schedule,
    Slow,
    SlowDisk,
    Start,
    Step,
    Transfer,
    Wipe,
    Write,
)
from cluster.simulation.workload import MISS, VERBS

DURATION_MS: Final = 4000
SERVER_COUNTS: Final = (3, 3, 3, 5, 1)
DOWN_MS: Final = 1200
WORK: Final = "work"
ALL_NODES: Final = ""
SETTINGS: Final = {
    "raft_heartbeat_s": 0.2,
    "election_timeout_s_min": 0.6,
    "election_timeout_s_max": 1.2,
}


class _Drawing:
    """What the draws of one seed share."""

    def __init__(
        self, rng: random.Random, server_count: int, duration_ms: int = DURATION_MS
    ) -> None:
        self.rng = rng
        self.duration_ms = duration_ms
        self.names = [f"server{number + 1}" for number in range(server_count)]
        self.fragile = rng.sample(self.names, (server_count - 1) // 2)
        self.steps: list[Step] = []
        self.at_ms = 0

    def later(self, ms_max: int = DOWN_MS) -> int:
        return self.at_ms + 20 + self.rng.randrange(ms_max)

    def server(self) -> str:
        """Choose one, the leader more often than chance would."""
        draw = self.rng.random()
        if draw < 0.35:
            return LEADER
        if draw < 0.5:
            return FOLLOWER
        return self.rng.choice(self.names)

    def pair(self) -> tuple[str, str]:
        one, other = self.rng.sample(self.names, 2)
        return one, other

    def add(self, *steps: Step) -> None:
        self.steps += steps

    def restart(self) -> None:
        self.add(Start(at_ms=self.later()))

    def heal(self) -> None:
        """Heal later, as a rule: sometimes what comes next heals, or nothing does."""
        if self.rng.random() < 0.8:
            self.add(Heal(at_ms=self.later(1500)))


def _kill(draw: _Drawing) -> None:
    draw.add(
        Kill(
            at_ms=draw.at_ms,
            server=draw.server(),
            has_power_loss=draw.rng.random() < 0.5,
            callbacks=draw.rng.randrange(60),
        )
    )
    draw.restart()


def _kill_syncing(draw: _Drawing) -> None:
    _kill_when(draw, SYNCING)


def _kill_leading(draw: _Drawing) -> None:
    _kill_when(draw, LEADING)


def _kill_snapshotting(draw: _Drawing) -> None:
    _kill_when(draw, SNAPSHOTTING)


def _kill_when(draw: _Drawing, moment: str) -> None:
    server = draw.rng.choice(draw.names) if moment == LEADING else draw.server()
    draw.add(
        KillWhen(
            at_ms=draw.at_ms,
            server=server,
            moment=moment,
            has_power_loss=draw.rng.random() < 0.7,
        )
    )
    draw.restart()


def _power_off(draw: _Drawing) -> None:
    draw.add(PowerOff(at_ms=draw.at_ms), Start(at_ms=draw.later(400)))


def _pause(draw: _Drawing) -> None:
    for_ms = draw.rng.choice((50, 300, 900, 1500))
    draw.add(Pause(at_ms=draw.at_ms, server=draw.server(), for_ms=for_ms))


def _jump_clock(draw: _Drawing) -> None:
    by_ms = draw.rng.choice((-3_600_000, -500, 500, 3_600_000))
    server = draw.rng.choice(draw.names)
    draw.add(JumpClock(at_ms=draw.at_ms, server=server, by_ms=by_ms))


def _cut(draw: _Drawing) -> None:
    one, other = draw.pair()
    is_both_ways = draw.rng.random() < 0.5
    draw.add(Cut(at_ms=draw.at_ms, server=one, other=other, is_both_ways=is_both_ways))
    draw.heal()


def _isolate(draw: _Drawing) -> None:
    is_one_way = draw.rng.random() < 0.3
    draw.add(Isolate(at_ms=draw.at_ms, server=draw.server(), is_one_way=is_one_way))
    draw.heal()


def _slow(draw: _Drawing) -> None:
    one, other = draw.pair()
    by_ms = draw.rng.choice((20, 100, 400))
    draw.add(Slow(at_ms=draw.at_ms, server=one, other=other, by_ms=by_ms))
    draw.heal()


def _break(draw: _Drawing) -> None:
    one, other = draw.pair()
    draw.add(Break(at_ms=draw.at_ms, server=one, other=other))


def _linger(draw: _Drawing) -> None:
    one, other = draw.pair()
    lag_ms = draw.rng.choice((10, 60, 300))
    draw.add(Linger(at_ms=draw.at_ms, server=one, other=other, lag_ms=lag_ms))


def _slow_disk(draw: _Drawing) -> None:
    server = draw.rng.choice(draw.names)
    by_ms = draw.rng.choice((10, 80, 400, 3000))
    draw.add(
        SlowDisk(at_ms=draw.at_ms, server=server, by_ms=by_ms),
        SlowDisk(at_ms=draw.later(), server=server, by_ms=0),
    )


def _fail_disk(draw: _Drawing) -> None:
    action = draw.rng.choice(("write", "sync", "create"))
    draw.add(FailDisk(at_ms=draw.at_ms, server=draw.server(), action=action))
    draw.restart()


def _fill_disk(draw: _Drawing) -> None:
    draw.add(FillDisk(at_ms=draw.at_ms, server=draw.server()))
    draw.restart()


def _flip_bit(draw: _Drawing) -> None:
    if draw.fragile:
        place = draw.rng.getrandbits(30)
        server = draw.rng.choice(draw.fragile)
        draw.add(FlipBit(at_ms=draw.at_ms, server=server, place=place))


def _wipe(draw: _Drawing) -> None:
    if draw.fragile:
        server = draw.rng.choice(draw.fragile)
        draw.add(Wipe(at_ms=draw.at_ms, server=server))
        draw.restart()


def _transfer(draw: _Drawing) -> None:
    to = draw.rng.choice(("", *draw.names))
    draw.add(Transfer(at_ms=draw.at_ms, server=draw.server(), to=to))


def _save_snapshot(draw: _Drawing) -> None:
    draw.add(SaveSnapshot(at_ms=draw.at_ms, server=draw.server()))


def _remove(draw: _Drawing) -> None:
    """Only what may be damaged may leave: the others must be able to go on alone."""
    if draw.fragile:
        member = draw.rng.choice(draw.fragile)
        draw.add(
            Remove(at_ms=draw.at_ms, server=draw.server(), member=member),
            Add(at_ms=draw.later(), server=draw.server(), member=member),
        )


ONE_SERVER_FAULTS: Final[tuple[Callable[[_Drawing], None], ...]] = (
    _kill,
    _kill_syncing,
    _kill_leading,
    _kill_snapshotting,
    _power_off,
    _pause,
    _jump_clock,
    _slow_disk,
    _fail_disk,
    _fill_disk,
    _save_snapshot,
)
FAULTS: Final = (
    *ONE_SERVER_FAULTS,
    _wipe,
    _transfer,
    _remove,
    _flip_bit,
    _cut,
    _isolate,
    _slow,
    _break,
    _linger,
)


SCENARIOS: Final[dict[str, tuple[Callable[[_Drawing], None], ...]]] = {
    "all": FAULTS,
    "crashes": (
        _kill,
        _kill_syncing,
        _kill_leading,
        _kill_snapshotting,
        _power_off,
    ),
    "links": (_cut, _isolate, _slow, _break, _linger, _pause),
    "disks": (_slow_disk, _fail_disk, _fill_disk, _flip_bit, _kill_syncing),
    "members": (
        _wipe,
        _transfer,
        _remove,
        _kill,
        _kill_leading,
        _kill_snapshotting,
        _isolate,
    ),
    "calm": (),
    WORK: (
        _kill,
        _kill_leading,
        _kill_syncing,
        _kill_snapshotting,
        _power_off,
        _pause,
        _cut,
        _isolate,
        _break,
        _slow,
        _slow_disk,
        _transfer,
        _save_snapshot,
    ),
}
"""Which kinds of faults a schedule may have, by name."""


def draw_schedule(
    seed: int, server_count: int | None = None, scenario: str = "all"
) -> Schedule:
    """Return the schedule of a seed, on as many servers as asked or as it draws."""
    rng = random.Random(f"schedule {seed}")  # noqa: S311  it has to be repeatable
    drawn_count = rng.choice(SERVER_COUNTS)
    count = server_count or drawn_count
    has_work = scenario == WORK
    duration_ms = draw_work.DURATION_MS if has_work else DURATION_MS
    draw = _Drawing(rng, count, duration_ms)
    _draw_faults(draw, SCENARIOS[scenario])
    if has_work:
        work = draw_work.WorkDrawing(rng, draw.names)
        work.draw()
        draw.add(*work.steps)
    else:
        _draw_operations(draw)
    return Schedule(
        seed=seed,
        server_count=count,
        duration_ms=duration_ms,
        delay_ms_max=rng.choice((1.0, 4.0, 20.0, 60.0)),
        sync_ms_max=rng.choice((1.0, 3.0, 15.0, 40.0)),
        # Deadlines and delays of work are told by wall clocks.
        clock_offset_ms_max=rng.choice((0, 0, 1000, 1000 if has_work else 3_600_000)),
        chunk_bytes=rng.choice((300, 1000, 256 << 10)),
        has_work=has_work,
        quiet_ms=rng.choice(draw_work.QUIET_MS) if has_work else 0,
        settings={
            **(draw_work.SETTINGS if has_work else SETTINGS),
            "segment_bytes": rng.choice((4096, 8192, 65536)),
            "snapshot_entries": rng.choice((6, 12, 25, 100_000)),
            "snapshot_tail_entries": rng.choice((0, 3, 10)),
            "digest_entries": rng.choice((4, 16, 1000)),
        },
        steps=tuple(sorted(draw.steps, key=lambda step: step.at_ms)),
    )


def _draw_faults(draw: _Drawing, kinds: tuple[Callable[[_Drawing], None], ...]) -> None:
    rng = draw.rng
    if len(draw.names) == 1:
        kinds = tuple(kind for kind in kinds if kind in ONE_SERVER_FAULTS)
    if not kinds:
        return
    chosen = rng.sample(kinds, min(len(kinds), rng.randrange(1, 7)))
    weights = [rng.random() + 0.1 for _ in chosen]
    for _ in range(rng.choice((2, 5, 8, 12))):
        draw.at_ms = rng.randrange(100, draw.duration_ms - 300)
        rng.choices(chosen, weights)[0](draw)


def _draw_operations(draw: _Drawing) -> None:
    """Draw what clients do; few nodes, so that they get into each other's way."""
    rng = draw.rng
    nodes = [f"n{number}" for number in range(rng.choice((1, 2, 4)))]
    verbs = (*VERBS, "register", "register", "close", "open")
    count = rng.choice((20, 40, 60))
    read_share, retried_share = rng.choice((0.1, 0.3, 0.5)), rng.choice((0.0, 0.5, 1.0))
    for op in range(1, count + 1):
        at_ms = rng.randrange(DURATION_MS)
        server, node = rng.choice(draw.names), rng.choice(nodes)
        if rng.random() < read_share:
            is_consistent = rng.random() < 0.8
            draw.add(
                Read(
                    at_ms=at_ms,
                    op=op,
                    server=server,
                    node=node,
                    is_consistent=is_consistent,
                )
            )
            continue
        verb = rng.choice(verbs)
        # Its services do not ask again: the next leader has services of its own.
        is_retried = rng.random() < retried_share and verb != MISS
        server = LEADER if verb == MISS else server
        draw.add(
            Write(
                at_ms=at_ms,
                op=op,
                server=server,
                verb=verb,
                node=node,
                is_retried=is_retried,
            )
        )
    for number in range(rng.randrange(4)):
        draw.add(
            Follow(
                at_ms=rng.randrange(DURATION_MS // 2),
                op=1000 + number,
                server=rng.choice(draw.names),
                node=rng.choice((*nodes, ALL_NODES)),
                wait_ms=rng.choice((150, 1000, 10_000)),
            )
        )
