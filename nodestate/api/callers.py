"""Who sent a request, for limits and for the audit log: known whether it is permitted or not."""

from typing import Final

from nodestate.acl.resolve import Identity, nodes_with_secret
from nodestate.api.calls import Call
from nodestate.model.command import ANONYMOUS

NODE_PREFIX: Final = "client:"
"""Before a node's id: its agent, which has shown its SecretID."""
UNKNOWN: Final = "unknown"
"""Who has a token that is none, or none any more."""


def caller_of(call: Call) -> str:
    """Return a token's accessor, `client:` and a node's id, `anonymous` or `unknown`.

    Without ACLs nobody's token is looked at, and everybody is anonymous.
    """
    services = call.services
    secret = call.token() if services.config.acl_enabled else ""
    if not secret:
        return ANONYMOUS
    state = services.view.state()
    found = services.resolver.resolve(state, secret, services.clock.now_ns())
    if isinstance(found, Identity):
        return found.token.accessor_id
    keys = nodes_with_secret(state, secret)
    return f"{NODE_PREFIX}{state.nodes[keys[0]].id}" if keys else UNKNOWN


def client_of(call: Call) -> str:
    """Return whom a request counts for: who sent it, or else its address.

    A token that is none counts for its address, so that trying tokens is limited too.
    """
    caller = caller_of(call)
    return call.connection().address if caller in {ANONYMOUS, UNKNOWN} else caller
