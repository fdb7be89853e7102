import pytest
from hypothesis import given, strategies as st

from nodestate.model.node import Node
from nodestate.planning.constraints import (
    OPERANDS,
    holds,
    is_escaped,
    target_reader,
)
from tests.conformance.rows import example

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
        example("FE1:=", "foo", "=", "foo", True),
        example("FE1:==", "foo", "==", "foo", True),
        example("FE1:is", "foo", "is", "foo", True),
        example("FE1:other", "foo", "is", "bar", False),
        example("FE2", None, "==", None, False),
        example("FE3", "foo", "!=", None, True),
        example("FE3:not", "foo", "not", None, True),
        example("FE3:same", "foo", "!=", "foo", False),
        example("FE4", None, "!=", None, False),
        example("FE5", "bar", "<", "foo", True),
        example("FE6", "9", "<", "10", True),
        example("FE7", "1.2.3", "version", "~> 1.0", True),
        example("FE10", "1.3.0-beta1", "version", ">= 0.6.1", False),
        example("FE13", "1.3.0-beta1", "semver", ">= 0.6.1", True),
        example("FE15:anchored", "foobar", "regexp", "^bar", False),
        example("FE15", "foobar", "regexp", "bar", True),
        example("FE16", "foo,bar,baz", "set_contains", "foo, bar ", True),
        example("FE16:no", "foo,bar,baz", "set_contains_all", "foo,bam", False),
        example("FE17", "foo,bar", "set_contains_any", "bam,bar", True),
        example("FE17:no", "foo,bar", "set_contains_any", "bam", False),
        example("FE18:is_set", None, "is_set", None, False),
        example("FE18:is_not_set", None, "is_not_set", None, True),
        example("FE18:empty", "", "is_set", "", True),
        example("FE18:set", "x", "is_not_set", "", False),
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
        example("FE23", "${node.unique.id}", True),
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
