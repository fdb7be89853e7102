"""Pages of nodes, and the tokens between them."""

import pytest

from nodestate.errors import RequestError
from nodestate.fsm.state import State
from nodestate.model.node import Node, NodeKey
from nodestate.query.paging import (
    PER_PAGE_MAX,
    TOKEN_CHARACTERS_MAX,
    Page,
    parse_per_page,
    parse_token,
    read_page,
)

IDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in (1, 2, 3, 17, 18, 255)]


def key(node_id: str) -> NodeKey:
    return NodeKey(node_id.replace("-", ""))


@pytest.fixture
def state() -> State:
    state = State()
    for node_id in reversed(IDS):
        datacenter = "dc2" if node_id[7] in "23" else "dc1"
        state.put_node(key(node_id), Node(id=node_id, datacenter=datacenter))
    return state


def ids(page: Page) -> list[str]:
    return [node.id for node in page.nodes]


def test_pages_cover_the_list_without_gap_or_overlap(state):
    token, seen = "", list[str]()
    for _ in range(3):
        page = read_page(state, token=parse_token(token), per_page=2)
        assert len(page.nodes) == 2
        seen += ids(page)
        token = page.next_token

    assert (seen, token) == (IDS, "")


@pytest.mark.parametrize("per_page", [0, 6, 7, PER_PAGE_MAX])
def test_a_page_that_holds_all_has_no_token(state, per_page):
    page = read_page(state, per_page=per_page)

    assert (ids(page), page.next_token) == (IDS, "")


def test_one_less_than_all_has_the_last_as_token(state):
    page = read_page(state, per_page=5)

    assert (ids(page), page.next_token) == (IDS[:5], IDS[5])


def test_only_matches_are_counted_and_the_token_is_the_next_match(state):
    def in_dc1(node: Node) -> bool:
        return node.datacenter == "dc1"

    page = read_page(state, per_page=2, matches=in_dc1)

    assert (ids(page), page.next_token) == ([IDS[0], IDS[3]], IDS[5])


def test_a_token_of_a_vanished_node_goes_on_after_it(state):
    state.remove_node(key(IDS[2]))

    assert ids(read_page(state, token=parse_token(IDS[2]))) == IDS[3:]


def test_a_token_in_upper_case_or_without_hyphens_is_the_same(state):
    for token in (IDS[5].upper(), IDS[5].replace("-", "")):
        assert ids(read_page(state, token=parse_token(token))) == [IDS[5]]


def test_a_token_is_compared_as_text(state):
    assert ids(read_page(state, token=parse_token("00000012"))) == IDS[4:]
    assert ids(read_page(state, token=parse_token("zzz"))) == []


def test_a_prefix_bounds_the_pages(state):
    assert ids(read_page(state, prefix="0000001")) == IDS[3:5]
    page = read_page(state, prefix="0000001", per_page=1)
    assert (ids(page), page.next_token) == ([IDS[3]], IDS[4])
    assert ids(read_page(state, prefix="0000001", token="00000001")) == IDS[3:5]
    assert ids(read_page(state, prefix="0000001", token=key(IDS[4]))) == [IDS[4]]
    assert ids(read_page(state, prefix="f")) == []


def test_an_empty_state_has_one_empty_page():
    page = read_page(State(), per_page=1)

    assert (ids(page), page.next_token) == ([], "")


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 0), ("0", 0), ("1", 1), ("+7", 7), ("007", 7), ("2147483647", PER_PAGE_MAX)],
)
def test_numbers_of_nodes_per_page(text, number):
    assert parse_per_page(text) == number


@pytest.mark.parametrize(
    "text", ["x", "-1", "+", "1.5", " 1", "1e3", "\u0663", "2147483648", "9" * 100_000]
)
def test_what_is_no_number_of_nodes_is_refused(text):
    with pytest.raises(RequestError) as caught:
        parse_per_page(text)

    assert str(caught.value) == "Expect a number for `per_page` query string parameter"


def test_the_length_limit_of_a_token():
    assert parse_token("a" * TOKEN_CHARACTERS_MAX) == "a" * TOKEN_CHARACTERS_MAX
    with pytest.raises(RequestError, match="has 65 characters, at most 64"):
        parse_token("a" * (TOKEN_CHARACTERS_MAX + 1))
