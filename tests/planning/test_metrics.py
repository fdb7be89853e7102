from nodestate.model.allocation import AllocMetric, NodeScore
from nodestate.planning.metrics import SearchRecord
from tests.planning.fleets import node


def test_a_search_is_told_in_numbers():
    record = SearchRecord()
    record.evaluated_count = 5
    record.filter(node(node_class="large"), "missing drivers")
    record.filter(node(), "distinct_hosts")
    record.exhaust(node(node_class="small"), "memory")
    record.exhaust(node(node_class="small"), "memory")
    score = NodeScore(node_id="n", scores={"binpack": 0.5}, norm_score=0.5)

    assert record.metric({"dc1": 5}, [score]) == AllocMetric(
        nodes_evaluated=5,
        nodes_filtered=2,
        nodes_available={"dc1": 5},
        class_filtered={"large": 1},
        constraint_filtered={"distinct_hosts": 1, "missing drivers": 1},
        nodes_exhausted=2,
        class_exhausted={"small": 2},
        dimension_exhausted={"memory": 2},
        score_meta_data=(score,),
    )


def test_what_did_not_happen_is_null():
    """As a real server shows it."""
    assert SearchRecord().metric({}, []) == AllocMetric(nodes_available={})


def test_reasons_are_sorted():
    record = SearchRecord()
    for reason in ("b", "c", "a"):
        record.filter(node(), reason)

    assert list(record.metric({}, []).constraint_filtered or ()) == ["a", "b", "c"]
