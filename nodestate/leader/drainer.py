"""Ends drains that have nothing left to move.

Level-triggered: each pass looks at the state as it is and proposes whatever is missing, so
that nothing depends on having seen every change, and a new leader just goes on.
"""

from typing import Final

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import ALLOCATIONS, NODES
from nodestate.leader.terms import LeaderTerm
from nodestate.model.command import CompleteDrains
from nodestate.model.outcome import Refused
from nodestate.planning.drains import plan_drain_completions
from nodestate.ports import Counter
from nodestate.watch import Waiter, table_key

REST_S_MIN: Final = 0.02
REST_SHARE: Final = 20
"""A rest is this many times as long as the pass before it: passes take 5 % of the time."""
IDLE_S_MAX: Final = 60.0
"""A pass is made at least this often, whatever happens."""


class Drainer:
    """The loop of one term."""

    def __init__(self, term: LeaderTerm, completed: Counter) -> None:
        self._term = term
        self._completed = completed
        self._logger = term.logger

    async def run(self) -> None:
        """Look, propose, wait for a change; for ever."""
        failure_count = 0
        keys = table_key(NODES), table_key(ALLOCATIONS)
        with self._term.watch.waiter(*keys) as waiter:
            while True:
                waiter.rearm()
                began_s = self._term.clock.monotonic_s()
                commands = self._plan()
                took_s = self._term.clock.monotonic_s() - began_s
                # The rest is planned again, by what is true then.
                if commands and not await self._propose(commands[0]):
                    failure_count += 1
                    await self._term.pause(failure_count)
                    continue
                failure_count = 0
                # Many changes in a row are looked at together.
                await self._term.clock.sleep(max(REST_S_MIN, REST_SHARE * took_s))
                if not commands:
                    await self._wait(waiter)

    def _plan(self) -> tuple[CompleteDrains, ...]:
        return plan_drain_completions(
            self._term.view.state(), self._term.clock.now_ns()
        )

    async def _propose(self, command: CompleteDrains) -> bool:
        """Say whether at least one drain was ended."""
        try:
            outcome = await self._term.propose(command)
        except (NoLeaderError, OutcomeUnknownError) as error:
            self._logger.warning("end of drains not written", error=str(error))
            return False
        if isinstance(outcome, Refused):
            self._logger.error("end of drains refused", reason=outcome.reason)
            return False
        if outcome.index == 0:
            # Every node changed between plan and entry, and is planned for again.
            return False
        node_count = len(command.drains)
        self._completed.add(node_count)
        self._logger.info("drains ended", index=outcome.index, node_count=node_count)
        return True

    async def _wait(self, waiter: Waiter) -> None:
        # The clock that the services are given wakes the waiter; the limit of the wait
        # itself only guards against a timer that never comes.
        timer = self._term.clock.call_later(IDLE_S_MAX, waiter.wake)
        try:
            await waiter.wait(2 * IDLE_S_MAX)
        finally:
            timer.cancel()
