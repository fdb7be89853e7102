"""The records of ACLs: policies, tokens, roles, and that ACLs were bootstrapped.

A token's SecretID is in none of them. It is kept beside the tokens, since Nomad's clients
read it back (`GET /v1/acl/token/:accessor`), so that what is listed, sent as an event or
written down by mistake is a token without its secret. Wherever it has to go, it goes as a
`nodestate.secret.Secret`: MessagePack (the log, snapshots) has it, JSON and `repr` do not.

Hashes are Nomad's: equal on two clusters for equal fields, and different when one of them
has been changed.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Final

import msgspec

from nodestate.model.node import Record
from nodestate.model.timestamp import NO_TIME, Timestamp

CLIENT: Final = "client"
MANAGEMENT: Final = "management"

ANONYMOUS_POLICY: Final = "anonymous"
"""The policy of whoever shows no token; otherwise one like any other."""
BOOTSTRAP_NAME: Final = "Bootstrap Token"

HASH_BYTES: Final = 32
_UUID: Final = re.compile(
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)


class ACLPolicy(Record, frozen=True, kw_only=True):
    """Rules under a name. `rules` is the text as it was written, HCL 1 or JSON."""

    name: str = ""
    description: str = ""
    rules: str = ""
    hash: bytes = b""
    create_index: int = 0
    modify_index: int = 0


class RoleLink(Record, frozen=True, kw_only=True):
    """A role that a token has; the name is the role's when the token was written."""

    id: str = ""
    name: str = ""


class PolicyLink(Record, frozen=True, kw_only=True):
    """A policy that a role has."""

    name: str = ""


class ACLToken(Record, frozen=True, kw_only=True):
    """A token without its secret, under its `accessor_id`: a UUID in lower case.

    `policies` and `roles` are `None` where there are none. `expiration_ttl` is what was
    asked for, as Go writes a duration, and `expiration_time` is what counts.
    """

    accessor_id: str = ""
    name: str = ""
    type: str = ""
    policies: tuple[str, ...] | None = None
    is_global: bool = msgspec.field(name="Global", default=False)
    hash: bytes = b""
    create_time: Timestamp = NO_TIME
    create_index: int = 0
    modify_index: int = 0
    roles: tuple[RoleLink, ...] | None = None
    expiration_time: Timestamp = NO_TIME
    expiration_ttl: str = ""

    @property
    def is_management(self) -> bool:
        """Say whether it may do everything."""
        return self.type == MANAGEMENT

    def is_expired(self, at_ns: int) -> bool:
        """Say whether its time is over."""
        return 0 < self.expiration_time.ns <= at_ns


class ACLRole(Record, frozen=True, kw_only=True):
    """Policies under one name, which tokens link to."""

    id: str = ""
    name: str = ""
    description: str = ""
    policies: tuple[PolicyLink, ...] = ()
    hash: bytes = b""
    create_index: int = 0
    modify_index: int = 0


class ACLBootstrap(Record, frozen=True, kw_only=True):
    """That there is a first token. `modify_index` is what a reset has to name."""

    accessor_id: str = ""
    create_index: int = 0
    modify_index: int = 0


ANONYMOUS_TOKEN: Final = ACLToken(
    accessor_id="anonymous",
    name="Anonymous Token",
    type=CLIENT,
    policies=(ANONYMOUS_POLICY,),
)
"""Who shows no token; stored and listed nowhere."""
ACLS_DISABLED_TOKEN: Final = ACLToken(
    accessor_id="acls-disabled", name="ACLs disabled token", type=CLIENT
)
"""Who asks where ACLs are off."""


def policy_hash(policy: ACLPolicy) -> bytes:
    """Return the hash of what a user wrote."""
    return _hash((policy.name, policy.description, policy.rules))


def token_hash(token: ACLToken) -> bytes:
    """Return the hash of what a user wrote; the secret has no part in it."""
    return _hash(
        (
            token.name,
            token.type,
            *(token.policies or ()),
            "global" if token.is_global else "local",
            *(link.id for link in token.roles or ()),
        )
    )


def role_hash(role: ACLRole) -> bytes:
    """Return the hash of what a user wrote."""
    return _hash((role.name, role.description, *(link.name for link in role.policies)))


def _hash(texts: Iterable[str]) -> bytes:
    return blake2b("".join(texts).encode(), digest_size=HASH_BYTES).digest()


def canonical_uuid(text: str) -> str | None:
    """Return a UUID in lower case, `None` for a text that is none."""
    lowered = text.lower()
    return lowered if _UUID.fullmatch(lowered) else None


def secret_digest(secret: str) -> bytes:
    """Return what a token is found by.

    How long a search takes can then only tell of the digest, which nobody can choose a
    secret by.
    """
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
