"""What lists of all kinds share: the filter, the page, the body.

A list is made for one request, in slices, from records that were taken in one step: they
never change, so the list is of one moment, whatever happens meanwhile.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from nodestate.api.cache import Pace, slices
from nodestate.api.calls import Call
from nodestate.api.replies import Body
from nodestate.api.shapes import join_list, join_pretty_list, prettify_part
from nodestate.clock import Clock
from nodestate.errors import RequestError
from nodestate.query.filters import Filter, compile_filter

BAD_FILTER: Final = (
    "failed to create result paginator: failed to read filter expression: "
)

R = TypeVar("R")


def filter_of(expression: str, record: type[msgspec.Struct]) -> Filter | None:
    """Return the filter of such records that a parameter asks for, `None` for none."""
    if not expression:
        return None
    try:
        return compile_filter(expression, record)
    except RequestError as error:
        raise RequestError(f"{BAD_FILTER}{error}") from None


async def cut_page(
    clock: Clock, records: Sequence[R], *, per_page: int, wanted: Filter | None
) -> tuple[list[R], R | None]:
    """Return the first records that are wanted, and the one that the next page begins with.

    `per_page` 0 is no limit. Only what is wanted is counted, so that a page is full as
    long as there is any.
    """
    found: list[R] = []
    pace = Pace(clock)
    for piece in slices(len(records)):
        for record in records[piece]:
            if wanted is not None and not wanted.matches(record):
                continue
            if per_page and len(found) == per_page:
                return found, record
            found.append(record)
        await pace.pause_if_due()
    return found, None


async def encode_parts(
    clock: Clock, records: Sequence[R], encode: Callable[[R], bytes]
) -> list[bytes]:
    """Return the JSON of each record, in slices."""
    parts: list[bytes] = []
    pace = Pace(clock)
    for piece in slices(len(records)):
        parts += map(encode, records[piece])
        await pace.pause_if_due()
    return parts


async def list_body(call: Call, parts: Sequence[bytes]) -> Body:
    """Return the list of what is encoded already, for people if they ask."""
    if not call.is_pretty():
        return Body(join_list(parts))
    pretty = await encode_parts(call.services.clock, parts, prettify_part)
    return Body(join_pretty_list(pretty))
