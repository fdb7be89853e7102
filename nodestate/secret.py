"""Secrets as texts: kept out of whatever is shown, and cluster keys read and made.

No error here has a part of a secret in it.
"""

import base64
import binascii
import secrets
from typing import Final

from typing_extensions import override

from nodestate.errors import ConfigError

CLUSTER_KEY_BYTES: Final = 32
CLUSTER_KEYS_MAX: Final = 2
"""One to use, and while keys are exchanged one more to accept."""


class Secret:
    """A text that only shows itself to who asks for it by `reveal`.

    msgspec can neither encode it nor compare it with a text, so that no answer, dump or
    log line of a whole configuration has it by accident. The log and snapshots, which
    must have it, are written by an encoder that knows it (`model.encoding.MSGPACK`).
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    @override
    def __repr__(self) -> str:
        return "<redacted>" if self._text else "<none>"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    @override
    def __hash__(self) -> int:
        return hash(self._text)


def new_cluster_key() -> str:
    """Return a random key in the form that `parse_cluster_keys` takes."""
    return base64.b64encode(secrets.token_bytes(CLUSTER_KEY_BYTES)).decode()


def parse_cluster_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys of a text, the one to use first; `ConfigError` if it has none.

    They are divided by line breaks, spaces or commas.
    """
    words = text.replace(",", " ").split()
    if not 1 <= len(words) <= CLUSTER_KEYS_MAX:
        raise ConfigError(
            f"has {len(words)} keys, and should have one, or two while they are exchanged"
        )
    keys = tuple(
        _parse_cluster_key(number, word) for number, word in enumerate(words, 1)
    )
    if len(set(keys)) < len(keys):
        raise ConfigError("has the same key twice")
    return keys


def _parse_cluster_key(number: int, word: str) -> bytes:
    try:
        key = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != CLUSTER_KEY_BYTES:
        raise ConfigError(
            f"key {number} is not {CLUSTER_KEY_BYTES} bytes in base64, as "
            "'nodestate tls key create' prints them"
        )
    if len(set(key)) < CLUSTER_KEY_BYTES // 4:
        raise ConfigError(f"key {number} was not made at random")
    return key
