"""Plays a recording against a server and compares every answer.

A step is an exchange, an agent's call (`rpc` in the recording, HTTP here) or a note.
Recorded indexes in paths are replaced by the ones that the server gave in their place.
A blocking read is listed behind the write that it waits for, and is started before it.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.compat.comparison import Expected, compare
from tests.compat.deviations import DeviationList
from tests.compat.mapping import IndexMap
from tests.compat.normal import differences, index_problems, normal
from tests.real_server import Answer, HttpClient, attempts

RECORDINGS: Final = Path(__file__).with_name("recordings")
STARTED_BEFORE_S: Final = 0.5
SETTLED_S: Final = 15.0
_INDEX: Final = re.compile(r"(?<=[?&]index=)\d+(?=&|$)")
_WAIT: Final = re.compile(r"[?&]wait=([\d.]+)(ms|s)")


@dataclass(frozen=True)
class Story:
    """What a player has to know about one recording."""

    name: str
    skipped: frozenset[int] = frozenset()
    settles: frozenset[int] = frozenset()
    """Reads that wait until the node is no longer draining."""
    may_be_early: frozenset[int] = frozenset()
    """Reads at once after a drain: it may be under way or over."""
    of_work: frozenset[int] = frozenset()
    """Reads of allocations, whose ids and times are a run's own."""


class Player:
    """One server's story: its map of indexes lives as long as the server does."""

    def __init__(self, server: HttpClient, deviations: DeviationList) -> None:
        self._server = server
        self._deviations = deviations
        self._effective: list[Expected | None] = []

    def play(
        self, story: Story, indexes: IndexMap, secrets: dict[str, str]
    ) -> list[str]:
        """Play all steps; return what differs, a line each, with file and step."""
        steps = read_steps(story.name)
        self._effective = [None] * len(steps)
        problems: list[str] = []
        for number, step in enumerate(steps):
            if (
                number in story.skipped
                or "note" in step
                or self._is_waiting(number, steps)
            ):
                continue
            played = [number]
            if self._is_waiting(number + 1, steps):
                played.append(number + 1)
            for part, answer in zip(
                played,
                self._exchange(story, played, steps, indexes, secrets),
                strict=True,
            ):
                problems += [
                    f"{story.name} {part} ({steps[part]['why']}): {problem}"
                    for problem in self._judge(
                        story, part, steps[part], answer, indexes
                    )
                ]
        return problems + list(self._deviations.unused())

    @staticmethod
    def _is_waiting(number: int, steps: list[dict[str, Any]]) -> bool:
        """Say whether a step is a read that waits for the write listed before it."""
        if number >= len(steps) or not steps[number].get("blocking"):
            return False
        return is_write(steps[number - 1])

    def _exchange(
        self,
        story: Story,
        played: list[int],
        steps: list[dict[str, Any]],
        indexes: IndexMap,
        secrets: dict[str, str],
    ) -> list[Answer]:
        """Send a step's request; with a waiting read beside it, start that one first."""
        sends = [
            self._prepare(number, steps[number], indexes, secrets) for number in played
        ]
        if played[0] in story.settles:
            self._settle(steps[played[0]]["path"])
        if len(sends) == 1:
            return [sends[0]()]
        waited: list[Answer] = []
        reader = threading.Thread(target=lambda: waited.append(sends[1]()))
        reader.start()
        # The recording's own pause: the read has to be waiting when the write comes.
        time.sleep(STARTED_BEFORE_S)
        written = sends[0]()
        reader.join()
        return [written, *waited]

    def _prepare(
        self,
        number: int,
        step: dict[str, Any],
        indexes: IndexMap,
        secrets: dict[str, str],
    ) -> Callable[[], Answer]:
        if "rpc" in step:
            is_register = step["rpc"] == "Node.Register"
            add_secret = is_register or self._deviations.asks_for_secret(number)
            body: object
            method, path, body = agent_request(step, secrets if add_secret else {})
        else:
            method = step["method"]
            body = step.get("body")
            path = _INDEX.sub(lambda m: str(indexes.translate(int(m[0]))), step["path"])
        return lambda: self._server.ask(method, path, body)

    def _settle(self, path: str) -> None:
        for _ in attempts(SETTLED_S):
            if not self._server.get(path).json["Drain"]:
                return

    def _judge(
        self,
        story: Story,
        number: int,
        step: dict[str, Any],
        answer: Answer,
        indexes: IndexMap,
    ) -> list[str]:
        if self._deviations.is_head_of_get(number):
            return head_differences(answer, self._server.get(step["path"]))
        expected = self._deviations.apply(
            number, recorded_answer(step), self._effective
        )
        if number in story.may_be_early and answer.json["Drain"]:
            expected = still_draining(expected)
        self._effective[number] = expected
        if number in story.of_work:
            wanted = replace(expected, text=answer.text)
            problems = list(compare(wanted, answer, indexes, wait_s(step)))
            problems += differences(normal(expected.json), normal(answer.json))
            return problems + list(index_problems(answer))
        return list(compare(expected, answer, indexes, wait_s(step)))


def read_steps(name: str) -> list[dict[str, Any]]:
    """Return the steps of a recording."""
    steps: list[dict[str, Any]] = json.loads((RECORDINGS / f"{name}.json").read_text())[
        "steps"
    ]
    return steps


def is_write(step: dict[str, Any]) -> bool:
    """Say whether a step asks for a change."""
    return "rpc" in step or step.get("method") in {"PUT", "POST", "DELETE"}


def agent_request(
    step: dict[str, Any], secrets: dict[str, str]
) -> tuple[str, str, dict[str, Any]]:
    """Return an agent's call as HTTP; `secrets` remembers the last one of each node.

    The secret of an unknown node is any: the node is what is missing.
    """
    request = step["request"]
    if step["rpc"] == "Node.Register":
        node = request.get("Node")
        if node is not None and not step.get("error"):
            secrets[node["ID"]] = node["SecretID"]
        return "PUT", "/v1/nodes", {} if node is None else {"Node": node}
    any_secret = next(iter(secrets.values()), None)
    if step["rpc"] == "Node.EmitEvents":
        ((key, events),) = request["NodeEvents"].items()
        rest, tail = {"NodeEvents": events}, "events"
    else:
        key, tail = request["NodeID"], "heartbeat"
        rest = {"Status": request["Status"]}
    secret = secrets.get(key, any_secret)
    if secret is not None:
        rest["SecretID"] = secret
    return "PUT", f"/v1/node/{key}/{tail}", rest


def recorded_answer(step: dict[str, Any]) -> Expected:
    """Return what was recorded, an agent's call as the HTTP answer it is here."""
    if "rpc" in step:
        return _recorded_call(step)
    headers = {name.lower(): value for name, value in step["headers"].items()}
    pretty = re.search(r"[?&]pretty(?!=0)", step["path"])
    return Expected(
        status=step["status"],
        headers=headers,
        json=step.get("json"),
        text=step.get("text"),
        form="pretty" if pretty else "compact",
        elapsed=_recorded_elapsed(step),
        is_write=is_write(step),
    )


def _recorded_call(step: dict[str, Any]) -> Expected:
    vary = {"vary": "Accept-Encoding"}
    if step["error"] is not None:
        content_type = {"content-type": "text/plain; charset=utf-8"}
        return Expected(
            status=500,
            headers={**vary, **content_type},
            text=step["error"],
            is_write=True,
        )
    index = {"x-nomad-index": str(step["response"]["Index"])}
    return Expected(
        status=200,
        headers={**vary, **index, "content-type": "application/json"},
        json=step["response"],
        is_write=True,
    )


def _recorded_elapsed(step: dict[str, Any]) -> str:
    if "elapsed_s" not in step:
        return ""
    if wait_s(step) and step["elapsed_s"] >= wait_s(step):
        return "ran out"
    return "woken" if step.get("blocking") else "at once"


def wait_s(step: dict[str, Any]) -> float:
    """Return how long a read asks to wait, 0 if it does not say."""
    match = _WAIT.search(step.get("path", ""))
    if match is None:
        return 0.0
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def still_draining(expected: Expected) -> Expected:
    """Return what a read sees between a drain and its completion, one entry earlier."""
    node = expected.json
    *events, completed = node["Events"]
    index = events[-1]["CreateIndex"]
    assert index < completed["CreateIndex"]
    strategy = {
        "Deadline": 3_600_000_000_000,
        "ForceDeadline": completed["Timestamp"],
        "IgnoreSystemJobs": True,
        "StartedAt": completed["Timestamp"],
    }
    changed = {
        "Drain": True,
        "DrainStrategy": strategy,
        "Events": events,
        "LastDrain": {**node["LastDrain"], "Status": "draining"},
        "ModifyIndex": index,
    }
    return replace(
        expected,
        json={**node, **changed},
        headers={**expected.headers, "x-nomad-index": str(index)},
    )


def head_differences(answer: Answer, get: Answer) -> list[str]:
    """Return how a HEAD differs from its GET without the body."""
    headers = [
        {name: value for name, value in each.headers.items() if name != "date"}
        for each in (answer, get)
    ]
    problems = []
    if (answer.status, answer.body) != (200, b""):
        problems.append(f"HEAD is {answer.status} with body {answer.body!r}")
    if headers[0] != headers[1]:
        problems.append(f"HEAD has headers {headers[0]}, GET has {headers[1]}")
    return problems
