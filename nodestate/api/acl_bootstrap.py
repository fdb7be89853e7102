"""The first management token, and another one where an operator has asked for a reset."""

from typing import Final

from nodestate.api.acl import check_enabled
from nodestate.api.acl_tokens import shown_token
from nodestate.api.agent import ask_leader
from nodestate.api.bodies import decode_body
from nodestate.api.calls import Call
from nodestate.api.problems import NO_LEADER
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.errors import NoLeaderError, OutcomeUnknownError, RequestError
from nodestate.fsm.state import BOOTSTRAP_KEY, State
from nodestate.model.acl import canonical_uuid
from nodestate.model.command import BootstrapACL
from nodestate.model.outcome import ACL_BOOTSTRAP_DONE, ACL_BOOTSTRAP_WRONG_RESET
from nodestate.model.question import ReadResetFile, ResetFileAnswer
from nodestate.secret import Secret

INVALID_SECRET: Final = "invalid acl token"  # noqa: S105  a text


class BootstrapSent(Shape, frozen=True, kw_only=True):
    """What a bootstrap may say: the secret that the token is to have."""

    bootstrap_secret: str = ""


async def bootstrap(call: Call) -> Reply:
    """Answer `PUT /v1/acl/bootstrap`, once; who asks again is told how to reset."""
    check_enabled(call)
    chosen = await _chosen_secret(call)
    await call.prepare_write()
    reset_index = await _reset_index(call, chosen)
    ids = call.services.ids
    command = BootstrapACL(
        at_ns=call.services.clock.now_ns(),
        accessor_id=ids.new_id(),
        secret=Secret(chosen or ids.new_id()),
        reset_index=reset_index,
    )
    accepted = await call.propose(command)
    if call.is_replayed and not chosen:
        # A key is no secret: whoever guesses the one of the first request, which needed
        # no token, must not be handed the token that may do everything.
        raise _done(call.services.view.state())
    return shown_token(call, accepted)


async def _chosen_secret(call: Call) -> str:
    """Return the secret of the body, nothing if that leaves it to the server."""
    body = await call.body()
    if not body.strip():
        return ""
    try:
        sent = decode_body(body, BootstrapSent)
    except RequestError as error:
        raise RequestError(f"failed to decode request body: {error}") from None
    if not sent.bootstrap_secret:
        return ""
    chosen = canonical_uuid(sent.bootstrap_secret)
    if chosen is None:
        raise RequestError(INVALID_SECRET)
    return chosen


async def _reset_index(call: Call, chosen: str) -> int:
    """Return what the leader's reset file asks for, 0 where nothing was done yet.

    What the log would only refuse is refused here: anybody may ask, and none of it is to
    be kept. Who shows the secret may be the one who was answered, and has not heard it.
    """
    state = call.services.view.state()
    known = state.acl_bootstrap.get(BOOTSTRAP_KEY)
    if known is None:
        return 0
    reset_index = await _read_reset_file(call)
    holder = state.acl_token_of(chosen)
    is_holder = holder is not None and holder.accessor_id == known.accessor_id
    if reset_index == known.modify_index or is_holder:
        return reset_index
    if reset_index == 0:
        raise _done(state)
    raise RequestError(
        ACL_BOOTSTRAP_WRONG_RESET.format(reset_index, known.modify_index)
    )


async def _read_reset_file(call: Call) -> int:
    try:
        answer = await ask_leader(
            call.services, ReadResetFile(), deadline_s=call.remaining_s()
        )
    except OutcomeUnknownError:
        # Nothing was asked to be done.
        raise NoLeaderError(NO_LEADER) from None
    if isinstance(answer, ResetFileAnswer):
        return answer.reset_index
    raise NoLeaderError(NO_LEADER)


def _done(state: State) -> RequestError:
    known = state.acl_bootstrap.get(BOOTSTRAP_KEY)
    index = 0 if known is None else known.modify_index
    return RequestError(ACL_BOOTSTRAP_DONE.format(index))
