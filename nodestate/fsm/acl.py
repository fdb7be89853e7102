"""Policies, tokens and roles: what follows from commands about them, and writing it.

What a record may say by itself is checked before it is proposed (`nodestate.acl.checks`);
here is looked at what only the state can tell. The rules of a policy are a text here: what
it grants is for each server to read, so that a better parser makes no other state.

A new token comes with its accessor, its secret and its time, a changed one keeps them.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from nodestate.fsm.state import (
    ACL_BOOTSTRAP,
    ACL_POLICIES,
    ACL_ROLES,
    ACL_TOKENS,
    BOOTSTRAP_KEY,
    State,
)
from nodestate.model.acl import (
    BOOTSTRAP_NAME,
    MANAGEMENT,
    ACLBootstrap,
    ACLPolicy,
    ACLRole,
    ACLToken,
    PolicyLink,
    RoleLink,
    policy_hash,
    role_hash,
    secret_digest,
    token_hash,
)
from nodestate.model.command import (
    BootstrapACL,
    DeletePolicies,
    DeleteRoles,
    DeleteTokens,
    ExpireTokens,
    RoleWrite,
    TokenWrite,
    UpsertPolicies,
    UpsertRoles,
    UpsertTokens,
)
from nodestate.model.event import (
    ACLBootstrapped,
    ACLPolicyDeleted,
    ACLPolicyUpserted,
    ACLRoleDeleted,
    ACLRoleUpserted,
    ACLTokenDeleted,
    ACLTokenUpserted,
    Event,
)
from nodestate.model.outcome import (
    ACL_BOOTSTRAP_DONE,
    ACL_BOOTSTRAP_WRONG_RESET,
    ACL_ROLE_NOT_FOUND,
    ACL_SECRET_IN_USE,
    RefusalCode,
    Refused,
)
from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret

_SECRET_IN_USE: Final = Refused(RefusalCode.CONFLICT, ACL_SECRET_IN_USE)


def written_ids(events: Iterable[Event]) -> tuple[str, ...]:
    """Return the accessors of tokens and the ids of roles that were written, in order."""
    ids: list[str] = []
    for event in events:
        if isinstance(event, ACLTokenUpserted):
            ids.append(event.token.accessor_id)
        elif isinstance(event, ACLRoleUpserted):
            ids.append(event.role.id)
    return tuple(ids)


# Policies


def decide_upsert_policies(
    state: State, command: UpsertPolicies, index: int
) -> list[Event]:
    """Write policies, new ones and others."""
    return [
        ACLPolicyUpserted(_policy(state.acl_policies.get(policy.name), policy, index))
        for policy in command.policies
    ]


def _policy(known: ACLPolicy | None, policy: ACLPolicy, index: int) -> ACLPolicy:
    return replace(
        policy,
        hash=policy_hash(policy),
        create_index=index if known is None else known.create_index,
        modify_index=index,
    )


def decide_delete_policies(
    state: State, command: DeletePolicies, _: int
) -> list[Event]:
    """Remove policies. One that is not there counts as a change of the table, too."""
    return [
        ACLPolicyDeleted(name, state.acl_policies.get(name))
        for name in dict.fromkeys(command.names)
    ]


# Tokens


def decide_upsert_tokens(
    state: State, command: UpsertTokens, index: int
) -> list[Event] | Refused:
    """Write tokens, all or none; each accessor and each secret once."""
    events: list[Event] = []
    accessor_ids: set[str] = set()
    secrets: set[Secret] = set()
    for write in command.tokens:
        accessor_id = write.token.accessor_id
        if accessor_id in accessor_ids or write.secret in secrets:
            return _invalid(f"token {accessor_id}, or its secret, is there twice")
        token = _written_token(state, write, index)
        if isinstance(token, Refused):
            return token
        accessor_ids.add(accessor_id)
        if write.secret is not None:
            secrets.add(write.secret)
        events.append(ACLTokenUpserted(token, write.secret))
    return events


def _written_token(state: State, write: TokenWrite, index: int) -> ACLToken | Refused:
    known = state.acl_tokens.get(write.token.accessor_id)
    if write.secret is None:
        token = _changed_token(known, write.token)
    else:
        token = _new_token(state, write.token, write.secret, index)
    if isinstance(token, Refused):
        return token
    roles = _linked_roles(state, token.roles or ())
    if isinstance(roles, Refused):
        return roles
    token = replace(
        token, roles=roles or None, policies=token.policies or None, modify_index=index
    )
    return replace(token, hash=token_hash(token))


def _new_token(
    state: State, token: ACLToken, secret: Secret, index: int
) -> ACLToken | Refused:
    if token.accessor_id in state.acl_tokens:
        return Refused(
            RefusalCode.CONFLICT, f"token {token.accessor_id} already exists"
        )
    if _is_in_use(state, secret):
        return _SECRET_IN_USE
    return replace(token, create_index=index)


def _is_in_use(state: State, secret: Secret) -> bool:
    return secret_digest(secret.reveal()) in state.accessors_by_secret


def _changed_token(known: ACLToken | None, token: ACLToken) -> ACLToken | Refused:
    """Return what a token becomes; what cannot be changed may be left out, or the same."""
    accessor_id = token.accessor_id
    if known is None:
        return Refused(RefusalCode.NOT_FOUND, f"cannot find token {accessor_id}")
    if token.is_global != known.is_global:
        return _invalid(f"cannot toggle global mode of {accessor_id}")
    if token.expiration_ttl not in {"", known.expiration_ttl}:
        return _invalid("cannot update expiration TTL")
    if token.expiration_time.ns not in {0, known.expiration_time.ns}:
        return _invalid("cannot update expiration time")
    return replace(
        known,
        name=token.name,
        type=token.type,
        policies=token.policies,
        roles=token.roles,
    )


def _linked_roles(
    state: State, links: Iterable[RoleLink]
) -> tuple[RoleLink, ...] | Refused:
    """Return links by id and name, each role once."""
    linked: dict[str, RoleLink] = {}
    for link in links:
        role = (
            state.acl_roles.get(link.id) if link.id else state.acl_role_named(link.name)
        )
        if role is None:
            return _invalid(f"cannot find role {link.id or link.name}")
        linked[role.id] = RoleLink(id=role.id, name=role.name)
    return tuple(linked.values())


def decide_delete_tokens(
    state: State, command: DeleteTokens, _: int
) -> list[Event] | Refused:
    """Remove tokens, all or none."""
    accessor_ids = list(dict.fromkeys(command.accessor_ids))
    absent = [id_ for id_ in accessor_ids if id_ not in state.acl_tokens]
    if absent:
        return _invalid(f"Cannot delete nonexistent tokens: {', '.join(absent)}")
    return [ACLTokenDeleted(state.acl_tokens[id_]) for id_ in accessor_ids]


def decide_expire_tokens(state: State, command: ExpireTokens, _: int) -> list[Event]:
    """Remove those whose time is over."""
    events: list[Event] = []
    for accessor_id in dict.fromkeys(command.accessor_ids):
        token = state.acl_tokens.get(accessor_id)
        if token is not None and token.is_expired(command.at_ns):
            events.append(ACLTokenDeleted(token))
    return events


# Bootstrap


def decide_bootstrap(
    state: State, command: BootstrapACL, index: int
) -> list[Event] | Refused:
    """Make the first management token. Of two who ask at once, one is refused here."""
    known = state.acl_bootstrap.get(BOOTSTRAP_KEY)
    if known is not None and command.reset_index != known.modify_index:
        if command.reset_index == 0:
            return _invalid(ACL_BOOTSTRAP_DONE.format(known.modify_index))
        return _invalid(
            ACL_BOOTSTRAP_WRONG_RESET.format(command.reset_index, known.modify_index)
        )
    token = ACLToken(
        accessor_id=command.accessor_id,
        name=BOOTSTRAP_NAME,
        type=MANAGEMENT,
        is_global=True,
        create_time=Timestamp(command.at_ns),
    )
    written = _written_token(state, TokenWrite(token, command.secret), index)
    if isinstance(written, Refused):
        return written
    bootstrap = ACLBootstrap(
        accessor_id=command.accessor_id,
        create_index=index if known is None else known.create_index,
        modify_index=index,
    )
    return [ACLTokenUpserted(written, command.secret), ACLBootstrapped(bootstrap)]


# Roles


def decide_upsert_roles(
    state: State, command: UpsertRoles, index: int
) -> list[Event] | Refused:
    """Write roles, all or none; each id and each name once."""
    events: list[Event] = []
    ids: set[str] = set()
    names: set[str] = set()
    for write in command.roles:
        role = _written_role(state, write, index)
        if isinstance(role, Refused):
            return role
        if role.id in ids or role.name in names:
            return _invalid(f"role {role.id}, or its name, is there twice")
        ids.add(role.id)
        names.add(role.name)
        events.append(ACLRoleUpserted(role))
    return events


def _written_role(state: State, write: RoleWrite, index: int) -> ACLRole | Refused:
    role = write.role
    known = state.acl_roles.get(role.id)
    if known is None and not write.is_new:
        return _invalid(f"cannot find role {role.id}")
    if known is not None and write.is_new:
        return Refused(RefusalCode.CONFLICT, f"role {role.id} already exists")
    namesake = state.acl_role_named(role.name)
    if namesake is not None and namesake.id != role.id:
        return _invalid(f"role with name {role.name} already exists")
    names = tuple(dict.fromkeys(link.name for link in role.policies))
    for name in names:
        if name not in state.acl_policies:
            return _invalid(f"cannot find policy {name}")
    role = replace(
        role,
        policies=tuple(PolicyLink(name=name) for name in names),
        create_index=index if known is None else known.create_index,
        modify_index=index,
    )
    return replace(role, hash=role_hash(role))


def decide_delete_roles(
    state: State, command: DeleteRoles, _: int
) -> list[Event] | Refused:
    """Remove roles, all or none."""
    ids = list(dict.fromkeys(command.ids))
    if any(id_ not in state.acl_roles for id_ in ids):
        return Refused(RefusalCode.NOT_FOUND, ACL_ROLE_NOT_FOUND)
    return [ACLRoleDeleted(state.acl_roles[id_]) for id_ in ids]


def _invalid(reason: str) -> Refused:
    return Refused(RefusalCode.INVALID, reason)


# Written


def evolve_policy_upserted(state: State, event: ACLPolicyUpserted, index: int) -> None:
    """Write the policy."""
    state.acl_policies[event.policy.name] = event.policy
    state.indexes[ACL_POLICIES] = index


def evolve_policy_deleted(state: State, event: ACLPolicyDeleted, index: int) -> None:
    """Remove the policy, if there is one."""
    state.acl_policies.pop(event.name, None)
    state.indexes[ACL_POLICIES] = index


def evolve_token_upserted(state: State, event: ACLTokenUpserted, index: int) -> None:
    """Write the token, a new one with its secret."""
    state.acl_tokens[event.token.accessor_id] = event.token
    if event.secret is not None:
        state.put_acl_secret(event.token.accessor_id, event.secret)
    state.indexes[ACL_TOKENS] = index


def evolve_token_deleted(state: State, event: ACLTokenDeleted, index: int) -> None:
    """Remove the token and its secret."""
    state.remove_acl_token(event.token.accessor_id)
    state.indexes[ACL_TOKENS] = index


def evolve_bootstrapped(state: State, event: ACLBootstrapped, index: int) -> None:
    """Remember the first management token."""
    state.acl_bootstrap[BOOTSTRAP_KEY] = event.bootstrap
    state.indexes[ACL_BOOTSTRAP] = index


def evolve_role_upserted(state: State, event: ACLRoleUpserted, index: int) -> None:
    """Write the role."""
    state.put_acl_role(event.role)
    state.indexes[ACL_ROLES] = index


def evolve_role_deleted(state: State, event: ACLRoleDeleted, index: int) -> None:
    """Remove the role."""
    state.remove_acl_role(event.role.id)
    state.indexes[ACL_ROLES] = index
