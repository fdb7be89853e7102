"""Durations as Go writes and reads them: `1h30m`, `250ms`, `1.5s`."""

import re
from decimal import Decimal
from typing import Final

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAX_NS: Final = (1 << 63) - 1
CHARACTERS_MAX: Final = 64
"""No sensible duration is longer, and a long text takes long to read."""
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)", re.ASCII)


def parse_duration_ns(text: str) -> int:
    """Return nanoseconds; `ValueError` with Go's text if it is no duration."""
    invalid = f'time: invalid duration "{text[:CHARACTERS_MAX]}"'
    if len(text) > CHARACTERS_MAX:
        raise ValueError(invalid)
    sign = -1 if text.startswith("-") else 1
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if digits == "0":
        return 0
    total, position = Decimal(0), 0
    while position < len(digits):
        part = _PART.match(digits, position)
        if part is None:
            raise ValueError(invalid)
        number, unit = part.groups()
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS_NS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += Decimal(number) * _UNITS_NS[unit]
        position = part.end()
    if not digits or total > _MAX_NS:
        raise ValueError(invalid)
    return sign * int(total)


def format_duration(ns: int) -> str:
    """Write whole milliseconds in Go's way: `1h0m0s`, `14.25s`, `250ms`."""
    milliseconds = ns // 1_000_000
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
