"""What a real Nomad answered, step for step, against a real server process."""

from pathlib import Path
from typing import Final

import pytest

from tests.compat.acl import AclPlayer
from tests.compat.deviations import DeviationList, load_deviations
from tests.compat.mapping import IndexMap
from tests.compat.player import Player, Story, agent_request, read_steps
from tests.compat.work import WorkPlayer, begin_with_work
from tests.real_server import HttpClient, running_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("one server")]

NODES: Final = (
    Story("01-nodes"),
    Story("02-eligibility"),
    Story(
        "03-drain-empty",
        settles=frozenset({2, 21, 23, 25, 27, 29, 31, 39, 41, 43}),
        may_be_early=frozenset({1}),
    ),
)
BLOCKING: Final = Story("05-blocking", of_work=frozenset({37, 39}))

# What is left out asks for the caller's token where there are no ACLs.
STATUS: Final = Story("07-status", skipped=frozenset({11}))
TWO_NODES: Final = (0, 87)
"""The steps of 04 that register what 07 looks for."""


def test_nodes_eligibility_and_drains_are_answered_as_recorded(tmp_path: Path) -> None:
    """The three stories are one server's, each going on where the one before ended."""
    with running_server(tmp_path) as server:
        problems = play(server, NODES, secrets={})

    assert problems == []


def test_work_is_answered_as_recorded(tmp_path: Path) -> None:
    """Jobs, drains that move what runs, forced and not, nodes that go and come back."""
    with running_server(tmp_path, heartbeat_grace_s=3600) as server:
        player = WorkPlayer(server, DeviationList("04-work", load_deviations()))
        problems = player.play()

    assert problems == []


def test_blocking_queries_are_answered_as_recorded(tmp_path: Path) -> None:
    """The story begins with two nodes that are eligible, and some work."""
    with running_server(tmp_path, heartbeat_grace_s=3600) as server:
        secrets = begin_with_work(server)
        problems = play(server, (BLOCKING,), secrets)

    assert problems == []


def test_acls_are_answered_as_recorded(tmp_path: Path) -> None:
    """Who may do what with which token, and what each is told."""
    with running_server(tmp_path, acl_enabled=True) as server:
        player = AclPlayer(server, DeviationList("06-acl", load_deviations()))
        problems = player.play()

    assert problems == []


def test_servers_settings_and_search_are_answered_as_recorded(tmp_path: Path) -> None:
    """The story looks for two nodes, and asks a server that is called s1."""
    work = read_steps("04-work")
    with running_server(tmp_path, name="s1") as server:
        for step in TWO_NODES:
            assert server.ask(*agent_request(work[step], {})).status == 200
        problems = play(server, (STATUS,), secrets={})

    assert problems == []


def play(
    server: HttpClient, stories: tuple[Story, ...], secrets: dict[str, str]
) -> list[str]:
    indexes = IndexMap()
    entries = load_deviations()
    problems = []
    for story in stories:
        player = Player(server, DeviationList(story.name, entries))
        problems += player.play(story, indexes, secrets)
    return problems
