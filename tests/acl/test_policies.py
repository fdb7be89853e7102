"""Rules to what they grant: every block, every shorthand, every refusal."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from nodestate.acl import policies
from nodestate.acl.policies import BLOCKS_MAX, NO_RULES, Policy, Rule, parse_policy
from nodestate.errors import RequestError
from tests.conformance.rows import rows

RECORDED = json.loads(
    (Path(__file__).parents[1] / "model" / "recorded_acl.json").read_text()
)
EXAMPLE = """
namespace "default"    { policy = "read"  capabilities = ["alloc-lifecycle"] }
namespace "prod-*"     { capabilities = ["list-jobs", "read-job"] }
host_volume "certs-*"  { policy = "write" }
node     { policy = "write" }
agent    { policy = "read" }
operator { policy = "read" }
quota    { policy = "read" }
"""
EXAMPLE_JSON = """
{"namespace":{"default":{"policy":"read","capabilities":["alloc-lifecycle"]},
              "prod-*":{"capabilities":["list-jobs","read-job"]}},
 "host_volume":{"certs-*":{"policy":"write"}},
 "node":{"policy":"write"},"agent":{"policy":"read"},"operator":{"policy":"read"},
 "quota":{"policy":"read"}}
"""
# Each block of it as an array of one, as HCL turns into JSON.
EXAMPLE_ARRAYS = """
{"namespace":[{"default":[{"policy":"read","capabilities":["alloc-lifecycle"]}]},
              {"prod-*":{"capabilities":["list-jobs","read-job"]}}],
 "host_volume":[{"certs-*":[{"policy":"write"}]}],
 "node":[{"policy":"write"}],"agent":[{"policy":"read"}],
 "operator":[{"policy":"read"}],"quota":[{"policy":"read"}]}
"""


def granted(*capabilities: str) -> tuple[Any, ...]:
    return capabilities


@pytest.mark.parametrize("rules", [EXAMPLE, EXAMPLE_JSON, EXAMPLE_ARRAYS])
def test_the_example_is_read_in_each_of_its_forms(rules):
    assert parse_policy(rules) == Policy(
        namespaces=(
            Rule(
                "default", "read", granted("alloc-lifecycle", "list-jobs", "read-job")
            ),
            Rule("prod-*", "", granted("list-jobs", "read-job")),
        ),
        host_volumes=(
            Rule("certs-*", "write", granted("mount-readonly", "mount-readwrite")),
        ),
        node="write",
        agent="read",
        operator="read",
        quota="read",
    )


@pytest.mark.parametrize("told", RECORDED["policies"], ids=lambda told: told["Name"])
def test_what_a_real_server_accepted_is_accepted(told):
    assert (parse_policy(told["Rules"]) == NO_RULES) is (told["Rules"] == "")


WRITE = (
    "list-jobs", "read-job", "submit-job", "dispatch-job", "read-logs", "read-fs",
    "alloc-exec", "alloc-lifecycle",
)  # fmt: skip
SHORTHANDS = [
    ("namespace", "deny", ("deny",)),
    ("namespace", "read", ("list-jobs", "read-job")),
    ("namespace", "write", WRITE),
    (
        "namespace",
        "scale",
        (
            "list-scaling-policies",
            "read-scaling-policy",
            "read-job-scaling",
            "scale-job",
        ),
    ),
    ("host_volume", "deny", ("deny",)),
    ("host_volume", "read", ("mount-readonly",)),
    ("host_volume", "write", ("mount-readonly", "mount-readwrite")),
    ("node_pool", "deny", ("deny",)),
    ("node_pool", "read", ("read",)),
    ("node_pool", "write", ("delete", "read", "write")),
]
FIELDS = {
    "namespace": "namespaces",
    "host_volume": "host_volumes",
    "node_pool": "node_pools",
}


@pytest.mark.parametrize(("block", "word", "capabilities"), SHORTHANDS)
def test_a_shorthand_stands_for_its_capabilities(block, word, capabilities):
    policy = parse_policy(f'{block} "x" {{ policy = "{word}" }}')

    assert getattr(policy, FIELDS[block]) == (Rule("x", word, granted(*capabilities)),)


@pytest.mark.parametrize(
    ("block", "capability"),
    [
        *(("namespace", word) for word in sorted(policies._NAMESPACE_CAPABILITIES)),
        *(
            ("host_volume", word)
            for word in ("deny", "mount-readonly", "mount-readwrite")
        ),
        *(("node_pool", word) for word in ("deny", "read", "write", "delete")),
    ],
)
def test_a_capability_can_be_listed(block, capability):
    policy = parse_policy(f'{block} "x" {{ capabilities = ["{capability}"] }}')

    assert getattr(policy, FIELDS[block])[0].capabilities == (capability,)


def test_the_capabilities_are_those_of_the_specification():
    listed = {*WRITE, "deny", "alloc-node-exec", "sentinel-override", "parse-job"}

    assert listed < policies._NAMESPACE_CAPABILITIES


LEVELS = [
    *((block, word) for block in ("agent", "node", "operator", "quota", "sentinel")
      for word in ("deny", "read", "write")),
    *(("plugin", word) for word in ("deny", "list", "read")),
]  # fmt: skip


@pytest.mark.parametrize(("block", "word"), LEVELS)
def test_a_level_is_read(block, word):
    policy = parse_policy(f'{block} {{ policy = "{word}" }}')

    assert policy == Policy(**{block: word})


@pytest.mark.parametrize(
    ("rules", "policy"),
    [
        ('namespace "x" {}', Policy(namespaces=(Rule("x"),))),
        ('namespace "x" { policy = "" }', Policy(namespaces=(Rule("x"),))),
        ('namespace "x" { capabilities = [] }', Policy(namespaces=(Rule("x"),))),
        ('node { policy = "read" } namespace {}', Policy(node="read")),
        (
            'operator { capabilities = ["snapshot-save"] }',
            Policy(operator="", operator_capabilities=granted("snapshot-save")),
        ),
        (
            'namespace "x" { variables { path "a/*" { capabilities = ["read"] } } }',
            Policy(namespaces=(Rule("x"),)),
        ),
        (
            '{"namespace":{"x":{"variables":[{"path":{"a":{"capabilities":["list"]}}}]}}}',
            Policy(namespaces=(Rule("x"),)),
        ),
        ('sentinel { capabilities = ["whatever"] }', Policy(sentinel="")),
        ('host_volume "a_b" {}', Policy(host_volumes=(Rule("a_b"),))),
        ('node_pool "a_*" {}', Policy(node_pools=(Rule("a_*"),))),
        (
            'namespace "x" { capabilities = ["read-fs", "read-fs"] }',
            Policy(namespaces=(Rule("x", "", granted("read-fs")),)),
        ),
    ],
)
def test_what_later_versions_and_empty_blocks_have_is_read(rules, policy):
    assert parse_policy(rules) == policy


# Refused


@pytest.mark.parametrize(
    "told", [t for t in RECORDED["refused"] if "Rules" in t["Body"]], ids=lambda told: told["Body"]["Name"]
)  # fmt: skip
def test_what_a_real_server_refused_is_refused_with_the_same_first_words(told):
    words = told["Text"].partition("failed to parse rules: ")[2].split("&acl")[0]
    if not words:
        return
    with pytest.raises(RequestError) as refused:
        parse_policy(told["Body"]["Rules"])

    assert str(refused.value).startswith(words.split(": ")[0])


PARSE = "Failed to parse ACL Policy: "
TWICE = "Invalid or duplicate policy keys: "
REFUSED = [
    ("node {", f"{PARSE}line 1, column 7: found the end, expected '}}'"),
    ("x" * 70_000, f"{PARSE}the text has 70000 bytes, at most 65536 are allowed"),
    ('bogus { policy = "read" }', 'Invalid policy: bogus { policy = "read" }'),
    ("# nothing", "Invalid policy: # nothing"),
    (" ", "Invalid policy:  "),
    ("{}", "Invalid policy: {}"),
    ("namespace {}", "Invalid policy: namespace {}"),
    ('node { policy = "read" } bogus {}', f"{TWICE}bogus (line 1, column 26)"),
    (
        'NODE { policy = "deny" } node {policy="read"}',
        f"{TWICE}NODE (line 1, column 1)",
    ),
    ('namespace "a b" {}', "Invalid namespace name: 'a b' (line 1, column 11)"),
    ('namespace "" {}', "Invalid namespace name: ''"),
    ('namespace "a_b" {}', "Invalid namespace name: 'a_b'"),
    ('namespace "é" {}', "Invalid namespace name: 'é'"),
    (f'namespace "{"a" * 129}" {{}}', "Invalid namespace name: 'aaa"),
    ('host_volume "a/b" {}', "Invalid host volume name: 'a/b'"),
    ('node_pool "a.b" {}', "Invalid node pool name: 'a.b'"),
    (
        'namespace "a" { policy = "list" }',
        "Invalid namespace policy: 'a' (line 1, column 11) has 'list', "
        "expected deny, read, write or scale",
    ),
    ('namespace "a" { policy = "READ" }', "Invalid namespace policy: 'a'"),
    ('host_volume "a" { policy = "scale" }', "Invalid host volume policy: 'a'"),
    ('node_pool "a" { policy = "x" }', "Invalid node pool policy: 'a'"),
    (
        'namespace "a" { capabilities = ["bogus"] }',
        "Invalid namespace capability 'bogus': line 1, column 17",
    ),
    (
        'namespace "a" { capabilities = ["mount-readonly"] }',
        "Invalid namespace capability 'mount-readonly': ",
    ),
    (
        'host_volume "a" { capabilities = ["read-job"] }',
        "Invalid host volume capability 'read-job': ",
    ),
    ('node_pool "a" { capabilities = ["x"] }', "Invalid node pool capability 'x': "),
    ('operator { capabilities = ["x"] }', "Invalid operator capability 'x': "),
    (
        'namespace "a" { variables { path "b" { capabilities = ["x"] } } }',
        "Invalid variables capability 'x': ",
    ),
    *(
        (f"{block} {{}}", f"Invalid {block} policy: '' (line 1, column 1), expected ")
        for block in ("agent", "node", "operator", "quota", "plugin")
    ),
    *(
        (f'{block} {{ policy = "bogus" }}', f"Invalid {block} policy: 'bogus'")
        for block in ("agent", "node", "operator", "quota", "plugin", "sentinel")
    ),
    ('node { policy = "scale" }', "Invalid node policy: 'scale'"),
    ('plugin { policy = "write" }', "Invalid plugin policy: 'write'"),
    ('operator { policy = "x" capabilities = [] }', "Invalid operator policy: 'x'"),
    # Of the wrong kind.
    ('node = "read"', f"{PARSE}line 1, column 1: node is not a block"),
    ("node { policy = 1 }", f"{PARSE}line 1, column 8: policy is not a text"),
    ("node { policy = true }", f"{PARSE}line 1, column 8: policy is not a text"),
    ('node { policy = ["read"] }', f"{PARSE}line 1, column 8: policy is not a text"),
    ('{"node":{"policy":null}}', f"{PARSE}line 1, column 10: policy is not a text"),
    ('{"node":[{"policy":"read"},1]}', f"{PARSE}line 1, column 2: node is not a block"),
    ('namespace "a" "b" {}', f"{TWICE}b (line 1, column 15) in a (line 1, column 11)"),
    (
        'namespace { policy = "read" }',
        f"{PARSE}line 1, column 13: a namespace has a name, and then a block",
    ),
    (
        'namespace "a" { capabilities = "read-job" }',
        f"{PARSE}line 1, column 17: capabilities is not a list of texts",
    ),
    ('namespace "a" { capabilities = [1] }', "capabilities is not a list of texts"),
    ('namespace "a" { variables = 1 }', "variables is not a block"),
    ('namespace "a" { variables { x {} } }', f"{TWICE}x (line 1, column 29)"),
    ('namespace "a" { variables { path { b = 1 } } }', "a path has a name"),
    ('namespace "a" { variables { path "b" { x = 1 } } }', f"{TWICE}x ("),
    # Twice, where one would hide the other.
    (
        'node { policy = "deny" } node { policy = "read" }',
        f"{TWICE}node (line 1, column 26)",
    ),
    ('{"node":{"policy":"deny"},"node":{"policy":"read"}}', f"{TWICE}node ("),
    ('{"node":[{"policy":"deny"},{"policy":"read"}]}', f"{TWICE}node ("),
    (
        'node { policy = "deny" policy = "read" }',
        f"{TWICE}policy (line 1, column 24) in node (line 1, column 1)",
    ),
    ('{"node":{"policy":"deny","policy":"read"}}', f"{TWICE}policy ("),
    (
        'namespace "a" { capabilities = ["deny"] capabilities = ["read-fs"] }',
        f"{TWICE}capabilities (",
    ),
    # What a block does not have: it may be a deny that was misspelt.
    ('node { polcy = "deny" }', f"{TWICE}polcy (line 1, column 8) in node"),
    ('node { policy = "read" capabilities = [] }', f"{TWICE}capabilities ("),
    ('namespace "a" { policies = "deny" }', f"{TWICE}policies ("),
    ('host_volume "a" { variables {} }', f"{TWICE}variables ("),
]


@pytest.mark.parametrize(("rules", "reason"), REFUSED)
def test_what_cannot_be_used_is_refused(rules, reason):
    with pytest.raises(RequestError) as refused:
        parse_policy(rules)

    assert reason in str(refused.value)
    assert str(refused.value).startswith(("Invalid ", PARSE))


def test_a_refusal_is_short_whatever_was_written():
    for rules in (
        f"{'x' * 9000} {{}}",
        f'node {{ policy = "{"x" * 9000}" }}',
        f'namespace "{"x" * 9000}" {{}}',
        "".join(f"k{number} {{}} " for number in range(900)) + 'node {policy="deny"}',
    ):
        with pytest.raises(RequestError) as refused:
            parse_policy(rules)
        assert len(str(refused.value)) < 1200


def test_blocks_have_a_bound():
    rules = "".join(f'namespace "n{number}" {{}} ' for number in range(BLOCKS_MAX))
    assert len(parse_policy(rules).namespaces) == BLOCKS_MAX

    with pytest.raises(RequestError, match="more than 512 blocks, the most allowed"):
        parse_policy(rules + 'node { policy = "read" }')


@pytest.mark.parametrize(
    "rules",
    [
        'namespace "a" { policy = "deny" } namespace "a" { policy = "write" }',
        '{"namespace":{"a":{"policy":"deny"},"a":{"policy":"write"}}}',
        '{"namespace":{"a":{"policy":"deny"}},"namespace":{"a":{"policy":"write"}}}',
        '{"namespace":[{"a":{"policy":"deny"}},{"a":{"policy":"write"}}]}',
        '{"namespace":{"a":[{"policy":"deny"},{"policy":"write"}]}}',
    ],
)
def test_a_label_that_is_there_twice_is_kept_twice(rules):
    policy = parse_policy(rules)

    assert [rule.policy for rule in policy.namespaces] == ["deny", "write"]


@rows("ACL-9.10")
def test_no_rules_grant_nothing_and_unknown_ones_are_refused():
    assert parse_policy("") == NO_RULES
    with pytest.raises(RequestError, match=r"^Invalid policy: foo {}$"):
        parse_policy("foo {}")


words = st.sampled_from(
    ['node', 'agent', 'namespace', 'host_volume', '"a*"', '"deny"', "policy", '"read"',
     "capabilities", "=", "{", "}", "[", "]", ",", ":", '"read-job"', '"policy"',
     '"namespace"', "variables", "path", "1", "null", "\n"]
)  # fmt: skip


@given(st.lists(words, max_size=25).map(" ".join))
def test_any_rules_are_read_or_refused_in_nomads_words(rules):
    told: object
    try:
        told = parse_policy(rules)
    except RequestError as refused:
        told = str(refused)

    assert isinstance(told, Policy) or told.startswith(("Invalid ", PARSE))
