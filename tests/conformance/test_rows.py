"""Every row of the checklist is tested, or it says why it is not."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
CHECKLIST = tomllib.loads((FOLDER / "rows.toml").read_text())


def covered_rows() -> Iterator[str]:
    for path in FOLDER.glob("test_*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            named = {"rows": call.args, "case": call.args[:1]}.get(call.func.id, [])
            yield from (str(ast.literal_eval(argument)) for argument in named)


ROWS = {
    f"{section}{number}"
    for section, count in CHECKLIST["ids"].items()
    for number in range(1, count + 1)
}


def test_every_row_is_tested_or_excused():
    assert {*covered_rows()} | CHECKLIST["not_here"].keys() == ROWS


def test_no_row_is_both():
    assert {*covered_rows()} & CHECKLIST["not_here"].keys() == set()


def test_every_excuse_says_why():
    assert all(CHECKLIST["not_here"].values())
