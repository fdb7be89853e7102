"""Removes tokens whose time is over, every few minutes: they allow nothing already."""

from typing import Final

from nodestate.acl.expiry import expired_accessors
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.leader.terms import LeaderTerm
from nodestate.model.command import SERVER, ExpireTokens
from nodestate.model.outcome import Refused
from nodestate.ports import Counter

REST_S: Final = 0.02
"""Between two entries, so that others have their turn."""


class TokenExpiry:
    """The passes of one term; tokens that are removed are counted."""

    def __init__(self, term: LeaderTerm, expired: Counter) -> None:
        self._term = term
        self._expired = expired

    async def run(self) -> None:
        """Make a pass as often as for other garbage, for ever."""
        while True:
            await self._term.clock.sleep(self._term.config.gc_interval_s)
            await self._make_pass()

    async def _make_pass(self) -> None:
        """Remove all that there are; what fails is left for the next pass."""
        try:
            while await self._remove_some():
                await self._term.clock.sleep(REST_S)
        except (NoLeaderError, OutcomeUnknownError) as error:
            self._term.logger.warning("expired tokens not removed", error=str(error))

    async def _remove_some(self) -> bool:
        """Say whether there were any, so that there may be more."""
        now_ns = self._term.clock.now_ns()
        accessor_ids = expired_accessors(self._term.view.state(), now_ns)
        if not accessor_ids:
            return False
        command = ExpireTokens(at_ns=now_ns, asked_by=SERVER, accessor_ids=accessor_ids)
        outcome = await self._term.propose(command)
        if isinstance(outcome, Refused):
            self._term.logger.error("expiry refused", reason=outcome.reason)
            return False
        self._expired.add(len(accessor_ids))
        return outcome.index != 0
