import pytest
from hypothesis import given, strategies as st

from nodestate.model.node import Node
from nodestate.planning.constraints import (
    OPERANDS,
    holds,
    is_escaped,
    target_reader,
)

NODE = Node(
    id="f7476465-4d6e-c0de-26d0-e383c49be941",
    name="alpha",
    datacenter="dc1",
    node_class="large",
    attributes={"kernel.name": "linux", "unique.hostname": "a", "empty": ""},
    meta={"rack": "r1"},
)
maybe_texts = st.none() | st.sampled_from(
    ("", "a", "b", "9", "10", "1.2.3", "a,b", "[")
)


@pytest.mark.parametrize(
    ("left", "operand", "right", "is_true"),
    [
        pytest.param("foo", "=", "foo", True, id="FE1:="),
        pytest.param("foo", "==", "foo", True, id="FE1:=="),
        pytest.param("foo", "is", "foo", True, id="FE1:is"),
        pytest.param("foo", "is", "bar", False, id="FE1:other"),
        pytest.param(None, "==", None, False, id="FE2"),
        pytest.param("foo", "!=", None, True, id="FE3"),
        pytest.param("foo", "not", None, True, id="FE3:not"),
        pytest.param("foo", "!=", "foo", False, id="FE3:same"),
        pytest.param(None, "!=", None, False, id="FE4"),
        pytest.param("bar", "<", "foo", True, id="FE5"),
        pytest.param("9", "<", "10", True, id="FE6"),
        pytest.param("1.2.3", "version", "~> 1.0", True, id="FE7"),
        pytest.param("1.3.0-beta1", "version", ">= 0.6.1", False, id="FE10"),
        pytest.param("1.3.0-beta1", "semver", ">= 0.6.1", True, id="FE13"),
        pytest.param("foobar", "regexp", "^bar", False, id="FE15:anchored"),
        pytest.param("foobar", "regexp", "bar", True, id="FE15"),
        pytest.param("foo,bar,baz", "set_contains", "foo, bar ", True, id="FE16"),
        pytest.param("foo,bar,baz", "set_contains_all", "foo,bam", False, id="FE16:no"),
        pytest.param("foo,bar", "set_contains_any", "bam,bar", True, id="FE17"),
        pytest.param("foo,bar", "set_contains_any", "bam", False, id="FE17:no"),
        pytest.param(None, "is_set", None, False, id="FE18:is_set"),
        pytest.param(None, "is_not_set", None, True, id="FE18:is_not_set"),
        pytest.param("", "is_set", "", True, id="FE18:empty"),
        pytest.param("x", "is_not_set", "", False, id="FE18:set"),
        ("2", "<=", "2", True),
        ("2", ">", "2", False),
        ("2", ">=", "2", True),
        ("1.5", ">", "1.25", True),
        ("1e3", ">", "2e2", True),
        ("-1", "<", "1", True),
        ("9", "<", "ten", True),
        ("nan", "<", "1", False),
        ("z", "<", "é", True),
        (None, "<", "1", False),
        ("1", "<", None, False),
        ("foo", "regexp", "(", False),
        ("foo", "regexp", "(?:x{1000}){1000}", False),
        (None, "regexp", ".*", False),
        ("foo", "resembles", "foo", False),
        ("foo", "", "foo", False),
        ("foo", "distinct_hosts", "", True),
        (None, "distinct_property", None, True),
    ],
)
def test_operands(left, operand, right, is_true):
    assert holds(operand, left, right) is is_true


@given(maybe_texts, st.sampled_from(sorted(OPERANDS)), maybe_texts)
def test_an_operand_always_has_an_answer(left, operand, right):
    assert holds(operand, left, right) in {True, False}


@given(maybe_texts, maybe_texts)
def test_two_that_are_there_are_equal_or_not(left, right):
    if left is not None and right is not None:
        assert holds("=", left, right) is not holds("!=", left, right)
        assert holds("<=", left, right) is not holds(">", left, right)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("${node.unique.id}", NODE.id),
        ("${node.unique.name}", "alpha"),
        ("${node.datacenter}", "dc1"),
        ("${node.class}", "large"),
        ("${attr.kernel.name}", "linux"),
        ("${attr.empty}", ""),
        ("${attr.kernel}", None),
        ("${meta.rack}", "r1"),
        ("${meta.row}", None),
        ("${node.colour}", None),
        ("${env.HOME}", None),
        ("linux", "linux"),
        ("", ""),
    ],
)
def test_targets(target, found):
    assert target_reader(target)(NODE) == found


@pytest.mark.parametrize("target", ["${attr.arch}", "${meta.rack}"])
def test_a_node_without_any_has_no_such_thing(target):
    assert target_reader(target)(Node()) is None


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("${node.unique.id}", True, id="FE23"),
        ("${attr.unique.hostname}", True),
        ("${meta.unique.owner}", True),
        ("${attr.kernel.name}", False),
        ("${node.class}", False),
        ("unique.hostname", False),
    ],
)
def test_what_tells_nodes_of_one_class_apart(target, expected):
    assert is_escaped(target, "literal") is expected
    assert is_escaped("literal", target) is expected
