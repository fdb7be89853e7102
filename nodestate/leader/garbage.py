"""Removes what is over and old enough, every few minutes, and at once for who asks.

A pass looks for it and proposes a batch, until there is none left. Whether anybody still
needs a record is said again where the entry is applied, and a pass that finds nothing
writes nothing.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import State
from nodestate.leader.slices import in_slices
from nodestate.leader.terms import LeaderTerm
from nodestate.model.command import SERVER, CollectGarbage
from nodestate.model.outcome import Refused
from nodestate.model.question import CollectedAnswer, CollectNow, NotAnswered
from nodestate.model.timestamp import NANOSECONDS
from nodestate.planning.garbage import ANY_AGE, Ages, plan_garbage
from nodestate.ports import Counter

REST_S_MIN: Final = 0.02
"""Between two batches; or as long as the first one took, if that is longer."""
ANSWER_S_MAX: Final = 2.0
"""How long who asks for a pass waits for its end; it goes on without them."""
DEMANDS_MAX: Final = 64
TOO_MANY: Final = "too many garbage collections asked for at once"
TERM_OVER: Final = "this server no longer leads"

KINDS: Final = ("jobs", "allocations", "evaluations", "nodes")
"""What there is to remove, as logs and metrics name it."""

_NOT_YET: Final = CollectedAnswer(is_whole=False)


@dataclass(slots=True)
class _Demand:
    """Somebody waits for a pass that begins after they asked."""

    asked_by: str
    answer: CollectedAnswer | NotAnswered = _NOT_YET
    is_answered: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self, answer: CollectedAnswer | NotAnswered) -> None:
        self.answer = answer
        self.is_answered.set()


class GarbageCollector:
    """The passes of one term, which are counted, and records by what they are."""

    def __init__(self, term: LeaderTerm, passes: Counter, collected: Counter) -> None:
        self._term = term
        self._passes = passes
        self._collected = collected
        self._logger = term.logger
        self._demands: list[_Demand] = []
        self._is_due = asyncio.Event()

    async def run(self) -> None:
        """Make a pass whenever it is time for one, or somebody asks; for ever."""
        clock, interval_s = self._term.clock, self._term.config.gc_interval_s
        due_s = clock.monotonic_s() + interval_s
        try:
            while True:
                await self._wait(due_s)
                if self._demands:
                    await self._serve()
                else:
                    await self._make_pass(_ages(self._term), SERVER)
                    due_s = clock.monotonic_s() + interval_s
        finally:
            for demand in self._demands:
                demand.settle(NotAnswered(TERM_OVER, may_apply=False))

    async def collect_now(self, question: CollectNow) -> CollectedAnswer | NotAnswered:
        """Have a pass made, and say whether it came to its end while the caller waits."""
        if len(self._demands) >= DEMANDS_MAX:
            return NotAnswered(TOO_MANY, may_apply=False)
        demand = _Demand(question.asked_by)
        self._demands.append(demand)
        self._is_due.set()
        clock = self._term.clock
        timer = clock.call_later(ANSWER_S_MAX, demand.is_answered.set)
        try:
            await demand.is_answered.wait()
        finally:
            timer.cancel()
        return demand.answer

    async def _wait(self, due_s: float) -> None:
        clock = self._term.clock
        timer = clock.call_later(due_s - clock.monotonic_s(), self._is_due.set)
        try:
            await self._is_due.wait()
        finally:
            timer.cancel()
        self._is_due.clear()

    async def _serve(self) -> None:
        """Make one pass for all who ask."""
        demands, self._demands = self._demands, []
        answer: CollectedAnswer | NotAnswered = NotAnswered(TERM_OVER, may_apply=True)
        try:
            answer = await self._make_pass(ANY_AGE, demands[0].asked_by)
        finally:
            for demand in demands:
                demand.settle(answer)

    async def _make_pass(
        self, ages: Ages, asked_by: str
    ) -> CollectedAnswer | NotAnswered:
        """Remove a batch after the other; what fails is left for the next pass."""
        self._passes.add()
        counts = dict.fromkeys(KINDS, 0)
        answer: CollectedAnswer | NotAnswered = CollectedAnswer(is_whole=True)
        try:
            while await self._remove_batch(ages, asked_by, counts):
                pass
        except NoLeaderError as error:
            answer = NotAnswered(str(error), may_apply=False)
        except OutcomeUnknownError as error:
            answer = NotAnswered(str(error), may_apply=True)
        if isinstance(answer, NotAnswered):
            self._logger.warning("garbage collection cut short", error=answer.reason)
        if any(counts.values()):
            self._logger.info("garbage collected", asked_by=asked_by, **counts)
        return answer

    async def _remove_batch(
        self, ages: Ages, asked_by: str, counts: dict[str, int]
    ) -> bool:
        """Say whether there was something, and there may be more."""
        clock = self._term.clock
        began_s = clock.monotonic_s()
        state = self._term.view.state()
        command = await in_slices(plan_garbage(state, clock.now_ns(), ages), clock)
        if command is None:
            return False
        outcome = await self._term.propose(replace(command, asked_by=asked_by))
        if isinstance(outcome, Refused):
            self._logger.error("garbage collection refused", reason=outcome.reason)
            return False
        for kind, count in zip(KINDS, _removed(state, command), strict=True):
            counts[kind] += count
            self._collected.add(count, label=kind)
        await clock.sleep(max(REST_S_MIN, clock.monotonic_s() - began_s))
        # Where all of it had a use again meanwhile, it is left to the next pass.
        return outcome.index != 0


def _ages(term: LeaderTerm) -> Ages:
    config = term.config
    return Ages(
        evaluations_ns=round(config.gc_evaluations_after_s * NANOSECONDS),
        batch_evaluations_ns=round(config.gc_batch_evaluations_after_s * NANOSECONDS),
        jobs_ns=round(config.gc_jobs_after_s * NANOSECONDS),
        nodes_ns=round(config.gc_nodes_after_s * NANOSECONDS),
    )


def _removed(state: State, command: CollectGarbage) -> tuple[int, int, int, int]:
    """Return how much of a batch is gone, in the order of `KINDS`."""
    return (
        sum(seen.key not in state.jobs for seen in command.jobs),
        sum(id_ not in state.allocations for id_ in command.allocation_ids),
        sum(id_ not in state.evaluations for id_ in command.evaluation_ids),
        sum(seen.key not in state.nodes for seen in command.nodes),
    )
