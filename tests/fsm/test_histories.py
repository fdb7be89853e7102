"""Whole stories, each a file that reads as one, in the language of `stories.py`."""

from pathlib import Path

import pytest

from tests.fsm.stories import COMMANDS, Story

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.txt"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_told(path):
    Story().play(path.read_text())


def test_every_command_has_its_part():
    told = " ".join(path.read_text() for path in HISTORIES).split()

    assert COMMANDS.keys() <= set(told)


@pytest.mark.parametrize(
    "told",
    [
        "10 node.register id=n1\n-> nothing",
        "10 node.register id=n1\n-> node.registered n2",
        "10 node.register id=n1",
        "10 node.register id=n1\n11 node.evaluate id=n1\n-> nothing",
        "10 node.evaluate id=n1\n-> refused conflict",
        "10 node.register id=n1\n-> node.registered n1\n= n1 ineligible",
        "10 node.register id=n1\n-> node.registered n1\n= n1 modified=11",
        "10 node.register id=n1\n-> node.registered n1\n= n1 gone",
        "10 node.register id=n1\n-> node.registered n1\n= nodes 9",
        "10 node.register id=n1\n-> node.registered n1\n9 node.evaluate id=n1",
        "= n1 eligible",
        "? n1 eligible",
        "+ volume v",
    ],
)
def test_a_story_that_is_not_true_fails(told):
    with pytest.raises(AssertionError):
        Story().play(told)
