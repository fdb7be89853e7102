import math

import pytest
from hypothesis import given, strategies as st

from nodestate.fsm.capacity import Claim, Room
from nodestate.model.job import Affinity, Spread, SpreadTarget, Task
from nodestate.planning.occupancy import Occupancy
from nodestate.planning.ranking import (
    CANDIDATES_KEPT_MAX,
    Affinities,
    Candidate,
    Candidates,
    Score,
    Spreads,
    anti_affinity,
    binpack,
    even_boost,
)
from tests.conformance.rows import example
from tests.planning.fleets import allocation, finish, group, job, key, node, state_of

RACK = "${meta.rack}"


def fit(total, reserved, ask, used=(0, 0)):
    room = Room(node(total=(*total, 0), reserved=(*reserved, 0)))
    room.add(Claim(*used))
    return binpack(room, *ask)


@pytest.mark.row("W12")
@pytest.mark.parametrize(
    ("total", "reserved", "ask", "score"),
    [
        example("RK1:full", (2048, 2048), (1024, 1024), (1024, 1024), 1.0),
        example("RK1", (4096, 4096), (1024, 1024), (1024, 1024), 0.5954),
        example("RK2", (4000, 8192), (100, 256), (3900, 7936), 1.0),
        ((4000, 8192), (100, 256), (500, 256), 0.1818),
        ((4000, 8192), (100, 256), (0, 0), 0.0),
        # What a node has nothing of is as full as can be.
        ((0, 8192), (0, 0), (0, 8192), 1.0),
        ((100, 100), (200, 100), (0, 0), 1.0),
    ],
)
def test_binpack(total, reserved, ask, score):
    assert fit(total, reserved, ask) == pytest.approx(score, abs=5e-5)


@pytest.mark.row("RK3")
def test_the_fuller_node_is_better():
    """RK3."""
    empty = fit((4000, 8192), (0, 0), (100, 100))
    half_full = fit((4000, 8192), (0, 0), (100, 100), used=(2000, 4096))

    assert half_full > empty


@given(st.integers(1, 100_000), st.data())
def test_binpack_is_what_the_formula_says(whole, data):
    """Our power of ten is good to the last few digits."""
    free_cpu = data.draw(st.integers(0, whole))
    free_memory = data.draw(st.integers(0, whole))
    score = fit((whole, whole), (0, 0), (whole - free_cpu, whole - free_memory))
    total = math.pow(10, free_cpu / whole) + math.pow(10, free_memory / whole)

    assert score == pytest.approx(min(max(20 - total, 0), 18) / 18, abs=1e-14)
    assert 0.0 <= score <= 1.0


@pytest.mark.parametrize(
    ("neighbours", "count", "score"),
    [
        example("RK4", 2, 4, -0.75),
        (1, 3, -2 / 3),
        (1, 0, -2.0),
    ],
)
def test_anti_affinity(neighbours, count, score):
    assert anti_affinity(neighbours, count) == score


def test_a_score_is_made_of_the_parts_that_there_are():
    """RK6: what is left out is not 0."""
    assert Score(0.5).added_up() == (0.5, 1)
    assert Score(0.5, anti_affinity=-0.75, penalty=-1.0).added_up() == (-1.25, 3)


@pytest.mark.parametrize(
    ("is_system", "has_spreads", "names"),
    [
        (True, False, {"binpack"}),
        (
            False, False,
            {"binpack", "job-anti-affinity", "node-reschedule-penalty", "node-affinity"},
        ),
        (
            False, True,
            {"binpack", "job-anti-affinity", "node-reschedule-penalty", "node-affinity",
             "allocation-spread"},
        ),
    ],
)  # fmt: skip
def test_what_is_shown_of_a_score(is_system, has_spreads, names):
    score = Score(0.5, penalty=-1.0, spread=0.25)

    shown = score.shown(is_system=is_system, has_spreads=has_spreads)

    assert set(shown) == names
    assert shown["binpack"] == 0.5
    assert shown.get("node-affinity", 0.0) == 0.0
    assert shown.get("node-reschedule-penalty", -1.0) == -1.0
    assert shown.get("allocation-spread", 0.25) == 0.25


def liking(value, weight):
    return Affinity(l_target=RACK, operand="=", r_target=value, weight=weight)


@pytest.mark.parametrize(
    ("rack", "score"), [("a", 0.25), ("b", -0.75), ("c", None), (None, None)]
)
def test_affinities_of_all_levels_add_up(rack, score):
    task = Task(name="app", affinities=(liking("b", -60),))
    wanted = group(tasks=(task,), affinities=(liking("b", -15),))
    affinities = Affinities(job(wanted, affinities=(liking("a", 25),)), wanted)

    on = node(meta={"rack": rack} if rack else None)

    assert affinities.is_asked
    assert affinities.score(on) == score


def test_without_affinities_nothing_is_liked():
    assert Affinities(job(group()), group()).score(node()) is None
    assert not Affinities(job(group()), group()).is_asked


def spread_scores(*spreads, racks="aabc", placed=(), count=10, of_job=()):
    """The scores of nodes in these racks; `placed` are the numbers of those in use."""
    nodes = [
        node(number, meta={"rack": rack} if rack != " " else None)
        for number, rack in enumerate(racks, 1)
    ]
    wanted = group(count=count, spreads=spreads)
    of = job(wanted, spreads=of_job)
    allocations = [allocation(f"a{n}", on) for n, on in enumerate(placed)]
    state = state_of(nodes, allocations)
    occupancy = Occupancy(state, of.key)
    finish(occupancy.prepare())
    asked = Spreads(of, wanted)
    score = asked.scorer(occupancy)
    return [score(asked.values_of(each)) for each in nodes]


def over_racks(weight=50, **percents):
    targets = tuple(SpreadTarget(value=v, percent=p) for v, p in percents.items())
    return Spread(attribute=RACK, weight=weight, spread_target=targets or None)


def test_a_spread_favours_what_is_under_its_share():
    """Of 10, rack a is to have 8, b 2, and c none."""
    scores = spread_scores(over_racks(a=80, b=20), placed=[1, 2, 3])

    assert scores == pytest.approx([(8 - 3) / 8, (8 - 3) / 8, (2 - 2) / 2, -1.0])


def test_what_targets_leave_is_for_the_others():
    assert spread_scores(over_racks(a=60), racks="ac ") == pytest.approx(
        [(6 - 1) / 6, (4 - 1) / 4, -1.0]
    )


def test_a_share_of_nothing_is_no_share():
    assert spread_scores(over_racks(a=100, b=0), racks="ab")[1] == -1.0


def test_spreads_count_by_their_weights():
    scores = spread_scores(
        over_racks(weight=30, a=100), of_job=(over_racks(weight=10, a=50, b=50),),
        racks="a", placed=[],
    )  # fmt: skip

    assert scores == pytest.approx([(10 - 1) / 10 * 0.75 + (5 - 1) / 5 * 0.25])


@pytest.mark.parametrize(
    ("tally", "boosts"),
    [
        ({}, {"a": 0.0}),
        ({"a": 1}, {"a": -1.0, "b": 1.0}),
        ({"a": 1, "b": 1}, {"a": -1.0, "b": -1.0, "c": 1.0}),
        ({"a": 3, "b": 1}, {"a": -2.0, "b": 2.0, "c": 1.0}),
        ({"a": 4, "b": 2}, {"a": -1.0, "b": 1.0}),
    ],
)
def test_an_even_spread_favours_what_has_least(tally, boosts):
    assert {value: even_boost(tally, value) for value in boosts} == boosts


def test_an_even_spread_of_the_group():
    assert spread_scores(over_racks(), racks="ab ", placed=[1]) == [-1.0, 1.0, -1.0]


# Which candidates count


def candidates_of(scores, *, limit, set_aside_max):
    """Return the scores that were looked at, and of those that count, the best first."""
    candidates = Candidates(limit, set_aside_max=set_aside_max)
    looked_at = []
    for number, total in enumerate(scores):
        looked_at.append(total)
        if candidates.wants(total):
            candidates.keep(Candidate(key(number), Score(total), total))
        if candidates.is_full:
            break
    best = candidates.best_first()
    return looked_at, [(int(each.key, 16), each.total) for each in best]


@pytest.mark.parametrize(
    ("scores", "limit", "set_aside_max", "looked_at", "best"),
    [
        example("RK17", [-1, 2, 3], 2, 2, 3, [(2, 3), (1, 2)]),
        example("RK18", [-1, -3, -2], 2, 2, 3, [(0, -1), (2, -2)]),
        example("RK18:all", [-1, -2], 2, 2, 2, [(0, -1), (1, -2)]),
        ([-1, -2, 1], 2, 3, 3, [(2, 1), (0, -1)]),
        ([-1, -2, -3, -4, 1], 2, 3, 5, [(4, 1), (3, -4)]),
        ([1, 2, 3], 2, 3, 2, [(1, 2), (0, 1)]),
        ([0, 1, 1], 2, 1, 3, [(1, 1), (2, 1)]),
        ([], 2, 2, 0, []),
        ([5, 5, 5], 3, 0, 3, [(0, 5), (1, 5), (2, 5)]),
    ],
)
def test_candidates(scores, limit, set_aside_max, looked_at, best):
    found = candidates_of(scores, limit=limit, set_aside_max=set_aside_max)

    assert found == (scores[:looked_at], best)


@given(st.lists(st.integers(-3, 3), max_size=20))
def test_of_many_the_best_few_are_kept(scores):
    _, best = candidates_of(scores, limit=len(scores), set_aside_max=0)

    expected = sorted(enumerate(scores), key=lambda item: (-item[1], item[0]))
    assert best == expected[:CANDIDATES_KEPT_MAX]
