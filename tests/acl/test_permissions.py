"""What policies put together allow: the table of capabilities, merging, the closest glob."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.acl.permissions import (
    MANAGEMENT,
    NAMES_KEPT_MAX,
    NOTHING,
    Glob,
    Grants,
    Permissions,
)
from nodestate.acl.policies import (
    ALLOC_LIFECYCLE,
    LIST_JOBS,
    MOUNT_READONLY,
    MOUNT_READWRITE,
    POOL_READ,
    POOL_WRITE,
    READ_JOB,
    SUBMIT_JOB,
    Capability,
    Policy,
    Rule,
    parse_policy,
)
from tests.conformance.rows import case, rows


def permissions(*rules: str) -> Permissions:
    return Permissions(parse_policy(text) for text in rules)


# Every question, and what has to be granted for it

NS_CAPABILITIES = (
    "list-jobs", "read-job", "submit-job", "dispatch-job", "read-logs", "read-fs",
    "alloc-exec", "alloc-lifecycle", "alloc-node-exec", "sentinel-override",
)  # fmt: skip
IN_READ = {"list-jobs", "read-job"}
IN_WRITE = {*NS_CAPABILITIES} - {"alloc-node-exec", "sentinel-override"}


@pytest.mark.parametrize("capability", NS_CAPABILITIES)
@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        pytest.param("", set(), id="empty"),
        pytest.param('namespace "default" { policy = "read" }', IN_READ, id="read"),
        pytest.param('namespace "default" { policy = "write" }', IN_WRITE, id="write"),
        pytest.param('namespace "default" { policy = "deny" }', set(), id="deny"),
        pytest.param('namespace "default" { policy = "scale" }', set(), id="scale"),
        pytest.param('namespace "other" { policy = "write" }', set(), id="other"),
        pytest.param('namespace "def*" { policy = "write" }', IN_WRITE, id="glob"),
        pytest.param('node { policy = "write" }', set(), id="node"),
        *(
            pytest.param(
                f'namespace "default" {{ capabilities = ["{one}"] }}', {one}, id=one
            )
            for one in NS_CAPABILITIES
        ),
    ],
)
def test_a_capability_is_allowed_where_it_is_listed_and_nowhere_else(
    rules, allowed, capability
):
    """The table of acl.md 6: exact membership, nothing implies anything else."""
    asked = permissions(rules)

    assert asked.allows_namespace("default", Capability(capability)) is (
        capability in allowed
    )


LEVELS = ("agent", "node", "operator", "quota", "plugin")
QUESTIONS: dict[str, dict[str, set[str]]] = {
    **{
        block: {
            f"allows_{block}_read": {"read", "write"},
            f"allows_{block}_write": {"write"},
        }
        for block in ("agent", "node", "operator", "quota")
    },
    "plugin": {
        "allows_plugin_list": {"list", "read"},
        "allows_plugin_read": {"read"},
    },
}
ALL_QUESTIONS = [name for asked in QUESTIONS.values() for name in asked]


@pytest.mark.parametrize(
    ("block", "word"),
    [
        *((block, word) for block in LEVELS[:4] for word in ("deny", "read", "write")),
        *(("plugin", word) for word in ("deny", "list", "read")),
    ],
)
def test_a_level_allows_its_own_questions_alone(block, word):
    asked = permissions(f'{block} {{ policy = "{word}" }}')

    allowed = {name for name in ALL_QUESTIONS if getattr(asked, name)}
    assert allowed == {name for name, by in QUESTIONS[block].items() if word in by}


# acl.md 7, as far as a token alone decides: which rules open which endpoint.
NODE_READ, NODE_WRITE = 'node { policy = "read" }', 'node { policy = "write" }'
NODE_DENY = 'node { policy = "deny" }'
AGENT_READ, AGENT_WRITE = 'agent { policy = "read" }', 'agent { policy = "write" }'
OPERATOR_READ = 'operator { policy = "read" }'
OPERATOR_WRITE = 'operator { policy = "write" }'
NS_READ = 'namespace "default" { policy = "read" }'
NS_WRITE = 'namespace "default" { policy = "write" }'
NS_LIST = 'namespace "default" { capabilities = ["list-jobs"] }'
TOKENS: dict[str, Permissions] = {
    "anonymous": NOTHING,
    "node-read": permissions(NODE_READ),
    "node-write": permissions(NODE_WRITE),
    "node-deny": permissions(NODE_WRITE, NODE_DENY),
    "agent-read": permissions(AGENT_READ),
    "agent-write": permissions(AGENT_WRITE),
    "operator-read": permissions(OPERATOR_READ),
    "operator-write": permissions(OPERATOR_WRITE),
    "ns-read": permissions(NS_READ),
    "ns-write": permissions(NS_WRITE),
    "ns-list": permissions(NS_LIST),
    "management": MANAGEMENT,
}
Question = Callable[[Permissions], bool]
RIGHTS: dict[str, tuple[Question, set[str]]] = {
    "node:read": (lambda p: p.allows_node_read, {"node-read", "node-write"}),
    "node:write": (lambda p: p.allows_node_write, {"node-write"}),
    "agent:read": (lambda p: p.allows_agent_read, {"agent-read", "agent-write"}),
    "agent:write": (lambda p: p.allows_agent_write, {"agent-write"}),
    "operator:read": (
        lambda p: p.allows_operator_read,
        {"operator-read", "operator-write"},
    ),
    "operator:write": (lambda p: p.allows_operator_write, {"operator-write"}),
    "snapshot": (lambda p: p.allows_snapshot_save, {"operator-write"}),
    "management": (lambda p: p.is_management, set()),
    "list-jobs": (
        lambda p: p.allows_namespace("default", LIST_JOBS),
        {"ns-read", "ns-write", "ns-list"},
    ),
    "read-job": (
        lambda p: p.allows_namespace("default", READ_JOB),
        {"ns-read", "ns-write"},
    ),
    "submit-job": (lambda p: p.allows_namespace("default", SUBMIT_JOB), {"ns-write"}),
    "alloc-lifecycle": (
        lambda p: p.allows_namespace("default", ALLOC_LIFECYCLE),
        {"ns-write"},
    ),
    "elsewhere": (lambda p: p.allows_namespace("other", LIST_JOBS), set()),
    "namespaces": (
        lambda p: p.allows_any_in_namespace("default"),
        {"ns-read", "ns-write", "ns-list"},
    ),
}
ENDPOINTS = {
    "GET /v1/nodes": "node:read",
    "GET /v1/node/:id": "node:read",
    "GET /v1/node/:id/allocations": "node:read",
    "PUT /v1/node/:id/evaluate": "node:write",
    "PUT /v1/node/:id/drain": "node:write",
    "PUT /v1/node/:id/eligibility": "node:write",
    "PUT /v1/node/:id/purge": "node:write",
    "GET /v1/allocations": "read-job",
    "GET /v1/allocation/:id": "read-job",
    "PUT /v1/allocation/:id/stop": "alloc-lifecycle",
    "GET /v1/evaluations": "read-job",
    "GET /v1/evaluation/:id": "read-job",
    "GET /v1/jobs": "list-jobs",
    "GET /v1/job/:id": "read-job",
    "PUT /v1/jobs": "submit-job",
    "PUT /v1/job/:id": "submit-job",
    "DELETE /v1/job/:id": "submit-job",
    "PUT /v1/job/:id/evaluate": "submit-job",
    "GET /v1/agent/self": "agent:read",
    "GET /v1/agent/members": "node:read",
    "GET /v1/agent/servers": "agent:read",
    "PUT /v1/agent/servers": "agent:write",
    "GET /v1/operator/raft/configuration": "management",
    "DELETE /v1/operator/raft/peer": "management",
    "GET /v1/operator/autopilot/health": "operator:read",
    "PUT /v1/operator/scheduler/configuration": "operator:write",
    "GET /v1/operator/snapshot": "snapshot",
    "PUT /v1/operator/snapshot": "management",
    "PUT /v1/system/gc": "management",
    "GET /v1/namespaces": "namespaces",
}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_endpoint_is_open_to_those_of_the_table(endpoint, token):
    question, allowed = RIGHTS[ENDPOINTS[endpoint]]

    assert question(TOKENS[token]) is (token in allowed or token == "management")


def test_management_may_do_everything_and_nothing_nothing():
    questions = [name for name in dir(Permissions) if name.startswith("allows_")]
    asked: dict[str, tuple[Any, ...]] = {
        "allows_namespace": ("x", READ_JOB),
        "allows_any_in_namespace": ("x",),
        "allows_some_namespace": (READ_JOB,),
        "allows_host_volume": ("x", MOUNT_READONLY),
        "allows_node_pool": ("x", POOL_READ),
    }
    for name in questions:
        for token, expected in ((MANAGEMENT, True), (NOTHING, False)):
            answer = getattr(token, name)
            assert (answer(*asked[name]) if name in asked else answer) is expected, name
    assert len(questions) > 15


# Merged


@rows("ACL-9.2")
def test_a_deny_of_one_policy_beats_the_others_in_any_order():
    texts = (
        'namespace "default" { policy = "write" }',
        'namespace "default" { policy = "deny" }',
        'namespace "default" { capabilities = ["read-job"] }',
    )
    for order in permutations(texts):
        asked = permissions(*order)
        assert not asked.allows_namespace("default", READ_JOB)
        assert not asked.allows_any_in_namespace("default")
        assert not asked.allows_some_namespace(READ_JOB)


@pytest.mark.parametrize(
    ("levels", "can_read", "can_write"),
    [
        (("read",), True, False),
        (("read", "write"), True, True),
        (("write", "read"), True, True),
        (("write", "deny"), False, False),
        (("deny", "write"), False, False),
        (("read", "deny", "write"), False, False),
        ((), False, False),
    ],
)
def test_deny_beats_write_beats_read(levels, can_read, can_write):
    asked = permissions(*(f'node {{ policy = "{level}" }}' for level in levels))

    assert (asked.allows_node_read, asked.allows_node_write) == (can_read, can_write)


def test_the_same_label_adds_up():
    asked = permissions(
        'namespace "a" { capabilities = ["read-job"] } namespace "a" { policy = "" }',
        'namespace "a" { capabilities = ["submit-job"] }',
    )

    assert asked.allows_namespace("a", READ_JOB)
    assert asked.allows_namespace("a", SUBMIT_JOB)
    assert not asked.allows_namespace("a", LIST_JOBS)


@pytest.mark.parametrize(
    "rules",
    [
        'namespace "a" { policy = "deny" } namespace "a" { policy = "write" }',
        'namespace "a" { policy = "write" capabilities = ["deny"] }',
        '{"namespace":{"a":{"policy":"deny"},"a":{"policy":"write"}}}',
        '{"namespace":[{"a":{"policy":"write"}},{"a":{"policy":"deny"}}]}',
        '{"namespace":{"a":[{"policy":"deny"},{"policy":"write"}]}}',
    ],
)
def test_a_deny_in_a_repeated_block_does_not_vanish(rules):
    assert not permissions(rules).allows_any_in_namespace("a")


@pytest.mark.parametrize(
    ("rules", "may_save"),
    [
        (('operator { capabilities = ["snapshot-save"] }',), True),
        (('operator { policy = "read" capabilities = ["snapshot-save"] }',), True),
        (('operator { policy = "read" }',), False),
        (('operator { policy = "write" }',), True),
        (('operator { capabilities = ["license-read"] }',), False),
        (('operator { capabilities = ["snapshot-save", "deny"] }',), False),
        (('operator { policy = "write" capabilities = ["deny"] }',), False),
        ((OPERATOR_WRITE, 'operator { capabilities = ["deny"] }'), False),
        (
            (
                'operator { capabilities = ["snapshot-save"] }',
                'operator { policy = "deny" }',
            ),
            False,
        ),
    ],
)
def test_who_may_save_a_snapshot(rules, may_save):
    assert permissions(*rules).allows_snapshot_save is may_save


def test_host_volumes_and_pools_are_asked_alike():
    asked = permissions(
        'host_volume "certs-*" { policy = "read" } node_pool "gpu" { policy = "write" }'
    )

    assert asked.allows_host_volume("certs-a", MOUNT_READONLY)
    assert not asked.allows_host_volume("certs-a", MOUNT_READWRITE)
    assert not asked.allows_host_volume("gpu", MOUNT_READONLY)
    assert asked.allows_node_pool("gpu", POOL_WRITE)
    assert not asked.allows_node_pool("certs-a", POOL_READ)


# Globs


@pytest.mark.parametrize(
    ("label", "name", "is_match"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("*a", "ab", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "aXcYb", False),
        ("a*b*b", "ab", False),
        ("a*b*b", "abb", True),
        ("*ab*ab*", "ab", False),
        ("*ab*ab*", "xabx", False),
        ("*aa*a*", "baab", False),
        ("*ab*ab*", "aabab", True),
        ("**", "x", True),
        ("a**b", "ab", True),
        ("prod-*", "production", False),
    ],
)
def test_stars_stand_for_any_run(label, name, is_match):
    assert Glob(label).matches(name) is is_match


def matches_slowly(label: str, name: str) -> bool:
    """The definition: a star is nothing, or a character and a star."""
    if not label:
        return not name
    if label[0] == "*":
        return matches_slowly(label[1:], name) or (
            bool(name) and matches_slowly(label, name[1:])
        )
    return bool(name) and name[0] == label[0] and matches_slowly(label[1:], name[1:])


@given(st.text("ab*", max_size=7), st.text("ab", max_size=8))
def test_a_glob_matches_what_its_definition_says(label, name):
    if "*" in label:
        assert Glob(label).matches(name) is matches_slowly(label, name)


NAMED = [
    case("ACL-6.1", "production-api", ("production-*", "*"), "production-*"),
    case("ACL-6.2", "prod-api-services", ("*-api-services", "prod-api-*"), "*-api-services"),
    case("ACL-6.4", "default", ("*",), "*"),
    case("ACL-6.5", "ab", ("a*", "*b"), "a*"),
    case("ACL-6.6", "production-x", ("production-*", "production-**"), "production-**"),
    case("ACL-6.7", "abc", ("a*", "ab*", "abc*", "*"), "abc*"),
    case("ACL-6.8", "abc", ("x*", "*x"), None),
    case("ACL-6.9", "é-abc", ("é*", "*c", "*bc"), "*bc"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "globs", "chosen"), NAMED)
def test_the_glob_that_leaves_the_least_to_its_stars_decides(name, globs, chosen):
    for order in permutations(globs):
        grants = Grants(Rule(each, "", (Capability(each),)) for each in order)
        assert grants.of(name) == ({chosen} if chosen else set())


@rows("ACL-6.3", "ACL-9.3")
def test_the_name_itself_decides_alone():
    asked = permissions(
        'namespace "*" { policy = "deny" }',
        'namespace "default" { policy = "read" }',
        'namespace "prod-*" { policy = "write" } namespace "prod-x" { policy = "deny" }',
        'namespace "quiet" {}',
        'namespace "qui*" { policy = "write" }',
    )

    assert asked.allows_namespace("default", READ_JOB)
    assert not asked.allows_namespace("other", READ_JOB)
    assert asked.allows_namespace("prod-y", SUBMIT_JOB)
    assert not asked.allows_namespace("prod-x", READ_JOB)
    assert not asked.allows_any_in_namespace("quiet")


def test_some_namespace_is_enough_where_any_will_do():
    asked = permissions(
        'namespace "a" { policy = "deny" } namespace "b*" { policy = "read" }'
    )

    assert asked.allows_some_namespace(READ_JOB)
    assert not asked.allows_some_namespace(SUBMIT_JOB)


def test_names_that_are_made_up_do_not_fill_the_memory():
    grants = Grants([Rule("a*", "read", (READ_JOB,))])

    for number in range(NAMES_KEPT_MAX + 100):
        assert grants.of(f"a{number}") == {READ_JOB}
        assert grants.of(f"b{number}") == set()

    assert len(grants._by_name) == NAMES_KEPT_MAX


# Whatever the policies are

capabilities = st.lists(
    st.sampled_from(("deny", "list-jobs", "read-job", "submit-job")).map(Capability),
    max_size=3,
).map(tuple)
rules = st.builds(
    Rule, st.sampled_from(("a", "ab", "a*", "*b", "*")), st.just(""), capabilities
)
levels = st.sampled_from((None, "deny", "read", "write"))
some_policies = st.lists(
    st.builds(
        Policy,
        namespaces=st.lists(rules, max_size=4).map(tuple),
        node=levels,
        agent=levels,
        operator=levels,
        plugin=st.sampled_from((None, "deny", "list", "read")),
        operator_capabilities=st.sampled_from(
            ((), (Capability("snapshot-save"),), (Capability("deny"),))
        ),
    ),
    max_size=4,
)
NAMES = ("a", "ab", "b", "abb", "")


def answers(asked: Permissions) -> dict[str, bool]:
    told = {name: getattr(asked, name) for name in ALL_QUESTIONS}
    told["allows_snapshot_save"] = asked.allows_snapshot_save
    for name in NAMES:
        told[f"any {name}"] = asked.allows_any_in_namespace(name)
        for one in (LIST_JOBS, READ_JOB, SUBMIT_JOB):
            told[f"{one} {name}"] = asked.allows_namespace(name, one)
    return told


@given(some_policies)
def test_the_order_of_policies_and_blocks_does_not_matter(policies):
    turned = [
        replace(policy, namespaces=policy.namespaces[::-1]) for policy in policies[::-1]
    ]
    asked = Permissions(policies)
    once = answers(asked)

    assert answers(Permissions(turned)) == once
    assert answers(asked) == once


@given(some_policies, st.data())
def test_a_deny_more_never_allows_more(policies, data):
    """Neither of a label that is there nor of a new one."""
    labels = {rule.label for policy in policies for rule in policy.namespaces}
    labels |= {"a*b", "**", *NAMES} - {""}
    denied = [
        Policy(node="deny"),
        Policy(agent="deny"),
        Policy(operator="deny"),
        Policy(plugin="deny"),
        Policy(operator_capabilities=(Capability("deny"),)),
        *(Policy(namespaces=(Rule(label, "", (Capability("deny"),)),)) for label in sorted(labels)),
    ]  # fmt: skip
    more = data.draw(st.sampled_from(denied))

    before, after = (
        answers(Permissions(policies)),
        answers(Permissions([*policies, more])),
    )

    assert {name for name in after if after[name] and not before[name]} == set()
