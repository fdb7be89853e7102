"""The typed client for ACLs: who may do what, and by which token."""

from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from typing_extensions import override

from nodestate.client import NOW, Query, Read
from nodestate.client_work import WorkClient
from nodestate.model.acl import ACLPolicy, ACLRole, ACLToken, PolicyLink, RoleLink
from nodestate.model.naming import nomad_name


class Token(ACLToken, frozen=True, kw_only=True):
    """A token as it is answered; lists are without the secret."""

    secret_id: str = ""

    @override
    def __repr__(self) -> str:
        return f"Token(accessor_id={self.accessor_id!r})"


class TokenSpec(msgspec.Struct, frozen=True, kw_only=True, rename=nomad_name):
    """A token as it is to be; `expiration_ttl` is a duration as Go writes it."""

    name: str = ""
    type: str = ""
    policies: Sequence[str] = ()
    roles: Sequence[RoleLink] = ()
    is_global: bool = msgspec.field(name="Global", default=False)
    expiration_ttl: str = msgspec.field(name="ExpirationTTL", default="")
    accessor_id: str = ""


class RoleSpec(msgspec.Struct, frozen=True, kw_only=True, rename=nomad_name):
    """A role as it is to be."""

    name: str = ""
    description: str = ""
    policies: Sequence[PolicyLink] = ()
    id: str = ""


class AclClient(WorkClient):
    """Talks to one server about ACLs as well as about all else."""

    async def bootstrap_acl(self, secret: str = "") -> Token:
        """Make the first management token, of which the secret may be chosen."""
        body = {"BootstrapSecret": secret} if secret else {}
        return await self._write("/v1/acl/bootstrap", body, Token)

    # Policies

    async def acl_policies(
        self, query: Query = NOW, *, prefix: str = ""
    ) -> Read[list[ACLPolicy]]:
        """List the policies that one may see, without their rules."""
        options = {"prefix": prefix} if prefix else {}
        return await self._read("/v1/acl/policies", list[ACLPolicy], query, options)

    async def acl_policy(self, name: str, query: Query = NOW) -> Read[ACLPolicy]:
        """Read one policy."""
        return await self._read(_path("policy", name), ACLPolicy, query)

    async def put_acl_policy(
        self,
        name: str,
        rules: str,
        *,
        description: str = "",
        idempotency_key: str = "",
    ) -> None:
        """Write a policy, or replace it."""
        body = {"Name": name, "Description": description, "Rules": rules}
        path = _path("policy", name)
        await self._change("POST", path, {}, body=body, idempotency_key=idempotency_key)

    async def delete_acl_policy(self, name: str) -> None:
        """Remove a policy, if it is there."""
        await self._change("DELETE", _path("policy", name), {})

    # Tokens

    async def acl_tokens(
        self, query: Query = NOW, *, prefix: str = "", **options: str
    ) -> Read[list[Token]]:
        """List tokens; `options` are the list's own, such as `filter` and `global`."""
        wanted = {"prefix": prefix, **options}
        parameters = {name: value for name, value in wanted.items() if value}
        return await self._read("/v1/acl/tokens", list[Token], query, parameters)

    async def acl_token(self, accessor_id: str, query: Query = NOW) -> Read[Token]:
        """Read one token, with its secret."""
        return await self._read(_path("token", accessor_id), Token, query)

    async def own_acl_token(self) -> Read[Token]:
        """Read the token that this client has."""
        return await self._read("/v1/acl/token/self", Token, NOW)

    async def create_acl_token(
        self, spec: TokenSpec, *, idempotency_key: str = ""
    ) -> Token:
        """Make a token."""
        return await self._write("/v1/acl/token", spec, Token, idempotency_key)

    async def update_acl_token(
        self, spec: TokenSpec, *, idempotency_key: str = ""
    ) -> Token:
        """Make of the token with this accessor what the spec says."""
        path = _path("token", spec.accessor_id)
        return await self._write(path, spec, Token, idempotency_key)

    async def delete_acl_token(self, accessor_id: str) -> None:
        """Remove a token.

        aiohttp sends a DELETE once more if the connection breaks. The server may say then
        that there is no such token: it is gone.
        """
        await self._change("DELETE", _path("token", accessor_id), {})

    # Roles

    async def acl_roles(
        self, query: Query = NOW, *, prefix: str = ""
    ) -> Read[list[ACLRole]]:
        """List the roles that one may see."""
        options = {"prefix": prefix} if prefix else {}
        return await self._read("/v1/acl/roles", list[ACLRole], query, options)

    async def acl_role(self, role_id: str, query: Query = NOW) -> Read[ACLRole]:
        """Read one role, by its id."""
        return await self._read(_path("role", role_id), ACLRole, query)

    async def acl_role_named(self, name: str, query: Query = NOW) -> Read[ACLRole]:
        """Read one role, by its name."""
        return await self._read(_path("role/name", name), ACLRole, query)

    async def create_acl_role(
        self, spec: RoleSpec, *, idempotency_key: str = ""
    ) -> ACLRole:
        """Make a role."""
        return await self._write("/v1/acl/role", spec, ACLRole, idempotency_key)

    async def update_acl_role(
        self, spec: RoleSpec, *, idempotency_key: str = ""
    ) -> ACLRole:
        """Make of the role with this id what the spec says."""
        path = _path("role", spec.id)
        return await self._write(path, spec, ACLRole, idempotency_key)

    async def delete_acl_role(self, role_id: str) -> None:
        """Remove a role; tokens that have it keep a link to nothing."""
        await self._change("DELETE", _path("role", role_id), {})


def _path(noun: str, key: str) -> str:
    return f"/v1/acl/{noun}/{quote(key, safe='')}"
