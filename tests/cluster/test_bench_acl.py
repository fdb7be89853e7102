"""The measuring of what ACLs cost, with little of it."""

import pytest

from cluster.bench_acl import AclSizes, measure_sizes

TINY = AclSizes(load_s=1.0, rounds=1, nodes=200)


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
@pytest.mark.timeout(120)
def test_reads_and_writes_are_measured_with_acls_and_without():
    found = {(one.name, one.where): one for one in measure_sizes(TINY)}

    assert set(found) == {
        (f"acl_{load}_{what}", where)
        for load in ("reads", "writes")
        for what in ("off", "on", "cost", "cpu_cost")
        for where in ("leader", "follower")
    }
    assert all(one.value > 0 for one in found.values())
