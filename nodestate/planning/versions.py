"""Versions, and the constraints on them that jobs write: `>= 1.2, < 2`.

Two orders of one kind of version: `version` keeps pre-releases away from whoever did not
ask for one, `semver` takes them as what they are, a little less than the release. What
cannot be parsed satisfies nothing. Build metadata is never looked at.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

TEXT_LENGTH_MAX: Final = 256
DIGITS_MAX: Final = 18
"""A longer number is no version: Nomad's do not fit 64 bits either."""
REMEMBERED_MAX: Final = 4_096
SEGMENTS_MIN: Final = 3

_SEGMENTS: Final = r"v?(?P<segments>[0-9]+(?:\.[0-9]+)*)"
_BUILD: Final = r"(?:\+[0-9A-Za-z~.-]+)?"
# A letter may follow the number at once (`1.3beta`), but not in strict SemVer.
_LENIENT: Final = re.compile(
    rf"{_SEGMENTS}(?:-?(?P<letters>[A-Za-z~][0-9A-Za-z~.-]*)|-(?P<rest>[0-9A-Za-z~.-]+))?{_BUILD}"
)
_STRICT: Final = re.compile(
    rf"{_SEGMENTS}(?:(?P<letters>)-(?P<rest>[0-9A-Za-z~.-]+))?{_BUILD}"
)
_CLAUSE: Final = re.compile(r"\s*(?P<operator>=|!=|>=|<=|~>|>|<|)\s*(?P<text>\S+)\s*")


class Version(NamedTuple):
    """One version: its numbers, at least three, and the pre-release's parts."""

    segments: tuple[int, ...]
    pre_release: tuple[str, ...]
    written_count: int
    """How many of the numbers were written, and not filled up with zeros."""

    @property
    def rank(self) -> tuple[tuple[int, ...], int, list[tuple[int, int, str]]]:
        """Return what orders versions, as SemVer does: a release is above its own."""
        numbers = list(self.segments)
        while len(numbers) > SEGMENTS_MIN and not numbers[-1]:
            numbers.pop()
        is_release = 0 if self.pre_release else 1
        return tuple(numbers), is_release, [_part_rank(x) for x in self.pre_release]


def _part_rank(part: str) -> tuple[int, int, str]:
    """Return the order of a pre-release's parts: numbers, by size, come before words."""
    if part.isdigit() and len(part) <= DIGITS_MAX:
        return 0, int(part), ""
    return 1, 0, part


def parse_version(text: str, *, is_strict: bool = False) -> Version | None:
    """Return the version that the text is, `None` if it is none."""
    text = text.strip()
    if len(text) > TEXT_LENGTH_MAX:
        return None
    match = (_STRICT if is_strict else _LENIENT).fullmatch(text)
    if match is None:
        return None
    written = match["segments"].split(".")
    if any(len(number) > DIGITS_MAX for number in written):
        return None
    pre_release = match["letters"] or match["rest"]
    parts = tuple(pre_release.split(".")) if pre_release else ()
    if not all(parts):
        return None
    zeros = (0,) * (SEGMENTS_MIN - len(written))
    return Version(tuple(map(int, written)) + zeros, parts, len(written))


def _may_compare(version: Version, wanted: Version) -> bool:
    """Say whether the pre-release of one is an answer to the other at all."""
    if not version.pre_release:
        return True
    return bool(wanted.pre_release) and version.segments == wanted.segments


def _is_pessimistic(version: Version, wanted: Version) -> bool:
    """Say whether it is at least that, and nothing but the last number differs."""
    if wanted.pre_release and not version.pre_release:
        return False
    if len(version.segments) < len(wanted.segments):
        return False
    fixed = wanted.written_count - 1
    return (
        _may_compare(version, wanted)
        and version.rank >= wanted.rank
        and version.segments[:fixed] == wanted.segments[:fixed]
    )


_Comparison = Callable[[Version, Version], bool]

_SEMVER: Final[dict[str, _Comparison]] = {
    "": lambda version, wanted: version.rank == wanted.rank,
    "=": lambda version, wanted: version.rank == wanted.rank,
    "!=": lambda version, wanted: version.rank != wanted.rank,
    ">": lambda version, wanted: version.rank > wanted.rank,
    "<": lambda version, wanted: version.rank < wanted.rank,
    ">=": lambda version, wanted: version.rank >= wanted.rank,
    "<=": lambda version, wanted: version.rank <= wanted.rank,
}


def _guarded(comparison: _Comparison) -> _Comparison:
    return lambda version, wanted: (
        _may_compare(version, wanted) and comparison(version, wanted)
    )


# Being another version is all that `!=` asks, of a pre-release as well.
_VERSION: Final[dict[str, _Comparison]] = {
    **{operator: _guarded(comparison) for operator, comparison in _SEMVER.items()},
    "!=": _SEMVER["!="],
    "~>": _is_pessimistic,
}


@lru_cache(maxsize=REMEMBERED_MAX)
def satisfies_version(text: str, constraint: str) -> bool:
    """Say whether the version satisfies every clause of a constraint."""
    return _satisfies(parse_version(text), constraint, _VERSION, is_strict=False)


@lru_cache(maxsize=REMEMBERED_MAX)
def satisfies_semver(text: str, constraint: str) -> bool:
    """Say the same by the order of SemVer; there is no `~>` in it."""
    version = parse_version(text, is_strict=True)
    return _satisfies(version, constraint, _SEMVER, is_strict=True)


def _satisfies(
    version: Version | None,
    constraint: str,
    comparisons: dict[str, _Comparison],
    *,
    is_strict: bool,
) -> bool:
    if version is None or len(constraint) > TEXT_LENGTH_MAX:
        return False
    for clause in constraint.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None or match["operator"] not in comparisons:
            return False
        wanted = parse_version(match["text"], is_strict=is_strict)
        if wanted is None or not comparisons[match["operator"]](version, wanted):
            return False
    return True
