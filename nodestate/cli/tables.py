"""Text for people: columns, key and value, short ids, sizes and points in time."""

from collections.abc import Iterable, Sequence
from typing import Final

from nodestate.model.timestamp import NANOSECONDS, format_rfc3339

NONE: Final = "<none>"
SHORT_ID: Final = 8
FULL_ID: Final = 36
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_PERIODS: Final = (("y", 360 * 86_400), ("mo", 30 * 86_400), ("d", 86_400))
_CLOCK: Final = (("h", 3600), ("m", 60), ("s", 1))


def columns(
    rows: Sequence[Sequence[str]], *, glue: str = "  ", empty: str = NONE
) -> str:
    """Align the columns of a table; the last one is not padded."""
    cleaned = [[_clean(cell) or empty for cell in row] for row in rows]
    widths: list[int] = []
    for row in cleaned:
        widths += [0] * (len(row) - len(widths))
        for column, cell in enumerate(row):
            widths[column] = max(widths[column], len(cell))
    return "\n".join(
        glue.join(
            [
                *(cell.ljust(widths[n]) for n, cell in enumerate(row[:-1])),
                row[-1] if row else "",
            ]
        )
        for row in cleaned
    )


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Write `key = value` lines with the equals signs below each other."""
    return columns(list(rows), glue=" = ")


def _clean(cell: str) -> str:
    """Let nobody who names a node write to the terminal of whoever lists it."""
    text = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for letter in cell
    )
    return text.strip()


def short_id(text: str, *, verbose: bool) -> str:
    """Return the first eight characters of an id, or all of it."""
    return text[: FULL_ID if verbose else SHORT_ID]


def yes_no(value: bool) -> str:
    """Write a boolean as Go does."""
    return "true" if value else "false"


def size(count: int) -> str:
    """Write a number of bytes in binary units, with one digit below ten."""
    if count < 10:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS) - 1)
    tenths = (count * 10 * 2 // (1 << (10 * power)) + 1) // 2
    number = f"{tenths / 10:.1f}" if tenths < 100 else f"{tenths / 10:.0f}"
    return f"{number} {_UNITS[power]}"


def point_in_time(ns: int) -> str:
    """Write a point in time in whole seconds of UTC, and nothing for none."""
    if ns < NANOSECONDS:
        return ""
    return format_rfc3339(ns - ns % NANOSECONDS) or ""


def age(then_ns: int, now_ns: int) -> str:
    """Write how long ago something was, in its two greatest units."""
    if then_ns == 0:
        return ""
    seconds = round(now_ns / NANOSECONDS) - round(then_ns / NANOSECONDS)
    suffix = "ago" if seconds >= 0 else "from now"
    seconds = abs(seconds)
    parts = []
    for unit, length in (*_PERIODS, *_CLOCK):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return f"{''.join(parts[:2]) or '0s'} {suffix}"
