"""Policies, tokens and roles, and a log that goes through every command about them."""

from collections.abc import Iterator
from typing import Any

from nodestate.model.acl import (
    CLIENT,
    MANAGEMENT,
    ACLPolicy,
    ACLRole,
    ACLToken,
    PolicyLink,
    RoleLink,
)
from nodestate.model.command import (
    BootstrapACL,
    Command,
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
from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret
from tests.fsm.entries import SECOND_NS, START_NS, Log

NODE_READ = 'node { policy = "read" }'
NODE_WRITE = 'node { policy = "write" }'
NODE_DENY = 'node { policy = "deny" }'


def uuid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def secret_of(number: int) -> str:
    """The secret of the token with the accessor `uuid(number)`."""
    return f"{number:08x}-5ec2-4000-8000-000000000000"


A1, A2, A3, R1, R2 = uuid(1), uuid(2), uuid(3), uuid(11), uuid(12)


def put_policies(**rules: str) -> UpsertPolicies:
    policies = tuple(ACLPolicy(name=name, rules=text) for name, text in rules.items())
    return UpsertPolicies(at_ns=START_NS, policies=policies)


def delete_policies(*names: str) -> DeletePolicies:
    return DeletePolicies(at_ns=START_NS, names=names)


def token(number: int = 1, **fields: Any) -> ACLToken:
    sent: dict[str, Any] = {
        "accessor_id": uuid(number),
        "name": f"token-{number}",
        "type": CLIENT,
        "policies": ("reader",),
        "create_time": Timestamp(START_NS),
    }
    return ACLToken(**(sent | fields))


def new_token(number: int = 1, **fields: Any) -> TokenWrite:
    return TokenWrite(token(number, **fields), Secret(secret_of(number)))


def put_tokens(*writes: TokenWrite) -> UpsertTokens:
    return UpsertTokens(at_ns=START_NS, tokens=writes)


def change_token(number: int = 1, **fields: Any) -> UpsertTokens:
    return put_tokens(TokenWrite(token(number, **fields)))


def delete_tokens(*accessor_ids: str) -> DeleteTokens:
    return DeleteTokens(at_ns=START_NS, accessor_ids=accessor_ids)


def expire(*accessor_ids: str, at_ns: int = START_NS) -> ExpireTokens:
    return ExpireTokens(at_ns=at_ns, accessor_ids=accessor_ids)


def bootstrap(number: int = 100, *, reset_index: int = 0) -> BootstrapACL:
    return BootstrapACL(
        at_ns=START_NS,
        accessor_id=uuid(number),
        secret=Secret(secret_of(number)),
        reset_index=reset_index,
    )


def role(number: int = 11, *policies: str, **fields: Any) -> ACLRole:
    sent: dict[str, Any] = {
        "id": uuid(number),
        "name": f"role-{number}",
        "policies": tuple(PolicyLink(name=name) for name in policies or ("reader",)),
    }
    return ACLRole(**(sent | fields))


def put_roles(*roles: ACLRole, is_new: bool = True) -> UpsertRoles:
    writes = tuple(RoleWrite(each, is_new=is_new) for each in roles)
    return UpsertRoles(at_ns=START_NS, roles=writes)


def delete_roles(*ids: str) -> DeleteRoles:
    return DeleteRoles(at_ns=START_NS, ids=ids)


def acl_commands(log: Log) -> Iterator[Command]:
    """Yield every kind of command about ACLs, accepted, refused and without effect."""
    yield bootstrap()
    yield bootstrap(101)
    yield bootstrap(101, reset_index=log.index)
    yield bootstrap(101, reset_index=log.index - 2)
    yield put_policies(reader=NODE_READ, writer=NODE_WRITE, gone="")
    yield put_policies(reader=NODE_READ)
    yield delete_policies("gone", "never")
    yield put_roles(role(), role(12, "reader", "writer", description="both"))
    yield put_roles(role(13, name="role-11"))
    yield put_roles(role(12, "writer"), is_new=False)
    yield put_tokens(new_token(), new_token(2, roles=(RoleLink(name="role-11"),)))
    yield put_tokens(
        new_token(3, expiration_time=Timestamp(START_NS + 5), expiration_ttl="5ns"),
        new_token(4, type=MANAGEMENT, policies=None, is_global=True),
        new_token(5, policies=None, roles=(RoleLink(id=R2),)),
    )
    yield change_token(2, name="other", policies=("reader", "writer"))
    yield change_token(9)
    yield put_tokens(TokenWrite(token(6), Secret(secret_of(1))))
    yield expire(A1, A3, at_ns=START_NS)
    yield expire(A1, A3, uuid(9), at_ns=START_NS + SECOND_NS)
    yield delete_tokens(A1, uuid(9))
    yield delete_tokens(A1)
    yield delete_roles(uuid(19))
    yield delete_roles(R1)
