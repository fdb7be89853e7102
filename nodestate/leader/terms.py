"""What a service is handed for one term of leadership, and how it pauses after failures."""

from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from nodestate.clock import Clock, IdSource
from nodestate.config import ServerConfig
from nodestate.model.command import Command
from nodestate.model.outcome import Outcome
from nodestate.ports import Proposer, StateView
from nodestate.watch import Watch

PAUSE_S_MIN: Final = 0.1
PAUSE_S_MAX: Final = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderTerm:
    """One term in which this server leads, and the means to use it."""

    number: int
    config: ServerConfig
    proposer: Proposer
    view: StateView
    watch: Watch
    clock: Clock
    ids: IdSource
    logger: FilteringBoundLogger

    async def propose(self, command: Command) -> Outcome:
        """Propose for this term alone: once it is over, `NoLeaderError`.

        Raises `OutcomeUnknownError` if the command may still be applied later.
        """
        return await self.proposer.propose_as_leader(
            command, term=self.number, deadline_s=self.config.propose_timeout_s
        )

    async def pause(self, failure_count: int) -> None:
        """Wait after the so-manieth failure in a row: longer each time, within bounds."""
        doublings = min(failure_count - 1, 16)  # far past the longest pause
        longest_s = min(PAUSE_S_MIN * 2**doublings, PAUSE_S_MAX)
        await self.clock.sleep(longest_s * (1 + self.ids.jitter()) / 2)
