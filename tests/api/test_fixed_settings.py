"""Settings that are as they are: what is sent is held to them."""

import pytest

from nodestate.api.fixed_settings import check_unchanged
from nodestate.api.problems import ProblemError
from nodestate.api.shapes import Shape


class Inner(Shape, frozen=True, kw_only=True):
    word: str = "a"


class Outer(Shape, frozen=True, kw_only=True):
    number: int = 1
    inner: Inner = Inner()
    modify_index: int = 4


def test_what_is_the_same_passes_whatever_its_index():
    check_unchanged("it", Outer(modify_index=9), Outer())


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (Outer(number=2), "it cannot be changed here: Number is 1"),
        (Outer(inner=Inner(word="b")), 'it cannot be changed here: Inner.Word is "a"'),
    ],
)
def test_what_is_not_is_refused_with_what_it_is(sent, text):
    with pytest.raises(ProblemError) as refused:
        check_unchanged("it", sent, Outer())

    assert (refused.value.problem.status, refused.value.problem.text) == (501, text)
