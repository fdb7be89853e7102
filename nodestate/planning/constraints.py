"""What a constraint or an affinity asks of a node, and whether the node answers it.

A target is a text with its place in the node: `${attr.kernel.name}`, `${meta.rack}`,
`${node.class}`; anything else stands for itself. What a node lacks is `None`, which is
not the empty text: most operands are then false.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import re2  # type: ignore[import-untyped]  # its wheel has no stubs

from nodestate.model.node import UNIQUE_PREFIX, Node
from nodestate.planning.versions import satisfies_semver, satisfies_version

PATTERN_BYTES_MAX: Final = 1 << 20
"""What a compiled pattern may take; one that needs more matches nothing."""
PATTERNS_KEPT_MAX: Final = 256
ANSWERS_KEPT_MAX: Final = 4_096

DISTINCT_HOSTS: Final = "distinct_hosts"
DISTINCT_PROPERTY: Final = "distinct_property"

_ATTRIBUTE: Final = "${attr."
_META: Final = "${meta."
_NODE_FIELDS: Final[dict[str, Callable[[Node], str]]] = {
    "${node.unique.id}": lambda node: node.id,
    "${node.unique.name}": lambda node: node.name,
    "${node.datacenter}": lambda node: node.datacenter,
    "${node.class}": lambda node: node.node_class,
}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
)

Reader = Callable[[Node], str | None]
"""Reads a target in a node; `None` where the node has no such thing."""


def target_reader(target: str) -> Reader:
    """Return what reads a target; the reader of an unknown one finds nothing."""
    if not target.startswith("${"):
        return lambda _: target
    field = _NODE_FIELDS.get(target)
    if field is not None:
        return field
    if target.startswith(_ATTRIBUTE):
        key = target.removeprefix(_ATTRIBUTE).removesuffix("}")
        return lambda node: node.attributes.get(key) if node.attributes else None
    if target.startswith(_META):
        key = target.removeprefix(_META).removesuffix("}")
        return lambda node: node.meta.get(key) if node.meta else None
    return lambda _: None


def is_escaped(*targets: str) -> bool:
    """Say whether a target tells nodes of one computed class apart (FE23)."""
    prefixes = tuple(place + UNIQUE_PREFIX for place in (_ATTRIBUTE, _META, "${node."))
    return any(target.startswith(prefixes) for target in targets)


def holds(operand: str, left: str | None, right: str | None) -> bool:
    """Say whether the operand is true of the two; an unknown operand never is.

    `distinct_hosts` and `distinct_property` are true of any node by itself: they are
    about the other allocations.
    """
    if operand in _OPEN_QUESTIONS:
        return True
    if operand in _NOT_EQUAL:
        return left != right
    if operand == "is_set":
        return left is not None
    if operand == "is_not_set":
        return left is None
    question = _QUESTIONS.get(operand)
    if question is None or left is None or right is None:
        return False
    return question(left, right)


def _order(left: str, right: str) -> int:
    """Return -1, 0 or 1: by size if both are numbers, else by their bytes."""
    if _INTEGER.fullmatch(left) and _INTEGER.fullmatch(right):
        return _compare(int(left), int(right))
    if _NUMBER.fullmatch(left) and _NUMBER.fullmatch(right):
        return _compare(float(left), float(right))
    return _compare(left.encode(errors="replace"), right.encode(errors="replace"))


def _compare(left: float | bytes, right: float | bytes) -> int:
    # Both are of one kind, which the types cannot say.
    return (left > right) - (left < right)  # type: ignore[operator]


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def _searcher(pattern: str) -> Callable[[str], object]:
    """Return what searches a text, in time linear in it; a bad pattern finds nothing."""
    options = re2.Options()
    options.max_mem = PATTERN_BYTES_MAX
    options.log_errors = False
    try:
        return re2.compile(pattern, options).search  # type: ignore[no-any-return]
    except re2.error:
        return lambda _: None


@lru_cache(maxsize=ANSWERS_KEPT_MAX)
def _is_matched(text: str, pattern: str) -> bool:
    return _searcher(pattern)(text) is not None


def _items(text: str) -> set[str]:
    return {item.strip() for item in text.split(",")}


_OPEN_QUESTIONS: Final = frozenset({DISTINCT_HOSTS, DISTINCT_PROPERTY})
_NOT_EQUAL: Final = frozenset({"!=", "not"})
_QUESTIONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "=": lambda left, right: left == right,
    "==": lambda left, right: left == right,
    "is": lambda left, right: left == right,
    "<": lambda left, right: _order(left, right) < 0,
    "<=": lambda left, right: _order(left, right) <= 0,
    ">": lambda left, right: _order(left, right) > 0,
    ">=": lambda left, right: _order(left, right) >= 0,
    "version": satisfies_version,
    "semver": satisfies_semver,
    "regexp": _is_matched,
    "set_contains": lambda left, right: _items(right) <= _items(left),
    "set_contains_all": lambda left, right: _items(right) <= _items(left),
    "set_contains_any": lambda left, right: not _items(right).isdisjoint(_items(left)),
}
OPERANDS: Final = frozenset(
    {*_QUESTIONS, *_NOT_EQUAL, *_OPEN_QUESTIONS, "is_set", "is_not_set"}
)
