"""Query parameters: split, decoded, and judged in the order in which Nomad judges them."""

import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_plus

import msgspec

from nodestate.config import CONSISTENT_READS, ServerConfig
from nodestate.errors import RequestError
from nodestate.model.duration import parse_duration_ns
from nodestate.model.job import DEFAULT_NAMESPACE

INVALID_WAIT: Final = "Invalid wait time"
INVALID_INDEX: Final = "Invalid index"
NO_SUCH_REGION: Final = "No path to region"
ONE_NAMESPACE: Final = "namespace must be one, only lists take *"
INDEX_MAX: Final = (1 << 64) - 1
ALL_NAMESPACES: Final = "*"
NAMESPACE_SHOWN_MAX: Final = 64

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_NAMESPACE: Final = re.compile("[a-zA-Z0-9-]{1,128}")
_BROKEN_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")

Query = Mapping[str, str]
NO_QUERY: Final[Query] = {}


class ReadOptions(msgspec.Struct, frozen=True):
    """How a read is to be answered; `index` 0 is at once.

    A read is stale, consistent or neither, never both.
    """

    index: int = 0
    wait_s: float = 0.0
    is_stale: bool = False
    is_consistent: bool = False


PLAIN_READ: Final = ReadOptions()
CONSISTENT_READ: Final = ReadOptions(is_consistent=True)


def bare_read(config: ServerConfig) -> ReadOptions:
    """Return how to answer a read without parameters."""
    is_consistent = config.read_consistency == CONSISTENT_READS
    return CONSISTENT_READ if is_consistent else PLAIN_READ


def parse_query(text: str) -> Query:
    """Return the parameters by name; of a repeated one the first, of a broken one none."""
    found: dict[str, str] = {}
    for pair in text.split("&"):
        # Go drops pairs that it cannot decode, and those with a semicolon.
        if not pair or ";" in pair or _BROKEN_PERCENT.search(pair):
            continue
        name, _, value = pair.partition("=")
        found.setdefault(_decoded(name), _decoded(value))
    return found


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape")


def parse_boolean(text: str) -> bool | None:
    """Return what a boolean word says, `None` if it is none."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def read_flag(query: Query, name: str) -> bool:
    """Return whether a flag is on: present and empty, or true."""
    text = query.get(name)
    if text is None:
        return False
    value = True if text == "" else parse_boolean(text)
    if value is None:
        raise RequestError(
            f"Expect `true` or `false` for `{name}` query string parameter"
        )
    return value


def read_field_flag(query: Query, name: str) -> bool:
    """Return whether the list shows more of a node; here empty means no."""
    text = query.get(name, "")
    value = parse_boolean(text) if text else False
    if value is None:
        raise RequestError(
            f'Failed to parse node list fields: Failed to parse value of "{name}" '
            f"({text[:64]}) as a bool"
        )
    return value


def read_word_flag(query: Query, name: str) -> bool:
    """Return whether a flag of jobs is on; here, too, empty means no."""
    text = query.get(name, "")
    value = parse_boolean(text) if text else False
    if value is None:
        raise RequestError(
            f'Failed to parse value of "{name}" ({text[:64]}) as a bool: '
            "expected true or false"
        )
    return value


def parse_read_options(query: Query, config: ServerConfig) -> ReadOptions:
    """Return how to answer; `wait` is judged before `index`, then the flags."""
    wait_s = _parse_wait(query.get("wait", ""), config)
    index = _parse_index(query.get("index", ""))
    is_stale = read_flag(query, "stale")
    if "consistent" in query:
        is_consistent = read_flag(query, "consistent")
    else:
        is_consistent = config.read_consistency == CONSISTENT_READS
    return ReadOptions(
        index=index,
        wait_s=wait_s,
        is_stale=is_stale,
        is_consistent=is_consistent and not is_stale,
    )


def check_region(query: Query, config: ServerConfig) -> None:
    """Refuse a request for a region that is not ours; there is no path to any other."""
    if query.get("region", "") not in {"", config.region}:
        raise RequestError(NO_SUCH_REGION)


def read_namespace(query: Query, *, may_be_all: bool = False) -> str:
    """Return the namespace that a request is about, `default` if it names none.

    Lists may be of all at once: `*`. There need be nothing in a namespace.
    """
    text = query.get("namespace", "") or DEFAULT_NAMESPACE
    if text == ALL_NAMESPACES:
        if may_be_all:
            return text
        raise RequestError(ONE_NAMESPACE)
    if _NAMESPACE.fullmatch(text) is None:
        shown = json.dumps(text[:NAMESPACE_SHOWN_MAX])
        raise RequestError(
            f"invalid namespace {shown}: a name has 1 to 128 of a-z, A-Z, 0-9 and -"
        )
    return text


def _parse_wait(text: str, config: ServerConfig) -> float:
    """Return how long to wait: the default for none, zero and less; cut at the limit."""
    if not text:
        return config.blocking_wait_s_default
    try:
        duration_ns = parse_duration_ns(text)
    except ValueError:
        raise RequestError(INVALID_WAIT) from None
    if duration_ns <= 0:
        return config.blocking_wait_s_default
    return min(duration_ns / 1e9, config.blocking_wait_s_max)


def _parse_index(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise RequestError(INVALID_INDEX)
    # Cut before converting: the time int() takes grows faster than its text.
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(INDEX_MAX)) or int(digits) > INDEX_MAX:
        raise RequestError(INVALID_INDEX)
    return int(digits)
