"""What all requests about ACLs share: are there any, who asks, and how to answer.

Whether somebody may ask at all is known before a handler is called. What only a record
can tell, whether a policy, a role or a token is the caller's own, is looked at in the
handlers, in the state that is answered from.
"""

from typing import Final

from nodestate.acl.resolve import Identity
from nodestate.api.blocking import contact_lines
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.parameters import ReadOptions
from nodestate.api.replies import Body, Reply
from nodestate.errors import PermissionDeniedError, RequestError
from nodestate.fsm.state import State
from nodestate.model.acl import ACLToken

ACL_DISABLED: Final = "ACL support disabled"


def check_enabled(call: Call) -> None:
    """Refuse whatever is about ACLs where there are none."""
    if not call.services.config.acl_enabled:
        raise RequestError(ACL_DISABLED)


def denied() -> PermissionDeniedError:
    """Return the error for what somebody may not do, whether it is there or not."""
    return PermissionDeniedError("it is not the caller's")


def token_now(state: State, identity: Identity) -> ACLToken | None:
    """Return the caller's token as it is in this state, `None` if it is gone."""
    token = identity.token
    if not token.modify_index:
        return token  # anonymous, which is stored nowhere
    return state.acl_tokens.get(token.accessor_id)


def read_headers(call: Call, options: ReadOptions, index: int) -> bytes:
    """Return the headers of a read.

    Its index is never 0, which would make a waiting client spin.
    """
    return index_line(max(index, 1)) + contact_lines(call.services, options)


def not_found(call: Call, options: ReadOptions, index: int, text: str) -> Reply:
    """Return the answer for a record that is not there."""
    return text_reply(404, text, read_headers(call, options, index))


def written(index: int) -> Reply:
    """Return the answer to a write that has nothing to show."""
    return Reply(200, index_line(index), Body(b""))
