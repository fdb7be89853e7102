"""The little language of `histories/*.txt`: steps, and what they must lead to.

`INDEX TAG key=value …` applies a command as that entry, with n1, n2, … for nodes. Under
it `->` names every event that followed, in order, then refusals, or `nothing`; `=`
says what a node or a table's index is afterwards. `+` puts a job or an allocation into
the state, for which there are no commands yet. `#` begins a comment.
"""

import hashlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from nodestate.fsm import machine
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
from nodestate.model.event import EvaluationCreated, Event, StateRestored
from nodestate.model.job import Job, JobType
from nodestate.model.node import DrainStrategy, Node, NodeEvent, NodeKey, NodeStatus
from nodestate.model.outcome import Refused

START_NS: Final = 1_700_000_000_000_000_000
SECOND_NS: Final = 1_000_000_000
DEADLINES: Final = {"1h": 3600 * SECOND_NS, "2h": 7200 * SECOND_NS, "none": 0, "force": -1}  # fmt: skip


@dataclass
class Line:
    """A line of a history, without its sign: words, and values by name."""

    text: str
    words: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Line":
        line = cls(text)
        for part in shlex.split(text):
            name, equals, value = part.partition("=")
            if equals:
                line.values[name] = value
            else:
                line.words.append(part)
        return line

    def node_keys(self) -> tuple[NodeKey, ...]:
        return tuple(key_of(name) for name in self.values["id"].split(","))

    def secret(self) -> bytes:
        return hashlib.sha256(self.values.get("secret", "own").encode()).digest()


def key_of(name: str) -> NodeKey:
    """Return the key of a node that a history calls n1, n2, …."""
    return NodeKey(f"{int(name.removeprefix('n')):032x}")


def name_of(key: NodeKey) -> str:
    return f"n{int(key, 16)}"


class Story:
    """A history as it is played, line by line; each failure names its line."""

    def __init__(self) -> None:
        self.state = State()
        self.index = 0
        self.followed: list[str] | None = None

    def play(self, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            told = line.partition("#")[0].strip()
            if told:
                try:
                    self._play_line(told)
                except AssertionError as error:
                    raise AssertionError(f"line {number}: {told}\n{error}") from error
        assert self.followed is None, "the last entry has no `->`"

    def _play_line(self, told: str) -> None:
        sign, _, rest = told.partition(" ")
        if sign.isdigit():
            assert self.followed is None, "the entry before has no `->`"
            self._apply(int(sign), Line.parse(rest))
        elif sign == "->":
            expected = [part.strip() for part in rest.split(",")]
            assert self.followed == expected, f"followed: {self.followed}"
            self.followed = None
        elif sign == "+":
            self._put(Line.parse(rest))
        else:
            assert sign == "=", f"no such sign: {sign}"
            self._compare(Line.parse(rest))

    def _apply(self, index: int, line: Line) -> None:
        assert index > self.index, "indexes go up"
        self.index = index
        command = COMMANDS[line.words.pop(0)](line, START_NS + index * SECOND_NS)
        applied = machine.apply(self.state, index, command)
        followed = [event_name(event) for event in applied.events]
        outcome = applied.outcome
        refusals = [outcome] if isinstance(outcome, Refused) else [
            result.refused for result in outcome.registrations if result.refused
        ]  # fmt: skip
        followed += [f"refused {refused.code}" for refused in refusals]
        self.followed = followed or ["nothing"]

    def _put(self, line: Line) -> None:
        kind, name = line.words
        if kind == "job":
            job_type = JobType(line.values["type"])
            self.state.put_job(Job(id=name, type=job_type, datacenters=("dc1",)))
        else:
            assert kind == "allocation", f"no such record: {kind}"
            node_key = key_of(line.values["on"])
            self.state.put_allocation(
                Allocation(id=name, job_id=line.values["job"], node_key=node_key)
            )

    def _compare(self, line: Line) -> None:
        subject, *words = line.words
        if subject in self.state.indexes:
            assert words == [str(self.state.table_index(subject))]
            return
        node = self.state.node(key_of(subject))
        if words == ["gone"]:
            assert node is None
            return
        assert node is not None, "gone"
        for word in words:
            assert node.scheduling_eligibility == word
        facts = facts_of(node)
        told = {name: facts[name] for name in line.values}
        assert told == line.values, f"{subject}: {told}"


def facts_of(node: Node) -> dict[str, str]:
    return {
        "name": node.name,
        "status": node.status,
        "drain": "yes" if node.is_draining else "no",
        "last_drain": node.last_drain.status if node.last_drain else "none",
        "first": node.events[0].message,
        "line": node.events[-1].message,
        "lines": str(len(node.events)),
        "created": str(node.create_index),
        "modified": str(node.modify_index),
    }


def event_name(event: Event) -> str:
    tag = event.__struct_config__.tag
    if isinstance(event, EvaluationCreated):
        return f"{tag} {event.evaluation.job_id}"
    if isinstance(event, StateRestored):
        return f"{tag} {event.restore_id}"
    key = getattr(event, "key", None)
    return str(tag) if key is None else f"{tag} {name_of(key)}"


# Commands


def seed_of(at_ns: int) -> bytes:
    return at_ns.to_bytes(16, "big")


def registrations_of(line: Line) -> Iterator[Registration]:
    for key in line.node_keys():
        node = Node(
            id=f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}",
            name=line.values.get("name", name_of(key)),
            datacenter="dc1",
            attributes={"kernel.name": "linux"},
            status=NodeStatus(line.values.get("status", "ready")),
            scheduling_eligibility=line.values.get("eligibility", "eligible"),
        )
        yield Registration(key, node, line.secret())


def register(line: Line, at_ns: int) -> Command:
    registrations = tuple(registrations_of(line))
    return RegisterNodes(at_ns=at_ns, registrations=registrations, seed=seed_of(at_ns))


def status(line: Line, at_ns: int) -> Command:
    (key,) = line.node_keys()
    return UpdateNodeStatus(
        at_ns=at_ns,
        key=key,
        status=NodeStatus(line.values["status"]),
        secret_sha256=line.secret(),
        seed=seed_of(at_ns),
    )


def miss_heartbeat(line: Line, at_ns: int) -> Command:
    return MissHeartbeats(at_ns=at_ns, keys=line.node_keys(), seed=seed_of(at_ns))


def emit(line: Line, at_ns: int) -> Command:
    (key,) = line.node_keys()
    messages = line.values["line"].split(",")
    return EmitNodeEvents(
        at_ns=at_ns,
        key=key,
        secret_sha256=line.secret(),
        events=tuple(NodeEvent(message=message) for message in messages),
    )


def drain(line: Line, at_ns: int) -> Command:
    (key,) = line.node_keys()
    strategy = None
    if "stop" not in line.words:
        strategy = DrainStrategy(deadline=DEADLINES[line.values["deadline"]])
    return SetDrain(
        at_ns=at_ns,
        key=key,
        strategy=strategy,
        mark_eligible="mark_eligible" in line.words,
        accessor_id=line.values.get("by", ""),
        seed=seed_of(at_ns),
    )


def complete(line: Line, at_ns: int) -> Command:
    seen = int(line.values["seen"])
    drains = tuple(CompletedDrain(key, seen) for key in line.node_keys())
    return CompleteDrains(at_ns=at_ns, drains=drains)


def eligibility(line: Line, at_ns: int) -> Command:
    (key,) = line.node_keys()
    (word,) = line.words
    return SetEligibility(at_ns=at_ns, key=key, eligibility=word, seed=seed_of(at_ns))


def evaluate(line: Line, at_ns: int) -> Command:
    (key,) = line.node_keys()
    return EvaluateNode(at_ns=at_ns, key=key, seed=seed_of(at_ns))


def purge(line: Line, at_ns: int) -> Command:
    return PurgeNodes(at_ns=at_ns, keys=line.node_keys(), seed=seed_of(at_ns))


COMMANDS: Final[dict[str, Callable[[Line, int], Command]]] = {
    "node.register": register,
    "node.status": status,
    "node.miss_heartbeat": miss_heartbeat,
    "node.events": emit,
    "node.drain": drain,
    "node.drain_complete": complete,
    "node.eligibility": eligibility,
    "node.evaluate": evaluate,
    "node.purge": purge,
}
