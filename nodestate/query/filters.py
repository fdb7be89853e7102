"""Filter expressions: checked against a type of record, and evaluated.

`Status == "ready" and Meta["rack"] matches "^r1"`, as Nomad's `filter` parameter takes it.
An expression is checked whole before any record is looked at: a field that does not exist, a
value that cannot be one, a question that makes no sense there.

What a record lacks (a key of a map, an object that is `null`) is no error: nothing equals
it, nothing matches it, nothing is in it, and it is empty; a negated test says the opposite.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, assert_never

import msgspec
import re2  # type: ignore[import-untyped]  # its wheel has no stubs

from nodestate.errors import RequestError
from nodestate.model.node import Node
from nodestate.query.expressions import (
    AllOf,
    AnyOf,
    Expression,
    Match,
    Negated,
    Operator,
    parse_expression,
)
from nodestate.query.selectors import Kind, Selector, find_selector

PATTERNS_MAX: Final = 8
"""Regular expressions in one filter expression."""
PATTERN_BYTES_MAX: Final = 1 << 20
"""Memory that one of them may take, compiled."""
FILTERS_KEPT_MAX: Final = 256
VALUES_KEPT_MAX: Final = 256
"""Texts for which a regular expression remembers its answer."""

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_Predicate = Callable[[Any], bool]
_Question = Callable[[Any], bool]


class Filter:
    """A checked expression."""

    __slots__ = ("_predicate", "text")

    def __init__(self, text: str, predicate: _Predicate) -> None:
        self.text = text
        self._predicate = predicate

    def matches(self, record: Any) -> bool:
        """Say whether the expression is true of this record."""
        return self._predicate(record)


@lru_cache(maxsize=FILTERS_KEPT_MAX)
def compile_filter(text: str, record: type[msgspec.Struct] = Node) -> Filter:
    """Return the filter of such records that a text describes; recent ones are kept.

    Raises `RequestError` saying what is wrong and where.
    """
    if not text.isprintable() and any("\ud800" <= one <= "\udfff" for one in text):
        raise RequestError("expression is not valid Unicode")
    expression = parse_expression(text)
    if _pattern_count(expression) > PATTERNS_MAX:
        raise RequestError(
            f"expression has more than {PATTERNS_MAX} regular expressions, "
            "which is the most that is allowed"
        )
    return Filter(text, _predicate(expression, record))


def _pattern_count(expression: Expression) -> int:
    match expression:
        case Match():
            return expression.operator is Operator.MATCHES
        case Negated():
            return _pattern_count(expression.part)
        case AllOf() | AnyOf():
            return sum(_pattern_count(part) for part in expression.parts)
        case _:
            assert_never(expression)


def _predicate(expression: Expression, record: type[msgspec.Struct]) -> _Predicate:
    match expression:
        case Match():
            return _match(expression, record)
        case Negated():
            part = _predicate(expression.part, record)
            return lambda one: not part(one)
        case AllOf():
            return _all_of([_predicate(part, record) for part in expression.parts])
        case AnyOf():
            return _any_of([_predicate(part, record) for part in expression.parts])
        case _:
            assert_never(expression)


def _all_of(parts: list[_Predicate]) -> _Predicate:
    def is_true(record: Any) -> bool:
        for part in parts:  # noqa: SIM110  a generator costs more than the tests
            if not part(record):
                return False
        return True

    return is_true


def _any_of(parts: list[_Predicate]) -> _Predicate:
    def is_true(record: Any) -> bool:
        for part in parts:  # noqa: SIM110  a generator costs more than the tests
            if part(record):
                return True
        return False

    return is_true


def _match(wanted: Match, kind: type[msgspec.Struct]) -> _Predicate:
    selector = find_selector(wanted.path, kind)
    read, question = selector.read, _question(selector, wanted)
    of_absent = wanted.operator in {Operator.EMPTY, Operator.NULL}
    if_true, if_absent = not wanted.is_negated, of_absent != wanted.is_negated

    def is_true(record: Any) -> bool:
        value = read(record)
        if value is None:
            return if_absent
        return question(value) is if_true

    return is_true


def _question(selector: Selector, wanted: Match) -> _Question:
    """Return what to ask of a value that is there."""
    match wanted.operator:
        case Operator.EQUAL:
            return _equal(selector, wanted.value)
        case Operator.IN:
            return _contains(selector, wanted.value)
        case Operator.EMPTY:
            return _is_empty(selector)
        case Operator.NULL:
            return lambda _: False
        case Operator.MATCHES:
            return _matches(selector, wanted.value)
        case _:
            assert_never(wanted.operator)


def _equal(selector: Selector, text: str) -> _Question:
    wanted = _wanted(selector, text)
    return lambda value: bool(value == wanted)


def _wanted(selector: Selector, text: str) -> object:
    """Return the value to compare with, in the type of what is compared."""
    match selector.kind:
        case Kind.TEXT:
            return text
        case Kind.BOOLEAN:
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
        case Kind.WHOLE_NUMBER | Kind.NUMBER:
            try:
                return float(text) if selector.kind is Kind.NUMBER else int(text, 0)
            except ValueError:
                pass
        case _:
            raise RequestError(_senseless(selector, "be compared with ==, !="))
    raise RequestError(
        f"{selector.text} is {selector.kind}, which {text[:64]!r} is not"
    )


def _contains(selector: Selector, text: str) -> _Question:
    if selector.kind not in {Kind.TEXT, Kind.MAP}:
        raise RequestError(_senseless(selector, "contain a value"))
    return lambda value: text in value


def _is_empty(selector: Selector) -> _Question:
    if selector.kind in {Kind.TEXT, Kind.MAP, Kind.LIST}:
        return lambda value: not value
    if selector.is_nullable:
        return lambda _: False
    raise RequestError(_senseless(selector, "be empty"))


def _matches(selector: Selector, pattern: str) -> _Question:
    if selector.kind is not Kind.TEXT:
        raise RequestError(_senseless(selector, "match a regular expression"))
    options = re2.Options()
    options.max_mem = PATTERN_BYTES_MAX
    options.log_errors = False
    try:
        search = re2.compile(pattern, options).search
    except re2.error as error:
        reason = error.args[0] if error.args else b""
        shown = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise RequestError(f"regular expression {pattern[:64]!r}: {shown}") from error

    # A search takes 5 µs, and the values of one field are few on most fleets.
    @lru_cache(maxsize=VALUES_KEPT_MAX)
    def is_found(value: str) -> bool:
        return search(value) is not None

    return is_found


def _senseless(selector: Selector, question: str) -> str:
    return f"{selector.text} is {selector.kind}: it cannot {question}"
