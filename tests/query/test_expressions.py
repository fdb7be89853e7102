"""The grammar of filter expressions: what a text is parsed into, and what is refused."""

import pytest

from nodestate.errors import RequestError
from nodestate.query.expressions import (
    EXPRESSION_CHARACTERS_MAX,
    EXPRESSION_DEPTH_MAX,
    AllOf,
    AnyOf,
    Match,
    Negated,
    Operator,
    parse_expression,
)


def match(
    path: str, operator: Operator, value: str = "", *, negated: bool = False
) -> Match:
    return Match(tuple(path.split("|")), operator, value, negated)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("Name == x", match("Name", Operator.EQUAL, "x")),
        ("Name==x", match("Name", Operator.EQUAL, "x")),
        ("Name != x", match("Name", Operator.EQUAL, "x", negated=True)),
        ("x in Meta", match("Meta", Operator.IN, "x")),
        ("x not in Meta", match("Meta", Operator.IN, "x", negated=True)),
        ("Meta contains x", match("Meta", Operator.IN, "x")),
        ("Meta not contains x", match("Meta", Operator.IN, "x", negated=True)),
        ("Meta is empty", match("Meta", Operator.EMPTY)),
        ("Meta is not empty", match("Meta", Operator.EMPTY, negated=True)),
        ("Meta is nil", match("Meta", Operator.NULL)),
        ("Meta is not nil", match("Meta", Operator.NULL, negated=True)),
        ("Name matches `^a`", match("Name", Operator.MATCHES, "^a")),
        ("Name not matches `^a`", match("Name", Operator.MATCHES, "^a", negated=True)),
        ("\t\r\n Name ==\n x ", match("Name", Operator.EQUAL, "x")),
    ],
)
def test_each_operator(text, tree):
    assert parse_expression(text) == tree


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("Meta.a.b_c == 1", "Meta|a|b_c"),
        ("Events.0.Message == 1", "Events|0|Message"),
        ('Meta["a.b c"] == 1', "Meta|a.b c"),
        ('Meta[`a"b`] == 1', 'Meta|a"b'),
        ('LastDrain.Meta["k"] == 1', "LastDrain|Meta|k"),
        ('"/Meta/a" == 1', "Meta|a"),
        ('"/Meta/a~1b~0c" == 1', "Meta|a/b~c"),
    ],
)
def test_each_form_of_a_selector(text, path):
    assert parse_expression(text) == match(path, Operator.EQUAL, "1")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("ready", "ready"),
        ("and", "and"),
        ("a.b", "a.b"),
        ("42", "42"),
        ("-1.5", "-1.5"),
        ('""', ""),
        ('"a b"', "a b"),
        ('"a/b"', "a/b"),
        ('"/a/b"', "/a/b"),
        (r'"\"\\\n\t\x41\u00e9\U0001F600\101"', '"\\\n\tAé😀A'),
        (r"`\d+" + "`", r"\d+"),
    ],
)
def test_each_form_of_a_value(written, value):
    assert parse_expression(f"Name == {written}") == match(
        "Name", Operator.EQUAL, value
    )


def test_and_binds_tighter_than_or_and_not_tighter_than_both():
    tree = parse_expression("not A == 1 and B == 2 or C == 3")

    not_a = Negated(match("A", Operator.EQUAL, "1"), depth=1)
    both = AllOf((not_a, match("B", Operator.EQUAL, "2")), depth=2)
    assert tree == AnyOf((both, match("C", Operator.EQUAL, "3")), depth=3)


def test_parentheses_group():
    tree = parse_expression("A == 1 and (B == 2 or C == 3)")

    either = AnyOf(
        (match("B", Operator.EQUAL, "2"), match("C", Operator.EQUAL, "3")), depth=1
    )
    assert tree == AllOf((match("A", Operator.EQUAL, "1"), either), depth=2)


def test_a_word_that_begins_like_an_operator_is_a_word():
    tree = parse_expression("notable == android or inner == origin")

    assert tree == AnyOf(
        (
            match("notable", Operator.EQUAL, "android"),
            match("inner", Operator.EQUAL, "origin"),
        ),
        depth=1,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "at character 1: found the end, expected '(' or 'not' or a field"),
        ("Name", "at character 5: found the end, expected '!=' or"),
        ("Name ==", "at character 8: found the end, expected a field or a number"),
        ("Name = x", "at character 6: found '= x', expected"),
        ("Name == x)", "at character 10: found ')', expected the end"),
        ("(Name == x", "at character 11: found the end, expected ')'"),
        ("Name == x Name", "at character 11: found 'Name', expected"),
        ("Name == 1a", "at character 9: found '1a', expected"),
        ("Name is x", "at character 9: found 'x', expected 'empty' or 'nil' or 'not'"),
        ('Name == "x', "at character 9: text without closing quote"),
        ("Name == `x", "at character 9: text without closing quote"),
        (r'Name == "\q"', r"unknown escape, \q"),
        (r'Name == "\ud800"', "unknown escape"),
        (r'Name == "\UFFFFFFFF"', "unknown escape"),
        ("5 == 5", "'5' is no field"),
        ('"Name" == x', "'Name' is no field"),
        ('x in "/"', "'/' is no field"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text, complaint):
    with pytest.raises(RequestError) as caught:
        parse_expression(text)

    assert complaint in str(caught.value)


def test_the_length_limit():
    padded = "Name == x".ljust(EXPRESSION_CHARACTERS_MAX)

    assert parse_expression(padded) == match("Name", Operator.EQUAL, "x")
    with pytest.raises(RequestError, match="has 2049 characters, at most 2048"):
        parse_expression(padded + " ")


def test_the_depth_limit():
    parse_expression("not " * EXPRESSION_DEPTH_MAX + "A == 1")
    with pytest.raises(RequestError, match="nests deeper than 32"):
        parse_expression("not " * (EXPRESSION_DEPTH_MAX + 1) + "A == 1")


def test_parentheses_alone_are_no_depth():
    text = "(" * 900 + "A == 1" + ")" * 900

    assert parse_expression(text) == match("A", Operator.EQUAL, "1")


def test_a_long_chain_is_flat():
    tree = parse_expression(" or ".join(["A == 1"] * 150))

    assert isinstance(tree, AnyOf)
    assert (len(tree.parts), tree.depth) == (150, 1)
