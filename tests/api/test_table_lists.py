"""Lists of work: sorted by id, of one index, encoded once per version."""

import asyncio
import random
from typing import Any

import msgspec
from hypothesis import given, settings, strategies as st
from typing_extensions import override

from nodestate.api import table_lists
from nodestate.api.table_lists import Selection, TableLists
from nodestate.fsm.state import EVALUATIONS, State
from nodestate.model.evaluation import Evaluation
from tests.fakes import FakeClock


def id_of(number: int) -> str:
    return f"{number:08x}-0000-0000-0000-000000000000"


def state_of(*numbers: int, index: int = 5, **fields: Any) -> State:
    state = State()
    for number in numbers:
        state.put_evaluation(Evaluation(id=id_of(number), **fields))
    state.indexes[EVALUATIONS] = index
    return state


class Encoder:
    """Encodes as little as can be, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, evaluation: Evaluation) -> bytes:
        self.count += 1
        return msgspec.json.encode([evaluation.id, evaluation.status])


def fresh_lists(encode: Any = None) -> TableLists[Evaluation]:
    return TableLists(
        EVALUATIONS, lambda state: state.evaluations, encode or Encoder(), FakeClock()
    )


def ids_in(body: bytes) -> list[str]:
    return [id_ for id_, _ in msgspec.json.decode(body)]


async def test_a_whole_list_is_sorted_and_of_the_tables_index():
    made = await fresh_lists().whole(state_of(3, 1, 2, index=7), "default")

    assert made.index == 7
    assert ids_in(made.body.plain) == [id_of(1), id_of(2), id_of(3)]


async def test_it_is_made_once_per_index_by_whoever_comes_first():
    encode = Encoder()
    lists, state = fresh_lists(encode), state_of(*range(1000))

    first, *others = await asyncio.gather(
        *(lists.whole(state, "default") for _ in range(20))
    )

    assert all(other is first for other in others)
    assert encode.count == 1000


async def test_only_what_has_changed_is_encoded_again():
    encode = Encoder()
    lists, state = fresh_lists(encode), state_of(*range(100))
    await lists.whole(state, "default")

    state.put_evaluation(Evaluation(id=id_of(7), status="complete"))
    state.indexes[EVALUATIONS] = 6
    made = await lists.whole(state, "default")

    assert (made.index, encode.count) == (6, 101)
    assert msgspec.json.decode(made.body.plain)[7] == [id_of(7), "complete"]


async def test_namespaces_have_lists_of_their_own_and_all_have_one():
    lists, state = fresh_lists(), state_of(1)
    state.put_evaluation(Evaluation(id=id_of(2), namespace="dev"))

    found = {
        name: ids_in((await lists.whole(state, name)).body.plain)
        for name in ("default", "dev", "*", "none")
    }

    assert found == {
        "default": [id_of(1)],
        "dev": [id_of(2)],
        "*": [id_of(1), id_of(2)],
        "none": [],
    }


async def test_so_many_lists_are_kept(monkeypatch):
    monkeypatch.setattr(table_lists, "LISTS_MAX", 2)
    lists, state = fresh_lists(), state_of(1)

    one, two, _ = [await lists.whole(state, name) for name in ("a", "b", "c")]

    assert await lists.whole(state, "b") is two
    assert await lists.whole(state, "a") is not one


async def test_one_that_fails_is_made_by_another_who_waits():
    is_broken = True

    def encode(evaluation: Evaluation) -> bytes:
        nonlocal is_broken
        if is_broken:
            is_broken = False
            raise ArithmeticError
        return b"[0,0]"

    lists, state = fresh_lists(encode), state_of(1)

    found = await asyncio.gather(
        *(lists.whole(state, "default") for _ in range(3)), return_exceptions=True
    )

    assert [isinstance(one, ArithmeticError) for one in found] == [True, False, False]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 300), max_size=40), min_size=1, max_size=6))
def test_ids_stay_sorted_whatever_comes_and_goes(tables):
    """Also where the order of the table says nothing, as after a restore."""

    async def play() -> None:
        lists = fresh_lists()
        for index, numbers in enumerate(tables):
            order = list(numbers)
            random.Random(index).shuffle(order)
            copy = await lists.copy(state_of(*order, index=index))
            assert copy.ids == [id_of(number) for number in sorted(numbers)]
            assert copy.index == index

    asyncio.run(play())


class SlowClock(FakeClock):
    """Each look at it takes longer than a slice may."""

    @override
    def monotonic_s(self) -> float:
        self._elapsed_ns += 10_000_000
        return super().monotonic_s()


async def test_a_list_is_of_one_moment_though_others_have_their_turn():
    lists = TableLists(
        EVALUATIONS, lambda state: state.evaluations, Encoder(), SlowClock()
    )
    state = state_of(*range(1000))

    making = asyncio.create_task(lists.whole(state, "default"))
    await asyncio.sleep(0)
    state.put_evaluation(Evaluation(id=id_of(2000)))
    state.indexes[EVALUATIONS] = 6
    made = await making

    assert (made.index, len(ids_in(made.body.plain))) == (5, 1000)
    assert (await lists.whole(state, "default")).index == 6


# Parts of a list


async def page_of(state: State, **fields: Any) -> tuple[list[str], str]:
    _, page = await fresh_lists().page(state, Selection("*", **fields))
    return [one.id for one in page.records], page.next_token


async def test_pages_are_full_and_name_the_next_one():
    state = state_of(*range(1000))

    first = await page_of(state, per_page=400)
    second = await page_of(state, per_page=400, token=first[1])
    third = await page_of(state, per_page=400, token=second[1])

    assert (first[1], second[1], third[1]) == (id_of(400), id_of(800), "")
    assert first[0] + second[0] + third[0] == [id_of(number) for number in range(1000)]


async def test_a_page_that_ends_with_the_list_is_the_last():
    assert await page_of(state_of(1, 2), per_page=2) == ([id_of(1), id_of(2)], "")


async def test_only_what_is_wanted_is_counted():
    wanted = {id_of(number) for number in range(0, 1000, 10)}

    found = await page_of(
        state_of(*range(1000)),
        per_page=60,
        is_wanted=lambda one: one.id in wanted,
    )

    assert found == ([id_of(number) for number in range(0, 600, 10)], id_of(600))


async def test_a_prefix_is_a_part_of_the_list():
    state = state_of(0x10, 0x1100, 0x11FF, 0x12)

    assert (await page_of(state, prefix="000011"))[0] == [id_of(0x1100), id_of(0x11FF)]
    assert (await page_of(state, prefix=id_of(0x12)))[0] == [id_of(0x12)]
    assert (await page_of(state, prefix="ff"))[0] == []


async def test_what_may_not_be_seen_is_not_counted_either():
    state = state_of(1, 2, 3)
    hidden = Evaluation(id=id_of(0), namespace="hidden")
    state.put_evaluation(hidden)

    found = await page_of(state, per_page=2, sees=lambda one: one != "hidden")

    assert found == ([id_of(1), id_of(2)], id_of(3))
    assert (await page_of(state, sees=lambda _: False))[0] == []


# Entries


async def test_entries_are_kept_while_there_is_room_for_them(monkeypatch):
    """What is kept stays: a list is read from one end to the other."""
    encode = Encoder()
    lists, state = fresh_lists(encode), state_of(*range(10))
    size = len(Encoder()(Evaluation(id=id_of(0))))
    monkeypatch.setattr(table_lists, "ENTRY_BYTES_MAX", 4 * size)

    for _ in range(2):
        await lists.parts([state.evaluations[id_of(number)] for number in range(10)])

    assert encode.count == 10 + 6


async def test_entries_of_records_that_are_gone_make_room(monkeypatch):
    encode = Encoder()
    lists, state = fresh_lists(encode), state_of(*range(10))
    size = len(Encoder()(Evaluation(id=id_of(0))))
    monkeypatch.setattr(table_lists, "ENTRY_BYTES_MAX", 10 * size)
    monkeypatch.setattr(table_lists, "STRAY_ENTRIES_MAX", 2)
    await lists.whole(state, "default")

    later = state_of(*range(100, 105), index=6)
    for _ in range(2):
        await lists.whole(later, "default")
        await lists.parts([*later.evaluations.values()])

    assert encode.count == 10 + 5
