"""The measuring of work, with little of it."""

import pytest

from cluster import bench_work
from cluster.bench_work import WorkSizes, measure_sizes
from cluster.report import Figure

TINY = WorkSizes(nodes=10, jobs=2, per_job=10, small_jobs=4, rounds=1)


def test_titles_say_how_much_there_is():
    assert bench_work.FULL.work == "1,000 nodes, 10,000 allocations"


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
@pytest.mark.timeout(120)
def test_everything_is_measured_and_is_done(monkeypatch):
    monkeypatch.setattr(bench_work, "REST_S", 0.1)

    found: dict[str, Figure] = {one.name: one for one in measure_sizes(TINY)}

    assert {name for name in found if not name.endswith("_cpu")} == {
        "work_fill",
        "work_memory",
        "work_place",
        "work_place_rate",
        "work_evaluations",
        "work_drain",
        "work_drain_rate",
        "work_memory_after",
    }
    # How much there is on the node that is drained is for chance to say.
    assert "1 nodes with " in found["work_drain"].title
    assert found["work_place_rate"].value > 0
    assert found["work_memory"].value > 10
