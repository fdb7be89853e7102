"""Whether a caller may do what is asked: before anything is looked at, once per request.

What this server knows of tokens may be behind what the cluster knows. So what it would
refuse is looked at again once it is not: a token that was made a moment ago at another
server is good here. What it permits wrongly goes nowhere: a change carries what it was
permitted by, and the log refuses it; a consistent read is permitted when the state is
known to be new; and what is in no log is not permitted before that, nor what an agent
does by its node's SecretID, of which a change carries nothing.
"""

from collections.abc import Iterable
from typing import Final

from nodestate.api.blocking import wait_until_linearizable
from nodestate.api.calls import LEADER_POLL_S, Call
from nodestate.api.needs import NODE_WRITE, Need
from nodestate.api.parameters import parse_boolean
from nodestate.api.problems import ProblemError
from nodestate.errors import NoLeaderError, PermissionDeniedError
from nodestate.model.acl import canonical_uuid
from nodestate.model.node import NodeKey

FRESH_S_MAX: Final = 1.0
"""How long a refusal may wait for what the cluster knows."""


async def authorize(call: Call, need: Need) -> None:
    """Refuse a request whose caller does not meet the need; afterwards it is known who asks."""
    try:
        call.permit(need)
    except (ProblemError, PermissionDeniedError):
        if not _may_be_known_elsewhere(call) or not await _is_made_fresh(call):
            raise
    else:
        is_exclusive = need.is_exclusive or call.is_agents_change()
        if not is_exclusive or _may_be_stale(call):
            return
        await _make_fresh(call)
    call.permit(need)


def _may_be_known_elsewhere(call: Call) -> bool:
    secret = call.token()
    return not secret or canonical_uuid(secret) is not None


def _may_be_stale(call: Call) -> bool:
    """Say whether a stale answer is asked for.

    A change has no such answer: what is permitted to nobody any more is not to be had by
    asking for it.
    """
    if call.request.method not in {"GET", "HEAD"}:
        return False
    word = call.query.get("stale")
    return word is not None and (word == "" or parse_boolean(word) is True)


async def _is_made_fresh(call: Call) -> bool:
    """Say whether the state here has become as new as the cluster's, soon.

    Not for who asks for a stale answer, nor where there is no leader who could tell.
    """
    services = call.services
    if _may_be_stale(call) or services.leadership.status().leader_id is None:
        return False
    try:
        await wait_until_linearizable(
            services, deadline_s=min(FRESH_S_MAX, call.remaining_s())
        )
    except NoLeaderError:
        return False
    return True


async def _make_fresh(call: Call) -> None:
    """Return when the state here is as new as the cluster's; `NoLeaderError` if it is not.

    What goes on without that might be done later, once there is a leader, for somebody to
    whom it was forbidden before.
    """
    while True:
        await call.wait_for_leader()
        try:
            await wait_until_linearizable(call.services, deadline_s=call.remaining_s())
        except NoLeaderError:
            if call.is_out_of_time():
                raise
        else:
            return
        await call.services.clock.sleep(min(LEADER_POLL_S, call.remaining_s()))


async def may_add_nodes(call: Call, keys: Iterable[NodeKey]) -> bool:
    """Say whether the caller of a registration may bring nodes that are not there yet.

    It takes `node:write`, or a certificate. Where all `keys` are known it does not matter,
    so that the agents that have no token cost nothing.
    """
    if not call.services.config.acl_enabled or call.has_certificate():
        return True
    state = call.services.view.state()
    try:
        if all(state.node(key) is not None for key in keys):
            call.permit(NODE_WRITE)
        else:
            await authorize(call, NODE_WRITE)
    except (ProblemError, PermissionDeniedError):
        return False
    return True
