from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from nodestate.fsm.capacity import room_left
from nodestate.fsm.state import NODES
from nodestate.model.job import Affinity, Constraint, JobType
from nodestate.model.node import DrainStrategy, NetworkResource, Node, NodeStatus, Port
from nodestate.planning.constraints import OPERANDS, holds, target_reader
from nodestate.planning.selection import (
    SCORE_ALL_NODES_MAX,
    SET_ASIDE_MAX,
    WEIGHT_PER_STEP,
    ReadyNodes,
    Selection,
    is_ready,
    sample_limit,
)
from tests.conformance.rows import example
from tests.planning.fleets import (
    SEED,
    allocation,
    constraint,
    finish,
    group,
    job,
    key,
    node,
    selection_of,
    state_of,
)

DRAINING: dict[str, Any] = {
    "drain_strategy": DrainStrategy(),
    "scheduling_eligibility": "ineligible",
}


def chosen(selection, wanted, **fields):
    """The number of the node that is chosen, `None` if none is."""
    selected = finish(selection.choose(wanted, **fields)).selected
    return None if selected is None else int(selected.key, 16)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"status": NodeStatus.DOWN}, False),
        ({"status": NodeStatus.INITIALIZING}, False),
        ({"scheduling_eligibility": "ineligible"}, False),
        ({"drain_strategy": DrainStrategy()}, False),
    ],
)
def test_who_takes_new_work(fields, expected):
    assert is_ready(node(**fields)) is expected


@pytest.mark.row("FE24")
def test_nodes_of_the_jobs_datacenters():
    """FE24."""
    nodes = [
        node(1),
        node(2, **DRAINING),
        node(3, status=NodeStatus.DOWN),
        node(4, datacenter="dc3"),
    ]
    selection = selection_of(state_of(nodes), job(group(), datacenters=("dc1", "dc2")))

    assert selection.ready_keys == [key(1)]
    assert selection.nodes_available == {"dc1": 1, "dc2": 0}
    choice = finish(selection.choose(group()))
    assert choice.metrics.nodes_available == {"dc1": 1, "dc2": 0}


@pytest.mark.parametrize(
    ("job_type", "ready_count", "limit"),
    [
        example("RK19", JobType.SERVICE, 5, 3),
        example("RK20", JobType.SERVICE, 1, 2),
        (JobType.SERVICE, 0, 2),
        (JobType.SERVICE, 4, 2),
        (JobType.SERVICE, 1000, 10),
        (JobType.SERVICE, 1024, 10),
        (JobType.SERVICE, 1025, 11),
        (JobType.BATCH, 1000, 2),
    ],
)
def test_how_many_are_enough(job_type, ready_count, limit):
    assert sample_limit(job_type, ready_count) == limit


def evaluated(count, *, choices=1, wanted=None, **job_fields):
    """How many nodes were looked at, of that many, by each of some choices."""
    wanted = wanted or group()
    nodes = [node(number) for number in range(1, count + 1)]
    selection = selection_of(state_of(nodes), job(wanted, **job_fields))
    return [
        finish(selection.choose(wanted)).metrics.nodes_evaluated for _ in range(choices)
    ]


LIKING = Affinity(l_target="${meta.rack}", operand="=", r_target="r1")


@pytest.mark.parametrize(
    ("count", "job_fields", "expected"),
    [
        (1, {}, 1),
        (SCORE_ALL_NODES_MAX, {}, SCORE_ALL_NODES_MAX),
        (SCORE_ALL_NODES_MAX + 1, {}, 7),
        (SCORE_ALL_NODES_MAX + 1, {"type": JobType.BATCH}, 2),
        (SCORE_ALL_NODES_MAX + 1, {"affinities": (LIKING,)}, SCORE_ALL_NODES_MAX + 1),
    ],
)
def test_how_many_are_looked_at(count, job_fields, expected):
    assert evaluated(count, **job_fields) == [expected]


def test_a_few_poor_ones_are_set_aside_where_not_all_are_looked_at():
    """Every node has one of the group already: three are passed over for better ones."""
    count = SCORE_ALL_NODES_MAX + 1
    nodes = [node(number) for number in range(1, count + 1)]
    placed = [allocation(f"a{number}", number) for number in range(1, count + 1)]
    selection = selection_of(state_of(nodes, placed), job(group()))

    choice = finish(selection.choose(group()))

    assert choice.metrics.nodes_evaluated == 7 + SET_ASIDE_MAX
    assert choice.selected is not None


def test_the_next_choice_goes_on_where_the_last_one_stopped():
    """One group per node: nobody is asked twice before all were asked once."""
    wanted = group(constraints=(Constraint(operand="distinct_hosts"),))
    count = SCORE_ALL_NODES_MAX + 20

    counts = evaluated(count, choices=count // 7, wanted=wanted)

    assert set(counts) == {7}


def test_three_of_a_service_are_on_three_nodes():
    """As a real server has it: the second one on a node is worth less."""
    wanted = group(count=3)
    nodes = [
        node(number, total=(4000, 8192, 100_000), reserved=(100, 256, 1000))
        for number in (1, 2, 3)
    ]
    selection = selection_of(state_of(nodes), job(wanted))

    assert {chosen(selection, wanted) for _ in range(3)} == {1, 2, 3}


def test_a_job_that_is_too_big():
    """As a real server has it."""
    wanted = group(ask=(99_999, 64, 300))
    selection = selection_of(state_of([node(1), node(2)]), job(wanted))

    choice = finish(selection.choose(wanted))

    assert choice.selected is None
    assert choice.metrics.dimension_exhausted == {"cpu": 2}
    assert (choice.metrics.nodes_evaluated, choice.metrics.nodes_exhausted) == (2, 2)


def test_no_node_at_all():
    choice = finish(selection_of(state_of([]), job(group())).choose(group()))

    assert choice.selected is None
    assert choice.is_filtered
    assert choice.metrics.nodes_evaluated == 0


@pytest.mark.row("RK21")
def test_room_that_the_plan_frees_is_room():
    """RK21."""
    filling = allocation("a1", takes=(4000, 8192, 100_000))
    selection = selection_of(state_of([node()], [filling]), job(group()))

    assert chosen(selection, group()) is None
    selection.stop(filling)
    assert chosen(selection, group()) == 1


def test_a_stop_that_is_taken_back_takes_the_room_back():
    filling = allocation("a1", takes=(4000, 8192, 100_000))
    selection = selection_of(state_of([node()], [filling]), job(group()))

    selection.stop(filling)
    selection.keep(filling)

    assert chosen(selection, group()) is None


def test_what_is_chosen_takes_room():
    wanted = group(ask=(2000, 64, 300))
    selection = selection_of(state_of([node()]), job(wanted))

    assert [chosen(selection, wanted) for _ in range(3)] == [1, 1, None]


def test_groups_share_the_room():
    one, other = group("one", ask=(3000, 1, 10)), group("other", ask=(3000, 1, 10))
    selection = selection_of(state_of([node()]), job(one, other))

    assert chosen(selection, one) == 1
    assert chosen(selection, other) is None


def test_a_penalised_node_is_the_last_resort():
    selection = selection_of(state_of([node(1), node(2)]), job(group(count=9)))

    assert chosen(selection, group(count=9), penalised={key(1)}) == 2
    alone = selection_of(state_of([node(1)]), job(group()))
    assert chosen(alone, group(), penalised={key(1)}) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1),
        (DRAINING, 2),
        ({"status": NodeStatus.DOWN}, 2),
        ({"datacenter": "dc2"}, 2),
        ({"total": (10, 10, 10)}, 2),
    ],
)
def test_a_preferred_node_is_taken_if_it_will_do(fields, expected):
    """The other one is fuller, and would be better."""
    there = allocation("a1", 2, takes=(3000, 6000, 10), job_id="other")
    selection = selection_of(
        state_of([node(1, **fields), node(2)], [there]), job(group())
    )

    assert chosen(selection, group(), preferred=key(1)) == expected


def test_a_preferred_node_that_is_gone():
    selection = selection_of(state_of([node(1)]), job(group()))

    assert chosen(selection, group(), preferred=key(9)) == 1


def test_one_node_can_be_asked_for():
    wanted = group(ask=(3000, 64, 300))
    selection = selection_of(
        state_of([node(1), node(2)]), job(wanted, type=JobType.SYSTEM)
    )

    first, again = (selection.choose_on(wanted, key(2)) for _ in range(2))

    assert first.selected is not None
    assert first.selected.key == key(2)
    assert first.metrics.nodes_evaluated == 1
    assert again.selected is None
    assert not again.is_filtered


# Going on where it is

NETWORK = NetworkResource(
    device="eth0", ip="10.0.0.1", dynamic_ports=[Port(label="http", value=25_000)]
)


def updated(wanted, nodes=None, placed=None, others=()):
    placed = placed or allocation("a1", takes=(3000, 64, 300), network=NETWORK)
    selection = selection_of(
        state_of(nodes or [node()], [placed, *others]), job(wanted)
    )
    return selection, placed, selection.update(placed, wanted)


@pytest.mark.row("RC6")
def test_an_update_in_place_has_its_own_room():
    wanted = group(ask=(3500, 128, 300), network=NetworkResource())

    selection, _, resources = updated(wanted)

    assert resources is not None
    assert resources.tasks["app"].cpu.cpu_shares == 3500
    assert resources.tasks["app"].networks == [NETWORK]
    assert chosen(selection, group("large", ask=(501, 1, 10))) is None
    assert chosen(selection, group("small", ask=(500, 1, 10))) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        group(ask=(4001, 64, 300)),
        group(constraints=(constraint("${attr.kernel.name}", "=", "plan9"),)),
    ],
)
def test_an_update_that_cannot_be_in_place_changes_nothing(wanted):
    selection, _, resources = updated(wanted)

    assert resources is None
    assert chosen(selection, group("large", ask=(1001, 1, 10))) is None
    assert chosen(selection, group("small", ask=(1000, 1, 10))) == 1


def test_an_update_in_place_needs_its_node():
    assert updated(group(), placed=allocation("a1", 9))[2] is None


@pytest.mark.parametrize(("other", "is_possible"), [("a2", False), ("", True)])
def test_an_update_in_place_minds_the_others(other, is_possible):
    others = [allocation(other)] if other else []
    wanted = group(constraints=(Constraint(operand="distinct_hosts"),))

    assert (updated(wanted, others=others)[2] is not None) is is_possible


def test_an_update_in_place_is_no_matter_of_being_ready():
    assert updated(group(), nodes=[node(**DRAINING)])[2] is not None


# The same again, and in small steps


def story(seed):
    """What three choices come to: nodes, ports and scores."""
    ask = NetworkResource(dynamic_ports=[Port(label="http"), Port(label="admin")])
    wanted = group(count=3, network=ask)
    nodes = [node(number) for number in range(1, 150)]
    selection = selection_of(state_of(nodes), job(wanted), seed)
    return [finish(selection.choose(wanted)) for _ in range(3)]


def test_the_same_seed_gives_the_same_choices():
    assert story(SEED) == story(SEED)
    assert story(SEED) != story((*SEED, "again"))


def test_the_choices_are_the_same_for_ever():
    """On every machine, in every process and in every version of Python."""
    found = []
    for choice in story(SEED):
        assert choice.selected is not None
        [network] = choice.selected.resources.tasks["app"].networks or []
        ports = [port.value for port in network.dynamic_ports or ()]
        found.append((int(choice.selected.key, 16), ports, choice.selected.score))

    assert found == [
        (92, [27740, 21611], 0.040981796958910306),
        (114, [22004, 26915], 0.040981796958910306),
        (85, [25714, 28435], 0.040981796958910306),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_equals_are_not_always_taken_in_the_order_of_their_keys(seed):
    nodes = [node(number) for number in range(1, 30)]
    taken = {
        chosen(selection_of(state_of(nodes), job(group()), (seed, each)), group())
        for each in range(20)
    }

    assert len(taken) > 5


def test_a_search_through_many_nodes_pauses():
    wanted = group(ask=(99_999, 1, 1))
    count = WEIGHT_PER_STEP + 1
    nodes = [node(number) for number in range(1, count + 1)]
    selection = Selection(state_of(nodes), job(wanted), seed=SEED)

    assert len(list(selection.prepare())) == 1
    first = list(selection.choose(wanted))
    again = list(selection.choose(wanted))

    assert len(first) == count * 16 // WEIGHT_PER_STEP
    assert len(again) == 1


def test_the_jobs_own_allocations_are_counted_with_pauses():
    placed = [allocation(f"a{number:04}") for number in range(WEIGHT_PER_STEP)]
    selection = Selection(state_of([node()], placed), job(group()), seed=SEED)

    assert len(list(selection.prepare())) == 1


# Whatever is asked, and whoever is there

targets = st.sampled_from(
    ("${attr.cpu}", "${meta.rack}", "${node.class}", "${node.unique.name}", "${x}")
)
texts = st.sampled_from(("a", "b", "a,b", "1.2", "10", "9", ""))
constraints = st.builds(
    Constraint,
    l_target=targets,
    operand=st.sampled_from(sorted(OPERANDS)),
    r_target=st.one_of(texts, targets),
)
racks = st.none() | st.sampled_from(("a", "b", "c"))
ports = st.lists(st.sampled_from((80, 81, 20_000)), max_size=2)
asks = st.builds(
    NetworkResource,
    mbits=st.integers(0, 60),
    reserved_ports=ports.map(lambda values: [Port(value=value) for value in values]),
    dynamic_ports=st.lists(st.just(Port(label="d")), max_size=2),
)


@st.composite
def fleets(draw):
    """A few small nodes, some of them not ready, and what runs on them."""
    nodes = [
        node(
            number,
            total=(draw(st.integers(0, 10)), draw(st.integers(0, 10)), 10),
            reserved=(draw(st.integers(0, 2)), 0, 0),
            mbits=100,
            ports=draw(st.sampled_from(("", "80", "20000-31990"))),
            status=draw(st.sampled_from((NodeStatus.READY, NodeStatus.DOWN))),
            node_class=draw(st.sampled_from(("", "a", "b"))),
            attributes={"driver.exec": "1", "cpu": draw(texts)},
            meta={"rack": rack} if (rack := draw(racks)) else None,
        )
        for number in range(1, draw(st.integers(1, 5)) + 1)
    ]
    allocations = [
        allocation(
            f"a{number}",
            draw(st.integers(1, len(nodes))),
            takes=(1, 1, 1),
            client_status=draw(st.sampled_from(("running", "complete"))),
            desired_status=draw(st.sampled_from(("run", "stop"))),
            job_id=draw(st.sampled_from(("web", "other"))),
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    return state_of(nodes, allocations)


@settings(max_examples=150)
@given(
    fleets(),
    st.lists(constraints, max_size=2),
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
    st.none() | asks,
    st.integers(1, 8),
)
def test_every_choice_is_allowed_and_has_room(state, asked, ask, network, count):
    wanted = group(ask=ask, network=network, count=count, constraints=tuple(asked))
    selection = selection_of(state, job(wanted))
    before = {each: room_left(state.nodes[each], []) for each in state.node_keys}
    placed = {each: state.allocations_on(each) for each in state.node_keys}
    was_short = {
        each: room_left(state.nodes[each], placed[each]).shortfall() for each in before
    }

    for number in range(count):
        selected = finish(selection.choose(wanted)).selected
        if selected is None:
            break
        new = allocation(f"new-{number}", int(selected.key, 16))
        on = placed[selected.key]
        on.append(type(new)(
            id=new.id, job_id="web", task_group="grp", node_key=selected.key,
            allocated_resources=selected.resources,
        ))  # fmt: skip
        chosen_node = state.nodes[selected.key]
        assert is_ready(chosen_node)
        assert was_short[selected.key] is None
        assert room_left(chosen_node, on).shortfall() is None
        assert_satisfied(chosen_node, asked, on, placed, state)


def assert_satisfied(chosen_node, asked, on, placed, state):
    for each in asked:
        read = target_reader(each.l_target)
        left, right = read(chosen_node), target_reader(each.r_target)(chosen_node)
        assert holds(each.operand, left, right)
        if each.operand == "distinct_hosts":
            assert len(staying(on)) == 1
        if each.operand == "distinct_property":
            alike = [
                allocation
                for where, allocations in placed.items()
                if read(state.nodes[where]) == left
                for allocation in staying(allocations)
            ]
            assert left is not None
            assert len(alike) <= int(each.r_target or 1)


def staying(allocations):
    return [
        each for each in allocations if each.job_id == "web" and not each.is_terminal
    ]


# Nodes that are ready, remembered


def ready_keys(remembered, state, *datacenters):
    return list(finish(remembered.find(state, datacenters or ("dc1",))).keys)


def looks_at(monkeypatch):
    """Count how often a node is looked at."""
    looked: list[Node] = []

    def look(one: Node) -> bool:
        looked.append(one)
        return True

    monkeypatch.setattr("nodestate.planning.selection.is_ready", look)
    return looked


def test_nodes_are_looked_at_again_only_when_one_has_changed(monkeypatch):
    state, remembered = state_of([node(1), node(2)]), ReadyNodes()
    looked = looks_at(monkeypatch)
    state.indexes[NODES] = 7

    assert ready_keys(remembered, state) == [key(1), key(2)]
    assert ready_keys(remembered, state) == [key(1), key(2)]
    assert len(looked) == 2

    state.put_node(key(3), node(3))
    state.indexes[NODES] = 8
    assert ready_keys(remembered, state) == [key(1), key(2), key(3)]


def test_nodes_are_remembered_by_datacenters():
    state, remembered = state_of([node(1), node(2, datacenter="dc2")]), ReadyNodes()

    assert ready_keys(remembered, state) == [key(1)]
    found = finish(remembered.find(state, ("dc2", "dc3")))

    assert list(found.keys) == [key(2)]
    assert found.by_datacenter == {"dc2": 1, "dc3": 0}
    assert ready_keys(remembered, state) == [key(1)]


def test_what_was_found_in_an_older_state_is_not_remembered_for_a_newer(monkeypatch):
    """Two evaluations look in turn, the later one at a state with one node more."""
    monkeypatch.setattr("nodestate.planning.selection.WEIGHT_PER_STEP", 1)
    older, newer = state_of([node(1)]), state_of([node(1), node(2)])
    older.indexes[NODES], newer.indexes[NODES] = 7, 8
    remembered = ReadyNodes()
    looking = remembered.find(older, ("dc1",))
    next(looking)

    assert ready_keys(remembered, newer) == [key(1), key(2)]
    assert list(finish(looking).keys) == [key(1)]

    assert ready_keys(remembered, newer) == [key(1), key(2)]
    assert ready_keys(remembered, older) == [key(1)]


def test_for_many_sets_of_datacenters_nodes_are_looked_at_each_time(monkeypatch):
    monkeypatch.setattr("nodestate.planning.selection.READY_KEPT_MAX", 1)
    state, remembered = state_of([node(1), node(2, datacenter="dc2")]), ReadyNodes()
    ready_keys(remembered, state)
    ready_keys(remembered, state, "dc2")
    looked = looks_at(monkeypatch)

    ready_keys(remembered, state)
    assert looked == []
    ready_keys(remembered, state, "dc2")
    assert len(looked) == 1
