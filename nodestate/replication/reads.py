"""Linearizable reads: rounds that confirm who leads, shared by all that wait for them.

A read may only share a round that began after it: what was committed in between would
be missed by an older one. A follower asks the leader for the index that a round gives,
and then waits until its own replica is there (Raft thesis, 6.4).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

from nodestate.clock import Clock, Timer
from nodestate.errors import NodestateError, NoLeaderError
from nodestate.ports import Spawner
from nodestate.replication.engine import NO_LEADER, Engine
from nodestate.replication.questions import READ_INDEX, Questions

ROUND_S_MAX: Final = 1.0
"""How long the leader's answer to a follower may take."""
RETRY_S: Final = 0.05
INDEX_BYTES: Final = 8
DEADLINE_GRAIN_S: Final = 0.05
"""How often it is looked whose time is over: a timer for each reader costs more."""


class Reader(Protocol):
    """The replica that is read."""

    engine: Engine | None
    questions: Questions

    async def ask_leader_of(
        self, kind: int, question: bytes, *, deadline_s: float
    ) -> bytes:
        """Return the leader's answer."""

    async def wait_until_applied(self, index: int, *, deadline_s: float) -> bool:
        """Return whether the entry was applied here in time."""

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when leadership has changed, or the time is over."""


class Reads:
    """The linearizable reads of one server."""

    def __init__(self, replica: Reader, *, clock: Clock, spawner: Spawner) -> None:
        self._replica = replica
        self._clock = clock
        self._rounds = SharedRounds(self._confirm_index, clock=clock, spawner=spawner)
        replica.questions.answer_with(self._answer, kind=READ_INDEX)

    async def wait_until_fresh(self, *, deadline_s: float) -> int:
        """Return once the replica shows every write acknowledged before the call.

        Returns the index from which on it does; `NoLeaderError` if that is not known in
        time.
        """
        give_up_at_s = self._clock.monotonic_s() + deadline_s
        while True:
            try:
                index = await self._rounds.join(give_up_at_s)
            except NodestateError as error:
                remaining_s = give_up_at_s - self._clock.monotonic_s()
                if remaining_s <= 0:
                    raise NoLeaderError(NO_LEADER) from error
                await self._replica.wait_for_change(min(RETRY_S, remaining_s))
                continue
            remaining_s = max(give_up_at_s - self._clock.monotonic_s(), 0.0)
            if await self._replica.wait_until_applied(index, deadline_s=remaining_s):
                return index
            raise NoLeaderError(NO_LEADER)

    async def _confirm_index(self) -> int:
        """Return an index beyond which nothing was acknowledged before now."""
        engine = self._replica.engine
        if engine is None:
            raise NoLeaderError(NO_LEADER)
        if not engine.is_leader():
            answer = await self._replica.ask_leader_of(
                READ_INDEX, b"", deadline_s=ROUND_S_MAX
            )
            if len(answer) != INDEX_BYTES:
                raise NoLeaderError(f"the leader gave {len(answer)} bytes for an index")
            return int.from_bytes(answer, "big")
        confirmed: asyncio.Future[int | None]
        confirmed = asyncio.get_running_loop().create_future()
        engine.begin_read(confirmed.set_result)
        # It ends when a majority has answered, or with the leadership.
        index = await confirmed
        if index is None:
            raise NoLeaderError(NO_LEADER)
        return index

    async def _answer(self, _: bytes) -> bytes:
        """Answer a follower; it shares its round with the readers here."""
        return (await self._rounds.join()).to_bytes(INDEX_BYTES, "big")


class _Reader(NamedTuple):
    """One that waits for a round, until when at most."""

    confirmed: asyncio.Future[int]
    give_up_at_s: float

    def succeed(self, index: int) -> None:
        if not self.confirmed.done():
            self.confirmed.set_result(index)

    def fail(self, error: NodestateError) -> None:
        if not self.confirmed.done():
            self.confirmed.set_exception(error)


class SharedRounds:
    """Runs one round at a time; whoever comes meanwhile shares the next.

    `run_round` returns an index at or above all that was acknowledged before it began,
    or raises; it ends by itself.
    """

    def __init__(
        self,
        run_round: Callable[[], Awaitable[int]],
        *,
        clock: Clock,
        spawner: Spawner,
    ) -> None:
        self._run_round = run_round
        self._clock = clock
        self._spawner = spawner
        self._is_running = False
        self._sharing: list[_Reader] = []
        self._next: list[_Reader] = []
        self._timer: Timer | None = None

    async def join(self, give_up_at_s: float = math.inf) -> int:
        """Return the index that a round begun from here on gives, or raise its error.

        Raises `NoLeaderError` when it has not ended at that moment, or soon after.
        """
        reader = _Reader(asyncio.get_running_loop().create_future(), give_up_at_s)
        self._next.append(reader)
        if not self._is_running:
            self._is_running = True
            self._spawner.spawn(self._run(), name="read rounds")
        if self._timer is None:
            self._timer = self._clock.call_later(DEADLINE_GRAIN_S, self._give_up)
        return await reader.confirmed

    async def _run(self) -> None:
        try:
            while self._next:
                # All that has come in by now may share it.
                await asyncio.sleep(0)
                self._sharing, self._next = self._next, []
                try:
                    index = await self._run_round()
                except NodestateError as error:
                    for reader in self._sharing:
                        reader.fail(error)
                else:
                    for reader in self._sharing:
                        reader.succeed(index)
                self._sharing = []
        finally:
            self._is_running = False

    def _give_up(self) -> None:
        """End the waits whose time is over, and look again while anybody waits."""
        self._timer = None
        now_s = self._clock.monotonic_s()
        is_anyone_left = False
        for reader in (*self._sharing, *self._next):
            if reader.give_up_at_s <= now_s:
                reader.fail(NoLeaderError(NO_LEADER))
            elif not reader.confirmed.done():
                is_anyone_left = True
        if is_anyone_left:
            self._timer = self._clock.call_later(DEADLINE_GRAIN_S, self._give_up)
