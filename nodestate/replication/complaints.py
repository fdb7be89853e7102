"""What addresses do wrong: every time counted, and logged seldom enough to be read."""

from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

ADDRESSES_MAX: Final = 256
"""Addresses that are remembered one by one; whoever comes after is one of "others"."""


class Complaints:
    """The book of one listener: `count` is called for every entry."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._counts: dict[str, int] = {}

    def note(self, host: str, reason: str) -> None:
        """Count what an address does wrong; log the first, tenth, hundredth time."""
        self._count()
        if host not in self._counts and len(self._counts) >= ADDRESSES_MAX:
            host = "others"
        count = self._counts.get(host, 0) + 1
        self._counts[host] = count
        if str(count).strip("0") == "1":
            log.warning(
                "peer connection refused", remote=host, reason=reason, count=count
            )
