"""From the rules of a policy, as text, to what they grant.

A text is taken whole or refused whole. What is not understood is refused, and so is what
is there twice where only one can hold: a deny that was misspelt, or that another block
would hide, must not look as if it had been accepted. Blocks with labels may be repeated;
all of them count (`permissions`).

Errors begin with Nomad's words; behind them they say what was wrong and where.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, NewType

import msgspec

from nodestate.acl.hcl import Array, Body, Item, Value, parse_rules_text
from nodestate.errors import RequestError

Capability = NewType("Capability", str)

DENY: Final = Capability("deny")
READ: Final = "read"
WRITE: Final = "write"
SCALE: Final = "scale"
LIST: Final = "list"

LIST_JOBS: Final = Capability("list-jobs")
READ_JOB: Final = Capability("read-job")
SUBMIT_JOB: Final = Capability("submit-job")
DISPATCH_JOB: Final = Capability("dispatch-job")
READ_LOGS: Final = Capability("read-logs")
READ_FS: Final = Capability("read-fs")
ALLOC_EXEC: Final = Capability("alloc-exec")
ALLOC_NODE_EXEC: Final = Capability("alloc-node-exec")
ALLOC_LIFECYCLE: Final = Capability("alloc-lifecycle")
SENTINEL_OVERRIDE: Final = Capability("sentinel-override")
MOUNT_READONLY: Final = Capability("mount-readonly")
MOUNT_READWRITE: Final = Capability("mount-readwrite")
POOL_READ: Final = Capability("read")
POOL_WRITE: Final = Capability("write")
POOL_DELETE: Final = Capability("delete")
SNAPSHOT_SAVE: Final = Capability("snapshot-save")

LABEL_CHARACTERS_MAX: Final = 128
BLOCKS_MAX: Final = 512
"""Rules in one policy: each is looked at for each name that no rule names exactly."""
_SHOWN_CHARACTERS_MAX: Final = 128
_LETTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-*"
)

_NOT_PARSED: Final = "Failed to parse ACL Policy: "
_NOT_ONCE: Final = "Invalid or duplicate policy keys: "


class Rule(msgspec.Struct, frozen=True):
    """A block with a label. `capabilities` has those of `policy` behind the listed ones."""

    label: str
    policy: str = ""
    capabilities: tuple[Capability, ...] = ()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What rules grant; a level that is not there is `None`."""

    namespaces: tuple[Rule, ...] = ()
    host_volumes: tuple[Rule, ...] = ()
    node_pools: tuple[Rule, ...] = ()
    agent: str | None = None
    node: str | None = None
    operator: str | None = None
    quota: str | None = None
    plugin: str | None = None
    sentinel: str | None = None
    operator_capabilities: tuple[Capability, ...] = ()


NO_RULES: Final = Policy()


class _Labelled(NamedTuple):
    """What blocks with a label may say: shorthands by word, and every capability."""

    noun: str
    letters: frozenset[str]
    shorthands: dict[str, tuple[Capability, ...]]
    capabilities: frozenset[str]


_NAMESPACE_WRITE: Final = (
    LIST_JOBS,
    READ_JOB,
    SUBMIT_JOB,
    DISPATCH_JOB,
    READ_LOGS,
    READ_FS,
    ALLOC_EXEC,
    ALLOC_LIFECYCLE,
)
_SCALING: Final = tuple(
    map(
        Capability,
        (
            "list-scaling-policies",
            "read-scaling-policy",
            "read-job-scaling",
            "scale-job",
        ),
    )
)
# Those of the last line guard nothing here, and policies of a later Nomad have them.
_NAMESPACE_CAPABILITIES: Final = frozenset(
    {
        *(DENY, *_NAMESPACE_WRITE, ALLOC_NODE_EXEC, SENTINEL_OVERRIDE, *_SCALING),
        *("parse-job", "submit-recommendation"),
        *("csi-list-volume", "csi-read-volume", "csi-write-volume", "csi-mount-volume"),
        *("csi-register-plugin", "host-volume-create", "host-volume-register"),
        *("host-volume-read", "host-volume-write", "host-volume-delete"),
    }
)
_LABELLED: Final = {
    "namespace": _Labelled(
        noun="namespace",
        letters=_LETTERS,
        shorthands={
            DENY: (DENY,),
            READ: (LIST_JOBS, READ_JOB),
            WRITE: _NAMESPACE_WRITE,
            SCALE: _SCALING,
        },
        capabilities=_NAMESPACE_CAPABILITIES,
    ),
    "host_volume": _Labelled(
        noun="host volume",
        letters=_LETTERS | {"_"},
        shorthands={
            DENY: (DENY,),
            READ: (MOUNT_READONLY,),
            WRITE: (MOUNT_READONLY, MOUNT_READWRITE),
        },
        capabilities=frozenset({DENY, MOUNT_READONLY, MOUNT_READWRITE}),
    ),
    "node_pool": _Labelled(
        noun="node pool",
        letters=_LETTERS | {"_"},
        shorthands={
            DENY: (DENY,),
            READ: (POOL_READ,),
            WRITE: (POOL_DELETE, POOL_READ, POOL_WRITE),
        },
        capabilities=frozenset({DENY, POOL_READ, POOL_WRITE, POOL_DELETE}),
    ),
}
_READ_WRITE: Final = (DENY, READ, WRITE)
_LEVELS: Final = {
    "agent": _READ_WRITE,
    "node": _READ_WRITE,
    "operator": _READ_WRITE,
    "quota": _READ_WRITE,
    "plugin": (DENY, LIST, READ),
    "sentinel": _READ_WRITE,
}
_OPERATOR_CAPABILITIES: Final = frozenset({DENY, SNAPSHOT_SAVE, "license-read"})
_VARIABLE_CAPABILITIES: Final = frozenset({DENY, LIST, READ, WRITE, "destroy"})


def parse_policy(rules: str) -> Policy:
    """Return what the rules of a policy grant; `RequestError` if they cannot be used."""
    if rules == "":
        return NO_RULES
    try:
        body = parse_rules_text(rules)
    except RequestError as error:
        raise RequestError(f"{_NOT_PARSED}{error}") from error
    reader = _Reader()
    unknown = [item for item in body.items if not reader.take(item)]
    if reader.block_count == 0:
        raise RequestError(f"Invalid policy: {rules[:_SHOWN_CHARACTERS_MAX]}")
    if unknown:
        raise RequestError(_NOT_ONCE + _listed(unknown))
    return reader.policy()


class _Reader:
    """Gathers what the blocks of one text say."""

    def __init__(self) -> None:
        self.block_count = 0
        self._rules: dict[str, list[Rule]] = {kind: [] for kind in _LABELLED}
        self._levels: dict[str, str] = {}
        self._operator_capabilities: tuple[Capability, ...] = ()

    def policy(self) -> Policy:
        return Policy(
            namespaces=tuple(self._rules["namespace"]),
            host_volumes=tuple(self._rules["host_volume"]),
            node_pools=tuple(self._rules["node_pool"]),
            operator_capabilities=self._operator_capabilities,
            **self._levels,
        )

    def take(self, item: Item) -> bool:
        """Read one item of the text, and say whether there is such a block."""
        if item.key in _LABELLED:
            for body in _bodies(item):
                for labelled in body.items:
                    self._take_rules(item.key, labelled)
            return True
        if item.key in _LEVELS:
            for body in _bodies(item):
                self._count(item)
                self._take_level(item, body)
            return True
        return False

    def _count(self, item: Item) -> None:
        self.block_count += 1
        if self.block_count > BLOCKS_MAX:
            raise _unusable(item, f"more than {BLOCKS_MAX} blocks, the most allowed")

    def _take_rules(self, kind: str, item: Item) -> None:
        noun, letters, shorthands, known, *_ = _LABELLED[kind]
        label, where = item.key, f"'{_shown(item.key)}' ({item.place})"
        if not isinstance(item.value, Body | Array):
            raise _unusable(item, f"a {noun} has a name, and then a block")
        if not 0 < len(label) <= LABEL_CHARACTERS_MAX or not letters.issuperset(label):
            raise RequestError(f"Invalid {noun} name: {where}")
        for body in _bodies(item):
            self._count(item)
            keys = _keys_of(
                item, body, "policy", "capabilities",
                *(("variables",) if kind == "namespace" else ()),
            )  # fmt: skip
            policy = _text(keys.get("policy"))
            if policy and policy not in shorthands:
                raise RequestError(
                    f"Invalid {noun} policy: {where} has '{_shown(policy)}', "
                    f"expected {_one_of(shorthands)}"
                )
            listed = _capabilities(keys.get("capabilities"), noun, known)
            if "variables" in keys:
                _check_variables(keys["variables"])
            capabilities = (*listed, *shorthands.get(policy, ()))
            self._rules[kind].append(Rule(label, policy, capabilities))

    def _take_level(self, item: Item, body: Body) -> None:
        name = item.key
        if name in self._levels:
            raise RequestError(_NOT_ONCE + _listed([item]))
        has_capabilities = name in {"operator", "sentinel"}
        extra = ("capabilities",) if has_capabilities else ()
        keys = _keys_of(item, body, "policy", *extra)
        policy = _text(keys.get("policy"))
        if "capabilities" in keys:
            # No one writes Sentinel policies here, so any of its words will do.
            known = _OPERATOR_CAPABILITIES if name == "operator" else None
            listed = _capabilities(keys["capabilities"], name, known)
            if name == "operator":
                self._operator_capabilities = listed
        if policy not in _LEVELS[name] and (policy or "capabilities" not in keys):
            raise RequestError(
                f"Invalid {name} policy: '{_shown(policy)}' ({item.place}), "
                f"expected {_one_of(_LEVELS[name])}"
            )
        self._levels[name] = policy


def _bodies(item: Item) -> Iterator[Body]:
    """Yield the blocks that an item has: its own, or those of an array."""
    values: tuple[Value, ...] = (item.value,)
    if isinstance(item.value, Array):
        values = item.value.values
    for value in values:
        if not isinstance(value, Body):
            raise _unusable(item, f"{_shown(item.key)} is not a block")
        yield value


def _keys_of(block: Item, body: Body, *allowed: str) -> dict[str, Item]:
    """Return the items of a block by key: each is known, and there once."""
    keys: dict[str, Item] = {}
    for item in body.items:
        if item.key not in allowed or item.key in keys:
            raise RequestError(
                f"{_NOT_ONCE}{_listed([item])} in {_shown(block.key)} ({block.place})"
            )
        keys[item.key] = item
    return keys


def _text(item: Item | None) -> str:
    if item is None:
        return ""
    if not isinstance(item.value, str):
        raise _unusable(item, f"{_shown(item.key)} is not a text")
    return item.value


def _capabilities(
    item: Item | None, noun: str, known: frozenset[str] | None
) -> tuple[Capability, ...]:
    """Return what is listed, each once; every word if none is `known`."""
    if item is None:
        return ()
    if not isinstance(item.value, Array):
        raise _unusable(item, f"{item.key} is not a list of texts")
    listed: dict[Capability, None] = {}
    for word in item.value.values:
        if not isinstance(word, str):
            raise _unusable(item, f"{item.key} is not a list of texts")
        if known is not None and word not in known:
            raise RequestError(
                f"Invalid {noun} capability '{_shown(word)}': {item.place}"
            )
        listed[Capability(word)] = None
    return tuple(listed)


def _check_variables(item: Item) -> None:
    """Refuse what is no such block; what it grants does not exist here."""
    for body in _bodies(item):
        for path in body.items:
            if path.key != "path":
                raise RequestError(_NOT_ONCE + _listed([path]))
            for paths in _bodies(path):
                for labelled in paths.items:
                    _check_path(labelled)


def _check_path(labelled: Item) -> None:
    if not isinstance(labelled.value, Body | Array):
        raise _unusable(labelled, "a path has a name, and then a block")
    for body in _bodies(labelled):
        keys = _keys_of(labelled, body, "capabilities")
        _capabilities(keys.get("capabilities"), "variables", _VARIABLE_CAPABILITIES)


def _unusable(item: Item, reason: str) -> RequestError:
    return RequestError(f"{_NOT_PARSED}{item.place}: {reason}")


def _listed(items: Iterable[Item]) -> str:
    shown = ", ".join(f"{_shown(item.key)} ({item.place})" for item in items)
    return shown[:1024]


def _one_of(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


def _shown(text: str) -> str:
    return text[:_SHOWN_CHARACTERS_MAX]
