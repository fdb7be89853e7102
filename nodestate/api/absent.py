"""What Nomad has and there is none of here: deployments, volumes, plugins.

Lists of them are empty, which is true, and one of them is not found. A read that waits for
one waits it out.
"""

from typing import Final

from nodestate.api import blocking
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.parameters import ReadOptions
from nodestate.api.problems import Problem, ProblemError, no_such_path
from nodestate.api.replies import Reply
from nodestate.model.node_id import record_id
from nodestate.watch import table_key

DEPLOYMENT: Final = "deployment"
ITS_ALLOCATIONS: Final = "allocations"
DEPLOYMENT_NOT_FOUND: Final = "deployment not found"
INDEX: Final = 1
"""That of a table in which nothing was ever written; 0 would make a waiting client spin."""
_NOTHING: Final = table_key("absent")


async def list_nothing(call: Call) -> Reply:
    """Answer a list of what there is none of."""
    options = await _begin(call)
    return call.encoded(b"[]", headers=_headers(call, options))


async def read_deployment(call: Call) -> Reply:
    """Answer `GET /v1/deployment/:id`, and what is asked about one."""
    what, slash, id_text = call.id_text.rpartition("/")
    record_id(id_text, DEPLOYMENT)
    if slash and what != ITS_ALLOCATIONS:
        raise ProblemError(no_such_path(call.request.path))
    options = await _begin(call)
    headers = _headers(call, options)
    if slash:
        return call.encoded(b"[]", headers=headers)
    return text_reply(404, DEPLOYMENT_NOT_FOUND, headers)


async def change_deployment(call: Call) -> Reply:
    """Answer whatever would change a deployment: its id comes last."""
    record_id(call.id_text.rpartition("/")[2], DEPLOYMENT)
    raise ProblemError(Problem(404, DEPLOYMENT_NOT_FOUND))


async def _begin(call: Call) -> ReadOptions:
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    if options.index:
        await blocking.wait_until_past(call, options, _NOTHING, lambda _: INDEX)
    return options


def _headers(call: Call, options: ReadOptions) -> bytes:
    return index_line(INDEX) + blocking.contact_lines(call.services, options)
