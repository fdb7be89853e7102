"""From a token's secret and the state to who asks, and what they may do.

A `Resolver` keeps what it has worked out for as long as the state says the same: a token's
record, and the indexes of policies and roles. It keeps no secret, and is for one server.

A policy that this version cannot read might deny something, so that whoever has it may do
nothing until it is written anew.
"""

from hmac import compare_digest
from typing import Final, NamedTuple

from nodestate.acl.permissions import MANAGEMENT, NOTHING, Permissions
from nodestate.acl.policies import Policy, parse_policy
from nodestate.errors import RequestError
from nodestate.fsm.state import ACL_POLICIES, ACL_ROLES, State
from nodestate.model.acl import (
    ANONYMOUS_TOKEN,
    ACLPolicy,
    ACLToken,
    RoleLink,
    canonical_uuid,
    secret_digest,
)
from nodestate.model.node import NodeKey
from nodestate.model.outcome import ACL_TOKEN_NOT_FOUND, PERMISSION_DENIED

TOKENS_KEPT_MAX: Final = 8192
POLICIES_KEPT_MAX: Final = 8192


class Identity(NamedTuple):
    """Who asks: a token, as it is in the state, and what it may do."""

    token: ACLToken
    permissions: Permissions


class Unresolved(NamedTuple):
    """Why there is no telling who asks. `text` may be answered, `reason` may be logged."""

    text: str
    reason: str


NOT_FOUND: Final = Unresolved(ACL_TOKEN_NOT_FOUND, "no such token")
EXPIRED: Final = Unresolved(PERMISSION_DENIED, "the token has expired")

_Indexes = tuple[int, int]


class _Known(NamedTuple):
    """What was worked out for a token, and from what."""

    token: ACLToken
    indexes: _Indexes
    resolved: Identity | Unresolved


class Resolver:
    """Resolves tokens for one server."""

    def __init__(self) -> None:
        self._accessors: dict[int, str] = {}  # by the hash of the secret
        self._known: dict[str, _Known] = {}
        self._policies: dict[str, tuple[ACLPolicy, Policy | RequestError]] = {}

    def resolve(self, state: State, secret: str, now_ns: int) -> Identity | Unresolved:
        """Return who has this secret; who has none is anonymous."""
        if not secret:
            return self._resolve_known(state, ANONYMOUS_TOKEN)
        token = self._recall(state, secret) or self._find(state, secret)
        if token is None:
            return NOT_FOUND
        if token.is_expired(now_ns):
            return EXPIRED
        return self._resolve_known(state, token)

    def _recall(self, state: State, secret: str) -> ACLToken | None:
        """Return the token that was found by this before, if it still has this secret.

        A comparison costs less than the digests by which tokens are found.
        """
        accessor_id = self._accessors.get(hash(secret))
        if accessor_id is None or not secret.isascii():
            return None
        kept = state.acl_secrets.get(accessor_id)
        if kept is None or not compare_digest(kept.reveal(), secret):
            return None
        return state.acl_tokens.get(accessor_id)

    def _find(self, state: State, secret: str) -> ACLToken | None:
        uuid = canonical_uuid(secret)
        token = None if uuid is None else state.acl_token_of(uuid)
        if token is not None:
            if len(self._accessors) >= TOKENS_KEPT_MAX:
                self._accessors.clear()
            self._accessors[hash(secret)] = token.accessor_id
        return token

    def _resolve_known(self, state: State, token: ACLToken) -> Identity | Unresolved:
        indexes = state.indexes[ACL_POLICIES], state.indexes[ACL_ROLES]
        known = self._known.get(token.accessor_id)
        if known is not None and known.token is token and known.indexes == indexes:
            return known.resolved
        resolved = self._resolve(state, token)
        if len(self._known) >= TOKENS_KEPT_MAX:
            self._known.clear()
        self._known[token.accessor_id] = _Known(token, indexes, resolved)
        return resolved

    def _resolve(self, state: State, token: ACLToken) -> Identity | Unresolved:
        if token.is_management:
            return Identity(token, MANAGEMENT)
        policies: list[Policy] = []
        for name in policy_names(state, token):
            policy = self._policy(state.acl_policies[name])
            if isinstance(policy, RequestError):
                return Unresolved(
                    PERMISSION_DENIED, f"policy {name!r} cannot be used: {policy}"
                )
            policies.append(policy)
        return Identity(token, Permissions(policies) if policies else NOTHING)

    def _policy(self, record: ACLPolicy) -> Policy | RequestError:
        """Return what a policy grants; its rules are read once."""
        known = self._policies.get(record.name)
        if known is not None and known[0] is record:
            return known[1]
        policy: Policy | RequestError
        try:
            policy = parse_policy(record.rules)
        except RequestError as error:
            policy = error
        if len(self._policies) >= POLICIES_KEPT_MAX:
            self._policies.clear()
        self._policies[record.name] = (record, policy)
        return policy


def nodes_with_secret(state: State, secret: str) -> list[NodeKey]:
    """Return the nodes that have this as their SecretID: whoever shows it is their agent.

    To be asked where no token has it. A node's agent may do little, and each route says
    what (V32 of the deviations); none of it is in a policy.
    """
    return state.nodes_with_secret(secret_digest(secret)) if secret else []


def policy_names(state: State, token: ACLToken) -> list[str]:
    """Return the policies that are in force for a token, sorted: its own, its roles'.

    Those that do not exist are left out.
    """
    names = set(token.policies or ())
    for link in token.roles or ():
        role = state.acl_roles.get(link.id)
        if role is not None:
            names |= {policy.name for policy in role.policies}
    return sorted(name for name in names if name in state.acl_policies)


def role_links(state: State, token: ACLToken) -> tuple[RoleLink, ...] | None:
    """Return a token's roles as they are called now; those that are gone are left out."""
    roles = [state.acl_roles.get(link.id) for link in token.roles or ()]
    links = tuple(
        RoleLink(id=role.id, name=role.name) for role in roles if role is not None
    )
    return links or None
