"""Which changes of a job need its allocations replaced."""

from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.model.job import (
    Affinity,
    Constraint,
    DeviceRequest,
    EphemeralDisk,
    Job,
    LogConfig,
    MigrateStrategy,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    Spread,
    UpdateStrategy,
)
from nodestate.model.node import NetworkResource, Port
from nodestate.planning.updates import is_destructive
from tests.planning.works import group, job

BEFORE = job(group())
AFFINITY = (Affinity(l_target="${node.class}", r_target="big"),)
CONSTRAINT = (Constraint(l_target="${node.class}", r_target="big", operand="="),)


def network(mbits: int = 10, dynamic: str = "http", static: int = 80) -> Any:
    return [
        NetworkResource(
            mbits=mbits,
            dynamic_ports=[Port(label=dynamic)],
            reserved_ports=[Port(label="admin", value=static)],
        )
    ]


def of_group(before: Job = BEFORE, **fields: Any) -> Job:
    (old,) = before.task_groups
    return replace(before, task_groups=(replace(old, **fields),))


def of_task(before: Job = BEFORE, **fields: Any) -> Job:
    (old,) = before.task_groups
    (task,) = old.tasks
    return of_group(before, tasks=(replace(task, **fields),))


WITH_NETWORK = of_task(resources=Resources(cpu=100, networks=network()))
WITH_GROUP_NETWORK = of_group(networks=network())


def networked(**fields: Any) -> Job:
    return of_task(resources=Resources(cpu=100, networks=network(**fields)))


DESTRUCTIVE = {
    "tasks": of_group(tasks=()),
    "task name": of_task(name="other"),
    "driver": of_task(driver="docker"),
    "user": of_task(user="root"),
    "config": of_task(config={"command": "/bin/true"}),
    "env": of_task(env={"A": "1"}),
    "artifacts": of_task(artifacts=[{"GetterSource": "x"}]),
    "vault": of_task(vault={"Policies": ["x"]}),
    "templates": of_task(templates=[{"DestPath": "x"}]),
    "meta": replace(BEFORE, meta={"a": "1"}),
    "group meta": of_group(meta={"a": "1"}),
    "task meta": of_task(meta={"a": "1"}),
    "network": of_task(resources=Resources(cpu=100, memory_mb=100, networks=network())),
    "cpu": of_task(resources=Resources(cpu=101, memory_mb=100)),
    "memory": of_task(resources=Resources(cpu=100, memory_mb=101)),
    "devices": of_task(
        resources=Resources(
            cpu=100, memory_mb=100, devices=(DeviceRequest(name="gpu"),)
        )
    ),
    "disk": of_group(ephemeral_disk=EphemeralDisk(size_mb=11)),
    "sticky": of_group(ephemeral_disk=EphemeralDisk(size_mb=10, sticky=True)),
    "group network": of_group(networks=network()),
    "affinities": replace(BEFORE, affinities=AFFINITY),
    "group affinities": of_group(affinities=AFFINITY),
    "task affinities": of_task(affinities=AFFINITY),
    "spreads": replace(BEFORE, spreads=(Spread(attribute="x"),)),
    "group spreads": of_group(spreads=(Spread(attribute="x"),)),
}

IN_PLACE = {
    "nothing": BEFORE,
    "count": of_group(count=99),
    "constraints": replace(BEFORE, constraints=CONSTRAINT),
    "group constraints": of_group(constraints=CONSTRAINT),
    "task constraints": of_task(constraints=CONSTRAINT),
    "restart": of_group(restart_policy=RestartPolicy(attempts=9)),
    "reschedule": of_group(reschedule_policy=ReschedulePolicy(attempts=9)),
    "migrate": of_group(migrate=MigrateStrategy(max_parallel=9)),
    "update": of_group(update=UpdateStrategy(max_parallel=9)),
    "priority": replace(BEFORE, priority=99),
    "services": of_task(services=[{"Name": "x"}]),
    "kill timeout": of_task(kill_timeout=9),
    "leader": of_task(leader=True),
    "logs": of_task(log_config=LogConfig(max_files=9)),
    "shutdown delay": of_task(shutdown_delay=9),
    "iops": of_task(resources=Resources(cpu=100, memory_mb=100, iops=9)),
    "empty": of_task(env={}, artifacts=[], templates=[], affinities=()),
}


@pytest.mark.parametrize("after", DESTRUCTIVE.values(), ids=DESTRUCTIVE)
def test_what_runs_has_to_be_replaced(after):
    assert is_destructive(BEFORE, after, "web")
    assert is_destructive(after, BEFORE, "web")


@pytest.mark.parametrize("after", IN_PLACE.values(), ids=IN_PLACE)
def test_what_runs_goes_on(after):
    assert not is_destructive(BEFORE, after, "web")


@pytest.mark.parametrize(
    ("fields", "is_replaced"),
    [
        ({}, False),
        ({"mbits": 11}, True),
        ({"dynamic": "rpc"}, True),
        ({"static": 81}, True),
    ],
)
def test_networks_are_compared_by_what_is_asked_for(fields, is_replaced):
    assert is_destructive(WITH_NETWORK, networked(**fields), "web") is is_replaced
    after = of_group(networks=network(**fields))
    assert is_destructive(WITH_GROUP_NETWORK, after, "web") is is_replaced


def test_the_numbers_of_dynamic_ports_do_not_count():
    given = [
        NetworkResource(mbits=10, dynamic_ports=[Port(label="http", value=20_001)])
    ]
    asked = [NetworkResource(mbits=10, dynamic_ports=[Port(label="http")])]

    assert not is_destructive(of_group(networks=given), of_group(networks=asked), "web")


def test_meta_is_compared_as_tasks_see_it():
    before = of_task(meta={"a": "1"})
    after = replace(before, meta={"a": "0"})

    assert not is_destructive(before, after, "web")


def test_a_group_that_is_not_in_both_has_to_be_replaced():
    assert is_destructive(BEFORE, BEFORE, "other")
