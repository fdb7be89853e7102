"""What is sent of policies and tokens where that is not the record itself.

Lists have no secrets and no rules. The one answer with a secret in it is for who may have
it, and does not show it when it is written down.

What later versions of Nomad know of tokens (roles, an end) is there only where a token has
it, so that any other one is sent as Nomad 0.10 sends it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from typing_extensions import override

from nodestate.acl.policies import Capability, Policy, Rule, parse_policy
from nodestate.acl.resolve import role_links
from nodestate.errors import RequestError
from nodestate.fsm.state import State
from nodestate.model.acl import ACLPolicy, ACLToken, RoleLink
from nodestate.model.node import Record
from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret


class TokenStub(Record, frozen=True, kw_only=True):
    """A token in a list."""

    accessor_id: str
    name: str
    type: str
    policies: tuple[str, ...] | None
    roles: tuple[RoleLink, ...] | UnsetType
    is_global: bool = msgspec.field(name="Global")
    hash: bytes
    create_time: Timestamp
    expiration_time: Timestamp | UnsetType
    create_index: int
    modify_index: int


class TokenAnswer(TokenStub, frozen=True, kw_only=True):
    """A token by itself, for who may have its secret."""

    secret_id: str
    expiration_ttl: str | UnsetType

    @override
    def __repr__(self) -> str:
        return f"TokenAnswer(accessor_id={self.accessor_id!r})"


class PolicyStub(Record, frozen=True, kw_only=True):
    """A policy in a list."""

    name: str
    description: str
    hash: bytes
    create_index: int
    modify_index: int


class ShownRule(Record, frozen=True, kw_only=True):
    """A block with a label; `capabilities` as they are after expansion."""

    name: str
    policy: str
    capabilities: tuple[Capability, ...] | None


class ShownLevel(Record, frozen=True, kw_only=True):
    """A block without a label."""

    policy: str


class ShownRules(Record, frozen=True, kw_only=True):
    """What rules say; blocks that Nomad 0.10 did not know only where there are any."""

    namespaces: tuple[ShownRule, ...] | None
    node_pools: tuple[ShownRule, ...] | UnsetType
    host_volumes: tuple[ShownRule, ...] | None
    agent: ShownLevel | None
    node: ShownLevel | None
    operator: ShownLevel | None
    quota: ShownLevel | None
    plugin: ShownLevel | UnsetType
    raw: str


class PolicyAnswer(ACLPolicy, frozen=True, kw_only=True):
    """A policy by itself; without `rules_json` if its rules cannot be read any more."""

    rules_json: ShownRules | None = msgspec.field(name="RulesJSON")


def token_stub(state: State, token: ACLToken) -> TokenStub:
    """Return what a list has of a token."""
    return TokenStub(**_shown_token(state, token))


def token_answer(state: State, token: ACLToken) -> TokenAnswer:
    """Return a token with its secret; one that is not stored has none."""
    secret = state.acl_secrets.get(token.accessor_id, Secret(""))
    return TokenAnswer(
        **_shown_token(state, token),
        secret_id=secret.reveal(),
        expiration_ttl=token.expiration_ttl or UNSET,
    )


def _shown_token(state: State, token: ACLToken) -> dict[str, Any]:
    fields = {name: getattr(token, name) for name in TokenStub.__struct_fields__}
    fields["roles"] = role_links(state, token) or UNSET
    if not token.expiration_time.ns:
        fields["expiration_time"] = UNSET
    return fields


def policy_stub(policy: ACLPolicy) -> PolicyStub:
    """Return what a list has of a policy."""
    return PolicyStub(
        name=policy.name,
        description=policy.description,
        hash=policy.hash,
        create_index=policy.create_index,
        modify_index=policy.modify_index,
    )


def policy_answer(policy: ACLPolicy) -> PolicyAnswer:
    """Return a policy with its rules, as text and as they were understood."""
    try:
        shown = _shown_rules(parse_policy(policy.rules), policy.rules)
    except RequestError:
        shown = None
    fields = {name: getattr(policy, name) for name in ACLPolicy.__struct_fields__}
    return PolicyAnswer(**fields, rules_json=shown)


def _shown_rules(policy: Policy, raw: str) -> ShownRules:
    return ShownRules(
        namespaces=_shown(policy.namespaces),
        node_pools=_shown(policy.node_pools) or UNSET,
        host_volumes=_shown(policy.host_volumes),
        agent=_level(policy.agent),
        node=_level(policy.node),
        operator=_level(policy.operator),
        quota=_level(policy.quota),
        plugin=_level(policy.plugin) or UNSET,
        raw=raw,
    )


def _shown(rules: Iterable[Rule]) -> tuple[ShownRule, ...] | None:
    shown = tuple(
        ShownRule(
            name=rule.label,
            policy=rule.policy,
            capabilities=rule.capabilities or None,
        )
        for rule in rules
    )
    return shown or None


def _level(policy: str | None) -> ShownLevel | None:
    return None if policy is None else ShownLevel(policy=policy)
