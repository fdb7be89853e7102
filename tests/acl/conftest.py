"""Rows of the checklist of ACLs in the ids of tests: see tests/conformance/rows.py."""

import pytest


@pytest.fixture(autouse=True)
def row() -> None:
    """Take the ids of the rows that a test covers; they are there to be read."""
