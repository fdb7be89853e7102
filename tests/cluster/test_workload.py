"""The verdict on what clients wrote: it must see what is missing and what is made up."""

import pytest

from cluster.workload import Record, SeenNode, find_losses

NODE = "n1"


@pytest.fixture
def record() -> Record:
    """A node registered at 10, closed at 12, and perhaps opened again."""
    made = Record()
    made.acknowledge(made.begin(NODE, "eligible"), 10)
    made.acknowledge(made.begin(NODE, "ineligible"), 12)
    made.begin(NODE, "eligible")
    return made


def losses(record: Record, seen: SeenNode | None) -> list[str]:
    return find_losses(record, lambda _: seen)


@pytest.mark.parametrize(
    "seen",
    [
        SeenNode(12, "ineligible", [10, 12]),
        SeenNode(15, "eligible", [10, 12, 15]),
    ],
)
def test_what_was_acknowledged_and_what_is_in_doubt_may_be_seen(record, seen):
    assert losses(record, seen) == []


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (None, "gone"),
        (SeenNode(12, "ineligible", [12]), "no trace of the write at 10"),
        (SeenNode(10, "eligible", [10]), "no trace of the write at 12"),
        (SeenNode(12, "eligible", [10, 12]), "nobody may have asked for"),
        (SeenNode(15, "ineligible", [10, 12, 15]), "nobody may have asked for"),
        (SeenNode(15, "eligible", [10, 12]), "which no event tells of"),
        (SeenNode(16, "eligible", [10, 12, 15, 16]), "more writes than were asked"),
    ],
)
def test_what_was_lost_or_made_up_is_complained_of(record, seen, complaint):
    found = losses(record, seen)

    assert any(complaint in line for line in found), found


def test_a_write_that_was_refused_before_it_was_sent_must_not_be_seen():
    record = Record()
    record.begin(NODE, "eligible").is_unknown = False

    assert losses(record, SeenNode(9, "eligible", [9])) != []
    assert losses(record, None) == []
