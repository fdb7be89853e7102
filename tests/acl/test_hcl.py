"""Texts to items: every form of HCL 1 and JSON that rules have, and none beyond a bound."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from nodestate.acl.hcl import (
    DEPTH_MAX,
    TEXT_BYTES_MAX,
    TEXT_WORDS_MAX,
    Array,
    Body,
    Other,
    Value,
    parse_rules_text,
)
from nodestate.errors import RequestError

Plain = list[tuple[str, Any]]


def plain(value: Value) -> Any:
    """Bodies as lists of pairs, arrays as lists behind a star: nothing is merged."""
    if isinstance(value, Body):
        return [(item.key, plain(item.value)) for item in value.items]
    if isinstance(value, Array):
        return ["*", *map(plain, value.values)]
    return value


NODE: Plain = [("node", [("policy", "read")])]


@pytest.mark.parametrize(
    "text",
    [
        'node { policy = "read" }',
        'node = { policy = "read" }',
        'node{policy="read"}',
        '"node" { "policy" = "read" }',
        'node\n{\n\tpolicy = "read"\r\n}\n',
        '# a comment\nnode { // another\n policy = "read" # "}"\n}',
        '# a comment\r\nnode { // another\r\n policy = "read"\r\n}',
        '# a comment that old editors end like this\rnode { policy = "read" }',
        '/* a * / comment */ node /**/ { /***/ policy = "read" } /* "\n */',
        'node { policy = "read", },',
        '{"node":{"policy":"read"}}',
        '\n { "node" : { "policy" : "read" } } \n',
        '{"node":{"policy":"r\\u0065ad"}}',
        'node { policy = "\\u0072ead" }',
    ],
)
def test_a_block_can_be_written_in_many_ways(text):
    assert plain(parse_rules_text(text)) == NODE


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        (" # nothing\n", []),
        ("{}", []),
        ('namespace "a" {}', [("namespace", [("a", [])])]),
        ("namespace a {}", [("namespace", [("a", [])])]),
        ('namespace { "a" {} }', [("namespace", [("a", [])])]),
        ('{"namespace":{"a":{}}}', [("namespace", [("a", [])])]),
        ('a "b" "c" { d = "e" }', [("a", [("b", [("c", [("d", "e")])])])]),
        ('a = ["b", "c"]', [("a", ["*", "b", "c"])]),
        ('a = ["b",\n"c",\n]', [("a", ["*", "b", "c"])]),
        ('a = ["b"\n"c"]', [("a", ["*", "b", "c"])]),
        ("a = []", [("a", ["*"])]),
        ('a = [{b = "c"}]', [("a", ["*", [("b", "c")]])]),
        ('{"a":[{"b":["c"]}]}', [("a", ["*", [("b", ["*", "c"])]])]),
        ("a = 1 b = true", [("a", Other("1")), ("b", Other("true"))]),
        ('{"a":-1.5e3,"b":null}', [("a", Other("-1.5e3")), ("b", Other("null"))]),
        ('truth = "a" x-y.z = ""', [("truth", "a"), ("x-y.z", "")]),
        ('a = "\\"\\\\ #{}"', [("a", '"\\ #{}')]),
        ('a = "é" "ü" {}', [("a", "é"), ("ü", [])]),
    ],
)
def test_every_form_that_rules_have_is_read(text, items):
    assert plain(parse_rules_text(text)) == items


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('a {b="1"} a {b="2"}', [("a", [("b", "1")]), ("a", [("b", "2")])]),
        ('a { b = "1" b = "2" }', [("a", [("b", "1"), ("b", "2")])]),
        ('{"a":"1","a":"2"}', [("a", "1"), ("a", "2")]),
        ('x "a" {} x "a" {}', [("x", [("a", [])]), ("x", [("a", [])])]),
    ],
)
def test_what_is_there_twice_is_read_twice(text, items):
    assert plain(parse_rules_text(text)) == items


def test_an_item_says_where_it_stands():
    body = parse_rules_text('node {}\n  agent {\n policy = "x" }')

    (_, agent) = body.items
    assert agent.place == "line 2, column 3"
    assert isinstance(agent.value, Body)
    assert agent.value.items[0].place == "line 3, column 2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("node {", "line 1, column 7: found the end, expected '}' or a name or a text"),
        ("node {\n\n", "line 3, column 1: found the end, expected"),
        ("}", "line 1, column 1: found '}', expected a name or a text or the end"),
        (
            "node { policy = read }",
            "line 1, column 17: found 'read }', expected '[' or",
        ),
        ("a = <<EOF\nx\nEOF\n", "line 1, column 5: found '<<EOF"),
        ('a "b" = {}', "line 1, column 7: found '= {}', expected '{' or a name"),
        ("a = [,]", "line 1, column 6: found ',]'"),
        ('a = ["b",,"c"]', "line 1, column 10: found ',\"c\"]'"),
        ('a = "b', "line 1, column 5: a text without closing quote"),
        ('a = "b\n"', "line 1, column 5: a text without closing quote"),
        ('a = "b\\', "line 1, column 5: a text without closing quote"),
        ("a = /* x", "line 1, column 5: a comment without an end"),
        ("/*/", "line 1, column 1: a comment without an end"),
        ('a = "\\q"', "line 1, column 5: '\"\\\\q\"' is not a text: it has an escape"),
        ('a = "\\ud800"', "it has an escape or a character that none may have"),
        ('a = "\ud800"', "it has an escape or a character that none may have"),
        ('a = "\t"', "it has an escape or a character that none may have"),
        ("a = trueish", "line 1, column 5: found 'trueish', expected"),
        ("[1]", "line 1, column 1: found '[1]', expected a name or a text"),
        ('{"a":1,}', "line 1, column 8: found '}', expected a text"),
        ('{"a":1} {}', "line 1, column 9: found '{}', expected"),
        ('{"a" 1}', "line 1, column 6: found '1}', expected ':'"),
        ('{"a":{}', "line 1, column 8: found the end, expected"),
        ("{a:1}", "line 1, column 2: found 'a:1}', expected"),
        ("{'a':1}", "line 1, column 2: found"),
        (
            "\x00",
            "line 1, column 1: found '\\x00', expected a name or a text",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text, reason):
    with pytest.raises(RequestError) as refused:
        parse_rules_text(text)

    assert reason in str(refused.value)
    assert len(str(refused.value)) < 200


# Bounds


def nested(depth: int) -> str:
    return "a {" * (depth - 1) + "}" * (depth - 1)


def test_depth_has_a_bound():
    assert parse_rules_text(nested(DEPTH_MAX)).depth == DEPTH_MAX

    for text in (nested(DEPTH_MAX + 1), "a = " + "[" * 20 + "]" * 20):
        with pytest.raises(
            RequestError, match="nested deeper than 12, which is the most"
        ):
            parse_rules_text(text)


def test_the_number_of_words_has_a_bound():
    most = 'a="b" ' * (TEXT_WORDS_MAX // 3)
    assert len(parse_rules_text(most).items) == TEXT_WORDS_MAX // 3

    with pytest.raises(RequestError, match="more than 4096 words and signs"):
        parse_rules_text(most + 'a="b"')


def test_the_length_has_a_bound():
    """In bytes, since that is what it takes to keep it."""
    assert parse_rules_text("#" * TEXT_BYTES_MAX).items == ()

    with pytest.raises(RequestError, match="has 65538 bytes, at most 65536 are"):
        parse_rules_text("#" + "é" * (TEXT_BYTES_MAX // 2) + "#")


def read_or_refused(text: str) -> Body | str:
    try:
        return parse_rules_text(text)
    except RequestError as refused:
        return str(refused)


HOSTILE = {
    "braces": "a{" * 32_000,
    "brackets": "a=" + "[" * 65_000,
    "json": '{"a":' * 13_000,
    "quotes": '"' * 65_001,
    "escapes": 'a="' + "\\\\" * 32_000,
    "stars": "/" + "*" * 65_000,
    "almost comments": "/*" + "*a" * 32_000,
    "comments": "/**/" * 16_000,
    "names": "a " * 32_000,
    "one name": "a" * 65_000,
    "spaces": " " * 65_000 + "}",
    "numbers": "a=" + "1" * 65_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_takes_long(text):
    began = time.process_time()

    told = read_or_refused(text)

    assert isinstance(told, Body) or 0 < len(told) < 300
    assert time.process_time() - began < 1


words = st.sampled_from(
    ["node", "namespace", '"a*"', "policy", "=", "{", "}", "[", "]", ",", ":", '"',
     '"deny"', "true", "1", "#", "//", "/*", "*/", "\n", " ", "\\", "\\u", "é", "\ud800"]
)  # fmt: skip


@given(st.lists(words, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    told = read_or_refused(text)

    assert told.depth <= DEPTH_MAX if isinstance(told, Body) else told


json_values = st.recursive(
    st.text(max_size=5) | st.integers() | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def from_json(value: object) -> Any:
    if isinstance(value, dict):
        return [(key, from_json(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return ["*", *map(from_json, value)]
    return value if isinstance(value, str) else Other(json.dumps(value))


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=3), st.booleans())
def test_json_is_read_as_json(value, is_ascii):
    text = json.dumps(value, ensure_ascii=is_ascii)

    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert plain(parse_rules_text(text)) == from_json(value)
