"""Plays the story of work: jobs, drains that move them, nodes that go.

Where allocations land is the server's choice, so the story's nodes are roles: a node
that runs what the recorded one ran. What agents report is not played step by step; they
report what there is to report wherever the recorded ones did.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from tests.compat.comparison import Expected, compare
from tests.compat.deviations import DeviationList
from tests.compat.mapping import IndexMap
from tests.compat.normal import differences, index_problems, normal
from tests.compat.player import agent_request, read_steps, recorded_answer
from tests.real_server import Answer, HttpClient, attempts

ALPHA: Final = "f7476465-4d6e-c0de-26d0-e383c49be941"
BETA: Final = "f7470000-1111-2222-3333-444444444444"
GAMMA: Final = "0a1b2c3d-5555-6666-7777-888888888888"
REGISTERED: Final = {ALPHA: 0, BETA: 2, GAMMA: 4}
"""The step at which each node is registered."""
COUNTS: Final = {8: 3, 9: 1, 10: 1, 11: 3, 18: 3, 37: 4, 44: 3, 45: 1, 99: 2, 111: 0}
"""How many records lists have, wherever allocations land."""
AT_ONCE: Final = frozenset({65})
"""Reads of what passes; all others are of what will be and stay so."""
COMES_TRUE_S: Final = 15.0
QUIET_S: Final = 1.0
"""How long agents with nothing to report wait for more to do."""


class WorkPlayer:
    """One server's story."""

    def __init__(self, server: HttpClient, deviations: DeviationList) -> None:
        self._server = server
        self._deviations = deviations
        self._steps = read_steps("04-work")
        self._secrets: dict[str, str] = {}
        self._agents = WorkAgents(server, self._secrets)
        self._roles: list[tuple[range, str, Callable[[], str]]] = [
            (range(24, 39), BETA, lambda: self._node_of("web")),
            (range(47, 63), ALPHA, lambda: self._node_of("bat")),
            (range(64, 82), GAMMA, lambda: self._node_of("bat")),
            (range(83, 89), BETA, lambda: self._node_of("bat")),
        ]
        self._players: dict[int, str] = {}
        self._past: set[str] = set()

    def play(self) -> list[str]:
        """Play all steps; return what differs, a line each."""
        problems: list[str] = []
        for number, step in enumerate(self._steps):
            if "note" in step:
                continue
            if step.get("rpc") == "Node.UpdateAlloc":
                if self._steps[number - 1].get("rpc") != "Node.UpdateAlloc":
                    self._agents.report_all()
                self._deviations.asks_for_secret(number)
                continue
            found = self._play(number, step)
            problems += [f"04-work {number} ({step['why']}): {one}" for one in found]
        return problems + list(self._deviations.unused())

    def _play(self, number: int, step: dict[str, Any]) -> list[str]:
        recorded_id, node_id = self._role(number)
        expected = self._deviations.apply(number, recorded_answer(step), [])
        method, path, body = self._request(number, step, recorded_id, node_id)
        answer = self._server.ask(method, path, body)
        problems = [*self._judge(number, expected, answer)]
        if problems and method == "GET" and number not in AT_ONCE:
            for _ in attempts(COMES_TRUE_S):
                answer = self._server.ask(method, path, body)
                problems = [*self._judge(number, expected, answer)]
                if not problems:
                    break
        return problems

    def _request(
        self, number: int, step: dict[str, Any], recorded_id: str, node_id: str
    ) -> tuple[str, str, Any]:
        if step.get("rpc") == "Node.Register":
            step = self._steps[REGISTERED[node_id or _id_of(step)]]
            return agent_request(step, self._secrets)
        if "rpc" in step:
            secrets = self._secrets if self._deviations.asks_for_secret(number) else {}
            method, path, body = agent_request(
                {**step, "request": {**step["request"], "NodeID": node_id}}, secrets
            )
            return method, path, body
        path = (
            step["path"].replace(recorded_id, node_id) if recorded_id else step["path"]
        )
        return step["method"], path, step.get("body")

    def _judge(self, number: int, expected: Expected, answer: Answer) -> Iterator[str]:
        is_json = expected.text is None and expected.text_pattern is None
        headers = dict(expected.headers)
        if headers.get("x-nomad-index", "0") != "0":
            headers["x-nomad-index"] = ">=1"
        wanted = replace(expected, headers=headers)
        if is_json and answer.status == expected.status:
            # The body is compared in a form of its own.
            wanted = replace(wanted, text=answer.text)
        yield from compare(wanted, answer, IndexMap())
        if is_json and answer.status == expected.status:
            found = answer.json
            if "/v1/node/" in self._steps[number].get("path", ""):
                found = self._without_past(found, expected.json)
            yield from differences(normal(expected.json), normal(found))
            yield from index_problems(answer)
            count = COUNTS.get(number)
            if count is not None and len(answer.json) != count:
                yield f"{len(answer.json)} records, expected {count}"

    # Roles

    def _without_past(self, found: Any, wanted: Any) -> Any:
        """Leave out what a node had behind it when it took its role over."""
        if isinstance(found, dict) and "Events" in found:
            first, *events = found["Events"]
            kept = events[len(events) - len(wanted["Events"]) + 1 :]
            return {**found, "Events": [first, *kept]}
        if isinstance(found, list):
            return [one for one in found if one.get("ID") not in self._past]
        return found

    def _take_role(self, node_id: str) -> str:
        listed = self._server.get(f"/v1/node/{node_id}/allocations").json
        over = {one["ID"] for one in listed if one["ClientStatus"] == "complete"}
        self._past = over
        return node_id

    def _role(self, number: int) -> tuple[str, str]:
        """Return the node that the recorded step is about, and ours in its place."""
        for place, (steps, recorded_id, choose) in enumerate(self._roles):
            if number in steps:
                if place not in self._players:
                    self._players[place] = self._take_role(choose())
                return recorded_id, self._players[place]
        self._past = set()
        return "", ""

    def _node_of(self, job_id: str) -> str:
        listed = self._server.get(f"/v1/job/{job_id}/allocations").json
        wanted = [one["NodeID"] for one in listed if one["DesiredStatus"] == "run"]
        return BETA if BETA in wanted and job_id == "web" else str(wanted[0])


class WorkAgents:
    """The agents of the story's nodes; `secrets` has what each proves itself by."""

    def __init__(self, server: HttpClient, secrets: dict[str, str]) -> None:
        self._server = server
        self._secrets = secrets

    def report_all(self) -> None:
        """Report what there is to report until nothing more comes of it."""
        is_quiet = False
        while not is_quiet:
            is_quiet = True
            for _ in attempts(QUIET_S):
                if sum(self.report(node_id) for node_id in self._secrets):
                    is_quiet = False
                    break

    def report_until(self, node_id: str, count: int, *, is_healthy: bool) -> None:
        """Report of a node until so many allocations have been reported."""
        for _ in attempts(COMES_TRUE_S):
            count -= self.report(node_id, is_healthy=is_healthy)
            if count <= 0:
                return
        raise AssertionError(f"{count} more allocations were to come on {node_id}")

    def report(self, node_id: str, *, is_healthy: bool = True) -> int:
        """Report what is new on a node, if it is there and up; return how much that is."""
        node = self._server.get(f"/v1/node/{node_id}")
        if node.status != 200 or node.json["Status"] == "down":
            return 0
        path = f"/v1/node/{node_id}/allocations"
        sent = [
            report
            for one in self._server.get(path).json
            for report in _news_of(one, is_healthy=is_healthy)
        ]
        if sent:
            body = {"SecretID": self._secrets[node_id], "Alloc": sent}
            answer = self._server.put(path, body)
            assert answer.status == 200, answer.text
        return len(sent)


def _id_of(step: dict[str, Any]) -> str:
    return str(step["request"]["Node"]["ID"])


def _news_of(
    allocation: dict[str, Any], *, is_healthy: bool
) -> Iterator[dict[str, Any]]:
    """Yield what a recorded agent would report of an allocation."""
    status = allocation["ClientStatus"]
    if allocation["DesiredStatus"] == "run" and status == "pending":
        report = _report_of(allocation, "running", "running")
        yield (
            {**report, "DeploymentStatus": {"Healthy": True}} if is_healthy else report
        )
    elif allocation["DesiredStatus"] == "stop" and status in {"pending", "running"}:
        yield _report_of(allocation, "complete", "dead")


def _report_of(allocation: dict[str, Any], status: str, state: str) -> dict[str, Any]:
    return {
        "ID": allocation["ID"],
        "ClientStatus": status,
        "TaskStates": {"app": {"State": state, "Failed": False, "Restarts": 0}},
    }


# What the story of blocking queries begins with


def begin_with_work(server: HttpClient) -> dict[str, str]:
    """Do what leaves no choice where allocations land; return the nodes' secrets.

    After it alpha runs `sys` and `bat`, and `web`, which is gone and was not reported
    to have stopped; beta came last and runs `sys`; `big` waits for room.
    """
    steps = read_steps("04-work")
    secrets: dict[str, str] = {}
    agents = WorkAgents(server, secrets)
    server.ask(*agent_request(steps[0], secrets))
    for step in (39, 40, 6, 98):
        assert server.put("/v1/jobs", steps[step]["body"]).status == 200
    agents.report_until(ALPHA, 5, is_healthy=False)
    server.ask(*agent_request(steps[87], secrets))
    agents.report_until(BETA, 1, is_healthy=False)
    assert server.ask("DELETE", "/v1/job/web?purge=true").status == 200
    _wait_for(server, "web", "stop", 3)
    return secrets


def _wait_for(server: HttpClient, job_id: str, desired: str, count: int) -> None:
    path = f"/v1/job/{job_id}/allocations?all=true"
    for _ in attempts(COMES_TRUE_S):
        listed = server.get(path).json
        if sum(one["DesiredStatus"] == desired for one in listed) == count:
            return
