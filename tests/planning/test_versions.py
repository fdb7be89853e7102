import pytest
from hypothesis import given, strategies as st

from nodestate.planning.versions import (
    TEXT_LENGTH_MAX,
    parse_version,
    satisfies_semver,
    satisfies_version,
)
from tests.conformance.rows import example

numbers = st.integers(0, 3)
plain = st.lists(numbers, min_size=1, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)


@pytest.mark.parametrize(
    ("text", "constraint", "is_satisfied"),
    [
        example("FE7", "1.2.3", "~> 1.0", True),
        example("FE8", "2.0.1", "~> 1.0", False),
        example("FE9", "1.4", ">= 1.0, < 1.4", False),
        example("FE9:both", "1.3.9", ">= 1.0, < 1.4", True),
        example("FE10", "1.3.0-beta1", ">= 0.6.1", False),
        example("FE11", "1.7.0-alpha1", ">= 1.6.0-beta1", False),
        example("FE11:same-numbers", "1.6.0-beta2", ">= 1.6.0-beta1", True),
        example("FE12", "1.3.0-beta1+ent", "= 1.3.0-beta1", True),
        ("1.2.3", "1.2.3", True),
        ("1.2", "= 1.2.0", True),
        ("1.2.0.0", "= 1.2", True),
        ("1.2.0.1", "> 1.2", True),
        ("v1.2.3", "= 1.2.3", True),
        ("1.2.3beta1", "= 1.2.3-beta1", True),
        ("1.2.3", "!= 1.2.3", False),
        ("1.3.0-beta1", "!= 1.2.3", True),
        ("1.2.3", "~> 1.2.0", True),
        ("1.3.0", "~> 1.2.0", False),
        ("1.1.9", "~> 1.2", False),
        ("2.1", "~> 1", True),
        ("1.2.3", "~> 1.2.3.4", False),
        ("1.2.3.5", "~> 1.2.3.4", True),
        ("1.2.3", "~> 1.2.0-beta", False),
        ("1.2.0-beta", "~> 1.2.0-alpha", True),
        ("1.2.3", "", False),
        ("1.2.3", ">= 1.0,", False),
        ("1.2.3", ">= one", False),
        ("1.2.3", "=> 1.0", False),
        ("linux", ">= 1.0", False),
        ("", ">= 0", False),
        ("1.2.3-a..b", ">= 0.1-a", False),
        ("9" * 19, "> 1", False),
        ("9" * 18, "> 1", True),
    ],
)
def test_version(text, constraint, is_satisfied):
    assert satisfies_version(text, constraint) is is_satisfied


@pytest.mark.parametrize(
    ("text", "constraint", "is_satisfied"),
    [
        example("FE13", "1.3.0-beta1", ">= 0.6.1", True),
        example("FE14", "1.2.3", "~> 1.0", False),
        ("1.0.0-rc.1", "< 1.0.0", True),
        ("1.0.0-alpha", "< 1.0.0-alpha.1", True),
        ("1.0.0-alpha.1", "< 1.0.0-alpha.beta", True),
        ("1.0.0-beta.2", "< 1.0.0-beta.11", True),
        ("1.0.0-beta.11", "< 1.0.0-rc.1", True),
        ("1.0.0+one", "= 1.0.0+two", True),
        ("1.0.0", "!= 1.0.0", False),
        ("1.0.0", ">= 0.9, <= 1.0", True),
        ("1.0.0", "> 1.0", False),
        ("1.3.0beta1", ">= 0.6.1", False),
    ],
)
def test_semver(text, constraint, is_satisfied):
    assert satisfies_semver(text, constraint) is is_satisfied


@pytest.mark.parametrize("is_too_long", [False, True])
def test_a_text_has_a_length_that_it_may_have(is_too_long):
    text = "1.0+" + "x" * (TEXT_LENGTH_MAX - 4 + is_too_long)

    assert (parse_version(text) is None) is is_too_long
    assert satisfies_version("1.0", text) is not is_too_long


@given(plain, plain)
def test_two_versions_are_in_one_of_three_orders(left, right):
    answers = [satisfies_version(left, f"{sign}{right}") for sign in ("<", "=", ">")]

    assert sorted(answers) == [False, False, True]
    assert answers == [
        satisfies_semver(left, f"{sign}{right}") for sign in ("<", "=", ">")
    ]


@given(plain, plain)
def test_a_pessimistic_answer_is_at_least_what_was_asked(left, right):
    if satisfies_version(left, f"~> {right}"):
        assert satisfies_version(left, f">= {right}")
