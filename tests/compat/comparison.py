"""Is what we answered what was recorded, but for what differs from run to run?

`Expected` is a recorded answer, perhaps changed by deviations. Everything in it is
compared exactly: status, text, presence and value of headers, keys, types, nulls. Only
indexes, times, TTLs and addresses are compared by what must hold for them.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tests.compat.mapping import IndexMap
from tests.real_server import Answer

COMPARED_HEADERS: Final = ("x-nomad-", "x-nodestate-")
COMPARED_HEADER_NAMES: Final = {"content-type", "vary", "allow", "location"}
INDEX_KEYS: Final = {
    "CreateIndex",
    "EvalCreateIndex",
    "Index",
    "JobModifyIndex",
    "ModifyIndex",
    "NodeModifyIndex",
}
TIME_KEYS: Final = {"ForceDeadline", "StartedAt", "Timestamp", "UpdatedAt"}
ADDRESS_KEYS: Final = {"LeaderRPCAddr", "RPCAdvertiseAddr"}
PEER_PLACES: Final = {"", "/0"}
"""Where an answer that is no object has the peer address of a server."""
PORT_KEYS: Final = {"Port", "port"}
TTL_NS_MIN: Final = 10_000_000_000
TTL_NS_MAX: Final = 20_000_000_000
RECENT_S: Final = 600
AT_ONCE_S: Final = 0.2
LATE_S: Final = 0.5
"""What a busy machine may add to any measured time."""

_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{0,8}[1-9]))?Z", re.ASCII
)
_ADDRESS: Final = re.compile(r"[^:\s]+:\d{1,5}|\[[0-9a-f:]+\]:\d{1,5}")


@dataclass(frozen=True)
class Expected:
    """What an answer has to be. `json` counts only if there is no text to compare."""

    status: int
    headers: Mapping[str, str]
    json: Any = None
    text: str | None = None
    text_pattern: str | None = None
    form: str = "compact"
    elapsed: str = ""
    is_write: bool = False
    events_last: int = 0
    """Compare only so many events, the last ones; 0 compares all."""
    events_total: int = 0
    """How many events there are in all, where not all are compared."""


def compare(
    expected: Expected, answer: Answer, indexes: IndexMap, wait_s: float = 0.0
) -> Iterator[str]:
    """Yield what differs."""
    if answer.status != expected.status:
        yield f"status {answer.status}, expected {expected.status}: {answer.body[:300]!r}"
        return
    yield from _compare_headers(expected, answer, indexes)
    yield from _compare_elapsed(expected.elapsed, answer.elapsed_s, wait_s)
    if expected.text_pattern is not None:
        if re.fullmatch(expected.text_pattern, answer.text) is None:
            yield f"text {answer.text!r}, expected /{expected.text_pattern}/"
    elif expected.text is not None:
        if answer.text != expected.text:
            yield f"text {answer.text!r}, expected {expected.text!r}"
    else:
        yield from _compare_form(expected.form, answer)
        yield from _compare_body(expected, answer.json, indexes)


def _compare_headers(
    expected: Expected, answer: Answer, indexes: IndexMap
) -> Iterator[str]:
    found = {
        name: value
        for name, value in answer.headers.items()
        if name in COMPARED_HEADER_NAMES or name.startswith(COMPARED_HEADERS)
    }
    for name in sorted(found.keys() - expected.headers.keys()):
        yield f"header {name}: {found[name]}, expected none"
    for name, wanted in expected.headers.items():
        if name not in found:
            yield f"header {name} is missing, expected {wanted}"
        elif name == "x-nomad-index":
            yield from _compare_index_header(
                wanted, found[name], indexes, is_write=expected.is_write
            )
        elif name == "allow":
            if {*found[name].split(", ")} != {*wanted.split(", ")}:
                yield f"header allow: {found[name]}, expected {wanted}"
        elif found[name] != wanted:
            yield f"header {name}: {found[name]}, expected {wanted}"


def _compare_index_header(
    wanted: str, found: str, indexes: IndexMap, *, is_write: bool
) -> Iterator[str]:
    if not (found.isascii() and found.isdigit()):
        yield f"header x-nomad-index: {found!r} is no number"
    elif wanted == ">=1":
        if int(found) < 1:
            yield f"header x-nomad-index: {found}, expected at least 1"
    else:
        yield from _compare_index(
            int(wanted), int(found), "header x-nomad-index", indexes, is_write=is_write
        )


def _compare_index(
    recorded: int, found: int, where: str, indexes: IndexMap, *, is_write: bool
) -> Iterator[str]:
    """Zero means that nothing was written, and is exact both ways."""
    if recorded == 0 or found == 0:
        if recorded != found:
            yield f"{where}: index {found}, recorded {recorded}"
        return
    problem = indexes.bind(recorded, found, is_write=is_write)
    if problem:
        yield f"{where}: {problem}"


def _compare_elapsed(expected: str, elapsed_s: float, wait_s: float) -> Iterator[str]:
    low, high = {
        "": (0.0, float("inf")),
        "at once": (0.0, AT_ONCE_S),
        "woken": (0.0, wait_s / 2),
        "ran out": (wait_s, wait_s * 17 / 16),
    }[expected]
    if not low <= elapsed_s <= high + LATE_S:
        yield f"took {elapsed_s:.3f} s, expected {expected} ({low} to {high} s)"


def _compare_form(form: str, answer: Answer) -> Iterator[str]:
    """Compact is without spaces and final newline, pretty has four spaces and one."""
    value = answer.json
    if form == "pretty":
        text = json.dumps(value, indent=4, ensure_ascii=False) + "\n"
    else:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if text != answer.text:
        yield f"body is not {form} JSON: {answer.body[:80]!r}"


def _compare_body(expected: Expected, found: Any, indexes: IndexMap) -> Iterator[str]:
    wanted = expected.json
    if expected.events_last:
        events = found.get("Events") or []
        if len(events) != expected.events_total:
            yield f"{len(events)} events, expected {expected.events_total}"
        found = {**found, "Events": events[-expected.events_last :]}
        wanted = {**wanted, "Events": wanted["Events"][-expected.events_last :]}
    if isinstance(found, list) and found and "ID" in found[0]:
        ids = [node["ID"].replace("-", "").lower() for node in found]
        if ids != sorted(ids):
            yield f"list is not in the order of ids: {ids}"
    yield from compare_value(wanted, found, "", indexes)


def compare_value(
    wanted: Any, found: Any, where: str, indexes: IndexMap
) -> Iterator[str]:
    """Yield what differs between two JSON values, with where it is."""
    mask = _mask(wanted, where)
    if type(wanted) is not type(found):
        yield f"{where}: {found!r}, expected {wanted!r}"
    elif where.rpartition("/")[2] in INDEX_KEYS:
        yield from _compare_index(wanted, found, where, indexes, is_write=False)
    elif mask is not None:
        if not mask(wanted, found):
            yield f"{where}: {found!r} has not the form of {wanted!r}"
    elif isinstance(wanted, dict):
        yield from _compare_objects(wanted, found, where, indexes)
    elif isinstance(wanted, list):
        if len(wanted) != len(found):
            yield f"{where}: {len(found)} elements, expected {len(wanted)}"
        for position, pair in enumerate(zip(wanted, found, strict=False)):
            yield from compare_value(*pair, f"{where}/{position}", indexes)
    elif wanted != found:
        yield f"{where}: {found!r}, expected {wanted!r}"


def _mask(wanted: Any, where: str) -> Callable[[Any, Any], bool] | None:
    """Return what must hold in place of equality, `None` if nothing may differ."""
    if isinstance(wanted, str) and where in PEER_PLACES:
        return _is_like_peer
    return MASKS.get(where.rpartition("/")[2])


def _compare_objects(
    wanted: dict[str, Any], found: dict[str, Any], where: str, indexes: IndexMap
) -> Iterator[str]:
    for key in sorted(wanted.keys() - found.keys()):
        yield f"{where}/{key} is missing"
    for key in sorted(found.keys() - wanted.keys()):
        yield f"{where}/{key}: {found[key]!r}, expected no such key"
    for key in wanted.keys() & found.keys():
        yield from compare_value(wanted[key], found[key], f"{where}/{key}", indexes)
    if isinstance(found.get("ForceDeadline"), str):
        started_ns, force_ns = (
            parse_time_ns(found[k]) for k in ("StartedAt", "ForceDeadline")
        )
        if force_ns != started_ns + found["Deadline"]:
            yield f"{where}: ForceDeadline is not StartedAt + Deadline: {found}"


def parse_time_ns(text: str) -> int:
    """Return Unix nanoseconds of an RFC 3339 time in UTC, written as Go writes it."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time as Go writes it")
    seconds = datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp()
    return int(seconds) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def _is_like_time(wanted: Any, found: Any) -> bool:
    """Null is null; whole seconds stay whole; a fraction may happen to be zero."""
    if wanted is None:
        return found is None
    match = _RFC3339.fullmatch(found)
    return match is not None and ("." in wanted or match[2] is None)


def _is_like_address(wanted: Any, found: Any) -> bool:
    if not wanted:
        return bool(wanted == found)
    return _ADDRESS.fullmatch(found) is not None


def _is_like_peer(wanted: Any, found: Any) -> bool:
    """Only the port of a server may differ; everything else is compared exactly."""
    if isinstance(wanted, str) and _ADDRESS.fullmatch(wanted):
        return bool(wanted.rpartition(":")[0] == found.rpartition(":")[0])
    return bool(wanted == found)


def _is_like_port(wanted: Any, found: Any) -> bool:
    """A server that is alone has port 0 for its peers: any free one will do."""
    return str(found).isdigit() and int(found) < 1 << 16


def _is_version(wanted: Any, found: Any) -> bool:
    return re.fullmatch(r"\d+\.\d+\.\d+.*", found) is not None


def _is_like_ttl(wanted: Any, found: Any) -> bool:
    return bool(found == 0 if wanted == 0 else TTL_NS_MIN <= found <= TTL_NS_MAX)


def _is_recent(wanted: Any, found: Any) -> bool:
    return bool(abs(time.time() - found) < RECENT_S)


def _is_like_id(wanted: Any, found: Any) -> bool:
    return bool(wanted) is bool(found) and len(wanted) == len(found)


def _is_as_many(wanted: Any, found: Any) -> bool:
    return wanted is found is None or len(wanted) == len(found) == len({*found})


MASKS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    **dict.fromkeys(TIME_KEYS, _is_like_time),
    **dict.fromkeys(ADDRESS_KEYS, _is_like_address),
    **dict.fromkeys(PORT_KEYS, _is_like_port),
    "Address": _is_like_peer,
    "build": _is_version,
    "EvalID": _is_like_id,
    "EvalIDs": _is_as_many,
    "HeartbeatTTL": _is_like_ttl,
    "StatusUpdatedAt": _is_recent,
}
