"""Groups of keys, and copies that stay as they were."""

import pytest

from nodestate.fsm.indexes import GroupIndex


def index(*pairs: tuple[str, int]) -> GroupIndex[str, int]:
    made: GroupIndex[str, int] = GroupIndex()
    for key, member in pairs:
        made.add(key, member)
    return made


def test_members_are_in_the_order_they_came():
    made = index(("a", 2), ("b", 5), ("a", 1), ("a", 2))

    assert list(made.group("a")) == [2, 1]
    assert made.count("a") == 2
    assert list(made.group("c")) == []
    assert made.count("c") == 0


def test_an_empty_group_leaves_nothing_behind():
    made = index(("a", 1), ("b", 2))

    made.discard("a", 1)
    made.discard("a", 1)
    made.discard("b", 9)

    assert made == index(("b", 2))
    assert made != index()


def test_a_copy_stays_as_it_was():
    made = index(("a", 1), ("b", 1))
    copy = made.copy()

    made.add("a", 2)
    made.discard("b", 1)
    made.add("c", 3)

    assert copy == index(("a", 1), ("b", 1))
    assert made == index(("a", 1), ("a", 2), ("c", 3))


def test_a_group_is_copied_once_per_copy():
    made = index(("a", 1))
    made.copy()
    made.add("a", 2)
    group = made.group("a")

    made.add("a", 3)

    assert made.group("a") is group


def test_a_copy_is_only_for_reading():
    with pytest.raises(AssertionError, match="only for reading"):
        index(("a", 1)).copy().add("a", 2)
