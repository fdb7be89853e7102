"""Tokens over HTTP: listed, read, made, changed, deleted.

A secret is in the answer for one token, which only a manager or its holder gets, and in
nothing else.
"""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from nodestate.acl import checks
from nodestate.acl.answers import token_answer, token_stub
from nodestate.acl.expiry import Expiry, plan_expiry
from nodestate.api import blocking, parameters
from nodestate.api.acl import (
    check_enabled,
    denied,
    not_found,
    read_headers,
    written,
)
from nodestate.api.bodies import INTEGER_MAX, INTEGER_MIN
from nodestate.api.calls import Call, index_line
from nodestate.api.listing import cut_page, encode_parts, filter_of, list_body
from nodestate.api.problems import Problem, ProblemError
from nodestate.api.replies import JSON_TYPE, Reply
from nodestate.api.shapes import Shape, encode
from nodestate.errors import RequestError
from nodestate.fsm.state import ACL_TOKENS, State
from nodestate.model.acl import (
    CLIENT,
    ACLToken,
    RoleLink,
    canonical_uuid,
)
from nodestate.model.command import DeleteTokens, TokenWrite, UpsertTokens
from nodestate.model.duration import format_duration, parse_duration_ns
from nodestate.model.node import Record
from nodestate.model.node_id import record_id, record_id_prefix
from nodestate.model.outcome import ACL_TOKEN_NOT_FOUND, Accepted
from nodestate.model.timestamp import NANOSECONDS, NO_TIME, Timestamp
from nodestate.query.paging import parse_per_page, parse_record_token
from nodestate.secret import Secret
from nodestate.watch import prefix_key, record_key, table_key

OTHER_TOKEN: Final = "ACL token accessor does not match request path"  # noqa: S105  a text
BAD_TTL: Final = (
    'ExpirationTTL must be a duration, such as "1h", or a whole number of nanoseconds'
)
READ: Final = "acl token"
WRITE: Final = "token"
"""What the errors about an accessor that is no UUID begin with."""


class RoleLinkSent(Shape, frozen=True, kw_only=True):
    """A role, by either."""

    id: str = ""
    name: str = ""


class TokenSent(Shape, frozen=True, kw_only=True):
    """A token as it is sent, with an accessor if it is to be changed."""

    accessor_id: str = ""
    secret_id: str = ""
    name: str = ""
    type: str = ""
    policies: tuple[str, ...] | None = None
    is_global: bool = msgspec.field(name="Global", default=False)
    roles: tuple[RoleLinkSent, ...] | None = None
    expiration_time: Timestamp = NO_TIME
    expiration_ttl: Any = None


class TokenFilter(Record, frozen=True, kw_only=True):
    """What a filter may ask of a token: it has no secret."""

    accessor_id: str
    name: str
    type: str
    policies: tuple[str, ...] | None
    roles: tuple[RoleLink, ...] | None
    is_global: bool = msgspec.field(name="Global")
    create_time: Timestamp
    expiration_time: Timestamp
    create_index: int
    modify_index: int


def tokens_index(state: State) -> int:
    """Return the index of the table."""
    return state.table_index(ACL_TOKENS)


# Read


async def list_tokens(call: Call) -> Reply:
    """Answer `GET /v1/acl/tokens`."""
    options = call.read_options()
    check_enabled(call)
    query, services = call.query, call.services
    prefix = record_id_prefix(query.get("prefix", ""), READ)
    wanted = filter_of(query.get("filter", ""), TokenFilter)
    is_global_only = parameters.read_flag(query, "global")
    per_page = parse_per_page(query.get("per_page", ""))
    begin = parse_record_token(query.get("next_token", ""))
    is_reverse = parameters.read_flag(query, "reverse")
    await blocking.wait_until_fresh(call, options)
    if options.index:
        watched = prefix_key(ACL_TOKENS, prefix) if prefix else table_key(ACL_TOKENS)
        await blocking.wait_until_past(call, options, watched, tokens_index)
    state = services.view.state()
    headers = read_headers(call, options, tokens_index(state))
    tokens = _in_order(state, prefix, begin, is_reverse=is_reverse)
    page, following = await cut_page(
        services.clock,
        [token for token in tokens if token.is_global or not is_global_only],
        per_page=per_page,
        wanted=wanted,
    )
    if following is not None:
        token = following.accessor_id.encode("ascii")
        headers += b"X-Nomad-NextToken: %b\r\n" % token
    parts = await encode_parts(
        services.clock, page, lambda token: encode(token_stub(state, token))
    )
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


def _in_order(
    state: State, prefix: str, begin: str, *, is_reverse: bool
) -> list[ACLToken]:
    """Return the tokens under a prefix, from where a page begins, by accessor."""
    accessor_ids = sorted(
        (id_ for id_ in state.acl_tokens if id_.startswith(prefix)), reverse=is_reverse
    )
    return [
        state.acl_tokens[id_]
        for id_ in accessor_ids
        if not begin or (id_ <= begin if is_reverse else id_ >= begin)
    ]


async def read_token(call: Call) -> Reply:
    """Answer `GET /v1/acl/token/:accessor`; only managers learn that there is none."""
    options = call.read_options()
    check_enabled(call)
    await blocking.wait_until_fresh(call, options)
    own = call.identity().token
    is_manager = own.is_management
    if not is_manager and own.accessor_id != _canonical(call.id_text):
        raise denied()
    accessor_id = record_id(call.id_text, READ)
    services = call.services

    def current_index(state: State) -> int:
        known = state.acl_tokens.get(accessor_id)
        return tokens_index(state) if known is None else known.modify_index

    if options.index:
        watched = record_key(ACL_TOKENS, accessor_id)
        await blocking.wait_until_past(call, options, watched, current_index)
    state = services.view.state()
    token = state.acl_tokens.get(accessor_id)
    index = current_index(state)
    if token is None:
        if not is_manager:
            raise denied()
        return not_found(call, options, index, ACL_TOKEN_NOT_FOUND)
    headers = read_headers(call, options, index)
    return call.json(token_answer(state, token), headers=headers)


async def read_own_token(call: Call) -> Reply:
    """Answer `GET /v1/acl/token/self`, also without a token, and without ACLs."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    services = call.services
    token = call.identity().token
    state = services.view.state()
    index = token.modify_index or tokens_index(state)
    headers = read_headers(call, options, index)
    return call.json(token_answer(state, token), headers=headers)


def _canonical(text: str) -> str:
    """Return an accessor as it is kept, or the text where it is none."""
    return canonical_uuid(text) or text


# Written


async def create_token(call: Call) -> Reply:
    """Answer `PUT /v1/acl/token`; with an accessor that there is, a change of that one."""
    check_enabled(call)
    sent = await call.decoded(TokenSent)
    await call.prepare_write()
    return await _write(call, sent)


async def update_token(call: Call) -> Reply:
    """Answer `PUT /v1/acl/token/:accessor`."""
    check_enabled(call)
    sent = await call.decoded(TokenSent)
    await call.prepare_write()
    if _canonical(sent.accessor_id) != _canonical(call.id_text):
        raise RequestError(OTHER_TOKEN)
    return await _write(call, sent)


async def _write(call: Call, sent: TokenSent) -> Reply:
    now_ns = call.services.clock.now_ns()
    command = UpsertTokens(at_ns=now_ns, tokens=(_token_write(call, sent, now_ns),))
    accepted = await call.propose(command)
    return shown_token(call, accepted)


def shown_token(call: Call, accepted: Accepted) -> Reply:
    """Return the answer to a write of one token, which the outcome only names.

    A write that is asked for again finds the token as it is by now.
    """
    state = call.services.view.state()
    (accessor_id,) = accepted.written_ids
    token = state.acl_tokens.get(accessor_id)
    if token is None:
        raise ProblemError(Problem(404, ACL_TOKEN_NOT_FOUND))
    answer = token_answer(state, token)
    return call.json(answer, headers=index_line(accepted.index))


def _token_write(call: Call, sent: TokenSent, now_ns: int) -> TokenWrite:
    """Return what to write, checked; times and random values are made here."""
    ttl_ns = _ttl_ns(sent.expiration_ttl)
    token = ACLToken(
        name=sent.name,
        type=sent.type,
        policies=tuple(sent.policies) if sent.policies else None,
        is_global=sent.is_global,
        roles=_role_links(sent),
        create_time=Timestamp(now_ns),
    )
    if not sent.accessor_id:
        secret = Secret(call.services.ids.new_id())
        accessor_id = call.services.ids.new_id()
        return TokenWrite(_new(call, token, accessor_id, sent, ttl_ns), secret)
    accessor_id = record_id(sent.accessor_id, WRITE)
    chosen = canonical_uuid(sent.secret_id) or ""
    is_known = accessor_id in call.services.view.state().acl_tokens
    is_brought = bool(chosen) and sent.type == CLIENT and not call.id_text
    if is_brought and not is_known:
        # A token that was made elsewhere, with its secret. Not where a change is asked
        # for: that must not bring back what somebody has deleted meanwhile.
        return TokenWrite(_new(call, token, accessor_id, sent, ttl_ns), Secret(chosen))
    changed = replace(
        token,
        accessor_id=accessor_id,
        expiration_time=sent.expiration_time,
        expiration_ttl=_shown_ttl(ttl_ns),
    )
    checks.check_token(changed)
    return TokenWrite(changed)


def _new(
    call: Call, token: ACLToken, accessor_id: str, sent: TokenSent, ttl_ns: int
) -> ACLToken:
    config = call.services.config
    expiry: Expiry = plan_expiry(
        ttl_ns,
        sent.expiration_time,
        token.create_time.ns,
        least_ns=round(config.acl_token_ttl_s_min * NANOSECONDS),
        most_ns=round(config.acl_token_ttl_s_max * NANOSECONDS),
    )
    checks.check_token(token, *expiry.problems)
    return replace(
        token,
        accessor_id=accessor_id,
        expiration_time=expiry.time,
        expiration_ttl=expiry.ttl,
    )


def _role_links(sent: TokenSent) -> tuple[RoleLink, ...] | None:
    links = tuple(RoleLink(id=link.id, name=link.name) for link in sent.roles or ())
    return links or None


def _ttl_ns(sent: Any) -> int:
    """Return a TTL in nanoseconds, 0 for none: text as Go writes it, or a number."""
    if sent is None or sent == "":
        return 0
    if isinstance(sent, int) and not isinstance(sent, bool):
        return max(min(sent, INTEGER_MAX), INTEGER_MIN)
    if isinstance(sent, str):
        try:
            return parse_duration_ns(sent)
        except ValueError:
            pass
    raise RequestError(BAD_TTL)


def _shown_ttl(ttl_ns: int) -> str:
    """Return a TTL as the stored token has it, to be compared with that."""
    if ttl_ns < 0:
        return f"-{format_duration(-ttl_ns)}"
    return format_duration(ttl_ns) if ttl_ns else ""


async def delete_token(call: Call) -> Reply:
    """Answer `DELETE /v1/acl/token/:accessor`."""
    check_enabled(call)
    await call.prepare_write()
    command = DeleteTokens(
        at_ns=call.services.clock.now_ns(),
        accessor_ids=(record_id(call.id_text, WRITE),),
    )
    return written((await call.propose(command)).index)
