"""Search by prefix: what begins like this, of one kind or of all that the caller may see.

Ids are found by as many digits as were typed, however many and with hyphens or without;
names by their beginning. What cannot be the beginning of an id leaves the kinds that have
such ids out of the answer. The kinds that only later versions of Nomad know are left out
of a search of all where there is nothing to show of them.
"""

from collections.abc import Awaitable, Callable
from heapq import nsmallest
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from nodestate.acl.policies import POOL_READ, READ_JOB
from nodestate.api import blocking, parameters
from nodestate.api.cache import Pace, slices
from nodestate.api.calls import Call, index_line
from nodestate.api.namespaces import namespaces_of
from nodestate.api.node_pools import pools_of
from nodestate.api.parameters import ALL_NAMESPACES, ReadOptions
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.api.table_lists import R, Selection, TableLists
from nodestate.errors import PermissionDeniedError, RequestError
from nodestate.fsm.state import ALLOCATIONS, EVALUATIONS, JOBS, NODES, State
from nodestate.model.node_id import hyphenated, typed_digits
from nodestate.model.timestamp import NANOSECONDS

MATCHES_MAX: Final = 20
"""Of one kind; if there are more, that is said."""
ALL_KINDS: Final = "all"
NO_TABLE: Final = ""
"""Where what there is none of would be."""
KIND_SHOWN_MAX: Final = 64


class SearchSent(Shape, frozen=True, kw_only=True):
    """What is looked for, and of which kind."""

    prefix: str = ""
    context: str = ""


class SearchAnswer(Shape, frozen=True, kw_only=True):
    """The ids and names of each kind, and of which there are more than shown.

    `last_contact` is in nanoseconds.
    """

    matches: dict[str, list[str] | None]
    truncations: dict[str, bool]
    index: int
    last_contact: int
    known_leader: bool


class Asked(NamedTuple):
    """One search: the call it belongs to, what it begins with, and where to look."""

    call: Call
    state: State
    prefix: str
    namespace: str

    def sees_work(self) -> bool:
        """Say whether the caller may see any work where it is looked for."""
        permissions = self.call.identity().permissions
        if self.namespace == ALL_NAMESPACES:
            return permissions.allows_some_namespace(READ_JOB)
        return permissions.allows_namespace(self.namespace, READ_JOB)


Found = list[str]
"""What was found of one kind; one more than is shown if there are more."""


class Kind(NamedTuple):
    """A kind of thing: in which table it is, who may look for it, and how.

    What is no id finds `None`.
    """

    table: str
    is_allowed: Callable[[Asked], bool]
    find: Callable[[Asked], Awaitable[Found | None]]
    is_later: bool = False


async def search(call: Call) -> Reply:
    """Answer `PUT /v1/search`."""
    sent = await call.decoded(SearchSent)
    wanted = kinds_wanted(sent.context)
    options, asked = await begin(call, sent.prefix)
    seen = allowed(asked, wanted)
    index = index_of(asked, seen)
    found: dict[str, Found] = {}
    for name in seen:
        kind = KINDS[name]
        of_kind = await kind.find(asked)
        if of_kind is None or (kind.is_later and not of_kind and len(wanted) > 1):
            continue
        found[name] = of_kind
    status = call.services.leadership.status()
    answer = SearchAnswer(
        matches={name: one[:MATCHES_MAX] or None for name, one in found.items()},
        truncations={name: len(one) > MATCHES_MAX for name, one in found.items()},
        index=index,
        last_contact=round((status.last_contact_s or 0.0) * NANOSECONDS),
        known_leader=status.leader_id is not None,
    )
    headers = index_line(index) + blocking.contact_lines(call.services, options)
    return call.json(answer, headers=headers)


def kinds_wanted(context: str) -> list[str]:
    """Return the kinds to look for; `RequestError` in Nomad's words for another word."""
    if context == ALL_KINDS:
        return list(KINDS)
    if context not in KINDS:
        shown = msgspec.json.encode(context[:KIND_SHOWN_MAX]).decode()
        raise RequestError(
            f"context must be one of [{' '.join(RECORDED)}] or 'all' for all contexts; "
            f"got {shown}"
        )
    return [context]


async def begin(call: Call, text: str) -> tuple[ReadOptions, Asked]:
    """Return how to answer, and the search, once the replica may answer."""
    options = call.read_options()
    namespace = parameters.read_namespace(call.query, may_be_all=True)
    await blocking.wait_until_fresh(call, options)
    return options, Asked(call, call.services.view.state(), text, namespace)


def allowed(asked: Asked, wanted: list[str]) -> list[str]:
    """Return the kinds that the caller may look for; the only one must be among them."""
    seen = [name for name in wanted if KINDS[name].is_allowed(asked)]
    if len(wanted) == 1 and not seen:
        raise PermissionDeniedError(f"search {wanted[0]}")
    return seen


def index_of(asked: Asked, names: list[str]) -> int:
    """Return the latest index of where it is looked; never 0, as that of a read.

    It is taken before anything is found, so that what is shown is at least as new.
    """
    tables = {KINDS[name].table for name in names}
    return max((asked.state.indexes.get(table, 0) for table in tables), default=0) or 1


# How each kind is found


async def find_nodes(asked: Asked) -> Found | None:
    """Find nodes by their ids."""
    digits = typed_digits(asked.prefix)
    if digits is None:
        return None
    found = islice(asked.state.nodes_under(digits), MATCHES_MAX + 1)
    return [node.id for node in found]


async def find_allocations(asked: Asked) -> Found | None:
    """Find allocations by their ids."""
    return await _find_listed(asked, asked.call.services.work.allocations)


async def find_evaluations(asked: Asked) -> Found | None:
    """Find evaluations by their ids."""
    return await _find_listed(asked, asked.call.services.work.evaluations)


async def _find_listed(asked: Asked, lists: TableLists[R]) -> Found | None:
    digits = typed_digits(asked.prefix)
    if digits is None:
        return None
    selection = Selection(
        asked.namespace,
        prefix=hyphenated(digits),
        per_page=MATCHES_MAX + 1,
        sees=asked.call.sees(READ_JOB),
    )
    _, page = await lists.page(asked.state, selection)
    return [one.id for one in page.records]


async def find_jobs(asked: Asked) -> Found:
    """Find jobs by the beginning of their ids."""
    keys = list(asked.state.jobs)
    found: list[tuple[str, str]] = []
    pace = Pace(asked.call.services.clock)
    for piece in slices(len(keys)):
        of_piece = [key for key in keys[piece] if _is_seen(asked, *key)]
        found = nsmallest(MATCHES_MAX + 1, [*found, *of_piece]) if of_piece else found
        await pace.pause_if_due()
    return [id_ for _, id_ in found]


def _is_seen(asked: Asked, namespace: str, id_: str) -> bool:
    if not id_.startswith(asked.prefix):
        return False
    if asked.namespace not in {ALL_NAMESPACES, namespace}:
        return False
    return asked.call.may(READ_JOB, namespace)


async def find_deployments(asked: Asked) -> Found | None:
    """Find no deployments: there are none."""
    return None if typed_digits(asked.prefix) is None else []


async def find_namespaces(asked: Asked) -> Found:
    """Find namespaces by the beginning of their names."""
    permissions = asked.call.identity().permissions
    found = (
        name
        for name in namespaces_of(asked.state)
        if name.startswith(asked.prefix) and permissions.allows_any_in_namespace(name)
    )
    return list(islice(found, MATCHES_MAX + 1))


async def find_node_pools(asked: Asked) -> Found:
    """Find node pools by the beginning of their names."""
    permissions = asked.call.identity().permissions
    pools = await pools_of(asked.state, asked.call.services.clock)
    found = (
        name
        for name in pools
        if name.startswith(asked.prefix)
        and permissions.allows_node_pool(name, POOL_READ)
    )
    return list(islice(found, MATCHES_MAX + 1))


async def find_nothing(_: Asked) -> Found:
    """Find nothing of a kind that there is none of."""
    return []


def sees_nodes(asked: Asked) -> bool:
    """Say whether the caller may see nodes."""
    return asked.call.identity().permissions.allows_node_read


def is_filtered(_: Asked) -> bool:
    """Let everybody look for what is shown by name to whom may see it."""
    return True


KINDS: Final[dict[str, Kind]] = {
    "allocs": Kind(ALLOCATIONS, Asked.sees_work, find_allocations),
    "jobs": Kind(JOBS, Asked.sees_work, find_jobs),
    "nodes": Kind(NODES, sees_nodes, find_nodes),
    "evals": Kind(EVALUATIONS, Asked.sees_work, find_evaluations),
    "deployment": Kind(NO_TABLE, Asked.sees_work, find_deployments),
    "namespaces": Kind(JOBS, is_filtered, find_namespaces, is_later=True),
    "node_pools": Kind(NODES, is_filtered, find_node_pools, is_later=True),
    "plugins": Kind(NO_TABLE, is_filtered, find_nothing, is_later=True),
    "volumes": Kind(NO_TABLE, Asked.sees_work, find_nothing, is_later=True),
}
RECORDED: Final = tuple(name for name, kind in KINDS.items() if not kind.is_later)
"""The kinds that Nomad 0.10.9 names when it is asked for another."""
