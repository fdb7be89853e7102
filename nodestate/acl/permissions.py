"""What a token may do: the rules of its policies put together, and asked.

Rules that name the same label add up, and a deny among them is all that is left of them;
so the order of policies and of blocks does not matter. Of the labels of one name exactly
one decides: the name itself, or else the glob that leaves the least to its stars.

The names that globs decide are remembered, up to a bound, so that a question costs a look
into a map.
"""

from collections.abc import Iterable
from typing import Final

from nodestate.acl.policies import (
    DENY,
    LIST,
    READ,
    SNAPSHOT_SAVE,
    WRITE,
    Capability,
    Policy,
    Rule,
)

NAMES_KEPT_MAX: Final = 1024

Capabilities = frozenset[Capability]
NO_CAPABILITIES: Final[Capabilities] = frozenset()

_STRENGTH: Final = (LIST, READ, WRITE, DENY)
"""Levels from the weakest on; deny is the strongest, since it overrules the others."""


class Grants:
    """What is granted by name: of namespaces, of host volumes or of node pools."""

    __slots__ = ("_by_name", "_exact", "_globs")

    def __init__(self, rules: Iterable[Rule]) -> None:
        merged: dict[str, set[Capability]] = {}
        for rule in rules:
            merged.setdefault(rule.label, set()).update(rule.capabilities)
        granted = {
            label: frozenset({DENY})
            if DENY in capabilities
            else frozenset(capabilities)
            for label, capabilities in merged.items()
        }
        self._exact = {k: v for k, v in granted.items() if "*" not in k}
        # The one that comes last in the order of their bytes wins among equals.
        self._globs = [
            (Glob(label), granted[label])
            for label in sorted(granted, reverse=True)
            if "*" in label
        ]
        self._by_name: dict[str, Capabilities] = {}

    def of(self, name: str) -> Capabilities:
        """Return what is granted of a name; `deny` stands alone."""
        exact = self._exact.get(name)
        if exact is not None:
            return exact
        if not self._globs:
            return NO_CAPABILITIES
        known = self._by_name.get(name)
        if known is None:
            known = self._closest(name)
            if len(self._by_name) < NAMES_KEPT_MAX:
                self._by_name[name] = known
        return known

    def _closest(self, name: str) -> Capabilities:
        matching = [item for item in self._globs if item[0].matches(name)]
        if not matching:
            return NO_CAPABILITIES
        # The name has the same length for all of them, so the longest glob is closest.
        return max(matching, key=lambda item: item[0].letter_count)[1]

    def somewhere(self) -> Iterable[Capabilities]:
        """Yield what each label grants."""
        yield from self._exact.values()
        for _, capabilities in self._globs:
            yield capabilities


class Glob:
    """A label with stars: each of them stands for any run of characters, or for none."""

    __slots__ = ("_inner", "_prefix", "_suffix", "letter_count")

    def __init__(self, label: str) -> None:
        self._prefix, *self._inner, self._suffix = label.split("*")
        self.letter_count = len(label) - label.count("*")

    def matches(self, name: str) -> bool:
        """Say whether the whole name is such a one."""
        if len(name) < self.letter_count:
            return False
        if not (name.startswith(self._prefix) and name.endswith(self._suffix)):
            return False
        # Each part where it first occurs leaves the most room for those that follow.
        position, end = len(self._prefix), len(name) - len(self._suffix)
        for part in self._inner:
            position = name.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True


class Permissions:
    """The answers for one token. `is_management` is that of a token that may do all."""

    __slots__ = (
        "_agent",
        "_host_volumes",
        "_may_save",
        "_namespaces",
        "_node",
        "_node_pools",
        "_operator",
        "_plugin",
        "_quota",
        "is_management",
    )

    def __init__(
        self, policies: Iterable[Policy] = (), *, is_management: bool = False
    ) -> None:
        policies = tuple(policies)
        self.is_management = is_management
        self._namespaces = Grants(rule for each in policies for rule in each.namespaces)
        self._host_volumes = Grants(
            rule for each in policies for rule in each.host_volumes
        )
        self._node_pools = Grants(rule for each in policies for rule in each.node_pools)
        self._agent = _strongest(each.agent for each in policies)
        self._node = _strongest(each.node for each in policies)
        self._operator = _strongest(each.operator for each in policies)
        self._quota = _strongest(each.quota for each in policies)
        self._plugin = _strongest(each.plugin for each in policies)
        # A deny among an operator's capabilities leaves nothing of them, nor of a level.
        capabilities = {one for each in policies for one in each.operator_capabilities}
        if DENY in capabilities:
            self._operator = DENY
        self._may_save = SNAPSHOT_SAVE in capabilities and self._operator != DENY

    def allows_namespace(self, namespace: str, capability: Capability) -> bool:
        """Say whether this may be done in the namespace."""
        return self.is_management or capability in self._namespaces.of(namespace)

    def allows_any_in_namespace(self, namespace: str) -> bool:
        """Say whether anything may be done in the namespace."""
        return self.is_management or _grants_any(self._namespaces.of(namespace))

    def allows_some_namespace(self, capability: Capability) -> bool:
        """Say whether there may be a namespace in which this may be done."""
        return self.is_management or any(
            capability in granted for granted in self._namespaces.somewhere()
        )

    def allows_host_volume(self, name: str, capability: Capability) -> bool:
        """Say whether a job may use the volume like this."""
        return self.is_management or capability in self._host_volumes.of(name)

    def allows_node_pool(self, name: str, capability: Capability) -> bool:
        """Say whether this may be done with the pool."""
        return self.is_management or capability in self._node_pools.of(name)

    @property
    def allows_node_read(self) -> bool:
        """Say whether nodes may be read."""
        return self.is_management or self._node in {READ, WRITE}

    @property
    def allows_node_write(self) -> bool:
        """Say whether nodes may be changed."""
        return self.is_management or self._node == WRITE

    @property
    def allows_agent_read(self) -> bool:
        """Say whether a server may be asked about itself."""
        return self.is_management or self._agent in {READ, WRITE}

    @property
    def allows_agent_write(self) -> bool:
        """Say whether a server may be told what to do."""
        return self.is_management or self._agent == WRITE

    @property
    def allows_operator_read(self) -> bool:
        """Say whether the cluster's settings may be read."""
        return self.is_management or self._operator in {READ, WRITE}

    @property
    def allows_operator_write(self) -> bool:
        """Say whether the cluster's settings may be changed."""
        return self.is_management or self._operator == WRITE

    @property
    def allows_snapshot_save(self) -> bool:
        """Say whether the state may be saved: it has everything in it, secrets as well."""
        return self.allows_operator_write or self._may_save

    @property
    def allows_quota_read(self) -> bool:
        """Say whether quotas may be read."""
        return self.is_management or self._quota in {READ, WRITE}

    @property
    def allows_quota_write(self) -> bool:
        """Say whether quotas may be changed."""
        return self.is_management or self._quota == WRITE

    @property
    def allows_plugin_list(self) -> bool:
        """Say whether plugins may be listed."""
        return self.is_management or self._plugin in {LIST, READ}

    @property
    def allows_plugin_read(self) -> bool:
        """Say whether plugins may be read."""
        return self.is_management or self._plugin == READ


def _strongest(levels: Iterable[str | None]) -> str:
    """Return the level that decides, `""` where there is none."""
    return max((level for level in levels if level), key=_STRENGTH.index, default="")


def _grants_any(granted: Capabilities) -> bool:
    return bool(granted) and DENY not in granted


MANAGEMENT: Final = Permissions(is_management=True)
NOTHING: Final = Permissions()
