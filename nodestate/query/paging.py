"""Cutting the ordered list of nodes into pages, and finding where one continues.

A page token is the id of the first node of the next page. It is compared as text, so it
still works when that node is gone: the page starts at the first node not before it.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Final

import msgspec

from nodestate.errors import RequestError
from nodestate.fsm.state import State
from nodestate.model.node import Node

PER_PAGE_MAX: Final = (1 << 31) - 1
"""Nomad's `per_page` is a 32-bit number."""
BAD_PER_PAGE: Final = "Expect a number for `per_page` query string parameter"
TOKEN_CHARACTERS_MAX: Final = 64


class Page(msgspec.Struct, frozen=True):
    """Some nodes, in the order of their ids; the token is empty on the last page."""

    nodes: list[Node]
    next_token: str


def parse_per_page(text: str) -> int:
    """Return how many nodes a page may have; 0, also for an empty text, is no limit."""
    if not text:
        return 0
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise RequestError(BAD_PER_PAGE)
    # Cut before converting: the time int() takes grows faster than its text.
    significant = digits.lstrip("0")
    if (
        len(significant) > len(str(PER_PAGE_MAX))
        or int(significant or 0) > PER_PAGE_MAX
    ):
        raise RequestError(BAD_PER_PAGE)
    return int(significant or 0)


def parse_token(text: str) -> str:
    """Return a page token in the form of a node's key, nothing for the first page."""
    return parse_record_token(text).replace("-", "")


def parse_record_token(text: str) -> str:
    """Return a page token in the form of an id, nothing for the first page."""
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise RequestError(
            f"`next_token` has {len(text)} characters, at most {TOKEN_CHARACTERS_MAX} "
            "are allowed"
        )
    return text.lower()


def read_page(
    state: State,
    *,
    prefix: str = "",
    token: str = "",
    per_page: int = 0,
    matches: Callable[[Node], bool] | None = None,
) -> Page:
    """Return the nodes under a prefix that match, from `token` on.

    `prefix` and `token` are in the form of a node's key. Only nodes that match are
    counted, so that a page is full as long as there are any.
    """
    keys, nodes = state.node_keys, state.nodes
    page: list[Node] = []
    for position in range(bisect_left(keys, max(prefix, token)), len(keys)):
        key = keys[position]
        if not key.startswith(prefix):
            break
        node = nodes[key]
        if matches is not None and not matches(node):
            continue
        if per_page and len(page) == per_page:
            return Page(page, next_token=node.id)
        page.append(node)
    return Page(page, next_token="")
