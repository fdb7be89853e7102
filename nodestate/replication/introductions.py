"""How servers introduce themselves, what they learn of each other, and forming a cluster.

Which cluster a peer is of is judged here; whether it counts in it is for the log to
say, by the incarnation that it came with.
"""

from collections.abc import Callable
from typing import Final

import structlog

from nodestate.clock import IdSource
from nodestate.replication.formation import NOT_FORMED, NOT_MEMBER, Claim, Membership
from nodestate.replication.frames import (
    PROTOCOL_VERSION,
    Formation,
    Hello,
    Refusal,
    Welcome,
)

NO_MEMBER: Final = "no member of the cluster: an operator can add it"


class Introductions:
    """The handshake, and what is known of peers by it."""

    def __init__(
        self,
        membership: Membership,
        *,
        address: str,
        ids: IdSource,
        form: Callable[[Formation], None],
        is_stranger: Callable[[str, str], bool],
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        """`form` begins to join a cluster.

        `is_stranger` is asked of a server id and its address: whether it is certain that
        it is no member.
        """
        self._membership = membership
        self._address = address
        self._ids = ids
        self._form = form
        self._is_stranger = is_stranger
        self._logger = logger
        self._spoke: dict[str, str] = {}
        self._reached: dict[str, str] = {}
        self._pending: dict[str, str] = {}
        self._last_refusals: dict[str, str] = {}

    def incarnation_of(self, peer_id: str) -> str | None:
        """Return with which data directory a peer introduced itself when it dialled."""
        return self._spoke.get(peer_id)

    def reached_incarnation(self, peer_id: str) -> str | None:
        """Return which data directory a peer has that is connected now, else `None`."""
        return self._reached.get(peer_id)

    def form_if_due(self) -> None:
        """Begin a cluster, if that is for this server to do."""
        formation = self._membership.new_formation(self._ids.new_id())
        if formation is not None:
            self._form(formation)

    def on_connected(self, peer_id: str) -> None:
        """Take note that a peer has welcomed us."""
        self._last_refusals.pop(peer_id, None)
        if peer_id in self._pending:
            self._reached[peer_id] = self._pending.pop(peer_id)

    def on_disconnected(self, peer_id: str) -> None:
        """Forget what data directory a peer has: it may come back with another."""
        self._reached.pop(peer_id, None)

    # What the transport asks

    def hello(self) -> Hello:
        """Return what to say when dialling."""
        own, formation = self._membership.own, self._membership.formation
        return Hello(
            PROTOCOL_VERSION,
            own.server_id,
            own.incarnation,
            formation,
            self._address,
        )

    def judge_hello(self, hello: Hello) -> Welcome | Refusal:
        """Return the answer to a server that dials."""
        claim = Claim(hello.server_id, hello.incarnation, hello.formation)
        reason = self._judge(claim, hello.address)
        if reason:
            return Refusal(reason)
        self._spoke[hello.server_id] = hello.incarnation
        own = self._membership.own
        return Welcome(own.server_id, own.incarnation, self._membership.formation)

    def judge_welcome(self, welcome: Welcome) -> str:
        """Return "" or why to hang up on the server that was dialled."""
        claim = Claim(welcome.server_id, welcome.incarnation, welcome.formation)
        reason = self._judge(claim, "")
        if not reason:
            self._pending[welcome.server_id] = welcome.incarnation
        return reason

    def was_refused(self, peer_id: str, reason: str) -> None:
        """Say so once; waiting for the others to start is no trouble."""
        if self._last_refusals.get(peer_id) == reason:
            return
        self._last_refusals[peer_id] = reason
        is_beginning = reason in (NOT_FORMED, NOT_MEMBER)
        log = self._logger.debug if is_beginning else self._logger.warning
        log("connection refused by peer", peer=peer_id, reason=reason)

    def _judge(self, claim: Claim, address: str) -> str:
        membership = self._membership
        was_formed = membership.formation is not None
        reason = membership.judge(claim)
        if not was_formed:
            if claim.formation is None:
                self.form_if_due()
            elif not reason:
                self._form(claim.formation)
        elif not reason and self._is_stranger(claim.server_id, address):
            return NO_MEMBER
        return reason
