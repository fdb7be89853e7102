import pytest

from nodestate.fsm.capacity import Room
from nodestate.model.job import Constraint, JobType, Resources, Spread, Task
from nodestate.model.node import NetworkResource, Port
from nodestate.planning.chance import Chance
from nodestate.planning.needs import Needs
from nodestate.planning.occupancy import Occupancy
from nodestate.planning.ranking import Candidates
from nodestate.planning.search import (
    KNOWN_NODE_WEIGHT,
    MEASURED_NODE_WEIGHT,
    Ground,
    Search,
    Standings,
    assign_networks,
)
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


def standings_of(wanted, nodes, placed=(), **job_fields):
    of = job(wanted, **job_fields)
    state = state_of(nodes, placed)
    occupancy = Occupancy(state, of.key)
    finish(occupancy.prepare())
    ground = Ground(state, occupancy, Chance("search"), {"dc1": len(nodes)})
    return ground, Standings(ground, Needs(of, wanted))


def searched(wanted, nodes, placed=(), penalised=frozenset(), **job_fields):
    """Look at every node, and return the choice."""
    ground, standings = standings_of(wanted, nodes, placed, **job_fields)
    candidates = Candidates(len(nodes), set_aside_max=0)
    search = Search(ground, standings, candidates, penalised)
    for each in ground.state.node_keys:
        search.look(each)
    return search.settle()


def scores_of(choice):
    return {each.node_id: each for each in choice.metrics.score_meta_data or ()}


@pytest.mark.row("RK1")
def test_the_first_is_full_the_second_too_small_and_the_third_has_room():
    """RK1."""
    choice = searched(
        group(ask=(1024, 1024, 0)),
        [
            node(1, total=(2048, 2048, 0), reserved=(1024, 1024, 0)),
            node(2, total=(1024, 1024, 0), reserved=(512, 512, 0)),
            node(3, total=(4096, 4096, 0), reserved=(1024, 1024, 0)),
        ],
    )

    scores = scores_of(choice)
    assert choice.metrics.dimension_exhausted == {"cpu": 1}
    assert choice.metrics.nodes_exhausted == 1
    assert scores["node-1"].norm_score == 1.0
    assert scores["node-3"].norm_score == pytest.approx(0.5954, abs=5e-5)
    assert choice.selected is not None
    assert choice.selected.key == key(1)


@pytest.mark.parametrize(
    ("fields", "score"),
    [
        example("RK4", {}, -0.75),
        example("RK5", {"task_group": "other"}, 0.0),
        ({"job_id": "other"}, 0.0),
        ({"desired_status": "stop"}, 0.0),
    ],
)
def test_neighbours(fields, score):
    placed = [allocation("a1", **fields), allocation("a2", **fields)]

    found = scores_of(searched(group(count=4), [node()], placed))["node-1"]

    assert found.scores["job-anti-affinity"] == score
    parts = [found.scores["binpack"], score] if score else [found.scores["binpack"]]
    assert found.norm_score == pytest.approx(sum(parts) / len(parts))


@pytest.mark.row("RK6")
def test_a_node_where_it_failed_is_worth_less():
    """RK6."""
    choice = searched(group(), [node(1), node(2)], penalised={key(1)})

    first, second = scores_of(choice)["node-1"], scores_of(choice)["node-2"]
    assert first.scores["node-reschedule-penalty"] == -1.0
    assert first.norm_score == pytest.approx((first.scores["binpack"] - 1.0) / 2)
    assert second.norm_score == second.scores["binpack"]
    assert choice.selected is not None
    assert choice.selected.key == key(2)


def test_a_system_job_is_only_packed():
    wanted = group(count=4, spreads=(Spread(attribute="${meta.rack}"),))
    choice = searched(wanted, [node()], [allocation("a1")], type=JobType.SYSTEM)

    found = scores_of(choice)["node-1"]
    assert found.scores == {"binpack": found.norm_score}


def test_a_spread_is_part_of_the_score():
    racks = [node(n, meta={"rack": "ab"[n - 1]}) for n in (1, 2)]
    wanted = group(count=4, spreads=(Spread(attribute="${meta.rack}"),))
    choice = searched(wanted, racks, [allocation("a1", 1)])

    found = scores_of(choice)["node-2"]
    assert found.scores["allocation-spread"] == 1.0
    assert found.norm_score == pytest.approx((found.scores["binpack"] + 1.0) / 2)
    assert choice.selected is not None
    assert choice.selected.key == key(2)


def test_what_was_filtered_and_what_was_full():
    nodes = [
        node(1, node_class="a", attributes={"driver.exec": "1"}),
        node(2, node_class="b", attributes={"kernel.name": "linux"}),
        node(3, node_class="c", total=(99, 8192, 1000)),
        node(4, total=(100, 63, 1000)),
        node(5, total=(100, 64, 299)),
    ]
    linux = constraint("${attr.kernel.name}", "=", "linux")

    choice = searched(group(), nodes, constraints=(linux,))

    metrics = choice.metrics
    assert choice.selected is None
    assert not choice.is_filtered
    assert metrics.nodes_evaluated == 5
    assert metrics.nodes_filtered == 2
    assert metrics.nodes_exhausted == 3
    assert metrics.class_filtered == {"a": 1, "b": 1}
    assert metrics.class_exhausted == {"c": 1}
    assert metrics.constraint_filtered == {
        "${attr.kernel.name} = linux": 1,
        "missing drivers": 1,
    }
    assert metrics.dimension_exhausted == {"cpu": 1, "memory": 1, "disk": 1}
    assert metrics.score_meta_data is None


def test_filtered_is_not_full():
    wanted = group(constraints=(constraint("a", "=", "b"),))

    assert searched(wanted, [node()]).is_filtered
    assert not searched(group(), [node()]).is_filtered


def test_distinct_hosts_filter():
    wanted = group(constraints=(Constraint(operand="distinct_hosts"),))

    choice = searched(wanted, [node()], [allocation("a1")])

    assert choice.metrics.constraint_filtered == {"distinct_hosts": 1}


@pytest.mark.parametrize(
    ("networks", "dimension"),
    [
        ([{"static": 80}, {"static": 80}], "reserved port collision"),
        ([{"mbits": 2000}], "bandwidth exceeded"),
    ],
)
def test_a_node_that_has_too_much_gets_no_more(networks, dimension):
    """The state machine would refuse it, again and again."""
    placed = [
        allocation(
            f"a{number}",
            network=NetworkResource(
                device="eth0",
                ip="10.0.0.1",
                mbits=fields.get("mbits", 0),
                reserved_ports=[Port(value=fields.get("static", 1))],
            ),
        )
        for number, fields in enumerate(networks)
    ]

    choice = searched(group(), [node()], placed)

    assert choice.metrics.dimension_exhausted == {dimension: 1}


def asked(*static, dynamic=0, mbits=0):
    return NetworkResource(
        mbits=mbits,
        reserved_ports=[Port(label="s", value=value) for value in static],
        dynamic_ports=[Port(label=f"d{number}") for number in range(dynamic)],
    )


def test_networks_that_are_not_to_be_had():
    choice = searched(group(network=asked(mbits=1001)), [node()])

    assert choice.metrics.dimension_exhausted == {"network: bandwidth exceeded": 1}


def two_tasks(first, second, shared=None):
    tasks = tuple(
        Task(name=name, driver="exec", resources=Resources(networks=[ask]))
        for name, ask in (("a", first), ("b", second))
    )
    return group(tasks=tasks, networks=[shared] if shared else None)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (two_tasks(asked(80), asked(80)), "network: reserved port collision"),
        (
            two_tasks(asked(80), asked(81), asked(81)),
            "network: reserved port collision",
        ),
        (two_tasks(asked(mbits=600), asked(mbits=600)), "network: bandwidth exceeded"),
        (two_tasks(asked(80), asked(81), asked(82)), None),
    ],
)
def test_networks_of_one_group_are_assigned_one_after_the_other(wanted, reason):
    room = Room(node())

    found = assign_networks(room, Needs(job(wanted), wanted), Chance("ports"))

    assert (found if isinstance(found, str) else None) == reason
    assert room.free_mbits("eth0") == 1000
    assert not room.is_port_used("10.0.0.1", 80)


def test_the_choice_has_the_ports():
    wanted = group(network=asked(80, dynamic=2))

    selected = searched(wanted, [node()]).selected

    assert selected is not None
    [network] = selected.resources.tasks["app"].networks or []
    assert (network.device, network.ip) == ("eth0", "10.0.0.1")
    assert [port.value for port in network.reserved_ports or ()] == [80]
    assert len({port.value for port in network.dynamic_ports or ()}) == 2


def test_a_node_is_measured_once_and_again_when_it_has_changed():
    ground, standings = standings_of(group(), [node()])

    def cost():
        search = Search(ground, standings, Candidates(1, set_aside_max=0))
        return search, search.look(key(1))

    assert cost()[1] == MEASURED_NODE_WEIGHT
    search, weight = cost()
    assert weight == KNOWN_NODE_WEIGHT
    search.settle()
    assert cost()[1] == MEASURED_NODE_WEIGHT
