"""Plays the story of ACLs: who may do what with which token.

Accessors, secrets and times are a run's own. What the server made is bound to what was
recorded when it is first seen, and stands for that from then on, wherever it is: in
headers and paths that are sent, and in answers that come back.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from tests.compat.comparison import Expected, compare, parse_time_ns
from tests.compat.deviations import DeviationList
from tests.compat.mapping import IndexMap
from tests.compat.player import agent_request, read_steps, recorded_answer
from tests.real_server import Answer, HttpClient

STORY: Final = "06-acl"
MADE: Final = ("AccessorID", "SecretID", "CreateTime")
"""What the server makes of a token that is written."""
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class AclPlayer:
    """One server's story."""

    def __init__(self, server: HttpClient, deviations: DeviationList) -> None:
        self._server = server
        self._deviations = deviations
        self._steps = read_steps(STORY)
        self._indexes = IndexMap()
        self._ours: dict[str, str] = {}
        self._effective: list[Expected | None] = [None] * len(self._steps)
        self._manager = ""

    def play(self) -> list[str]:
        """Play all steps; return what differs, a line each."""
        problems: list[str] = []
        for number, step in enumerate(self._steps):
            found = self._play(number, step)
            problems += [f"{STORY} {number} ({step['why']}): {one}" for one in found]
        return problems + list(self._deviations.unused())

    def _play(self, number: int, step: dict[str, Any]) -> list[str]:
        expected = self._deviations.apply(
            number, recorded_answer(step), self._effective
        )
        self._effective[number] = expected
        if step.get("rpc") == "Node.Register":
            return self._register(step, expected)
        headers = {
            name: self._as_ours(text)
            for name, text in step.get("request_headers", {}).items()
        }
        path, body = self._as_ours(step["path"]), step.get("body")
        if body is not None:
            body = json.loads(self._as_ours(json.dumps(body)))
        answer = self._server.ask(step["method"], path, body, headers)
        if step["path"] == "/v1/agent/self" and expected.status == 200:
            return [*_about_the_agent(expected, answer)]
        return self._judge(expected, answer)

    def _register(self, step: dict[str, Any], expected: Expected) -> list[str]:
        """V41: a node is new to the cluster with a token that allows it, or not at all."""
        method, path, body = agent_request(step, {})
        refused = self._server.ask(method, path, body)
        if refused.status != 403:
            return [f"without a token it is {refused.status}, expected 403"]
        headers = {"X-Nomad-Token": self._manager}
        answer = self._server.ask(method, path, body, headers)
        return self._judge(expected, answer)

    def _judge(self, expected: Expected, answer: Answer) -> list[str]:
        if isinstance(expected.json, dict) and answer.status == 200:
            problem = self._bind(expected.json, answer.json)
            if problem:
                return [problem]
        problems = []
        if isinstance(expected.json, list) and "Hash" in str(expected.json[:1]):
            key = "AccessorID" if "AccessorID" in expected.json[0] else "Name"
            listed = [one[key] for one in answer.json]
            if listed != sorted(listed):
                problems.append(f"list is not in the order of {key}: {listed}")
            expected = replace(
                expected, json=sorted(expected.json, key=lambda one: one["Name"])
            )
            in_order = sorted(answer.json, key=lambda one: one["Name"])
            text = json.dumps(in_order, separators=(",", ":"), ensure_ascii=False)
            answer = replace(answer, body=text.encode())
        recorded = replace(answer, body=self._as_recorded(answer.text).encode())
        return problems + list(compare(expected, recorded, self._indexes))

    def _bind(self, wanted: dict[str, Any], found: dict[str, Any]) -> str:
        """Take what a new token is made of; return what is wrong with it."""
        if "SecretID" not in wanted or "AccessorID" not in wanted:
            return ""
        for key in MADE:
            ours = found.get(key, "")
            if wanted[key] in self._ours:
                continue  # seen before: compared like anything else
            if key == "CreateTime":
                parse_time_ns(ours)
            elif not _ID.fullmatch(ours) or ours in self._ours.values():
                return f"{key} {ours!r} is no id of its own"
            self._ours[wanted[key]] = ours
        if not self._manager:
            self._manager = found["SecretID"]
            recorded, ours = (
                f"(reset index: {one['CreateIndex']})" for one in (wanted, found)
            )
            self._ours[recorded] = ours
        return ""

    def _as_ours(self, text: str) -> str:
        for recorded, ours in self._ours.items():
            text = text.replace(recorded, ours)
        return text

    def _as_recorded(self, text: str) -> str:
        for recorded, ours in self._ours.items():
            text = text.replace(ours, recorded)
        return text


def _about_the_agent(expected: Expected, answer: Answer) -> Iterator[str]:
    """V49: what clients read of a server is there, and all of it is of the recorded kind."""
    yield from compare(expected, answer, IndexMap())
    if answer.status != 200:
        return
    found = answer.json
    if found["config"]["ACL"]["Enabled"] is not True:
        yield f"ACLs are not said to be on: {found['config']['ACL']}"
    yield from _of_another_kind(expected.json, found, "")


def _of_another_kind(wanted: Any, found: Any, where: str) -> Iterator[str]:
    """Yield what is of another type than was recorded; there may be more, and less."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in wanted.keys() & found.keys():
            yield from _of_another_kind(wanted[key], found[key], f"{where}/{key}")
    elif wanted is not None and found is not None and type(wanted) is not type(found):
        yield f"{where}: {found!r}, expected something like {wanted!r}"
