"""A leader's surroundings, with time that tests move."""

import hashlib
from dataclasses import dataclass, field

import msgspec
import structlog

from nodestate.config import ServerConfig
from nodestate.leader.services import LeaderServices
from nodestate.leader.terms import LeaderTerm
from nodestate.model.command import (
    PurgeNodes,
    RegisterNodes,
    Registration,
    UpdateNodeStatus,
)
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.node import Node, NodeKey, NodeStatus
from nodestate.model.outcome import Accepted
from nodestate.model.question import (
    Answer,
    Heartbeat,
    HeartbeatAnswer,
    Question,
    StartTimers,
    TimersAnswer,
)
from tests.fakes import (
    FakeClock,
    FakeLeadership,
    FakeMetrics,
    FakeProposer,
    FakeReplica,
    SequentialIds,
)

SECRET = hashlib.sha256(b"secret").digest()


def key_of(number: int) -> NodeKey:
    return NodeKey(f"{number:032x}")


@dataclass
class World:
    """Everything that `server.py` would hand to the leader's services."""

    config: ServerConfig = field(default_factory=ServerConfig)
    clock: FakeClock = field(default_factory=FakeClock)
    ids: SequentialIds = field(default_factory=SequentialIds)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    replica: FakeReplica = field(default_factory=FakeReplica)
    leadership: FakeLeadership = field(default_factory=FakeLeadership)

    def __post_init__(self) -> None:
        self.proposer = FakeProposer(self.replica, self.leadership)

    def services(self) -> LeaderServices:
        return LeaderServices(
            config=self.config,
            proposer=self.proposer,
            view=self.replica,
            leadership=self.leadership,
            watch=self.replica.watch,
            clock=self.clock,
            ids=self.ids,
            metrics=self.metrics,
            logger=structlog.get_logger(),
        )

    def term(self) -> LeaderTerm:
        return LeaderTerm(
            number=self.leadership.term,
            config=self.config,
            proposer=self.proposer,
            view=self.replica,
            watch=self.replica.watch,
            clock=self.clock,
            ids=self.ids,
            logger=structlog.get_logger(),
        )

    def register(
        self, *numbers: int, status: NodeStatus = NodeStatus.READY
    ) -> list[NodeKey]:
        """Register nodes, as an entry that came through any server."""
        keys = [key_of(number) for number in numbers]
        registrations = tuple(
            Registration(key, Node(id=key, name=key, status=status), SECRET)
            for key in keys
        )
        outcome = self.replica.apply(
            RegisterNodes(
                at_ns=self.clock.now_ns(), registrations=registrations, seed=bytes(16)
            )
        )
        assert isinstance(outcome, Accepted)
        return keys

    def purge(self, *numbers: int) -> None:
        keys = tuple(key_of(number) for number in numbers)
        self.replica.apply(
            PurgeNodes(at_ns=self.clock.now_ns(), keys=keys, seed=bytes(16))
        )

    def set_status(self, number: int, status: NodeStatus) -> None:
        command = UpdateNodeStatus(
            at_ns=self.clock.now_ns(),
            key=key_of(number),
            status=status,
            secret_sha256=SECRET,
            seed=bytes(16),
        )
        self.replica.apply(command)

    def node(self, number: int) -> Node:
        node = self.replica.state().node(key_of(number))
        assert node is not None
        return node

    def down(self) -> set[int]:
        """Return the numbers of the nodes that are down."""
        nodes = self.replica.state().nodes
        return {
            int(key, 16)
            for key, node in nodes.items()
            if node.status is NodeStatus.DOWN
        }


def heartbeat_of(
    number: int,
    *,
    status: NodeStatus | None = NodeStatus.READY,
    secret_sha256: bytes = SECRET,
) -> Heartbeat:
    return Heartbeat(
        key=key_of(number),
        status=status,
        secret_sha256=secret_sha256,
        at_ns=1_700_000_000_000_000_000,
        asked_by="anonymous",
        seed=bytes(16),
    )


# mypy knows no type of which a union is a value.
_ANSWER: msgspec.msgpack.Decoder[Answer] = msgpack_decoder(Answer)  # type: ignore[arg-type]


async def ask(services: LeaderServices, question: Question) -> Answer:
    """Ask as another server would, in bytes."""
    return _ANSWER.decode(await services.answer(MSGPACK.encode(question)))


async def beat(services: LeaderServices, number: int) -> HeartbeatAnswer:
    answer = await ask(services, heartbeat_of(number))
    assert isinstance(answer, HeartbeatAnswer)
    return answer


async def start_timers(services: LeaderServices, *numbers: int) -> TimersAnswer:
    question = StartTimers(tuple(key_of(number) for number in numbers))
    answer = await ask(services, question)
    assert isinstance(answer, TimersAnswer)
    return answer
