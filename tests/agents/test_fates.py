from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.agents.fates import Behaviour, Origin, Span, draw_fate, draw_kill_ns

SECOND = 1_000_000_000
BEHAVIOUR = Behaviour(failure_rate=0.2, crash_rate=0.3, exit_codes=(1, 137))


def origins(count: int) -> list[Origin]:
    return [Origin("seed", "node", str(number)) for number in range(count)]


def fate(origin: Origin, behaviour=BEHAVIOUR, *, life: int = 0, is_batch: bool = False):
    return draw_fate(behaviour, origin, life=life, is_batch=is_batch)


def test_a_fate_is_the_same_however_often_and_in_whatever_order_it_is_drawn():
    forwards = [fate(origin) for origin in origins(50)]
    backwards = [fate(origin) for origin in reversed(origins(50))]

    assert forwards == backwards[::-1]


def test_another_seed_node_or_allocation_is_another_fate():
    origin = Origin("seed", "node", "allocation")
    others = (
        replace(origin, seed="other"),
        replace(origin, node_id="other"),
        replace(origin, allocation_id="other"),
    )

    assert all(fate(other) != fate(origin) for other in others)


def test_a_draw_is_what_it_was_in_earlier_releases():
    drawn = fate(Origin("seed", "node", "allocation"))

    assert drawn.start_ns == 905_944_801


def test_about_as_many_fail_as_are_to_and_crashes_are_over_after_the_first_life():
    first = [fate(origin).exit_code != 0 for origin in origins(2000)]
    second = [fate(origin, life=1).exit_code != 0 for origin in origins(2000)]

    assert 900 < sum(first) < 1100
    assert 330 < sum(second) < 470
    assert all(was for was, still in zip(first, second, strict=True) if still)


def test_exit_codes_are_all_drawn():
    codes = {fate(origin).exit_code for origin in origins(200)}

    assert codes == {0, 1, 137}


def test_a_service_runs_until_told_and_a_batch_task_ends_by_itself():
    well = Behaviour()

    assert fate(origins(1)[0], well).ends_after_ns is None
    ended = fate(origins(1)[0], well, is_batch=True)
    assert ended.exit_code == 0
    assert ended.ends_after_ns is not None


@given(
    least=st.integers(0, 10**12),
    width=st.integers(0, 10**12),
    name=st.integers(0, 10**6),
)
def test_what_is_drawn_is_within_its_span(least, width, name):
    behaviour = Behaviour(kill=Span(least, least + width))

    assert least <= draw_kill_ns(behaviour, Origin("", "", str(name))) <= least + width


def test_speed_shortens_what_is_drawn():
    origin = origins(1)[0]
    slow = Behaviour(kill=Span(8 * SECOND, 8 * SECOND))

    assert draw_kill_ns(replace(slow, speed=4.0), origin) == 2 * SECOND
