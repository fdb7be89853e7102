"""Roles over HTTP, as later versions of Nomad have them.

Who is no manager sees the roles of the token.
"""

from collections.abc import Callable
from typing import Final

from nodestate.acl import checks
from nodestate.acl.resolve import Identity
from nodestate.api import blocking
from nodestate.api.acl import (
    check_enabled,
    denied,
    not_found,
    read_headers,
    token_now,
    written,
)
from nodestate.api.calls import Call, index_line
from nodestate.api.listing import encode_parts, list_body
from nodestate.api.problems import Problem, ProblemError
from nodestate.api.replies import JSON_TYPE, Reply
from nodestate.api.shapes import Shape, encode
from nodestate.errors import RequestError
from nodestate.fsm.state import ACL_ROLES, State
from nodestate.model.acl import ACLRole, PolicyLink, canonical_uuid
from nodestate.model.command import DeleteRoles, RoleWrite, UpsertRoles
from nodestate.model.outcome import ACL_ROLE_NOT_FOUND
from nodestate.watch import WatchKey, prefix_key, record_key, table_key

OTHER_ROLE: Final = "ACL role ID does not match request path"
INVALID_ID: Final = "invalid ACL role ID: it must be a UUID"


class PolicyLinkSent(Shape, frozen=True, kw_only=True):
    """A policy, by its name."""

    name: str = ""


class RoleSent(Shape, frozen=True, kw_only=True):
    """A role as it is sent, with an id if it is to be changed."""

    id: str = ""
    name: str = ""
    description: str = ""
    policies: tuple[PolicyLinkSent, ...] | None = None


def roles_index(state: State) -> int:
    """Return the index of the table."""
    return state.table_index(ACL_ROLES)


# Read


async def list_roles(call: Call) -> Reply:
    """Answer `GET /v1/acl/roles`."""
    options = call.read_options()
    check_enabled(call)
    await blocking.wait_until_fresh(call, options)
    identity = call.identity()
    prefix = call.query.get("prefix", "").lower()
    if options.index:
        watched = prefix_key(ACL_ROLES, prefix) if prefix else table_key(ACL_ROLES)
        await blocking.wait_until_past(call, options, watched, roles_index)
    services = call.services
    state = services.view.state()
    headers = read_headers(call, options, roles_index(state))
    ids = sorted(id_ for id_ in state.acl_roles if id_.startswith(prefix))
    roles = [state.acl_roles[id_] for id_ in ids if _is_visible(state, identity, id_)]
    parts = await encode_parts(services.clock, roles, encode)
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


async def read_role(call: Call) -> Reply:
    """Answer `GET /v1/acl/role/:id`; only managers learn that there is none."""
    id_ = canonical_uuid(call.id_text) or call.id_text

    def find(state: State) -> ACLRole | None:
        return state.acl_roles.get(id_)

    return await _read(call, find, record_key(ACL_ROLES, id_))


async def read_named_role(call: Call) -> Reply:
    """Answer `GET /v1/acl/role/name/:name`."""
    name = call.id_text

    def find(state: State) -> ACLRole | None:
        return state.acl_role_named(name)

    # A name may pass from one role to another, so every change of the table counts.
    return await _read(call, find, table_key(ACL_ROLES))


async def _read(
    call: Call, find: Callable[[State], ACLRole | None], watched: WatchKey
) -> Reply:
    options = call.read_options()
    check_enabled(call)
    await blocking.wait_until_fresh(call, options)
    identity = call.identity()
    services = call.services
    _check_visible(services.view.state(), identity, find)

    def current_index(state: State) -> int:
        role = find(state)
        return roles_index(state) if role is None else role.modify_index

    if options.index:
        await blocking.wait_until_past(call, options, watched, current_index)
    state = services.view.state()
    _check_visible(state, identity, find)
    role, index = find(state), current_index(state)
    if role is None:
        return not_found(call, options, index, ACL_ROLE_NOT_FOUND)
    return call.json(role, headers=read_headers(call, options, index))


def _check_visible(
    state: State, identity: Identity, find: Callable[[State], ACLRole | None]
) -> None:
    """Refuse a role that is not the caller's, whether it is there or not."""
    role = find(state)
    if not _is_visible(state, identity, "" if role is None else role.id):
        raise denied()


def _is_visible(state: State, identity: Identity, id_: str) -> bool:
    if identity.token.is_management:
        return True
    token = token_now(state, identity)
    links = () if token is None else token.roles or ()
    return any(link.id == id_ for link in links)


# Written


async def create_role(call: Call) -> Reply:
    """Answer `PUT /v1/acl/role`; with an id that there is, a change of that one."""
    check_enabled(call)
    sent = await call.decoded(RoleSent)
    await call.prepare_write()
    return await _write(call, sent)


async def update_role(call: Call) -> Reply:
    """Answer `PUT /v1/acl/role/:id`."""
    check_enabled(call)
    sent = await call.decoded(RoleSent)
    await call.prepare_write()
    if sent.id.lower() != call.id_text.lower():
        raise RequestError(OTHER_ROLE)
    return await _write(call, sent)


async def _write(call: Call, sent: RoleSent) -> Reply:
    services = call.services
    role = ACLRole(
        id=_id_of(sent.id) or services.ids.new_id(),
        name=sent.name,
        description=sent.description,
        policies=tuple(PolicyLink(name=link.name) for link in sent.policies or ()),
    )
    checks.check_role(role)
    command = UpsertRoles(
        at_ns=services.clock.now_ns(),
        roles=(RoleWrite(role, is_new=not sent.id),),
    )
    accepted = await call.propose(command)
    (id_,) = accepted.written_ids
    known = services.view.state().acl_roles.get(id_)
    if known is None:
        # Asked for again, and deleted meanwhile.
        raise ProblemError(Problem(404, ACL_ROLE_NOT_FOUND))
    return call.json(known, headers=index_line(accepted.index))


async def delete_role(call: Call) -> Reply:
    """Answer `DELETE /v1/acl/role/:id`."""
    check_enabled(call)
    await call.prepare_write()
    command = DeleteRoles(
        at_ns=call.services.clock.now_ns(),
        ids=(_id_of(call.id_text),),
    )
    return written((await call.propose(command)).index)


def _id_of(text: str) -> str:
    """Return an id as it is kept, nothing for none."""
    if not text:
        return ""
    id_ = canonical_uuid(text)
    if id_ is None:
        raise RequestError(INVALID_ID)
    return id_
