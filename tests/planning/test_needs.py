import pytest

from nodestate.model.allocation import (
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
)
from nodestate.model.job import (
    Affinity,
    EphemeralDisk,
    JobType,
    Resources,
    Spread,
    Task,
)
from nodestate.model.node import CpuResources, MemoryResources, NetworkResource
from nodestate.planning.needs import Needs, networks_of
from tests.planning.fleets import allocation, group, job

FIRST, SECOND, OWN = (NetworkResource(mbits=number) for number in (1, 2, 3))
PAIR = group(
    networks=[FIRST, SECOND],
    tasks=(
        Task(name="app", resources=Resources(cpu=500, memory_mb=256)),
        Task(
            name="log", resources=Resources(cpu=20, memory_mb=10, networks=[OWN, FIRST])
        ),
    ),
    ephemeral_disk=EphemeralDisk(size_mb=150),
)


def test_a_group_needs_what_its_tasks_need():
    needs = Needs(job(PAIR), PAIR)

    assert (needs.cpu, needs.memory_mb, needs.disk_mb) == (520, 266, 150)


def test_only_the_first_network_of_each_counts():
    assert list(Needs(job(PAIR), PAIR).networks.items()) == [
        (None, FIRST),
        ("log", OWN),
    ]


def test_what_an_allocation_gets():
    needs = Needs(job(PAIR), PAIR)

    assert needs.resources({None: [FIRST], "log": [OWN]}) == AllocatedResources(
        tasks={
            "app": AllocatedTask(
                cpu=CpuResources(cpu_shares=500), memory=MemoryResources(memory_mb=256)
            ),
            "log": AllocatedTask(
                cpu=CpuResources(cpu_shares=20),
                memory=MemoryResources(memory_mb=10),
                networks=[OWN],
            ),
        },
        shared=AllocatedShared(networks=[FIRST], disk_mb=150),
    )


def test_an_allocation_keeps_what_it_has():
    has = allocation("a1", network=OWN)

    assert networks_of(has) == {None: None, "app": [OWN]}


@pytest.mark.parametrize(
    ("fields", "is_choosy"),
    [
        ({}, False),
        ({"affinities": (Affinity(),)}, True),
        ({"spreads": (Spread(),)}, True),
    ],
)
def test_who_likes_some_nodes_better_looks_at_all(fields, is_choosy):
    by_group, plain = group(**fields), group()

    assert Needs(job(by_group), by_group).is_choosy is is_choosy
    assert Needs(job(plain, **fields), plain).is_choosy is is_choosy


def test_a_system_job_is_known():
    assert Needs(job(PAIR, type=JobType.SYSTEM), PAIR).is_system
    assert not Needs(job(PAIR, type=JobType.BATCH), PAIR).is_system
