"""Changing the members and who leads, on any server; and what the leader does by itself.

A server that comes back with an empty data directory under a member's name is taken
for a learner, and a learner that has caught up is given its vote: neither needs an
operator. All else is asked for, and done by the leader, one step at a time.
"""

from typing import Final

import msgspec
import structlog
from msgspec.msgpack import Decoder
from msgspec.structs import replace

from nodestate.clock import Clock
from nodestate.config import ServerConfig
from nodestate.errors import (
    NodestateError,
    NoLeaderError,
    OutcomeUnknownError,
    RequestError,
)
from nodestate.model.encoding import MSGPACK
from nodestate.ports import (
    LogEnds,
    Member,
    MemberHealth,
    Membership,
    SavedSnapshot,
    ServerAddress,
)
from nodestate.replication.configuration import Configuration, MemberEntry
from nodestate.replication.engine import NO_LEADER, Engine
from nodestate.replication.health import HealthBook, Measure
from nodestate.replication.questions import ADMINISTRATION
from nodestate.replication.replica import Replica

LOOK_S: Final = 0.5
"""How often the leader looks whether a member has to be demoted or promoted."""
POLL_S: Final = 0.05
PROMOTION_ENTRIES_MAX: Final = 100
"""A learner that lacks fewer entries than this can be of use with its vote."""
UNKNOWN: Final = "outcome unknown: the change of members was not committed in time"


class AddServer(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """Add a learner, or change a member's addresses."""

    server: ServerAddress


class RemoveServer(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """Remove a member."""

    server_id: str


class Transfer(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """Hand leadership over; the best follower for `None`."""

    server_id: str | None


class ReadHealth(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """Say how the members do."""


Errand = AddServer | RemoveServer | Transfer | ReadHealth


class Done(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """It is done: the entry's index, or who leads."""

    index: int = 0
    leader_id: str = ""


class Declined(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """It cannot be done, and nothing was."""

    reason: str


class Healths(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """How they do."""

    members: tuple[MemberHealth, ...]


_errand_decoder: Final[Decoder[Errand]] = Decoder(Errand)
_answer_decoder: Final[Decoder[Done | Declined | Healths]] = Decoder(
    Done | Declined | Healths
)


class Administration:
    """`ports.ClusterAdmin` over a replica, and the leader's own care of the members."""

    def __init__(
        self,
        replica: Replica,
        *,
        config: ServerConfig,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._replica = replica
        self._config = config
        self._clock = clock
        self._logger = logger
        self._healths = HealthBook()
        replica.questions.answer_with(self._answer, kind=ADMINISTRATION)

    # What `ClusterAdmin` promises

    def membership(self) -> Membership:
        """Return the members as this server knows them."""
        engine = self._replica.engine
        if engine is None:
            return Membership(index=0, members=())
        leader_id = engine.leader_id()
        members: list[Member] = []
        for entry in engine.configuration().members:
            follower = engine.follower(entry.server_id)
            addresses = self._replica.peers.address_of(entry)
            members.append(
                Member(
                    server_id=entry.server_id,
                    incarnation=entry.incarnation,
                    peer_address=addresses.peer_address,
                    http_address=addresses.http_address,
                    is_voter=entry.is_voter,
                    is_leader=entry.server_id == leader_id,
                    match_index=None if follower is None else follower[0],
                    contact_s=None if follower is None else follower[1],
                )
            )
        return Membership(index=engine.configuration_index(), members=tuple(members))

    def log_ends(self) -> LogEnds:
        """Return how far the log of this server goes, durable or not yet."""
        if self._replica.engine is None:
            return LogEnds()
        return self._replica.snapshots.log_ends()

    async def health(self, *, deadline_s: float) -> tuple[MemberHealth, ...]:
        """Return how the members do, as the leader sees it now, sorted by id."""
        answer = await self._ask(ReadHealth(), deadline_s)
        assert isinstance(answer, Healths), answer
        return answer.members

    async def add_server(self, server: ServerAddress, *, deadline_s: float) -> int:
        """Add a learner, or change a member's addresses; return the entry's index."""
        done = await self._do(AddServer(server), deadline_s)
        return done.index

    async def remove_server(self, server_id: str, *, deadline_s: float) -> int:
        """Remove a member, the leader too; return the entry's index."""
        done = await self._do(RemoveServer(server_id), deadline_s)
        return done.index

    async def transfer_leadership(
        self, server_id: str | None, *, deadline_s: float
    ) -> str:
        """Hand leadership to a voter, the one furthest on for `None`; return who leads."""
        done = await self._do(Transfer(server_id), deadline_s)
        return done.leader_id

    async def save_snapshot(self, *, deadline_s: float) -> SavedSnapshot:
        """Write a snapshot of this server's state now, and return what it is."""
        if self._replica.engine is None:
            raise NoLeaderError(NO_LEADER)
        return await self._replica.snapshots.save(deadline_s=deadline_s)

    async def read_snapshot(
        self, snapshot: SavedSnapshot, offset: int, length: int
    ) -> bytes:
        """Return a piece of its file."""
        return await self._replica.snapshots.read(snapshot, offset, length)

    async def _do(self, errand: Errand, deadline_s: float) -> Done:
        answer = await self._ask(errand, deadline_s)
        assert isinstance(answer, Done), answer
        return answer

    async def _ask(self, errand: Errand, deadline_s: float) -> Done | Healths:
        body = await self._replica.ask_leader_of(
            ADMINISTRATION, MSGPACK.encode(errand), deadline_s=deadline_s
        )
        answer = _answer_decoder.decode(body)
        if isinstance(answer, Declined):
            raise RequestError(answer.reason)
        return answer

    # The leader's side

    async def _answer(self, question: bytes) -> bytes:
        try:
            errand = _errand_decoder.decode(question)
        except msgspec.MsgspecError as error:
            raise NoLeaderError(f"an errand that cannot be read: {error}") from error
        try:
            return MSGPACK.encode(await self._carry_out(errand))
        except RequestError as error:
            return MSGPACK.encode(Declined(str(error)))

    async def _carry_out(self, errand: Errand) -> Done | Healths:
        match errand:
            case ReadHealth():
                return Healths(self._look_at_health(self._engine()))
            case AddServer():
                return await self._change(self._with_server(errand.server))
            case RemoveServer():
                return await self._change(self._without_server(errand.server_id))
            case Transfer():
                return await self._hand_over(errand.server_id)

    def _look_at_health(self, engine: Engine) -> tuple[MemberHealth, ...]:
        measure = Measure(
            term=engine.term(),
            last_index=self.log_ends().last_index,
            commit_index=engine.commit_index(),
            contact_s_max=self._config.election_timeout_s_min,
            term_at=self._replica.snapshots.term_at,
        )
        members = self.membership().members
        return self._healths.look(members, measure, self._clock.now_ns())

    def _engine(self) -> Engine:
        engine = self._replica.engine
        if engine is None or not engine.is_leader():
            raise NoLeaderError(NO_LEADER)
        return engine

    def _with_server(self, server: ServerAddress) -> Configuration:
        configuration = self._engine().configuration()
        known = configuration.member(server.server_id)
        member = MemberEntry(
            server.server_id,
            "" if known is None else known.incarnation,
            server.peer_address,
            server.http_address,
            known is not None and known.is_voter,
        )
        return configuration.with_member(member)

    def _without_server(self, server_id: str) -> Configuration:
        configuration = self._engine().configuration()
        if configuration.member(server_id) is None:
            raise RequestError(
                f'id "{server_id}" was not found in the Raft configuration'
            )
        return configuration.without(server_id)

    async def _change(self, configuration: Configuration) -> Done:
        """Append the change, and return once it is applied here."""
        index, _ = self._engine().propose_members(configuration)
        deadline_s = self._config.propose_timeout_s
        if await self._replica.wait_until_applied(index, deadline_s=deadline_s):
            return Done(index=index)
        raise OutcomeUnknownError(UNKNOWN)

    async def _hand_over(self, server_id: str | None) -> Done:
        engine = self._engine()
        if server_id is None:
            server_id = engine.best_successor()
            if server_id is None:
                raise RequestError("there is no other server with a vote in contact")
        if server_id == self._config.name:
            return Done(leader_id=server_id)
        engine.begin_transfer(server_id)
        while engine.is_transferring():
            await self._replica.wait_for_change(POLL_S)
        if engine.is_leader():
            raise RequestError(f"{server_id!r} did not take over in time")
        give_up_at_s = self._clock.monotonic_s() + self._config.election_timeout_s_max
        while engine.leader_id() is None and self._clock.monotonic_s() < give_up_at_s:
            await self._replica.wait_for_change(POLL_S)
        return Done(leader_id=engine.leader_id() or server_id)

    # What the leader does by itself

    async def retire(self) -> None:
        """Have another server lead, if this one does: it is about to stop.

        So nobody misses a leader for as long as an election timeout.
        """
        engine = self._replica.engine
        if engine is None or not engine.is_leader():
            return
        successor = engine.best_successor()
        if successor is None:
            return
        engine.begin_transfer(successor)
        # It ends by itself.
        while engine.is_transferring():
            await self._replica.wait_for_change(POLL_S)

    async def run(self) -> None:
        """Look after the members, for ever."""
        while True:
            await self._replica.wait_for_change(LOOK_S)
            engine = self._replica.engine
            if engine is None:
                continue
            self._replica.peers.forget_strangers()
            if engine.is_ready_to_lead():
                self._look_at_health(engine)
                self._look_after(engine)

    def _look_after(self, engine: Engine) -> None:
        if engine.configuration_index() > engine.commit_index():
            return
        wanted = self._demoted(engine) or self._promoted(engine)
        if wanted is None:
            return
        member, reason = wanted
        try:
            engine.propose_members(engine.configuration().with_member(member))
        except NodestateError as error:
            self._logger.debug("member not changed", error=str(error))
        else:
            self._logger.info(reason, member=member.server_id)

    def _demoted(self, engine: Engine) -> tuple[MemberEntry, str] | None:
        """Return a member that has another data directory than the log knows of.

        Its votes and acknowledgements were another's: it learns from the beginning.
        """
        for member in engine.configuration().members:
            if member.server_id == self._config.name:
                continue
            incarnation = self._replica.peers.reached_incarnation(member.server_id)
            if incarnation not in (None, member.incarnation):
                assert incarnation is not None
                learner = replace(member, incarnation=incarnation, is_voter=False)
                return learner, "member taken in as a learner"
        return None

    def _promoted(self, engine: Engine) -> tuple[MemberEntry, str] | None:
        """Return a learner that has caught up."""
        for member in engine.configuration().members:
            follower = engine.follower(member.server_id)
            if member.is_voter or not member.incarnation or follower is None:
                continue
            match_index, contact_s = follower
            is_level = match_index + PROMOTION_ENTRIES_MAX >= engine.commit_index()
            is_there = contact_s < self._config.election_timeout_s_min
            if match_index > 0 and is_level and is_there:
                return replace(member, is_voter=True), "learner given a vote"
        return None
