"""Policies over HTTP: listed, read, written, deleted.

Who is no manager sees the policies that are in force for the token, and `anonymous`.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from nodestate.acl import checks
from nodestate.acl.answers import policy_answer, policy_stub
from nodestate.acl.resolve import Identity, policy_names
from nodestate.api import blocking
from nodestate.api.acl import (
    check_enabled,
    denied,
    not_found,
    read_headers,
    token_now,
    written,
)
from nodestate.api.calls import Call
from nodestate.api.listing import encode_parts, list_body
from nodestate.api.parameters import ReadOptions
from nodestate.api.replies import JSON_TYPE, Reply
from nodestate.api.shapes import Shape, encode
from nodestate.errors import RequestError
from nodestate.fsm.state import ACL_POLICIES, State
from nodestate.model.acl import ANONYMOUS_POLICY, ACLPolicy
from nodestate.model.command import DeletePolicies, UpsertPolicies
from nodestate.model.outcome import ACL_POLICY_NOT_FOUND
from nodestate.watch import prefix_key, record_key, table_key

OTHER_POLICY: Final = "ACL policy name does not match request path"
NO_JOB_POLICIES: Final = (
    "JobACL is not supported: a policy is for tokens and roles, not for a job's tasks"
)
SELF: Final = "self"
"""In place of a name: what is in force for the caller."""


class PolicySent(Shape, frozen=True, kw_only=True):
    """A policy as it is sent. `job_acl` ties it to a job in later versions of Nomad."""

    name: str = ""
    description: str = ""
    rules: str = ""
    job_acl: dict[str, str] | None = msgspec.field(name="JobACL", default=None)


def policies_index(state: State) -> int:
    """Return the index of the table."""
    return state.table_index(ACL_POLICIES)


# Read


async def list_policies(call: Call) -> Reply:
    """Answer `GET /v1/acl/policies`."""
    options = call.read_options()
    check_enabled(call)
    await blocking.wait_until_fresh(call, options)
    identity = call.identity()
    prefix = call.query.get("prefix", "")
    if options.index:
        # What a role grants may change as well, but that is no write of a policy.
        watched = (
            prefix_key(ACL_POLICIES, prefix) if prefix else table_key(ACL_POLICIES)
        )
        await blocking.wait_until_past(call, options, watched, policies_index)
    state = call.services.view.state()
    names = [name for name in visible_names(state, identity) if name.startswith(prefix)]
    return await _list(call, options, state, names)


async def _list(
    call: Call, options: ReadOptions, state: State, names: list[str]
) -> Reply:
    """Return the stubs of these policies, which are there."""
    headers = read_headers(call, options, policies_index(state))
    policies = [state.acl_policies[name] for name in names]
    parts = await encode_parts(
        call.services.clock, policies, lambda policy: encode(policy_stub(policy))
    )
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


def visible_names(state: State, identity: Identity) -> list[str]:
    """Return the policies that somebody sees, sorted: all, or those in force."""
    if identity.token.is_management:
        return sorted(state.acl_policies)
    token = token_now(state, identity)
    return [] if token is None else policy_names(state, token)


async def read_policy(call: Call) -> Reply:
    """Answer `GET /v1/acl/policy/:name`, and for `self` what is in force."""
    options = call.read_options()
    check_enabled(call)
    await blocking.wait_until_fresh(call, options)
    identity = call.identity()
    name, services = call.id_text, call.services
    if name == SELF:
        state = services.view.state()
        is_manager = identity.token.is_management
        names = [] if is_manager else visible_names(state, identity)
        return await _list(call, options, state, names)
    _check_visible(services.view.state(), identity, name)
    current_index = _index_of(name)
    if options.index:
        watched = record_key(ACL_POLICIES, name)
        await blocking.wait_until_past(call, options, watched, current_index)
    state = services.view.state()
    _check_visible(state, identity, name)
    policy = state.acl_policies.get(name)
    index = current_index(state)
    if policy is None:
        return not_found(call, options, index, ACL_POLICY_NOT_FOUND)
    return call.json(policy_answer(policy), headers=read_headers(call, options, index))


def _index_of(name: str) -> Callable[[State], int]:
    def current_index(state: State) -> int:
        policy = state.acl_policies.get(name)
        return policies_index(state) if policy is None else policy.modify_index

    return current_index


def _check_visible(state: State, identity: Identity, name: str) -> None:
    """Refuse a policy that is not the caller's, whether it is there or not."""
    if identity.token.is_management or name == ANONYMOUS_POLICY:
        return
    token = token_now(state, identity)
    is_own = token is not None and (
        name in (token.policies or ()) or name in policy_names(state, token)
    )
    if not is_own:
        raise denied()


# Written


async def write_policy(call: Call) -> Reply:
    """Answer `PUT /v1/acl/policy/:name`."""
    check_enabled(call)
    sent = await call.decoded(PolicySent)
    await call.prepare_write()
    if sent.name != call.id_text:
        raise RequestError(OTHER_POLICY)
    if sent.job_acl:
        raise RequestError(NO_JOB_POLICIES)
    policy = ACLPolicy(name=sent.name, description=sent.description, rules=sent.rules)
    checks.check_policy(policy)
    command = UpsertPolicies(
        at_ns=call.services.clock.now_ns(),
        policies=(policy,),
    )
    return written((await call.propose(command)).index)


async def delete_policy(call: Call) -> Reply:
    """Answer `DELETE /v1/acl/policy/:name`; one that is not there is as good as deleted."""
    check_enabled(call)
    await call.prepare_write()
    name = call.id_text
    if not checks.is_key(name):
        raise RequestError(checks.invalid_name(name))
    command = DeletePolicies(
        at_ns=call.services.clock.now_ns(),
        names=(name,),
    )
    return written((await call.propose(command)).index)
