"""The list of differences that are meant, and how each changes what is expected.

An entry of `deviations.toml` names a file, the steps (or a kind of steps), a reason, and
what is expected instead. A step that differs without an entry fails, and so does an entry
that makes no difference to a step it names, or to any step of its kind: a list that may
contain anything proves nothing.
"""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.compat.comparison import Expected

DEVIATIONS_PATH: Final = Path(__file__).with_name("deviations.toml")
ERROR_HEADERS: Final = {
    "content-type": "text/plain; charset=utf-8",
    "vary": "Accept-Encoding",
}
DEADLINE_REACHED: Final = {"deadline_reached": "true"}
EVENTS_MAX: Final = 10
_HEAD: Final = {"id", "file", "steps", "kind", "reason"}
_CHANGES: Final = {
    *("status", "text", "text_pattern", "headers"),
    *("json", "set", "like_step", "as_get", "form", "elapsed", "events_last", "rule"),
    *("last_drain", "adds_secret", "drop_headers", "events_total", "event_indexes"),
}


@dataclass(frozen=True)
class Deviation:
    """One entry, for one file."""

    name: str
    file: str
    steps: tuple[int, ...]
    kind: str
    reason: str
    change: dict[str, Any]


def load_deviations() -> list[Deviation]:
    """Return the entries in the order in which they are applied."""
    return [
        _read(entry)
        for entry in tomllib.loads(DEVIATIONS_PATH.read_text())["deviation"]
    ]


def _read(entry: dict[str, Any]) -> Deviation:
    unknown = entry.keys() - _HEAD - _CHANGES
    steps, kind = tuple(entry.get("steps", ())), entry.get("kind", "")
    if unknown or not entry["reason"] or bool(steps) == bool(kind):
        raise ValueError(
            f"deviation {entry}: unknown {unknown}, or not said where or why"
        )
    change = {key: value for key, value in entry.items() if key in _CHANGES}
    return Deviation(entry["id"], entry["file"], steps, kind, entry["reason"], change)


class DeviationList:
    """The entries of one file, and which of them made a difference where."""

    def __init__(self, file: str, entries: list[Deviation]) -> None:
        self._entries = [entry for entry in entries if entry.file == file]
        self._used: set[tuple[int, int]] = set()

    def apply(
        self, step: int, expected: Expected, recorded: list[Expected | None]
    ) -> Expected:
        """Return what is expected of the step, its deviations taken into account."""
        for number, entry in enumerate(self._entries):
            if step not in entry.steps and not _is_of(entry.kind, expected):
                continue
            changed = _changed(entry.change, expected, recorded)
            if changed != expected:
                self._used.add((number, step))
            expected = changed
        return expected

    def asks_for_secret(self, step: int) -> bool:
        """Say whether an agent's call carries the node's SecretID at this step."""
        for number, entry in self._of(step):
            if "adds_secret" in entry.change:
                self._used.add((number, step))
                return True
        return False

    def is_head_of_get(self, step: int) -> bool:
        """Say whether the answer has to be the GET's, without its body."""
        for number, entry in self._of(step):
            if "as_get" in entry.change:
                self._used.add((number, step))
                return True
        return False

    def unused(self) -> Iterator[str]:
        """Yield the entries that made no difference to a step that they name."""
        for number, entry in enumerate(self._entries):
            for step in entry.steps:
                if (number, step) not in self._used:
                    yield f"{entry.file} {step}: {entry.name} made no difference"
            if entry.kind and number not in {used for used, _ in self._used}:
                yield f"{entry.file}: {entry.name} made no difference"

    def _of(self, step: int) -> Iterator[tuple[int, Deviation]]:
        for number, entry in enumerate(self._entries):
            if step in entry.steps:
                yield number, entry


def _is_of(kind: str, expected: Expected) -> bool:
    """Say whether an answer is of a kind of which every step is meant."""
    if kind == "node":
        nodes = expected.json if isinstance(expected.json, list) else [expected.json]
        return any(isinstance(node, dict) and "NodeClass" in node for node in nodes)
    if kind == "full work":
        return any(_full_work(expected))
    if kind == "error of a write":
        return expected.is_write and expected.status >= 400 and expected.status != 405
    return False


def _full_work(expected: Expected) -> Iterator[dict[str, Any]]:
    """Yield the full allocations and evaluations of an answer."""
    shown = expected.json if isinstance(expected.json, list) else [expected.json]
    for record in shown:
        if isinstance(record, dict) and (
            "AllocModifyIndex" in record or _is_evaluation(record)
        ):
            yield record


def _is_evaluation(record: dict[str, Any]) -> bool:
    return "TriggeredBy" in record


def _changed(
    change: dict[str, Any], expected: Expected, recorded: list[Expected | None]
) -> Expected:
    """Apply one entry's changes, the coarse ones first."""
    if "like_step" in change:
        like = recorded[change["like_step"]]
        assert like is not None
        expected = replace(like)
    if "status" in change:
        expected = _with_status(change["status"], expected)
    if "text" in change:
        expected = replace(expected, text=change["text"], text_pattern=None)
    if "headers" in change or "drop_headers" in change:
        dropped = {name.lower() for name in change.get("drop_headers", ())}
        added = {k.lower(): v for k, v in change.get("headers", {}).items()}
        kept = {k: v for k, v in expected.headers.items() if k not in dropped}
        expected = replace(expected, headers={**kept, **added})
    for key in ("text_pattern", "form", "elapsed", "events_last", "events_total"):
        if key in change:
            expected = replace(expected, **{key: change[key]})
    if "json" in change:
        expected = replace(expected, json=json.loads(change["json"]), text=None)
    if "set" in change:
        expected = _with_values(change["set"], expected)
    if "rule" in change:
        expected = RULES[change["rule"]](expected, change)
    return expected


def _with_status(status: int, expected: Expected) -> Expected:
    """An error that takes the place of a success has an error's headers and no JSON."""
    if status >= 400 > expected.status:
        return replace(
            expected, status=status, headers=ERROR_HEADERS, json=None, text=""
        )
    return replace(expected, status=status)


def _with_values(values: dict[str, str], expected: Expected) -> Expected:
    """Put values at paths; `=Key` takes the value of the answer's own `Key`."""
    copy = json.loads(json.dumps(expected.json))
    for path, text in values.items():
        for parent, key in _targets(copy, path.split("/")):
            parent[key] = copy[text[1:]] if text[0] == "=" else json.loads(text)
    return replace(expected, json=copy)


def _targets(value: Any, path: list[str]) -> Iterator[tuple[Any, Any]]:
    """Yield container and key of what a path means; `*` is every element of a list.

    `Key=value` is every element of a list whose `Key` has that value.
    """
    head, *rest = path
    if not isinstance(value, list):
        if not rest:
            yield value, head
        else:
            yield from _targets(value[head], rest)
        return
    key, _, wanted = head.partition("=")
    for element in value:
        if head == "*" or str(element[key]) == wanted:
            yield from _targets(element, rest)


def _with_later_fields(expected: Expected, change: dict[str, Any]) -> Expected:
    """V34: what later versions show of a node, in the record and in the list."""
    last_drains = change.get("last_drain", {})

    def add(node: dict[str, Any]) -> dict[str, Any]:
        last_drain = json.loads(last_drains.get(node["ID"], "null"))
        added = {"LastDrain": last_drain, "NodePool": "default"}
        return {"HostVolumes": None, **node, **added}

    if isinstance(expected.json, list):
        return replace(expected, json=[add(node) for node in expected.json])
    return replace(expected, json=add(expected.json))


def _completed_once(expected: Expected, change: dict[str, Any]) -> Expected:
    """V39: without the second completions the list goes further back, to ten in all."""
    node = expected.json
    kept = [event for event in node["Events"] if event["Details"] != DEADLINE_REACHED]
    index = node["ModifyIndex"]
    if index == node["Events"][-1]["CreateIndex"]:
        index = kept[-1]["CreateIndex"]
    headers = {**expected.headers, "x-nomad-index": str(index)}
    return replace(
        expected,
        headers=headers,
        json={**node, "Events": kept, "ModifyIndex": index},
        events_last=len(kept),
        events_total=EVENTS_MAX,
    )


def _without_events(expected: Expected, change: dict[str, Any]) -> Expected:
    """Leave out the events of a write that does not happen here."""
    node = expected.json
    kept = [
        event
        for event in node["Events"]
        if event["CreateIndex"] not in change["event_indexes"]
    ]
    return replace(expected, json={**node, "Events": kept})


def _every_key(expected: Expected, change: dict[str, Any]) -> Expected:
    """V35: what has no value is there all the same."""
    copy = replace(expected, json=json.loads(json.dumps(expected.json)))
    for record in _full_work(copy):
        zeros = EVALUATION_ZEROS if _is_evaluation(record) else ALLOCATION_ZEROS
        record.update(zeros | record)
    return copy


def _no_deployments(expected: Expected, change: dict[str, Any]) -> Expected:
    """V42: nothing is deployed, so no version of a job becomes stable."""
    copy = replace(expected, json=json.loads(json.dumps(expected.json)))
    for record in _full_work(copy):
        record["DeploymentID"] = ""
        if "Job" in record:
            record["Job"]["Stable"] = False
    return copy


def _job_as_registered(expected: Expected, change: dict[str, Any]) -> Expected:
    """Show the job of an allocation as it was when its version was registered."""
    copy = replace(expected, json=json.loads(json.dumps(expected.json)))
    for record in _full_work(copy):
        if "Job" in record:
            record["Job"]["Status"] = "pending"
    return copy


ALLOCATION_ZEROS: Final = {
    **dict.fromkeys(("ClientDescription", "DeploymentID", "DesiredDescription"), ""),
    **dict.fromkeys(("FollowupEvalID", "NextAllocation", "NodeName"), ""),
    **dict.fromkeys(("PreemptedByAllocation", "PreviousAllocation"), ""),
    **dict.fromkeys(("DeploymentStatus", "Metrics", "PreemptedAllocations")),
    **dict.fromkeys(("RescheduleTracker", "TaskStates")),
    "DesiredTransition": {"ForceReschedule": None, "Migrate": None, "Reschedule": None},
}
EVALUATION_ZEROS: Final = {
    **dict.fromkeys(("BlockedEval", "DeploymentID", "NextEval", "NodeID"), ""),
    **dict.fromkeys(("PreviousEval", "QuotaLimitReached", "StatusDescription"), ""),
    **dict.fromkeys(("JobModifyIndex", "NodeModifyIndex", "SnapshotIndex", "Wait"), 0),
    **dict.fromkeys(("AnnotatePlan", "EscapedComputedClass"), False),
    **dict.fromkeys(("ClassEligibility", "FailedTGAllocs", "QueuedAllocations")),
    "WaitUntil": None,
}

RULES: Final = {
    "every_key": _every_key,
    "job_as_registered": _job_as_registered,
    "no_deployments": _no_deployments,
    "completed_once": _completed_once,
    "later_fields": _with_later_fields,
    "without_events": _without_events,
}
