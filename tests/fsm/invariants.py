"""What holds after every entry, whatever the entries are."""

from collections.abc import Iterable, Sequence

import msgspec

from nodestate.fsm import machine
from nodestate.fsm.machine import Applied
from nodestate.fsm.snapshot import encode_state
from nodestate.fsm.state import ALLOCATIONS, EVALUATIONS, JOBS, NODES, State
from nodestate.model.allocation import Allocation
from nodestate.model.command import Command, RegisterNodes, Registration
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.event import EvaluationCreated
from nodestate.model.job import Job, JobType
from nodestate.model.node import INELIGIBLE, NODE_EVENTS_MAX, Node, NodeStatus
from nodestate.model.outcome import Accepted, Refused, RegistrationResult
from tests.strategies import KEYS, NOW_NS, SECRETS

FIRST_INDEX = 10
# mypy knows no type of which a union is a value.
COMMANDS: msgspec.msgpack.Decoder[Command] = msgpack_decoder(Command)  # type: ignore[arg-type]


def worked_state() -> State:
    """Return a state with three nodes of those that the strategies use, and their work."""
    state = State()
    for job in (
        Job(id="sys", type=JobType.SYSTEM, datacenters=("dc1", "dc2")),
        Job(id="sys", namespace="b", type=JobType.SYSTEM, datacenters=("dc2",)),
        Job(id="off", type=JobType.SYSTEM, datacenters=("dc1",), stop=True),
    ):
        state.put_job(job)
    for number, job_type, client_status in (
        (0, JobType.SERVICE, "running"),
        (0, JobType.SYSTEM, "running"),
        (1, JobType.BATCH, "complete"),
        (2, JobType.BATCH, "running"),
    ):
        allocation = Allocation(
            id=f"{number}-{job_type}",
            job_id=f"job-{job_type}",
            job_type=job_type,
            node_key=KEYS[number],
            client_status=client_status,
        )
        state.put_allocation(allocation)
    state.indexes[JOBS] = 3
    state.indexes[ALLOCATIONS] = 4
    statuses = (NodeStatus.READY, NodeStatus.DOWN, NodeStatus.INITIALIZING)
    for index, status in enumerate(statuses, FIRST_INDEX - len(statuses)):
        key = KEYS[index - FIRST_INDEX + len(statuses)]
        node = Node(id=key, name="a", datacenter="dc1", status=status)
        registered = RegisterNodes(
            at_ns=NOW_NS,
            registrations=(Registration(key, node, SECRETS[0]),),
            seed=index.to_bytes(16, "big"),
        )
        machine.apply(state, index, registered)
    return state


def as_stored(commands: Iterable[Command]) -> list[Command]:
    """Return the commands as they come out of the log."""
    return [COMMANDS.decode(MSGPACK.encode(command)) for command in commands]


class Before:
    """What a state was before an entry."""

    def __init__(self, state: State) -> None:
        self.content = encode_state(state)
        self.indexes = dict(state.indexes)
        self.nodes = dict(state.nodes)


def check(before: Before, state: State, index: int, applied: Applied) -> None:
    """Assert what must hold between a state, an entry and the state that followed."""
    outcome = applied.outcome
    is_changed = encode_state(state) != before.content
    if isinstance(outcome, Refused):
        assert not is_changed
        assert not applied.events
        assert not applied.keys
    else:
        assert is_changed == bool(applied.events)
        assert outcome.index == (index if applied.events else 0)
        _check_told(outcome, applied, state)
    for table, was in before.indexes.items():
        assert state.indexes[table] in (was, index)
    _check_tables(state)
    for key, node in state.nodes.items():
        _check_node(before.nodes.get(key), node, index)


def _check_told(outcome: Accepted, applied: Applied, state: State) -> None:
    made = [
        event.evaluation.id
        for event in applied.events
        if isinstance(event, EvaluationCreated)
    ]
    assert list(outcome.eval_ids) == made
    assert len(set(made)) == len(made)
    assert all(id_ in state.evaluations for id_ in made)
    assert outcome.node_count == len(state.nodes)
    assert outcome.eval_create_index == (outcome.index if made else 0)
    assert len(set(applied.keys)) == len(applied.keys)
    _check_registrations(outcome.registrations, outcome)


def _check_registrations(
    results: Sequence[RegistrationResult], outcome: Accepted
) -> None:
    for result in results:
        if result.refused is None:
            assert result.node_modify_index == outcome.index > 0
        else:
            assert (result.node_modify_index, result.eval_ids) == (0, ())
    if results:
        made = [id_ for result in results for id_ in result.eval_ids]
        assert made == list(outcome.eval_ids)


def _check_tables(state: State) -> None:
    assert state.node_keys == sorted(state.nodes)
    assert state.node_secrets.keys() == state.nodes.keys()
    assert state.draining_nodes() == [
        (key, state.nodes[key])
        for key in state.node_keys
        if state.nodes[key].is_draining
    ]
    for evaluation in state.evaluations.values():
        assert evaluation.modify_index <= state.indexes[EVALUATIONS]
    for node in state.nodes.values():
        assert 0 < node.create_index <= node.modify_index <= state.indexes[NODES]


def _check_node(was: Node | None, node: Node, index: int) -> None:
    # The index says which version it is: the same index, the same bytes.
    if was is not None and was.modify_index == node.modify_index:
        assert MSGPACK.encode(was) == MSGPACK.encode(node)
    assert node.modify_index == index or node == was
    assert node.drain == node.is_draining
    if node.is_draining:
        assert node.scheduling_eligibility == INELIGIBLE
    assert 1 <= len(node.events) <= NODE_EVENTS_MAX
    lines = [event.create_index for event in node.events]
    assert lines == sorted(lines)
    assert lines[-1] <= node.modify_index
    assert {} not in (node.attributes, node.meta, node.links, node.drivers)
