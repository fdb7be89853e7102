"""Moves work off nodes that drain, and ends drains that have nothing left to move.

Level-triggered: each pass looks at the state as it is and proposes whatever is missing, so
that nothing depends on having seen every change, and a new leader just goes on.
"""

from typing import Final

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import ALLOCATIONS, JOBS, NODES
from nodestate.leader.slices import in_slices
from nodestate.leader.terms import LeaderTerm
from nodestate.model.command import CompleteDrains, MarkAllocations
from nodestate.model.outcome import Refused
from nodestate.planning.drains import DrainPlan, drain_commands, plan_drains
from nodestate.ports import Counter
from nodestate.watch import Waiter, table_key

REST_S_MIN: Final = 0.02
REST_SHARE: Final = 20
"""A rest is this many times as long as the pass before it: passes take 5 % of the time."""
IDLE_S_MAX: Final = 60.0
"""A pass is made at least this often, whatever happens."""


class Drainer:
    """The loop of one term."""

    def __init__(self, term: LeaderTerm, marked: Counter, completed: Counter) -> None:
        self._term = term
        self._marked = marked
        self._completed = completed
        self._logger = term.logger

    async def run(self) -> None:
        """Look, propose, wait for a change or a deadline; for ever."""
        failure_count = 0
        keys = table_key(NODES), table_key(ALLOCATIONS), table_key(JOBS)
        with self._term.watch.waiter(*keys) as waiter:
            while True:
                waiter.rearm()
                began_s = self._term.clock.monotonic_s()
                plan = await self._plan()
                took_s = self._term.clock.monotonic_s() - began_s
                if not plan.is_empty and not await self._carry_out(plan):
                    failure_count += 1
                    await self._term.pause(failure_count)
                    continue
                failure_count = 0
                # Many changes in a row are looked at together.
                await self._term.clock.sleep(max(REST_S_MIN, REST_SHARE * took_s))
                if plan.is_empty:
                    await self._wait(waiter, plan.next_deadline_ns)

    async def _plan(self) -> DrainPlan:
        clock = self._term.clock
        return await in_slices(
            plan_drains(self._term.view.state(), clock.now_ns()), clock
        )

    async def _carry_out(self, plan: DrainPlan) -> bool:
        """Propose what was planned, one after the other; say whether all of it was."""
        clock, ids = self._term.clock, self._term.ids
        for command in drain_commands(plan, clock.now_ns(), ids.new_seed):
            if not await self._propose(command):
                return False
        return True

    async def _propose(self, command: MarkAllocations | CompleteDrains) -> bool:
        """Say whether at least one allocation was marked, or one drain ended."""
        try:
            outcome = await self._term.propose(command)
        except (NoLeaderError, OutcomeUnknownError) as error:
            self._logger.warning("drains not written", error=str(error))
            return False
        if isinstance(outcome, Refused):
            self._logger.error("drains refused", reason=outcome.reason)
            return False
        if outcome.index == 0:
            # Everything changed between plan and entry, and is planned for again.
            return False
        if isinstance(command, MarkAllocations):
            self._marked.add(len(command.ids))
            return True
        node_count = len(command.drains)
        self._completed.add(node_count)
        self._logger.info("drains ended", index=outcome.index, node_count=node_count)
        return True

    async def _wait(self, waiter: Waiter, deadline_ns: int | None) -> None:
        # The clock that the services are given wakes the waiter; the limit of the wait
        # itself only guards against a timer that never comes.
        clock = self._term.clock
        wait_s = IDLE_S_MAX
        if deadline_ns is not None:
            wait_s = min(IDLE_S_MAX, max(0, deadline_ns - clock.now_ns()) / 1e9)
        timer = clock.call_later(wait_s, waiter.wake)
        try:
            await waiter.wait(2 * IDLE_S_MAX)
        finally:
            timer.cancel()
