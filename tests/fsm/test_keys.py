"""Which keys an event touches."""

import pytest

from nodestate.fsm.keys import (
    evaluation_allocations_key,
    job_allocations_key,
    job_evaluations_key,
    job_key,
    keys_of,
    node_allocations_key,
)
from nodestate.model.acl import ACLBootstrap, ACLPolicy, ACLRole, ACLToken
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import (
    ACLBootstrapped,
    ACLPolicyDeleted,
    ACLPolicyUpserted,
    ACLRoleDeleted,
    ACLRoleUpserted,
    ACLTokenDeleted,
    ACLTokenUpserted,
    AllocationRemoved,
    AllocationReported,
    EvaluationUpdated,
    JobPurged,
    JobSummaryUpdated,
    NodePurged,
    StateRestored,
)
from nodestate.model.job import Job, JobKey, JobSummary
from nodestate.model.node import Node
from tests.fsm.entries import N1

WEB = JobKey(("prod", "web"))
ALLOCATION = Allocation(
    id="a", namespace="prod", job_id="web", node_key=N1, eval_id="e"
)


@pytest.mark.parametrize("kind", [AllocationReported, AllocationRemoved])
def test_an_allocation_belongs_to_a_node_a_job_and_an_evaluation(kind):
    assert list(keys_of(kind(ALLOCATION))) == [
        ("allocations",),
        ("allocations", "a"),
        node_allocations_key(N1),
        job_allocations_key(WEB),
        evaluation_allocations_key("e"),
    ]


def test_an_evaluation_belongs_to_a_job():
    event = EvaluationUpdated(Evaluation(id="e", namespace="prod", job_id="web"))

    assert list(keys_of(event)) == [
        ("evaluations",),
        ("evaluations", "e"),
        job_evaluations_key(WEB),
    ]


@pytest.mark.parametrize(
    "event",
    [
        JobPurged(Job(id="web", namespace="prod")),
        JobSummaryUpdated(JobSummary(job_id="web", namespace="prod")),
    ],
)
def test_a_job_and_its_numbers_are_read_together(event):
    assert list(keys_of(event)) == [("jobs",), job_key(WEB)]


def test_a_job_is_one_of_its_namespace():
    assert job_key(WEB) == ("jobs", "prod\0web")


def test_a_node_is_only_itself():
    assert list(keys_of(NodePurged(N1, Node()))) == [("nodes",), ("nodes", N1)]


def test_a_restore_is_everybodys():
    assert list(keys_of(StateRestored("r"))) == []


POLICY, TOKEN, ROLE = ACLPolicy(name="p"), ACLToken(accessor_id="a"), ACLRole(id="r")


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (ACLPolicyUpserted(POLICY), ("acl_policies", "p")),
        (ACLPolicyDeleted("p", None), ("acl_policies", "p")),
        (ACLTokenUpserted(TOKEN, None), ("acl_tokens", "a")),
        (ACLTokenDeleted(TOKEN), ("acl_tokens", "a")),
        (ACLRoleUpserted(ROLE), ("acl_roles", "r")),
        (ACLRoleDeleted(ROLE), ("acl_roles", "r")),
    ],
)
def test_a_record_of_acls_is_waited_for_alone_or_with_its_table(event, key):
    assert list(keys_of(event)) == [key[:1], key]


def test_there_is_one_bootstrap():
    event = ACLBootstrapped(ACLBootstrap(accessor_id="a"))

    assert list(keys_of(event)) == [("acl_bootstrap",)]
