"""Where a filter expression looks: a path into a record, checked once.

Names and types come from the records of `model.node`, so that a field that is added there
can be filtered on without a line here. A path is checked when the expression is compiled:
the answer to a misspelt name is the same on an empty cluster and on a full one.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import inspect

from nodestate.errors import RequestError
from nodestate.model.node import Node
from nodestate.model.timestamp import Timestamp, format_rfc3339

Read = Callable[[Any], Any]
"""Returns what a path leads to in a record; `None` where the path ends before."""

_Step = Callable[[Any], Any]


class Kind(StrEnum):
    """What a path leads to, as a reader of the JSON would say it."""

    TEXT = "a text"
    WHOLE_NUMBER = "a whole number"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    MAP = "a map"
    LIST = "a list"
    RECORD = "an object"


class Selector(msgspec.Struct, frozen=True):
    """A checked path: how to read it, and what is found there."""

    text: str
    kind: Kind
    read: Read
    is_nullable: bool = False


_SCALARS: Final = {
    inspect.StrType: Kind.TEXT,
    inspect.EnumType: Kind.TEXT,
    inspect.LiteralType: Kind.TEXT,
    inspect.CustomType: Kind.TEXT,
    inspect.IntType: Kind.WHOLE_NUMBER,
    inspect.FloatType: Kind.NUMBER,
    inspect.BoolType: Kind.BOOLEAN,
    # What is only kept and shown again is not looked into.
    inspect.AnyType: Kind.RECORD,
}


def find_selector(path: Sequence[str], record: type[msgspec.Struct] = Node) -> Selector:
    """Follow a path through records of a type.

    Raises `RequestError`, naming the part that does not fit and what would.
    """
    found = _type_of(record)
    steps: list[_Step] = []
    is_nullable = False
    for position, part in enumerate(path):
        found, step = _follow(found, part, shown_path(path[:position]))
        steps.append(step)
        found, is_nullable = _without_null(found)
    if isinstance(found, inspect.CustomType):
        assert found.cls is Timestamp
        steps.append(_time_text)
    return Selector(shown_path(path), _kind(found), _reader(steps), is_nullable)


def shown_path(path: Sequence[str]) -> str:
    """Return a path as a user would write it: `LastDrain.Meta["owner"]`."""
    shown = ""
    for part in path:
        if not part.replace("_", "a").isalnum() or not part[:1].isalpha():
            shown += f'["{part}"]'
        else:
            shown += f".{part}" if shown else part
    return shown


@cache
def _type_of(record: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(record)


def _follow(found: inspect.Type, part: str, where: str) -> tuple[inspect.Type, _Step]:
    if isinstance(found, inspect.StructType):
        field = _fields(found.cls).get(part)
        if field is None:
            raise RequestError(_unknown_field(found.cls, part, where))
        return field.type, attrgetter(field.name)
    if isinstance(found, inspect.DictType):
        return found.value_type, _key_step(part)
    if isinstance(found, inspect.ListType | inspect.VarTupleType):
        if not (part.isascii() and part.isdigit() and len(part) < 10):
            raise RequestError(f"{where} is a list: {part!r} is no position in it")
        return found.item_type, _position_step(int(part))
    raise RequestError(f"{where} is {_kind(found)}: there is no {part!r} in it")


def _unknown_field(record: type, part: str, where: str) -> str:
    known = ", ".join(_fields(record))
    of_what = f" of {where}" if where else ""
    return f"no field{of_what} is called {part!r}; there are {known}"


@cache
def _fields(record: type) -> Mapping[str, inspect.Field]:
    """Return a record's fields by their names in JSON."""
    found = inspect.type_info(record)
    assert isinstance(found, inspect.StructType)
    return {field.encode_name: field for field in found.fields}


def _without_null(found: inspect.Type) -> tuple[inspect.Type, bool]:
    if not isinstance(found, inspect.UnionType):
        return found, False
    rest = [part for part in found.types if not isinstance(part, inspect.NoneType)]
    assert len(rest) == 1, "a field of a record has one type, and may be null"
    return rest[0], True


def _kind(found: inspect.Type) -> Kind:
    if isinstance(found, inspect.StructType):
        return Kind.RECORD
    if isinstance(found, inspect.DictType):
        return Kind.MAP
    if isinstance(found, inspect.ListType | inspect.VarTupleType):
        return Kind.LIST
    return _SCALARS[type(found)]


def _key_step(key: str) -> _Step:
    def step(value: Mapping[str, Any]) -> Any:
        return value.get(key)

    return step


def _position_step(position: int) -> _Step:
    def step(value: Sequence[Any]) -> Any:
        return value[position] if position < len(value) else None

    return step


def _time_text(value: Timestamp) -> str | None:
    return format_rfc3339(value.ns)


def _reader(steps: Sequence[_Step]) -> Read:
    """Chain the steps, stopping at the first `None`."""
    if len(steps) == 1:
        return steps[0]

    def read(record: Any) -> Any:
        value = record
        for step in steps:
            value = step(value)
            if value is None:
                return None
        return value

    return read
