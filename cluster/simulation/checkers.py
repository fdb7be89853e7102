"""Verdicts on a history: pure functions over what clients saw and what was applied.

The witness is the log: its order explains every answer, or there is a violation. A
search that knows nothing of the log confirms, node by node, that some order does.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from cluster.simulation.history import NEVER, Call, History, Status
from cluster.simulation.judge import (
    EXACTLY_ONCE,
    LINEARIZABLE,
    NO_LOSS,
    NOT_SENT,
    OP,
    STATE_MACHINE_SAFETY,
    WATCHERS,
    Violation,
)
from nodestate.fsm import machine
from nodestate.fsm.state import NODES, State
from nodestate.model.command import Command
from nodestate.model.event import Event
from nodestate.model.node import ELIGIBLE, INELIGIBLE, Node, NodeKey, NodeStatus
from nodestate.model.outcome import Accepted, Outcome, RefusalCode, Refused
from nodestate.replication.entries import Body, Envelope

LATE_S_MAX: Final = 0.05
"""A woken reader answers at once; this leaves room for a loop that is busy."""
STEPS_MAX: Final = 20_000


class Replayed(NamedTuple):
    """One entry: the command, the state before and after it, and what it led to."""

    at_index: int
    command: Command
    before: State
    after: State
    events: tuple[Event, ...]


class Observer(Protocol):
    """Who is shown each entry of a log that is applied once more."""

    def observe(self, replayed: Replayed) -> None:
        """Look at one entry."""


class Reference:
    """The log applied once more, by itself: what every answer is compared with."""

    def __init__(
        self, bodies: Mapping[int, Body], observer: "Observer | None" = None
    ) -> None:
        self.state = State()
        self._observer = observer
        self.outcomes: dict[str, tuple[int, Outcome]] = {}
        self.repeats: list[tuple[str, int]] = []
        self._versions: dict[str, list[tuple[int, Node | None]]] = {}
        self._table: list[int] = [0]
        for index, body in sorted(bodies.items()):
            if isinstance(body, Envelope):
                self._apply(index, body)

    def _apply(self, index: int, body: Envelope) -> None:
        before = self.state if self._observer is None else self.state.shallow_copy()
        applied = machine.apply(self.state, index, body.command, body.request())
        if self._observer is not None:
            self._observer.observe(
                Replayed(index, body.command, before, self.state, applied.events)
            )
        op = body.command.asked_by
        if op.startswith(OP) and not applied.is_repeat:
            if op in self.outcomes:
                self.repeats.append((op, index))
            self.outcomes.setdefault(op, (index, applied.outcome))
        for event in applied.events:
            key = getattr(event, "key", None)
            if key is not None:
                versions = self._versions.setdefault(key, [(0, None)])
                versions.append((index, self.state.node(key)))
                self._table.append(index)

    def node_at(self, key: str, index: int) -> Node | None:
        """Return the node as it was once entry `index` was applied."""
        found = None
        for changed_at, node in self._versions.get(key, ()):
            if changed_at > index:
                break
            found = node
        return found

    def table_index_at(self, index: int) -> int:
        """Return the index of the last change to any node up to entry `index`."""
        return max(at for at in self._table if at <= index)


def judge_history(history: History, reference: Reference) -> Iterator[Violation]:
    """Yield what is wrong with a whole history."""
    for op, index in reference.repeats:
        yield Violation(EXACTLY_ONCE, f"{op} is applied again at {index}")
    for call in history.calls:
        yield from _judge_call(call, reference)
    yield from _judge_real_time(history.calls, reference)
    yield from _judge_watched(history, reference)


def _judge_call(call: Call, reference: Reference) -> Iterator[Violation]:
    if call.verb == "read":
        if call.status is Status.DONE:
            expected = reference.node_at(call.node, call.index)
            if call.seen != expected:
                yield Violation(
                    STATE_MACHINE_SAFETY,
                    f"{call.op} on {call.server} read {call.node} at {call.index}"
                    " and saw what was not so then",
                )
        return
    applied = reference.outcomes.get(call.op)
    if call.status is Status.NOT_SENT and applied is not None:
        yield Violation(NOT_SENT, f"{call.op} was not sent, and is at {applied[0]}")
    if call.status is not Status.DONE:
        return
    if applied is None:
        yield Violation(NO_LOSS, f"{call.op} was acknowledged by {call.server}")
    elif _plain(call.outcome) != applied[1]:
        yield Violation(
            LINEARIZABLE,
            f"{call.op} was told {call.outcome}, the log says {applied[1]}",
        )


def _plain(outcome: Outcome | None) -> Outcome | None:
    """Return an outcome as it was told the first time."""
    if outcome is None or not outcome.is_replayed:
        return outcome
    return replace(outcome, is_replayed=False)


def _judge_real_time(
    calls: Sequence[Call], reference: Reference
) -> Iterator[Violation]:
    """Demand that what returned before a call began is not behind it in the log."""
    placed = _placed(calls, reference)
    by_return = sorted(placed, key=lambda one: one.call.returned_at)
    position, newest = 0, None
    for one in sorted(placed, key=lambda one: one.call.called_at):
        while (
            position < len(by_return)
            and by_return[position].call.returned_at < one.call.called_at
        ):
            if newest is None or by_return[position].at_index > newest.at_index:
                newest = by_return[position]
            position += 1
        if newest is None:
            continue
        is_read = one.call.verb == "read"
        if one.at_index < newest.at_index or (
            one.at_index == newest.at_index and not is_read
        ):
            yield Violation(
                LINEARIZABLE,
                f"{one.call.op} {one.call.verb} on {one.call.server} is at {one.at_index},"
                f" but {newest.call.op}, at {newest.at_index}, had returned before",
            )


class _Placed(NamedTuple):
    """A call, and the index in the log whose effect it first shows."""

    call: Call
    at_index: int


def _placed(calls: Sequence[Call], reference: Reference) -> list[_Placed]:
    placed = []
    for call in calls:
        if call.status is not Status.DONE or not call.is_consistent:
            continue
        if call.verb == "read":
            placed.append(_Placed(call, call.index))
        elif call.op in reference.outcomes:
            placed.append(_Placed(call, reference.outcomes[call.op][0]))
    return placed


def _judge_watched(history: History, reference: Reference) -> Iterator[Violation]:
    last: dict[str, int] = {}
    for one in history.watched:
        what = f"{one.op} on {one.server}, watching {one.node or 'all nodes'}"
        if one.late_s > LATE_S_MAX:
            yield Violation(
                WATCHERS, f"{what} behind {one.asked_index}, slept {one.late_s:.3f} s"
            )
        if one.index < last.get(one.op, 0):
            yield Violation(WATCHERS, f"{what} saw {one.index} after {last[one.op]}")
        last[one.op] = max(one.index, last.get(one.op, 0))
        if one.node:
            is_right = one.seen == reference.node_at(one.node, one.applied_index)
        else:
            is_right = one.index == reference.table_index_at(one.applied_index)
        if not is_right:
            yield Violation(WATCHERS, f"{what} saw what was not so at {one.index}")


# The search

NodeModel = tuple[NodeStatus, str, bool] | None
"""A node as far as the search knows it: status, eligibility, whether it drains."""
_ABSENT: Final = "absent"
_CONFLICT: Final = "conflict"
_DONE: Final = "done"


_EFFECTS: Final[dict[str, tuple[NodeStatus | None, str | None, bool | None]]] = {
    "register": (NodeStatus.READY, None, None),
    "down": (NodeStatus.DOWN, None, None),
    "miss": (NodeStatus.DOWN, None, None),
    "close": (None, INELIGIBLE, None),
    "open": (None, ELIGIBLE, None),
    "drain": (None, INELIGIBLE, True),
    "undrain": (None, ELIGIBLE, False),
}
"""What a command sets of a node that is there; `None` stays as it is."""


def step(model: NodeModel, verb: str) -> tuple[NodeModel, str]:
    """Return the node after one command, and how that was answered."""
    if model is None:
        if verb == "miss":
            return None, _DONE
        if verb != "register":
            return None, _ABSENT
        model = (NodeStatus.READY, ELIGIBLE, False)
    if verb == "purge":
        return None, _DONE
    is_draining = model[2]
    if verb == "open" and is_draining:
        return model, _CONFLICT
    status, eligibility, drains = _EFFECTS[verb]
    after = (
        model[0] if status is None else status,
        model[1] if eligibility is None else eligibility,
        is_draining if drains is None else drains,
    )
    return after, _DONE


def model_of(node: Node | None) -> NodeModel:
    """Return what the search knows of a record."""
    if node is None:
        return None
    return node.status, node.scheduling_eligibility, node.is_draining


def answer_of(outcome: Outcome | None) -> str:
    """Return how a command was answered, as the search knows it."""
    match outcome:
        case Accepted():
            return _DONE
        case Refused(code=RefusalCode.NOT_FOUND):
            return _ABSENT
        case _:
            return _CONFLICT


def search(calls: Sequence[Call], *, steps_max: int = STEPS_MAX) -> bool | None:
    """Say whether some order explains the calls about one node; `None` if it gave up.

    Wing and Gong's search: at each step, a call may come next if no other that is left
    had returned before it began. Calls of unknown outcome may never have happened.
    """
    left = sorted(
        (call for call in calls if call.status is not Status.NOT_SENT),
        key=lambda call: call.called_at,
    )
    ends = [call.returned_at if call.status is Status.DONE else NEVER for call in left]
    required = sum(1 << n for n, end in enumerate(ends) if end != NEVER)
    seen: set[tuple[int, NodeModel]] = set()
    stack: list[tuple[int, NodeModel]] = [(0, None)]
    steps = 0
    while stack:
        done, model = stack.pop()
        if done & required == required:
            return True
        steps += 1
        if steps > steps_max:
            return None
        for number in _next_calls(left, ends, done):
            is_possible, after = _explain(left[number], model)
            following = (done | 1 << number, after)
            if is_possible and following not in seen:
                seen.add(following)
                stack.append(following)
    return False


def _next_calls(left: Sequence[Call], ends: Sequence[int], done: int) -> list[int]:
    """Return which calls may come next: those that began before any of the rest ended."""
    first_end = NEVER
    candidates = []
    for number, call in enumerate(left):
        if call.called_at > first_end:
            break
        if not done >> number & 1:
            candidates.append(number)
            first_end = min(first_end, ends[number])
    return [n for n in candidates if left[n].called_at <= first_end]


def _explain(call: Call, model: NodeModel) -> tuple[bool, NodeModel]:
    """Say whether a call may have been answered so, and return the node after it."""
    if call.verb == "read":
        return model == model_of(call.seen), model
    after, answer = step(model, call.verb)
    is_possible = call.status is not Status.DONE or answer == answer_of(call.outcome)
    return is_possible, after


def judge_orders(history: History) -> tuple[list[Violation], int]:
    """Search an order for each node; return violations, and how many are undecided."""
    by_node: dict[str, list[Call]] = {}
    for call in history.calls:
        is_read = call.verb == "read"
        if not is_read or (call.is_consistent and call.status is Status.DONE):
            by_node.setdefault(call.node, []).append(call)
    violations, undecided_count = [], 0
    for node, calls in sorted(by_node.items()):
        verdict = search(calls)
        if verdict is None:
            undecided_count += 1
        elif not verdict:
            violations.append(
                Violation(
                    LINEARIZABLE, f"no order explains the {len(calls)} calls on {node}"
                )
            )
    return violations, undecided_count


def table_index(state: State, key: NodeKey | None) -> int:
    """Return the index that a blocking read of a node, or of all, compares with."""
    node = None if key is None else state.node(key)
    return state.table_index(NODES) if node is None else node.modify_index
