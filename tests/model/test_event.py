"""Events are written down by tag: each tag is for ever, and its own."""

from typing import get_args

import msgspec
import pytest

from nodestate.model.acl import ACLBootstrap, ACLPolicy, ACLRole, ACLToken
from nodestate.model.allocation import Allocation, AllocMetric, TaskEvent, TaskState
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import (
    ACLBootstrapped,
    ACLPolicyDeleted,
    ACLPolicyUpserted,
    ACLRoleDeleted,
    ACLRoleUpserted,
    ACLTokenDeleted,
    ACLTokenUpserted,
    AllocationMarked,
    AllocationPlaced,
    AllocationRemoved,
    AllocationReported,
    AllocationUpdated,
    EvaluationCreated,
    EvaluationRemoved,
    EvaluationUpdated,
    Event,
    JobPurged,
    JobRegistered,
    JobStatusUpdated,
    JobStopped,
    JobSummaryUpdated,
    NodeDrainUpdated,
    NodeEligibilityUpdated,
    NodeEventsAdded,
    NodePurged,
    NodeRegistered,
    NodeStatusUpdated,
    StateRestored,
)
from nodestate.model.job import GroupSummary, Job, JobSummary, TaskGroup
from nodestate.model.node import Node, NodeKey
from nodestate.secret import Secret

JOB = Job(id="j", task_groups=(TaskGroup(name="g"),))
ALLOCATION = Allocation(
    id="a", metrics=AllocMetric(), task_states={"t": TaskState(events=(TaskEvent(),))}
)
KEY, NODE = NodeKey("1" * 32), Node(id="n", create_index=1)
EVENTS: dict[str, Event] = {
    "node.registered": NodeRegistered(KEY, NODE, b"s"),
    "node.status_updated": NodeStatusUpdated(KEY, NODE),
    "node.events_added": NodeEventsAdded(KEY, NODE),
    "node.drain_updated": NodeDrainUpdated(KEY, NODE),
    "node.eligibility_updated": NodeEligibilityUpdated(KEY, NODE),
    "node.purged": NodePurged(KEY, NODE),
    "evaluation.created": EvaluationCreated(Evaluation(id="e")),
    "state.restored": StateRestored("r"),
    "job.registered": JobRegistered(JOB),
    "job.stopped": JobStopped(JOB),
    "job.purged": JobPurged(JOB),
    "job.status_updated": JobStatusUpdated(JOB),
    "job.summary_updated": JobSummaryUpdated(
        JobSummary(job_id="j", summary={"g": GroupSummary(running=1)})
    ),
    "allocation.placed": AllocationPlaced(ALLOCATION),
    "allocation.updated": AllocationUpdated(ALLOCATION),
    "allocation.marked": AllocationMarked(ALLOCATION),
    "allocation.reported": AllocationReported(ALLOCATION),
    "allocation.removed": AllocationRemoved(ALLOCATION),
    "evaluation.updated": EvaluationUpdated(Evaluation(id="e")),
    "evaluation.removed": EvaluationRemoved(Evaluation(id="e")),
    "acl.policy_upserted": ACLPolicyUpserted(ACLPolicy(name="p")),
    "acl.policy_deleted": ACLPolicyDeleted("p", None),
    "acl.token_upserted": ACLTokenUpserted(ACLToken(accessor_id="a"), Secret("s")),
    "acl.token_deleted": ACLTokenDeleted(ACLToken(accessor_id="a")),
    "acl.bootstrapped": ACLBootstrapped(ACLBootstrap(accessor_id="a")),
    "acl.role_upserted": ACLRoleUpserted(ACLRole(id="r")),
    "acl.role_deleted": ACLRoleDeleted(ACLRole(id="r")),
}


@pytest.mark.parametrize("tag", EVENTS)
def test_an_event_reads_back_by_its_tag(tag):
    content = MSGPACK.encode(EVENTS[tag])

    assert msgspec.msgpack.decode(content)["type"] == tag
    assert msgpack_decoder(Event).decode(content) == EVENTS[tag]  # type: ignore[arg-type]


def test_every_event_is_here():
    assert {type(event) for event in EVENTS.values()} == set(get_args(Event))
