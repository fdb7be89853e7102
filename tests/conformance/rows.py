"""Which rows of the checklist a test covers: said where the test stands.

`rows` decorates a test of its own, `case` is a line of a parametrised one; both put the
ids of the rows into the test's id, and `test_rows.py` finds them in the source.
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
