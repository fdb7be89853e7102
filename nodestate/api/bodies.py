"""Request bodies: read within limits, and decoded as leniently as Go does.

A key matches exactly or else in any case, the last of a repeated one counts, unknown ones
are passed over, and so is whatever follows the first JSON value. `null` leaves a field as
it is when left out. Everything else that does not fit is an error that says where it is,
what was found and what is expected; what was found is named by kind, never shown.
"""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import inspect

from nodestate.api.problems import EMPTY_BODY, Problem, ProblemError, too_large
from nodestate.errors import RequestError
from nodestate.model.encoding import from_json_value
from nodestate.model.timestamp import Timestamp

BODY_S_MAX: Final = 10.0
"""How long a body may take to arrive, or the next piece of one that is not held whole."""
BODY_LENGTH: Final = "the length of the body in bytes"
INTEGER_MAX: Final = (1 << 63) - 1
INTEGER_MIN: Final = -(1 << 63)
DIGITS_MAX: Final = 20
"""Of an integer with its sign: more never fit into 64 bits, and are slow to read."""

PARTS_MAX: Final = 250_000
"""Values that a body may be made of, about: each costs time that the loop does not have.
A batch of the largest size has room for 500 entries for each of its nodes."""

NESTING_MAX: Final = 64
"""Lists and objects inside each other, in what is only kept and shown again."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_WHITE_SPACE: Final = " \t\n\r"
_BYTE_ORDER_MARK: Final = "\ufeff"
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_EXPECTED: Final = {
    "Expecting value": "a JSON value",
    "Expecting property name enclosed in double quotes": "a key in double quotes",
    "Expecting ':' delimiter": "a colon",
    "Expecting ',' delimiter": "a comma or the end of the list or object",
    "Illegal trailing comma before end of object": "a key in double quotes",
    "Illegal trailing comma before end of array": "a JSON value",
    "Unterminated string starting at": "a text that ends",
}

T = TypeVar("T", bound=msgspec.Struct)


# Reading


async def read_body(request: web.BaseRequest, *, setting: str, limit: int) -> bytes:
    """Return the whole body; refuse one that is encoded, too large or too slow."""
    _check_head(request, setting, limit)
    with _naming_faults():
        if request.content.is_eof():
            # All of it is here, as is usual: one step without a task switch.
            body = request.content.read_nowait()
        else:
            _say_continue(request)
            body = await _read_slowly(request.content, limit)
    if len(body) > limit:
        raise too_large(BODY_LENGTH, setting, limit)
    return body


async def read_pieces(
    request: web.BaseRequest, *, setting: str, limit: int
) -> AsyncIterator[bytes]:
    """Yield a body that is not held whole, as it arrives; refuse the same."""
    _check_head(request, setting, limit)
    _say_continue(request)
    byte_count = 0
    while not request.content.at_eof():
        with _naming_faults():
            async with asyncio.timeout(BODY_S_MAX):
                piece = await request.content.readany()
        byte_count += len(piece)
        if byte_count > limit:
            raise too_large(BODY_LENGTH, setting, limit)
        if piece:
            yield piece


def _check_head(request: web.BaseRequest, setting: str, limit: int) -> None:
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in {"", "identity"}:
        text = "Content-Encoding of a request must be identity"
        raise ProblemError(Problem(415, text, closes=True))
    if (request.content_length or 0) > limit:
        raise too_large(BODY_LENGTH, setting, limit)


@contextmanager
def _naming_faults() -> Iterator[None]:
    """Say what is wrong with a body that does not come, or not as HTTP has it."""
    try:
        yield
    except TimeoutError:
        text = f"the body did not arrive within {BODY_S_MAX:.0f} s"
        raise ProblemError(Problem(408, text, closes=True)) from None
    except (web.RequestPayloadError, HttpProcessingError):
        text = "the body's transfer encoding is malformed"
        raise ProblemError(Problem(400, text, closes=True)) from None


def _say_continue(request: web.BaseRequest) -> None:
    """Ask for the body if the client waits to be asked."""
    is_expected = request.headers.get("Expect", "").strip().lower() == "100-continue"
    if is_expected and request.transport is not None:
        request.transport.write(_CONTINUE)


async def _read_slowly(content: StreamReader, limit: int) -> bytes:
    """Return the body, or as much of it as is too much."""
    pieces = bytearray()
    async with asyncio.timeout(BODY_S_MAX):
        while not content.at_eof() and len(pieces) <= limit:
            pieces += await content.readany()
    return bytes(pieces)


# Parsing


class _Pairs(list[tuple[str, Any]]):
    """An object, with repeated keys and their order."""


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _parse_integer(digits: str) -> int | float:
    """Return an integer; one that fits nowhere becomes what it is near to.

    It is no error yet: it may stand in a field that nobody reads.
    """
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


_SCANNER: Final = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_int=_parse_integer,
    parse_constant=_refuse_constant,
)


def decode_body(body: bytes, kind: type[T]) -> T:
    """Return the body as one of the shapes; `RequestError` if it does not fit."""
    value = _parse(body)
    if value is None:
        value = _Pairs()
    decoded: T = _plan(kind)(value, ())
    return decoded


def _parse(body: bytes) -> Any:
    part_count = sum(body.count(mark) for mark in (b",", b"{", b"["))
    if part_count > PARTS_MAX:
        raise too_large("the number of values in the body", "PARTS_MAX", PARTS_MAX)
    whole = body.decode("utf-8", "replace")
    text = whole.lstrip(_WHITE_SPACE)
    if not text:
        raise RequestError(EMPTY_BODY)
    if text.startswith(_BYTE_ORDER_MARK):
        raise _misfit("", "a byte-order mark", "a JSON value")
    try:
        value, _ = _SCANNER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise _syntax_error(error, text, len(whole) - len(text)) from None
    except RecursionError:
        raise _misfit("", "lists and objects nested too deeply", "fewer") from None
    except ValueError:
        raise _misfit("", "a word such as NaN", "a number") from None
    return value


def _syntax_error(error: json.JSONDecodeError, text: str, skipped: int) -> RequestError:
    expected = _EXPECTED.get(error.msg, "valid JSON")
    position = error.pos
    if error.msg == "Unterminated string starting at":
        position = len(text)
    found = repr(text[position]) if position < len(text) else "the end"
    where = f"character {position + skipped + 1}"
    return _misfit(where, found, expected)


def _misfit(where: str, found: str, expected: str) -> RequestError:
    place = f" at {where}" if where else ""
    return RequestError(f"request body{place}: found {found}, expected {expected}")


# Fitting a value into a type

_Path = tuple[object, ...]
_Fit = Callable[[Any, _Path], Any]


def _path_text(path: _Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def _unfit(value: Any, path: _Path, expected: str) -> RequestError:
    where = _path_text(path)
    if len(where) > 200:
        where = f"{where[:200]}..."
    return _misfit(where, _kind_of(value), expected)


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a text"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case _Pairs():
            return "an object"
        case _:
            return "a list"


@cache
def _plan(kind: Hashable) -> _Fit:
    """Return how to fit values into a type; looked at once per type."""
    return _plan_for(inspect.type_info(kind))


def _plan_for(info: inspect.Type) -> _Fit:
    match info:
        case inspect.StructType():
            return _plan_struct(info.cls)
        case inspect.DictType():
            return _plan_map(info)
        case inspect.ListType() | inspect.VarTupleType():
            return _plan_list(info)
        case inspect.UnionType():
            return _plan_optional(info)
        case inspect.CustomType(cls=cls) if cls is Timestamp:
            return _fit_time
        case _:
            return _SCALARS[type(info)]


def _fit_text(value: Any, path: _Path) -> str:
    if not isinstance(value, str):
        raise _unfit(value, path, "a text")
    # A lone surrogate, written as an escape, is no character and cannot be sent on.
    return value if value.isascii() else _SURROGATES.sub("\ufffd", value)


def _fit_boolean(value: Any, path: _Path) -> bool:
    if not isinstance(value, bool):
        raise _unfit(value, path, "true or false")
    return value


def _fit_integer(value: Any, path: _Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unfit(value, path, "a whole number written as one")
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise _misfit(_path_text(path), "a number out of range", "one of 64 bits")
    return value


def _fit_number(value: Any, path: _Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _unfit(value, path, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _misfit(_path_text(path), "a number out of range", "one of 64 bits")
    return number


def _fit_anything(value: Any, path: _Path, depth: int = 0) -> Any:
    """Return whatever JSON it is, with the last of each repeated key."""
    if depth > NESTING_MAX:
        expected = f"at most {NESTING_MAX} inside each other (NESTING_MAX)"
        raise _misfit(_path_text(path[:3]), "lists and objects too deep", expected)
    match value:
        case str():
            return _fit_text(value, path)
        case float():
            return _fit_number(value, path)
        case _Pairs():
            return {
                _fit_text(key, path): _fit_anything(part, (*path, key[:64]), depth + 1)
                for key, part in value
            }
        case list():
            return [
                _fit_anything(part, (*path, position), depth + 1)
                for position, part in enumerate(value)
            ]
        case _:
            return value


def _fit_time(value: Any, path: _Path) -> Timestamp:
    try:
        time: Timestamp = from_json_value(Timestamp, value)
    except ValueError:
        raise _unfit(value, path, "an RFC 3339 time or null") from None
    return time


_SCALARS: Final[dict[type[inspect.Type], _Fit]] = {
    inspect.StrType: _fit_text,
    inspect.BoolType: _fit_boolean,
    inspect.IntType: _fit_integer,
    inspect.FloatType: _fit_number,
    inspect.AnyType: _fit_anything,
}


class _Field(msgspec.Struct, frozen=True):
    """One field of a struct: its names, how to fit a value, what `null` does."""

    name: str
    key: str
    fit: Any
    is_nullable: bool


def _plan_struct(cls: type[msgspec.Struct]) -> _Fit:
    fields = [
        _Field(
            field.name,
            field.encode_name,
            _plan(field.type),
            isinstance(inspect.type_info(field.type), inspect.UnionType),
        )
        for field in msgspec.structs.fields(cls)
    ]
    by_key = {field.key: field for field in fields}
    by_lower = {field.key.lower(): field for field in reversed(fields)}

    def fit(value: Any, path: _Path) -> Any:
        if not isinstance(value, _Pairs):
            raise _unfit(value, path, "an object")
        found: dict[str, Any] = {}
        for key, part in value:
            field = by_key.get(key) or by_lower.get(key.lower())
            if field is None:
                continue
            if part is not None:
                found[field.name] = field.fit(part, (*path, field.key))
            elif field.is_nullable:
                found[field.name] = None
        return cls(**found)

    return fit


def _plan_map(info: inspect.DictType) -> _Fit:
    plan, zero = _plan_for(info.value_type), _zero_of(info.value_type)

    def fit(value: Any, path: _Path) -> Any:
        if not isinstance(value, _Pairs):
            raise _unfit(value, path, "an object")
        return {
            _fit_text(key, path): zero()
            if part is None
            else plan(part, (*path, key[:64]))
            for key, part in value
        }

    return fit


def _plan_list(info: inspect.ListType | inspect.VarTupleType) -> _Fit:
    plan, zero = _plan_for(info.item_type), _zero_of(info.item_type)

    def fit(value: Any, path: _Path) -> Any:
        if not isinstance(value, list) or isinstance(value, _Pairs):
            raise _unfit(value, path, "a list")
        return [
            zero() if part is None else plan(part, (*path, position))
            for position, part in enumerate(value)
        ]

    return fit


def _plan_optional(info: inspect.UnionType) -> _Fit:
    (inner,) = [part for part in info.types if not isinstance(part, inspect.NoneType)]
    plan = _plan_for(inner)
    if not isinstance(inner, inspect.DictType):
        return plan

    def fit(value: Any, path: _Path) -> Any:
        # An empty map and none are one: Nomad shows them as `null`, sooner or later.
        return plan(value, path) or None

    return fit


def _zero_of(info: inspect.Type) -> Callable[[], Any]:
    """Return how to make what `null` means where a value must be."""
    match info:
        case inspect.StructType():
            return info.cls
        case inspect.StrType():
            return str
        case _:
            raise AssertionError(f"no zero value for {info}")
