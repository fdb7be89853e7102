"""The file with which an operator lets ACLs be bootstrapped once more.

Who has lost every management token writes the number that a bootstrap complains of into
`acl-bootstrap-reset` in the leader's data directory. Whoever can write there can do
anything with this server anyhow.
"""

from collections.abc import Callable
from typing import Final

from nodestate.errors import JournalError
from nodestate.model.question import ResetFileAnswer

RESET_FILE: Final = "acl-bootstrap-reset"
DIGITS_MAX: Final = 20
"""Of a number: no index has more."""

ReadFile = Callable[[str], bytes | None]


def no_file(_: str) -> None:
    """Find nothing: for a server without a directory that anybody writes to."""


class ResetFile:
    """Reads the file anew for each bootstrap: it may be there at any time."""

    def __init__(self, read_file: ReadFile) -> None:
        self._read_file = read_file

    def answer(self) -> ResetFileAnswer:
        """Return the number in the file, 0 where there is none."""
        try:
            content = self._read_file(RESET_FILE)
        except JournalError:
            # Not ours, and so no reason to stop: whatever is there, it is no number.
            content = None
        return ResetFileAnswer(parse_reset_index(content))


def parse_reset_index(content: bytes | None) -> int:
    """Return the number that a file holds, 0 of one that holds none."""
    digits = (content or b"").strip()
    if len(digits) > DIGITS_MAX or not digits.isdigit():
        return 0
    return int(digits)
