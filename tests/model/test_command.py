"""Commands enter the log by tag: each tag is for ever, old entries stay readable."""

from typing import get_args

import msgspec
import pytest

from nodestate.model.acl import ACLPolicy, ACLRole, ACLToken
from nodestate.model.allocation import AllocatedResources, ReportedAllocation
from nodestate.model.command import (
    ANONYMOUS,
    AbandonRestore,
    AddRestorePiece,
    AgentReport,
    ApplyPlan,
    BeginRestore,
    BootstrapACL,
    CollectGarbage,
    Command,
    CompletedDrain,
    CompleteDrains,
    DeletePolicies,
    DeleteRoles,
    DeleteTokens,
    DeregisterJob,
    EmitNodeEvents,
    EvaluateJob,
    EvaluateNode,
    EvaluationChange,
    ExpireTokens,
    FinishRestore,
    MarkAllocations,
    MissHeartbeats,
    PurgeNodes,
    RegisterJob,
    RegisterNodes,
    Registration,
    ReportAllocations,
    RoleWrite,
    SeenJob,
    SeenNode,
    SetDrain,
    SetEligibility,
    TokenWrite,
    UpdateEvaluations,
    UpdateNodeStatus,
    UpsertPolicies,
    UpsertRoles,
    UpsertTokens,
)
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobVersionKey
from nodestate.model.node import Node, NodeEvent, NodeKey, NodeStatus
from nodestate.model.plan import Annotation, InPlaceUpdate, Placement, Plan, Stop
from nodestate.model.timestamp import Timestamp
from nodestate.secret import Secret

DECODER: msgspec.msgpack.Decoder[Command] = msgpack_decoder(Command)  # type: ignore[arg-type]
KEY = NodeKey("1" * 32)
JOB = JobKey(("default", "j"))
COMMANDS: dict[str, Command] = {
    "node.register": RegisterNodes(
        at_ns=1, registrations=(Registration(KEY, Node(id="n"), b"d"),), seed=b"s"
    ),
    "node.status": UpdateNodeStatus(
        at_ns=1, key=KEY, status=NodeStatus.READY, secret_sha256=b"d", seed=b"s"
    ),
    "node.miss_heartbeat": MissHeartbeats(at_ns=1, keys=(KEY,), seed=b"s"),
    "node.events": EmitNodeEvents(
        at_ns=1, key=KEY, secret_sha256=b"d", events=(NodeEvent(message="m"),)
    ),
    "node.drain": SetDrain(at_ns=1, key=KEY, strategy=None, seed=b"s"),
    "node.drain_complete": CompleteDrains(at_ns=1, drains=(CompletedDrain(KEY, 5),)),
    "node.eligibility": SetEligibility(
        at_ns=1, key=KEY, eligibility="eligible", seed=b"s"
    ),
    "node.evaluate": EvaluateNode(at_ns=1, key=KEY, seed=b"s"),
    "node.purge": PurgeNodes(at_ns=1, keys=(KEY,), seed=b"s"),
    "restore.begin": BeginRestore(at_ns=1, restore_id="r", byte_count=7, sha256=b"d"),
    "restore.piece": AddRestorePiece(at_ns=1, restore_id="r", number=0, piece=b"p"),
    "restore.finish": FinishRestore(at_ns=1, restore_id="r"),
    "restore.abandon": AbandonRestore(at_ns=1, restore_id="r"),
    "job.register": RegisterJob(at_ns=1, job=Job(id="j"), seed=b"s", enforced_index=7),
    "job.deregister": DeregisterJob(at_ns=1, key=JOB, seed=b"s", is_purge=True),
    "job.evaluate": EvaluateJob(at_ns=1, key=JOB, seed=b"s", force_reschedule=True),
    "allocation.report": ReportAllocations(
        at_ns=1,
        reports=(
            AgentReport(
                KEY, b"d", (ReportedAllocation(id="a", client_status="running"),)
            ),
        ),
        seed=b"s",
    ),
    "allocation.mark": MarkAllocations(at_ns=1, ids=("a",), seed=b"s", is_paced=True),
    "plan.apply": ApplyPlan(
        at_ns=1,
        plan=Plan(
            eval_id="e",
            eval_modify_index=7,
            job_key=JOB,
            version=JobVersionKey("default", "j", 5, 1),
            placements=(
                Placement(
                    id="a",
                    name="j.g[0]",
                    task_group="g",
                    node_key=KEY,
                    resources=AllocatedResources(),
                ),
            ),
            stops=(Stop(id="b", node_key=KEY, description="d", only_with="a"),),
            updates=(
                InPlaceUpdate(id="c", node_key=KEY, resources=AllocatedResources()),
            ),
            annotations=(Annotation(id="d", node_key=KEY, followup_eval_id="f"),),
        ),
        evaluations=(Evaluation(id="f", wait_until=Timestamp(5)),),
    ),
    "evaluation.update": UpdateEvaluations(
        at_ns=1, changes=(EvaluationChange(Evaluation(id="e"), 7),), is_atomic=True
    ),
    "garbage.collect": CollectGarbage(
        at_ns=1,
        jobs=(SeenJob(JOB, 7),),
        allocation_ids=("a",),
        evaluation_ids=("e",),
        nodes=(SeenNode(KEY, 8),),
    ),
    "acl.policy.upsert": UpsertPolicies(at_ns=1, policies=(ACLPolicy(name="p"),)),
    "acl.policy.delete": DeletePolicies(at_ns=1, names=("p",)),
    "acl.token.upsert": UpsertTokens(
        at_ns=1,
        tokens=(
            TokenWrite(ACLToken(accessor_id="a"), Secret("s")),
            TokenWrite(ACLToken(accessor_id="b", policies=("p",))),
        ),
    ),
    "acl.token.delete": DeleteTokens(at_ns=1, accessor_ids=("a",)),
    "acl.bootstrap": BootstrapACL(
        at_ns=1, accessor_id="a", secret=Secret("s"), reset_index=7
    ),
    "acl.role.upsert": UpsertRoles(
        at_ns=1, roles=(RoleWrite(ACLRole(id="r"), is_new=True),)
    ),
    "acl.role.delete": DeleteRoles(at_ns=1, ids=("r",)),
    "acl.token.expire": ExpireTokens(at_ns=1, accessor_ids=("a",)),
}


@pytest.mark.parametrize("tag", COMMANDS)
def test_a_command_reads_back_by_its_tag(tag):
    content = MSGPACK.encode(COMMANDS[tag])

    assert msgspec.msgpack.decode(content)["type"] == tag
    assert DECODER.decode(content) == COMMANDS[tag]


def test_every_command_is_here():
    assert {type(command) for command in COMMANDS.values()} == set(get_args(Command))


def test_what_is_usual_is_not_written():
    content = msgspec.msgpack.decode(MSGPACK.encode(COMMANDS["node.drain"]))

    assert content.keys() == {"type", "at_ns", "key", "strategy", "seed"}
    assert COMMANDS["node.drain"].asked_by == ANONYMOUS


@pytest.mark.parametrize("tag", ["node.explode", "", None])
def test_an_unknown_tag_is_not_passed_over(tag):
    content = msgspec.msgpack.encode({"type": tag, "at_ns": 1, "key": KEY})

    with pytest.raises(msgspec.ValidationError):
        DECODER.decode(content)


def test_a_command_without_its_time_is_none():
    content = msgspec.msgpack.encode({"type": "node.evaluate", "key": KEY, "seed": b""})

    with pytest.raises(msgspec.ValidationError, match="at_ns"):
        DECODER.decode(content)
