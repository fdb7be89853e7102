"""Evaluations as they are sent: every key is there, whatever its value."""

import json

import pytest

from nodestate.api.evaluation_shapes import encode_evaluation
from nodestate.model.allocation import AllocMetric
from nodestate.model.evaluation import Evaluation
from nodestate.model.timestamp import NANOSECONDS, Timestamp

KEYS = [
    "AnnotatePlan",
    "BlockedEval",
    "ClassEligibility",
    "CreateIndex",
    "CreateTime",
    "DeploymentID",
    "EscapedComputedClass",
    "FailedTGAllocs",
    "ID",
    "JobID",
    "JobModifyIndex",
    "ModifyIndex",
    "ModifyTime",
    "Namespace",
    "NextEval",
    "NodeID",
    "NodeModifyIndex",
    "PreviousEval",
    "Priority",
    "QueuedAllocations",
    "QuotaLimitReached",
    "SnapshotIndex",
    "Status",
    "StatusDescription",
    "TriggeredBy",
    "Type",
    "Wait",
    "WaitUntil",
]


@pytest.mark.row("D6")
def test_it_has_every_key_and_no_other():
    shown = json.loads(encode_evaluation(Evaluation(id="e1", job_id="web")))

    assert sorted(shown) == KEYS
    assert (shown["DeploymentID"], shown["FailedTGAllocs"]) == ("", None)
    assert (shown["Wait"], shown["WaitUntil"]) == (0, None)


def test_what_could_not_be_placed_says_why():
    metric = AllocMetric(nodes_evaluated=2, dimension_exhausted={"cpu": 2})
    evaluation = Evaluation(
        id="e1",
        failed_tg_allocs={"grp": metric},
        queued_allocations={"grp": 1},
        wait_until=Timestamp(1_700_000_000 * NANOSECONDS),
    )

    shown = json.loads(encode_evaluation(evaluation))

    assert shown["FailedTGAllocs"]["grp"]["DimensionExhausted"] == {"cpu": 2}
    assert shown["FailedTGAllocs"]["grp"]["ScoreMetaData"] is None
    assert shown["QueuedAllocations"] == {"grp": 1}
    assert shown["WaitUntil"] == "2023-11-14T22:13:20Z"
