"""Filter expressions as text: the grammar, and the tree that a text is parsed into.

The language is that of HashiCorp's go-bexpr. What the tree means is in `filters`. The
parser keeps its own stack, and depth is bounded while the tree grows, so that no nesting
can exhaust Python's.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import Final

import msgspec
from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from nodestate.errors import RequestError

EXPRESSION_CHARACTERS_MAX: Final = 2048
EXPRESSION_DEPTH_MAX: Final = 32
_SHOWN_CHARACTERS_MAX: Final = 20


class Operator(StrEnum):
    """What a test asks; each can be negated."""

    EQUAL = "=="
    IN = "in"
    EMPTY = "is empty"
    NULL = "is nil"
    MATCHES = "matches"


class Match(msgspec.Struct, frozen=True):
    """One question about one place in the record; `value` is empty where none is given."""

    path: tuple[str, ...]
    operator: Operator
    value: str
    is_negated: bool


class AllOf(msgspec.Struct, frozen=True):
    """Parts joined by `and`."""

    parts: tuple["Expression", ...]
    depth: int


class AnyOf(msgspec.Struct, frozen=True):
    """Parts joined by `or`."""

    parts: tuple["Expression", ...]
    depth: int


class Negated(msgspec.Struct, frozen=True):
    """The opposite of a part."""

    part: "Expression"
    depth: int


Expression = Match | AllOf | AnyOf | Negated


class _Operand(msgspec.Struct, frozen=True):
    """Either side of a match: a path, a value, or what can be read as either."""

    text: str
    path: tuple[str, ...] = ()


_GRAMMAR: Final = r"""
    start: any_of
    any_of: all_of (_OR all_of)*
    all_of: _part (_AND _part)*
    _part: negated | group | _match
    negated: _NOT _part
    group: "(" any_of ")"
    _match: equal | not_equal | within | not_within | contains | not_contains
        | empty | not_empty | null | not_null | matching | not_matching
    equal: _operand "==" _operand
    not_equal: _operand "!=" _operand
    within: _operand _IN _operand
    not_within: _operand _NOT _IN _operand
    contains: _operand _CONTAINS _operand
    not_contains: _operand _NOT _CONTAINS _operand
    empty: _operand _IS _EMPTY
    not_empty: _operand _IS _NOT _EMPTY
    null: _operand _IS _NIL
    not_null: _operand _IS _NOT _NIL
    matching: _operand _MATCHES _operand
    not_matching: _operand _NOT _MATCHES _operand
    _operand: path | number | quoted | raw
    path: NAME (DOT_NAME | DOT_POSITION | "[" (quoted | raw) "]")*
    number: NUMBER
    quoted: QUOTED
    raw: RAW

    _OR.2: /or(?![A-Za-z0-9_\/])/
    _AND.2: /and(?![A-Za-z0-9_\/])/
    _NOT.2: /not(?![A-Za-z0-9_\/])/
    _IN.2: /in(?![A-Za-z0-9_\/])/
    _IS.2: /is(?![A-Za-z0-9_\/])/
    _EMPTY.2: /empty(?![A-Za-z0-9_\/])/
    _NIL.2: /nil(?![A-Za-z0-9_\/])/
    _CONTAINS.2: /contains(?![A-Za-z0-9_\/])/
    _MATCHES.2: /matches(?![A-Za-z0-9_\/])/
    NAME: /[A-Za-z][A-Za-z0-9_\/]*/
    DOT_NAME: /\.[A-Za-z][A-Za-z0-9_\/]*/
    DOT_POSITION: /\.[0-9]+/
    NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?(?![A-Za-z0-9_.])/
    QUOTED: /"(\\.|[^"\\])*"/s
    RAW: /`[^`]*`/
    %ignore /[ \t\r\n]+/
"""
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\\"])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})"
    r"|([0-3][0-7]{2})|(.?))",
    re.DOTALL,
)
_ESCAPED: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"',
}  # fmt: skip
_SHOWN_TERMINALS: Final = {
    "NAME": "a field", "QUOTED": "a text", "RAW": "a text", "NUMBER": "a number",
    "DOT_NAME": "'.'", "DOT_POSITION": "'.'", "LPAR": "'('", "RPAR": "')'",
    "LSQB": "'['", "RSQB": "']'", "$END": "the end",
    "__ANON_0": "'=='", "__ANON_1": "'!='",
}  # fmt: skip


def parse_expression(text: str) -> Expression:
    """Return the tree of an expression; `RequestError` says what is wrong and where."""
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise RequestError(
            f"expression has {len(text)} characters, "
            f"at most {EXPRESSION_CHARACTERS_MAX} are allowed"
        )
    try:
        # The transformer below makes the parser return what `start` returns.
        tree: Expression = _parser().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise RequestError(_misfit(text, error)) from error
    return tree


def _misfit(text: str, error: UnexpectedInput) -> str:
    position = error.pos_in_stream
    if isinstance(error, UnexpectedCharacters):
        expected = error.allowed
    else:
        assert isinstance(error, UnexpectedToken)
        expected = error.accepts or error.expected
        if error.token.type == "$END":
            position = len(text)
    assert position is not None
    found = text[position : position + _SHOWN_CHARACTERS_MAX]
    if found.startswith(('"', "`")):
        return f"at character {position + 1}: text without closing quote"
    shown = sorted({_shown_terminal(terminal) for terminal in expected})
    return (
        f"at character {position + 1}: found {repr(found) if found else 'the end'}, "
        f"expected {' or '.join(shown)}"
    )


def _shown_terminal(terminal: str) -> str:
    return _SHOWN_TERMINALS.get(terminal, f"'{terminal.lstrip('_').lower()}'")


def _unquoted(literal: str) -> str:
    """Return the text of a double-quoted literal, with Go's escapes."""

    def replaced(match: re.Match[str]) -> str:
        simple, *numbers, octal, rest = match.groups()
        if simple:
            return _ESCAPED[simple]
        number = next((int(digits, 16) for digits in numbers if digits), None)
        if octal:
            number = int(octal, 8)
        if number is None or number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise RequestError(
                f"text {literal[:_SHOWN_CHARACTERS_MAX]} has an unknown escape, \\{rest}"
            )
        return chr(number)

    return _ESCAPE.sub(replaced, literal[1:-1])


def _pointer(text: str) -> tuple[str, ...]:
    """Return the path of a JSON pointer (RFC 6901), nothing if it is none."""
    if not text.startswith("/") or text == "/":
        return ()
    return tuple(
        part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")
    )


def _match(
    operator: Operator, where: _Operand, value: _Operand | None, *, is_negated: bool
) -> Match:
    if not where.path:
        raise RequestError(
            f'{where.text[:_SHOWN_CHARACTERS_MAX]!r} is no field: write Name, Meta.key, Meta["key"] or '
            '"/Meta/key"'
        )
    return Match(where.path, operator, value.text if value else "", is_negated)


def _deeper(parts: Sequence[Expression]) -> int:
    depth = 1 + max(0 if isinstance(part, Match) else part.depth for part in parts)
    if depth > EXPRESSION_DEPTH_MAX:
        raise RequestError(
            f"expression nests deeper than {EXPRESSION_DEPTH_MAX}, which is the most "
            "that is allowed"
        )
    return depth


@v_args(inline=True)
class _Tree(Transformer[Token, Expression]):
    """Called by the parser for each rule, innermost first: method names are rules."""

    def start(self, whole: Expression) -> Expression:
        return whole

    def any_of(self, *parts: Expression) -> Expression:
        return parts[0] if len(parts) == 1 else AnyOf(parts, _deeper(parts))

    def all_of(self, *parts: Expression) -> Expression:
        return parts[0] if len(parts) == 1 else AllOf(parts, _deeper(parts))

    def group(self, whole: Expression) -> Expression:
        return whole

    def negated(self, part: Expression) -> Expression:
        return Negated(part, _deeper((part,)))

    def equal(self, where: _Operand, value: _Operand) -> Match:
        return _match(Operator.EQUAL, where, value, is_negated=False)

    def not_equal(self, where: _Operand, value: _Operand) -> Match:
        return _match(Operator.EQUAL, where, value, is_negated=True)

    def within(self, value: _Operand, where: _Operand) -> Match:
        return _match(Operator.IN, where, value, is_negated=False)

    def not_within(self, value: _Operand, where: _Operand) -> Match:
        return _match(Operator.IN, where, value, is_negated=True)

    def contains(self, where: _Operand, value: _Operand) -> Match:
        return _match(Operator.IN, where, value, is_negated=False)

    def not_contains(self, where: _Operand, value: _Operand) -> Match:
        return _match(Operator.IN, where, value, is_negated=True)

    def empty(self, where: _Operand) -> Match:
        return _match(Operator.EMPTY, where, None, is_negated=False)

    def not_empty(self, where: _Operand) -> Match:
        return _match(Operator.EMPTY, where, None, is_negated=True)

    def null(self, where: _Operand) -> Match:
        return _match(Operator.NULL, where, None, is_negated=False)

    def not_null(self, where: _Operand) -> Match:
        return _match(Operator.NULL, where, None, is_negated=True)

    def matching(self, where: _Operand, value: _Operand) -> Match:
        return _match(Operator.MATCHES, where, value, is_negated=False)

    def not_matching(self, where: _Operand, value: _Operand) -> Match:
        return _match(Operator.MATCHES, where, value, is_negated=True)

    def path(self, first: Token, *rest: Token | _Operand) -> _Operand:
        parts = [str(first)]
        parts += [
            part.text if isinstance(part, _Operand) else part[1:] for part in rest
        ]
        return _Operand(".".join(parts), tuple(parts))

    def number(self, literal: Token) -> _Operand:
        return _Operand(str(literal))

    def quoted(self, literal: Token) -> _Operand:
        text = _unquoted(literal)
        return _Operand(text, _pointer(text))

    def raw(self, literal: Token) -> _Operand:
        return _Operand(literal[1:-1])


@cache
def _parser() -> Lark:
    """Make the parser when it is first needed: every command would wait for it."""
    return Lark(_GRAMMAR, parser="lalr", transformer=_Tree())


def prepare() -> None:
    """Make the parser now, so that the first expression need not wait; on any thread."""
    _parser()
