"""What routes need, asked of what tokens may do."""

import pytest

from nodestate.acl.permissions import MANAGEMENT as ALL, NOTHING, Permissions
from nodestate.acl.policies import READ_JOB, SUBMIT_JOB, parse_policy
from nodestate.api import needs
from nodestate.api.needs import Agents, Need

NEEDS = [value for value in vars(needs).values() if isinstance(value, Need)]
LOOKING = [need for need in NEEDS if need.is_met is not None]


def is_met(need: Need, rules: str, **query: str) -> bool:
    assert need.is_met is not None
    return need.is_met(Permissions([parse_policy(rules)]), query)


@pytest.mark.parametrize("need", LOOKING, ids=lambda need: need.name)
def test_a_management_token_meets_every_need(need):
    assert need.is_met(ALL, {})
    assert need.is_met(ALL, {"namespace": "*"})


def test_without_rights_only_a_few_needs_are_met_and_these_show_nothing():
    met = {need.name for need in LOOKING if need.is_met and need.is_met(NOTHING, {})}

    assert met == {"any token", "namespace:read-job (the allocation's)"}


def test_what_agents_do_and_what_is_open_look_at_no_token():
    blind = {need.name for need in NEEDS if not need.looks_at_token}

    assert blind == {"open", "node secret"}


@pytest.mark.parametrize(
    ("need", "reading", "writing"),
    [
        (needs.NODE_READ, 'node { policy = "read" }', True),
        (needs.NODE_WRITE, 'node { policy = "read" }', False),
        (needs.NODE_WRITE, 'node { policy = "write" }', True),
        (needs.AGENT_READ, 'agent { policy = "read" }', True),
        (needs.AGENT_READ, 'node { policy = "write" }', False),
        (needs.AGENT_WRITE, 'agent { policy = "read" }', False),
        (needs.AGENT_WRITE, 'agent { policy = "write" }', True),
        (needs.OPERATOR_READ, 'operator { policy = "read" }', True),
        (needs.OPERATOR_WRITE, 'operator { policy = "read" }', False),
        (needs.OPERATOR_WRITE, 'operator { policy = "write" }', True),
        (needs.OPERATOR_SNAPSHOT_SAVE, 'operator { policy = "read" }', False),
        (needs.OPERATOR_SNAPSHOT_SAVE, 'operator { policy = "write" }', True),
        (
            needs.OPERATOR_SNAPSHOT_SAVE,
            'operator { capabilities = ["snapshot-save"] }',
            True,
        ),
        (needs.MANAGEMENT, 'operator { policy = "write" }', False),
        (needs.NODE_READ, 'namespace "*" { policy = "write" }', False),
    ],
)
def test_levels_meet_what_they_are_for(need, reading, writing):
    assert is_met(need, reading) is writing


READER = 'namespace "team" { policy = "read" }'


@pytest.mark.parametrize(
    ("need", "rules", "namespace", "expected"),
    [
        (needs.NAMESPACE_READ_JOB, READER, "team", True),
        (needs.NAMESPACE_READ_JOB, READER, "", False),
        (needs.NAMESPACE_READ_JOB, READER, "other", False),
        (needs.NAMESPACE_READ_JOB, READER, "*", True),
        (needs.NAMESPACE_LIST_JOBS, READER, "*", True),
        (needs.NAMESPACE_SUBMIT_JOB, READER, "*", False),
        (needs.NAMESPACE_SUBMIT_JOB, READER, "team", False),
        (needs.NAMESPACE_READ_JOB, 'namespace "default" { policy = "read" }', "", True),
        (needs.NAMESPACE_READ_JOB, 'namespace "*" { policy = "deny" }', "*", False),
        (needs.ALLOCATION_LIFECYCLE, READER, "team", False),
        (
            needs.ALLOCATION_LIFECYCLE,
            'namespace "team" { capabilities = ["alloc-lifecycle"] }',
            "",
            True,
        ),
    ],
)
def test_a_capability_counts_in_the_namespace_that_is_asked_for(
    need, rules, namespace, expected
):
    assert is_met(need, rules, namespace=namespace) is expected


def test_the_secret_of_a_node_does_only_where_it_says_so():
    assert {need.name for need in NEEDS if need.agents is Agents.ANY} == {
        "node:read",
        "namespace:read-job (the allocation's)",
    }
    assert [need.name for need in NEEDS if need.agents is Agents.OWN] == [
        "node:read",
        "node:write",
    ]


def test_an_agent_may_read_what_there_is_and_nothing_more():
    assert needs.OF_AGENTS.allows_namespace("team", READ_JOB)
    assert not needs.OF_AGENTS.allows_namespace("team", SUBMIT_JOB)
    assert not needs.OF_AGENTS.allows_node_read
    assert not needs.OF_AGENTS.is_management
