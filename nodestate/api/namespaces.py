"""Namespaces: `default`, and those that something is in.

One is there as soon as a job names it, and is gone with what was in it: there is nothing
to make, to describe or to delete.
"""

from typing import Final

from nodestate.api import blocking
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.jobs import jobs_index
from nodestate.api.parameters import ReadOptions
from nodestate.api.problems import Problem, ProblemError
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.errors import PermissionDeniedError
from nodestate.fsm.state import JOBS, State
from nodestate.model.job import DEFAULT_NAMESPACE
from nodestate.watch import table_key

FIRST_INDEX: Final = 1
"""At which the cluster was formed, and `default` with it."""
NAMESPACE_NOT_FOUND: Final = "Namespace not found"
ANYTHING: Final = "anything in the namespace"
DESCRIPTION: Final = "Default shared namespace"
CANNOT_WRITE: Final = (
    "namespaces are not written: one is there as soon as a job names it, and gone with "
    "the last job in it"
)


class Namespace(Shape, frozen=True, kw_only=True):
    """A namespace, in the shape of Nomad's. Its indexes are those of its first job."""

    capabilities: None = None
    create_index: int
    description: str = ""
    meta: None = None
    modify_index: int
    name: str
    node_pool_configuration: None = None
    quota: str = ""


def namespaces_of(state: State) -> dict[str, int]:
    """Return the namespaces that there are, sorted, and since which index."""
    found: dict[str, int] = {}
    for (name, _), job in state.jobs.items():
        if name not in found or job.create_index < found[name]:
            found[name] = job.create_index
    found[DEFAULT_NAMESPACE] = FIRST_INDEX
    return dict(sorted(found.items()))


async def list_namespaces(call: Call) -> Reply:
    """Answer `GET /v1/namespaces`: those in which the caller may do anything."""
    options = await _begin(call)
    prefix = call.query.get("prefix", "")
    permissions = call.identity().permissions
    state = call.services.view.state()
    listed = [
        _describe(name, index)
        for name, index in namespaces_of(state).items()
        if name.startswith(prefix) and permissions.allows_any_in_namespace(name)
    ]
    return call.json(listed, headers=_headers(call, options, jobs_index(state)))


async def read_namespace(call: Call) -> Reply:
    """Answer `GET /v1/namespace/:name`."""
    options = await _begin(call)
    name = call.id_text
    if not call.identity().permissions.allows_any_in_namespace(name):
        raise PermissionDeniedError(ANYTHING)
    state = call.services.view.state()
    index = namespaces_of(state).get(name)
    if index is None:
        headers = _headers(call, options, jobs_index(state))
        return text_reply(404, NAMESPACE_NOT_FOUND, headers)
    return call.json(
        _describe(name, index), headers=_headers(call, options, jobs_index(state))
    )


async def refuse_write(_: Call) -> Reply:
    """Answer every write of a namespace."""
    raise ProblemError(Problem(501, CANNOT_WRITE))


async def _begin(call: Call) -> ReadOptions:
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    if options.index:
        await blocking.wait_until_past(call, options, table_key(JOBS), jobs_index)
    return options


def _headers(call: Call, options: ReadOptions, index: int) -> bytes:
    return index_line(index) + blocking.contact_lines(call.services, options)


def _describe(name: str, index: int) -> Namespace:
    return Namespace(
        name=name,
        description=DESCRIPTION if name == DEFAULT_NAMESPACE else "",
        create_index=index,
        modify_index=index,
    )
