from collections import Counter

from hypothesis import given, strategies as st

from nodestate.planning.chance import Chance, Walk


def test_the_numbers_are_the_same_for_ever():
    """A run has to be the same on another machine and in another year."""
    chance = Chance("4d1a", 17)

    assert [chance.below(1000) for _ in range(6)] == [930, 532, 670, 470, 258, 665]


def test_another_seed_gives_other_numbers():
    first, second = Chance("a", 1), Chance("a", 2)

    assert [first.below(2**32) for _ in range(4)] != [
        second.below(2**32) for _ in range(4)
    ]


@given(st.text(max_size=5), st.integers(1, 2**32))
def test_a_number_is_below_its_bound(seed, bound):
    chance = Chance(seed)

    assert all(0 <= chance.below(bound) < bound for _ in range(20))


def test_no_number_is_favoured():
    chance = Chance("even")
    counts = Counter(chance.below(10) for _ in range(10_000))

    assert set(counts) == set(range(10))
    assert all(850 < count < 1150 for count in counts.values())


@given(st.integers(1, 50), st.text(max_size=5))
def test_a_walk_passes_everything_once_before_it_begins_again(count, seed):
    walk = Walk(count, Chance(seed))
    first_round = [walk.step() for _ in range(count)]

    assert sorted(first_round) == list(range(count))
    assert [walk.step() for _ in range(count)] == first_round


def test_walks_of_different_seeds_differ():
    walks = [Walk(50, Chance(seed)) for seed in ("a", "b")]

    first, second = ([walk.step() for _ in range(50)] for walk in walks)
    assert first != second
