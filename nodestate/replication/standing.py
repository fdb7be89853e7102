"""How a server stands in its cluster, as everyone who reads asks it."""

from typing import Final

from nodestate.clock import Clock
from nodestate.ports import LeadershipStatus, Role
from nodestate.replication.engine import Engine

STATUS_S_MAX: Final = 0.01
"""How long what was found out between two ticks is good for."""


class Standing:
    """The status, found out once a moment.

    Only a tick changes role, term and leader, and every read asks: so what was found is
    kept for a moment, in which no contact can grow old.
    """

    def __init__(self, server_id: str, clock: Clock) -> None:
        self._server_id = server_id
        self._clock = clock
        self._status: LeadershipStatus | None = None
        self._until_s = 0.0

    def status(self, engine: Engine | None) -> LeadershipStatus:
        """Return how things stand now; without an engine there is no cluster yet."""
        now_s = self._clock.monotonic_s()
        if self._status is None or now_s >= self._until_s:
            self._status = self._found(engine)
            self._until_s = now_s + STATUS_S_MAX
        return self._status

    def forget(self) -> None:
        """Look again: something may have changed."""
        self._status = None

    def _found(self, engine: Engine | None) -> LeadershipStatus:
        if engine is None:
            return LeadershipStatus(
                server_id=self._server_id,
                role=Role.FOLLOWER,
                term=0,
                leader_id=None,
                last_contact_s=None,
                commit_index=0,
                applied_index=0,
            )
        return LeadershipStatus(
            server_id=self._server_id,
            role=engine.role(),
            term=engine.term(),
            leader_id=engine.leader_id(),
            last_contact_s=engine.last_contact_s(),
            commit_index=engine.commit_index(),
            applied_index=engine.applied_index(),
        )
