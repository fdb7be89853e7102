"""What is sent: keys, escapes, indents."""

import json

import pytest

from nodestate.api import shapes
from nodestate.api.shapes import (
    NodeUpdated,
    NodeWritten,
    encode,
    encode_node,
    encode_stub,
    join_list,
    join_pretty_list,
    prettify,
    prettify_part,
)
from nodestate.model.node import CpuResources, Node, NodeResources
from nodestate.model.outcome import Accepted
from tests.conformance.rows import rows

UPDATED_KEYS = ["EvalCreateIndex", "EvalIDs", "Index", "NodeModifyIndex"]


def test_the_answers_to_writes_have_nomads_keys():
    updated = NodeUpdated(
        eval_create_index=0, eval_ids=None, index=0, node_modify_index=0
    )

    assert [*json.loads(encode(updated))] == UPDATED_KEYS
    assert {*json.loads(encode(NodeWritten()))} == {
        *UPDATED_KEYS,
        *("HeartbeatTTL", "KnownLeader", "LastContact"),
        *("LeaderRPCAddr", "NumNodes", "Servers"),
    }


@rows("V28")
def test_evaluations_are_created_at_the_entrys_index():
    accepted = Accepted(index=7, node_modify_index=7, eval_ids=("a",))

    updated = shapes.describe_update(accepted)

    assert (updated.eval_create_index, updated.eval_ids) == (7, ("a",))


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("<>&é/", '"<>&é/"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("\u2010", '"\u2010"'),
        ('\x01"\\', '"\\u0001\\"\\\\"'),
    ],
)
def test_texts_are_escaped_as_nomad_does(text, encoded):
    assert encode(text).decode() == encoded


def test_a_full_record_has_no_null_resources():
    given = NodeResources(cpu=CpuResources(cpu_shares=5))

    bare = json.loads(encode_node(Node()))
    full = json.loads(encode_node(Node(node_resources=given)))

    assert bare["NodeResources"]["Cpu"] == {"CpuShares": 0}
    assert full["NodeResources"]["Cpu"] == {"CpuShares": 5}
    assert bare["Resources"] is not None
    assert bare["ReservedResources"] is not None
    assert bare["Reserved"] is None


@pytest.mark.parametrize(
    ("http_addr", "address"),
    [("a:1", "a"), ("[::1]:1", "::1"), ("::1", ""), ("a", ""), ("", ""), ("[::1]", "")],
)
def test_the_address_is_the_host_or_nothing(http_addr, address):
    assert json.loads(encode_stub(Node(http_addr=http_addr)))["Address"] == address


@pytest.mark.parametrize(
    "values", [[], [{}], [{"a": [], "b": "x\ny"}, 5, {"c": {"d": 1}}]]
)
def test_lists_are_as_json_writes_them(values):
    parts = [json.dumps(value, separators=(",", ":")).encode() for value in values]

    compact = join_list(parts)
    pretty = join_pretty_list([prettify_part(part) for part in parts])

    assert json.loads(compact) == values
    assert pretty == (json.dumps(values, indent=4) + "\n").encode()
    assert prettify(compact) == pretty
