"""Which rows of the checklists a test covers: said where the test stands.

Rows of the Nodes API: `rows` decorates a test of its own, `case` is a line of a
parametrised one; both put the ids of the rows into the test's id. Rows of scheduling:
`pytest.mark.row` decorates a test, `example` is a line of a parametrised one; the ids of
rows that both lists have mean different things. `test_rows.py` finds all in the source.
"""

from typing import Any

import pytest


def rows(*ids: str) -> pytest.MarkDecorator:
    """Say which rows a test covers; the `row` fixture of the folder takes them."""
    return pytest.mark.parametrize(
        "row", [pytest.param(None, id="-".join(ids))], indirect=True
    )


def case(row: str, *values: Any) -> Any:
    """Return one line of a table that covers a row."""
    # A function's own text has an address in it, and ids must be the same in each run.
    shown = getattr(values[0], "__name__", values[0])
    return pytest.param(*values, id=f"{row}:{shown}"[:60])


def example(row: str, *values: Any) -> Any:
    """Return one line of a table that shows a row of scheduling, with its id.

    What follows a colon tells the lines of one row apart.
    """
    id_, _, _ = row.partition(":")
    return pytest.param(*values, id=row, marks=pytest.mark.row(id_))
