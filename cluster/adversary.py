"""Faults drawn from a seed, and whoever carries them out on real processes."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from cluster.probe import ask_server, open_session, wait_for_leader
from cluster.servers import ServerProcess

SERVING_S: Final = 60.0
LEADER: Final = -1
"""Stands for the server that leads when the fault comes."""


class FaultKind(StrEnum):
    """What happens to a server: power cut, pause, or an orderly restart."""

    KILL = "SIGKILL"
    FREEZE = "SIGSTOP"
    RESTART = "SIGTERM"


class Fault(msgspec.Struct, frozen=True):
    """After a pause, something happens to servers at once; later they are back.

    `targets` are positions in the list of servers, or `LEADER`. One that `settles` is
    over only when every server serves; the next one may come before that otherwise.
    """

    kind: FaultKind
    targets: tuple[int, ...]
    pause_s: float
    down_s: float
    settles: bool


def draw_faults(seed: int, server_count: int) -> Iterator[Fault]:
    """Yield faults without end, the same ones for the same seed."""
    draw = random.Random(f"{seed}/faults")  # noqa: S311  no secrets
    while True:
        (kind,) = draw.choices(list(FaultKind), [5, 3, 1])
        yield Fault(
            kind=kind,
            targets=_draw_targets(draw, kind, server_count),
            pause_s=draw.choice((0.2, 1.0, 3.0, 6.0, 10.0)) * draw.uniform(0.5, 1.5),
            down_s=draw.choice((0.05, 0.5, 2.0, 5.0)) * draw.uniform(0.5, 1.5),
            settles=draw.random() < 0.5,
        )


def _draw_targets(
    draw: random.Random, kind: FaultKind, server_count: int
) -> tuple[int, ...]:
    """Draw one server half of the time, of which half are the leader, else some or all."""
    if kind is FaultKind.RESTART or draw.random() < 0.5:
        one = LEADER if draw.random() < 0.5 else draw.randrange(server_count)
        return (one,)
    count = draw.randint(1, server_count)
    return tuple(sorted(draw.sample(range(server_count), count)))


class Adversary:
    """Does faults to servers, and is the only one that may."""

    def __init__(
        self,
        processes: Sequence[ServerProcess],
        *,
        start: Callable[[ServerProcess], None],
    ) -> None:
        self._processes = processes
        self._start = start
        self.done_count = 0
        self.down: set[str] = set()
        """Servers that are not running, or not for long, by this adversary's will."""

    async def run(self, faults: Iterator[Fault], *, until_s: float) -> None:
        """Do one fault after another until a time (monotonic), and end the last one."""
        for fault in faults:
            if time.monotonic() + fault.pause_s >= until_s:
                break
            await asyncio.sleep(fault.pause_s)
            self.check_running()
            victims = [await self._find(target) for target in fault.targets]
            names = ", ".join(victim.files.name for victim in victims)
            print(f"  {fault.kind} {names} for {fault.down_s:.2f} s", flush=True)
            await self._do(fault, victims)
            self.done_count += 1
            if fault.settles:
                await self.wait_until_serving()

    async def _find(self, target: int) -> ServerProcess:
        if target != LEADER:
            return self._processes[target]
        async with open_session() as session:
            for process in self._processes:
                answer = await ask_server(session, process.files)
                for other in self._processes:
                    if answer.leader == other.files.peer:
                        return other
        return self._processes[0]

    async def _do(self, fault: Fault, victims: Sequence[ServerProcess]) -> None:
        for victim in victims:
            if fault.kind is FaultKind.FREEZE:
                victim.freeze()
                continue
            self.down.add(victim.files.name)
            if fault.kind is FaultKind.KILL:
                victim.kill()
            else:
                await asyncio.to_thread(victim.stop)
        await asyncio.sleep(fault.down_s)
        for victim in victims:
            if fault.kind is FaultKind.FREEZE:
                victim.thaw()
            else:
                self._start(victim)
                self.down.discard(victim.files.name)

    def heal(self) -> None:
        """Let every server run again."""
        for process in self._processes:
            if process.is_running:
                process.thaw()
            else:
                self._start(process)
            self.down.discard(process.files.name)

    async def wait_until_serving(self) -> None:
        """Return once every server serves; `TimeoutError` says what each said last."""
        files = [process.files for process in self._processes]
        async with open_session() as session:
            await wait_for_leader(
                session, files, within_s=SERVING_S, check=self.check_running
            )

    def check_running(self) -> None:
        """Complain about a server that ended by itself: `RuntimeError` with its log."""
        for process in self._processes:
            if not process.is_running and process.files.name not in self.down:
                raise RuntimeError(
                    f"{process.files.name} ended by itself with {process.exit_code}:\n"
                    f"{process.log_tail()}"
                )
