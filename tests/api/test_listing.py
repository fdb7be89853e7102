"""What lists of all kinds share."""

import pytest

from nodestate.api.cache import SLICE_NODES
from nodestate.api.listing import cut_page, encode_parts, filter_of
from nodestate.errors import RequestError
from nodestate.model.job import Job
from tests.fakes import FakeClock

JOBS = [Job(id=str(number), priority=number % 2) for number in range(SLICE_NODES + 7)]


@pytest.mark.parametrize("per_page", [0, 1, SLICE_NODES, SLICE_NODES + 6])
async def test_pages_lead_through_the_whole_list(per_page: int):
    seen: list[Job] = []
    rest: list[Job] = JOBS
    while rest:
        page, following = await cut_page(
            FakeClock(), rest, per_page=per_page, wanted=None
        )
        assert len(page) <= per_page or not per_page
        seen += page
        rest = [] if following is None else rest[rest.index(following) :]

    assert seen == JOBS


async def test_a_page_is_full_of_what_is_wanted():
    page, following = await cut_page(
        FakeClock(), JOBS, per_page=2, wanted=filter_of("Priority == 1", Job)
    )

    assert [job.id for job in page] == ["1", "3"]
    assert following is JOBS[5]


async def test_there_is_no_next_page_behind_the_last_that_is_wanted():
    page, following = await cut_page(
        FakeClock(), JOBS, per_page=1, wanted=filter_of('ID == "3"', Job)
    )

    assert ([job.id for job in page], following) == (["3"], None)


async def test_parts_are_in_order_whatever_the_slices():
    parts = await encode_parts(FakeClock(), JOBS, lambda job: job.id.encode())

    assert parts == [job.id.encode() for job in JOBS]


def test_a_filter_that_makes_no_sense_says_so_as_nomad_does():
    assert filter_of("", Job) is None
    with pytest.raises(RequestError, match=r"^failed to create result paginator: "):
        filter_of("Nonsense == 1", Job)
