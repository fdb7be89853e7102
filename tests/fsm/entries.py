"""Commands and nodes with everything filled in, and a log that applies them to a state."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from nodestate.fsm import machine
from nodestate.fsm.machine import Applied
from nodestate.fsm.snapshot import encode_state
from nodestate.fsm.state import State
from nodestate.model.allocation import Allocation
from nodestate.model.command import (
    Command,
    CompletedDrain,
    CompleteDrains,
    EmitNodeEvents,
    EvaluateNode,
    MissHeartbeats,
    PurgeNodes,
    RegisterNodes,
    Registration,
    SetDrain,
    SetEligibility,
    UpdateNodeStatus,
)
from nodestate.model.job import Job, JobType
from nodestate.model.node import DrainStrategy, Node, NodeEvent, NodeKey, NodeStatus
from nodestate.model.outcome import Accepted, Refused

START_NS = 1_700_000_000_123_456_789
SECOND_NS = 1_000_000_000
SECRET = b"s" * 32
OTHER_SECRET = b"o" * 32
SEED = bytes(range(16))
FIRST_INDEX = 1000


def key(number: int) -> NodeKey:
    return NodeKey(f"{number:032x}")


N1, N2, N3 = key(1), key(2), key(3)


def id_of(node_key: NodeKey) -> str:
    text = str(node_key)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def node(node_key: NodeKey = N1, **fields: Any) -> Node:
    """A node as its agent sends it."""
    sent = Node(
        id=id_of(node_key),
        name=f"node-{node_key[-1]}",
        datacenter="dc1",
        attributes={"kernel.name": "linux"},
        status=NodeStatus.READY,
    )
    return replace(sent, **fields)


def registration(
    node_key: NodeKey = N1, *, secret: bytes = SECRET, **fields: Any
) -> Registration:
    return Registration(node_key, node(node_key, **fields), secret)


def register(*registrations: Registration, at_ns: int = START_NS) -> RegisterNodes:
    return RegisterNodes(
        at_ns=at_ns, registrations=registrations or (registration(),), seed=SEED
    )


def status(
    word: NodeStatus,
    node_key: NodeKey = N1,
    *,
    secret: bytes = SECRET,
    at_ns: int = START_NS,
) -> UpdateNodeStatus:
    return UpdateNodeStatus(
        at_ns=at_ns, key=node_key, status=word, secret_sha256=secret, seed=SEED
    )


def miss(*keys: NodeKey, at_ns: int = START_NS) -> MissHeartbeats:
    return MissHeartbeats(at_ns=at_ns, keys=keys or (N1,), seed=SEED)


def emit(
    *messages: str, node_key: NodeKey = N1, secret: bytes = SECRET
) -> EmitNodeEvents:
    events = tuple(NodeEvent(message=message) for message in messages)
    return EmitNodeEvents(
        at_ns=START_NS, key=node_key, secret_sha256=secret, events=events
    )


def drain(
    deadline: int = 3600 * SECOND_NS,
    *,
    node_key: NodeKey = N1,
    at_ns: int = START_NS,
    is_system_ignored: bool = False,
    **fields: Any,
) -> SetDrain:
    strategy = DrainStrategy(deadline=deadline, ignore_system_jobs=is_system_ignored)
    return SetDrain(at_ns=at_ns, key=node_key, strategy=strategy, seed=SEED, **fields)


def stop_drain(
    *,
    mark_eligible: bool = False,
    node_key: NodeKey = N1,
    at_ns: int = START_NS,
    **fields: Any,
) -> SetDrain:
    return SetDrain(
        at_ns=at_ns,
        key=node_key,
        strategy=None,
        mark_eligible=mark_eligible,
        seed=SEED,
        **fields,
    )


def complete(*drains: CompletedDrain, at_ns: int = START_NS) -> CompleteDrains:
    return CompleteDrains(at_ns=at_ns, drains=drains)


def eligibility(
    word: str, node_key: NodeKey = N1, *, at_ns: int = START_NS
) -> SetEligibility:
    return SetEligibility(at_ns=at_ns, key=node_key, eligibility=word, seed=SEED)


def evaluate(node_key: NodeKey = N1) -> EvaluateNode:
    return EvaluateNode(at_ns=START_NS, key=node_key, seed=SEED)


def purge(*keys: NodeKey) -> PurgeNodes:
    return PurgeNodes(at_ns=START_NS, keys=keys or (N1,), seed=SEED)


class Log:
    """A state, and the entries applied to it, one index after the other."""

    def __init__(self, *commands: Command, state: State | None = None) -> None:
        self.state = state or State()
        self.index = FIRST_INDEX - 1
        self.last_command: Command | None = None
        for command in commands:
            assert isinstance(self.apply(command).outcome, Accepted)

    def apply(self, command: Command) -> Applied:
        """Apply as the next entry; each has a seed of its own."""
        self.index += 1
        if "seed" in command.__struct_fields__:
            command = replace(command, seed=self.index.to_bytes(16, "big"))
        self.last_command = command
        return machine.apply(self.state, self.index, command)

    def accept(self, command: Command) -> Accepted:
        outcome = self.apply(command).outcome
        assert isinstance(outcome, Accepted), outcome
        return outcome

    def refuse(self, command: Command) -> Refused:
        """Apply a command that must be refused, and must leave every byte alone."""
        before = encode_state(self.state)
        applied = self.apply(command)
        assert isinstance(applied.outcome, Refused), applied.outcome
        assert applied.events == ()
        assert applied.keys == ()
        assert encode_state(self.state) == before
        return applied.outcome

    def node(self, node_key: NodeKey = N1) -> Node:
        return self.state.nodes[node_key]

    def messages(self, node_key: NodeKey = N1) -> list[str]:
        return [event.message for event in self.node(node_key).events]

    def put_system_job(self, job_id: str = "logs", **fields: Any) -> None:
        job = Job(id=job_id, type=JobType.SYSTEM, priority=70, datacenters=("dc1",))
        self.state.put_job(replace(job, **fields))

    def put_allocation(self, allocation_id: str = "a1", **fields: Any) -> None:
        allocation = Allocation(id=allocation_id, job_id="web", node_key=N1)
        self.state.put_allocation(replace(allocation, **fields))

    def evaluated_jobs(self, eval_ids: Sequence[str]) -> list[str]:
        return [self.state.evaluations[eval_id].job_id for eval_id in eval_ids]
