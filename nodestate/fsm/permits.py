"""Whether what permitted a command still holds where the command is applied.

A server permits what its own replica allows, and that may lag behind, or be overtaken
while the command is on its way. So a command says from what its permission followed, and
whoever proposed it must look again if that is another by now.
"""

from typing import Final

from nodestate.fsm.state import ACL_POLICIES, ACL_ROLES, State
from nodestate.model.command import Command, Permit
from nodestate.model.outcome import OUTDATED_PERMIT, RefusalCode, Refused

OUTDATED: Final = Refused(RefusalCode.OUTDATED_PERMIT, OUTDATED_PERMIT)


def permit_of(state: State, accessor_id: str) -> Permit:
    """Return from what it follows now what a token may do, or who shows none.

    A management token needs no policy, so that policies may change under it.
    """
    token = state.acl_tokens.get(accessor_id)
    token_index = 0 if token is None else token.modify_index
    if token is not None and token.is_management:
        return Permit(token_index, 0)
    indexes = state.indexes
    return Permit(token_index, max(indexes[ACL_POLICIES], indexes[ACL_ROLES]))


def is_outdated(state: State, command: Command) -> bool:
    """Say whether what permitted a command is not so any more."""
    permit = command.permit
    return permit is not None and permit != permit_of(state, command.asked_by)
