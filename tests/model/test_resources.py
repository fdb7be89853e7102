"""What an allocation has in all, and in the old forms."""

from nodestate.model.allocation import (
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
)
from nodestate.model.node import (
    CpuResources,
    LegacyResources,
    MemoryResources,
    NetworkResource,
    Port,
)
from nodestate.model.resources import (
    all_networks,
    legacy_shared,
    legacy_sum,
    legacy_tasks,
)

SHARED = NetworkResource(mode="bridge", mbits=5)
OWN = NetworkResource(device="eth0", dynamic_ports=[Port(label="http", value=20_001)])
RESOURCES = AllocatedResources(
    tasks={
        "web": AllocatedTask(
            cpu=CpuResources(cpu_shares=100),
            memory=MemoryResources(memory_mb=64),
            networks=[OWN],
        ),
        "log": AllocatedTask(
            cpu=CpuResources(cpu_shares=20), memory=MemoryResources(memory_mb=10)
        ),
    },
    shared=AllocatedShared(networks=[SHARED], disk_mb=300),
)


def test_the_sum_has_all_tasks_and_what_they_share():
    assert legacy_sum(RESOURCES) == LegacyResources(
        cpu=120, memory_mb=74, disk_mb=300, networks=[SHARED, OWN]
    )


def test_what_is_shared_is_disk_and_networks():
    assert legacy_shared(RESOURCES) == LegacyResources(disk_mb=300, networks=[SHARED])


def test_tasks_have_no_disk_of_their_own():
    assert legacy_tasks(RESOURCES) == {
        "web": LegacyResources(cpu=100, memory_mb=64, networks=[OWN]),
        "log": LegacyResources(cpu=20, memory_mb=10),
    }


def test_no_networks_are_none():
    assert all_networks(AllocatedResources()) == ()
    assert legacy_sum(AllocatedResources()).networks is None
