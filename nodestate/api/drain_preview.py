"""What a drain does now, or would do: what moves, what waits and for what."""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from nodestate.acl.policies import READ_JOB
from nodestate.api import blocking, parameters
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.nodes import list_index
from nodestate.api.parameters import Query
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.errors import RequestError
from nodestate.fsm.keys import (
    job_allocations_key,
    job_evaluations_key,
    node_allocations_key,
)
from nodestate.fsm.state import NODES, State
from nodestate.model.duration import parse_duration_ns
from nodestate.model.job import JobKey
from nodestate.model.node import DrainStrategy, NodeKey
from nodestate.model.outcome import NODE_NOT_FOUND
from nodestate.model.timestamp import NO_TIME, Timestamp
from nodestate.planning.drains import DrainView, GroupDrain, view_drain
from nodestate.watch import WatchKey, record_key

INVALID_DEADLINE: Final = (
    "invalid deadline: expected a duration such as 1h30m, or nanoseconds"
)


class GroupShown(Shape, frozen=True, kw_only=True):
    """One group with allocations on the node; see `planning.drains.GroupDrain`.

    To who may not read the job it is without names: how many move, and nothing else.
    """

    namespace: str
    job_id: str
    job_type: str
    task_group: str
    moving: tuple[str, ...]
    next: tuple[str, ...]
    waiting: tuple[str, ...]
    waits_for: str
    wanted: int
    max_parallel: int
    settled: int
    finished: int


class DrainShown(Shape, frozen=True, kw_only=True):
    """A drain as it is, or as it would be; `deadline` is when it is forced, if ever.

    One that is forced at once, or already, has no `deadline` to wait for.
    """

    node_id: str
    draining: bool
    done: bool
    forced: bool
    deadline: Timestamp
    ignore_system_jobs: bool
    groups: tuple[GroupShown, ...]


class Asked(msgspec.Struct, frozen=True):
    """What of a drain the request says; `None` is as it is, or as it is by default."""

    deadline_ns: int | None
    ignores_system_jobs: bool | None

    def strategy(self, known: DrainStrategy | None) -> DrainStrategy | None:
        """Return the drain to look at in place of the one under way, `None` for that."""
        if known is not None and self == NOTHING_ASKED:
            return None
        strategy = known or DrainStrategy()
        if self.deadline_ns is not None:
            strategy = DrainStrategy(
                deadline=self.deadline_ns,
                ignore_system_jobs=strategy.ignore_system_jobs,
            )
        if self.ignores_system_jobs is not None:
            strategy = replace(strategy, ignore_system_jobs=self.ignores_system_jobs)
        return strategy


NOTHING_ASKED: Final = Asked(None, None)


async def read_drain(call: Call) -> Reply:
    """Answer `GET /v1/node/:id/drain`."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    key = call.node_key()
    asked = _asked(call.query)
    services = call.services
    if options.index:
        await blocking.wait_until_past(
            call,
            options,
            record_key(NODES, key),
            lambda state: _index(state, key),
            *_concerned(services.view.state(), key),
        )
    state = services.view.state()
    headers = index_line(_index(state, key)) + blocking.contact_lines(services, options)
    node = state.node(key)
    if node is None:
        return text_reply(404, NODE_NOT_FOUND, headers)
    now_ns = services.clock.now_ns()
    view = view_drain(state, key, now_ns, asked.strategy(node.drain_strategy))
    assert view is not None, "there is a node, and a drain to look at"
    groups = tuple(
        _group_shown(group)
        if call.may(READ_JOB, group.job_key[0])
        else _nameless(_group_shown(group))
        for group in view.groups
    )
    return call.json(_shown(node.id, view, now_ns, groups), headers=headers)


# What was asked


def _asked(query: Query) -> Asked:
    text = query.get("deadline", "")
    ignores = None
    if "ignore_system_jobs" in query:
        ignores = parameters.read_flag(query, "ignore_system_jobs")
    return Asked(_deadline_ns(text) if text else None, ignores)


def _deadline_ns(text: str) -> int:
    """Return a duration in ns, written as such or with units; negative forces at once."""
    is_number = text.isascii() and text.removeprefix("-").isdecimal()
    try:
        return parse_duration_ns(f"{text}ns" if is_number else text)
    except ValueError:
        raise RequestError(INVALID_DEADLINE) from None


# What it concerns


def _job_keys(state: State, key: NodeKey) -> dict[JobKey, None]:
    return {one.job_key: None for one in state.allocations_on(key)}


def _concerned(state: State, key: NodeKey) -> Iterator[WatchKey]:
    """Yield the keys of what the view shows, but for the node itself.

    Another job comes into it with an allocation on the node, another version of a job
    with an evaluation.
    """
    yield node_allocations_key(key)
    for job in _job_keys(state, key):
        yield job_allocations_key(job)
        yield job_evaluations_key(job)


def _index(state: State, key: NodeKey) -> int:
    """Return the index of the latest change to what the view shows."""
    node = state.node(key)
    if node is None:
        return list_index(state)
    index = node.modify_index
    for job in _job_keys(state, key):
        index = max(
            index,
            *(
                state.allocations[id_].modify_index
                for id_ in state.allocations_by_job.group(job)
            ),
            *(
                state.evaluations[id_].modify_index
                for id_ in state.evaluations_by_job.group(job)
            ),
        )
    return index


# What is shown


def _shown(
    node_id: str, view: DrainView, now_ns: int, groups: tuple[GroupShown, ...]
) -> DrainShown:
    deadline_ns = view.deadline_ns
    return DrainShown(
        node_id=node_id,
        draining=view.is_draining,
        done=view.is_done,
        forced=deadline_ns is not None and now_ns >= deadline_ns,
        deadline=Timestamp(deadline_ns) if deadline_ns else NO_TIME,
        ignore_system_jobs=view.ignore_system_jobs,
        groups=groups,
    )


def _group_shown(group: GroupDrain) -> GroupShown:
    namespace, job_id = group.job_key
    return GroupShown(
        namespace=namespace,
        job_id=job_id,
        job_type=group.job_type,
        task_group=group.task_group,
        moving=group.moving_ids,
        next=group.next_ids,
        waiting=group.waiting_ids,
        waits_for=group.waits,
        wanted=group.wanted_count,
        max_parallel=group.max_parallel,
        settled=group.settled_count,
        finished=group.finished_count,
    )


def _nameless(group: GroupShown) -> GroupShown:
    """Return a group without what it is called, and ids without letters: their number."""
    return replace(
        group,
        namespace="",
        job_id="",
        task_group="",
        moving=("",) * len(group.moving),
        next=("",) * len(group.next),
        waiting=("",) * len(group.waiting),
    )
