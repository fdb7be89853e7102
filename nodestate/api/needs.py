"""What a request must be allowed, by name: each route in the table says one of these.

A need is asked of what a token may do, before the state is looked at and before the body
is read. What depends on a record, such as in which namespace an allocation is, is asked
again by the handler that has found it.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec

from nodestate.acl.permissions import Permissions
from nodestate.acl.policies import (
    ALLOC_LIFECYCLE,
    LIST_JOBS,
    READ_JOB,
    SUBMIT_JOB,
    Capability,
    Policy,
    Rule,
)
from nodestate.api.parameters import ALL_NAMESPACES, Query
from nodestate.model.job import DEFAULT_NAMESPACE


class Agents(Enum):
    """Whose SecretID does in place of a token: that of no node, of any, of the one named."""

    NONE = "none"
    ANY = "any"
    OWN = "own"


class Need(msgspec.Struct, frozen=True):
    """What a caller must be allowed; `name` is how it is written down.

    `is_met` is asked with the token's permissions and the request's parameters; without
    it no token is looked at. `is_exclusive` is a need of which the state here must not be
    behind the cluster's: what is done then is in no log that could refuse it.
    """

    name: str
    is_met: Callable[[Permissions, Query], bool] | None
    agents: Agents = Agents.NONE
    is_exclusive: bool = False

    @property
    def looks_at_token(self) -> bool:
        """Say whether a bad token is refused."""
        return self.is_met is not None


def _in_namespace(capability: Capability) -> Need:
    """Return the need of a capability in the namespace that the request names."""

    def is_met(permissions: Permissions, query: Query) -> bool:
        namespace = query.get("namespace", "") or DEFAULT_NAMESPACE
        if namespace == ALL_NAMESPACES:
            # Only lists take it, and show what may be read.
            return permissions.allows_some_namespace(capability)
        return permissions.allows_namespace(namespace, capability)

    return Need(f"namespace:{capability}", is_met)


def _in_some_namespace(capability: Capability) -> Need:
    """Return the need of a capability in a namespace that only the record can tell."""
    return Need(
        f"namespace:{capability} (the record's)",
        lambda permissions, _: permissions.allows_some_namespace(capability),
    )


OPEN: Final = Need("open", None)
"""Nothing: the token is not looked at."""
NODE_SECRET: Final = Need("node secret", None)
"""What an agent does; its node's SecretID is looked at where the change is decided."""
ANY_TOKEN: Final = Need("any token", lambda *_: True)
"""Nothing but a good token, or none; the handler shows what this one may see."""
MANAGEMENT: Final = Need(
    "management", lambda permissions, _: permissions.is_management, is_exclusive=True
)

NODE_READ: Final = Need(
    "node:read", lambda permissions, _: permissions.allows_node_read
)
NODE_READ_OR_AGENT: Final = msgspec.structs.replace(NODE_READ, agents=Agents.ANY)
NODE_READ_OR_OWN_AGENT: Final = msgspec.structs.replace(NODE_READ, agents=Agents.OWN)
NODE_WRITE: Final = Need(
    "node:write", lambda permissions, _: permissions.allows_node_write
)
NODE_WRITE_OR_OWN_AGENT: Final = msgspec.structs.replace(NODE_WRITE, agents=Agents.OWN)

AGENT_READ: Final = Need(
    "agent:read", lambda permissions, _: permissions.allows_agent_read
)
AGENT_WRITE: Final = Need(
    "agent:write", lambda permissions, _: permissions.allows_agent_write
)
OPERATOR_READ: Final = Need(
    "operator:read", lambda permissions, _: permissions.allows_operator_read
)
OPERATOR_WRITE: Final = Need(
    "operator:write", lambda permissions, _: permissions.allows_operator_write
)
OPERATOR_SNAPSHOT_SAVE: Final = Need(
    "operator:snapshot-save",
    lambda permissions, _: permissions.allows_snapshot_save,
    is_exclusive=True,
)

SEARCH: Final = Need(
    "node:read or namespace:read-job",
    lambda permissions, _: (
        permissions.allows_node_read or permissions.allows_some_namespace(READ_JOB)
    ),
)
"""Some of what can be looked for; the handler leaves out what the caller may not see."""

NAMESPACE_LIST_JOBS: Final = _in_namespace(LIST_JOBS)
NAMESPACE_READ_JOB: Final = _in_namespace(READ_JOB)
NAMESPACE_SUBMIT_JOB: Final = _in_namespace(SUBMIT_JOB)
ALLOCATION_READ: Final = Need(
    f"namespace:{READ_JOB} (the allocation's)", lambda *_: True, agents=Agents.ANY
)
"""One that may not be read is answered as one that is not there, whoever asks."""
ALLOCATION_LIFECYCLE: Final = _in_some_namespace(ALLOC_LIFECYCLE)

OF_AGENTS: Final = Permissions(
    [Policy(namespaces=(Rule(label="*", capabilities=(READ_JOB,)),))]
)
"""What the SecretID of a node allows where it does: to read what is there."""
