"""What a node must look like, worked out from the answers that its only writer got.

Pure. Whoever writes to a node writes one thing at a time and goes on once it knows what
became of it, so that each answer and each read can be judged as it comes. What the
servers do to a node by themselves is allowed for: they end drains.
"""

import itertools
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from nodestate.model.node import ELIGIBLE, INELIGIBLE, NODE_EVENTS_MAX

DOWN: Final = "down"
READY: Final = "ready"
REGISTERED: Final = "Node registered"
REREGISTERED: Final = "Node re-registered"
BACK_BY_HEARTBEAT: Final = "Node reregistered by heartbeat"
ELIGIBILITY_LINES: Final = {
    ELIGIBLE: "Node marked as eligible for scheduling",
    INELIGIBLE: "Node marked as ineligible for scheduling",
}
DRAIN_SET: Final = "Node drain strategy set"
DRAIN_CHANGED: Final = "Node drain strategy updated"
DRAIN_STOPPED: Final = "Node drain disabled"
DRAIN_COMPLETE: Final = "Node drain complete"


class Kind(StrEnum):
    """What a write asks for."""

    REGISTER = "register"
    ELIGIBILITY = "eligibility"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    STATUS = "status"
    EVENT = "event"
    PURGE = "purge"


class Write(msgspec.Struct, frozen=True):
    """One write to node `number`; `word` is the status, the eligibility or the message."""

    kind: Kind
    number: int
    word: str = ""


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of a node's history, and the index of the entry that wrote it."""

    message: str
    index: int


class ExpectedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as its writer left it.

    `lines` are the last ones that its own writes made. A node that `may_drain` drains,
    unless the servers have ended that by now.
    """

    create_index: int
    modify_index: int
    status: str = READY
    eligibility: str = ELIGIBLE
    may_drain: bool = False
    lines: tuple[Line, ...] = ()


class SeenNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as a server shows it."""

    create_index: int
    modify_index: int
    status: str
    eligibility: str
    drains: bool
    lines: tuple[Line, ...]


def to_seen(body: bytes) -> SeenNode:
    """Return what matters here of a node's JSON."""
    node: dict[str, Any] = msgspec.json.decode(body)
    return SeenNode(
        create_index=node["CreateIndex"],
        modify_index=node["ModifyIndex"],
        status=node["Status"],
        eligibility=node["SchedulingEligibility"],
        drains=node["Drain"],
        lines=tuple(
            Line(event["Message"], event["CreateIndex"]) for event in node["Events"]
        ),
    )


# Answers


def refusal_complaint(before: ExpectedNode | None, write: Write, status: int) -> str:
    """Say what is wrong with a refusal, nothing if it is as it should be."""
    if status == 404 and before is None and write.kind is not Kind.REGISTER:
        return ""
    is_opening = write.kind is Kind.ELIGIBILITY and write.word == ELIGIBLE
    if status == 409 and is_opening and before is not None and before.may_drain:
        return ""
    return f"refused with {status}"


def acceptance_complaint(before: ExpectedNode | None, write: Write, index: int) -> str:
    """Say what is wrong with an acceptance at `index`; 0 says that nothing changed."""
    if before is None and write.kind is not Kind.REGISTER:
        return "accepted though there is no such node"
    if is_idle(before, write) and index:
        return f"changed what was so already, at {index}"
    if not is_idle(before, write) and not index:
        return "changed nothing, though it had to"
    return ""


def is_idle(before: ExpectedNode | None, write: Write) -> bool:
    """Say whether a write asks for what is so already."""
    if before is None:
        return False
    match write.kind:
        case Kind.ELIGIBILITY:
            return before.eligibility == write.word
        case Kind.STATUS:
            return before.status == write.word
        case _:
            return False


def after(before: ExpectedNode | None, write: Write, index: int) -> ExpectedNode | None:
    """Return the node after a write that was accepted at `index`, not 0."""
    if write.kind is Kind.PURGE:
        return None
    if before is None:
        lines = (Line(REGISTERED, index),)
        return ExpectedNode(create_index=index, modify_index=index, lines=lines)
    changed = replace(before, modify_index=index)
    match write.kind:
        case Kind.REGISTER:
            return _with_status(changed, READY, REREGISTERED)
        case Kind.STATUS:
            return _with_status(changed, write.word, BACK_BY_HEARTBEAT)
        case Kind.EVENT:
            return _with_line(changed, write.word)
        case Kind.DRAIN:
            drained = replace(changed, may_drain=True, eligibility=INELIGIBLE)
            return _with_line(drained, DRAIN_SET)
        case Kind.UNDRAIN:
            return replace(changed, may_drain=False, eligibility=ELIGIBLE)
        case _:
            # What was opened did not drain any more; closing says nothing of that.
            may_drain = before.may_drain and write.word == INELIGIBLE
            changed = replace(changed, may_drain=may_drain, eligibility=write.word)
            return _with_line(changed, ELIGIBILITY_LINES[write.word])


def _with_status(node: ExpectedNode, status: str, line: str) -> ExpectedNode:
    if node.status == DOWN and status != DOWN:
        node = _with_line(node, line)
    return replace(node, status=status)


def _with_line(node: ExpectedNode, message: str) -> ExpectedNode:
    lines = (*node.lines, Line(message, node.modify_index))[-NODE_EVENTS_MAX:]
    return replace(node, lines=lines)


def settle(expected: ExpectedNode, write: Write, seen: SeenNode | None) -> ExpectedNode:
    """Return the node after a change of status of which it is not known if it happened.

    What `seen` shows decides; whether that can be at all is for `find_differences` to say.
    """
    assert write.kind is Kind.STATUS, "anything else can be asked for again"
    if seen is None or not any(find_differences(expected, seen)):
        return expected
    back = [line.index for line in seen.lines if line.message == BACK_BY_HEARTBEAT]
    if expected.status == DOWN and write.word != DOWN:
        return after(expected, write, max(back, default=0)) or expected
    return after(expected, write, seen.modify_index) or expected


# Reads


def find_differences(
    expected: ExpectedNode | None, seen: SeenNode | None
) -> Iterator[str]:
    """Say in words what a server shows that cannot follow from the answers."""
    if expected is None or seen is None:
        if expected is not None:
            yield f"gone, though written at {expected.modify_index}"
        if seen is not None:
            yield f"there, modified at {seen.modify_index}, though it was purged"
        return
    for what, wanted, shown in (
        ("created at", expected.create_index, seen.create_index),
        ("status", expected.status, seen.status),
        ("eligibility", expected.eligibility, seen.eligibility),
    ):
        if shown != wanted:
            yield f"{what} {shown}, not {wanted}"
    if seen.drains and not expected.may_drain:
        yield "drains, though its drain was ended"
    yield from _modify_index_differences(expected, seen)
    yield from _line_differences(expected.lines, seen.lines)


def _modify_index_differences(expected: ExpectedNode, seen: SeenNode) -> Iterator[str]:
    """Yield what is wrong: only the end of a drain may have modified it since."""
    if seen.modify_index == expected.modify_index:
        return
    ended = [line.index for line in seen.lines if line.message == DRAIN_COMPLETE]
    is_ended_since = expected.may_drain and seen.modify_index == max(ended, default=0)
    if not is_ended_since or seen.modify_index < expected.modify_index:
        yield f"modified at {seen.modify_index}, not {expected.modify_index}"


def _line_differences(expected: Sequence[Line], seen: Sequence[Line]) -> Iterator[str]:
    """Compare the lines of the node's own writes, and count the ends of drains.

    Whether a drain had ended when it was set anew or stopped is not known, so that the
    two words for setting one are the same here, and lines about stopping are passed over.
    """
    own = [
        Line(DRAIN_SET, line.index) if line.message == DRAIN_CHANGED else line
        for line in seen
        if line.message not in (DRAIN_COMPLETE, DRAIN_STOPPED)
    ]
    others_count = len(seen) - len(own)
    wanted_count = min(len(expected), NODE_EVENTS_MAX - others_count)
    # As many own lines as there is room for, and what was there before is gone.
    wanted = list(expected)[len(expected) - wanted_count :]
    if own != wanted:
        missing = [line for line in wanted if line not in own]
        added = [line for line in own if line not in wanted]
        yield f"lines differ: without {missing}, with {added}; all: {list(seen)}"
    if any(index <= 0 for index in _steps(seen)):
        yield f"lines out of order: {list(seen)}"
    yield from _extra_ends(seen)


def _steps(lines: Sequence[Line]) -> Iterator[int]:
    """Yield how far each line's index is past the one before."""
    for line, next_line in itertools.pairwise(lines):
        yield next_line.index - line.index


def _extra_ends(seen: Sequence[Line]) -> Iterator[str]:
    """Yield a complaint if one drain has ended more than once."""
    has_ended = False
    for line in seen:
        if line.message in (DRAIN_SET, DRAIN_CHANGED):
            has_ended = False
        elif line.message in (DRAIN_COMPLETE, DRAIN_STOPPED):
            if has_ended:
                yield f"a drain ended twice: {list(seen)}"
            has_ended = True
