"""How records become bytes: JSON as Nomad writes it, MessagePack for log and disk.

A `Secret` is itself in MessagePack alone: JSON only says that there is one.
"""

from typing import Any, Final, TypeVar

import msgspec

from nodestate.model.timestamp import Timestamp, format_rfc3339, parse_rfc3339
from nodestate.secret import Secret

T = TypeVar("T")

TIME_NS_MIN: Final = -(2**63)
TIME_NS_MAX: Final = 2**64 - 1
"""What MessagePack has room for; the longest deadline from today ends in 2318."""


def _to_json(value: Any) -> str | None:
    if isinstance(value, Timestamp):
        return format_rfc3339(value.ns)
    if isinstance(value, Secret):
        return repr(value)  # whoever is meant to read it is sent its text
    raise NotImplementedError(type(value))


def from_json_value(kind: type, value: Any) -> Any:
    """Build the types that JSON does not have; msgspec's `dec_hook` for JSON."""
    if kind is Timestamp:
        if value is None:
            return Timestamp(0)
        if isinstance(value, str):
            return Timestamp(_storable(parse_rfc3339(value)))
        raise ValueError(f"expected an RFC 3339 time, found {type(value).__name__}")
    raise NotImplementedError(kind)


def _storable(ns: int) -> int:
    """Refuse what 64 bits of nanoseconds cannot say: before 1677, after 2554."""
    if not TIME_NS_MIN <= ns <= TIME_NS_MAX:
        raise ValueError("time out of range")
    return ns


def _to_msgpack(value: Any) -> int | str:
    if isinstance(value, Timestamp):
        return value.ns
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(type(value))


def _from_msgpack(kind: type, value: Any) -> Any:
    if kind is Timestamp:
        if isinstance(value, int):
            return Timestamp(value)
        raise ValueError(f"expected nanoseconds, found {type(value).__name__}")
    if kind is Secret:
        if isinstance(value, str):
            return Secret(value)
        raise ValueError(f"expected a secret, found {type(value).__name__}")
    raise NotImplementedError(kind)


JSON: Final = msgspec.json.Encoder(enc_hook=_to_json)
MSGPACK: Final = msgspec.msgpack.Encoder(enc_hook=_to_msgpack, order="deterministic")


def encode_json(value: object) -> bytes:
    """Return the compact JSON of a record or an answer."""
    return JSON.encode(value)


def msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """Return a decoder for values that `MSGPACK` wrote."""
    return msgspec.msgpack.Decoder(kind, dec_hook=_from_msgpack)
