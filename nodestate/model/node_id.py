"""Node ids and prefixes of ids: from what a caller wrote to the key of the table.

An id is text that decodes to 16 bytes. Hyphens may stand anywhere and case does not
matter; the texts of the errors are Nomad's.
"""

from typing import Final

from nodestate.errors import RequestError
from nodestate.model.node import NodeKey

ID_LENGTH: Final = 36
HYPHENS_MAX: Final = 4
KEY_LENGTH: Final = 32
_LOOKUP_FAILED: Final = "node lookup failed: index error: "
_HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")


def node_key(text: str) -> NodeKey:
    """Return the key for an id as a caller wrote it; `RequestError` if it is none."""
    if len(text.encode("utf-8", "surrogateescape")) != ID_LENGTH:
        raise RequestError(f"{_LOOKUP_FAILED}UUID must be 36 characters")
    return NodeKey(_hex_digits(text))


def node_key_prefix(text: str) -> str:
    """Return the start of keys that a prefix stands for; `RequestError` if it is none."""
    length = len(text.encode("utf-8", "surrogateescape"))
    if length > ID_LENGTH:
        raise RequestError(
            f"{_LOOKUP_FAILED}Invalid UUID length. UUID have 36 characters; got {length}"
        )
    return _hex_digits(text)


def _hex_digits(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    hyphens = raw.count(b"-")
    if hyphens > HYPHENS_MAX:
        raise RequestError(
            f'{_LOOKUP_FAILED}UUID should have maximum of 4 "-"; got {hyphens}'
        )
    digits = raw.replace(b"-", b"")
    if len(digits) % 2:
        raise RequestError(
            f"{_LOOKUP_FAILED}Input (without hyphens) must be even length"
        )
    for byte in digits:
        if byte not in _HEX_DIGITS:
            raise RequestError(
                f"{_LOOKUP_FAILED}Invalid UUID: encoding/hex: invalid byte: "
                + _describe_byte(byte)
            )
    return digits.decode("ascii").lower()


def _describe_byte(byte: int) -> str:
    character = chr(byte)
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{byte:04X}{shown}"
