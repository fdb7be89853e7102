"""The file with which ACLs are bootstrapped once more."""

import pytest

from nodestate.errors import JournalError
from nodestate.leader.resets import RESET_FILE, ResetFile, no_file, parse_reset_index
from nodestate.model.question import ResetFileAnswer


@pytest.mark.parametrize(
    ("content", "index"),
    [
        (b"52", 52),
        (b" 52\r\n", 52),
        (None, 0),
        (b"", 0),
        (b"-52", 0),
        (b"5 2", 0),
        (b"0x34", 0),
        ("٥٢".encode(), 0),
        (b"\xff", 0),
        (b"1" * 20, int("1" * 20)),
        (b"1" * 21, 0),
        (b"1" * 1_000_000, 0),
    ],
)
def test_only_a_number_is_one(content, index):
    assert parse_reset_index(content) == index


def test_the_file_is_read_each_time():
    files = {RESET_FILE: b"1\n"}
    reset_file = ResetFile(files.get)

    assert reset_file.answer() == ResetFileAnswer(1)

    files[RESET_FILE] = b"2\n"

    assert reset_file.answer() == ResetFileAnswer(2)


def test_a_file_that_cannot_be_read_asks_for_nothing():
    def fail(name: str) -> bytes:
        raise JournalError(f"{name}: is a directory")

    assert ResetFile(fail).answer() == ResetFileAnswer(0)
    assert ResetFile(no_file).answer() == ResetFileAnswer(0)
