"""How tokens, policies and roles are written for people."""

import pytest

from nodestate.cli.acl_views import go_time, printable


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0001-01-01 00:00:00 +0000 UTC"),
        (1_700_000_000_000_000_000, "2023-11-14 22:13:20 +0000 UTC"),
        (1_700_000_000_120_000_000, "2023-11-14 22:13:20.12 +0000 UTC"),
    ],
)
def test_times_are_as_go_prints_them(ns, text):
    assert go_time(ns) == text


def test_rules_cannot_write_to_a_terminal():
    assert printable('a {\n\tb\x1b[2J\r"é"}') == 'a {\n\tb\ufffd[2J\ufffd"é"}'
