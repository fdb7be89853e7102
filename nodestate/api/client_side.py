"""What only the agent that runs a node could answer, and no server here reaches.

Nomad's servers hand these requests on to the node's agent, and say `No path to node` where
it is not connected: tools go on without the answer, so that is what is said here always.
"""

from typing import Final

from nodestate.acl.policies import READ_JOB
from nodestate.api import blocking
from nodestate.api.calls import Call
from nodestate.api.problems import Problem, ProblemError, no_such_path
from nodestate.api.replies import Reply
from nodestate.errors import RequestError
from nodestate.model.node_id import KEY_LENGTH, hyphenated, typed_digits

NO_PATH: Final = "No path to node"
NO_NODE_NAMED: Final = "No local Node and node_id not provided"
MISSING_ID: Final = "missing allocation ID"
SHOWN_MAX: Final = 128
ABOUT_ALLOCATIONS: Final = frozenset(
    {"checks", "exec", "gc", "pause", "restart", "signal", "snapshot", "stats"}
)
ABOUT_FILES: Final = frozenset({"cat", "logs", "ls", "readat", "stat", "stream"})


async def ask_node(call: Call) -> Reply:
    """Answer what is asked about a node, which a parameter names."""
    options = call.read_options()
    named = call.query.get("node_id", "")
    if not named:
        raise RequestError(NO_NODE_NAMED)
    await blocking.wait_until_fresh(call, options)
    state = call.services.view.state()
    is_known = _key(named) in state.nodes
    text = NO_PATH if is_known else f'Unknown node "{named[:SHOWN_MAX]}"'
    raise ProblemError(Problem(404, text))


async def ask_allocation(call: Call) -> Reply:
    """Answer what is asked about an allocation: its id comes first, then what."""
    id_text, _, what = call.id_text.partition("/")
    return await _ask(call, id_text, what, ABOUT_ALLOCATIONS)


async def ask_files(call: Call) -> Reply:
    """Answer what is asked about the files of an allocation: here its id comes last."""
    what, _, id_text = call.id_text.partition("/")
    return await _ask(call, id_text, what, ABOUT_FILES)


async def _ask(call: Call, id_text: str, what: str, words: frozenset[str]) -> Reply:
    """Say that nobody can tell; one that the caller may not see is as if not there."""
    if what not in words:
        raise ProblemError(no_such_path(call.request.path))
    if not id_text:
        raise RequestError(MISSING_ID)
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    state = call.services.view.state()
    known = state.allocations.get(hyphenated(_key(id_text)))
    is_seen = known is not None and call.may(READ_JOB, known.namespace)
    text = NO_PATH if is_seen else f'Unknown allocation "{id_text[:SHOWN_MAX]}"'
    raise ProblemError(Problem(404, text))


def _key(text: str) -> str:
    """Return the digits of a whole id, nothing of what is none."""
    digits = typed_digits(text) or ""
    return digits if len(digits) == KEY_LENGTH else ""
