"""The player played against an echo: a server that answers what was recorded."""

import json
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from tests.compat.deviations import Deviation, DeviationList
from tests.compat.mapping import IndexMap
from tests.compat.player import Player, Story, read_steps, recorded_answer
from tests.real_server import Answer, HttpClient


class Echo(HttpClient):
    """Answers the recorded steps in their order, whatever it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__("echo:0")
        self._steps = read_steps(name)
        self.asked: list[tuple[str, str, Any]] = []

    @override
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        expected = recorded_answer(self._steps[len(self.asked)])
        self.asked.append((method, path, body))
        text = expected.text
        if text is None and expected.form == "pretty":
            text = json.dumps(expected.json, indent=4) + "\n"
        elif text is None:
            text = json.dumps(expected.json, separators=(",", ":"))
        return Answer(expected.status, dict(expected.headers), text.encode(), 0.0)


def play(name: str, *entries: Deviation) -> tuple[Echo, list[str]]:
    echo = Echo(name)
    player = Player(echo, DeviationList(name, list(entries)))
    problems = player.play(Story(name), IndexMap(), {})
    # The times of the recording are long ago.
    return echo, [each for each in problems if "StatusUpdatedAt" not in each]


def test_what_was_recorded_is_what_is_expected():
    _, problems = play("01-nodes")

    assert problems == []


def test_a_listed_difference_is_expected_and_nothing_else():
    entry = Deviation("V2", "01-nodes", (17,), "", "a reason", {"status": 400})

    _, problems = play("01-nodes", entry)

    assert [each[:11] for each in problems] == ["01-nodes 17"]


def test_an_entry_that_makes_no_difference_is_reported():
    entry = Deviation("V2", "01-nodes", (17,), "", "a reason", {"status": 500})

    _, problems = play("01-nodes", entry)

    assert problems == ["01-nodes 17: V2 made no difference"]


def test_a_kind_of_steps_that_never_comes_is_reported():
    entry = Deviation("V29", "02-eligibility", (), "node", "a reason", {"status": 200})

    _, problems = play("02-eligibility", entry)

    assert problems == ["02-eligibility: V29 made no difference"]


def test_agents_calls_go_to_the_node_with_the_secret_it_registered_with():
    secret = Deviation("V31", "01-nodes", (8,), "", "a reason", {"adds_secret": True})

    echo, _ = play("01-nodes", secret)

    beta = "f7470000-1111-2222-3333-444444444444"
    body = {"SecretID": "6f8d9c11-0000-4000-8000-000000000002", "Status": "ready"}
    assert echo.asked[8] == ("PUT", f"/v1/node/{beta}/heartbeat", body)
    assert echo.asked[78] == ("PUT", "/v1/nodes", {})
