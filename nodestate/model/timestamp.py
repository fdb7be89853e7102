"""A point in time as it is sent: RFC 3339 with up to nine digits, or `null` for none."""

import re
from typing import Final

from typing_extensions import override

NANOSECONDS: Final = 1_000_000_000
_DAYS_TO_EPOCH: Final = 719_468  # from 0000-03-01, where the calendar below starts
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?"
    r"(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_DAYS_IN_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Timestamp:
    """Unix nanoseconds; zero means "no time" and is sent as `null`."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    @override
    def __eq__(self, other: object) -> bool:
        """Equal when they are the same nanosecond."""
        return isinstance(other, Timestamp) and other.ns == self.ns

    @override
    def __hash__(self) -> int:
        """Hash as the integer does."""
        return hash(self.ns)

    @override
    def __repr__(self) -> str:
        """Show the text that would be sent."""
        return f"Timestamp({format_rfc3339(self.ns)!r})"


NO_TIME: Final = Timestamp(0)


def format_rfc3339(ns: int) -> str | None:
    """Return the UTC text of a point in time, `None` for zero.

    Done by hand on integers: a float or a microsecond type would lose digits.
    """
    if ns == 0:
        return None
    seconds, fraction = divmod(ns, NANOSECONDS)
    days, second_of_day = divmod(seconds, 86_400)
    year, month, day = _civil_from_days(days)
    hour, rest = divmod(second_of_day, 3600)
    minute, second = divmod(rest, 60)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{digits}Z"


def parse_rfc3339(text: str) -> int:
    """Return the Unix nanoseconds of an RFC 3339 text; `ValueError` if it is none."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"expected an RFC 3339 time, found {text[:64]!r}")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= _DAYS_IN_MONTH[month - 1]):
        raise ValueError(f"no such day: {text[:64]!r}")
    if month == 2 and day == 29 and not _is_leap(year):
        raise ValueError(f"no such day: {text[:64]!r}")
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"no such time of day: {text[:64]!r}")
    offset_s = 0
    if match[8]:
        offset_s = int(match[9]) * 3600 + int(match[10]) * 60
        offset_s = offset_s if match[8] == "+" else -offset_s
    seconds = _days_from_civil(year, month, day) * 86_400
    seconds += hour * 3600 + minute * 60 + second - offset_s
    ns = seconds * NANOSECONDS + int((match[7] or "0").ljust(9, "0"))
    # Go's zero time, which some clients send for "none".
    return 0 if year == 1 else ns


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Count the days since 1970-01-01; years begin in March so that leap days are last."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - _DAYS_TO_EPOCH


def _civil_from_days(days: int) -> tuple[int, int, int]:
    """Undo `_days_from_civil`."""
    era, day_of_era = divmod(days + _DAYS_TO_EPOCH, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (
        365 * year_of_era + year_of_era // 4 - year_of_era // 100
    )
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return era * 400 + year_of_era + (month <= 2), month, day
