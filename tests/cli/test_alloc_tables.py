"""Why allocations have no place: what is said of each kind of reason."""

import pytest

from nodestate.cli.alloc_tables import failure_lines, metric_lines, score_table
from nodestate.model.allocation import AllocMetric, NodeScore


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (AllocMetric(), "No nodes were eligible for evaluation"),
        (
            AllocMetric(nodes_evaluated=1, class_exhausted={"large": 2}),
            'Class "large" exhausted on 2 nodes',
        ),
        (
            AllocMetric(nodes_evaluated=1, quota_exhausted=["cpu"]),
            'Quota limit hit "cpu"',
        ),
    ],
)
def test_each_reason_has_its_line(metric, text):
    assert list(metric_lines(metric, indent="  ")) == [f"  * {text}"]


def test_groups_come_in_order_with_their_numbers():
    one, two = AllocMetric(), AllocMetric(coalesced_failures=1)

    assert list(failure_lines({"b": two, "a": one}))[::2] == [
        'Task Group "a" (failed to place 1 allocation):',
        'Task Group "b" (failed to place 2 allocations):',
    ]
    assert list(failure_lines(None)) == []


def test_scores_that_one_node_lacks_are_zero():
    scores = NodeScore(node_id="a1b2c3d4-00", scores={"x": 0.5}, norm_score=0.5)
    other = NodeScore(node_id="b1b2c3d4-00", scores={"y": 0.25}, norm_score=0.25)

    table = score_table(AllocMetric(score_meta_data=(scores, other)), verbose=False)

    assert [line.split() for line in table.splitlines()] == [
        ["Node", "x", "y", "final", "score"],
        ["a1b2c3d4", "0.5", "0", "0.5"],
        ["b1b2c3d4", "0", "0.25", "0.25"],
    ]
    assert score_table(AllocMetric(), verbose=False) == ""
