"""Query parameters, and durations as Go writes them."""

from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from nodestate.api import parameters
from nodestate.api.parameters import (
    bare_read,
    parse_boolean,
    parse_query,
    parse_read_options,
    read_namespace,
)
from nodestate.config import ServerConfig
from nodestate.errors import RequestError
from nodestate.model.duration import parse_duration_ns

CONFIG = ServerConfig()
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a=1&a=2", {"a": "1"}),
        ("a=%zz&b=%4", {}),
        ("%zz=1&b=2", {"b": "2"}),
        ("a=b+c%20d", {"a": "b c d"}),
        ("%61=%3D%26", {"a": "=&"}),
        ("a=1;b=2&c=3", {"c": "3"}),
        ("&&a=1&", {"a": "1"}),
        ("a=%C3%A9", {"a": "é"}),
        ("a=%FF", {"a": "\udcff"}),
    ],
)
def test_a_query_is_split_as_go_does(text, expected):
    assert parse_query(text) == expected


@given(st.text(max_size=60))
def test_no_query_is_too_odd(text):
    assert isinstance(parse_query(text), dict)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("1", "t", "T", "TRUE", "true", "True")),
        *((word, False) for word in ("0", "f", "F", "FALSE", "false", "False")),
        *((word, None) for word in ("", "yes", "tRUE", "2", " true")),
    ],
)
def test_boolean_words(text, value):
    assert parse_boolean(text) is value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-0", 0),
        ("1s", SECOND),
        ("+1s", SECOND),
        ("-1.5s", -3 * SECOND // 2),
        ("1m30s", 90 * SECOND),
        ("1.5h", 5400 * SECOND),
        ("100ms", SECOND // 10),
        ("7us", 7000),
        ("7\u00b5s", 7000),
        ("7\u03bcs", 7000),
        ("9ns", 9),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("2562047h", 2562047 * 3600 * SECOND),
    ],
)
def test_durations(text, expected):
    assert parse_duration_ns(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "10", "1d", "s", ".s", "1 s", "1S", "abc", "--1s", "1e3s"),
        *("2562048h", "\u0661s", "1" * 65 + "s", "0x1s", "1s1"),
    ],
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration_ns(text)


@given(st.text(alphabet="0123456789.hmsnu+-", max_size=70))
def test_a_duration_is_a_number_or_an_error(text):
    with suppress(ValueError):
        assert isinstance(parse_duration_ns(text), int)


@pytest.mark.parametrize(
    ("query", "index", "wait_s"),
    [
        ({}, 0, 300),
        ({"index": "5", "wait": "2s"}, 5, 2),
        ({"index": "18446744073709551615"}, 2**64 - 1, 300),
        ({"index": "007"}, 7, 300),
        ({"wait": "1h"}, 0, 300),
        ({"wait": "-1s"}, 0, 300),
        ({"wait": "0"}, 0, 300),
    ],
)
def test_index_and_wait(query, index, wait_s):
    options = parse_read_options(query, CONFIG)

    assert (options.index, options.wait_s) == (index, wait_s)


@pytest.mark.parametrize(
    "text",
    ["-1", "+1", "1.5", "0x1", " 1", "\u0661", "18446744073709551616", "9" * 9999],
)
def test_what_is_no_index(text):
    with pytest.raises(RequestError, match="Invalid index"):
        parse_read_options({"index": text}, CONFIG)


@pytest.mark.parametrize(
    ("query", "mode", "is_consistent", "is_stale"),
    [
        ({}, "default", False, False),
        ({}, "consistent", True, False),
        ({"consistent": ""}, "default", True, False),
        ({"consistent": "false"}, "consistent", False, False),
        ({"stale": ""}, "consistent", False, True),
        ({"stale": "false"}, "consistent", True, False),
        ({"stale": "", "consistent": ""}, "default", False, True),
    ],
)
def test_a_read_is_stale_consistent_or_neither(query, mode, is_consistent, is_stale):
    """The setting is for reads that do not say; stale beats consistent."""
    config = ServerConfig(read_consistency=mode)

    options = parse_read_options(query, config)

    assert (options.is_consistent, options.is_stale) == (is_consistent, is_stale)
    if not query:
        assert bare_read(config).is_consistent is is_consistent


@pytest.mark.parametrize(
    ("query", "is_on"),
    [({}, False), ({"x": ""}, True), ({"x": "True"}, True), ({"x": "0"}, False)],
)
def test_a_flag_is_on_when_present_unless_it_says_no(query, is_on):
    assert parameters.read_flag(query, "x") is is_on


@pytest.mark.parametrize(
    ("query", "is_on"), [({}, False), ({"x": ""}, False), ({"x": "t"}, True)]
)
def test_a_field_flag_needs_a_word(query, is_on):
    assert parameters.read_field_flag(query, "x") is is_on


@pytest.mark.parametrize(
    ("query", "namespace"),
    [
        ({}, "default"),
        ({"namespace": ""}, "default"),
        ({"namespace": "team-1"}, "team-1"),
        ({"namespace": "A" * 128}, "A" * 128),
    ],
)
def test_a_request_is_about_one_namespace(query, namespace):
    assert read_namespace(query) == namespace
    assert read_namespace(query, may_be_all=True) == namespace


def test_a_list_may_be_of_all_namespaces_and_nothing_else_may():
    assert read_namespace({"namespace": "*"}, may_be_all=True) == "*"
    with pytest.raises(RequestError, match="only lists"):
        read_namespace({"namespace": "*"})


@pytest.mark.parametrize("name", ["a b", "a*", "a/b", "é", "\udcff", "A" * 129, "a\n"])
def test_a_namespace_has_a_plain_name(name):
    with pytest.raises(RequestError, match=r"^invalid namespace \"") as raised:
        read_namespace({"namespace": name}, may_be_all=True)

    assert len(str(raised.value)) < 500
