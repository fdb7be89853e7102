"""Answers about work in a form in which two runs can be compared.

Which node an allocation lands on, how many a node therefore has, ids, times, indexes and
how nodes were judged are a run's own. All else is compared exactly, key by key: which
kinds of records a list has, and each of these kinds whole.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from tests.real_server import Answer

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_NUMBER_IN_NAME: Final = re.compile(r"\[\d+\]$")
TIMES: Final = {"CreateTime", "ModifyTime", "SubmitTime", "AllocationTime"}
ADDRESSES: Final = {"LeaderRPCAddr", "RPCAdvertiseAddr"}
NODE_IDENTITY: Final = {"Name", "HTTPAddr", "Address", "StatusUpdatedAt", "LastDrain"}
JUDGED: Final = "<as a node was judged>"


def normal(value: Any, key: str = "") -> Any:
    """Return a value without what is a run's own."""
    if isinstance(value, dict):
        return _normal_object(value, key)
    if isinstance(value, list):
        if key == "EvalIDs":
            return f"<{len(value)} ids>"
        parts = [normal(part) for part in value]
        return _kinds(parts) if _is_list_of_records(value) else parts
    if isinstance(value, str):
        return _normal_text(value, key)
    if value and (key.endswith("Index") or key in TIMES or key == "HeartbeatTTL"):
        return f"<{key}>"
    return value


def _normal_object(value: dict[str, Any], key: str) -> dict[str, Any]:
    if key in {"Metrics", "FailedTGAllocs"}:
        return {name: _judged(part) for name, part in value.items()}
    if key == "Summary":
        # How many were stopped, and where, is a matter of where they were.
        return {
            group: dict.fromkeys(numbers, "<number>")
            for group, numbers in value.items()
        }
    if "NodeClass" in value:
        attributes = value.get("Attributes") or {}
        value = {
            **value,
            **{name: f"<{name}>" for name in NODE_IDENTITY & value.keys()},
        }
        if "unique.hostname" in attributes:
            value["Attributes"] = {**attributes, "unique.hostname": "<Name>"}
    return {name: normal(part, name) for name, part in value.items()}


def _judged(value: Any) -> Any:
    """Keep the keys of a metric and what is `null`: its numbers are a run's own."""
    if isinstance(value, dict) and "NodesEvaluated" in value:
        return {name: _judged(part) for name, part in value.items()}
    return value if value is None else JUDGED


def _normal_text(text: str, key: str) -> str:
    if key == "NodeName" or key in ADDRESSES:
        return text and f"<{key}>"
    if key == "PreviousAllocation" and (not text or _ID.fullmatch(text)):
        # The first ones of a job and those that took their places are on one node or two.
        return "<id, if any>"
    for pattern, shown in ((_ID, "<id>"), (_TIME, "<time>")):
        if pattern.fullmatch(text):
            return shown
    return _NUMBER_IN_NAME.sub("[*]", text) if key == "Name" else text


def _is_list_of_records(value: list[Any]) -> bool:
    return all(isinstance(part, dict) and "ModifyIndex" in part for part in value)


def _kinds(parts: list[Any]) -> list[Any]:
    """Return each kind of record once."""
    texts = {json.dumps(part, sort_keys=True) for part in parts}
    return [json.loads(text) for text in sorted(texts)]


def differences(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """Yield what differs between two values in normal form."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            if key not in found:
                yield f"{where}/{key} is missing, expected {wanted[key]!r}"
            elif key not in wanted:
                yield f"{where}/{key}: {found[key]!r}, expected no such key"
            else:
                yield from differences(wanted[key], found[key], f"{where}/{key}")
    elif isinstance(wanted, list) and isinstance(found, list):
        yield from _list_differences(wanted, found, where)
    elif type(wanted) is not type(found) or wanted != found:
        yield f"{where}: {found!r}, expected {wanted!r}"


def _list_differences(wanted: list[Any], found: list[Any], where: str) -> Iterator[str]:
    missing = [part for part in wanted if part not in found]
    unexpected = [part for part in found if part not in wanted]
    for part, other in zip(missing, unexpected, strict=False):
        yield from differences(part, other, f"{where}/*")
    for part in missing[len(unexpected) :]:
        yield f"{where}: nothing is as {_shown(part)}"
    for part in unexpected[len(missing) :]:
        yield f"{where}: nothing was recorded as {_shown(part)}"
    if not (missing or unexpected) and wanted != found:
        yield f"{where}: another order: {found!r}, expected {wanted!r}"


def _shown(part: Any) -> str:
    return json.dumps(part, sort_keys=True)[:600]


# Indexes


def index_problems(answer: Answer) -> Iterator[str]:
    """Yield what does not hold between the indexes of one answer."""
    if "x-nomad-index" not in answer.headers:
        return
    value = answer.json if answer.status == 200 else None
    if isinstance(value, list):
        indexes = [one.get("ModifyIndex", 0) for one in value]
        if answer.index < max(indexes, default=1):
            yield f"index {answer.index} is before what is listed: {indexes}"
        for one in value:
            yield from _record_problems(one)
    elif isinstance(value, dict):
        expected = value.get("ModifyIndex", value.get("Index"))
        if answer.index != expected:
            yield f"index {answer.index} is not the answer's, {expected}"
        made = value.get("EvalCreateIndex", 0)
        if made not in {0, answer.index}:
            yield f"EvalCreateIndex {made} is not the entry's, {answer.index}"
        yield from _record_problems(value)


def _record_problems(record: dict[str, Any]) -> Iterator[str]:
    created, modified = record.get("CreateIndex", 0), record.get("ModifyIndex", 0)
    changed = record.get("AllocModifyIndex", modified)
    if not created <= changed <= modified:
        yield f"indexes out of order: {created}, {changed}, {modified}"
