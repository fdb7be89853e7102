"""Ids and prefixes of ids: from what a caller wrote to the key of the table.

An id is text that decodes to 16 bytes. Hyphens may stand anywhere and case does not
matter; the texts of the errors are Nomad's, and begin with what is looked for.
"""

from typing import Final

from nodestate.errors import RequestError
from nodestate.model.node import NodeKey

ID_LENGTH: Final = 36
HYPHENS_MAX: Final = 4
KEY_LENGTH: Final = 32
NODE: Final = "node"
ALLOCATION: Final = "alloc"
EVALUATION: Final = "eval"
_PARTS: Final = ((0, 8), (8, 12), (12, 16), (16, 20), (20, KEY_LENGTH))
_HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")


def node_key(text: str) -> NodeKey:
    """Return the key for an id as a caller wrote it; `RequestError` if it is none."""
    return NodeKey(_id_digits(text, NODE))


def node_key_prefix(text: str) -> str:
    """Return the start of keys that a prefix stands for; `RequestError` if it is none."""
    return _prefix_digits(text, NODE)


def record_id(text: str, what: str) -> str:
    """Return the id of an allocation or an evaluation as the record has it."""
    return hyphenated(_id_digits(text, what))


def record_id_prefix(text: str, what: str) -> str:
    """Return the start of such ids that a prefix stands for."""
    return hyphenated(_prefix_digits(text, what))


def typed_digits(text: str) -> str | None:
    """Return the digits of as much of an id as was typed, `None` if it begins none.

    They may be odd in number: for people who type one after the other.
    """
    digits = text.replace("-", "")
    is_hex = digits.isascii() and _HEX_DIGITS.issuperset(digits.encode("ascii"))
    if not is_hex or len(text) > ID_LENGTH or text.count("-") > HYPHENS_MAX:
        return None
    return digits.lower()


def hyphenated(digits: str) -> str:
    """Return digits as they stand in an id; of more than one has, no id begins so."""
    if len(digits) > KEY_LENGTH:
        return digits
    parts = [digits[start:end] for start, end in _PARTS if start < len(digits)]
    return "-".join(parts)


def _id_digits(text: str, what: str) -> str:
    if len(text.encode("utf-8", "surrogateescape")) != ID_LENGTH:
        raise _lookup_failed(what, "UUID must be 36 characters")
    return _hex_digits(text, what)


def _prefix_digits(text: str, what: str) -> str:
    length = len(text.encode("utf-8", "surrogateescape"))
    if length > ID_LENGTH:
        raise _lookup_failed(
            what, f"Invalid UUID length. UUID have 36 characters; got {length}"
        )
    return _hex_digits(text, what)


def _hex_digits(text: str, what: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    hyphens = raw.count(b"-")
    if hyphens > HYPHENS_MAX:
        raise _lookup_failed(what, f'UUID should have maximum of 4 "-"; got {hyphens}')
    digits = raw.replace(b"-", b"")
    if len(digits) % 2:
        raise _lookup_failed(what, "Input (without hyphens) must be even length")
    for byte in digits:
        if byte not in _HEX_DIGITS:
            raise _lookup_failed(
                what,
                f"Invalid UUID: encoding/hex: invalid byte: {_describe_byte(byte)}",
            )
    return digits.decode("ascii").lower()


def _lookup_failed(what: str, why: str) -> RequestError:
    return RequestError(f"{what} lookup failed: index error: {why}")


def _describe_byte(byte: int) -> str:
    character = chr(byte)
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{byte:04X}{shown}"
