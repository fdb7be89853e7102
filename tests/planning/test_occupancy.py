import pytest
from hypothesis import given, strategies as st

from nodestate.model.job import JobKey
from nodestate.planning.occupancy import Occupancy
from tests.planning.fleets import allocation, finish, key, node, state_of

WEB = JobKey(("default", "web"))
RACK = "${meta.rack}"


def occupancy_of(*placed):
    nodes = [node(1, meta={"rack": "a"}), node(2, meta={"rack": "b"}), node(3)]
    occupancy = Occupancy(state_of(nodes, placed), WEB)
    finish(occupancy.prepare())
    return occupancy


ONE = allocation("a1", takes=(1000, 100, 10))


@pytest.mark.parametrize(
    ("fields", "free_cpu", "count"),
    [
        ({}, 3000, 1),
        ({"job_id": "other"}, 3000, 0),
        ({"client_status": "complete"}, 4000, 0),
        # What is told to stop takes room until its agent reports it over.
        ({"desired_status": "stop"}, 3000, 0),
    ],
)
def test_what_takes_room_and_what_is_to_stay(fields, free_cpu, count):
    occupancy = occupancy_of(allocation("a1", takes=(1000, 100, 10), **fields))

    assert occupancy.room(key(1)).free_cpu == free_cpu
    assert occupancy.count_on(key(1)) == count
    assert occupancy.count_on(key(1), "grp") == count
    assert occupancy.count_on(key(1), "other") == 0


@pytest.mark.row("RK21")
@pytest.mark.parametrize("is_measured_before", [True, False])
def test_a_planned_stop_frees_its_room_at_once(is_measured_before):
    """RK21."""
    occupancy = occupancy_of(ONE)
    if is_measured_before:
        occupancy.room(key(1))

    occupancy.stop(ONE)
    occupancy.stop(ONE)

    assert occupancy.room(key(1)).free_cpu == 4000
    assert occupancy.count_on(key(1)) == 0


@pytest.mark.parametrize("is_measured_before", [True, False])
def test_a_stop_can_be_taken_back(is_measured_before):
    occupancy = occupancy_of(ONE)
    if is_measured_before:
        occupancy.room(key(1))

    occupancy.stop(ONE)
    occupancy.keep(ONE)

    assert occupancy.room(key(1)).free_cpu == 3000
    assert occupancy.count_on(key(1)) == 1


def test_stopping_what_is_over_frees_nothing():
    over = allocation("a1", client_status="failed")
    occupancy = occupancy_of(over)
    occupancy.room(key(1))

    occupancy.stop(over)

    assert occupancy.room(key(1)).free_cpu == 4000
    assert occupancy.count_on(key(1)) == 0


def test_what_was_on_a_node_that_is_gone_can_be_stopped():
    lost = allocation("a1", 9)
    occupancy = occupancy_of(lost)

    occupancy.stop(lost)

    assert occupancy.count_on(key(9)) == 0


def test_a_placement_takes_room():
    occupancy = occupancy_of()

    occupancy.place(key(2), "grp", ONE.allocated_resources)

    assert occupancy.room(key(2)).free_cpu == 3000
    assert occupancy.count_on(key(2), "grp") == 1


def test_a_tally_follows_the_plan():
    two = allocation("a2", 2, task_group="other")
    occupancy = occupancy_of(ONE, two, allocation("a3", 3), allocation("a4", 9))

    assert occupancy.tally(RACK, None) == {"a": 1, "b": 1}
    assert occupancy.tally(RACK, "grp") == {"a": 1}
    occupancy.stop(ONE)
    occupancy.place(key(2), "grp", ONE.allocated_resources)
    occupancy.place(key(2), "other", ONE.allocated_resources)
    assert occupancy.tally(RACK, None) == {"b": 3}
    assert occupancy.tally(RACK, "grp") == {"b": 1}


def test_what_was_remembered_of_a_node_is_forgotten_when_it_changes():
    occupancy = occupancy_of(ONE)
    cache = {key(number): "known" for number in (1, 2, 3)}
    occupancy.forgets_in(cache)

    occupancy.stop(ONE)
    occupancy.place(key(2), "grp", ONE.allocated_resources)

    assert cache == {key(3): "known"}


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=6),
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, 5)),
)
def test_it_makes_no_difference_when_a_node_is_measured(placed, stopped, kept):
    allocations = [
        allocation(f"a{number}", on, client_status="lost" if is_lost else "running")
        for number, (on, is_lost) in enumerate(placed)
    ]
    early, late = occupancy_of(*allocations), occupancy_of(*allocations)
    for number in (1, 2, 3):
        early.room(key(number))
    for occupancy in (early, late):
        for number, each in enumerate(allocations):
            if number in stopped:
                occupancy.stop(each)
                if number in kept:
                    occupancy.keep(each)

    for number in (1, 2, 3):
        one, other = early.room(key(number)), late.room(key(number))
        assert (one.free_cpu, one.free_disk_mb) == (other.free_cpu, other.free_disk_mb)
    assert early.tally(RACK, None) == late.tally(RACK, None)
