"""Search by any part of a name, in capitals or not: nodes, jobs and what is in them.

What stands nearest to the beginning of a name comes first, then the shorter name. Ids are
found by their beginning, as in the other search, where all is searched.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from nodestate.acl.policies import POOL_READ, READ_JOB
from nodestate.api import blocking
from nodestate.api.cache import Pace, slices
from nodestate.api.calls import Call, index_line
from nodestate.api.namespaces import namespaces_of
from nodestate.api.node_pools import pools_of
from nodestate.api.parameters import ALL_NAMESPACES, ReadOptions
from nodestate.api.replies import Reply
from nodestate.api.search import (
    KINDS,
    MATCHES_MAX,
    Asked,
    allowed,
    begin,
    index_of,
    kinds_wanted,
)
from nodestate.api.shapes import Shape
from nodestate.errors import RequestError
from nodestate.model.allocation import Allocation
from nodestate.model.job import Job, Task
from nodestate.model.node import Node
from nodestate.model.timestamp import NANOSECONDS

TEXT_MIN: Final = 2
"""Characters; fewer would find nearly everything."""
TEXT_MAX: Final = 256
FUZZY_MATCHES_MAX: Final = 100
"""Of one kind; if there are more, that is said."""
_GATHERED_MAX: Final = 1000
"""So many are held before the best are picked."""
BY_PREFIX: Final = ("evals", "deployment")
"""What has no name but its id, and is only looked for in a search of all."""
IN_TASKS: Final = {"image": "images", "command": "commands", "class": "classes"}
"""What a task's configuration says of what it runs, and what that is called."""

R = TypeVar("R")


class FuzzySent(Shape, frozen=True, kw_only=True):
    """What is looked for, and of which kind."""

    text: str = ""
    context: str = ""


class Match(Shape, frozen=True, kw_only=True):
    """A name, and where it is: the ids that lead to it, the outermost first."""

    id: str
    scope: tuple[str, ...] | None = None


class FuzzyAnswer(Shape, frozen=True, kw_only=True):
    """What was found of each kind, and of which there are more than shown.

    `last_contact` is in nanoseconds.
    """

    matches: dict[str, list[Match]]
    truncations: dict[str, bool]
    index: int
    last_contact: int
    known_leader: bool


class Best:
    """The best of the names that have a text in them."""

    def __init__(self, text: str) -> None:
        self._text = text.casefold()
        self._found: list[tuple[int, int, str, tuple[str, ...]]] = []

    def consider(self, name: str, *scope: str) -> None:
        """Take a name if the text is in it."""
        position = name.casefold().find(self._text)
        if position < 0:
            return
        self._found.append((position, len(name), name, scope))
        if len(self._found) >= _GATHERED_MAX:
            self._pick()

    def _pick(self) -> None:
        self._found.sort()
        del self._found[FUZZY_MATCHES_MAX + 1 :]

    def matches(self) -> list[Match]:
        """Return the best, one more than is shown if there are more."""
        self._pick()
        return [
            Match(id=name, scope=scope or None) for _, _, name, scope in self._found
        ]


Gathered = dict[str, list[Match]]
"""What was found so far, by kind."""


async def fuzzy_search(call: Call) -> Reply:
    """Answer `PUT /v1/search/fuzzy`."""
    sent = await call.decoded(FuzzySent)
    _check_length(len(sent.text))
    wanted = kinds_wanted(sent.context)
    options, asked = await begin(call, sent.text)
    seen = allowed(asked, wanted)
    index = index_of(asked, seen)
    gathered: Gathered = {}
    for name in seen:
        if name in BY_PREFIX and len(wanted) > 1:
            await _gather_ids(asked, name, gathered)
        elif name in _GATHERERS:
            await _GATHERERS[name](asked, gathered)
    return _answer(call, options, index, gathered)


def _check_length(length: int) -> None:
    if length < TEXT_MIN:
        raise RequestError(
            f"fuzzy search query must be at least {TEXT_MIN} characters, got {length}"
        )
    if length > TEXT_MAX:
        raise RequestError(
            f"fuzzy search query must be at most {TEXT_MAX} characters, got {length}"
        )


def _answer(call: Call, options: ReadOptions, index: int, gathered: Gathered) -> Reply:
    status = call.services.leadership.status()
    found = {name: one for name, one in gathered.items() if one}
    answer = FuzzyAnswer(
        matches={name: one[: _most(name)] for name, one in found.items()},
        truncations={name: len(one) > _most(name) for name, one in found.items()},
        index=index,
        last_contact=round((status.last_contact_s or 0.0) * NANOSECONDS),
        known_leader=status.leader_id is not None,
    )
    headers = index_line(index) + blocking.contact_lines(call.services, options)
    return call.json(answer, headers=headers)


def _most(name: str) -> int:
    return MATCHES_MAX if name in BY_PREFIX else FUZZY_MATCHES_MAX


# How each kind is found


async def _gather_ids(asked: Asked, name: str, gathered: Gathered) -> None:
    """Find what has no name by the beginning of its id."""
    found = await KINDS[name].find(asked)
    if found is not None:
        gathered[name] = [Match(id=id_) for id_ in found]


async def _gather_nodes(asked: Asked, gathered: Gathered) -> None:
    best = Best(asked.prefix)

    def consider(node: Node) -> None:
        best.consider(node.name, node.id)

    await _consider_all(asked, asked.state.nodes.values(), consider)
    gathered["nodes"] = best.matches()


async def _gather_allocations(asked: Asked, gathered: Gathered) -> None:
    best = Best(asked.prefix)

    def consider(allocation: Allocation) -> None:
        if _is_seen(asked, allocation.namespace):
            best.consider(allocation.name, allocation.namespace, allocation.id)

    await _consider_all(asked, asked.state.allocations.values(), consider)
    gathered["allocs"] = best.matches()


async def _gather_jobs(asked: Asked, gathered: Gathered) -> None:
    """Find jobs, their groups and tasks, and what the tasks run."""
    kinds = ("jobs", "groups", "tasks", *IN_TASKS.values())
    best = {kind: Best(asked.prefix) for kind in kinds}

    def consider(job: Job) -> None:
        if not _is_seen(asked, job.namespace):
            return
        best["jobs"].consider(job.name, job.namespace, job.id)
        for group in job.task_groups:
            best["groups"].consider(group.name, job.namespace, job.id)
            for task in group.tasks:
                place = (job.namespace, job.id, group.name)
                best["tasks"].consider(task.name, *place)
                for kind, text in _what_runs(task):
                    best[kind].consider(text, *place, task.name)

    await _consider_all(asked, asked.state.jobs.values(), consider)
    gathered.update({kind: one.matches() for kind, one in best.items()})


def _what_runs(task: Task) -> Iterator[tuple[str, str]]:
    """Yield what the configuration says of what is run, where it says so in text."""
    config: Any = task.config
    if not isinstance(config, dict):
        return
    for key, kind in IN_TASKS.items():
        text = config.get(key)
        if isinstance(text, str):
            yield kind, text


async def _gather_namespaces(asked: Asked, gathered: Gathered) -> None:
    best = Best(asked.prefix)
    permissions = asked.call.identity().permissions
    for name in namespaces_of(asked.state):
        if permissions.allows_any_in_namespace(name):
            best.consider(name)
    gathered["namespaces"] = best.matches()


async def _gather_node_pools(asked: Asked, gathered: Gathered) -> None:
    best = Best(asked.prefix)
    permissions = asked.call.identity().permissions
    for name in await pools_of(asked.state, asked.call.services.clock):
        if permissions.allows_node_pool(name, POOL_READ):
            best.consider(name)
    gathered["node_pools"] = best.matches()


async def _consider_all(
    asked: Asked, records: Iterable[R], consider: Callable[[R], None]
) -> None:
    """Look at all records as they are now, in slices."""
    pace = Pace(asked.call.services.clock)
    listed = list(records)
    for piece in slices(len(listed)):
        for record in listed[piece]:
            consider(record)
        await pace.pause_if_due()


def _is_seen(asked: Asked, namespace: str) -> bool:
    if asked.namespace not in {ALL_NAMESPACES, namespace}:
        return False
    return asked.call.may(READ_JOB, namespace)


_GATHERERS: Final[dict[str, Callable[[Asked, Gathered], Awaitable[None]]]] = {
    "nodes": _gather_nodes,
    "allocs": _gather_allocations,
    "jobs": _gather_jobs,
    "namespaces": _gather_namespaces,
    "node_pools": _gather_node_pools,
}
"""What is found by any part of its name."""
