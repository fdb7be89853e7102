"""What a policy, a token and a role may be written as, looked at before it is proposed.

All that is wrong with one of them is told at once, as Nomad's list of errors. What only
the state can tell is looked at when the command is applied (`fsm.acl`).
"""

from collections.abc import Sequence
from typing import Final

from nodestate.acl.policies import parse_policy
from nodestate.errors import RequestError
from nodestate.model.acl import CLIENT, MANAGEMENT, ACLPolicy, ACLRole, ACLToken

NAME_CHARACTERS_MAX: Final = 256
DESCRIPTION_CHARACTERS_MAX: Final = 256
KEY_CHARACTERS_MAX: Final = 128
"""Of the names that policies and roles go by."""
LINKS_MAX: Final = 256
"""Policies, and roles, of one token or role: each is read when the token is used."""
_KEY_LETTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
)


def check_policy(policy: ACLPolicy) -> None:
    """Raise `RequestError` for a policy that cannot be."""
    problems: list[str] = []
    if not is_key(policy.name):
        problems.append(invalid_name(policy.name))
    try:
        if _is_unicode(policy.rules):
            parse_policy(policy.rules)
        else:
            problems.append("failed to parse rules: they are not valid Unicode")
    except RequestError as error:
        problems.append(f"failed to parse rules: {error}")
    problems += _description_problems(policy.description)
    _raise("policy", problems)


def check_token(token: ACLToken, *expiry_problems: str) -> None:
    """Raise `RequestError` for a token that cannot be, with what `expiry` found."""
    problems: list[str] = []
    if len(token.name) > NAME_CHARACTERS_MAX:
        problems.append("token name too long")
    if not _is_unicode(token.name):
        problems.append("token name is not valid Unicode")
    policies, roles = token.policies or (), token.roles or ()
    if token.type == CLIENT:
        if not policies and not roles:
            problems.append("client token missing policies")
    elif token.type == MANAGEMENT:
        if policies or roles:
            linked = "policies or roles" if roles else "policies"
            problems.append(f"management token cannot be associated with {linked}")
    else:
        problems.append("token type must be client or management")
    problems += _link_problems("policies", policies)
    problems += _link_problems("roles", [link.id or link.name for link in roles])
    _raise("token", [*problems, *expiry_problems])


def check_role(role: ACLRole) -> None:
    """Raise `RequestError` for a role that cannot be."""
    problems: list[str] = []
    if not is_key(role.name):
        problems.append(invalid_name(role.name))
    problems += _description_problems(role.description)
    if not role.policies:
        problems.append("at least one policy should be specified")
    problems += _link_problems("policies", [link.name for link in role.policies])
    _raise("role", problems)


def is_key(name: str) -> bool:
    """Say whether policies and roles may go by this name."""
    return 0 < len(name) <= KEY_CHARACTERS_MAX and _KEY_LETTERS.issuperset(name)


def invalid_name(name: str) -> str:
    """Return what is wrong with a name that policies and roles cannot have."""
    shown = name[:KEY_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()
    return f"invalid name '{shown}'"


def multi_error(problems: Sequence[str]) -> str:
    """Return problems as Nomad lists them."""
    noun = "error" if len(problems) == 1 else "errors"
    lines = "".join(f"\t* {problem}\n" for problem in problems)
    return f"{len(problems)} {noun} occurred:\n{lines}\n"


def _raise(noun: str, problems: Sequence[str]) -> None:
    if problems:
        raise RequestError(f"{noun} 0 invalid: {multi_error(problems)}")


def _description_problems(description: str) -> list[str]:
    if len(description) > DESCRIPTION_CHARACTERS_MAX:
        return [f"description longer than {DESCRIPTION_CHARACTERS_MAX}"]
    return [] if _is_unicode(description) else ["description is not valid Unicode"]


def _link_problems(noun: str, names: Sequence[str]) -> list[str]:
    """Names of what does not exist yet are as good as any, if they can be kept."""
    if len(names) > LINKS_MAX:
        return [f"{len(names)} {noun}, at most {LINKS_MAX} are allowed"]
    if any(len(name) > KEY_CHARACTERS_MAX or not _is_unicode(name) for name in names):
        return [
            f"a name among the {noun} has more than {KEY_CHARACTERS_MAX} characters "
            "or is not valid Unicode"
        ]
    return []


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)
