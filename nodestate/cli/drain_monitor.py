"""The monitor of a drain: what becomes of the node, of its allocations, and why it takes.

The lines that Nomad's monitor has are Nomad's. What is waited for, per job and group, is
from the server's view of the drain, and said whenever it changes.
"""

import asyncio
from typing import Final

from nodestate.answers import Allocation
from nodestate.cli.drain_views import progress
from nodestate.cli.session import CommandError, Session
from nodestate.client import Query
from nodestate.client_work import WorkClient
from nodestate.errors import NodestateError
from nodestate.model.node import DrainStrategy, Node, NodeStatus
from nodestate.model.timestamp import format_rfc3339

_SYSTEM: Final = "system"
_STILL_THERE: Final = frozenset({"pending", "running"})
_GO_ZERO_TIME: Final = "0001-01-01 00:00:00 +0000 UTC"


async def monitor_only(
    session: Session, client: WorkClient, node: Node, index: int
) -> int:
    """Watch the drain that is under way, if there is one."""
    if node.drain_strategy is None:
        session.console.error("No drain strategy set")
        return 0
    say(session, f'Monitoring node "{node.id}": Ctrl-C to detach monitoring')
    await monitor(session, client, node.id, index)
    return 0


async def monitor(
    session: Session, client: WorkClient, node_id: str, index: int
) -> None:
    """Return when the drain is over and the allocations have stopped."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch_node(session, client, node_id, index))
            group.create_task(_watch_allocations(session, client, node_id))
            group.create_task(_watch_progress(session, client, node_id, index))
    except* CommandError as failures:
        failure = failures.exceptions[0]
        assert isinstance(failure, CommandError)
        ended = failure
    else:
        return
    raise ended


async def _watch_node(
    session: Session, client: WorkClient, node_id: str, index: int
) -> None:
    last: DrainStrategy | None = None
    while True:
        try:
            found = await client.node(node_id, Query(index=index, stale=True))
        except NodestateError as error:
            raise _lost(session, f"Error monitoring node: {error}") from error
        strategy = found.value.drain_strategy
        if strategy is None:
            say(session, f"Drain complete for node {node_id}")
            return
        if found.value.status is NodeStatus.DOWN:
            _warn(session, f'Node "{node_id}" down')
        if last is not None and strategy != last:
            say(session, f'Node "{node_id}" drain updated: {_strategy_text(strategy)}')
        last, index = strategy, found.index


async def _watch_allocations(
    session: Session, client: WorkClient, node_id: str
) -> None:
    known: dict[str, Allocation] = {}
    index = 0
    while True:
        try:
            found = await client.allocations(node_id, Query(index=index, stale=True))
        except NodestateError as error:
            raise _lost(session, f"Error monitoring allocations: {error}") from error
        index = found.index
        for each in found.value:
            text = _change(known.get(each.id), each)
            known[each.id] = each
            if text:
                say(session, f'Alloc "{each.id}" {text}')
        if not any(_is_awaited(session, each) for each in found.value):
            say(session, f'All allocations on node "{node_id}" have stopped')
            return


async def _watch_progress(
    session: Session, client: WorkClient, node_id: str, index: int
) -> None:
    """Say what is waited for whenever that changes, until the drain is over.

    A server that has no view of drains, as Nomad's have none, is asked once.
    """
    said: dict[str, str] = {}
    query = Query(index=max(index - 1, 0), stale=True)
    while True:
        try:
            found = await client.drain_view(node_id, query=query)
        except NodestateError:
            return
        if not found.value.draining:
            return
        now = progress(found.value)
        for name, text in now.items():
            if said.get(name) != text:
                say(session, f"In {name}: {text}")
        said |= now
        query = Query(index=found.index, stale=True)


def _change(before: Allocation | None, after: Allocation) -> str:
    if before is None:
        return ""
    if before.client_status != after.client_status:
        return f"status {before.client_status} -> {after.client_status}"
    if _is_migrating(after):
        if not _is_migrating(before):
            return "marked for migration"
        if before.desired_status != after.desired_status == "stop":
            return "draining"
    return ""


def _is_migrating(allocation: Allocation) -> bool:
    transition = allocation.desired_transition
    return transition is not None and bool(transition.migrate)


def _is_awaited(session: Session, allocation: Allocation) -> bool:
    job_type = allocation.job.type if allocation.job else ""
    if not job_type or (session.args.ignore_system and job_type == _SYSTEM):
        return False
    return allocation.client_status in _STILL_THERE


def _strategy_text(strategy: DrainStrategy) -> str:
    what = (
        "drain ignoring system jobs and"
        if strategy.ignore_system_jobs
        else "drain with"
    )
    text = format_rfc3339(strategy.force_deadline.ns)
    if text is not None:
        text = text.replace("T", " ").replace("Z", " +0000 UTC")
    return f"{what} deadline at {text or _GO_ZERO_TIME}"


def say(session: Session, text: str) -> None:
    """Write a line of the monitor, with the time."""
    session.console.output(f"{session.now()}: {text}")


def _warn(session: Session, text: str) -> None:
    session.console.error(f"{session.now()}: {text}")


def _lost(session: Session, text: str) -> CommandError:
    return CommandError(f"{session.now()}: {text}")
