"""A journal on a disk in memory, with its writer, as the tests of this room use it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.simulation.disk import MemoryDisk
from nodestate.ports import Disk
from nodestate.replication.journal import Journal
from nodestate.replication.records import Entry
from tests.fakes import FakeClock, FakeMetrics

SEGMENT_BYTES = 2048


def open_journal(disk: Disk, segment_bytes: int = SEGMENT_BYTES) -> Journal:
    return Journal.open(
        disk, segment_bytes=segment_bytes, clock=FakeClock(), metrics=FakeMetrics()
    )


def entries(
    first: int, count: int, *, term: int = 1, body: bytes = b"b"
) -> list[Entry]:
    return [Entry(body, index, term) for index in range(first, first + count)]


def contents(journal: Journal) -> tuple[int, str | None, tuple[Entry, ...]]:
    """Return everything that a journal is there to keep."""
    kept = journal.entries_from(1, 1 << 40) if journal.last_index() else ()
    return journal.term(), journal.voted_for(), kept


@asynccontextmanager
async def writing(journal: Journal) -> AsyncIterator[asyncio.Task[None]]:
    """Run the journal's writer; an error of its own is left in the task."""
    task = asyncio.create_task(journal.run(lambda: None))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


TURNS_MAX = 1000


async def flush(journal: Journal, position: int | None = None) -> None:
    """Return when that change, or the last one, is durable."""
    wanted = journal.position() if position is None else position
    for _ in range(TURNS_MAX):
        if journal.durable_position() >= wanted:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"position {wanted} did not become durable")


async def written(disk: MemoryDisk, *rounds: list[Entry]) -> None:
    """Have a journal with one sync for each round of entries, and stop its server."""
    journal = open_journal(disk)
    async with writing(journal):
        for entries_of_round in rounds:
            journal.append(entries_of_round)
            await flush(journal)
    journal.close()
    disk.kill()
