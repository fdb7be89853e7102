"""HCL 1, and the JSON that it takes for HCL, as far as rules of policies are written in it.

A text becomes a `Body`: its items in the order in which they were written, repeated ones
among them. Nothing is merged here, so that whoever reads the items sees every one. A block
with labels is a body in a body: `namespace "a" { … }` is as `namespace = { a = { … } }`,
and so are both forms of JSON, with and without arrays around objects.

A comment ends where a line does for whoever reads the text, also at a carriage return alone:
a rule that is seen below a comment is not part of it.

What HCL 1 has beyond that (here-documents, interpolation) no rule can use, and is refused.

The parser keeps its own stack; depth, size and the number of words are bounded while the
text is read.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from nodestate.errors import RequestError

TEXT_BYTES_MAX: Final = 64 << 10
TEXT_WORDS_MAX: Final = 4096
"""Words and signs of a text: more would take over 0.1 s to read."""
DEPTH_MAX: Final = 12
_SHOWN_CHARACTERS_MAX: Final = 20


class Body(msgspec.Struct, frozen=True):
    """What is between braces."""

    items: tuple["Item", ...]
    depth: int


class Array(msgspec.Struct, frozen=True):
    """What is between brackets."""

    values: tuple["Value", ...]
    depth: int


class Other(msgspec.Struct, frozen=True):
    """A number, a truth value or a null: no rule has one."""

    text: str


Value = str | Other | Array | Body


class Item(msgspec.Struct, frozen=True):
    """A key and what stands behind it; `line` and `column` count from 1."""

    key: str
    value: Value
    line: int
    column: int

    @property
    def place(self) -> str:
        """Return where it stands, as errors say it."""
        return place(self.line, self.column)


_VALUES: Final = r"""
    _value: text | other | array | object
    text: TEXT
    other: NUMBER | WORD
    array: "[" _values "]"
    object: "{" _items "}"
    TEXT: /"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"/
    NUMBER: /[-+]?[0-9][0-9A-Za-z.+-]*/
    %ignore /[ \t\r\n]+/
"""
_HCL: Final = (
    r"""
    start: _items
    _items: (_item ","?)*
    _item: assigned | block
    assigned: _key "=" _value
    block: _key+ object
    _key: NAME | TEXT
    _values: (_value ","?)*
    NAME: /[A-Za-z_][A-Za-z0-9_.-]*/
    WORD: /(true|false)(?![A-Za-z0-9_.-])/
    %ignore /(#|\/\/)[^\r\n]*/
    %ignore /\/\*[^*]*\*+([^\/*][^*]*\*+)*\//
"""
    + _VALUES
)
_JSON: Final = (
    r"""
    start: object
    _items: (assigned ("," assigned)*)?
    assigned: TEXT ":" _value
    _values: (_value ("," _value)*)?
    WORD: /(true|false|null)(?![A-Za-z0-9_])/
"""
    + _VALUES
)
_SHOWN_TERMINALS: Final = {
    "NAME": "a name", "TEXT": "a text", "NUMBER": "a number", "WORD": "true or false",
    "EQUAL": "'='", "COLON": "':'", "COMMA": "','", "LBRACE": "'{'", "RBRACE": "'}'",
    "LSQB": "'['", "RSQB": "']'", "$END": "the end",
}  # fmt: skip


def parse_rules_text(text: str) -> Body:
    """Return what a text has in it; `RequestError` says what is wrong and where."""
    byte_count = len(text.encode("utf-8", "surrogatepass"))
    if byte_count > TEXT_BYTES_MAX:
        raise RequestError(
            f"the text has {byte_count} bytes, at most {TEXT_BYTES_MAX} are allowed"
        )
    is_json = text.lstrip().startswith("{")
    # Fed word by word, so that nothing is built of a text that has too many.
    parser = _json_parser() if is_json else _hcl_parser()
    parsing: Any = parser.parse_interactive(text)
    try:
        for number, _ in enumerate(parsing.iter_parse(), 1):
            if number > TEXT_WORDS_MAX:
                raise RequestError(
                    f"the text has more than {TEXT_WORDS_MAX} words and signs, "
                    "which is the most that is allowed"
                )
        body: Body = parsing.feed_eof()
    except UnexpectedToken as error:
        raise RequestError(_misfit(text, error, parsing.accepts())) from error
    except UnexpectedCharacters as error:
        raise RequestError(_misfit(text, error, error.allowed or ())) from error
    return body


def place(line: int, column: int) -> str:
    """Return how errors say where something stands."""
    return f"line {line}, column {column}"


def _misfit(text: str, error: UnexpectedInput, expected: Iterable[str]) -> str:
    position = error.pos_in_stream
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        position = len(text)
    assert position is not None
    found = text[position : position + _SHOWN_CHARACTERS_MAX]
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    if found.startswith('"') and isinstance(error, UnexpectedCharacters):
        return f"{place(line, column)}: a text without closing quote"
    if found.startswith("/*"):
        return f"{place(line, column)}: a comment without an end"
    shown = sorted({_SHOWN_TERMINALS.get(name, name) for name in expected})
    return (
        f"{place(line, column)}: found {repr(found) if found else 'the end'}, "
        f"expected {' or '.join(shown)}"
    )


def _depth(values: Iterable[Value], line: int, column: int) -> int:
    depth = 1 + max(
        (value.depth for value in values if isinstance(value, Body | Array)), default=0
    )
    if depth > DEPTH_MAX:
        raise RequestError(
            f"{place(line, column)}: nested deeper than {DEPTH_MAX}, "
            "which is the most that is allowed"
        )
    return depth


def _body(items: Sequence[Item]) -> Body:
    first = items[0] if items else Item("", "", 1, 1)
    depth = _depth([item.value for item in items], first.line, first.column)
    return Body(tuple(items), depth)


def _unquoted(literal: Token) -> str:
    """Return the text of a literal, with the escapes that HCL and JSON have in common."""
    if literal[0] != '"':
        return str(literal)
    try:
        return msgspec.json.decode(literal.encode("utf-8", "surrogatepass"), type=str)
    except (msgspec.DecodeError, UnicodeError) as error:
        where = place(literal.line or 1, literal.column or 1)
        raise RequestError(
            f"{where}: {literal[:_SHOWN_CHARACTERS_MAX]!r} is not a text: it has an "
            "escape or a character that none may have"
        ) from error


def _item(key: Token, value: Value) -> Item:
    return Item(_unquoted(key), value, key.line or 1, key.column or 1)


@v_args(inline=True)
class _Tree(Transformer[Token, Body]):
    """Called by the parser for each rule, innermost first: method names are rules."""

    def start(self, *parts: Item | Body) -> Body:
        if len(parts) == 1 and isinstance(parts[0], Body):
            return parts[0]
        return _body([part for part in parts if isinstance(part, Item)])

    def assigned(self, key: Token, value: Value) -> Item:
        return _item(key, value)

    def block(self, *parts: Token | Body) -> Item:
        """Put a body into one body for each label, from the last one on."""
        *keys, body = parts
        assert isinstance(body, Body)
        for label in reversed(keys[1:]):
            assert isinstance(label, Token)
            body = _body([_item(label, body)])
        first = keys[0]
        assert isinstance(first, Token)
        return _item(first, body)

    def object(self, *items: Item) -> Body:
        return _body(items)

    def array(self, *values: Value) -> Array:
        return Array(values, _depth(values, 1, 1))

    def text(self, literal: Token) -> str:
        return _unquoted(literal)

    def other(self, literal: Token) -> Other:
        return Other(str(literal))


# Made when they are first needed: that takes longer than all else about a start.


@cache
def _hcl_parser() -> Lark:
    return Lark(_HCL, parser="lalr", transformer=_Tree())


@cache
def _json_parser() -> Lark:
    return Lark(_JSON, parser="lalr", transformer=_Tree())


def prepare() -> None:
    """Make the parsers now, so that the first text need not wait for them; on any thread."""
    _hcl_parser()
    _json_parser()
