import pytest

from nodestate.model.job import (
    Constraint,
    DeviceRequest,
    Resources,
    Task,
    VolumeRequest,
)
from nodestate.model.node import Driver, HostVolume
from nodestate.planning.feasibility import (
    Distinct,
    has_driver,
    has_volume,
    matcher,
    refusal_of,
    requirements_of,
)
from nodestate.planning.occupancy import Occupancy
from tests.conformance.rows import example
from tests.planning.fleets import (
    allocation,
    constraint,
    finish,
    group,
    job,
    key,
    node,
    state_of,
)

LINUX = constraint("${attr.kernel.name}", "=", "linux")
WINDOWS = constraint("${attr.kernel.name}", "=", "windows")
ON_WINDOWS = "${attr.kernel.name} = windows"
RACK = "${meta.rack}"


def refusal(wanted, on=None, **job_fields):
    return refusal_of(requirements_of(job(wanted, **job_fields), wanted), on or node())


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        example("FE19:1", "1", True),
        example("FE19:true", "true", True),
        example("FE19:False", "False", False),
        example("FE19:foo", "foo", False),
        ("", False),
    ],
)
def test_a_driver_told_of_by_an_attribute(text, is_there):
    assert has_driver(node(attributes={"driver.docker": text}), "docker") is is_there


@pytest.mark.parametrize(
    ("detected", "healthy", "is_there"),
    [
        example("FE20", True, False, False),
        (True, True, True),
        (False, True, False),
    ],
)
def test_a_driver_told_of_in_full(detected, healthy, is_there):
    docker = Driver(detected=detected, healthy=healthy)
    on = node(drivers={"docker": docker}, attributes={"driver.docker": "1"})

    assert has_driver(on, "docker") is is_there


def test_a_node_that_says_nothing_has_no_driver():
    assert not has_driver(node(attributes=None), "docker")


@pytest.mark.parametrize(
    ("is_node_read_only", "is_request_read_only", "is_there"),
    [
        example("FE21", True, False, False),
        example("FE21:reading", True, True, True),
        (False, False, True),
        (False, True, True),
    ],
)
def test_a_volume_to_read_or_to_write(
    is_node_read_only, is_request_read_only, is_there
):
    on = node(host_volumes={"data": HostVolume(read_only=is_node_read_only)})
    request = VolumeRequest(source="data", read_only=is_request_read_only)

    assert has_volume(on, request) is is_there


@pytest.mark.row("FE22")
def test_a_volume_that_is_not_there():
    """FE22."""
    wanted = group(volumes={"v": VolumeRequest(type="host", source="data")})

    assert refusal(wanted) == "missing compatible host volumes"
    assert refusal(wanted, node(host_volumes={"data": HostVolume()})) is None


def test_devices_are_nowhere():
    device = Resources(devices=(DeviceRequest(name="nvidia/gpu"),))
    wanted = group(tasks=(Task(name="a", driver="exec", resources=device),))

    assert refusal(wanted) == "missing devices"


@pytest.mark.parametrize("level", ["job", "group", "task"])
def test_every_level_has_constraints(level):
    task = Task(name="app", driver="exec")
    of_task = Task(name="app", driver="exec", constraints=(LINUX, WINDOWS))
    wanted = group(
        tasks=(of_task if level == "task" else task,),
        constraints=(WINDOWS,) if level == "group" else None,
    )
    of_job = (WINDOWS,) if level == "job" else None

    assert refusal(wanted, constraints=of_job) == ON_WINDOWS


REASONS = (
    "a = b", "missing drivers", "c = d", ON_WINDOWS,
    "missing compatible host volumes", "missing devices",
)  # fmt: skip


@pytest.mark.parametrize("first", range(len(REASONS)))
def test_reasons_come_in_their_order(first):
    """Job, drivers, group, tasks, volumes, devices: the first that refuses is told."""
    is_wrong = [number >= first for number in range(len(REASONS))]
    devices = (DeviceRequest(),) if is_wrong[5] else None
    task = Task(
        name="app",
        driver="java" if is_wrong[1] else "exec",
        constraints=(WINDOWS,) if is_wrong[3] else (LINUX,),
        resources=Resources(devices=devices),
    )
    wanted = group(
        tasks=(task,),
        constraints=(constraint("c", "=", "d" if is_wrong[2] else "c"),),
        volumes={"v": VolumeRequest(source="data")} if is_wrong[4] else None,
    )
    of_job = (constraint("a", "=", "b" if is_wrong[0] else "a"),)

    assert refusal(wanted, constraints=of_job) == REASONS[first]


def test_a_group_that_asks_for_nothing_may_run_anywhere():
    assert refusal(group(tasks=())) is None


def test_both_sides_of_a_constraint_may_be_targets():
    is_met = matcher("${meta.rack}", "=", "${node.class}")

    assert is_met(node(meta={"rack": "r1"}, node_class="r1"))
    assert not is_met(node(meta={"rack": "r1"}, node_class="r2"))


# Others of the job


def distinct_refusal(*constraints, level="job", on=1, placed=(), nodes=None):
    """Ask about a node; racks are a, a, b and none on the fourth."""
    nodes = nodes or [
        node(number, meta={"rack": rack} if rack else None)
        for number, rack in enumerate(("a", "a", "b", ""), 1)
    ]
    wanted = group(constraints=constraints if level == "group" else None)
    of = job(wanted, constraints=constraints if level == "job" else None)
    state = state_of(nodes, placed)
    occupancy = Occupancy(state, of.key)
    finish(occupancy.prepare())
    return Distinct(of, wanted).refusal(occupancy, key(on), state.nodes[key(on)])


HOSTS = Constraint(operand="distinct_hosts")


@pytest.mark.parametrize(
    ("level", "fields", "reason"),
    [
        ("job", {}, "distinct_hosts"),
        ("group", {}, "distinct_hosts"),
        ("job", {"task_group": "other"}, "distinct_hosts"),
        ("group", {"task_group": "other"}, None),
        ("job", {"job_id": "other"}, None),
        ("job", {"namespace": "other"}, None),
        ("job", {"on": 2}, None),
        ("job", {"client_status": "failed"}, None),
        ("job", {"desired_status": "stop"}, None),
    ],
)
def test_distinct_hosts(level, fields, reason):
    placed = [allocation("a1", **fields)]

    assert distinct_refusal(HOSTS, level=level, placed=placed) == reason


@pytest.mark.parametrize(
    ("on", "right", "reason"),
    [
        (1, "", "distinct_property: ${meta.rack}=a used by 2 allocs"),
        (2, "2", "distinct_property: ${meta.rack}=a used by 2 allocs"),
        (2, "3", None),
        (3, "1", None),
        (4, "9", 'missing property "${meta.rack}"'),
        (3, "many", "distinct_property: ${meta.rack}=b used by 0 allocs"),
    ],
)
@pytest.mark.parametrize("level", ["job", "group"])
def test_distinct_property(level, on, right, reason):
    placed = [allocation("a1", 1), allocation("a2", 2)]
    asked = constraint(RACK, "distinct_property", right)

    assert distinct_refusal(asked, level=level, on=on, placed=placed) == reason


def test_distinct_property_of_a_group_counts_the_group():
    placed = [allocation("a1", 1, task_group="other")]
    asked = constraint(RACK, "distinct_property")

    assert distinct_refusal(asked, level="group", on=2, placed=placed) is None
    assert distinct_refusal(asked, level="job", on=2, placed=placed) is not None


def test_an_allocation_on_a_node_that_is_gone_shares_nothing():
    asked = constraint(RACK, "distinct_property")

    assert distinct_refusal(asked, placed=[allocation("a1", 9)]) is None


@pytest.mark.parametrize("asked", [HOSTS, constraint(RACK, "distinct_property"), LINUX])
def test_whether_others_matter_is_known(asked):
    wanted = group(constraints=(asked,))

    assert Distinct(job(wanted), wanted).is_asked is (asked != LINUX)
