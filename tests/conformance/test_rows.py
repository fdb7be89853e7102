"""Every row of the checklists is tested, or it says why it is not."""

import ast
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CHECKLISTS = tomllib.loads((FOLDER / "rows.toml").read_text())


def shown_in(paths: Iterable[Path], whole: str, line: str) -> Iterator[str]:
    """Yield the rows that files show: all arguments of `whole`, the first of `line`."""
    for path in paths:
        text = path.read_text()
        # Most files have neither, and parsing all takes seconds.
        if f"{whole}(" not in text and f"{line}(" not in text:
            continue
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call):
                taken = {whole: call.args, line: call.args[:1]}
                named = taken.get(ast.unparse(call.func), [])
                for argument in named:
                    yield str(ast.literal_eval(argument)).partition(":")[0]


def shown_rows(checklist: str) -> set[str]:
    if checklist == "nodes_api":
        return {*shown_in(FOLDER.glob("test_*.py"), "rows", "case")}
    everywhere = FOLDER.parent.rglob("test_*.py")
    return {*shown_in(everywhere, "pytest.mark.row", "example")}


def listed_rows(checklist: str) -> set[str]:
    """Return the ids of all rows: `["1-3", "5b"]` of RC is RC1, RC2, RC3 and RC5b."""
    return {
        f"{section}{number}"
        for section, parts in CHECKLISTS[checklist]["ids"].items()
        for part in parts
        for number in expanded(part)
    }


def expanded(part: str) -> list[str]:
    first, dash, last = part.partition("-")
    return (
        [str(number) for number in range(int(first), int(last) + 1)] if dash else [part]
    )


both = pytest.mark.parametrize("checklist", CHECKLISTS)


@both
def test_every_row_is_tested_or_excused(checklist):
    excused = CHECKLISTS[checklist]["not_here"].keys()

    assert shown_rows(checklist) | excused == listed_rows(checklist)


@both
def test_no_row_is_both(checklist):
    excused = CHECKLISTS[checklist]["not_here"].keys()

    assert shown_rows(checklist) & excused == set()


@both
def test_every_excuse_says_why(checklist):
    assert all(CHECKLISTS[checklist]["not_here"].values())
