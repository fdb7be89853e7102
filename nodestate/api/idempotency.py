"""The caller's name for a write, so that asking again cannot do it again.

A key stands for one request, and a fingerprint says which. Whatever could make it
another is in that: the path, the parameters, the body, and the token, which may be the
proof that the body lacks. How the answer is to look is not.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from multidict import CIMultiDictProxy, istr

from nodestate.errors import RequestError
from nodestate.model.encoding import MSGPACK

IDEMPOTENCY_KEY: Final = istr("Idempotency-Key")
INVALID_KEY: Final = "Idempotency-Key must be 1 to 255 visible ASCII characters, once"
REPLAYED: Final = b"Idempotency-Replayed: true\r\n"

_METHOD: Final = b"PUT"  # and POST, which means the same everywhere
_IGNORED: Final = frozenset(
    {"consistent", "index", "pretty", "region", "stale", "wait"}
)
_KEY: Final = re.compile("[!-~]{1,255}")


def read_key(headers: CIMultiDictProxy[str]) -> str:
    """Return the key of a request, nothing if it has none."""
    if IDEMPOTENCY_KEY not in headers:
        return ""
    values = headers.getall(IDEMPOTENCY_KEY)
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        raise RequestError(INVALID_KEY)
    return values[0]


def fingerprint(
    path: str, query: Mapping[str, str], *, token: str, content: bytes
) -> bytes:
    """Return the SHA-256 of what a request asks for."""
    asked = [
        _METHOD,
        _bytes(path.removesuffix("/")),
        [
            (_bytes(name), _bytes(value))
            for name, value in sorted(query.items())
            if name not in _IGNORED
        ],
        _bytes(token),
    ]
    # What MessagePack writes says where it ends, so that nothing runs into the body.
    digest = sha256(MSGPACK.encode(asked))
    digest.update(content)
    return digest.digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
